defmodule Pythonx.ReleaseTest do
  # Builds the release of examples/release, moves it, deletes all that it was made from, and runs it with an empty cache,
  # nothing but a few programs on PATH and no network.
  use ExUnit.Case, async: true

  import Pythonx.Case, only: [eval!: 1]

  @moduletag :builds_release
  @moduletag timeout: 1_200_000

  @version Application.spec(:pythonx, :vsn)

  # What the scripts of a release run. No compiler, no uv, no Python, no Erlang.
  @programs ~w(sh awk basename cat cut date dd dirname expr grep mkdir od readlink sed tr uname env)

  # What `mix compile` of a project that depends on Pythonx by its path needs of it.
  @sources ~w(mix.exs lib c_src uv_templates priv/python examples/release)

  setup_all do
    dir = Path.join(System.tmp_dir!(), "pythonx_release_#{System.unique_integer([:positive])}_#{System.pid()}")
    on_exit(fn -> File.rm_rf!(dir) end)
    release = Path.join(dir, "moved release ż")
    File.mkdir_p!(dir)
    build!(Path.join(dir, "sources"), release)
    path = Path.join(dir, "bin")
    File.mkdir!(path)
    for name <- @programs, program = System.find_executable(name), do: File.ln_s!(program, Path.join(path, name))
    home = Path.join(dir, "home")
    File.mkdir!(home)
    %{dir: dir, release: release, path: path, home: home}
  end

  defp build!(sources, release) do
    for name <- @sources, target = Path.join(sources, name) do
      File.mkdir_p!(Path.dirname(target))
      File.cp_r!(name, target)
    end

    project = Path.join(sources, "examples/release")
    for name <- ["_build", "deps"], do: File.rm_rf!(Path.join(project, name))
    take_python_of_suite!(Path.join(project, "config/config.exs"))

    {output, status} =
      System.cmd("mix", ["release", "--path", release <> ".built"],
        cd: project,
        env: build_env(),
        stderr_to_stdout: true
      )

    if status != 0, do: raise("mix release failed:\n#{output}")
    File.rename!(release <> ".built", release)
    File.rm_rf!(sources)
  end

  defp take_python_of_suite!(config) do
    minor = eval!("import sys; sys.version_info.minor")
    text = File.read!(config)
    assert text =~ ~s(requires-python = "==3.13.*")
    text = String.replace(text, "==3.13.*", "==3.#{minor}.*")
    # The first numpy that has wheels for that version.
    text = if minor >= 14, do: String.replace(text, ~r/"numpy[^"]*"/, ~s("numpy>=2.3.2")), else: text
    File.write!(config, text)
  end

  # Where the suite runs on a Python of the system, so that nothing has to be downloaded, that one is to be copied.
  defp build_env do
    [root, _project] = Pythonx.install_paths()
    managed? = String.starts_with?(root, Path.join(Pythonx.Host.Cache.uv_dir(), "python"))
    preference = if managed?, do: [], else: [{"UV_PYTHON_PREFERENCE", "only-system"}]
    [{"MIX_ENV", "prod"}, {"MIX_BUILD_PATH", nil}, {"PYTHONX_INIT_STATE", nil} | preference]
  end

  # Runs the release with `input` on its standard input, in an environment of these variables alone.
  defp run(context, code, input, prefix \\ []) do
    file = Path.join(context.dir, "input")
    File.write!(file, input)

    env = [
      "PATH=#{context.path}",
      "HOME=#{context.home}",
      "PYTHONX_CACHE_DIR=#{Path.join(context.home, "cache")}",
      "HTTPS_PROXY=http://127.0.0.1:9",
      "HTTP_PROXY=http://127.0.0.1:9",
      # Not looked at where the configuration says what to start.
      "PYTHONX_INIT_STATE=nonsense",
      "LANG=C.UTF-8",
      "RELEASE_TMP=#{Path.join(context.dir, "tmp")}"
    ]

    command = prefix ++ ["env", "-i"] ++ env ++ [Path.join(context.release, "bin/trend"), "eval", code]
    args = ["-c", ~s(input=$1; shift; exec "$@" <"$input"), "sh", file | command]
    # Not in the folder of the sources, which may be closed to other users, as everything below /root is: processes that
    # multiprocessing starts enter the folder of the one that started them.
    System.cmd("sh", args, cd: context.dir, stderr_to_stdout: true)
  end

  # Decodes the last line of what the release prints.
  defp ask(context, code, prefix \\ []) do
    code = """
    {:ok, _started} = Application.ensure_all_started(:trend)
    #{code}
    |> :erlang.term_to_binary()
    |> Base.encode64()
    |> IO.puts()
    """

    {output, status} = run(context, code, "", prefix)
    assert status == 0, output
    output |> String.split("\n", trim: true) |> List.last() |> Base.decode64!() |> :erlang.binary_to_term()
  end

  defp eval(code), do: "Pythonx.eval(#{inspect(code)}, %{}) |> elem(0) |> Pythonx.decode()"

  test "prints its result, and writes nothing outside of its folder", context do
    assert run(context, "Trend.CLI.main()", "0 1\n1 3\n2 5.3\n") ==
             {"y = 2.15 x + 0.95, residual 0.070711 of 3 points\n", 0}

    assert File.ls!(context.home) == []
  end

  test "~PY in its modules works as documented", context do
    assert ask(context, "Trend.fit([{0, 1}, {1, 3}, {2, 5}])") == %{intercept: 1.0, residual: 0.0, slope: 2.0}
  end

  test "modules with ~PY need no interpreter until they are used", context do
    code = """
    IO.inspect(Code.ensure_loaded(Trend))

    try do
      Trend.fit([{0, 1}, {1, 3}])
    rescue
      error -> IO.puts(Exception.message(error))
    end
    """

    assert run(context, code, "") ==
             {"{:module, Trend}\nthe :pythonx application needs to be started before calling Pythonx.eval/3\n", 0}
  end

  test "Python and its packages are those of the moved folder", context do
    code = """
    import sys, numpy
    maps = {line.split(None, 5)[5].strip() for line in open("/proc/self/maps") if "/libpython3" in line}
    [sys.executable, sys.prefix, sys.base_prefix, numpy.__file__, *maps, *sys.path]
    """

    [executable, prefix, base_prefix | _others] = paths = ask(context, eval(code))
    uv = Path.join(context.release, "lib/pythonx-#{@version}/priv/uv")
    assert executable == Path.join(uv, "project/.venv/bin/python")
    assert prefix == Path.join(uv, "project/.venv")
    # Python 3.10 leaves the steps of the link in it.
    assert base_prefix |> Path.expand() |> Path.dirname() == Path.join(uv, "python")
    assert Enum.reject(paths, &String.starts_with?(&1, uv)) == []
    assert length(paths) > 6
  end

  @children """
  import multiprocessing, subprocess, sys
  child = "import sys, numpy; print(sys.executable, sys.prefix, numpy.__file__, sep='|', end='')"
  with multiprocessing.Pool(2) as pool:
      powers = pool.starmap(pow, [(2, 3), (3, 3)])
  result = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True)
  [powers, result.stdout.split("|"), result.stderr, [sys.executable, sys.prefix, sys.modules["numpy"].__file__]]
  """

  test "programs that Python starts find the same Python and packages", context do
    assert [~c"\b\e", paths, "", paths] = ask(context, eval("import numpy\n" <> @children))
    assert Enum.all?(paths, &String.starts_with?(&1, context.release))
  end

  test "the script of a package runs", context do
    script = Path.join(context.release, "lib/pythonx-#{@version}/priv/uv/project/.venv/bin/f2py")
    # Starting the release has made the program of the environment lead to its Python.
    ask(context, eval("1"))
    version = ask(context, eval("import numpy; numpy.__version__"))
    assert System.cmd(script, ["-v"], env: [{"LD_LIBRARY_PATH", nil}]) == {"#{version}\n", 0}
  end

  test "install_env/0 and install_paths/0 say what runs", context do
    assert {[python, project], ["PYTHONX_INIT_STATE"]} =
             ask(context, "{Pythonx.install_paths(), Map.keys(Pythonx.install_env())}")

    assert Path.dirname(python) == Path.join(context.release, "lib/pythonx-#{@version}/priv/uv/python")
    assert project == Path.join(context.release, "lib/pythonx-#{@version}/priv/uv/project")
  end

  test "the application can be restarted", context do
    code = """
    stopped = for app <- [:trend, :pythonx], do: Application.stop(app)
    {stopped, Application.ensure_all_started(:trend), Trend.fit([{0, 1}, {1, 3}]).slope}
    """

    assert ask(context, code) == {[:ok, :ok], {:ok, [:pythonx, :trend]}, 2.0}
  end

  test "runs for a user who may not write into it", context do
    # As a fresh copy, which no start has set right yet.
    fresh = Map.update!(context, :release, &(&1 <> " of another"))
    File.cp_r!(context.release, fresh.release, dereference_symlinks: true)
    cfg = Path.join(fresh.release, "lib/pythonx-#{@version}/priv/uv/project/.venv/pyvenv.cfg")
    File.write!(cfg, String.replace(File.read!(cfg), ~r/^home = .*$/m, "home = /nonexistent/bin"))
    before = File.read!(cfg)
    prefix = unprivileged!(fresh)

    assert [~c"\b\e", paths, "", paths] = ask(fresh, eval("import numpy\n" <> @children), prefix)
    assert [executable, python, numpy] = paths
    assert executable =~ ~r"/priv/uv/python/[^/]+/bin/python3\.\d+\z"
    assert Path.dirname(Path.dirname(executable)) == python
    assert numpy =~ "/priv/uv/project/.venv/lib/"
    assert File.read!(cfg) == before
  end

  # The command that makes it so. Root may write anywhere, hence becomes nobody.
  defp unprivileged!(context) do
    if System.cmd("id", ["-u"]) == {"0\n", 0}, do: as_nobody!(context), else: make_read_only!(context.release)
  end

  defp as_nobody!(context) do
    tmp = Path.join(context.dir, "tmp")
    File.mkdir_p!(tmp)
    for folder <- [tmp, context.home], do: File.chmod!(folder, 0o777)
    [System.find_executable("setpriv"), "--reuid=65534", "--regid=65534", "--clear-groups"]
  end

  defp make_read_only!(folder) do
    {_output, 0} = System.cmd("chmod", ["-R", "a-w", folder])
    on_exit(fn -> {_output, 0} = System.cmd("chmod", ["-R", "u+w", folder]) end)
    []
  end
end
