defmodule Mix.Tasks.Pythonx.Build do
  @shortdoc "Prebuilds the native bridge for Python versions"

  @moduledoc """
  Prebuilds the native bridge for one or more Pythons into `priv/bridge`.

      $ mix pythonx.build
      $ mix pythonx.build --python 3.12 --python 3.13
      $ mix pythonx.build --python /usr/bin/python3

  Pythonx compiles its bridge when it first meets a version of Python, and caches it for the user. Run this task before
  `mix release`, so that the release carries the bridge and the machine that it runs on needs neither a compiler nor
  headers. The bridge fits one minor version of Python, one platform and this version of Pythonx.

  ## Options

    * `--python` - a version such as `3.12` or `3.14t`, which uv looks for, or the path of an executable. May be given
      several times. By default the Python that `Pythonx.uv_init/2` takes when a project leaves it open

    * `--make-env` - builds nothing; prints the environment variables that c_src/bridge/Makefile needs, as arguments of
      `env`, for those who work on the bridge

  """
  use Mix.Task

  alias Pythonx.Boot.Bridge
  alias Pythonx.Host.Cache
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
    {opts, rest} = OptionParser.parse!(args, strict: [python: :keep, make_env: :boolean])
    if rest != [], do: Mix.raise("unexpected arguments: #{Enum.join(rest, " ")}. Name Pythons with --python")
    Mix.Task.run("loadpaths")
    Mix.Task.run("compile")

    for python <- pythons(opts), do: if(opts[:make_env], do: print_make_env(python), else: build(python))
    :ok
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

  defp build(python) do
    {tag, path} = Bridge.prebuild!(python)
    Mix.shell().info("#{Bridge.describe(tag)} (#{python}): #{Path.relative_to_cwd(path)}")
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
