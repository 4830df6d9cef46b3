defmodule Pythonx.Application do
  @moduledoc false

  use Application

  alias Pythonx.Host.OS

  # What a release was built with must be what it runs with: reading it at compile time has Elixir check that.
  @project Pythonx.Uv.Config.parse!(Application.compile_env(:pythonx, :uv_init))

  @impl true
  def start(_type, _args) do
    Pythonx.Calls.Options.configure!(Application.get_env(:pythonx, :defaults, []))

    with {:ok, supervisor} <- start_services() do
      Pythonx.Integrations.Kino.implement()
      Pythonx.Reloader.start()
      # Python outlives the application, which may be stopped and started again.
      unless Pythonx.NIF.initialized?(), do: start_python()
      {:ok, supervisor}
    end
  end

  # The processes that Python needs.
  defp start_services do
    # The BEAM ignores SIGCHLD. Children that Python starts would then leave no exit status behind.
    if OS.posix?(OS.current()), do: :os.set_signal(:sigchld, :default)

    children = [
      Pythonx.Janitor,
      Pythonx.ObjectTracker,
      Pythonx.Calls.Callbacks,
      Pythonx.Calls.Awaits,
      Pythonx.Calls.Watch,
      Pythonx.Integrations.Logging,
      {DynamicSupervisor, name: Pythonx.Calls.Producers},
      {DynamicSupervisor, name: Pythonx.Pool.Workers},
      {DynamicSupervisor, name: Pythonx.Module.Pools},
      Pythonx.Pool.Handles,
      Pythonx.Pool.Atoms,
      {DynamicSupervisor, name: Pythonx.Requirements.Pools}
    ]

    Supervisor.start_link(children, strategy: :one_for_one, name: Pythonx.Supervisor)
  end

  # Defined in one way or the other, as the compiler sees through a condition that can never be true.
  case @project do
    {:requirements, opts} -> defp start_python, do: Pythonx.Requirements.start(unquote(opts))
    {toml, opts} -> defp start_python, do: Pythonx.Uv.init_from_priv(unquote(toml), unquote(opts))
    nil -> defp start_python, do: Pythonx.maybe_init_from_env()
  end
end
