defmodule Pythonx.ModuleCompileTest do
  # What the compiler is told of modules from Python, and what it says of bad ones.
  use Pythonx.CompileCase, async: false

  alias Pythonx.Module.Source

  @moduletag :tmp_dir

  defmodule Shapes do
    use Pythonx.Module, ~PY"""
    class Stack:
        def push(self, item, /, times: int = 1) -> "Stack": return self
    def add(a: int, b: int = 1, *, times: int = 1) -> int: return (a + b) * times
    def anything(**options): return options
    def needs(*, key): return key
    """
  end

  defp refusal(body, dir) do
    {%CompileError{line: 2} = error, _diagnostics} = compile(body, dir)
    error.description
  end

  defp docs(modules, dir) do
    for {module, binary} <- modules, not String.starts_with?(inspect(module), "Pythonx.Encoder."), into: %{} do
      path = Path.join(dir, "#{module}.beam")
      File.write!(path, binary)
      {:docs_v1, _line, :elixir, "text/markdown", doc, _meta, docs} = Code.fetch_docs(path)
      functions = for {{:function, name, arity}, _, _, %{"en" => text}, _} <- docs, into: %{}, do: {{name, arity}, text}
      {module, Map.put(functions, :module, doc["en"])}
    end
  end

  describe "what the compiler sees" do
    @python ~S'''
    "Texts of all kinds."
    from typing import Optional, Literal
    class Box:
        "A box."
        def open(self, how: str = "key"):
            "Opens it."
    def f(a: int, b: "str | None" = None, *rest: float, c: Literal[1, "x"] = 1) -> dict[str, list[Optional[Box]]]:
        """Does it.

        Much text.

        >>> f(1)
        {}
        """
    '''
    @text "use Pythonx.Module, text: #{inspect(@python)}"

    test "documentation", %{tmp_dir: dir} do
      {modules, []} = compile(@text, dir, "Documented")
      docs = docs(modules, dir)
      assert docs[Documented][:module] == "The Python module `documented`.\n\nTexts of all kinds."

      assert docs[Documented][{:f, 3}] == """
             `documented.f(a, b=None, *rest, c=1)`

             Does it.

             Much text.

                 >>> f(1)
                 {}\
             """

      assert docs[Documented.Box][:module] == "The Python class `documented.Box`.\n\nA box."
      assert docs[Documented.Box][{:open, 2}] == "`documented.Box.open(how='key')`\n\nOpens it."
    end

    test "specs", %{tmp_dir: dir} do
      {modules, []} = compile(@text, dir, "Specified")
      {:ok, specs} = Code.Typespec.fetch_specs(modules[Specified])
      [{_f, specs}] = for {{:f, 3}, specs} <- specs, do: {:f, specs}

      [spec] =
        for spec <- specs,
            do: :f |> Code.Typespec.spec_to_quoted(spec) |> Macro.to_string() |> String.replace(~r/\s+/, " ")

      assert spec =~ ~r/^f\(integer\(\), \[number\(\)\], /
      assert spec =~ "b: String.t() | nil"
      assert spec =~ "c: 1 | String.t()"
      assert spec =~ ":: %{ optional(String.t()) => [Specified.Box.t() | nil] }"
    end

    test "wrong arities and keywords", %{tmp_dir: dir} do
      Code.put_compiler_option(:tracers, [Pythonx.Module.Tracer])
      on_exit(fn -> Code.put_compiler_option(:tracers, []) end)

      body = """
      def f(x) do
          #{inspect(Shapes)}.add(x,
            c: 1)
        end
        def g(opts), do: {#{inspect(Shapes)}.add(1, opts), #{inspect(Shapes)}.add(1, b: 1), #{inspect(Shapes)}.anything(x: 1)}
        def h(), do: #{inspect(Shapes)}.needs([])
        def i(), do: #{inspect(Shapes)}.add(1, 2, 3)
        def j(x), do: #{inspect(Shapes)}.Stack.push(x, 1, time: 2)
      """

      {_modules, diagnostics} = compile(body, dir)

      found =
        for %{severity: :warning, message: message, position: position} <- diagnostics,
            do: {line(position), message |> String.split("\n") |> hd()}

      assert Enum.sort(found) == [
               {3, "pythonx_module_compile_test_shapes.add does not take the keyword :c, but :b, :times"},
               {7, "pythonx_module_compile_test_shapes.needs needs the keyword :key"},
               {8, "Pythonx.ModuleCompileTest.Shapes.add/3 is undefined or private. Did you mean:"},
               {9, "pythonx_module_compile_test_shapes.Stack.push does not take the keyword :time, but :times"}
             ]
    end

    defp line({line, _column}), do: line
    defp line(line), do: line
  end

  describe "bad input" do
    test "a file with a syntax error, or a hint that does not parse", %{tmp_dir: dir} do
      file = Path.join(dir, "bad.py")
      File.write!(file, "x = 1\ndef f(:\n")

      assert refusal("use Pythonx.Module, file: #{inspect(file)}", dir) ==
               "#{Path.relative_to_cwd(file)}:2: SyntaxError: invalid syntax"

      File.write!(file, "\n\ndef f(x: 'list['): pass")

      assert refusal("use Pythonx.Module, file: #{inspect(file)}", dir) ==
               "#{Path.relative_to_cwd(file)}:3: the hint 'list[' does not parse"

      File.write!(file, <<"# ", 255>>)
      assert refusal("use Pythonx.Module, file: #{inspect(file)}", dir) == "#{Path.relative_to_cwd(file)} is not UTF-8"
      missing = Path.join(dir, "missing.py")

      assert refusal("use Pythonx.Module, file: #{inspect(missing)}", dir) ==
               "#{missing} cannot be read: no such file or directory"
    end

    test "options that are none", %{tmp_dir: dir} do
      assert refusal("use Pythonx.Module, flie: \"x\"", dir) =~
               "unknown option :flie, expected one of [:file, :module, :text,"

      assert refusal("use Pythonx.Module, []", dir) ==
               "expected one of the options :file, :module and :text, or a text, got: []"

      assert refusal("use Pythonx.Module, text: \"\", module: \"json\"", dir) =~ "expected one of the options"

      assert refusal("use Pythonx.Module, text: \"\", target: A, isolated: true", dir) ==
               "expected either :target or :isolated, got both"

      assert refusal("use Pythonx.Module, text: \"\", only: :f", dir) == "expected :only to be a list of names, got: :f"

      assert refusal("use Pythonx.Module, text: \"def f(): 1\", only: [:g], as: \"x\"", dir) ==
               "x has no public function or class g"

      assert refusal("use Pythonx.Module, module: \"statistics\", only: [:StatisticsError]", dir) ==
               "statistics has no public function or class StatisticsError, it is an exception, which is raised as Pythonx.Error"
    end

    test "modules that are not there, or have no source", %{tmp_dir: dir} do
      assert refusal("use Pythonx.Module, module: \"not_there\"", dir) =~
               "not_there: there is no module not_there for the Python at "

      assert refusal("use Pythonx.Module, module: \"builtins\"", dir) ==
               "builtins: the module builtins is a part of Python itself and has no source, see mix pythonx.gen"
    end

    test "two modules of one name", %{tmp_dir: dir} do
      {[{one, _}], []} = compile("use Pythonx.Module, text: \"def f(): return 1\", as: \"twice\"", dir, "TwiceOne")
      {[{two, _}], []} = compile("use Pythonx.Module, text: \"def f(): return 2\", as: \"twice\"", dir, "TwiceTwo")
      {[{three, _}], []} = compile("use Pythonx.Module, text: \"def f(): return 3\", as: \"json\"", dir, "TwiceThree")
      eval!("import json; 0")
      assert one.f() == 1

      assert List.last(raised(fn -> two.f() end).lines) ==
               "ImportError: there is a Python module twice already, which is that of TwiceOne: TwiceTwo needs another name for its own, see the option :as of Pythonx.Module\n"

      assert List.last(raised(fn -> three.f() end).lines) =~
               ~r/there is a Python module json already, which is .*__init__.py: TwiceThree needs/

      assert one.f() == 1
    end

    test "a text that raises leaves nothing behind", %{tmp_dir: dir} do
      {[{module, _}], []} = compile("use Pythonx.Module, text: \"def f(): return 1\\n1 / 0\", as: \"raising\"", dir)

      for _ <- 1..2,
          do: assert(List.last(raised(fn -> module.f() end).lines) == "ZeroDivisionError: division by zero\n")

      assert eval!("import sys; 'raising' in sys.modules") == false
    end
  end

  test "another Python describes modules where the VM has none" do
    python = eval!("import sys; sys.executable")
    assert {:ok, description} = Source.imported(python, "statistics")
    assert "mean" in Enum.map(description["functions"], & &1["name"])

    assert Source.imported("/missing/python", "json") ==
             {:error, "the Python at /missing/python cannot be run: no such file or directory"}

    assert {:error, "not_there: it cannot be imported, ModuleNotFoundError: No module named 'not_there'"} =
             Source.imported(python, "not_there")
  end

  describe "in a VM without Python" do
    # What `mix compile` is, most of the time.
    defp elixir(code) do
      own = Path.join(Application.app_dir(:pythonx), "ebin")
      System.cmd(System.find_executable("elixir"), ["-pa", own, "-e", code], stderr_to_stdout: true)
    end

    test "another Python on the machine reads what is compiled" do
      code = ~S'''
      defmodule Own do
        use Pythonx.Module, ~PY"""
        def größe(a: str, *, b=1.5, c=-10**20, d=None, e=True) -> "list[int]":
            "Doc."
        """
      end
      IO.inspect({Own.__info__(:functions), Own.__python__(:keywords), Pythonx.NIF.initialized?()}, width: 200)

      try do
        Code.compile_string("defmodule Bad do\n  use Pythonx.Module, text: \"def f(:\"\nend", "bad.ex")
      rescue
        error -> IO.puts(Exception.message(error))
      end
      '''

      assert elixir(code) ==
               {~s|{[__python__: 0, __python__: 1, größe: 1, größe: 2], %{{:größe, 2} => {[:b, :c, :d, :e], [], "own.größe"}}, false}\n| <>
                  "bad.ex:2: bad.ex:2: SyntaxError: invalid syntax\n", 0}
    end

    test "and where there is none, the error says what would help" do
      code = ~S'''
      System.put_env("PATH", "/nowhere")

      try do
        Code.compile_string("defmodule Bad do\n  use Pythonx.Module, text: \"\"\nend", "bad.ex")
      rescue
        error -> IO.puts(Exception.message(error))
      end
      '''

      assert elixir(code) ==
               {"bad.ex:2: what a Python module offers is read by Python, and there is none: install Python 3 or uv, name a project " <>
                  "in config :pythonx, :uv_init, or start Python before this is compiled\n", 0}
    end
  end
end
