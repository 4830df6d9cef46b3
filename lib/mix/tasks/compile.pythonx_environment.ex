defmodule Mix.Tasks.Compile.PythonxEnvironment do
  # Installs what the compile-time configuration names (see `Pythonx.Uv.Config`) into the priv of this application: the
  # environment and its Python into priv/uv, the bridge for it into priv/bridge. A release takes priv along, and needs
  # neither uv nor a compiler nor a network then.
  #
  # Runs after Elixir has compiled the modules that do it. What is there already is left alone.
  @moduledoc false
  use Mix.Task.Compiler

  alias Pythonx.Boot.Bridge
  alias Pythonx.Uv

  @impl true
  def run(_args) do
    case Uv.Config.parse!(Application.get_env(:pythonx, :uv_init)) do
      nil -> {:noop, []}
      # What libraries ask for is known when they are compiled: see `Pythonx.Requirements.release/1`.
      {:requirements, _opts} -> {:noop, []}
      {toml, opts} -> install(toml, opts)
    end
  end

  defp install(toml, opts) do
    :ok = Uv.fetch(toml, true, opts)
    {_tag, _path} = Bridge.prebuild!(Uv.priv_python(toml, opts))
    {:ok, []}
  rescue
    error in [RuntimeError, ArgumentError, File.Error] ->
      Mix.raise("Pythonx could not install what config :pythonx, :uv_init asks for: #{Exception.message(error)}")
  end

  @impl true
  def clean do
    for name <- ["uv", "uv-isolated", "bridge"],
        do: [Mix.Project.app_path(), "priv", name] |> Path.join() |> File.rm_rf!()

    :ok
  end
end
