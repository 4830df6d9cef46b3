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

  alias Pythonx.Pool.{Options, Worker}
  alias Pythonx.Telemetry

  @first_delay_ms 100
  @last_delay_ms 5000

  defmodule Entry do
    # What is known of a worker. `lease` is who has it, `holder` the process if it has it for a function, `spent` whether the
    # worker must be replaced after that.
    @moduledoc false
    defstruct [
      :node,
      :monitor,
      :os_pid,
      :lease,
      :holder,
      :since,
      status: :starting,
      uses: 0,
      handles: 0,
      spent: false,
      retired: false
    ]
  end

  defstruct [
    :options,
    :environment,
    :name,
    :fill_timer,
    workers: %{},
    idle: [],
    queue: :queue.new(),
    queued: 0,
    pinned: 0,
    leases: %{},
    leased: 0,
    failures: [],
    draining: false,
    up: false,
    starts: 0,
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
    check_services!()
    environment = Options.environment!(options)
    Enum.each(options.nodes, &prepare!(&1, environment))
    state = %__MODULE__{options: options, environment: environment, name: options.name || self()}
    state |> fill() |> await_first()
  rescue
    error -> {:stop, {error, __STACKTRACE__}}
  catch
    {:stop, reason, _state} -> {:stop, reason}
  end

  defp check_services! do
    Process.whereis(Pythonx.Pool.Workers) || raise "the :pythonx application needs to be started before a pool is"
  end

  # Output of uv goes to whoever starts the pool.
  defp prepare!(:local, {toml, private?, opts}), do: Pythonx.Uv.prepare(toml, private?, opts)

  defp prepare!(node, {toml, private?, opts}) do
    :erpc.call(node, Pythonx.Uv, :prepare, [toml, private?, opts])
  rescue
    error in ErlangError ->
      case error.original do
        {:erpc, :noconnection} ->
          raise "the node #{inspect(node)} of the option :nodes cannot be reached"

        {:exception, %{__exception__: true} = reason, _stack} ->
          raise RuntimeError, "on the node #{inspect(node)}: #{Exception.message(reason)}"

        {:exception, :undef, [{Pythonx.Uv, _, _, _} | _]} ->
          raise "the node #{inspect(node)} of the option :nodes does not have Pythonx"

        _other ->
          reraise error, __STACKTRACE__
      end
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
    node = choose_node(state)

    case do_start(node, [self(), options, state.environment]) do
      {:ok, pid} ->
        entry = %Entry{node: node, monitor: Process.monitor(pid), since: System.monotonic_time(:millisecond)}
        %{state | workers: Map.put(state.workers, pid, entry), starts: state.starts + 1}

      {:error, reason} ->
        text = "could not start a worker on #{node}: #{describe_failure(reason)}"
        unless state.up, do: throw({:stop, {RuntimeError.exception("the pool " <> text), []}, state})
        Logger.error("the pool #{inspect(state.name)} " <> text)
        state |> count_failure(text) |> fill_later()
    end
  end

  defp describe_failure({%{__exception__: true} = error, _stack}), do: Exception.message(error)
  defp describe_failure(reason), do: inspect(reason)

  defp choose_node(%{options: %{nodes: [node]}}), do: node

  defp choose_node(%{options: options, workers: workers}) do
    up = Enum.filter(options.nodes, &(&1 in [:local | Node.list()]))

    Enum.min_by(if(up == [], do: options.nodes, else: up), fn node ->
      Enum.count(workers, &(elem(&1, 1).node == node))
    end)
  end

  defp do_start(:local, arguments), do: apply(Worker, :start, arguments)

  defp do_start(node, arguments) do
    :erpc.call(node, Worker, :start, arguments, 10_000)
  catch
    kind, reason -> {:error, {kind, reason}}
  end

  ## Calls

  @impl true
  def handle_call({:checkout, _need, _timeout, _hold?}, _from, %{draining: true} = state) do
    {:reply, {:error, :stopping}, state}
  end

  def handle_call({:checkout, need, timeout, hold?}, from, state) do
    case find_worker(need, state) do
      why when why in [:gone, :unknown] -> {:reply, {:error, why}, state}
      nil when timeout == 0 or state.queued >= state.options.max_queue -> overloaded(state)
      nil -> wait_in_line(from, need, timeout, hold?, state)
      worker -> {:noreply, from |> request(need, hold?) |> grant(worker, state)}
    end
  end

  def handle_call(:info, _from, state), do: {:reply, describe(state), state}

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

  # A number is smaller than any atom, so a line may be `:infinity` long.
  defp request({caller, _tag} = from, need, hold?) do
    holder = if hold?, do: caller
    lease = Process.monitor(caller)
    %{from: from, need: need, timer: nil, lease: lease, holder: holder, since: System.monotonic_time()}
  end

  defp wait_in_line({caller, _tag} = from, need, timeout, hold?, state) do
    if timeout == :infinity and deadlock?(caller, need, state),
      do: {:reply, {:error, :deadlock}, state},
      else: {:noreply, from |> request(need, hold?) |> enqueue(timeout, state)}
  end

  defp deadlock?(caller, need, state) do
    concerned? = fn pid, entry -> if need, do: pid == need, else: not entry.retired end
    busy = for {pid, %{lease: lease} = entry} <- state.workers, lease != nil, concerned?.(pid, entry), do: entry
    full? = need != nil or state.leased == state.options.size

    full? and Enum.any?(busy, &(&1.holder == caller)) and
      Enum.all?(busy, &(&1.holder == caller or waits_for_ever?(&1.holder, state)))
  end

  defp waits_for_ever?(holder, state) do
    holder != nil and Enum.any?(:queue.to_list(state.queue), &(elem(&1.from, 0) == holder and &1.timer == nil))
  end

  defp enqueue(%{lease: lease} = request, timeout, state) do
    timer = if timeout != :infinity, do: Process.send_after(self(), {:queue_timeout, lease}, timeout)
    queued = state.queued + 1
    Telemetry.execute([:pythonx, :pool, :queue], %{length: queued}, %{pool: state.name})
    queue = :queue.in(%{request | timer: timer}, state.queue)
    pinned = state.pinned + pinned(request)
    %{state | queue: queue, queued: queued, pinned: pinned, leases: Map.put(state.leases, lease, :queued)}
  end

  # How many in line want a worker of their own is counted, as the line may be long and has to be searched only for these.
  defp pinned(%{need: nil}), do: 0
  defp pinned(_request), do: 1

  defp overloaded(state), do: {:reply, {:error, :overloaded}, count(state, :overloads)}

  defp grant(request, worker, state) do
    if request.timer, do: Process.cancel_timer(request.timer)
    waited = System.monotonic_time() - request.since
    Telemetry.execute([:pythonx, :pool, :checkout], %{duration: waited}, %{pool: state.name, worker: worker})
    GenServer.reply(request.from, {:ok, worker, request.lease})
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
    Telemetry.execute([:pythonx, :pool, :worker, :start], %{}, %{pool: state.name, worker: pid, os_pid: os_pid})
    become_free(pid, %{entry | status: :ready, os_pid: os_pid}, state)
  end

  defp handle_event({:failed, text}, pid, entry, state) do
    Logger.error("the pool #{inspect(state.name)}: #{text}")
    state = put_in(state.workers[pid], %{entry | status: :failed})
    count_failure(state, text)
  end

  defp handle_event({:free, lease, handles}, pid, %{lease: lease} = entry, state) do
    Process.demonitor(lease, [:flush])
    entry = %{entry | lease: nil, holder: nil, handles: handles, uses: entry.uses + 1}
    leased = state.leased - if(entry.retired, do: 0, else: 1)
    state = count(%{state | leases: Map.delete(state.leases, lease), leased: leased}, :runs)
    become_free(pid, entry, state)
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
    metadata = %{pool: state.name, worker: pid, os_pid: entry.os_pid}
    Telemetry.execute([:pythonx, :pool, :worker, :stop], %{uses: entry.uses}, metadata)
    state |> fill() |> dispatch()
  end

  defp ended(%{status: :failed}, _reason, _stderr, _pid, state), do: fill_later(state)

  defp ended(entry, reason, stderr, pid, state) do
    metadata = %{pool: state.name, worker: pid, os_pid: entry.os_pid, reason: reason, stderr: stderr}
    Telemetry.execute([:pythonx, :pool, :crash], %{uses: entry.uses}, metadata)
    state = count(state, :crashes)

    # With work to do it may be the work's fault. A worker that dies without any will do so again, unless its node is gone.
    if entry.lease == nil and entry.uses == 0 and reason != {:down, :noconnection},
      do: state |> count_failure("a worker ended without having done anything, #{inspect(reason)}") |> fill_later(),
      else: state |> fill() |> dispatch()
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
    metadata = %{pool: state.name, worker: pid, os_pid: entry.os_pid}
    Telemetry.execute([:pythonx, :pool, :worker, :retire], %{handles: entry.handles}, metadata)

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
  defp dispatch(%{queued: 0} = state), do: state

  defp dispatch(state) do
    case find_pair(state) do
      nil -> state
      {request, worker} -> request |> grant(worker, remove(state, request)) |> dispatch()
    end
  end

  defp find_pair(state) do
    with {:value, %{need: nil} = request} <- :queue.peek(state.queue),
         worker when worker != nil <- find_worker(nil, state) do
      {request, worker}
    else
      # Where nobody has a wish, who is first is served or nobody.
      _ -> if state.pinned > 0, do: Enum.find_value(:queue.to_list(state.queue), &pair(&1, state))
    end
  end

  defp pair(request, state) do
    worker = find_worker(request.need, state)
    if is_pid(worker), do: {request, worker}
  end

  defp serve_pinned(state, pid) do
    case Enum.find(:queue.to_list(state.queue), &(&1.need == pid)) do
      nil -> state
      request -> grant(request, pid, remove(state, request))
    end
  end

  defp remove(state, %{lease: lease} = request) do
    queue =
      case :queue.peek(state.queue) do
        {:value, %{lease: ^lease}} -> :queue.drop(state.queue)
        _other -> :queue.filter(&(&1.lease != lease), state.queue)
      end

    pinned = state.pinned - pinned(request)
    %{state | queue: queue, queued: state.queued - 1, pinned: pinned, leases: Map.delete(state.leases, lease)}
  end

  defp refuse(state, which?, reason) do
    state.queue |> :queue.to_list() |> Enum.filter(which?) |> Enum.reduce(state, &refuse_one(&1, reason, &2))
  end

  defp refuse_one(request, reason, state) do
    if request.timer, do: Process.cancel_timer(request.timer)
    Process.demonitor(request.lease, [:flush])
    GenServer.reply(request.from, {:error, reason})
    remove(state, request)
  end

  ## Failures

  defp count_failure(state, text) do
    now = System.monotonic_time(:second)
    failures = [now | Enum.filter(state.failures, &(&1 > now - state.options.max_seconds))]
    state = %{state | failures: failures}
    if length(failures) > state.options.max_restarts, do: throw({:stop, {:workers_fail, text}, state})
    state
  end

  # Each failure makes the next attempt wait longer; there is one attempt at a time.
  defp fill_later(state) do
    delay = min(@first_delay_ms * 2 ** min(length(state.failures), 10), @last_delay_ms)
    if state.fill_timer, do: state, else: %{state | fill_timer: Process.send_after(self(), :fill, delay)}
  end

  defp count(state, what), do: %{state | counts: Map.update!(state.counts, what, &(&1 + 1))}

  ## Information

  defp describe(state) do
    workers = for {pid, entry} <- state.workers, do: describe_worker(pid, entry)

    Map.merge(state.counts, %{
      size: state.options.size,
      idle: length(state.idle),
      busy: Enum.count(workers, &(&1.status == :busy)),
      starting: Enum.count(workers, &(&1.status == :starting)),
      queued: state.queued,
      workers: Enum.sort_by(workers, & &1.pid)
    })
  end

  defp describe_worker(pid, entry) do
    %{
      pid: pid,
      node: node(pid),
      os_pid: entry.os_pid,
      status: status(entry),
      uses: entry.uses,
      handles: entry.handles,
      uptime: System.monotonic_time(:millisecond) - entry.since
    }
  end

  defp status(%{lease: lease}) when lease != nil, do: :busy
  defp status(%{status: :ready, retired: true}), do: :retired
  defp status(%{status: :ready}), do: :idle
  defp status(%{status: status}), do: status

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
