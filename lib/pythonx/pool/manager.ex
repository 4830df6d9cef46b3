defmodule Pythonx.Pool.Manager do
  # The pool: starts workers, gives them out and takes them back. What is evaluated does not pass through here.
  #
  # A caller asks for a lease, which is a reference: the monitor of the caller. It gets a worker at once, or waits in line.
  # The worker says when the lease is over (see `Pythonx.Pool.Worker`); when the caller dies, it is told so. At most `size`
  # workers are out at a time; spares are warm, for when one of them dies.
  #
  # A worker whose uses are up while objects of it are held becomes a retired one: beside the `size`, and given only to who
  # needs those objects. It is stopped when the last is let go of.
  @moduledoc false

  use GenServer

  require Logger

  alias Pythonx.Pool.{Entry, Failures, Info, Line, Nodes, Options, Sandbox, Worker}
  alias Pythonx.Telemetry

  defstruct [
    :options,
    :plans,
    :sandbox,
    :name,
    :failures,
    :fill_timer,
    workers: %{},
    idle: [],
    line: %Line{},
    leases: %{},
    leased: 0,
    draining: false,
    up: false,
    counts: %{runs: 0, crashes: 0, overloads: 0}
  ]

  @spec start_link(map()) :: GenServer.on_start()
  def start_link(%{name: nil} = options), do: GenServer.start_link(__MODULE__, options)
  def start_link(options), do: GenServer.start_link(__MODULE__, options, name: options.name)

  ## Start

  # It is up with its first worker. What keeps that from starting is told to whoever starts the pool.
  @impl true
  def init(options) do
    Process.flag(:trap_exit, true)
    Process.whereis(Pythonx.Pool.Workers) || raise "the :pythonx application needs to be started before a pool is"
    environment = Options.environment!(options)
    plans = Map.new(options.nodes, &{&1, Nodes.prepare!(&1, environment)})
    failures = Failures.new(options.max_restarts, options.max_seconds)
    name = options.name || self()
    sandbox = options.nodes |> Enum.map(&Nodes.examine!(&1, options.sandbox)) |> Sandbox.merge()
    state = %__MODULE__{options: options, plans: plans, name: name, failures: failures}
    %{state | sandbox: sandbox} |> fill() |> await_first()
  rescue
    error -> {:stop, {error, __STACKTRACE__}}
  catch
    {:stop, reason, _state} -> {:stop, reason}
  end

  defp await_first(state) do
    receive do
      {:worker, _pid, {:failed, text}} ->
        Enum.each(state.workers, fn {pid, _entry} -> GenServer.cast(pid, :stop) end)
        {:stop, {RuntimeError.exception(text), []}}

      {:DOWN, _ref, :process, pid, reason} when is_map_key(state.workers, pid) ->
        {:stop, {RuntimeError.exception("a worker ended while it started: #{inspect(reason)}"), []}}

      {:worker, _pid, {:ready, _os_pid}} = message ->
        {:noreply, state} = handle_info(message, %{state | up: true})
        {:ok, state}
    end
  end

  ## Workers

  # As many as there should be, on the nodes that have the fewest.
  defp fill(%{draining: true} = state), do: state

  defp fill(%{options: options, workers: workers} = state) do
    present = Enum.count(workers, fn {_pid, entry} -> not entry.retired end)
    missing = options.size + options.spares - present
    if missing > 0 and state.fill_timer == nil, do: state |> start_worker() |> fill(), else: state
  end

  defp start_worker(%{options: options} = state) do
    node = Nodes.choose(options.nodes, for({_pid, entry} <- state.workers, do: entry.node))

    case Nodes.start_worker(node, options, Map.fetch!(state.plans, node)) do
      {:ok, pid} ->
        put_worker(state, pid, Entry.new(node, pid))

      {:error, text} ->
        unless state.up, do: throw({:stop, {RuntimeError.exception("the pool " <> text), []}, state})
        Logger.error("the pool #{inspect(state.name)} " <> text)
        state |> count_failure(text) |> fill_later()
    end
  end

  ## Calls

  @impl true
  def handle_call({:checkout, _need, _timeout, _hold?}, _from, %{draining: true} = state) do
    {:reply, {:error, :stopping}, state}
  end

  # A number is smaller than any atom, so a line may be `:infinity` long.
  def handle_call({:checkout, need, timeout, hold?}, from, state) do
    case find_worker(need, state) do
      why when why in [:gone, :unknown] -> {:reply, {:error, why}, state}
      nil when timeout == 0 or state.line.length >= state.options.max_queue -> overloaded(state)
      nil -> wait_in_line(from, need, timeout, hold?, state)
      worker -> {:noreply, from |> Line.request(need, hold?) |> grant(worker, state)}
    end
  end

  def handle_call(:info, _from, state), do: {:reply, Info.describe(state), state}

  defp find_worker(nil, %{idle: [worker | _], leased: leased, options: %{size: size}}) when leased < size, do: worker
  defp find_worker(nil, _state), do: nil

  defp find_worker(need, state) do
    case state.workers do
      %{^need => %{lease: nil, status: :ready}} -> need
      %{^need => %{status: status}} when status not in [:stopping, :failed] -> nil
      %{^need => _ending} -> :gone
      _none -> :unknown
    end
  end

  defp wait_in_line({caller, _tag} = from, need, timeout, hold?, state) do
    if timeout == :infinity and deadlock?(caller, need, state),
      do: {:reply, {:error, :deadlock}, state},
      else: {:noreply, from |> Line.request(need, hold?) |> enqueue(timeout, state)}
  end

  defp deadlock?(caller, need, state) do
    concerned? = fn pid, entry -> if need, do: pid == need, else: not entry.retired end
    busy = for {pid, %{lease: lease} = entry} <- state.workers, lease != nil, concerned?.(pid, entry), do: entry
    full? = need != nil or state.leased == state.options.size

    full? and Enum.any?(busy, &(&1.holder == caller)) and
      Enum.all?(busy, &(&1.holder == caller or (&1.holder != nil and Line.waits_for_ever?(state.line, &1.holder))))
  end

  defp enqueue(%{lease: lease} = request, timeout, state) do
    line = Line.join(state.line, request, timeout)
    Telemetry.execute([:pythonx, :pool, :queue], %{length: line.length}, %{pool: state.name})
    %{state | line: line, leases: Map.put(state.leases, lease, :queued)}
  end

  defp overloaded(state), do: {:reply, {:error, :overloaded}, count(state, :overloads)}

  defp grant(request, worker, state) do
    waited = System.monotonic_time() - request.since
    Telemetry.execute([:pythonx, :pool, :checkout], %{duration: waited}, %{pool: state.name, worker: worker})
    GenServer.reply(request.from, {:ok, worker, request.lease, self()})
    entry = %{Map.fetch!(state.workers, worker) | lease: request.lease, holder: request.holder}

    %{
      state
      | workers: Map.put(state.workers, worker, entry),
        idle: List.delete(state.idle, worker),
        leases: Map.put(state.leases, request.lease, worker),
        leased: state.leased + if(entry.retired, do: 0, else: 1)
    }
  end

  @impl true
  def handle_cast({:returned, worker, lease}, state) do
    case state.workers do
      %{^worker => %{lease: ^lease}} -> {:noreply, put_in(state.workers[worker].holder, nil)}
      _other -> {:noreply, state}
    end
  end

  ## What workers say

  @impl true
  def handle_info({:worker, pid, event}, state) when is_map_key(state.workers, pid) do
    {:noreply, handle_event(event, pid, Map.fetch!(state.workers, pid), state)}
  catch
    {:stop, reason, state} -> {:stop, reason, state}
  end

  def handle_info({:queue_timeout, lease}, state) do
    case state.leases do
      %{^lease => :queued} -> {:noreply, state |> refuse(&(&1.lease == lease), :overloaded) |> count(:overloads)}
      _other -> {:noreply, state}
    end
  end

  def handle_info({:DOWN, ref, :process, _pid, _reason}, state) when is_map_key(state.leases, ref) do
    case Map.fetch!(state.leases, ref) do
      :queued -> {:noreply, refuse(state, &(&1.lease == ref), :dead)}
      worker -> {:noreply, tap(state, fn _state -> Worker.end_lease(worker, ref) end)}
    end
  end

  # A worker's process that could not say so itself.
  def handle_info({:DOWN, _ref, :process, pid, reason}, state) when is_map_key(state.workers, pid) do
    handle_info({:worker, pid, {:ended, {:down, reason}, ""}}, state)
  end

  def handle_info(:fill, state), do: {:noreply, fill(%{state | fill_timer: nil})}
  def handle_info({:EXIT, _pid, reason}, state) when reason != :normal, do: {:stop, reason, state}
  def handle_info(_other, state), do: {:noreply, state}

  defp handle_event({:ready, os_pid}, pid, entry, state) do
    entry = %{entry | status: :ready, os_pid: os_pid}
    tell([:worker, :start], %{}, pid, entry, state)
    become_free(pid, entry, state)
  end

  defp handle_event({:failed, text}, pid, entry, state) do
    Logger.error("the pool #{inspect(state.name)}: #{text}")
    state = put_in(state.workers[pid], %{entry | status: :failed})
    count_failure(state, text)
  end

  defp handle_event({:free, lease, handles}, pid, %{lease: lease} = entry, state) do
    state = state |> forget_lease(entry) |> count(:runs)
    become_free(pid, %{entry | lease: nil, holder: nil, handles: handles, uses: entry.uses + 1}, state)
  end

  defp handle_event({:free, _lease, _handles}, _pid, _entry, state), do: state
  defp handle_event(:spent, pid, entry, state), do: put_in(state.workers[pid], %{entry | spent: true})

  defp handle_event(:unpinned, pid, %{retired: true, lease: nil} = entry, state) do
    become_free(pid, %{entry | handles: 0}, state)
  end

  defp handle_event(:unpinned, pid, entry, state), do: put_in(state.workers[pid], %{entry | handles: 0})

  defp handle_event({:ended, reason, stderr}, pid, entry, state) do
    Process.demonitor(entry.monitor, [:flush])
    state = state |> forget_lease(entry) |> forget(pid) |> refuse(&(&1.need == pid), :gone)
    ended(entry, reason, stderr, pid, state)
  end

  # What it was told to do, it has done.
  defp ended(%{status: :stopping} = entry, _reason, _stderr, pid, state) do
    tell([:worker, :stop], %{uses: entry.uses}, pid, entry, state)
    state |> fill() |> dispatch()
  end

  defp ended(%{status: :failed}, _reason, _stderr, _pid, state), do: fill_later(state)

  defp ended(entry, reason, stderr, pid, state) do
    tell([:crash], %{uses: entry.uses}, pid, entry, state, %{reason: reason, stderr: stderr})
    state = count(state, :crashes)

    # With work to do it may be the work's fault. A worker that dies without any will do so again, unless its node is gone.
    if entry.lease == nil and entry.uses == 0 and reason != {:down, :noconnection},
      do: state |> count_failure("a worker ended without having done anything, #{inspect(reason)}") |> fill_later(),
      else: state |> fill() |> dispatch()
  end

  defp tell(event, measurements, pid, entry, state, more \\ %{}) do
    metadata = %{pool: state.name, worker: pid, os_pid: entry.os_pid}
    Telemetry.execute([:pythonx, :pool | event], measurements, Map.merge(metadata, more))
  end

  defp become_free(pid, entry, state) do
    retire = entry.retired or entry.spent or entry.uses >= state.options.max_uses

    cond do
      not retire -> dispatch(%{put_worker(state, pid, entry) | idle: [pid | List.delete(state.idle, pid)]})
      entry.handles == 0 -> stop_worker(pid, entry, state)
      true -> retire(pid, entry, state)
    end
  end

  defp put_worker(state, pid, entry), do: %{state | workers: Map.put(state.workers, pid, entry)}

  defp stop_worker(pid, entry, state) do
    GenServer.cast(pid, :stop)
    entry = %{entry | status: :stopping, retired: true}
    state = %{put_worker(state, pid, entry) | idle: List.delete(state.idle, pid)}
    # Whoever waited for it because of an object has dropped that.
    state |> refuse(&(&1.need == pid), :gone) |> fill()
  end

  defp retire(pid, %{retired: false} = entry, state) do
    tell([:worker, :retire], %{handles: entry.handles}, pid, entry, state)

    Logger.info(
      "the pool #{inspect(state.name)} replaces a worker after #{entry.uses} uses, " <>
        "and keeps it besides for the #{entry.handles} objects in it that are held"
    )

    entry = %{entry | retired: true}
    retire(pid, entry, fill(%{put_worker(state, pid, entry) | idle: List.delete(state.idle, pid)}))
  end

  defp retire(pid, entry, state), do: state |> put_worker(pid, entry) |> serve_pinned(pid)

  defp forget(state, pid), do: %{state | workers: Map.delete(state.workers, pid), idle: List.delete(state.idle, pid)}

  defp forget_lease(state, %{lease: nil}), do: state

  defp forget_lease(state, %{lease: lease, retired: retired}) do
    Process.demonitor(lease, [:flush])
    %{state | leases: Map.delete(state.leases, lease), leased: state.leased - if(retired, do: 0, else: 1)}
  end

  ## The line

  # Whoever is first in line and can be served, until nobody is.
  defp dispatch(state) do
    case Line.first(state.line, &find_worker(&1, state)) do
      nil -> state
      {request, worker} -> request |> grant(worker, remove(state, request)) |> dispatch()
    end
  end

  defp serve_pinned(state, pid) do
    case Line.first_for(state.line, pid) do
      nil -> state
      request -> grant(request, pid, remove(state, request))
    end
  end

  defp remove(state, request) do
    %{state | line: Line.leave(state.line, request), leases: Map.delete(state.leases, request.lease)}
  end

  defp refuse(state, which?, reason) do
    state.line |> Line.filter(which?) |> Enum.reduce(state, &refuse_one(&1, reason, &2))
  end

  defp refuse_one(request, reason, state) do
    Process.demonitor(request.lease, [:flush])
    GenServer.reply(request.from, {:error, reason})
    remove(state, request)
  end

  ## Failures

  defp count_failure(state, text) do
    state = %{state | failures: Failures.count(state.failures)}
    if Failures.too_many?(state.failures), do: throw({:stop, {:workers_fail, text}, state})
    state
  end

  # There is one attempt at a time.
  defp fill_later(state) do
    timer = state.fill_timer || Process.send_after(self(), :fill, Failures.delay(state.failures))
    %{state | fill_timer: timer}
  end

  defp count(state, what), do: %{state | counts: Map.update!(state.counts, what, &(&1 + 1))}

  ## End

  # Nothing new is taken. What waits and what runs may end, for a time.
  @impl true
  def terminate(_reason, state) do
    deadline = System.monotonic_time(:millisecond) + state.options.drain_timeout
    state = drain(%{state | draining: true}, deadline)
    Enum.each(state.workers, fn {pid, _entry} -> GenServer.cast(pid, :stop) end)
    await_workers(state.workers, deadline + state.options.kill_after)
  end

  defp drain(%{leases: leases} = state, _deadline) when leases == %{}, do: state

  defp drain(state, deadline) do
    receive do
      {:"$gen_call", from, message} ->
        case handle_call(message, from, state) do
          {:reply, reply, state} -> GenServer.reply(from, reply) && drain(state, deadline)
          {:noreply, state} -> drain(state, deadline)
        end

      {tag, _, _} = message when tag == :worker ->
        message |> handle_info(state) |> drained(deadline)

      {:DOWN, _, _, _, _} = message ->
        message |> handle_info(state) |> drained(deadline)
    after
      max(deadline - System.monotonic_time(:millisecond), 0) -> state
    end
  end

  defp drained({:noreply, state}, deadline), do: drain(state, deadline)
  defp drained({:stop, _reason, state}, _deadline), do: state

  # A worker's process ends with the pool's. Those that halt in time run their atexit handlers.
  defp await_workers(workers, _deadline) when workers == %{}, do: :ok

  defp await_workers(workers, deadline) do
    receive do
      {:DOWN, _ref, :process, pid, _reason} -> workers |> Map.delete(pid) |> await_workers(deadline)
    after
      max(deadline - System.monotonic_time(:millisecond), 0) -> :ok
    end
  end
end
