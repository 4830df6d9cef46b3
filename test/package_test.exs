defmodule Pythonx.PackageTest do
  # Compiles the package, as Hex would give it to a project: the files of the list in mix.exs, unpacked into a folder.
  use ExUnit.Case, async: false

  import Pythonx.NativeCase, only: [script!: 2]

  alias Pythonx.Boot.Bridge.Compiler
  alias Pythonx.Host.{Native, Platform}

  @moduletag :tmp_dir
  @moduletag timeout: 1_200_000

  # What the scripts of Erlang and Elixir run, and Mix itself. No compiler, no make, no Python.
  @programs ~w(elixir erl mix sh basename cat dirname env expr grep id ln mkdir readlink rm sed tr uname)

  setup %{tmp_dir: dir} do
    dir = Path.expand(dir)
    package = Path.join(dir, "deps/pythonx")
    for path <- Mix.Project.config()[:package][:files], File.exists?(path), do: unpack!(path, Path.join(package, path))
    for name <- ["native", "bridge.lock"], do: File.rm_rf!(Path.join([package, "priv", name]))

    bin = Path.join(dir, "bin")
    File.mkdir!(bin)

    for name <- @programs,
        program = System.find_executable(name),
        do: script!(Path.join(bin, name), ~s(exec "#{program}" "$@"\n))

    %{package: package, bin: bin}
  end

  defp unpack!(path, target) do
    File.mkdir_p!(Path.dirname(target))
    File.cp_r!(path, target)
  end

  # As make wheels does, with what this build runs on. Packages need not keep the permission to run.
  defp add_native!(package) do
    folder = Path.join([package, "priv/native", Platform.current()])
    File.mkdir_p!(folder)
    priv = Application.app_dir(:pythonx, "priv")

    for part <- Native.parts(), target = Path.join(folder, Native.file(part)) do
      File.cp!(Native.path(priv, part), target)
      File.chmod!(target, 0o644)
    end

    sums = for part <- Native.parts(), do: "#{Compiler.source_hash("c_src/#{part}")}  #{part}\n"
    File.write!(Path.join(folder, "sources.sha256"), sums)
  end

  # With nothing of this project's own settings.
  defp compile(package, env) do
    env = [{"MIX_ENV", "prod"}, {"MIX_BUILD_PATH", nil}, {"PYTHONX_NATIVE", nil}, {"CC", nil}] ++ env
    System.cmd("mix", ["compile", "--warnings-as-errors"], cd: package, env: env, stderr_to_stdout: true)
  end

  # The loader serves its purpose, and the launcher is one.
  defp works?(package) do
    code = """
    Pythonx.Host.Lock.with_lock("lock", fn -> IO.puts("locked") end)
    launcher = Pythonx.Host.Native.path(Application.app_dir(:pythonx, "priv"), :launcher)
    {text, _status} = System.cmd(launcher, [], stderr_to_stdout: true)
    IO.write(text)
    """

    {output, 0} =
      System.cmd("elixir", ["-pa", "_build/prod/lib/pythonx/ebin", "-e", code], cd: package, stderr_to_stdout: true)

    output =~ "locked\nusage: pythonx_launcher"
  end

  test "has what it takes, and nothing of the project's own", %{package: package} do
    assert Enum.sort(File.ls!(package)) ==
             ~w(.formatter.exs CHANGELOG.md LICENSE README.md c_src guides lib mix.exs priv uv_templates)

    assert File.ls!(Path.join(package, "priv")) == ["python"]
    assert Mix.Project.config()[:version] == "0.4.11"
    assert ["priv/native", "priv/bridge.lock"] -- Mix.Project.config()[:package][:files] == []
    assert Mix.Project.config()[:deps] == []
  end

  test "compiles without a compiler, with what was built in advance", %{package: package, bin: bin} do
    add_native!(package)
    {output, status} = compile(package, [{"PATH", bin}])
    assert {status, output} == {0, output}
    assert output =~ "Generated pythonx app"
    assert Path.wildcard(Path.join(package, "priv/pythonx_l*")) == []
    assert works?(package)

    # What is compiled comes first, and goes again.
    {_output, 0} = compile(package, [{"PYTHONX_NATIVE", "compile"}])
    names = Enum.sort(for path <- Path.wildcard(Path.join(package, "priv/pythonx_l*")), do: Path.basename(path))
    assert names == ~w(pythonx_launcher pythonx_loader.key pythonx_loader.so)
    {_output, 0} = compile(package, [{"PATH", bin}])
    assert Path.wildcard(Path.join(package, "priv/pythonx_l*")) == []
  end

  test "compiles with a compiler where nothing was built in advance, or the sources are others", %{
    package: package,
    bin: bin
  } do
    {output, status} = compile(package, [{"PATH", bin}])
    assert status != 0
    assert output =~ "Pythonx needs make to compile its loader library. Install it, for example with: "

    {output, status} = compile(package, [{"PYTHONX_NATIVE", "wheel"}])
    assert status != 0

    assert output =~
             "PYTHONX_NATIVE is wheel, but priv/native has no loader for #{Platform.current()} that was built of these sources. " <>
               "Without PYTHONX_NATIVE it is compiled"

    {output, status} = compile(package, [])
    assert {status, output} == {0, output}
    assert works?(package)

    add_native!(package)
    File.write!(Path.join(package, "c_src/loader/loader.c"), "\n// changed\n", [:append])
    {_output, 0} = compile(package, [])
    assert File.exists?(Path.join(package, "priv/pythonx_loader.so"))
  end
end
