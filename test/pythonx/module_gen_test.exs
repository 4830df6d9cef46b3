defmodule Pythonx.ModuleGenTest do
  use Pythonx.Case, async: false

  import ExUnit.CaptureIO

  alias Mix.Tasks.Pythonx.Gen

  @moduletag :tmp_dir

  setup %{tmp_dir: dir} do
    package = Path.join(dir, "python")
    File.mkdir_p!(package)
    python = eval!("import sys; sys.executable")
    # A Python that has the package of the test.
    wrapper = Path.join(dir, "python3")
    File.write!(wrapper, "#!/bin/sh\nPYTHONPATH=#{package} exec #{python} \"$@\"\n")
    File.chmod!(wrapper, 0o755)
    %{package: package, python: wrapper, lib: Path.join(dir, "lib")}
  end

  defp gen(args), do: capture_io(fn -> Gen.run(args) end)

  defp package!(package, source, version \\ "1.0") do
    File.write!(Path.join(package, "genpack.py"), "__version__ = #{inspect(version)}\n" <> source)
  end

  @source ~S'''
  def greet(name: str, *, polite: bool = False) -> str:
      """Greets \d and """ '"""' """ \''' too."""
  class Box:
      def open(self, end=1): return end
  def end(): pass
  class Failure(Exception): pass
  '''

  test "writes an ordinary file, with the version and a hash in its head", context do
    package!(context.package, String.replace(@source, ~S| '"""' |, " "))
    file = Path.join(context.lib, "gen_pack.ex")

    assert gen(["genpack", "--python", context.python, "--as", "Written.GenPack", "--output", file]) == """
           #{file}: 2 functions, 1 class
             without Failure: it is an exception, which is raised as Pythonx.Error
           """

    text = File.read!(file)

    assert text =~
             ~r/\A# Written by mix pythonx.gen, which writes it again: change nothing here.\n# command: mix pythonx.gen genpack --as Written.GenPack\n# version: genpack 1.0\n# hash: [0-9a-f]{32}\ndefmodule Written.GenPack do\n/

    assert text =~ "  @spec greet(String.t(), polite: boolean()) :: String.t()\n  def greet(name, opts \\\\ []) do\n"
    assert text =~ "  def unquote(:end)() do\n"
    # It is as the formatter would have it, and compiles.
    assert IO.iodata_to_binary([Code.format_string!(text, line_length: 120), "\n"]) == text
    {modules, diagnostics} = Code.with_diagnostics(fn -> Code.compile_string(text, file) end)
    assert diagnostics == []

    assert Enum.map(modules, &elem(&1, 0)) |> Enum.sort() == [
             Pythonx.Encoder.Written.GenPack.Box,
             Written.GenPack,
             Written.GenPack.Box
           ]
  end

  test "checks whether the package has moved on", context do
    package!(context.package, "def f(a): pass")
    file = Path.join(context.lib, "f.ex")
    check = fn -> gen(["--check", file, "--python", context.python]) end
    gen(["genpack", "--python", context.python, "--as", "Checked.F", "--output", file, "--only", "f", "--rich"])
    assert check.() == "1 generated file is up to date\n"

    package!(context.package, "def f(a): pass\ndef other(): pass")
    assert check.() == "1 generated file is up to date\n"

    package!(context.package, "def f(a, b=1): pass")

    assert_raise Mix.Error,
                 "these are not what mix pythonx.gen would write now:\n\n  #{file}: what genpack offers has changed, mix pythonx.gen genpack --as Checked.F --only f --rich",
                 check

    package!(context.package, "def f(a): pass", "1.1")

    assert_raise Mix.Error,
                 ~r/genpack 1.0 has become genpack 1.1, mix pythonx.gen genpack --as Checked.F --only f --rich/,
                 check

    File.rm!(Path.join(context.package, "genpack.py"))
    assert_raise Mix.Error, ~r/genpack: it cannot be imported, ModuleNotFoundError: No module named 'genpack'/, check
  end

  test "says what is wrong with its arguments", context do
    assert_raise Mix.Error, "expected the name of a Python module, as in mix pythonx.gen statistics", fn -> gen([]) end

    assert_raise Mix.Error, "mix pythonx.gen does not know --flie, see mix help pythonx.gen", fn ->
      gen(["json", "--flie", "x"])
    end

    assert_raise Mix.Error, "--as and --output are for one module at a time", fn -> gen(["json", "re", "--as", "A"]) end

    assert_raise Mix.Error, "/missing, which --python names, is not there", fn ->
      gen(["json", "--python", "/missing"])
    end

    file = Path.join(context.lib, "mine.ex")
    File.mkdir_p!(context.lib)
    File.write!(file, "defmodule Mine do\nend\n")

    assert_raise Mix.Error,
                 "#{file} is there, and was not written by mix pythonx.gen: choose another --as or --output",
                 fn ->
                   gen(["json", "--python", context.python, "--output", file])
                 end

    package!(context.package, "raise RuntimeError('broken')")

    assert_raise Mix.Error, "genpack: it cannot be imported, RuntimeError: broken", fn ->
      gen(["genpack", "--python", context.python, "--output", "-"])
    end

    assert gen(["json", "--python", context.python, "--output", "-", "--as", "J", "--no-classes"]) =~ "defmodule J do"
  end
end
