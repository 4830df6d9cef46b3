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
      assert shown("[1]") == %Kino.Text{content: "[1]"}
    end

    test "falls back to inspecting" do
      object = object("class A:\n  def _repr_html_(self): raise OSError('no')\nA()")
      assert Kino.Render.to_livebook(object) == {:shown, %Kino.Inspect{content: object}}
    end

    test "is implemented for objects" do
      assert Pythonx.Integrations.Kino.renders?()
      assert Kino.Render.impl_for(Pythonx.encode!(1)) == Implementation
      assert Implementation.__impl__(:for) == Pythonx.Object
      assert Implementation.__impl__(:protocol) == Kino.Render
      assert Implementation.__impl__(:target) == Implementation
      refute Pythonx.Integrations.Kino.__mix_recompile__?()
    end

    # A project with just the files in question, a double of kino, and with or without one of kino_pythonx.
    for {name, deps, expected} <- [
          {"is ours without kino_pythonx", ["kino", "pythonx"], {:pythonx, true}},
          {"is that of kino_pythonx where it is", ["kino", "pythonx", "kino_pythonx"], {:kino_pythonx, false}}
        ] do
      @tag :tmp_dir
      test name, %{tmp_dir: dir} do
        project!(dir, "kino", [], %{"kino.ex" => File.read!("test/support/kino_double.ex")})
        object = "defmodule Pythonx.Object, do: defstruct [:resource]"
        files = ["lib/pythonx/object/display.ex", "lib/pythonx/integrations/kino.ex"]
        ours = Map.new(files, &{Path.basename(&1), File.read!(&1)})
        calls = "defmodule Pythonx.Calls, do: def perform(_, _, _, _), do: %{}"
        nif = "defmodule Pythonx.NIF do\ndef local!(o), do: o\ndef local_object?(_), do: true\nend"
        ours = Map.merge(ours, %{"object.ex" => object, "calls.ex" => calls, "nif.ex" => nif})
        project!(dir, "pythonx", [], ours)
        theirs = "defimpl Kino.Render, for: Pythonx.Object do\n  def to_livebook(_), do: :theirs\nend"
        project!(dir, "kino_pythonx", ["kino", "pythonx"], %{"kino_pythonx.ex" => theirs})
        for app <- ["kino", "pythonx", "kino_pythonx"] -- unquote(deps), do: File.rm_rf!(Path.join([dir, "deps", app]))
        main = project!(dir, nil, unquote(deps), %{"main.ex" => "defmodule Main, do: nil"})

        code = """
        implementation = Kino.Render.impl_for(struct!(Pythonx.Object))
        app = for app <- [:pythonx, :kino_pythonx], Code.ensure_loaded?(implementation),
                  List.starts_with?(:code.which(implementation), to_charlist(Application.app_dir(:pythonx, "ebin"))) == (app == :pythonx), do: app
        IO.inspect({hd(app), Pythonx.Integrations.Kino.renders?()})
        """

        env = [{"MIX_ENV", "dev"}, {"MIX_BUILD_PATH", nil}]

        {output, status} =
          System.cmd("mix", ["do", "deps.compile", "+", "run", "-e", code], cd: main, env: env, stderr_to_stdout: true)

        assert status == 0, output
        assert output =~ inspect(unquote(Macro.escape(expected))) <> "\n"
        refute output =~ "redefining"
      end
    end
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
      def project, do: [app: :#{name}, version: "0.4.10", deps: #{inspect(deps)}]
    end
    """)

    root
  end
end
