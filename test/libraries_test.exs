defmodule Pythonx.LibrariesTest do
  # The five libraries of test/fixtures/libraries, of which two exclude each other, with their packages from PyPI: in a
  # release, in a script and in a notebook, and with the tasks of Mix.
  use ExUnit.Case, async: true

  import Pythonx.Case, only: [eval!: 1]
  import Pythonx.NativeCase, only: [python!: 0]

  @moduletag :builds_release
  @moduletag :pinned_packages
  @moduletag timeout: 900_000

  # What `mix compile` of a project that depends on Pythonx by its path needs of it.
  @sources ~w(mix.exs lib c_src uv_templates priv/python test/fixtures/libraries)

  setup_all do
    dir = Path.join(System.tmp_dir!(), "pythonx_libraries_#{System.unique_integer([:positive])}_#{System.pid()}")
    on_exit(fn -> File.rm_rf!(dir) end)
    sources = Path.join(dir, "sources")

    for name <- @sources, target = Path.join(sources, name) do
      File.mkdir_p!(Path.dirname(target))
      File.cp_r!(name, target)
    end

    project = Path.join(sources, "test/fixtures/libraries/together")
    config = Path.join(project, "config/config.exs")
    minor = eval!("import sys; sys.version_info.minor")
    File.write!(config, String.replace(File.read!(config), "3.13", "3.#{minor}"))
    %{dir: dir, project: project, minor: minor}
  end

  # Where the suite runs on a Python of the system, so that nothing has to be downloaded, that one is to be copied.
  defp mix!(c, args), do: mix!(c, "mix", args, "/dev/null")

  defp mix!(c, mix, args, input) do
    [root, _project] = Pythonx.install_paths()
    managed? = String.starts_with?(root, Path.join(Pythonx.Host.Cache.uv_dir(), "python"))
    preference = if managed?, do: [], else: [{"UV_PYTHON_PREFERENCE", "only-system"}]
    path = Path.dirname(python!()) <> ":" <> System.get_env("PATH")
    env = [{"MIX_ENV", "prod"}, {"MIX_BUILD_PATH", nil}, {"PYTHONX_INIT_STATE", nil}, {"PATH", path} | preference]
    args = ["-c", ~s(input=$1; shift; exec "$@" <"$input"), "sh", input, mix | args]
    {output, status} = System.cmd("sh", args, cd: c.project, env: env, stderr_to_stdout: true)
    if status != 0, do: raise("mix #{Enum.join(args, " ")} failed:\n#{output}")
    output
  end

  @all ~s(["Hello Ada!", "&lt;b&gt;", "1", "xn--bcher-kva.example", "xn--bcher-kva.example", {:lt, true}]\n)

  # Lines that somebody would type.
  defp shell(c, lines) do
    file = Path.join(c.dir, "lines")
    File.write!(file, lines)
    mix!(c, "mix", ["pythonx.shell"], file)
  end

  # One after the other, as each needs what the one before has compiled.
  test "are together in one script, one notebook and one release, and mix says who wants what", c do
    assert mix!(c, ["pythonx.deps"]) =~ ~r"""
           :escaper, Python >=3\.10
           └── markupsafe>=2\.1 \(\S+\)
           :greeter, Python >=3\.10
           └── jinja2>=3\.1 \(\S+\)
               └── markupsafe \(\S+\)
           :new_domains, Python >=3\.10
           └── idna>=3\.10 \(\S+\)
           :versions, Python >=3\.10
           └── packaging>=23 \(\S+\)
           :old_domains, Python >=3\.10, with a Python of its own
           └── idna<3\.8 \(3\.7\)
           """

    assert mix!(c, ["pythonx.lock"]) =~ "pythonx.lock: 4 packages for :escaper, :greeter, :new_domains, :versions\n"
    assert mix!(c, ["pythonx.deps", "--outdated"]) =~ "all packages are the newest that fit\n"

    code = "import idna, jinja2, sys; print(sys.argv[1], jinja2.__name__, idna.__version__ >= '3.10')"
    assert mix!(c, ["pythonx.run", "-c", code, "--flag"]) =~ "--flag jinja2 True\n"

    assert shell(c, "import jinja2\nx = 20\nx + 1\nexit()\n") =~ ~r/Leave with exit.*>>> 21\n/s

    assert script(c) == @all
    assert notebook(c) == @all
    assert release(c) == @all
  end

  # In scripts and notebooks, all that is compiled is on the path.
  defp ebins(c), do: Enum.flat_map(Path.wildcard(Path.join(c.project, "_build/prod/lib/*/ebin")), &["-pa", &1])

  @start """
  for app <- [:greeter, :escaper, :versions, :old_domains, :new_domains], do: {:ok, _} = Application.ensure_all_started(app)
  """

  defp script(c) do
    # What the application has in its configuration.
    elixir(c, """
    Application.put_env(:pythonx, :isolated, [:old_domains])
    #{@start}
    Pythonx.uv_init(python: "3.#{c.minor}")
    IO.inspect(Together.all(), width: 200)
    """)
  end

  # In cells, with a library that is found later, while Python runs.
  defp notebook(c) do
    cells = [
      "Application.put_env(:pythonx, :isolated, [:old_domains])\n{:ok, _} = Application.ensure_all_started(:greeter)",
      "defmodule Cell do\n  use Pythonx.Requirements, requires_python: \"==3.#{c.minor}.*\"\nend\nPythonx.ensure_ready!(Cell)",
      "Greeter.greet(\"Ada\")",
      @start,
      "IO.inspect(Together.all(), width: 200)"
    ]

    elixir(c, """
    Enum.reduce(#{inspect(cells)}, {[], __ENV__}, fn cell, {binding, env} ->
      {_value, binding, env} = Code.eval_quoted_with_env(Code.string_to_quoted!(cell), binding, env)
      {binding, env}
    end)
    """)
  end

  defp elixir(c, code) do
    file = Path.join(c.dir, "script.exs")
    File.write!(file, code)
    path = Path.dirname(python!()) <> ":" <> System.get_env("PATH")
    env = [{"PATH", path}, {"PYTHONX_INIT_STATE", nil}, {"MIX_ENV", nil}]
    {output, status} = System.cmd("elixir", ebins(c) ++ [file], env: env, stderr_to_stdout: true, cd: c.dir)
    if status != 0, do: raise(output)
    last_line(output)
  end

  # Without uv, network, sources and cache.
  defp release(c) do
    release = Path.join(c.dir, "moved ż")
    mix!(c, ["release", "--path", release <> ".built"])
    File.rename!(release <> ".built", release)
    sources = Path.join(c.dir, "sources")
    File.rename!(sources, sources <> " that are gone")
    home = Path.join(c.dir, "home")
    File.mkdir!(home)

    env = [
      "PATH=/usr/bin:/bin",
      "HOME=#{home}",
      "PYTHONX_CACHE_DIR=#{Path.join(home, "cache")}",
      "PYTHONX_UV=/nowhere/uv",
      "HTTPS_PROXY=http://127.0.0.1:9",
      "LANG=C.UTF-8",
      "RELEASE_TMP=#{Path.join(c.dir, "tmp")}"
    ]

    code = "{:ok, _} = Application.ensure_all_started(:together); IO.inspect(Together.all(), width: 200)"
    args = ["-i"] ++ env ++ [Path.join(release, "bin/together"), "eval", code]
    {output, status} = System.cmd("env", args, stderr_to_stdout: true, cd: c.dir)
    if status != 0, do: raise(output)
    assert File.ls!(home) == []
    last_line(output)
  end

  defp last_line(output), do: (output |> String.split("\n", trim: true) |> List.last()) <> "\n"
end
