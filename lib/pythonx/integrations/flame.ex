defmodule FLAME.Trackable.Pythonx.Object do
  # FLAME calls `track` in the parent, for what a function returned that ran on a runner. The runner stays up for as
  # long as one of the collected pids lives: the marker of the runner's tracker lives while the runner keeps anything
  # for anybody.
  @moduledoc false
  use Pythonx.Integrations.Implementation, protocol: FLAME.Trackable, for: Pythonx.Object

  @spec track(Pythonx.Object.t(), [pid()], node()) :: {Pythonx.Object.t(), [pid()]}
  def track(object, pids, _node) do
    case Pythonx.ObjectTracker.track_remote_object(object) do
      {:noop, object} -> {object, pids}
      {:ok, object, marker} -> {object, [marker | pids]}
    end
  end
end
