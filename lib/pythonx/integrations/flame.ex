defmodule FLAME.Trackable.Pythonx.Object do
  # What `defimpl FLAME.Trackable, for: Pythonx.Object` would compile to, written by hand. FLAME is no dependency of
  # ours and may be compiled before or after us, or not at all; `defimpl` needs the protocol to be there already.
  # Elixir finds the implementations of a protocol by the attribute `__impl__` in modules under the protocol's name,
  # so this one counts wherever FLAME is, before consolidation and in it. Without FLAME nobody calls it.
  #
  # FLAME calls `track` in the parent, for what a function returned that ran on a runner. The runner stays up for as
  # long as one of the collected pids lives: the marker of the runner's tracker lives while the runner keeps anything
  # for anybody.
  @moduledoc false

  Module.register_attribute(__MODULE__, :__impl__, persist: true)
  @__impl__ [protocol: FLAME.Trackable, for: Pythonx.Object]

  @spec track(Pythonx.Object.t(), [pid()], node()) :: {Pythonx.Object.t(), [pid()]}
  def track(object, pids, _node) do
    case Pythonx.ObjectTracker.track_remote_object(object) do
      {:noop, object} -> {object, pids}
      {:ok, object, marker} -> {object, [marker | pids]}
    end
  end

  @doc false
  @spec __impl__(:for | :protocol | :target) :: module()
  def __impl__(:for), do: Pythonx.Object
  def __impl__(:protocol), do: FLAME.Trackable
  def __impl__(:target), do: __MODULE__
end
