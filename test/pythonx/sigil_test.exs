defmodule Pythonx.SigilTest do
  use ExUnit.Case, async: true

  import ExUnit.CaptureIO
  import Pythonx

  alias Pythonx.Sigil

  @moduletag :tmp_dir

  # What the code prints as text, `nil` for no object.
  defp value(nil), do: nil
  defp value(object), do: Pythonx.decode(object)

  # Code.eval_string/3, with the sigil imported.
  defp eval_string(code, binding \\ []) do
    Code.eval_string("import Pythonx\n" <> code, binding)
  end

  defp values(binding), do: for({name, value} <- Enum.sort(binding), do: {name, plain(value)})

  defp plain(%Pythonx.Object{} = object), do: {:object, Pythonx.decode(object)}
  defp plain(other), do: other

  describe "variables" do
    test "are passed in when read, and bound when defined" do
      x = 1

      result = ~PY"""
      y = x + 10
      z = y * 2
      z + 1
      """

      assert {value(y), value(z), value(result)} == {11, 22, 23}
      assert x == 1
    end

    test "a statement at the end has no result" do
      assert ~PY"a = 1" == nil
      assert value(a) == 1
    end

    test "delimiters" do
      assert value(~PY"1") == 1
      assert value(~PY'"a"') == "a"
      assert value(~PY|"\n#{1}"|) == "\n\#{1}"
      assert value(~PY(2)) == 2
    end

    test "flow from one sigil to the next" do
      ~PY"LIMIT = 3; żółw = 4; _private = 5"
      assert value(~PY"[LIMIT, żółw, _private]") == [3, 4, 5]
    end

    test "are rebound when assigned" do
      x = 1
      assert x == 1
      ~PY"x = x + 5"
      assert value(x) == 6
      ~PY"x += 1"
      assert value(x) == 7
    end

    test "that are only read keep their Elixir value" do
      {nil, binding} = eval_string("~PY'y = x'", x: 5)
      assert values(binding) == [x: 5, y: {:object, 5}]
    end

    test "without an Elixir variable are Python's business" do
      assert_raise Pythonx.Error, ~r/NameError: name 'undefined_name' is not defined/, fn -> ~PY"undefined_name" end
    end

    test "in untaken branches" do
      code = "~PY'''\nif False:\n  a = 1\n  b = 2\n'''"
      assert {nil, binding} = eval_string(code, a: :kept)
      assert values(binding) == [a: :kept, b: nil]

      assert {nil, binding} = eval_string("~PY'for i in []: pass'", i: {:no, make_ref()})
      assert [i: {:no, _reference}] = values(binding)
    end

    test "in branches taken" do
      assert {nil, binding} = eval_string("~PY'if True: a = 1'", a: :old)
      assert values(binding) == [a: {:object, 1}]
    end

    test "that are deleted become nil" do
      assert {nil, binding} = eval_string("~PY'del a'", a: 1)
      assert values(binding) == [a: nil]
      assert {nil, binding} = eval_string("~PY'a = 2; del a'", a: 1)
      assert values(binding) == [a: nil]
      assert {nil, binding} = eval_string("~PY'for i in range(3): pass\ndel i'", i: 1)
      assert values(binding) == [i: nil]
    end

    test "that are annotated only" do
      assert {nil, binding} = eval_string("~PY'a: int'")
      assert values(binding) == [a: nil]
    end

    test "keep to the scope of Elixir" do
      if true do
        ~PY"inner = 1"
        assert value(inner) == 1
      end

      assert_raise Pythonx.Error, ~r/NameError/, fn -> ~PY"inner" end
      assert value((fn n -> ~PY"n * 2" end).(4)) == 8
    end

    test "with names that mean something to Elixir or to Python only" do
      assert {nil, binding} = eval_string("~PY'end = do = when = rescue = after = nil = true = false = case = 1'")
      names = ~w(after case do end false nil rescue true when)a
      assert values(binding) == for(name <- names, do: {name, {:object, 1}})

      {result, _binding} = eval_string("~PY'end = do = nil = 2'\n~PY'end + do + nil'")
      assert value(result) == 6
    end

    test "with names that no Elixir variable can have" do
      names = ~w(_ fn __MODULE__ __DIR__ __ENV__ __CALLER__ __STACKTRACE__ __aliases__) ++ [String.duplicate("n", 300)]
      code = "~PY'x = " <> Enum.join(names, " = ") <> " = 1; " <> Enum.join(names, " + ") <> "'"
      assert {result, [x: _object]} = eval_string(code)
      assert value(result) == length(names)
    end

    test "of a star import are not bound" do
      assert {result, []} = eval_string("~PY'from math import *; floor(2.5)'")
      assert value(result) == 2
    end

    test "helpers do not show in the binding" do
      assert {_result, binding} = eval_string("~PY'y = x; y'", x: 1, z: 2)
      assert Keyword.keys(binding) |> Enum.sort() == [:x, :y, :z]
    end

    test "the code's names make no atoms unless they are defined" do
      name = "never_seen_#{System.unique_integer([:positive])}"
      assert_raise Pythonx.Error, fn -> eval_string("~PY'#{name}'") end
      assert_raise ArgumentError, fn -> String.to_existing_atom(name) end
    end

    test "a value that cannot be encoded raises when it is read, and only then" do
      assert_raise Protocol.UndefinedError, fn -> eval_string("~PY'x'", x: make_ref()) end
      assert {_result, _binding} = eval_string("~PY'x = 1'", x: make_ref())
    end
  end

  describe "the compiler" do
    test "has nothing to warn about" do
      code = ~S'''
      defmodule Pythonx.SigilTest.Quiet do
        import Pythonx

        def unused do
          ~PY"a = b = 1"
          :ok
        end

        def discarded(x) do
          ~PY"x"
          ~PY"y = x"
          ~PY"if x: y = 2"
          y
        end

        def underscored do
          ~PY"_x = 1"
          ~PY"_x"
        end
      end
      '''

      warnings = capture_io(:stderr, fn -> Code.compile_string(code) end)
      assert warnings == ""
      assert apply(Pythonx.SigilTest.Quiet, :unused, []) == :ok
      assert value(apply(Pythonx.SigilTest.Quiet, :discarded, [0])) == 0
      assert value(apply(Pythonx.SigilTest.Quiet, :underscored, [])) == 1
    end

    test "takes neither unknown modifiers nor interpolated code" do
      assert_raise FunctionClauseError, fn -> eval_string("~PY'1'x") end

      assert_raise FunctionClauseError, fn ->
        Code.eval_string("require Pythonx\nPythonx.sigil_PY(code, [])", code: "1")
      end
    end

    test "an alias of the same name is not called" do
      {result, []} = eval_string("alias Enum, as: Pythonx\n_ = Pythonx.sum([])\n~PY'1'")
      assert value(result) == 1
    end
  end

  describe "errors" do
    test "of syntax are raised while the sigil is expanded" do
      error = assert_raise Pythonx.Error, fn -> eval_string("~PY'''\nx = 1\ny = = 2\n'''") end
      assert Enum.at(error.lines, 0) =~ ~r/  File "<unknown>", line 2/
      {line, %{}} = Pythonx.eval("value.lineno", %{"value" => error.value})
      assert value(line) == 2
      {no_traceback, %{}} = Pythonx.eval("traceback is None", %{"traceback" => error.traceback})
      assert value(no_traceback) == false
    end

    test "show the line of the Elixir file" do
      error =
        assert_raise Pythonx.Error, fn ->
          ~PY"""
          x = 1
          y = x / 0
          """
        end

      line = __ENV__.line - 4
      file = Path.relative_to_cwd(__ENV__.file)
      assert Enum.join(error.lines) =~ ~s(  File "#{file}", line #{line}, in <module>\n    y = x / 0\n)

      error = assert_raise Pythonx.Error, fn -> ~PY"1 / 0" end
      assert Enum.join(error.lines) =~ ~s(  File "#{file}", line #{__ENV__.line - 1}, in <module>\n    1 / 0\n)
    end

    test "show the lines of the code that ran, also where it was written anew in between" do
      for text <- ["a", "b", "a"] do
        Sigil.put_location("x = 1\n1 / 0  # #{text}", "cell.livemd", 10)
        error = assert_raise Pythonx.Error, fn -> Pythonx.eval("x = 1\n1 / 0  # #{text}", %{}) end
        assert Enum.join(error.lines) =~ ~s(  File "cell.livemd", line 11, in <module>\n    1 / 0  # #{text}\n)
      end
    end

    test "show no Elixir file where there is none" do
      error = assert_raise Pythonx.Error, fn -> eval_string("~PY'1 / 0'") end
      assert Enum.join(error.lines) =~ ~s(  File "<string>", line 1, in <module>\nZeroDivisionError)
    end
  end

  describe "locations" do
    test "are taken once, by the evaluation of the same code" do
      assert Sigil.take_location("a") == nil
      Sigil.put_location("a", "a.ex", 3)
      assert Sigil.take_location("a") == {"a.ex", 3}
      assert Sigil.take_location("a") == nil

      Sigil.put_location("a", "a.ex", 3)
      assert Sigil.take_location("b") == nil
      assert Sigil.take_location("a") == nil
    end

    test "do not reach other evaluations, whatever became of the first" do
      Sigil.put_location("1 / 0", "a.ex", 3)
      assert_raise ArgumentError, fn -> Pythonx.eval("1 / 0", %{}, unknown: 1) end
      error = assert_raise Pythonx.Error, fn -> Pythonx.eval("1 / 0", %{}) end
      assert Enum.join(error.lines) =~ ~s(File "<string>", line 1)
    end
  end

  describe "Livebook" do
    # What Livebook does with a Python cell: one expansion, a third argument for the evaluation, a pruned binding.
    defp cell(code, {binding, env}) do
      quoted = {:sigil_PY, [], [{:<<>>, [], [code]}, []]}
      sigil_env = %{env | requires: [Pythonx], macros: [{Pythonx, [{:sigil_PY, 2}]}], tracers: []}

      ast =
        quoted
        |> Macro.expand_once(sigil_env)
        |> Macro.prewalk(fn
          {{:., _, [{:__aliases__, _, [:Pythonx]}, :eval]} = callee, meta, [code, globals]} ->
            send(self(), {:rewritten, code, globals})
            {callee, meta, [code, globals, [stderr_device: Process.group_leader()]]}

          other ->
            other
        end)

      Code.eval_quoted_with_env(ast, binding, env, prune_binding: true)
    end

    defp start(binding) do
      {_result, binding, env} = Code.eval_quoted_with_env(nil, binding, Code.env_for_eval([]))
      env = %{env | versioned_vars: Map.new(Enum.with_index(Keyword.keys(binding)), fn {key, i} -> {{key, nil}, i} end)}
      {binding, env}
    end

    test "finds one call to rewrite, with a literal map" do
      cell("y = x", start(x: 1, unused: 2))
      assert_received {:rewritten, "y = x", {:%{}, _, [{"x", {:x, _, nil}}]}}
      refute_received {:rewritten, _, _}
    end

    test "gets the variables that were read or written, and no others" do
      assert {result, binding, env} = cell("y = x + 1\ny", start(x: 1, unused: 2))
      assert value(result) == 2
      assert values(binding) == [x: 1, y: {:object, 2}]
      assert Enum.sort(Macro.Env.vars(env)) |> Enum.map(&elem(&1, 0)) |> Enum.reject(&(&1 == :unused)) == [:x, :y]

      assert {nil, binding, _env} = cell("x = 5", start(x: 1, unused: 2))
      assert values(binding) == [x: {:object, 5}]
    end

    test "variables of earlier cells" do
      {_result, binding, env} = cell("LIMIT = 3", start([]))
      {result, _binding, _env} = cell("LIMIT + 1", {binding, env})
      assert value(result) == 4
    end

    test "errors have no Elixir file" do
      error = assert_raise Pythonx.Error, fn -> cell("x", start([])) end

      assert error.lines == [
               "Traceback (most recent call last):\n",
               "  File \"<string>\", line 1, in <module>\n",
               "NameError: name 'x' is not defined\n"
             ]
    end

    test "output to standard error goes to the device that it chose" do
      assert capture_io(fn -> cell("import sys; print('oops', file=sys.stderr)", start([])) end) == "oops\n"
    end
  end

  describe "without an interpreter" do
    test "says what to do", %{tmp_dir: dir} do
      script = Path.join(dir, "script.exs")
      File.write!(script, "import Pythonx\n~PY'1'\n")
      args = ["-pa", Application.app_dir(:pythonx, "ebin"), script]
      {output, 1} = System.cmd("elixir", args, stderr_to_stdout: true, env: [{"PYTHONX_INIT_STATE", nil}])
      assert output =~ "Python interpreter has not been initialized\n"
      assert output =~ "using ~PY sigil requires the Python interpreter to be already initialized. This sigil is"
      assert output =~ "For more details see Pythonx.sigil_PY/2 docs"
    end

    test "tries what the environment says", %{tmp_dir: dir} do
      script = Path.join(dir, "script.exs")
      File.write!(script, "import Pythonx\n~PY'1'\n")
      args = ["-pa", Application.app_dir(:pythonx, "ebin"), script]
      {output, 1} = System.cmd("elixir", args, stderr_to_stdout: true, env: [{"PYTHONX_INIT_STATE", "nonsense"}])
      assert output =~ "~PY needs Python at compile time, but the application :pythonx"
    end
  end
end
