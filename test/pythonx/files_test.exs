defmodule Pythonx.FilesTest do
  # Folders are known when Python starts, so most of this is seen in a VM of its own.
  use Pythonx.Case, async: false

  alias Pythonx.FreshVM

  @moduletag :tmp_dir

  defp app!(dir, name, files) do
    ebin = Path.join([dir, name, "ebin"])
    File.mkdir_p!(ebin)

    for {file, source} <- files do
      path = Path.join([dir, name, "priv/python", file])
      File.mkdir_p!(Path.dirname(path))
      File.write!(path, source)
    end

    ebin
  end

  defp run(ebins, script) do
    own = Path.join(Application.app_dir(:pythonx), "ebin")
    paths = Enum.flat_map([own | ebins], &["-pa", &1])

    # The device has what was printed before the last request is answered.
    code = script.(inspect(FreshVM.python())) <> "\nIO.write([])"

    System.cmd(System.find_executable("elixir"), paths ++ ["-e", code],
      stderr_to_stdout: true,
      env: [{"PYTHONDONTWRITEBYTECODE", nil}]
    )
  end

  # What Python says, after it has started.
  defp python(ebins, code, before \\ "") do
    run(ebins, fn paths ->
      """
      #{before}
      {:ok, _} = Application.ensure_all_started(:pythonx)
      :ok = apply(Pythonx, :init, #{paths})
      Pythonx.eval(#{inspect(code)}, %{})
      """
    end)
  end

  test "priv/python of every application can be imported from", %{tmp_dir: dir} do
    one = app!(dir, "one-0.1.0", [{"own_stats.py", "def mean(): return 1"}])
    two = app!(dir, "two", [{"own_package/__init__.py", "from .inner import x"}, {"own_package/inner.py", "x = 2"}])
    assert python([one, two], "import own_stats, own_package\nprint(own_stats.mean(), own_package.x)") == {"1 2\n", 0}
  end

  test "it comes after what is installed, and is there for other processes", %{tmp_dir: dir} do
    one = app!(dir, "one", [{"json.py", "raise RuntimeError"}, {"own_numbers.py", "def double(x): return 2 * x"}])

    code = """
    import json, sys, multiprocessing, own_numbers
    with multiprocessing.Pool(1) as pool:
        print(pool.map(own_numbers.double, [1, 2]), sys.path[-1].endswith("one/priv/python"))
    """

    assert python([one], code) == {"[2, 4] True\n", 0}
  end

  test "the configuration names more folders", %{tmp_dir: dir} do
    one = app!(dir, "one", [])
    File.mkdir_p!(Path.join(dir, "one/src"))
    File.write!(Path.join(dir, "one/src/own_a.py"), "x = 1")
    File.mkdir_p!(Path.join(dir, "more"))
    File.write!(Path.join(dir, "more/own_b.py"), "x = 2")
    config = ~s|Application.put_env(:pythonx, :python_path, [{:one, "src"}, #{inspect(Path.join(dir, "more"))}])|
    assert python([one], "import own_a, own_b\nprint(own_a.x, own_b.x)", config) == {"1 2\n", 0}

    missing = ~s|Application.put_env(:pythonx, :python_path, ["/missing"])|
    {output, 1} = python([], "0", missing)
    assert output =~ "(ArgumentError) the folder for Python files does not exist: /missing"

    {output, 1} = python([], "0", ~s|Application.put_env(:pythonx, :python_path, "src")|)

    assert output =~
             ~s|expected python_path of config :pythonx to be a list of folders or {application, folder}, got: "src"|
  end

  test "two modules of one name are an error that names both, and nothing else is", %{tmp_dir: dir} do
    one = app!(dir, "one", [{"own_same.py", "x = 1"}, {"own_one.py", "x = 1"}])
    two = app!(dir, "two", [{"own_same/__init__.py", "x = 2"}])

    code = """
    import own_one
    try:
        import own_same
    except ImportError as error:
        print(own_one.x, error)
    """

    {output, 0} = python([one, two], code)

    [first, second] =
      for path <- ["one/priv/python/own_same.py", "two/priv/python/own_same/__init__.py"], do: Path.join(dir, path)

    assert output =~ "1 there are two modules of the name 'own_same', "
    assert output =~ first
    assert output =~ second
    assert output =~ "one of them needs another name"
  end

  test "bytecode is kept in the cache where the folder cannot be written", %{tmp_dir: dir} do
    one = app!(dir, "one", [{"own_slow.py", "x = 1"}])
    cache = Path.join(dir, "cache")
    folder = Path.join(dir, "one/priv/python")
    # A folder that root may not write either: there is a file where the one for bytecode would be.
    File.write!(Path.join(folder, "__pycache__"), "")
    set = ~s|System.put_env("PYTHONX_CACHE_DIR", #{inspect(cache)})|
    bridge = Path.join(System.get_env("PYTHONX_CACHE_DIR", Pythonx.Host.Cache.base_dir()), "bridge")
    File.mkdir_p!(cache)
    File.ln_s!(bridge, Path.join(cache, "bridge"))

    code = "import own_slow\nprint(own_slow.x, own_slow.__spec__.loader.get_code('own_slow').co_consts[0])"
    assert python([one], code, set) == {"1 1\n", 0}
    assert [file] = Path.wildcard(Path.join(cache, "bytecode/*/*.pyc"))
    written = File.stat!(file).inode
    assert python([one], code, set) == {"1 1\n", 0}
    assert File.stat!(file).inode == written
    # Another version, and damage.
    File.write!(Path.join(folder, "own_slow.py"), "x = 22")
    assert python([one], code, set) == {"22 22\n", 0}
    File.write!(file, "nonsense")
    assert python([one], code, set) == {"22 22\n", 0}
    assert python([one], code, set) == {"22 22\n", 0}
  end

  test "a development project has its files loaded again", %{tmp_dir: dir} do
    one = app!(dir, "one", [{"own_changed.py", "x = 1"}])
    file = Path.join(dir, "one/priv/python/own_changed.py")

    script = fn paths ->
      """
      Application.put_env(:pythonx, :reload, true)
      {:ok, _} = Application.ensure_all_started(:pythonx)
      :ok = apply(Pythonx, :init, #{paths})
      print = fn -> Pythonx.eval("import own_changed\\nprint(own_changed.x)", %{}) end
      print.()
      File.write!(#{inspect(file)}, "x = 22")
      print.()
      IO.inspect(Pythonx.Reloader.enabled?())
      """
    end

    assert run([one], script) == {"1\n22\ntrue\n", 0}
  end
end
