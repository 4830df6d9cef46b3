defmodule Pythonx.Info do
  # What `Pythonx.info/0` tells.
  @moduledoc false

  alias Pythonx.Requirements.Running
  alias Pythonx.Uv.{Existing, State}

  @spec info() :: map()
  def info do
    running = Running.describe()
    {started, project, lock} = origin(State.get())

    %{
      version: running["version"],
      executable: running["executable"],
      environment: running["prefix"],
      base: running["base_prefix"],
      started_by: started,
      project: project,
      lock: lock,
      packages: packages(running["packages"]),
      requirements: for(declared <- State.owners(), do: Map.take(declared, [:owner, :dependencies, :requires_python])),
      added: for(%{site_packages: folder} <- Enum.reverse(State.added()), do: folder)
    }
  end

  defp packages(packages) do
    packages
    |> Enum.map(&%{name: &1["name"], version: &1["version"], path: &1["path"]})
    |> Enum.sort_by(& &1.name)
  end

  defp origin(nil), do: {:init, nil, nil}

  defp origin(%{pyproject_toml: {kind, path} = source}), do: {:existing, [{kind, path}], Existing.lock(source)}

  defp origin(%{pyproject_toml: toml, opts: opts, install_paths: [_root, dir]}) do
    lock = if opts[:lock], do: Path.join(dir, "uv.lock")
    {if(State.requirements?(), do: :requirements, else: :uv_init), toml, lock}
  end
end
