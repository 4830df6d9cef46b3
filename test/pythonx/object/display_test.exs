defmodule Pythonx.Object.DisplayTest do
  # With doubles of Kino (test/support/kino_double.ex) and of the packages of Python.
  use Pythonx.Case, async: false

  alias Kino.Render.Pythonx.Object, as: Implementation

  defp object(code) do
    {result, _globals} = Pythonx.eval(code, %{})
    result
  end

  defp display(code), do: code |> object() |> Pythonx.display()

  defp shown(code) do
    {:shown, kino} = code |> object() |> Kino.Render.to_livebook()
    kino
  end

  @shape """
  class Shape:
      def __repr__(self): return 'a shape'
      def _repr_html_(self): return '<b>ż</b>'
      def _repr_svg_(self): return '<svg/>'
      def _repr_png_(self): return b'\\x89PNG'
      def _repr_jpeg_(self): return None
      def _repr_markdown_(self): return ('**ż**', {'meta': 1})
      def _repr_json_(self): return {'a': [1]}
      def _repr_latex_(self): raise NotImplementedError
  Shape()
  """

  describe "display/2" do
    test "of what has no other representation is its repr" do
      assert display("[1, 'a']") == %{"text/plain" => "[1, 'a']"}
      assert display("class A: pass\nA") == %{"text/plain" => "<class '__main__.A'>"}
    end

    test "is all that the object offers" do
      assert display(@shape) == %{
               "text/plain" => "a shape",
               "text/html" => "<b>ż</b>",
               "text/markdown" => "**ż**",
               "image/svg+xml" => "<svg/>",
               "image/png" => <<0x89, "PNG">>,
               "application/json" => %{"a" => [1]}
             }

      assert display(@shape <> "\nShape") |> Map.keys() == ["text/plain"]
    end

    test "is the bundle where there is one" do
      code = """
      class Chart:
          def _repr_mimebundle_(self, include=None, exclude=None):
              return {'image/png': 'iVBORw==', 'text/plain': 'a chart', 'application/vnd.x+json': {'x': 1}, 'text/html': None}, {}
          def _repr_html_(self): return 'no'
      Chart()
      """

      assert display(code) == %{
               "image/png" => <<0x89, "PNG">>,
               "text/plain" => "a chart",
               "application/vnd.x+json" => %{"x" => 1}
             }
    end

    test "asks the class, not what answers to every name" do
      assert display("import unittest.mock; unittest.mock.MagicMock(name='m')") |> Map.keys() == ["text/plain"]
    end

    test "of a class that has taken a method back is without it" do
      code = "class A:\n  def _repr_html_(self): return '<b/>'\nclass B(A):\n  _repr_html_ = None\nB()"
      assert Map.keys(display(code)) == ["text/plain"]
    end

    test "of figures and images of packages is a PNG" do
      code = """
      import sys, types

      module = types.ModuleType('matplotlib.figure')
      class Figure:
          def savefig(self, file, format, bbox_inches):
              file.write(f'{format} {bbox_inches}'.encode())
      module.Figure = Figure
      pil = types.ModuleType('PIL.Image')
      class Image:
          mode = 'CMYK'
          def convert(self, mode):
              self.mode = mode
              return self
          def save(self, file, format):
              file.write(f'{format} {self.mode}'.encode())
      pil.Image = Image
      class Part:
          def __init__(self, figure):
              self.figure = figure
      class Axes(Part):
          pass
      axes = types.ModuleType('matplotlib.axes')
      axes.Axes = Axes
      sys.modules.update({'matplotlib.figure': module, 'matplotlib.axes': axes, 'PIL.Image': pil})
      [Figure(), Image(), Axes(Figure()), Axes(Part(Figure())), Axes(None)]
      """

      [figure, image, axes, axes_of_a_part, removed] = Pythonx.decode(object(code))

      try do
        assert %{"image/png" => "png tight"} = Pythonx.display(figure)
        assert %{"image/png" => "png RGB"} = Pythonx.display(image)
        for object <- [axes, axes_of_a_part], do: assert(%{"image/png" => "png tight"} = Pythonx.display(object))
        assert Map.keys(Pythonx.display(removed)) == ["text/plain"]
      after
        Pythonx.eval(
          "import sys\nfor name in ('matplotlib.figure', 'matplotlib.axes', 'PIL.Image'): del sys.modules[name]",
          %{}
        )
      end
    end

    test "cuts a long repr with a note" do
      assert %{"text/plain" => text} = display("'x' * 100_000")
      assert byte_size(text) < 66_000
      assert String.ends_with?(text, "xxx... (the first 65536 of 100002 characters)")
    end

    test "raises what a method raises" do
      code = "class Bad:\n  def _repr_html_(self): raise OSError('no')\nBad()"
      assert_raise Pythonx.Error, ~r/OSError: no/, fn -> display(code) end
      assert_raise ArgumentError, ~r/unknown keys \[:foo\]/, fn -> Pythonx.display(object("1"), foo: 1) end

      assert_raise Pythonx.TimeoutError, fn ->
        Pythonx.display(object("class Slow:\n  def _repr_html_(self):\n    while True: pass\nSlow()"), timeout: 50)
      end
    end
  end

  describe "Kino.Render" do
    test "shows the richest representation" do
      assert shown(@shape) == %Kino.HTML{content: "<b>ż</b>"}

      assert shown("class A:\n  def _repr_svg_(self): return '<svg/>'\nA()") == %Kino.Image{
               content: "<svg/>",
               type: "image/svg+xml"
             }

      assert shown("class A:\n  def _repr_png_(self): return b'png'\nA()") == %Kino.Image{
               content: "png",
               type: "image/png"
             }

      assert shown("class A:\n  def _repr_markdown_(self): return '*a*'\nA()") == %Kino.Markdown{content: "*a*"}
      assert shown("class A:\n  def _repr_latex_(self): return '$x$'\nA()") == %Kino.Markdown{content: "$x$"}
      assert shown("class A:\n  def _repr_latex_(self): return 'x'\nA()") == %Kino.Markdown{content: "$$\nx\n$$"}
      # In the columns that `repr` gives them.
      assert shown("[1]") == %Kino.Text{content: "[1]", terminal: true}
    end

    test "falls back to inspecting" do
      object = object("class A:\n  def _repr_html_(self): raise OSError('no')\nA()")
      assert Kino.Render.to_livebook(object) == {:shown, %Kino.Inspect{content: object}}
    end

    test "is implemented for objects" do
      assert Kino.Render.impl_for(Pythonx.encode!(1)) == Implementation
      assert Implementation.__impl__(:for) == Pythonx.Object
      assert Implementation.__impl__(:protocol) == Kino.Render
      assert Implementation.__impl__(:target) == Implementation
    end

    # A project with just the files in question, doubles of kino and kino_pythonx, in a build and in a release. What an
    # application of ours does when it starts is done by hand.
    @ours "defmodule Pythonx.Object, do: defstruct [:resource]\ndefmodule Pythonx.Table, do: defstruct [:object]"
    @theirs "defimpl Kino.Render, for: Pythonx.Object do\n  def to_livebook(_), do: :theirs\nend"
    @asked """
    Pythonx.Integrations.Kino.implement()
    Pythonx.Integrations.Kino.implement()
    Code.ensure_loaded!(Kino.Render)
    implementation = Kino.Render.impl_for(struct!(Pythonx.Object))
    app = if Keyword.has_key?(implementation.module_info(:exports), :__info__), do: :kino_pythonx, else: :pythonx
    IO.inspect({implementation, app, Protocol.consolidated?(Kino.Render)})
    """

    for {name, deps, app} <- [
          {"is ours without kino_pythonx", ["kino", "pythonx"], :pythonx},
          {"is that of kino_pythonx where it is", ["kino", "pythonx", "kino_pythonx"], :kino_pythonx},
          {"is that of kino_pythonx in any order", ["kino_pythonx", "pythonx", "kino"], :kino_pythonx}
        ] do
      @tag :tmp_dir
      test name, %{tmp_dir: dir} do
        main = projects!(dir, unquote(deps))

        for {mode, consolidated?} <- [{"true", true}, {"false", false}] do
          output = mix!(main, ["run", "-e", @asked], [{"CONSOLIDATE", mode}])
          assert output =~ inspect({Implementation, unquote(app), consolidated?}) <> "\n"
          refute output =~ ~r"redefining|cannot match"
        end

        mix!(main, ["release", "--quiet"], [])
        release = Path.join(main, "_build/dev/rel/main")
        {output, 0} = System.cmd(Path.join(release, "bin/main"), ["eval", @asked], stderr_to_stdout: true)
        assert output =~ inspect({Implementation, unquote(app), true}) <> "\n"
        assert Enum.count(Path.wildcard(release <> "/lib/*/ebin/#{Implementation}.beam")) <= 1
      end
    end

    @tag :tmp_dir
    test "is that of kino_pythonx when it is added later, and ours again without it", %{tmp_dir: dir} do
      main = projects!(dir, ["kino", "pythonx"])
      assert mix!(main, ["run", "-e", @asked], []) =~ inspect({Implementation, :pythonx, true})
      project!(main, nil, ["kino", "pythonx", "kino_pythonx"], %{})
      assert mix!(main, ["run", "-e", @asked], []) =~ inspect({Implementation, :kino_pythonx, true})
      mix!(main, ["release", "--quiet"], [])
      project!(main, nil, ["kino", "pythonx"], %{})
      assert mix!(main, ["run", "-e", @asked], []) =~ inspect({Implementation, :pythonx, true})
    end
  end

  defp projects!(dir, deps) do
    project!(dir, "kino", [], %{"kino.ex" => File.read!("test/support/kino_double.ex")})
    files = for name <- ~w(implementation kino), do: "lib/pythonx/integrations/#{name}.ex"
    project!(dir, "pythonx", [], files |> Map.new(&{Path.basename(&1), File.read!(&1)}) |> Map.put("structs.ex", @ours))
    project!(dir, "kino_pythonx", ["kino", "pythonx"], %{"kino_pythonx.ex" => @theirs})
    project!(dir, nil, deps, %{"main.ex" => "defmodule Main, do: nil"})
  end

  defp mix!(dir, args, env) do
    env = [{"MIX_ENV", "dev"}, {"MIX_BUILD_PATH", nil} | env]
    {output, status} = System.cmd("mix", args, cd: dir, env: env, stderr_to_stdout: true)
    assert status == 0, output
    output
  end

  # Dependencies are in the folder deps of the project, where Mix would have put them.
  defp project!(dir, app, deps, files) do
    root = if app, do: Path.join([dir, "deps", app]), else: dir
    File.mkdir_p!(Path.join(root, "lib"))
    for {name, source} <- files, do: File.write!(Path.join([root, "lib", name]), source)
    name = app || "main"
    relative = if app, do: "..", else: "deps"
    deps = for dep <- deps, do: {String.to_atom(dep), [path: Path.join(relative, dep)]}

    File.write!(Path.join(root, "mix.exs"), """
    defmodule #{Macro.camelize(name)}.MixProject do
      use Mix.Project
      def project, do: [app: :#{name}, version: "0.4.11", deps: #{inspect(deps)}, consolidate_protocols: System.get_env("CONSOLIDATE") != "false"]
    end
    """)

    root
  end
end
