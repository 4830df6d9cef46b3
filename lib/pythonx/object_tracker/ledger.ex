defmodule Pythonx.ObjectTracker.Ledger do
  # The books of `Pythonx.ObjectTracker`, kept by a process that does too little to fail: it outlives trackers, and in
  # the eyes of other nodes it is this holder.
  #
  # It owns the tables. "Held" has a row `{{owner, id}, resource}` for each handle of another node that this one holds.
  # The process that gets such a handle adds the row; this process removes it when the handle's notifier has been
  # collected, and tells the tracker, many at a time. "Keepers" has a row `{node}` for each node that may keep something
  # for this one, and is written by the tracker. "Kept" is the business of `Pythonx.ObjectTracker.Kept`.
  @moduledoc false

  use GenServer

  alias Pythonx.ObjectTracker.Kept

  @held Pythonx.ObjectTracker.Held
  @keepers Pythonx.ObjectTracker.Keepers

  # Long enough for one message to speak for all that one garbage collection drops, and not felt by anybody.
  @batch_ms 1

  @spec start_link(term()) :: GenServer.on_start()
  def start_link(_opts), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)

  @doc "The process; exits when there is none."
  @spec whereis!() :: pid()
  def whereis!(), do: Process.whereis(__MODULE__) || exit({:noproc, {__MODULE__, :whereis!, []}})

  @doc "Notes that this node holds a handle."
  @spec hold(node(), pos_integer(), reference()) :: true
  def hold(owner, id, resource), do: :ets.insert(@held, {{owner, id}, resource})

  @doc "Tells the tracker of everything that has been collected so far."
  @spec flush() :: :ok
  def flush(), do: GenServer.call(__MODULE__, :flush, :infinity)

  @doc "What this node holds of an owner, as `{id, resource}`."
  @spec entries(node()) :: [{pos_integer(), reference()}]
  def entries(owner), do: :ets.select(@held, [{{{owner, :"$1"}, :"$2"}, [], [{{:"$1", :"$2"}}]}])

  @doc "The same for some ids; without those that have been collected already."
  @spec entries(node(), [pos_integer()]) :: [{pos_integer(), reference()}]
  def entries(owner, ids) do
    for id <- ids, resource = resource(owner, id), do: {id, resource}
  end

  @doc "The resource of one entry."
  @spec resource(node(), pos_integer()) :: reference() | nil
  def resource(owner, id) do
    case :ets.lookup(@held, {owner, id}) do
      [{_key, resource}] -> resource
      [] -> nil
    end
  end

  @doc "Whether this node holds anything of that one."
  @spec owner?(node()) :: boolean()
  def owner?(node), do: match?({^node, _id}, :ets.next(@held, {node, 0}))

  @doc "Notes that a node may keep something for this one."
  @spec keeper(node()) :: true
  def keeper(node), do: :ets.insert(@keepers, {node})

  @doc "Notes that it keeps nothing any more."
  @spec keeper_done(node()) :: true
  def keeper_done(node), do: :ets.delete(@keepers, node)

  @doc "Whether a node may keep something for this one."
  @spec keeper?(node()) :: boolean()
  def keeper?(node), do: :ets.member(@keepers, node)

  @doc "The nodes that may keep something for this one."
  @spec keepers() :: [node()]
  def keepers(), do: :ets.select(@keepers, [{{:"$1"}, [], [:"$1"]}])

  @doc "How many handles this node holds."
  @spec held_count() :: non_neg_integer()
  def held_count(), do: :ets.info(@held, :size)

  @impl true
  def init(nil) do
    :ets.new(@held, [:named_table, :public, :ordered_set])
    :ets.new(@keepers, [:named_table, :public])
    Kept.new()
    {:ok, %{dropped: %{}, timer: nil}}
  end

  @impl true
  def handle_call(:flush, _from, state), do: {:reply, :ok, tell_tracker(state)}

  @impl true
  def handle_info({:local_gc, owner, id}, state) do
    :ets.delete(@held, {owner, id})
    timer = state.timer || Process.send_after(self(), :tell_tracker, @batch_ms)
    {:noreply, %{state | dropped: Map.update(state.dropped, owner, [id], &[id | &1]), timer: timer}}
  end

  def handle_info(:tell_tracker, state), do: {:noreply, tell_tracker(state)}
  def handle_info(_unknown, state), do: {:noreply, state}

  # A tracker that is not there just now begins with the table.
  defp tell_tracker(%{timer: nil} = state), do: state

  defp tell_tracker(state) do
    Process.cancel_timer(state.timer)
    tracker = Process.whereis(Pythonx.ObjectTracker)
    tracker && send(tracker, {:dropped, state.dropped})
    %{dropped: %{}, timer: nil}
  end
