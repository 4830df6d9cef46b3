defmodule Pythonx.NIF.LoaderTest do
  use ExUnit.Case, async: true

  import Pythonx.NativeCase

  # Each test has a VM of its own: what it opens stays open.
  @moduletag :tmp_dir

  defp fake_libpython!(path, version) do
    shared_library!(path, ~s|const char *Py_GetVersion(void) { return "#{version}"; }|)
  end

  defp open(vm, path), do: :peer.call(vm, Pythonx.NIF.Loader, :open, [path])

  test "reports the full version text of the Python under test, whose symbols are global then" do
    folders = ask_python!("'|'.join([os.path.join(sys.base_prefix, 'lib'), sysconfig.get_config_var('LIBDIR')])")
    name = ask_python!("sysconfig.get_config_var('INSTSONAME')")
    multiarch = ask_python!("sysconfig.get_config_var('MULTIARCH') or ''")
    candidates = for folder <- String.split(folders, "|"), sub <- ["", multiarch], do: Path.join([folder, sub, name])
    path = Enum.find(candidates, &File.exists?/1)

    assert open(start_vm!(), path) == {:ok, ask_python!("sys.version")}
  end

  test "opens a path with spaces and non-ASCII characters", %{tmp_dir: dir} do
    path = fake_libpython!(Path.join(dir, "zażółć gęślą 🐍/lib python.so"), "3.13.0 (fake)")
    assert open(start_vm!(), path) == {:ok, "3.13.0 (fake)"}
  end

  test "opens the same file again, by another name too", %{tmp_dir: dir} do
    path = fake_libpython!(Path.join(dir, "libpython3.13.so.1.0"), "3.13.0 (fake)")
    link = Path.join(dir, "libpython3.13.so")
    File.ln_s!(path, link)
    vm = start_vm!()

    assert open(vm, path) == {:ok, "3.13.0 (fake)"}
    assert open(vm, path) == {:ok, "3.13.0 (fake)"}
    assert open(vm, link) == {:ok, "3.13.0 (fake)"}
  end

  test "refuses a second libpython", %{tmp_dir: dir} do
    first = fake_libpython!(Path.join(dir, "first.so"), "3.13.0 (fake)")
    second = fake_libpython!(Path.join(dir, "second.so"), "3.12.0 (fake)")
    vm = start_vm!()

    assert {:ok, _} = open(vm, first)
    assert open(vm, second) == {:error, "another libpython is already loaded, #{first}"}
    assert open(vm, first) == {:ok, "3.13.0 (fake)"}
  end

  test "gives the reason for a file that cannot be opened, and can be asked again", %{tmp_dir: dir} do
    missing = Path.join(dir, "missing.so")
    no_library = Path.join(dir, "text.so")
    File.write!(no_library, "this is text and long enough to be read as a header")
    good = fake_libpython!(Path.join(dir, "good.so"), "3.13.0 (fake)")
    vm = start_vm!()

    assert {:error, reason} = open(vm, missing)
    assert reason =~ missing
    assert {:error, reason} = open(vm, no_library)
    assert reason =~ no_library
    assert open(vm, good) == {:ok, "3.13.0 (fake)"}
  end

  test "names the symbol that a library lacks, and can be asked again", %{tmp_dir: dir} do
    other = shared_library!(Path.join(dir, "other.so"), "int unrelated;")
    good = fake_libpython!(Path.join(dir, "good.so"), "3.13.0 (fake)")
    vm = start_vm!()

    assert {:error, {:symbol, "Py_GetVersion", reason}} = open(vm, other)
    assert reason =~ "Py_GetVersion"
    assert open(vm, good) == {:ok, "3.13.0 (fake)"}
  end

  test "refuses a path with a NUL inside, which would name another file", %{tmp_dir: dir} do
    good = fake_libpython!(Path.join(dir, "good.so"), "3.13.0 (fake)")
    assert catch_error(open(start_vm!(), good <> "\0.txt")) == :badarg
  end

  test "a missing loader library is an error that says how it is built", %{tmp_dir: dir} do
    # A copy of the application without its priv.
    File.mkdir_p!(Path.join(dir, "pythonx/priv"))
    File.cp_r!(Application.app_dir(:pythonx, "ebin"), Path.join(dir, "pythonx/ebin"))
    vm = start_vm!()
    :peer.call(vm, :code, :add_patha, [String.to_charlist(Path.join(dir, "pythonx/ebin"))])

    assert {:error, reason} = open(vm, "/libpython3.13.so")
    assert reason =~ "the loader library of Pythonx cannot be used: "
    assert reason =~ "pythonx_loader.so"
    assert reason =~ "It is built by mix compile"
  end
end
