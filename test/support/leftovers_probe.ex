defmodule Pythonx.LeftoversProbe do
  @moduledoc false
  # What a test of leftovers runs in the VM that it has spoiled.

  @doc "Each kind of operation once."
  def operations do
    {coroutine, _} = Pythonx.eval("async def f(): return 3\nf()", %{})
    {f, _} = Pythonx.eval("lambda f, x: f(x)", %{})
    date = Pythonx.encode!(~D[2020-01-02], types: :rich)

    [
      Pythonx.await(coroutine, decode: true),
      Pythonx.decode(date, types: :rich),
      Pythonx.call(f, [fn x -> x + 1 end, 3], [], decode: true),
      Enum.to_list(Pythonx.stream(Pythonx.encode!([1, 2]), decode: true)),
      elem(Pythonx.NIF.scan_globals("x"), 0)
    ]
  end

  @doc "Whether trace functions survive an evaluation within the one that has set them."
  def nested do
    code = """
    import sys
    trace = lambda *args: None
    sys.settrace(trace)
    sys.setprofile(trace)
    inner()
    [sys.gettrace() is trace, sys.getprofile() is trace]
    """

    Pythonx.Case.eval!(code, %{"inner" => fn -> Pythonx.Case.eval!("1") end})
  end

  @doc "What evaluations give within one that has replaced `__import__`, and whether it is as that one has set it afterwards."
  def while_imports_fail do
    inner = fn ->
      error =
        try do
          Pythonx.eval("undefined", %{})
        rescue
          error in Pythonx.Error -> List.last(error.lines)
        end

      [
        Pythonx.Case.eval!("1 + 1"),
        Pythonx.Case.eval!("class C: n = 5\nC().n"),
        Pythonx.Case.eval!("async def f(): return 5\nawait f()"),
        error
      ]
    end

    code = """
    import builtins
    def refuse(*args, **kwargs): raise ImportError("refused")
    builtins.__import__ = refuse
    inner() + [builtins.__import__ is refuse]
    """

    Pythonx.Case.eval!(code, %{"inner" => inner})
  end
end
