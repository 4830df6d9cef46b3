defmodule Pythonx.Application do
  @moduledoc false

  use Application

  @impl true
  def start(_type, _args) do
    # The BEAM ignores SIGCHLD. Children that Python starts would then leave no exit status behind.
    if match?({:unix, _}, :os.type()), do: :os.set_signal(:sigchld, :default)

    children = [Pythonx.Janitor, Pythonx.ObjectTracker, Pythonx.Callbacks, Pythonx.Watch]

    with {:ok, supervisor} <- Supervisor.start_link(children, strategy: :one_for_one, name: Pythonx.Supervisor) do
      Pythonx.maybe_init_from_env()
      {:ok, supervisor}
    end
  end
end
