# A double: the protocol of this name in FLAME, as far as Pythonx needs it. FLAME itself is no dependency.
defprotocol FLAME.Trackable do
  @moduledoc false

  @fallback_to_any true
  @spec track(term(), [pid()], node()) :: {term(), [pid()]}
  def track(data, pids, node)
end

defimpl FLAME.Trackable, for: List do
  def track(list, pids, node), do: Enum.map_reduce(list, pids, &FLAME.Trackable.track(&1, &2, node))
end

defimpl FLAME.Trackable, for: Any do
  def track(other, pids, _node), do: {other, pids}
end
