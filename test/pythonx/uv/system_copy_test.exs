defmodule Pythonx.Uv.SystemCopyTest do
  # A real Python, copied. That a release can be made of the copy is tested in test/release_test.exs.
  use ExUnit.Case, async: true

  import Pythonx.NativeCase
  import Pythonx.UvCase, only: [quietly: 1, with_output: 1]

  alias Pythonx.Boot.Python
  alias Pythonx.Uv.SystemCopy

  @moduletag :tmp_dir

  setup %{tmp_dir: dir} do
    {:ok, python} = Python.probe(python!())
    %{python: python, pythons: Path.join(dir, "pythons ż")}
  end

  defp make(python, pythons), do: quietly(fn -> SystemCopy.make(python, pythons) end)

  defp output!(program, args) do
    {output, 0} = System.cmd(program, args, env: [{"LD_LIBRARY_PATH", nil}, {"PYTHONHOME", nil}])
    output
  end

  test "runs with its own libpython, and knows its own headers", %{python: python, pythons: pythons} do
    assert {:ok, copy} = make(python, pythons)
    assert [name] = File.ls!(pythons)
    assert name =~ ~r/\Acpython-#{Regex.escape(python.version)}(\+freethreaded)?-linux-\w+-(gnu|musl)\z/
    root = Path.join(pythons, name)

    assert copy.prefix == root
    assert copy.executable == Path.join([root, "bin", "python#{Python.short_version(python)}"])
    assert copy.libpython == Path.join([root, "lib", Path.basename(python.libpython)])
    assert copy.headers == Path.join([root, "include", Path.basename(python.headers)])
    assert Python.embeddable(copy) == :fully

    code =
      "import sys, ssl, json; print(sys.prefix, json.__file__.startswith(sys.prefix), 'site-packages' in ssl.__file__)"

    assert output!(copy.executable, ["-I", "-c", code]) == "#{root} True False\n"
  end

  test "of a Python without headers is one without headers", %{python: python, pythons: pythons} do
    assert {:ok, copy} = make(%{python | headers: nil}, pythons)
    assert copy.headers == nil
    assert Python.embeddable(copy) == :without_headers
  end

  test "leaves out what running does not need, and nobody's packages come along", %{python: python, pythons: pythons} do
    {:ok, copy} = make(python, pythons)
    library = Path.join([copy.prefix, "lib", "python#{Python.short_version(python)}"])
    for name <- ~w(test idlelib site-packages), do: refute(File.exists?(Path.join(library, name)))
    assert Path.wildcard(Path.join(library, "**/*.a")) == []
  end

  test "is made once, and says so", %{python: python, pythons: pythons} do
    assert {{:ok, copy}, said} = with_output(fn -> SystemCopy.make(python, pythons) end)
    assert said == "Copying CPython #{python.version} from #{python.prefix}\n"
    marker = Path.join(copy.prefix, "marker")
    File.write!(marker, "")
    assert with_output(fn -> SystemCopy.make(python, pythons) end) == {{:ok, copy}, ""}
    assert File.exists?(marker)
  end

  test "a Python whose program is bound to its place is refused, and nothing is left", context do
    %{python: python, pythons: pythons, tmp_dir: dir} = context
    program = script!(Path.join(dir, "python3"), "echo cannot find libpython; exit 127\n")

    assert make(%{python | executable: program}, pythons) ==
             {:error,
              "the Python at #{python.prefix} cannot be copied, because its program does not find libpython from another " <>
                "folder: cannot find libpython. Let uv install a Python of its own, or build this one with " <>
                "LDFLAGS='-Wl,-rpath,$ORIGIN/../lib'"}

    program = script!(Path.join(dir, "python3"), "printf /usr/lib/libpython3.13.so.1.0\n")
    assert {:error, message} = make(%{python | executable: program}, pythons)
    assert message =~ "from another folder: it took /usr/lib/libpython3.13.so.1.0. Let uv"
    assert File.ls!(pythons) == []
  end
end
