defmodule Pythonx.LivebookTest do
  # What Livebook does with Pythonx, as executable statements. `Pythonx.Notebook` runs the cells; what is asserted is what
  # Livebook and its own tests rely on.
  use ExUnit.Case

  import Pythonx.Case, only: [await_main_thread: 0, start_device: 0]

  alias Pythonx.{Notebook, Object}

  # A second project is refused, which is logged.
  @moduletag :capture_log

  defp run(notebook \\ Notebook.new(), language, code), do: Notebook.eval(notebook, language, code)

  # The error of a Python cell.
  defp failure(code, notebook \\ Notebook.new()) do
    Notebook.eval(notebook, "python", code)
    flunk("the cell did not fail")
  rescue
    error in Pythonx.Error -> error
  end

  describe "presence" do
    test "the application is found by its name and version" do
      assert Code.ensure_loaded?(Pythonx)
      assert Version.match?(List.to_string(Application.spec(:pythonx)[:vsn]), "~> 0.4.0")
    end

    test "what is called is exported" do
      for {function, arity} <- [uv_init: 1, eval: 2, eval: 3, decode: 1],
          do: assert(function_exported?(Pythonx, function, arity))

      assert macro_exported?(Pythonx, :sigil_PY, 2)
    end
  end

  describe "the pyproject.toml cell" do
    # The free-threaded suite names its Python by an option, which cells do not have.
    @tag :gil
    test "run again returns :ok and prints nothing" do
      toml = Pythonx.install_paths() |> List.last() |> Path.join("pyproject.toml") |> File.read!()
      output = ExUnit.CaptureIO.capture_io(fn -> assert {:ok, _notebook} = run("pyproject.toml", toml) end)
      assert output == ""
      assert {"'Agg'", _} = shown("import os; os.environ['MPLBACKEND']")
    end

    test "another project is an error of the cell" do
      error = "Python interpreter has already been initialized"
      toml = "[project]\nname = \"another\"\nversion = \"0.0.0\"\n"

      log =
        ExUnit.CaptureLog.capture_log(fn -> assert_raise RuntimeError, error, fn -> run("pyproject.toml", toml) end end)

      assert log =~ "another Python cannot be started in this VM: the project "

      assert log =~
               "#{List.last(Pythonx.install_paths())}, with the Python in #{hd(Pythonx.install_paths())}. A Pythonx.Pool"
    end
  end

  defp shown(notebook \\ Notebook.new(), code) do
    {value, notebook} = run(notebook, "python", code)
    {Notebook.show(value), notebook}
  end

  describe "the expansion" do
    test "has one call of Pythonx.eval/2, with the code and a map of the variables there are" do
      notebook = %{Notebook.new() | binding: [x: 1, unrelated: 2]}
      {_quoted, calls} = notebook |> Notebook.expand("y = x + z") |> Macro.prewalk([], &collect_calls/2)
      assert [[code, {:%{}, _, [{"x", {:x, _, nil}}]}]] = calls
      assert code == "y = x + z"
    end

    test "is the same whatever file the cell belongs to, which shows no source lines" do
      for file <- ["nofile", "/home/user/notebook.livemd#cell:abc", Path.expand("notebook.livemd")] do
        error = failure("1\n1 / 0", Notebook.new(file))
        assert Enum.at(error.lines, 1) == "  File \"<string>\", line 2, in <module>\n"
      end
    end
  end

  defp collect_calls({{:., _, [{:__aliases__, _, [:Pythonx]}, :eval]}, _, args} = call, calls),
    do: {call, [args | calls]}

  defp collect_calls(other, calls), do: {other, calls}

  describe "variables" do
    test "Python reads those of Elixir cells, and Elixir those of Python cells" do
      {_value, notebook} = run("elixir", "numbers = [1, 2, 3]\nfactor = 2")

      {nil, notebook} =
        run(notebook, "python", "import math\nscaled = [factor * n for n in numbers]\ntotal = math.fsum(scaled)")

      assert {12.0, notebook} = run(notebook, "elixir", "Pythonx.decode(total)")
      assert {"[2, 4, 6, 12.0, 3.0]", _} = shown(notebook, "scaled + [total, math.sqrt(9)]")
    end

    test "what an evaluation returns are the variables that it used, no others" do
      notebook = %{Notebook.new() | binding: [x: 1, unrelated: 2]}
      {_value, notebook} = run(notebook, "python", "y = x + 1\ny")
      assert [x: 1, y: %Object{}] = Enum.sort(notebook.used)
      assert notebook.binding |> Keyword.keys() |> Enum.sort() == [:unrelated, :x, :y]
    end

    test "a variable that is rebound, one that is used by a function of an earlier cell, one that is unknown" do
      {_value, notebook} = run("python", "x = 1\ndef next_x():\n    return x + 1")
      {_value, notebook} = run(notebook, "python", "x = x + 10")
      assert {"(11, 2)", notebook} = shown(notebook, "(x, next_x())")
      {_value, notebook} = run(notebook, "elixir", "x = :atom")
      assert {"'atom'", notebook} = shown(notebook, "x")
      assert Exception.message(failure("y", notebook)) =~ "NameError: name 'y' is not defined"
    end

    test "of all kinds are Elixir variables, values stay Elixir values when they are only read" do
      {_value, notebook} = run("elixir", ~s(text = "żółw"\ntable = %{:a => [1.5, nil, true], "b" => {1, 2}}))

      assert {"('żółw', {'a': [1.5, None, True], b'b': (1, 2)})", notebook} =
               shown(notebook, "(text.decode(), table)")

      assert notebook.binding[:table] == %{:a => [1.5, nil, true], "b" => {1, 2}}
      {_value, notebook} = run(notebook, "python", "LIMIT = 3\nclass Point: pass\nfor i in range(LIMIT): pass")
      assert Enum.all?([:LIMIT, :Point, :i], &is_struct(notebook.binding[&1], Object))
    end

    test "a class of one cell can be pickled in the next" do
      {_value, notebook} = run("python", "class Point:\n    def __init__(self, x):\n        self.x = x")
      assert {"4", _} = shown(notebook, "import pickle\npickle.loads(pickle.dumps(Point(4))).x")
    end
  end

  describe "the value" do
    test "is nil for a statement, and nothing is shown" do
      assert {nil, _} = shown("x = 1")
      assert {nil, _} = shown("")
      assert {nil, _} = shown("# nothing")
    end

    test "is an object, shown by its repr" do
      assert {"{'a': [1, 2]}", _} = shown("x = {'a': [1, 2]}\nx")
      assert {"None", _} = shown("None")
    end
  end

  # What the device that is the group leader has been sent until now.
  defp printed do
    ref = make_ref()
    send(Process.group_leader(), {:io_request, self(), ref, {:put_chars, :unicode, "end"}})
    assert_receive {:io_reply, ^ref, :ok}
    printed_until_end("")
  end

  defp printed_until_end(text) do
    receive do
      {:device, :out, "end"} -> text
      {:device, :out, more} -> printed_until_end(text <> more)
    end
  end

  describe "output" do
    setup do
      Process.group_leader(self(), start_device())
      :ok
    end

    test "of both streams is at the group leader when the evaluation has returned" do
      run("python", "import sys\nprint('hello from Python')\nprint('and from stderr', file=sys.stderr)")
      assert printed() == "hello from Python\nand from stderr\n"
    end

    test "of a cell that fails is there too" do
      failure("print('before', end='')\n1 / 0")
      assert printed() == "before"
    end
  end

  describe "an error" do
    test "at run time: the text, and the line of the cell" do
      error = failure("1\n2\nx")
      assert Notebook.marker(error) == {3, "NameError: name 'x' is not defined"}

      assert Notebook.text(error) == [
               "Traceback (most recent call last):\n",
               "  File \"<string>\", line 3, in <module>\n",
               "NameError: name 'x' is not defined\n"
             ]
    end

    test "for a missing module" do
      error = failure("import no_such_module")
      assert Notebook.marker(error) == {1, "ModuleNotFoundError: No module named 'no_such_module'"}

      assert IO.iodata_to_binary(Notebook.text(error)) == """
             Traceback (most recent call last):
               File "<string>", line 1, in <module>
             ModuleNotFoundError: No module named 'no_such_module'
             """
    end

    test "in a function: the line of the cell that called it, all frames in the text" do
      error = failure("def f():\n    return 1 / 0\n\nf()")
      assert Notebook.marker(error) == {4, "ZeroDivisionError: division by zero"}

      assert Enum.filter(Notebook.text(error), &(&1 =~ "File")) == [
               "  File \"<string>\", line 4, in <module>\n",
               "  File \"<string>\", line 2, in f\n"
             ]
    end

    test "in a function of an earlier cell" do
      {_value, notebook} = run("python", "def f():\n    raise ValueError('from f')")
      error = failure("1\nf()", notebook)
      assert Notebook.marker(error) == {2, "ValueError: from f"}
    end

    test "of syntax is raised by the expansion" do
      error = failure("1\n1 +")
      assert error == catch_error(Notebook.expand(Notebook.new(), "1\n1 +")) |> then(&%{error | lines: &1.lines})
      assert {2, "File \"<unknown>\", line 2" <> rest} = Notebook.marker(error)
      assert rest =~ "SyntaxError: invalid syntax"
      assert ["  File \"<unknown>\", line 2\n" | _] = Notebook.text(error)
      refute IO.iodata_to_binary(Notebook.text(error)) =~ "Traceback"
    end

    test "of compilation, which the expansion does not find" do
      error = failure("1\n2\nreturn 1")
      assert {3, "File \"<string>\", line 3\nSyntaxError: 'return' outside function"} = Notebook.marker(error)
      assert Notebook.text(error) == ["  File \"<string>\", line 3\n", "SyntaxError: 'return' outside function\n"]
    end

    test "sys.exit is one like others" do
      assert Notebook.marker(failure("import sys\nsys.exit(3)")) == {2, "SystemExit: 3"}
    end

    test "its text is iodata, also where the message is not text" do
      assert "raise ValueError(b'\\xff')" |> failure() |> Notebook.text() |> List.last() == "ValueError: b'\\xff'\n"
      assert "raise ValueError('żółw')" |> failure() |> Notebook.text() |> List.last() == "ValueError: żółw\n"
    end

    test "leaves the variables of the cells before as they are" do
      {_value, notebook} = run("python", "x = 1")
      failure("x = 2\n1 / 0", notebook)
      assert {"1", _} = shown(notebook, "x")
    end
  end

  describe "intellisense" do
    # An object that is made once, kept where all processes find it, and used while a cell may be running.
    @helper """
    import types

    def names(hint, bindings):
        hint = hint.decode("utf-8")
        builtins = [name for name, _ in globals()["__builtins__"].items()]
        return sorted(name for name in [*builtins, *(key.decode("utf-8") for key in bindings)] if name.startswith(hint))

    def members(value, matcher, hint):
        found = [name for name in dir(value) if name.startswith(hint.decode("utf-8")) and not name.startswith("_")]
        items = [(name, getattr(value, name)) for name in found]
        return [{"name": name, "kind": matcher, "doc": item.__doc__, "callable": callable(item)} for name, item in items]

    module = types.ModuleType("helper")
    module.names = names
    module.members = members
    module
    """

    setup do
      key = {__MODULE__, make_ref()}
      {module, %{}} = Pythonx.eval(@helper, %{})
      :persistent_term.put(key, module)
      on_exit(fn -> :persistent_term.erase(key) end)
      %{key: key}
    end

    defp helper(key, call, globals) do
      {result, %{}} = Pythonx.eval("intellisense.#{call}", Map.put(globals, "intellisense", :persistent_term.get(key)))
      Pythonx.decode(result)
    end

    test "is used from other processes, with names as bytes", %{key: key} do
      answers =
        1..20
        |> Task.async_stream(fn i ->
          helper(key, "names(hint, bindings)", %{"hint" => "enu", "bindings" => %{"enum_#{i}" => i, "other" => nil}})
        end)
        |> Enum.map(fn {:ok, answer} -> answer end)

      assert answers == for(i <- 1..20, do: ["enum_#{i}", "enumerate"])
    end

    test "looks into objects among the variables, given in nested terms", %{key: key} do
      {_value, notebook} =
        run("python", "class Point:\n    def norm(self):\n        \"The length.\"\n    name = 'p'\np = Point()")

      objects = for {name, value} <- notebook.binding, is_struct(value, Object), do: {Atom.to_string(name), value}
      assert Enum.map(objects, &elem(&1, 0)) |> Enum.sort() == ["Point", "p"]

      answer =
        fn ->
          helper(key, "members(bindings[0][b'p'], matcher, hint)", %{
            "bindings" => [Map.new(objects)],
            "matcher" => :prefix,
            "hint" => "n"
          })
        end
        |> Task.async()
        |> Task.await(60_000)

      assert [
               %{"name" => "name", "kind" => "prefix", "doc" => doc, "callable" => false},
               %{"name" => "norm", "kind" => "prefix", "doc" => "The length.", "callable" => true}
             ] = answer

      assert is_binary(doc)
    end

    test "answers while a cell is running", %{key: key} do
      notebook = %{Notebook.new() | binding: [parent: self()]}

      code = """
      import pythonx, threading
      go = threading.Event()
      pythonx.send_tagged_object(parent, "go", go)
      go.wait(30)
      """

      cell = Task.async(fn -> run(notebook, "python", code) end)
      assert_receive {:go, go}
      assert helper(key, "names(hint, {})", %{"hint" => "zi"}) == ["zip"]
      assert Task.yield(cell, 0) == nil
      Pythonx.eval("go.set()", %{"go" => go})
      assert {value, _notebook} = Task.await(cell, 60_000)
      assert Notebook.show(value) == "True"
    end
  end

  test "stopping a cell ends its Python code, and the next run works" do
    notebook = %{Notebook.new() | binding: [parent: self()]}

    code = """
    import pythonx, time
    try:
        pythonx.send_tagged_object(parent, "running", None)
        time.sleep(60)
    finally:
        pythonx.send_tagged_object(parent, "stopped", None)
    """

    # A sleep is interrupted at once on that thread only.
    await_main_thread()
    cell = spawn(fn -> run(notebook, "python", code) end)
    assert_receive {:running, _none}
    Process.exit(cell, :kill)
    assert_receive {:stopped, _none}
    assert {"2", _} = shown("1 + 1")
  end

  @tag :gil
  test "an exported notebook: uv_init, import Pythonx, and sigils" do
    toml = Pythonx.install_paths() |> List.last() |> Path.join("pyproject.toml") |> File.read!()

    script = """
    Pythonx.uv_init(\"\"\"
    #{toml}\"\"\")

    import Pythonx

    x = 20

    ~PY\"\"\"
    y = x + 1
    z = [y] * 2
    \"\"\"

    {Pythonx.decode(y), Pythonx.decode(z)}
    """

    # Cell by cell, because a sigil can be expanded only after uv_init has been run.
    {_block, _meta, cells} = Code.string_to_quoted!(script)

    {value, _binding, _env} =
      Enum.reduce(cells, {nil, [], Code.env_for_eval([])}, fn cell, {_value, binding, env} ->
        Code.eval_quoted_with_env(cell, binding, env)
      end)

    assert value == {21, [21, 21]}
  end
end
