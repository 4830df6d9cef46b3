defmodule Pythonx.Pool.ParityTest.Case do
  # A test that runs with the Python of this VM (`pool` is nil) and with a pool.
  defmacro parity(name, context, do: block) do
    for home <- [:vm, :pool] do
      quote do
        test unquote("#{name} (#{home})"), context do
          unquote(context) = unquote(if home == :vm, do: nil, else: quote(do: context.pool))
          unquote(block)
        end
      end
    end
  end
end

defmodule Pythonx.Pool.ParityTest do
  # What takes an object does the same with one of this VM and with one in a worker: each test runs with both.
  use Pythonx.Case, async: false

  import ExUnit.CaptureIO
  import Pythonx.Pool.ParityTest.Case

  alias Pythonx.Case.Complex
  alias Pythonx.Pool

  @moduletag :capture_log

  setup_all do
    %{pool: start_supervised!({Pool, size: 1, kill_after: 1000})}
  end

  # The value of the last expression, as an object.
  defp object(pool, code, globals \\ %{})
  defp object(nil, code, globals), do: code |> Pythonx.eval(globals) |> elem(0)
  defp object(pool, code, globals), do: pool |> Pool.eval(code, globals, decode: false) |> elem(0)

  parity "call", pool do
    pow = object(pool, "pow")
    assert Pythonx.decode(Pythonx.call(pow, [2, 10])) == 1024
    assert Pythonx.call(pow, [2, 10], [mod: 1000], decode: true) == 24
    error = raised(fn -> Pythonx.call(pow, ["a", 1]) end)
    assert List.last(error.lines) =~ "TypeError: unsupported operand type(s)"
    assert Pythonx.type(error.value) == "TypeError"

    sleep = object(pool, "import time\ndef f():\n  while True: time.sleep(0.01)\nf")
    assert %Pythonx.TimeoutError{timeout: 100} = raised(fn -> Pythonx.call(sleep, [], [], timeout: 100) end)
    assert Pythonx.call(pow, [2, 3], [], decode: true) == 8
  end

  parity "call prints to the caller's device", pool do
    print = object(pool, "print")
    assert capture_io(fn -> Pythonx.call(print, ["hello"]) end) == "hello\n"

    assert capture_io(:stderr, fn -> Pythonx.call(object(pool, "import sys\nsys.stderr.write"), ["err\n"]) end) ==
             "err\n"
  end

  parity "call_method, getattr, setattr", pool do
    text = object(pool, "'a,b'")
    assert Pythonx.call_method(text, :split, [","], [], decode: true) == ["a", "b"]
    config = object(pool, "import types; types.SimpleNamespace()")
    assert Pythonx.setattr(config, :name, "Ada") == :ok
    assert Pythonx.getattr(config, "name", decode: true) == "Ada"
    assert Pythonx.type(Pythonx.getattr(config, :name)) == "str"
    error = raised(fn -> Pythonx.getattr(config, :other) end)
    assert List.last(error.lines) =~ "AttributeError"
  end

  parity "getitem, setitem and Access", pool do
    prices = object(pool, "{'apple': 1.5, 'n': [1, 2]}")
    assert Pythonx.getitem(prices, "apple", decode: true) == 1.5
    assert Pythonx.setitem(prices, "pear", 2) == :ok
    assert Pythonx.decode(prices["pear"]) == 2
    assert prices["plum"] == nil
    assert Pythonx.decode(prices["n"][1]) == 2
    assert_raise ArgumentError, ~r/changed in place/, fn -> put_in(prices["a"], 1) end
  end

  parity "objects as arguments are themselves", pool do
    items = object(pool, "[]")
    append = Pythonx.getattr(items, :append)
    Pythonx.call(append, [items])
    assert Pythonx.call(object(pool, "lambda a, b: a[0] is b['k'][0]"), [items, %{"k" => {items}}], [], decode: true)
    assert_raise ArgumentError, ~r/contains itself/, fn -> Pythonx.decode(items) end
  end

  parity "decode", pool do
    value = object(pool, "{'a': (1, 2.5, None, 2**70), 'b': [True, b'x', {1}], 'c': float('nan')}")
    assert Pythonx.decode(value) == %{"a" => {1, 2.5, nil, 2 ** 70}, "b" => [true, "x", MapSet.new([1])], "c" => :nan}
    assert Pythonx.decode(value, timeout: 60_000) == Pythonx.decode(value)
    nested = Pythonx.decode(object(pool, "[object(), 1]"))
    assert [%_{}, 1] = nested
  end

  parity "decode with rich types", pool do
    code = "import datetime, decimal\n[datetime.date(2024, 5, 17), range(3), datetime.timedelta(seconds=5)]"
    assert [~D[2024-05-17], 0..2, duration] = Pythonx.decode(object(pool, code), types: :rich)
    assert duration.second == 5
    identity = object(pool, "lambda x: x")
    assert Pythonx.call(identity, [~D[2024-01-31]], [], decode: true, types: :rich) == ~D[2024-01-31]
    assert Pythonx.type(Pythonx.call(identity, [~U[2024-01-31 12:00:00Z]], [], types: :rich)) == "datetime.datetime"
  end

  parity "Pythonx.Encoder", pool do
    identity = object(pool, "lambda x: x")
    assert Pythonx.type(Pythonx.call(identity, [%Complex{re: 1.0, im: 2.0}])) == "complex"

    assert {1.0, 2.0} =
             Pythonx.call(object(pool, "lambda x: (x[0].real, x[0].imag)"), [[%Complex{re: 1.0, im: 2.0}]], [],
               decode: true
             )

    error = raised(fn -> Pythonx.call(identity, [%URI{}]) end)
    assert %Protocol.UndefinedError{} = error
  end

  parity "Pythonx.Decoder", pool do
    name = "fractions.Fraction"
    value = object(pool, "import fractions; {'half': fractions.Fraction(1, 2)}")

    terms = fn half ->
      {Pythonx.getattr(half, :numerator, decode: true), Pythonx.getattr(half, :denominator, decode: true)}
    end

    Pythonx.Decoder.register(name, terms)
    assert Pythonx.decode(value, types: :rich) == %{"half" => {1, 2}}

    assert Pythonx.Decoder.unregister(
             Pythonx.getattr(object(pool, "fractions = __import__('fractions')\nfractions"), :Fraction)
           )

    assert %{"half" => %_{}} = Pythonx.decode(value, types: :rich)
  end

  parity "copy_remote_object", pool do
    copy = Pythonx.copy_remote_object(object(pool, "[1, {'a': 2}]"))
    assert %Pythonx.Object{} = copy
    assert Pythonx.decode(copy) == [1, %{"a" => 2}]
  end

  parity "type, help and display", pool do
    date = object(pool, "import datetime; datetime.date(2024, 1, 31)")
    assert Pythonx.type(date) == "datetime.date"
    double = object(pool, "def double(x):\n  'Twice x.'\n  return 2 * x\ndouble")
    assert capture_io(fn -> Pythonx.help(double) end) =~ "Twice x."
    formula = object(pool, "class Formula:\n  def _repr_latex_(self): return '$x^2$'\nFormula()")
    assert %{"text/latex" => "$x^2$"} = Pythonx.display(formula)
  end

  parity "String.Chars and Inspect", pool do
    path = object(pool, "import pathlib; pathlib.PurePosixPath('/usr') / 'lib'")
    assert "in #{path}" == "in /usr/lib"
    assert inspect(path) =~ "PurePosixPath"
  end

  parity "streams and Enumerable", pool do
    squares = object(pool, "(n * n for n in __import__('itertools').count())")
    assert squares |> Pythonx.stream() |> Stream.filter(&(rem(&1, 2) == 1)) |> Enum.take(3) == [1, 9, 25]
    assert Enum.sum(object(pool, "[1, 2, 3]")) == 6
    fails = object(pool, "def f():\n  yield 1\n  1/0\nf()")
    assert_raise Pythonx.Error, ~r/ZeroDivisionError/, fn -> Enum.to_list(fails) end
    assert [%_{}] = Enum.take(Pythonx.stream(object(pool, "['a', 'b']"), decode: false), 1)
  end

  parity "await", pool do
    double = object(pool, "import asyncio\nasync def double(x):\n  await asyncio.sleep(0.01)\n  return 2 * x\ndouble")
    assert double |> Pythonx.call([21]) |> Pythonx.await(decode: true) == 42
    never = object(pool, "import asyncio\nasync def never():\n  await asyncio.sleep(600)\nnever()")
    assert %Pythonx.TimeoutError{} = raised(fn -> Pythonx.await(never, timeout: 50) end)
    fails = object(pool, "async def fails():\n  1/0\nfails()")
    assert_raise Pythonx.Error, ~r/ZeroDivisionError/, fn -> Pythonx.await(fails) end
  end

  parity "buffer", pool do
    view = object(pool, "memoryview(bytes(range(6))).cast('B', (2, 3))")
    assert %{data: <<0, 1, 2, 3, 4, 5>>, shape: {2, 3}, type: {:u, 8}} = Pythonx.buffer(view)
    array = object(pool, "import numpy as np; np.arange(1000, dtype='f8').reshape(10, 100)")
    assert %{data: data, shape: {10, 100}, type: {:f, 64}} = Pythonx.buffer(array)
    assert for(<<x::float-native-64 <- data>>, do: x) == for(n <- 0..999, do: n * 1.0)
    assert_raise ArgumentError, fn -> Pythonx.buffer(object(pool, "object()")) end
  end

  @tag :arrow
  parity "tables", pool do
    frame = object(pool, "import pyarrow\npyarrow.table({'a': [1, 2, None], 'b': ['x', 'y', 'z']})")
    table = Pythonx.table(frame)
    assert Pythonx.Table.columns(table) == [{"a", {:s, 64}}, {"b", :string}]
    assert Pythonx.Table.to_columns(table) == %{"a" => [1, 2, nil], "b" => ["x", "y", "z"]}
    assert Pythonx.Table.column(table, :b) == ["x", "y", "z"]
    assert hd(Pythonx.Table.to_rows(table)) == %{"a" => 1, "b" => "x"}
    part = table |> Pythonx.Table.slice(0, 2) |> Pythonx.Table.select([:b])
    assert Pythonx.Table.to_columns(part) == %{"b" => ["x", "y"]}
    assert [%{length: 3}] = Pythonx.Table.chunks(table, :a)
    assert Pythonx.call(object(pool, "len"), [table], [], decode: true) == 3
    assert inspect(table) =~ "3 rows"
  end

  parity "functions run in this VM, in a process of their own", pool do
    test = self()
    apply_it = object(pool, "def f(g, *args):\n  return g(*args)\nf")

    add = fn a, b ->
      send(test, {:in, self(), Process.get(:"$callers")})
      a + b
    end

    assert Pythonx.call(apply_it, [add, 1, 2], [], decode: true) == 3
    assert_received {:in, handler, [^test | _]}
    assert handler != test
    assert Pythonx.call(apply_it, [&String.upcase/1, "abc"], [], decode: true) == "ABC"

    # A struct goes by the protocol, an object is itself, and so is a function.
    assert Pythonx.type(Pythonx.call(apply_it, [fn -> %Complex{re: 1.0, im: 2.0} end])) == "complex"
    object = object(pool, "object()")
    assert Pythonx.call(object(pool, "lambda g, o: g(o) is o"), [& &1, object], [], decode: true)

    assert %{f: function} =
             Pythonx.call(object(pool, "lambda x: x"), [%{f: add}], [], decode: true) |> then(&%{f: &1["f"]})

    assert function.(2, 3) == 5
  end

  parity "functions nest, and use the objects that they are given", pool do
    f = object(pool, "def f(g, n):\n  return n if n == 0 else g(f, n)\nf")
    nested = fn nested, f, n -> Pythonx.call(f, [fn f, n -> nested.(nested, f, n) end, n - 1], [], decode: true) + 1 end
    assert Pythonx.call(f, [fn f, n -> nested.(nested, f, n) end, 5], [], decode: true) == 5
    items = object(pool, "[3, 1, 2]")
    sorted = fn items -> Pythonx.call_method(items, :copy) |> tap(&Pythonx.call_method(&1, :sort)) end
    # What is passed to a function is decoded, unless it has no counterpart.
    holder = object(pool, "class Holder:\n  def __init__(self, items): self.items = items\nHolder")
    held = Pythonx.call(holder, [items])
    use = fn holder -> holder |> Pythonx.getattr(:items) |> sorted.() end
    assert Pythonx.call(object(pool, "lambda g, h: list(g(h))"), [use, held], [], decode: true) == [1, 2, 3]
  end

  parity "what functions raise crosses as it is", pool do
    call = object(pool, "def f(g):\n  return g()\nf")
    assert_raise KeyError, fn -> Pythonx.call(call, [fn -> Map.fetch!(Map.new(), :a) end]) end
    assert catch_throw(Pythonx.call(call, [fn -> throw(:ball) end])) == :ball
    assert catch_exit(Pythonx.call(call, [fn -> exit(:over) end])) == :over

    caught =
      object(
        pool,
        "import pythonx\ndef f(g):\n  try:\n    g()\n  except pythonx.ElixirError as e:\n    return str(e)\nf"
      )

    assert Pythonx.call(caught, [fn -> raise "boom" end], [], decode: true) =~ "boom"
    assert catch_exit(Pythonx.call(call, [fn -> Process.exit(self(), :kill) end])) == :killed
    assert_raise Pythonx.Error, ~r/positional argument/, fn -> Pythonx.call(call, [fn x -> x end]) end
  end

  parity "what Python raises in a function crosses too", pool do
    call = object(pool, "def f(g):\n  return g()\nf")
    fails = object(pool, "def f():\n  raise KeyError('inner')\nf")
    error = raised(fn -> Pythonx.call(call, [fn -> Pythonx.call(fails) end]) end)
    assert %Pythonx.Error{} = error
    assert List.last(error.lines) =~ "KeyError: 'inner'"
    assert Pythonx.type(error.value) == "KeyError"
    # Of this VM's Python.
    error = raised(fn -> Pythonx.call(call, [fn -> Pythonx.eval("1/0", %{}) end]) end)
    assert List.last(error.lines) =~ "ZeroDivisionError"
  end

  parity "functions are called from threads and coroutines", pool do
    threads =
      object(pool, """
      import threading
      def f(g):
        results = []
        threads = [threading.Thread(target=lambda n=n: results.append(g(n))) for n in range(5)]
        for t in threads: t.start()
        for t in threads: t.join()
        return sorted(results)
      f
      """)

    assert Pythonx.call(threads, [&(&1 * &1)], [], decode: true) == [0, 1, 4, 9, 16]
    coroutine = object(pool, "async def f(g):\n  return await g.aio(20) + 1\nf")
    assert coroutine |> Pythonx.call([&(&1 * 2)]) |> Pythonx.await(decode: true) == 41
  end

  parity "messages and processes", pool do
    send_it =
      object(
        pool,
        "import pythonx\ndef f(pid):\n  pythonx.send(pid, ('hi', [1, 2.5]))\n  pythonx.send_tagged_object(pid, 'tag', [1])\n  return pid == pythonx.self()\nf"
      )

    assert Pythonx.call(send_it, [self()], [], decode: true)
    assert_receive {"hi", [1, 2.5]}
    assert_receive {:tag, object}
    assert Pythonx.decode(object) == [1]
    name = :"pythonx_parity_#{System.unique_integer([:positive])}"
    Process.register(self(), name)
    whereis = object(pool, "import pythonx\nlambda name: pythonx.whereis(name)")
    assert Pythonx.call(whereis, [Atom.to_string(name)], [], decode: true) == self()
    assert Pythonx.call(whereis, ["no such process"], [], decode: true) == nil
  end

  parity "Pythonx.Server", pool do
    code = """
    class Counter:
      def __init__(self, start):
        self.count = start
      def add(self, n=1):
        self.count += n
        return self.count
    """

    opts = if pool, do: [pool: pool], else: []
    server = start_supervised!({Pythonx.Server, [code: code, class: "Counter", args: [10]] ++ opts})
    assert Pythonx.Server.call(server, :add) == 11
    assert Pythonx.Server.call(server, :add, [], n: 5) == 16
    assert_raise Pythonx.Error, fn -> Pythonx.Server.call(server, :missing) end
    math = start_supervised!({Pythonx.Server, [module: "math"] ++ opts}, id: :math)
    assert Pythonx.Server.call(math, :gcd, [12, 18]) == 6
  end

  parity "a caller that dies stops its code", pool do
    test = self()
    loop = object(pool, "import time\ndef f(g):\n  g()\n  while True: time.sleep(0.01)\nf")
    pid = spawn(fn -> Pythonx.call(loop, [fn -> send(test, :begun) end]) end)
    assert_receive :begun
    Process.exit(pid, :kill)
    assert Pythonx.call(object(pool, "abs"), [-1], [], decode: true) == 1
  end
end
