defmodule Mix.Tasks.Pythonx.Build do
  @shortdoc "Puts the native bridge for Python versions into priv"

  @moduledoc """
  Puts the native bridge for one or more Pythons into `priv/bridge`.

      $ mix pythonx.build
      $ mix pythonx.build --python 3.12 --python 3.13
      $ mix pythonx.build --python /usr/bin/python3
      $ mix pythonx.build --python 3.13 --platform manylinux_aarch64

  Pythonx installs or compiles its bridge when it first meets a version of Python, and caches it for the user. Run this task
  before `mix release`, so that the release carries the bridge and the machine that it runs on needs no network, compiler
  or headers. The bridge fits one minor version of Python, one platform and this version of Pythonx.

  It comes from a wheel where there is one, and is compiled otherwise; see the guide *Environments* for the choice.

  ## Options

    * `--python` - a version such as `3.12` or `3.14t`, which uv looks for, or the path of an executable. May be given
      several times. By default the Python that `Pythonx.uv_init/2` takes when a project leaves it open

    * `--platform` - the system that the release is for, where that is another than this one: one of
      #{Enum.map_join(Pythonx.Host.Platform.names(), ", ", &"`#{&1}`")}. May be given several times. Needs wheels

    * `--make-env` - builds nothing; prints the environment variables that c_src/bridge/Makefile needs, as arguments of
      `env`, for those who work on the bridge

  """
  use Mix.Task

  alias Pythonx.Boot.Bridge
  alias Pythonx.Host.{Cache, Native, Platform}
  alias Pythonx.Uv
  alias Pythonx.Uv.{Interpreter, Options, Project}

  @pyproject """
  [project]
  name = "pythonx-build"
  version = "0.0.0"
  requires-python = ">=3.10"
  """

  @impl true
  def run(args) do
    {opts, rest} = OptionParser.parse!(args, strict: [python: :keep, platform: :keep, make_env: :boolean])
    if rest != [], do: Mix.raise("unexpected arguments: #{Enum.join(rest, " ")}. Name Pythons with --python")
    Enum.each(Keyword.get_values(opts, :platform), &check_name!/1)
    Mix.Task.run("loadpaths")
    Mix.Task.run("compile")
    platforms = platforms(opts)

    for python <- pythons(opts), platform <- platforms do
      if opts[:make_env], do: print_make_env(python), else: build(python, platform)
    end

    :ok
  end

  defp check_name!(name) do
    if name not in Platform.names() do
      Mix.raise("there is no platform #{name}, only #{Enum.join(Platform.names(), ", ")}")
    end
  end

  # `nil` is this one.
  defp platforms(opts) do
    case opts |> Keyword.get_values(:platform) |> Enum.map(&if(&1 != Platform.current(), do: &1)) do
      [] ->
        [nil]

      platforms ->
        for name <- platforms, name != nil, do: check_native!(name)
        platforms
    end
  end

  # What is compiled is for this machine, and would come first on the other.
  defp check_native!(platform) do
    priv = Application.app_dir(:pythonx, "priv")

    case Enum.find(
           Native.parts(),
           &(not File.regular?(Path.join(Native.prebuilt_dir(priv, platform), Native.file(&1))))
         ) do
      nil ->
        if File.exists?(Path.join(priv, Native.file(:loader))) do
          Mix.raise(
            "the loader of Pythonx was compiled for this machine, a release for #{platform} needs that of priv/native"
          )
        end

      part ->
        Mix.raise(
          "priv/native has no #{part} for #{platform}. It comes with the package, and in a checkout from make wheels"
        )
    end
  end

  defp pythons(opts) do
    case Keyword.get_values(opts, :python) do
      [] -> [choose(nil)]
      names -> Enum.map(names, &resolve/1)
    end
  end

  defp resolve(name) do
    cond do
      name =~ ~r/\A3\.\d+(\.\d+)?t?\z/ -> choose(name)
      path = System.find_executable(name) -> path
      true -> Mix.raise("there is no Python executable #{name}")
    end
  end

  # The Python that uv_init would take, which may be downloaded.
  defp choose(version) do
    project = Project.new(@pyproject, false, Options.validate!(python: version))
    dir = Cache.temporary_beside(project.dir)
    Cache.mkdir!(dir)
    Cache.mkdir!(project.python_dir)

    try do
      Cache.write!(Path.join(dir, "pyproject.toml"), @pyproject)
      choose_in!(project, dir)
    after
      File.rm_rf(dir)
    end
  end

  defp choose_in!(project, dir) do
    with {:ok, uv} <- Uv.find_uv(), {:ok, python} <- Interpreter.choose(uv, project, dir) do
      python.executable
    else
      {:error, reason} when is_binary(reason) -> Mix.raise(reason)
      {:error, _nothing_said} -> Mix.raise("uv found no such Python, see its output above")
    end
  end

  defp build(python, platform) do
    {tag, path} = Bridge.prebuild!(python, platform: platform)
    where = if platform, do: " on #{platform}", else: " (#{python})"
    Mix.shell().info("#{Bridge.describe(tag)}#{where}: #{Path.relative_to_cwd(path)}")
  end

  # For the shell's eval: folders may hold spaces.
  defp print_make_env(python) do
    python
    |> Bridge.make_env!()
    |> Enum.map_join(" ", fn {name, value} -> "#{name}=#{shell_quote(value)}" end)
    |> Mix.shell().info()
  end

  defp shell_quote(text), do: "'" <> String.replace(text, "'", "'\\''") <> "'"
end
