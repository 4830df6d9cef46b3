defmodule Pythonx.Boot.PythonTest do
  use Pythonx.UvCase, async: false

  alias Pythonx.Boot.Python

  test "a real Python says where it is" do
    assert {:ok, python} = Python.probe(python!())
    assert python.implementation == "cpython"
    assert python.version == ask_python!("'.'.join(map(str, sys.version_info[:3]))")
    assert python.prefix == ask_python!("os.path.realpath(sys.base_prefix)")
    assert python.executable == ask_python!("os.path.realpath(sys.executable)")
    assert Path.basename(python.libpython) =~ ~r/\Alibpython3\.\d+t?\.(so|dylib)/
    assert File.regular?(python.libpython)
    assert File.regular?(Path.join(python.headers, "Python.h"))
    assert python.free_threaded == (ask_python!("bool(sysconfig.get_config_var('Py_GIL_DISABLED'))") == "True")
    assert Python.embeddable(python) == :fully
  end

  test "a virtual environment answers for its base, whatever the environment variables say", %{tmp_dir: dir} do
    {_output, 0} = System.cmd(python!(), ["-I", "-m", "venv", "--without-pip", Path.join(dir, "wenw ż")])
    {:ok, base} = Python.probe(python!())
    System.put_env(%{"PYTHONHOME" => "/nowhere", "PYTHONPATH" => dir})
    assert Python.probe(Path.join(dir, "wenw ż/bin/python")) == {:ok, base}
  after
    for name <- ["PYTHONHOME", "PYTHONPATH"], do: System.delete_env(name)
  end

  test "what is not a working Python", %{tmp_dir: dir} do
    assert Python.probe("/nowhere/python") ==
             {:error, "the Python at /nowhere/python cannot be run: no such file or directory"}

    broken = script!(Path.join(dir, "broken"), "echo 'pyenv: command not found'; exit 127")
    assert Python.probe(broken) == {:error, "the Python at #{broken} does not work, it says: pyenv: command not found"}

    other = script!(Path.join(dir, "other"), "echo something")
    assert Python.probe(other) == {:error, "the Python at #{other} does not work, it says: something"}
  end

  test "which Pythons can be embedded, and what to do about the others", %{tmp_dir: dir} do
    prefix = Path.join(dir, "prefix")

    verdict = fn fields ->
      {:ok, python} = prefix |> fake_python!(fields) |> Python.probe()
      Python.embeddable(python)
    end

    assert verdict.(%{}) == :fully
    assert verdict.(%{headers: ""}) == :without_headers
    place = "the Python at #{prefix}/bin/python3.13"

    assert verdict.(%{implementation: "pypy"}) ==
             {:error, "#{place} (pypy 3.13.0) is not CPython, which is what can be embedded"}

    assert verdict.(%{version: "3.9.18"}) ==
             {:error, "#{place} (cpython 3.9.18) is too old, 3.10 is the oldest that can be embedded"}

    lacks = "#{place} (cpython 3.13.0) has no shared libpython, without which it cannot be embedded. "
    otherwise = ", or let uv install a Python of its own"

    assert verdict.(%{libpython: ""}) ==
             {:error, lacks <> "Use a Python that was configured with --enable-shared" <> otherwise}

    assert verdict.(%{libpython: "", prefix: "/usr"}) ==
             {:error, lacks <> "Install it with: apt-get install libpython3.13" <> otherwise}

    assert verdict.(%{libpython: "", prefix: "/usr", free_threaded: "t", os: "ubuntu debian"}) ==
             {:error, lacks <> "Install it with: apt-get install libpython3.13t" <> otherwise}

    assert {:error, text} = verdict.(%{libpython: "", prefix: "/usr", os: "fedora "})
    assert text =~ "Install the package of your distribution that has libpython3.13.so"

    assert verdict.(%{libpython: "", prefix: "/home/me/.pyenv/versions/3.13.0"}) ==
             {:error,
              lacks <>
                "Build it again with one: PYTHON_CONFIGURE_OPTS=--enable-shared pyenv install --force 3.13.0" <>
                otherwise}
  end
end
