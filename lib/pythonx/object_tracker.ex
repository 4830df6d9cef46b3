defmodule Pythonx.ObjectTracker do
  # Distributed reference counting: a Python object lives for as long as any node holds a handle to it.
  #
  # A handle that comes to another node is a plain reference there, which keeps nothing alive. So the node that holds
  # it has it tracked: the owner's tracker keeps the resource until the holder says that its copy was collected, or is
  # gone. Each node has one tracker, and each is both an owner for others and a holder.
  #
  # Who owns what:
  #
  #   * The holder's process gives the handle a notifier (`remote_info`), a reference that exists on its node only.
  #     Processes that copy the handle copy the notifier. When the last copy has been collected, the ledger is told.
  #   * `Pythonx.ObjectTracker.Ledger` owns the tables, which so survive a tracker that crashes: what this node holds
  #     ("held"), who may keep something for it ("keepers"), and what it keeps for others ("kept").
  #   * The tracker owns the conversations with other trackers, and nothing that cannot be rebuilt from those tables.
  #
  # What is said. A holder is known to owners by its ledger, an entry by a number that the holder chose, so that each
  # message may arrive twice without harm. All of a holder's messages to an owner come from its tracker, hence in
  # order:
  #
  #     holder -> owner   {:track, tracker, ledger, seq, :all | :more, [{id, resource}]}
  #     owner -> holder   {:tracked, node, seq, marker, [id of a resource that is no more]}
  #     holder -> owner   {:untrack, tracker, ledger, [id]}
  #     owner -> holder   {:done, node}
  #
  # `:all` is said first, and again whenever a message may have been lost: it makes what the owner keeps exactly this.
  # That may be nothing; an owner says `:done` when it keeps nothing more for the holder, until then it may.
  # An answer to a number answers all before it. Neither side waits for the other, only callers do.
  #
  # When the connection breaks, each side tries once to talk to the same process of the other again, which Erlang
  # answers by connecting. If the other node is there, nothing was lost; if not, the owner drops what it kept for it.
  # A node that comes back later is told again what this one still holds. What the owner has no more by then it can
  # only say when it is used.
  #
  # A collected handle costs one message, to the ledger of its node. What leaves the node are batches.
  @moduledoc false

  use GenServer

  alias Pythonx.NIF
  alias Pythonx.Object
  alias Pythonx.ObjectTracker.Kept
  alias Pythonx.ObjectTracker.Ledger

  # An owner's tracker that crashed is back within milliseconds; an application that was stopped is not.
  @reopen_attempts 10
  @reopen_delay 50

  ## For callers

  @doc """
  The child of the application's supervisor: the ledger and, after it, the tracker.
  """
  @spec child_spec(term()) :: Supervisor.child_spec()
  def child_spec(_opts) do
    children = [Ledger, %{id: __MODULE__, start: {__MODULE__, :start_link, [[]]}}]
    options = [strategy: :rest_for_one, max_restarts: 20, max_seconds: 5]
    %{id: __MODULE__, type: :supervisor, start: {Supervisor, :start_link, [children, options]}}
  end

  @doc """
  Starts the tracker of this node, registered under the name of this module. The ledger must run.
  """
  @spec start_link(term()) :: GenServer.on_start()
  def start_link(_opts), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)

  @doc """
  Has the owner of a remote object keep it for this node.

  Returns `{:ok, object, marker}` with the object to use from now on and a process on the owner that lives for as long
  as the owner keeps anything for anybody; `{:noop, object}` for an object of this node and for one that it tracks
  already.

  Raises `ArgumentError` for an object that the owner has collected, exits when the owner cannot be reached.
  """
  @spec track_remote_object(Object.t()) :: {:noop, Object.t()} | {:ok, Object.t(), pid()}
  def track_remote_object(%{__struct__: Object} = object) do
    case track_remote_objects([object]) do
      {[object], nil} -> {:noop, object}
      {[object], marker} -> {:ok, object, marker}
    end
  end

  @doc """
  Does the same for many objects at once, all of them of one owner or of this node. The marker is `nil` when there was
  nothing to do.
  """
  @spec track_remote_objects([Object.t()]) :: {[Object.t()], pid() | nil}
  def track_remote_objects(objects) do
    case Enum.reject(objects, &known?/1) do
      [] ->
        {objects, nil}

      [%{resource: resource} | _] ->
        tracker = whereis!()
        {objects, ids} = objects |> Enum.map(&hold/1) |> Enum.unzip()
        marker = register!(tracker, node(resource), Enum.reject(ids, &is_nil/1))
        {identity(objects), marker}
    end
  end

  defp known?(%{resource: resource, remote_info: info}), do: node(resource) == node() or (info && node(info) == node())

  # In the holder's process: in another's, garbage would keep the notifier. The entry is made last, when the notifier
  # that removes it is sure to outlive this line.
  defp hold(object) do
    if known?(object) do
      {object, nil}
    else
      owner = node(object.resource)
      id = System.unique_integer([:positive])
      notifier = notifier!(Ledger.whereis!(), {:local_gc, owner, id})
      Ledger.hold(owner, id, object.resource)
      {%{object | remote_info: notifier}, id}
    end
  end

  defp notifier!(ledger, message) do
    case NIF.Loader.gc_notifier(ledger, message) do
      {:error, reason} -> raise reason
      notifier -> notifier
    end
  end

  defp register!(tracker, owner, ids) do
    case GenServer.call(tracker, {:register, owner, ids}, :infinity) do
      {:ok, marker} -> marker
      {:stale, resource} -> NIF.stale!(resource)
      {:error, reason} -> exit(reason)
    end
  end

  @doc """
  Returns when what the caller's node has collected is on its way to the owners, and what it keeps for others is no
  more than it has been told. Does nothing where there is no tracker.
  """
  @spec sync() :: :ok
  def sync() do
    if Process.whereis(__MODULE__) do
      let_destructors_run()
      Ledger.flush()
      GenServer.call(__MODULE__, :sync, :infinity)
    end

    :ok
  catch
    # It is being restarted and will begin with what it would have done now.
    :exit, _reason -> :ok
  end

  @doc """
  How many handles of other nodes this node holds, and how many of its own it keeps for others.
  """
  @spec counts() :: %{held: non_neg_integer(), kept: non_neg_integer()}
  def counts(), do: %{held: Ledger.held_count(), kept: Kept.count()}

  @doc """
  The tracker's pid; exits when there is none.
  """
  @spec whereis!() :: pid()
  def whereis!(), do: Process.whereis(__MODULE__) || exit({:noproc, {__MODULE__, :whereis!, []}})

  @doc """
  Returns its argument. A call from outside this module keeps the term alive up to there.
  """
  @spec identity(term) :: term when term: term()
  def identity(term), do: term

  ## The process
  #
  # State:
  #
  #   * sessions: owner => %{monitor, attempts, pending}, with pending callers as `{seq, from, ids}`, the newest first.
  #     There is no monitor between two attempts
  #   * holders: ledger => monitor
  #   * probed: the ledgers whose connection broke and who have not been heard of since
  #   * seq: the number of the last `:track` message

  @impl true
  def init(nil) do
    :net_kernel.monitor_nodes(true, node_type: :all)
    state = %{sessions: %{}, holders: %{}, probed: MapSet.new(), seq: 0}
    state = Enum.reduce(Kept.holders(), state, &monitor_holder(&2, &1))
    {:ok, Enum.reduce(Ledger.keepers(), state, &open(&2, &1, 0, []))}
  end

  @impl true
  def handle_call({:register, owner, ids}, from, state) do
    state = %{state | seq: state.seq + 1}
    request = {state.seq, from, ids}

    case state.sessions do
      %{^owner => %{monitor: nil} = session} ->
        {:noreply, put_session(state, owner, %{session | pending: [request | session.pending]})}

      %{^owner => session} ->
        tell(owner, {:track, self(), Ledger.whereis!(), state.seq, :more, Ledger.entries(owner, ids)})
        {:noreply, put_session(state, owner, %{session | pending: [request | session.pending]})}

      _none ->
        {:noreply, open(state, owner, 0, [request])}
    end
  end

  def handle_call(:sync, _from, state), do: {:reply, :ok, state}

  # As a holder.

  @impl true
  def handle_info({:dropped, owners}, state) do
    ledger = Ledger.whereis!()
    # Where there is no session, the next one begins with what is held then.
    for {owner, ids} <- owners, is_map_key(state.sessions, owner), do: tell(owner, {:untrack, self(), ledger, ids})
    {:noreply, state}
  end

  def handle_info({:tracked, owner, seq, marker, stale}, state) do
    case state.sessions do
      %{^owner => session} ->
        {pending, answered} = Enum.split_while(session.pending, fn {number, _from, _ids} -> number > seq end)
        for {_seq, from, ids} <- answered, do: GenServer.reply(from, answer(owner, ids, marker, stale))
        {:noreply, put_session(state, owner, %{session | attempts: 0, pending: pending})}

      _closed ->
        {:noreply, state}
    end
  end

  def handle_info({:done, owner}, state) do
    case state.sessions do
      %{^owner => %{pending: []} = session} -> {:noreply, finish_unless_held(state, owner, session)}
      _other -> {:noreply, state}
    end
  end

  def handle_info({:reopen, owner}, state) do
    case state.sessions do
      %{^owner => %{monitor: nil} = session} -> {:noreply, open(state, owner, session.attempts, session.pending)}
      _other -> {:noreply, state}
    end
  end

  def handle_info({:nodeup, node, _info}, state) do
    if is_map_key(state.sessions, node) or not (Ledger.owner?(node) or Ledger.keeper?(node)) do
      {:noreply, state}
    else
      {:noreply, open(state, node, 0, [])}
    end
  end

  # As an owner.

  def handle_info({:track, tracker, ledger, seq, mode, entries}, state) when is_pid(ledger) do
    state = %{monitor_holder(state, ledger) | probed: MapSet.delete(state.probed, ledger)}
    {stale, alive} = Enum.split_with(entries, fn {_id, resource} -> stale?(resource) end)
    if mode == :all, do: Kept.keep_only(ledger, alive), else: Kept.keep(ledger, alive)
    marker = Kept.update_marker()
    send(tracker, {:tracked, node(), seq, marker, Enum.map(stale, &elem(&1, 0))})
    # An `:all` may have ended what was kept.
    collect()
    {:noreply, say_if_done(state, tracker, ledger)}
  end

  def handle_info({:untrack, tracker, ledger, ids}, state) when is_pid(tracker) and is_pid(ledger) and is_list(ids) do
    Kept.drop(ledger, ids)
    Kept.update_marker()
    collect()
    {:noreply, say_if_done(state, tracker, ledger)}
  end

  def handle_info({:DOWN, _monitor, :process, {__MODULE__, owner}, reason}, state) do
    case state.sessions do
      %{^owner => session} -> {:noreply, session_down(state, owner, session, reason)}
      _closed -> {:noreply, state}
    end
  end

  def handle_info({:DOWN, monitor, :process, ledger, reason}, state) do
    case state.holders do
      %{^ledger => ^monitor} -> {:noreply, holder_down(state, ledger, reason)}
      _other -> {:noreply, state}
    end
  end

  def handle_info(_unknown, state), do: {:noreply, state}

  ## Sessions with owners

  # Begins a session by saying all that is held, what `pending` is about included.
  defp open(state, owner, attempts, pending) do
    state = %{state | seq: state.seq + 1}
    monitor = Process.monitor({__MODULE__, owner})
    Ledger.keeper(owner)
    tell(owner, {:track, self(), Ledger.whereis!(), state.seq, :all, Ledger.entries(owner)})
    put_session(state, owner, %{monitor: monitor, attempts: attempts, pending: pending})
  end

  defp session_down(state, owner, session, reason) do
    cond do
      session.attempts == 0 and reason == :noconnection ->
        # The next failure is the last.
        open(state, owner, @reopen_attempts, session.pending)

      session.attempts < @reopen_attempts and reason != :noconnection ->
        Process.send_after(self(), {:reopen, owner}, @reopen_delay)
        put_session(state, owner, %{session | monitor: nil, attempts: session.attempts + 1})

      true ->
        for {_seq, from, _ids} <- session.pending, do: GenServer.reply(from, {:error, reason})
        close(state, owner)
    end
  end

  defp answer(owner, ids, marker, stale) do
    case Enum.find(ids, &(&1 in stale)) do
      nil -> {:ok, marker}
      id -> {:stale, Ledger.resource(owner, id)}
    end
  end

  defp tell(owner, message), do: send({__MODULE__, owner}, message)

  defp put_session(state, owner, session), do: put_in(state.sessions[owner], session)

  # With an owner that cannot be reached. The ledger knows that it may keep something still.
  defp close(state, owner), do: %{state | sessions: Map.delete(state.sessions, owner)}

  # What is held by now, the owner had not been told of when it said that it was done.
  defp finish_unless_held(state, owner, session) do
    if Ledger.owner?(owner) do
      state
    else
      session.monitor && Process.demonitor(session.monitor, [:flush])
      Ledger.keeper_done(owner)
      close(state, owner)
    end
  end

  ## Holders

  defp monitor_holder(state, ledger) when is_map_key(state.holders, ledger), do: state
  defp monitor_holder(state, ledger), do: put_in(state.holders[ledger], Process.monitor(ledger))

  defp holder_down(state, ledger, reason) do
    state = %{state | holders: Map.delete(state.holders, ledger)}

    if reason == :noconnection and ledger not in state.probed do
      monitor_holder(%{state | probed: MapSet.put(state.probed, ledger)}, ledger)
    else
      Kept.drop_all(ledger)
      Kept.update_marker()
      collect()
      %{state | probed: MapSet.delete(state.probed, ledger)}
    end
  end

  defp say_if_done(state, tracker, ledger) do
    if Kept.holder?(ledger) do
      state
    else
      send(tracker, {:done, node()})
      {monitor, holders} = Map.pop(state.holders, ledger)
      monitor && Process.demonitor(monitor, [:flush])
      %{state | holders: holders}
    end
  end

  # What was kept is gone from the table, but messages that named it are garbage of this process still.
  defp collect() do
    :erlang.garbage_collect()
    let_destructors_run()
  end

  # The VM runs destructors of what a process has collected when it next looks for a process to run on that scheduler.
  defp let_destructors_run(), do: :erlang.yield()

  # A reference that has lost its resource is a number that nobody can do anything with.
  defp stale?(resource) do
    not NIF.local_object?(%Object{resource: resource, remote_info: nil})
  rescue
    RuntimeError -> true
  end
end
