defmodule PythonxTest do
  use Pythonx.Case, async: false

  import ExUnit.CaptureIO

  # What `help/2` prints is told below its example.
  doctest Pythonx, except: [help: 2]

  test "the example of help/2" do
    {double, _} = Pythonx.eval("def double(x):\n  'Twice x.'\n  return 2 * x\ndouble", %{})
    printed = capture_io(fn -> assert Pythonx.help(double) == :ok end)
    assert printed =~ "function double in module __main__\n\ndouble(x)\n    Twice x.\n"
    {:docs_v1, _, _, _, _, _, docs} = Code.fetch_docs(Pythonx)
    assert {_, _, _, %{"en" => text}, _} = Enum.find(docs, &match?({{:function, :help, 2}, _, _, _, _}, &1))
    assert text =~ printed |> String.trim() |> String.split("\n") |> Enum.map_join("\n", &indented/1)
  end

  defp indented(""), do: ""
  defp indented(line), do: "    " <> line

  describe "eval/3 result" do
    test "is the value of a trailing expression, None included" do
      assert eval!("1 + 1") == 2
      assert eval!("x = 1; x") == 1
      assert eval!("1;") == 1
      assert eval!("(y := 5)") == 5
      assert eval!("'docstring'") == "docstring"
      assert {%Pythonx.Object{} = none, %{}} = Pythonx.eval("None", %{})
      assert inspect(none) == "#Pythonx.Object<\n  None\n>"
    end

    test "is nil for a trailing statement and for empty code" do
      for code <- ["x = 1", "def f(): pass", "if True: 1", "import os", "pass", "", "# comment", "for i in []: i"] do
        assert {nil, _globals} = Pythonx.eval(code, %{})
      end
    end

    test "a docstring before other statements becomes __doc__" do
      assert eval!("'the doc'\n__doc__") == "the doc"
    end
  end

  describe "eval/3 globals" do
    test "given names are set and come back, deleted ones do not" do
      {nil, globals} = Pythonx.eval("y = x + 1\ndel z", %{"x" => 1, "unused" => 2, "z" => 3})
      assert globals |> Map.keys() |> Enum.sort() == ["unused", "x", "y"]
      assert Pythonx.decode(globals["y"]) == 2
    end

    test "however many there are come back" do
      for n <- [32, 128, 129, 5000] do
        {nil, globals} = Pythonx.eval("for i in range(n): globals()[f'x{i}'] = i", %{"n" => n})
        assert map_size(globals) == n + 2
        assert Pythonx.decode(globals["x#{n - 1}"]) == n - 1
      end
    end

    test "names of every module stay out, others with underscores come back" do
      {nil, globals} = Pythonx.eval("__name__ = 'changed'\n__all__ = []\n_private = 1", %{"__doc__" => 1})
      assert globals |> Map.keys() |> Enum.sort() == ["__all__", "_private"]
    end

    test "a given __name__ holds during the run only" do
      assert {result, globals} = Pythonx.eval("__name__", %{"__name__" => "other"})
      assert Pythonx.decode(result) == "other"
      assert globals == %{}
    end

    test "names added through exec, globals() and locals() come back, keys that are no str do not" do
      {nil, globals} = Pythonx.eval("exec('a = 1')\nglobals()['b'] = 2\nlocals()['c d'] = 3\nglobals()[1] = 4", %{})
      assert globals |> Map.keys() |> Enum.sort() == ["a", "b", "c d"]
    end

    test "of names that have the same text, as instances of a subclass may, one comes back" do
      code = """
      class Name(str):
          def __hash__(self): return 1
          def __eq__(self, other): return self is other
      globals()[Name("x")] = 1
      x = 2
      """

      assert {nil, %{"x" => _one}} = Pythonx.eval(code, %{})
    end

    test "the methods of a name are not called" do
      code = """
      class Name(str):
          armed = False

          def __hash__(self):
              if Name.armed:
                  globals().clear()
              return str.__hash__(self)

      globals()[Name("x")] = [1]
      Name.armed = True
      """

      {nil, globals} = Pythonx.eval(code, %{})
      assert globals |> Map.keys() |> Enum.sort() == ["Name", "x"]
      assert Pythonx.decode(globals["x"]) == [1]
      eval!("name.armed = False; 0", %{"name" => globals["Name"]})
    end

    test "a name with a lone surrogate is a UnicodeEncodeError" do
      assert_raise Pythonx.Error, ~r/UnicodeEncodeError/, fn -> Pythonx.eval("globals()['\\ud800'] = 1", %{}) end
    end

    test "the input map is not altered by rebinding, shared objects by mutation are" do
      {list, %{}} = Pythonx.eval("[1]", %{})
      input = %{"list" => list, "x" => 1}
      {nil, globals} = Pythonx.eval("list.append(2)\nx = 9", input)
      assert input["x"] == 1
      assert Pythonx.decode(globals["x"]) == 9
      assert Pythonx.decode(list) == [1, 2]
    end

    test "functions carry the namespace they were born in" do
      {nil, %{"f" => f}} = Pythonx.eval("n = 1\ndef f():\n  global n\n  n += 1\n  return n", %{})
      {result, globals} = Pythonx.eval("n = 100\nf()", %{"f" => f})
      assert Pythonx.decode(result) == 2
      assert Pythonx.decode(globals["n"]) == 100
    end

    test "evaluations do not see each other's names" do
      Pythonx.eval("leaked = 1", %{})
      assert_raise Pythonx.Error, ~r/NameError: name 'leaked' is not defined/, fn -> Pythonx.eval("leaked", %{}) end
    end

    test "an old namespace is collectable after a later evaluation" do
      {ref, _globals} =
        Pythonx.eval("import weakref\nclass C: pass\nkept = C()\nweakref.ref(kept)", %{})

      :erlang.garbage_collect()
      # The globals of the first evaluation are dropped by the collection, its module by the next evaluation.
      wait_until(fn ->
        :erlang.garbage_collect()
        eval!("import gc; gc.collect(); ref() is None", %{"ref" => ref})
      end)
    end
  end

  describe "eval/3 arguments" do
    test "types are guarded" do
      for arguments <- [[:code, %{}], ["1", []], ["1", %{}, :opts]] do
        assert_raise FunctionClauseError, fn -> apply(Pythonx, :eval, arguments) end
      end
    end

    test "unknown options are named" do
      message = "unknown keys [:foo] in [foo: 1], the allowed keys are: [:stdout_device, :stderr_device]"
      assert_raise ArgumentError, message, fn -> Pythonx.eval("1", %{}, foo: 1) end
      assert_raise ArgumentError, message, fn -> Pythonx.eval("1", %{}, timeout: 1000, foo: 1) end
    end

    test "options that are wrong in other ways are refused as Keyword.validate!/2 does" do
      for opts <- [[foo: 1, bar: 2], [:foo], [{"a", 1}], [stdout_device: self(), stdout_device: self()]] do
        error = catch_error(Keyword.validate!(opts, [:stdout_device, :stderr_device]))
        assert catch_error(Pythonx.eval("1", %{}, opts)) == error
      end
    end

    test "keys that are no strings are named" do
      message = "expected globals keys to be strings, got: :x"
      assert_raise ArgumentError, message, fn -> Pythonx.eval("1", %{x: 1}) end
    end

    test "values of options are checked" do
      message = "expected :timeout to be a non-negative integer or :infinity, got: -1"
      assert_raise ArgumentError, message, fn -> Pythonx.eval("1", %{}, timeout: -1) end

      message = "expected :timeout to be at most 4294967295, got: 5000000000"
      assert_raise ArgumentError, message, fn -> Pythonx.eval("1", %{}, timeout: 5_000_000_000) end

      message = "expected :binaries to be :bytes or :str, got: :text"
      assert_raise ArgumentError, message, fn -> Pythonx.eval("1", %{}, binaries: :text) end

      message = "expected :stdout_device to be a device, but no process is registered as :nobody_here"
      assert_raise ArgumentError, message, fn -> Pythonx.eval("1", %{}, stdout_device: :nobody_here) end

      message = ~s/expected :stderr_device to be a pid, a registered name or {name, node}, got: "err"/
      assert_raise ArgumentError, message, fn -> Pythonx.eval("1", %{}, stderr_device: "err") end
    end

    test "binaries: :str makes text of binaries" do
      assert eval!("repr(x)", %{"x" => ["a", %{"b" => "ż"}]}, binaries: :str) == "['a', {'b': 'ż'}]"
    end

    test "what Python refuses inside of a value is named with its place" do
      error = catch_error(Pythonx.encode!([1, %{"k" => <<255>>}], binaries: :str))
      assert List.last(error.lines) == ~s/while encoding [1]["k"]\n/
      assert Exception.message(error) =~ "UnicodeDecodeError"

      error = catch_error(Pythonx.encode!({[%{[1] => 2}]}))
      assert ["TypeError: " <> text, "while encoding [0][0]\n"] = error.lines
      # Since CPython 3.14 it also says what for.
      assert text =~ "unhashable type: 'list'"
      assert ["TypeError: " <> ^text] = catch_error(Pythonx.encode!(%{[1] => 2})).lines
    end

    test "a value that cannot be encoded is named" do
      for {value, description} <- [
            {%URI{}, ~s(["x"]: cannot encode this value)},
            {[%{"k" => %URI{}}], ~s(["x"][0]["k"]: cannot encode this value)},
            {<<1::3>>, ~s(["x"]: cannot encode a bitstring as a Python object)}
          ] do
        error = assert_raise Protocol.UndefinedError, fn -> Pythonx.eval("1", %{"x" => value, "y" => 1}) end
        assert error.description == description
      end
    end
  end

  describe "eval/3 source text" do
    # Comments are quick to compile, and memory shows at once what keeps them: 400 MB.
    test "is kept within bounds" do
      before = resident_memory()
      for n <- 1..2000, do: assert({nil, %{}} = Pythonx.eval("# #{n} " <> :binary.copy("x", 200_000), %{}))
      assert resident_memory() - before < 150_000_000
    end

    test "what is no Python source is an error that says so" do
      assert_raise Pythonx.Error, ~r/UnicodeDecodeError/, fn -> Pythonx.eval(<<255>>, %{}) end

      assert_raise Pythonx.Error, ~r/SyntaxError: source code string cannot contain null bytes/, fn ->
        Pythonx.eval("a\0b", %{})
      end

      assert_raise Pythonx.Error, ~r/IndentationError/, fn -> Pythonx.eval("  x = 1", %{}) end
      assert_raise Pythonx.Error, ~r/'await' outside async function/, fn -> Pythonx.eval("def f(): await x", %{}) end
      assert_raise Pythonx.Error, ~r/'return' outside function/, fn -> Pythonx.eval("return 1", %{}) end
    end

    test "line ends of Windows and coding comments are fine" do
      assert eval!("x = 1\r\nx + 1\r\n") == 2
      assert eval!("# coding: latin-1\n'ż'") == "ż"
    end

    test "a SyntaxWarning is a warning" do
      output = capture_io(:stderr, fn -> assert eval!("'\\d'") == "\\d" end)
      assert output =~ "SyntaxWarning" or output =~ "DeprecationWarning" or output == ""
    end
  end

  describe "__main__" do
    test "is the module of the evaluation" do
      assert eval!("__name__") == "__main__"
      assert eval!("import __main__\nx = 5\n__main__.x") == 5
      assert eval!("import sys\nx = 6\nsys.modules['__main__'].x") == 6
      assert eval!("'__file__' in globals()") == false
      assert eval!("type(__builtins__).__name__") == "dict"
      assert eval!("(__package__, __loader__, __spec__, __doc__)") == {nil, nil, nil, nil}
    end

    test "classes defined there pickle" do
      code = "import pickle\nclass C: pass\npickle.loads(pickle.dumps(C())).__class__ is C"
      assert eval!(code)
      {nil, %{"C" => class}} = Pythonx.eval("class C: pass", %{})
      assert eval!("import pickle\npickle.loads(pickle.dumps(C)) is C", %{"C" => class})
    end

    test "is as good as new for each evaluation" do
      fresh = "sorted(globals())"
      names = eval!(fresh)
      assert names == ["__builtins__", "__doc__", "__loader__", "__name__", "__package__", "__spec__"]

      for code <- ["x = 1", "__name__ = 'other'", "del __doc__", "__builtins__ = {}", "globals().clear()"] do
        Pythonx.eval(code, %{"given" => 1})
        assert eval!(fresh) == names
        assert eval!("(__name__, __doc__, abs(-1))") == {"__main__", nil, 1}
      end
    end

    test "belongs to what lives on" do
      {nil, %{"f" => f}} = Pythonx.eval("y = 1\ndef f(): return y", %{})
      {kept, _} = Pythonx.eval("import sys\nz = 3\nsys.modules['__main__']", %{})
      {names, _} = Pythonx.eval("w = 4\nglobals()", %{})
      Pythonx.eval("y = z = w = 2", %{})
      assert Pythonx.call(f, [], [], decode: true) == 1
      assert eval!("import types\ntypes.ModuleType.__getattribute__(kept, 'z')", %{"kept" => kept}) == 3
      assert eval!("names['w']", %{"names" => names}) == 4
    end

    test "concurrent evaluations pickle their own classes" do
      code = """
      import pickle, time
      class Own:
          def __init__(self): self.n = n
      results = []
      for _ in range(20):
          results.append(pickle.loads(pickle.dumps(Own())).n == n)
          time.sleep(0.001)
      all(results)
      """

      results = 1..8 |> Task.async_stream(&eval!(code, %{"n" => &1}), max_concurrency: 8) |> Enum.to_list()
      assert results == List.duplicate({:ok, true}, 8)
    end
  end

  describe "exceptions" do
    test "carry lines, type, value and traceback" do
      error = catch_error(Pythonx.eval("x = 1\n1/0", %{}))
      assert %Pythonx.Error{} = error

      assert error.lines == [
               "Traceback (most recent call last):\n",
               "  File \"<string>\", line 2, in <module>\n",
               "ZeroDivisionError: division by zero\n"
             ]

      globals = %{"type" => error.type, "value" => error.value, "tb" => error.traceback}
      assert eval!("type is ZeroDivisionError and isinstance(value, type)", globals)
      assert eval!("tb.tb_lineno", globals) == 2
      assert eval!("value.__traceback__ is tb", globals)
      assert eval!("tb.tb_frame.f_code.co_name", globals) == "<module>"
    end

    test "have a message of their lines" do
      error = %Pythonx.Error{lines: ["a\n", "b\n"]}
      assert Exception.message(error) == "Python exception raised\n\n        a\n        b\n"
      assert Exception.message(%Pythonx.Error{}) == "Python exception raised\n\n"
    end

    test "raised by C code are normalised" do
      for {code, expected} <- [
            {"1/0", "ZeroDivisionError: division by zero\n"},
            {"[][1]", "IndexError: list index out of range\n"},
            {"{}['a']", "KeyError: 'a'\n"},
            {"int('a')", "ValueError: invalid literal for int() with base 10: 'a'\n"}
          ] do
        error = catch_error(Pythonx.eval(code, %{}))
        assert List.last(error.lines) == expected
        assert eval!("isinstance(value, type)", %{"type" => error.type, "value" => error.value})
      end
    end

    test "keep causes, contexts and notes" do
      code = "try:\n  1/0\nexcept Exception as e:\n  raise ValueError('outer') from e"
      message = Exception.message(catch_error(Pythonx.eval(code, %{})))
      assert message =~ "ZeroDivisionError: division by zero"
      assert message =~ "The above exception was the direct cause of the following exception:"
      assert message =~ "ValueError: outer"
    end

    test "SystemExit, KeyboardInterrupt and GeneratorExit are exceptions like others" do
      for code <- ["import sys; sys.exit(3)", "raise KeyboardInterrupt", "raise GeneratorExit", "raise SystemExit"] do
        assert_raise Pythonx.Error, fn -> Pythonx.eval(code, %{}) end
      end
    end

    test "a syntax error shows the source and no frame" do
      error = catch_error(Pythonx.eval("x = 1\ny = (", %{}))
      assert hd(error.lines) == "  File \"<string>\", line 2\n"
      assert List.last(error.lines) =~ "SyntaxError: '(' was never closed"
      assert eval!("value.lineno", %{"value" => error.value}) == 2
    end

    test "of code that is too complex to parse shows no frame, and names no line" do
      code = String.duplicate("-", 100_000) <> "1"

      for fun <- [fn -> Pythonx.eval(code, %{}) end, fn -> Pythonx.AST.scan_globals(code) end] do
        error = catch_error(fun.())
        assert [line] = error.lines
        assert line =~ ~r/MemoryError|RecursionError|SyntaxError/
        globals = %{"value" => error.value, "traceback" => error.traceback}
        assert eval!("isinstance(value, SyntaxError) or traceback is None", globals)
      end
    end

    test "whose __str__ or __repr__ raises are reported all the same" do
      code = "class Bad(Exception):\n  def __str__(self): 1/0\n  __repr__ = __str__\nraise Bad()"
      message = Exception.message(catch_error(Pythonx.eval(code, %{})))
      assert message =~ ~r"Bad: <(exception str\(\) failed|unprintable Bad object)>"
    end
  end

  describe "deep data" do
    test "is a RecursionError or works, and the VM lives" do
      for code <- [
            "import json; json.loads('[' * 100000)",
            "x = []\nfor _ in range(100000): x = [x]\nrepr(x)",
            "x = []\nfor _ in range(100000): x = [x]\nimport pickle; pickle.dumps(x)",
            "compile('-' * 100000 + '1', 'f', 'eval')",
            "def key(x): return sorted([x], key=key)\nkey(1)",
            "def f(): f()\nf()"
          ] do
        try do
          Pythonx.eval(code, %{})
        rescue
          error in Pythonx.Error ->
            assert Exception.message(error) =~ ~r/RecursionError|MemoryError|too (many|complex)|JSONDecodeError/
        end

        assert eval!("1") == 1
      end
    end
  end

  describe "inspect" do
    test "is broken over lines, nested as anything else" do
      two = Pythonx.encode!(2)
      assert inspect(Pythonx.encode!([7, 8])) == "#Pythonx.Object<\n  [7, 8]\n>"
      assert inspect({two, 1}) == "{#Pythonx.Object<\n   2\n >, 1}"
      assert inspect([two, two]) == "[#Pythonx.Object<\n    2\n  >, #Pythonx.Object<\n    2\n  >]"
      assert inspect(%{"a" => two}, pretty: true) == "%{\n  \"a\" => #Pythonx.Object<\n    2\n  >\n}"
      {object, _} = Pythonx.eval("class A:\n  def __repr__(self): return 'a\\n\\nb'\nA()", %{})
      assert inspect(object) == "#Pythonx.Object<\n  a\n  \n  b\n>"
    end

    test "of an object whose __repr__ fails is Elixir's usual inspect error" do
      for body <- ["1/0", "return 5"] do
        {object, _} = Pythonx.eval("class A:\n  def __repr__(self): #{body}\nA()", %{})
        assert inspect(object) =~ "#Inspect.Error<"
        assert_raise Inspect.Error, fn -> inspect(object, safe: false) end
      end
    end
  end

  describe "objects" do
    test "passed back are identical in Python and the same struct in Elixir" do
      {a, _} = Pythonx.eval("object()", %{})
      assert Pythonx.encode!(a) == a
      assert eval!("a is b", %{"a" => a, "b" => a})
    end

    test "work from every process" do
      {list, _} = Pythonx.eval("[1, 2]", %{})
      assert Task.await(Task.async(fn -> Pythonx.decode(list) end), patience()) == [1, 2]
    end

    test "are released once their last handle is collected" do
      code = "import weakref\nclass C: pass\nc = C()\nweakref.ref(c)"
      {ref, %{"c" => c}} = Pythonx.eval(code, %{})
      Pythonx.eval("1", %{})
      assert eval!("ref() is not None", %{"ref" => ref})
      send(self(), {:keep, c})
      assert_received {:keep, _}

      wait_until(fn ->
        :erlang.garbage_collect()
        collect_free_threaded()
        eval!("ref() is None", %{"ref" => ref})
      end)
    end

    test "that the caller has let go of are released soon, whatever their finalizers do" do
      code = """
      released = []
      class C:
          def __init__(self, n): self.n = n
          def __del__(self): released.append(self.n)
      """

      {nil, globals} = Pythonx.eval(code, %{})

      for n <- 1..20 do
        Pythonx.eval("C(n)", Map.put(globals, "n", n))
        :erlang.garbage_collect()
        collect_free_threaded()
        wait_until(fn -> n in Pythonx.decode(globals["released"]) end)
      end
    end

    test "a handle changes the reference count by one, whatever happens to it" do
      {object, _} = Pythonx.eval("object()", %{})
      count = fn -> eval!("import sys; sys.getrefcount(o)", %{"o" => object}) end
      before = count.()

      for _ <- 1..1000 do
        assert {^object, _} = {Pythonx.encode!(object), nil}
        Pythonx.encode!([object, {object}])
        Pythonx.eval("o", %{"o" => object})
      end

      wait_until(fn ->
        :erlang.garbage_collect()
        collect_free_threaded()
        count.() == before
      end)
    end

    # A C function keeps the GIL until somebody opens the other end of a pipe, which is done when the handles are gone.
    @tag :tmp_dir
    test "a million that are dropped while the GIL is held freeze nobody", %{tmp_dir: dir} do
      test = self()
      pipe = Path.join(dir, "pipe")
      {_output, 0} = System.cmd("mkfifo", [pipe])
      {list, _} = Pythonx.eval("[object() for _ in range(1000)]", %{})

      {holder, monitor} =
        spawn_monitor(fn ->
          handles = for _ <- 1..1000, do: Pythonx.decode(list)
          send(test, :ready)
          receive do: (:drop -> handles)
        end)

      assert_receive :ready, 2 * patience()

      code = """
      import ctypes, pythonx
      pythonx.send_tagged_object(test, "held", None)
      ctypes.PyDLL(None).open(pipe, 0)
      """

      globals = %{"test" => test, "pipe" => pipe}
      task = Task.async(fn -> eval!(code, globals) end)
      assert_receive {:held, _none}
      send(holder, :drop)
      assert_receive {:DOWN, ^monitor, :process, ^holder, :normal}

      # Every scheduler serves.
      Enum.each(1..100, fn _ -> Task.await(Task.async(fn -> :ok end), patience()) end)
      assert Task.yield(task, 0) == nil
      File.write!(pipe, "")
      assert Task.await(task, patience()) > 0

      wait_until(fn ->
        {_threads, handles} = Pythonx.NIF.stats()
        handles < 50_000
      end)
    end

    test "foreign references and other terms are refused" do
      message = ~r/^decode failed, expected a resource reference, got: #Ref</
      assert_raise ArgumentError, message, fn -> Pythonx.decode(%Pythonx.Object{resource: make_ref()}) end

      assert_raise ArgumentError, "decode failed, expected a struct, got: 1", fn -> Pythonx.NIF.object_repr(1) end
      assert_raise FunctionClauseError, fn -> apply(Pythonx, :decode, [1]) end

      assert_raise ArgumentError, ~r/^Pythonx.decode\/1 expects a %Pythonx.Object{}, but got nil/, fn ->
        Pythonx.decode(nil)
      end
    end

    test "the text of a repr by way of the native functions" do
      object = Pythonx.encode!({2, nil, "ok"})
      assert object |> Pythonx.NIF.object_repr() |> Pythonx.NIF.unicode_to_string() == "(2, None, b'ok')"

      assert_raise Pythonx.Error, ~r/TypeError: bad argument type for built-in operation/, fn ->
        Pythonx.NIF.unicode_to_string(object)
      end

      assert eval!("x", %{"x" => Pythonx.NIF.unicode_from_string("ż")}) == "ż"
    end
  end
end