end

defmodule Pythonx.ObjectTracker.Kept do
  # What this node keeps alive for others: a table with a row `{{ledger, id}, resource}` for each handle that another
  # node holds. A row is all that keeps the resource. The ledger owns the table, the tracker alone writes it.
  #
  # While there is a row, there is a marker: a process that does nothing but live. Who wants to know whether anybody
  # needs this node monitors it.
  @moduledoc false

  alias Pythonx.ObjectTracker.Ledger

  @kept __MODULE__
  @marker Pythonx.ObjectTracker.Marker

  @type id :: pos_integer()

  @spec new() :: atom()
  def new(), do: :ets.new(@kept, [:named_table, :public, :ordered_set])

  @spec keep(pid(), [{id(), reference()}]) :: true
  def keep(ledger, entries) do
    :ets.insert(@kept, Enum.map(entries, fn {id, resource} -> {{ledger, id}, resource} end))
  end

  @doc "Keeps these, and nothing else for that ledger."
  @spec keep_only(pid(), [{id(), reference()}]) :: true
  def keep_only(ledger, entries) do
    drop_all(ledger)
    keep(ledger, entries)
  end

  @doc "Drops some; those that are not kept are none of our business."
  @spec drop(pid(), [id()]) :: :ok
  def drop(ledger, ids), do: Enum.each(ids, &:ets.delete(@kept, {ledger, &1}))

  @spec drop_all(pid()) :: true
  def drop_all(ledger), do: :ets.match_delete(@kept, {{ledger, :_}, :_})

  @spec holder?(pid()) :: boolean()
  def holder?(ledger), do: match?({^ledger, _id}, :ets.next(@kept, {ledger, 0}))

  @doc "The ledgers that anything is kept for."
  @spec holders() :: [pid()]
  def holders(), do: holders(:ets.first(@kept))

  # Numbers come before atoms, so this is the first key of the next ledger.
  defp holders({ledger, _id}), do: [ledger | holders(:ets.next(@kept, {ledger, :end}))]
  defp holders(:"$end_of_table"), do: []

  @spec count() :: non_neg_integer()
  def count(), do: :ets.info(@kept, :size)

  @doc """
  Starts or ends the marker as the table demands; returns the marker, or `nil` when there is none.
  """
  @spec update_marker() :: pid() | nil
  def update_marker() do
    case {count(), Process.whereis(@marker)} do
      {0, nil} -> nil
      {0, marker} -> end_marker(marker)
      {_some, nil} -> start_marker()
      {_some, marker} -> marker
    end
  end

  # It watches the ledger, with which the table ends. A link could take the ledger down.
  defp start_marker() do
    ledger = Ledger.whereis!()
    marker = spawn(fn -> live_until_told_or_down(Process.monitor(ledger)) end)
    Process.register(marker, @marker)
    marker
  end

  defp live_until_told_or_down(monitor) do
    receive do
      :end -> :ok
      {:DOWN, ^monitor, :process, _ledger, _reason} -> :ok
    end
  end

  # The name goes at once, so that what is tracked next gets a marker with a life before it.
  defp end_marker(marker) do
    Process.unregister(@marker)
    send(marker, :end)
    nil
  end
end
