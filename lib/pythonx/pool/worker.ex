defmodule Pythonx.Pool.Worker do
  # The process on this side that owns the connection to a worker, and is the worker to everybody else. It runs where the
  # worker runs: on another node if the pool has workers there.
  #
  # Its life: `starting` until Python runs with its initial code; then it serves; it stops with the worker, and the worker
  # with it. To the pool it sends `{:worker, pid, event}`:
  #
  #     {:ready, os_pid}            may be given out
  #     {:failed, text}             did not start; ends
  #     {:free, lease, handles}     the lease is over; so many objects are held
  #     :spent                      is to be replaced when the lease is over
  #     :unpinned                   none is held any more
  #     {:ended, reason, stderr}    gone
  #
  # A lease is a reference that the pool has made for whoever checked the worker out. A request is made for a lease. With `once:
  # true` the lease is over when its job is, unless that was only deferred; else the caller ends it. When the caller dies, the
  # pool says `{:abandoned, lease}`: the job is cancelled, then the lease is over. A request that is `nested` belongs to a function
  # that the worker itself has called, and needs no lease.
  #
  # Requests are native functions of the bridge by name: a `call` is answered by number, a `submit` by a message to its caller,
  # `{tag, reply}`, which is known here by its first bytes. Neither is decoded here.
  #
  # What it says is checked first; `Pythonx.Pool.External` has the rule. A message that begins and does not go on is one of
  # those that lie: nothing else would be heard any more.
  #
  # Once a worker is to be killed, nothing that it says counts any more.
  #
  # At its end the launcher says how much the worker has not read. A job of which that is a part has not begun, and is given to
  # another. A worker that is stopped takes nothing: it is asked for a sign of life when a job takes long, and killed without.
  #
  # A job that is over its time is cancelled. This process kills what has not come to rest `kill_after` later.
  #
  # Ownership of objects: the worker counts how often each was lent, and so does this process, in sum. They are held for the
  # caller until that has taken them (`:taken`) or died, then until `{:release, numbers}`. Functions of this VM are kept here until
  # the worker says that it has dropped them.
  #
  # Above 400 lines: it is one state machine, whose states are understood together.
  @moduledoc false

  use GenServer, restart: :temporary

  alias Pythonx.Calls.Callbacks
  alias Pythonx.Pool.{Command, CrashError, External, Frame, Reference, Start, Terms}

  # How long a connection may stay open on which no more messages can come, unless the worker has ended.
  @protocol_ms 500
  # How long a launcher may take to end.
  @end_ms 3000
  # How often to look whether a message goes on that has begun, and how often in vain.
  @stall_ms 1000
  @stalls 10
  # The bytes that a handle in a reply takes at least.
  @handle_bytes 30
  # As many as a worker may print to, and more.
  @devices 128
  # How many processes a worker may know before those that are gone are forgotten.
  @pids 10_000
  @monitors 100_000
  # A message of more bytes is not left to lie about.
  @large 1_000_000
  # How long a job may take before the worker is asked for a sign of life, how long that may take, and how much longer for a
  # large one.
  @take_ms 5_000
  @take_bytes_per_ms 10_000
  # Between attempts to write to a worker that does not read.
  @write_ms 10
  # Nothing announces that the Python of a process that is gone has ended.
  @rest_poll_ms 2
  # Finalizers come and go all the time, in microseconds.
  @finalizer_us 1_000_000

  @typedoc "A request, apart from its bytes."
  @type how :: %{
          kind: :submit | :call,
          mode: :once | :held | :nested | :boot,
          timeout: timeout(),
          prefix: binary(),
          content: External.content(),
          devices: [term()],
          functions: [{non_neg_integer(), function()}]
        }

  @typedoc "How a request ended. `:not_begun`: it may be given to another worker."
  @type answer ::
          {:reply, id :: pos_integer(), creation :: pos_integer(), count :: non_neg_integer(), External.content(),
           binary()}
          | {:crash, CrashError.reason(), String.t(), pos_integer() | nil}
          | :timeout
          | :not_begun
          | :lease_over
          | :busy

  defstruct [
    :pool,
    :options,
    :plan,
    :port,
    :creation,
    :callbacks,
    :starter,
    :over,
    :os_pid,
    :killed_for,
    :boot_timer,
    phase: :starting,
    next_id: 1,
    pending: %{},
    monitors: %{},
    callers: %{},
    known: %{},
    pids: MapSet.new(),
    devices: [],
    functions: %{},
    bytes: 0,
    written: 0,
    stall: nil,
    buffer: Frame.new(),
    outbox: [],
    held: 0,
    untaken: %{},
    short: false,
    farewell: false,
    said: ""
  ]

  ## For the pool

  @doc "Starts a worker on this node, for the calling process."
  @spec start(pid(), map(), map()) :: DynamicSupervisor.on_start_child()
  def start(pool, options, plan) do
    DynamicSupervisor.start_child(Pythonx.Pool.Workers, {__MODULE__, {pool, options, plan}})
  end

  @spec start_link({pid(), map(), map()}) :: GenServer.on_start()
  def start_link(argument), do: GenServer.start_link(__MODULE__, argument)

  ## For callers

  @doc "Makes a request, and waits for its end."
  @spec run(pid(), reference() | nil, iodata(), how()) :: answer()
  def run(worker, lease, payload, how), do: GenServer.call(worker, {:run, lease, payload, how}, :infinity)

  @doc "Tells that the objects of a reply are in the care of this process now."
  @spec taken(pid(), pos_integer()) :: :ok
  def taken(worker, id), do: GenServer.cast(worker, {:taken, id})

  @doc "The functions that the worker was given under these numbers."
  @spec functions(pid(), [non_neg_integer()]) :: {:ok, %{non_neg_integer() => function()}} | :error
  def functions(worker, numbers), do: GenServer.call(worker, {:functions, numbers}, :infinity)

  @doc "Tells that the term of a reply was none that a worker sends. The worker is killed."
  @spec damaged(pid(), String.t()) :: :ok
  def damaged(worker, what), do: GenServer.cast(worker, {:damaged, what})

  @doc "Ends a lease. A job that it still runs is cancelled."
  @spec end_lease(pid(), reference()) :: :ok
  def end_lease(worker, lease) do
    send(worker, {:abandoned, lease})
    :ok
  end

  ## Start and end

  @impl true
  def init({pool, options, plan}) do
    Process.flag(:trap_exit, true)
    Process.monitor(pool)
    creation = rem(System.unique_integer([:positive]), 0xFFFFFFFE) + 1
    {:ok, callbacks} = Callbacks.start_link(:of_worker)
    port = options |> Command.build(plan) |> open_port()
    timer = Process.send_after(self(), :boot_timeout, options.boot_timeout)
    state = %__MODULE__{pool: pool, options: options, plan: plan, port: port, creation: creation, callbacks: callbacks}
    # By bytes: this node may get a name, and with it another one for each of them.
    known = for pid <- [self(), callbacks, janitor()], pid != nil, into: %{}, do: {pid_bytes(pid), pid}
    {:ok, write(%{state | boot_timer: timer, known: known}, Frame.to_worker(:setup, 0, Frame.payload(setup(state))))}
  end

  # The names that the bridge sends messages to. What it tells of its threads concerns nobody here.
  defp setup(%{plan: plan} = state) do
    names = %{Callbacks => state.callbacks, Pythonx.Calls.Watch => self(), Pythonx.Janitor => janitor()}

    %{
      version: Frame.version(),
      number: state.creation,
      self: self(),
      libpython: plan.libpython,
      bridge: plan.bridge,
      load_info: MapSet.new(),
      names: Map.reject(names, fn {_name, pid} -> pid == nil end)
    }
  end

  defp janitor, do: Process.whereis(Pythonx.Janitor)

  defp open_port(%{program: program, args: args, env: env}) do
    Port.open({:spawn_executable, program}, [:binary, :exit_status, :hide, args: args, env: env])
  end

  @impl true
  def terminate(_reason, _state), do: :ok

  ## Requests

  @impl true
  def handle_call({:run, lease, payload, how}, from, state) do
    cond do
      state.killed_for != nil or state.farewell or not serves?(state.phase, how.mode) -> {:reply, :not_begun, state}
      how.mode in [:once, :held] and lease == state.over -> {:reply, :lease_over, state}
      how.mode in [:once, :held] and leased?(state, lease) -> {:reply, :busy, state}
      true -> {:noreply, begin(state, lease, payload, how, from)}
    end
  end

  def handle_call({:functions, numbers}, _from, state) do
    functions = Map.take(state.functions, numbers)
    {:reply, if(map_size(functions) == length(numbers), do: {:ok, functions}, else: :error), state}
  end

  defp serves?(:ready, mode), do: mode != :boot
  defp serves?(:booting, mode), do: mode in [:boot, :nested]
  # Whoever still runs something may finish it.
  defp serves?(:stopping, mode), do: mode == :nested
  defp serves?(_phase, _mode), do: false

  defp leased?(state, lease), do: Enum.any?(state.pending, fn {_id, request} -> request.lease == lease end)

  defp begin(state, lease, payload, how, {caller, _tag} = from) do
    id = state.next_id
    size = IO.iodata_length(payload)
    if size > @large, do: send(self(), :collect)
    state = %{give(state, how) | next_id: rem(id, 0x7FFFFFFF) + 1}
    state = write(state, Frame.to_worker(how.kind, id, payload))

    request = %{
      id: id,
      lease: if(how.mode in [:once, :held], do: lease),
      from: from,
      kind: how.kind,
      mode: how.mode,
      prefix: how.prefix,
      timeout: how.timeout,
      timers: timers(id, size, how, state),
      monitor: if(how.mode == :nested, do: Process.monitor(caller)),
      end: state.written,
      cancelled: nil
    }

    state = if request.monitor, do: put_in(state.callers[request.monitor], id), else: state
    put_in(state.pending[id], request)
  end

  # The processes, devices and functions that the worker is given by a request.
  defp give(state, how) do
    {_flags, pids} = how.content
    pids = Enum.into(pids, state.pids)
    pids = if MapSet.size(pids) > @pids, do: MapSet.filter(pids, &present?/1), else: pids

    devices =
      if how.devices == [], do: state.devices, else: Enum.take(Enum.uniq(how.devices ++ state.devices), @devices)

    %{state | pids: pids, devices: devices, functions: Enum.into(how.functions, state.functions)}
  end

  defp present?(bytes) do
    pid = :erlang.binary_to_term(<<131, bytes::binary>>)
    node(pid) != node() or Process.alive?(pid)
  end

  defp timers(id, size, how, state) do
    time =
      if how.timeout == :infinity do
        []
      else
        why = {:timeout, how.timeout}
        kill = Process.send_after(self(), {:kill, id, why}, how.timeout + state.options.kill_after)
        [Process.send_after(self(), {:time_over, id}, how.timeout), kill]
      end

    taking = min(@take_ms, div(state.options.boot_timeout, 2)) + div(size, @take_bytes_per_ms)
    [Process.send_after(self(), {:ask_sign, id, taking}, taking) | time]
  end

  @impl true
  def handle_cast({:taken, id}, state) do
    case Map.pop(state.untaken, id) do
      {nil, _untaken} ->
        {:noreply, state}

      {{monitor, _term}, untaken} ->
        Process.demonitor(monitor, [:flush])
        {:noreply, %{state | untaken: untaken}}
    end
  end

  def handle_cast({:damaged, what}, state), do: {:noreply, kill(state, {:forged, what})}

  def handle_cast({:excess, sentence}, state),
    do: {:noreply, kill(%{state | said: sentence <> "\n"}, {:exit_status, 1})}

  def handle_cast(:stop, state), do: {:noreply, stop_gently(state)}

  # The worker runs what Python does at its end when asked to. What it does not do in time is done to it.
  defp stop_gently(%{phase: :ready} = state) do
    Process.send_after(self(), :end_now, state.options.kill_after)
    write(%{state | phase: :stopping}, Frame.to_worker(:halt))
  end

  defp stop_gently(%{phase: phase} = state) when phase in [:starting, :booting] do
    send(self(), :end_now)
    %{state | phase: :stopping}
  end

  defp stop_gently(state), do: state

  ## Messages

  @impl true
  def handle_info({port, {:data, bytes}}, %{port: port} = state) do
    {messages, buffer} = Frame.add(state.buffer, bytes)

    state = Enum.reduce(messages, %{state | buffer: buffer, bytes: state.bytes + byte_size(bytes)}, &handle_message/2)
    {:noreply, if(Frame.over?(buffer), do: say_farewell(state), else: watch(state))}
  catch
    {:forged, state, why} -> {:noreply, kill(%{state | buffer: Frame.ignore(state.buffer)}, why)}
  end

  def handle_info({port, {:exit_status, status}}, %{port: port} = state), do: ended(state, status)
  def handle_info({:EXIT, port, _reason}, %{port: port} = state), do: ended(state, 0)

  def handle_info({:release, numbers}, state), do: {:noreply, release(state, numbers)}

  # Unless it was over before, which the pool has been told then.
  def handle_info({:abandoned, lease}, state) do
    case Enum.find(state.pending, fn {_id, request} -> request.lease == lease end) do
      {id, request} -> {:noreply, abandon(state, id, request)}
      nil when lease == state.over -> {:noreply, state}
      nil -> {:noreply, lease_over(state, lease)}
    end
  end

  def handle_info({:time_over, id}, state) do
    case state.pending do
      %{^id => %{cancelled: nil} = request} -> {:noreply, cancel(state, request, :timeout)}
      _ended -> {:noreply, state}
    end
  end

  def handle_info({:ask_sign, id, time}, state) do
    {:noreply, if(is_map_key(state.pending, id), do: ask_sign(state, id, time), else: state)}
  end

  def handle_info({:look_for_rest, id}, state) do
    {:noreply, if(is_map_key(state.pending, id), do: ask_for_rest(state, id), else: state)}
  end

  def handle_info({:kill, id, why}, state) do
    {:noreply, if(is_map_key(state.pending, id), do: kill(state, why), else: state)}
  end

  def handle_info({:write_again}, state), do: {:noreply, write_again(state)}

  def handle_info(:boot_timeout, %{phase: phase} = state) when phase in [:starting, :booting] do
    {:noreply, kill(state, {:boot_timeout, state.options.boot_timeout})}
  end

  # What passed through was large, and this process has too little to do to notice.
  def handle_info(:collect, state) do
    :erlang.garbage_collect()
    {:noreply, state}
  end

  def handle_info(:look, %{stall: {bytes, looks}} = state) do
    cond do
      not Frame.incomplete?(state.buffer) -> {:noreply, %{state | stall: nil}}
      state.bytes != bytes -> {:noreply, watch(%{state | stall: nil})}
      looks >= @stalls or Frame.swallowed?(state.buffer) -> {:noreply, kill(state, {:forged, "half a message"})}
      true -> {:noreply, look_later(state, looks + 1)}
    end
  end

  def handle_info(:protocol, state), do: {:noreply, kill(state, :protocol)}
  def handle_info(:end_now, state), do: ended(state, 0)

  def handle_info({:DOWN, _ref, :process, pool, reason}, %{pool: pool} = state) do
    answer_all(state, {:down, reason}, "", nil)
    {:stop, :normal, state}
  end

  def handle_info({:DOWN, ref, :process, _pid, _reason}, state) when is_map_key(state.monitors, ref) do
    {number, monitors} = Map.pop!(state.monitors, ref)
    {:noreply, write(%{state | monitors: monitors}, Frame.to_worker(:down, 0, Frame.payload(number)))}
  end

  # Of a function that the worker has called, which is gone.
  def handle_info({:DOWN, ref, :process, _pid, _reason}, state) when is_map_key(state.callers, ref) do
    {id, callers} = Map.pop!(state.callers, ref)
    request = Map.fetch!(state.pending, id)
    state = %{state | callers: callers, pending: Map.delete(state.pending, id)}
    Enum.each(request.timers, &Process.cancel_timer/1)
    {:noreply, if(request.kind == :submit, do: cancel_job(state, id), else: state)}
  end

  def handle_info({:DOWN, ref, :process, _caller, _reason}, state) do
    case Enum.find(state.untaken, fn {_id, {monitor, _term}} -> monitor == ref end) do
      {id, {_monitor, term}} -> {:noreply, drop(%{state | untaken: Map.delete(state.untaken, id)}, term)}
      nil -> {:noreply, state}
    end
  end

  def handle_info({:started, starter, result}, %{starter: starter, phase: :booting} = state) do
    {:noreply, started(state, result)}
  end

  # What the initial code prints, as nobody has asked for it.
  def handle_info({:io_request, _from, _ref, {:put_chars, :unicode, text}}, state) when is_binary(text) do
    if state.options.stderr == :inherit, do: IO.write(:stderr, text)
    said = state.said <> text
    size = min(byte_size(said), state.options.stderr_limit)
    {:noreply, %{state | said: binary_part(said, byte_size(said) - size, size)}}
  end

  # Devices' replies, late timers, events of threads.
  def handle_info(_other, state), do: {:noreply, state}

  defp started(state, {:ok, os_pid}) do
    Process.cancel_timer(state.boot_timer)
    tell_pool(state, {:ready, os_pid})
    %{state | phase: :ready}
  end

  defp started(state, {:error, text}) do
    tell_pool(state, {:failed, text})
    send(self(), :end_now)
    %{state | phase: :failed}
  end

  ## What the worker says

  # It may still say that it is done, but is as good as dead: the next job would die with it.
  defp handle_message({kind, _id, _payload}, %{killed_for: why} = state) when why != nil and kind != :send, do: state

  defp handle_message({:ready, _id, payload}, %{phase: :starting} = state) do
    os_pid = os_pid(payload) || forged(state, "a number of a process that is none")
    {:ok, starter} = Start.start_link(self(), state.pool, os_pid, state.plan, state.options)
    %{state | phase: :booting, os_pid: os_pid, starter: starter}
  end

  defp handle_message({:failed, _id, text}, %{phase: :starting} = state) do
    tell_pool(state, {:failed, text(text)})
    send(self(), :end_now)
    %{state | phase: :failed}
  end

  # Once it is asked to stop, what it says of its start comes too late.
  defp handle_message({kind, _id, _payload}, %{phase: phase} = state)
       when kind in [:ready, :failed] and phase in [:ready, :booting],
       do: forged(state, "a message out of its time")

  defp handle_message({:reply, id, <<count::32, term::binary>>}, state) do
    content = check!(state, count, term)

    case state.pending do
      %{^id => %{kind: :call} = request} -> finish(state, request, count, content, term)
      %{^id => %{kind: :rest} = request} -> rested(state, request, term)
      %{^id => %{kind: :sign}} -> %{state | pending: Map.delete(state.pending, id)}
      _late when id in 1..(state.next_id - 1)//1 -> state |> hold(count) |> drop(term)
      _never -> forged(state, "a message about a job that it was not given")
    end
  end

  defp handle_message({:send, _id, <<count::32, term::binary>>}, state) do
    content = check!(state, count, term)

    case find_job(state, term) do
      nil -> deliver(hold(state, count), term, count, content)
      request -> finish(state, request, count, content, term)
    end
  end

  defp handle_message({:monitor, _id, payload}, state) do
    with {:ok, {number, pid}} when is_integer(number) and is_pid(pid) <- External.decode_known(payload),
         true <- map_size(state.monitors) < @monitors do
      put_in(state.monitors[Process.monitor(pid)], number)
    else
      _ -> forged(state, "a damaged message")
    end
  end

  defp handle_message({:demonitor, _id, payload}, state) do
    with {:ok, number} <- External.decode_known(payload),
         {ref, ^number} <- Enum.find(state.monitors, fn {_ref, other} -> other == number end) do
      Process.demonitor(ref, [:flush])
      %{state | monitors: Map.delete(state.monitors, ref)}
    else
      _ -> state
    end
  end

  defp handle_message({:ask, id, payload}, state) do
    case External.decode_known(payload) do
      {:ok, {:whereis, name}} when is_atom(name) -> answer(state, id, Process.whereis(name) || :undefined)
      {:ok, {:alive, pid}} when is_pid(pid) -> answer(state, id, node(pid) != node() or Process.alive?(pid))
      {:ok, {:atom, name}} when is_binary(name) -> answer(state, id, External.atom?(name))
      {:ok, _unknown} -> answer(state, id, false)
      # Nobody has a name that this VM has no atom of.
      :error -> answer(state, id, :undefined)
    end
  end

  # That it has little memory left matters when a job has failed, perhaps because of that.
  defp handle_message({:spent, _id, _payload}, state), do: %{state | short: true}

  defp handle_message({:dropped, _id, payload}, state) do
    case External.decode_known(payload) do
      {:ok, numbers} when is_list(numbers) -> %{state | functions: Map.drop(state.functions, numbers)}
      _other -> forged(state, "a damaged message")
    end
  end

  defp handle_message({:unknown, _id, _payload}, state), do: forged(state, :protocol)
  defp handle_message({kind, _id, _payload}, state) when kind in [:reply, :send], do: forged(state, "a damaged message")
  defp handle_message(_late, state), do: state

  defp answer(state, id, term) do
    payload = Frame.payload(term)
    pids = if is_pid(term), do: [pid_bytes(term)], else: []
    write(%{state | pids: Enum.into(pids, state.pids)}, Frame.to_worker(:answer, id, payload))
  end

  defp pid_bytes(pid) do
    <<131, bytes::binary>> = :erlang.term_to_binary(pid)
    bytes
  end

  # The job whose reply this is: {caller, {tag, reply}}.
  defp find_job(state, term) do
    Enum.find_value(state.pending, fn
      {_id, %{kind: :submit, prefix: prefix} = request} ->
        size = byte_size(prefix)
        match?(<<^prefix::binary-size(size), _::binary>>, term) && request

      _other ->
        nil
    end)
  end

  # Messages of Python code, calls of functions, output.
  defp deliver(state, term, count, content) do
    with bytes when bytes != nil <- recipient(term),
         true <-
           bytes in state.pids or is_map_key(state.known, bytes),
         {:ok, {pid, message}} <- External.decode(term, state.pool),
         pid = Map.get(state.known, bytes, pid),
         {:ok, message} <- adopt(message, count, content, state) do
      pass_on(pid, message, state)
    else
      {:full, _name} -> if(count > 0, do: drop(state, term), else: state)
      false -> forged(state, "a message to a process that it was not given")
      _damaged -> forged(state, "a damaged term")
    end
  end

  defp recipient(<<131, 104, 2, 88, 119, size, _::binary-size(size), _::binary-size(12), _::binary>> = term),
    do: binary_part(term, 3, size + 15)

  defp recipient(<<131, 104, 2, 88, 118, size::16, _::binary-size(size), _::binary-size(12), _::binary>> = term),
    do: binary_part(term, 3, size + 16)

  defp recipient(_term), do: nil

  # Whoever passes on what is printed does so for anybody: only for devices that the worker was given.
  defp pass_on(pid, message, state) do
    if pid == janitor() do
      with {:pythonx_output, device, text} when is_binary(text) <- message,
           true <- device in state.devices and String.valid?(text) do
        send(pid, message)
        state
      else
        _ -> forged(state, "output for a device that it was not given")
      end
    else
      send(pid, message)
      state
    end
  end

  # The messages of this process to others: it has all that is needed itself.
  defp adopt(message, count, content, state) do
    if count == 0 and not External.any?(content, :function_references),
      do: {:ok, message},
      else:
        Pythonx.Pool.Exchange.adopt(message, count, %{
          worker: self(),
          pool: state.pool,
          creation: state.creation,
          functions: state.functions
        })
  end

  ## What is believed of it

  # Before it changes anything.
  @spec forged(map(), :protocol | String.t()) :: no_return()
  defp forged(state, :protocol), do: throw({:forged, state, :protocol})
  defp forged(state, what), do: throw({:forged, state, {:forged, what}})

  defp os_pid(payload) do
    case External.decode_known(payload) do
      {:ok, %{os_pid: os_pid, version: 1}} when is_integer(os_pid) and os_pid > 0 -> os_pid
      _other -> nil
    end
  end

  defp check!(state, count, term) do
    case External.check(term) do
      {:ok, content} ->
        if count > 0 and (not External.any?(content, :worker_references) or count * @handle_bytes > byte_size(term)),
          do: forged(state, "objects that it does not have"),
          else: content

      {:error, what} ->
        forged(state, what)
    end
  end

  # Looks after a while whether a message that has begun goes on.
  defp watch(%{stall: nil} = state), do: if(Frame.incomplete?(state.buffer), do: look_later(state, 1), else: state)
  defp watch(state), do: state

  defp look_later(state, looks) do
    Process.send_after(self(), :look, @stall_ms)
    %{state | stall: {state.bytes, looks}}
  end

  ## Ends of requests

  defp finish(state, request, count, content, term) do
    if byte_size(term) > @large, do: send(self(), :collect)
    state = forget(hold(state, count), request)
    outcome = outcome(request, term)
    if outcome == :failed and state.short, do: tell_pool(state, :spent)
    state = give_reply(state, request, count, content, term)
    if outcome == :deferred and request.from != nil, do: state, else: request_over(state, request)
  end

  defp give_reply(state, %{from: nil}, count, _content, term), do: if(count > 0, do: drop(state, term), else: state)

  defp give_reply(state, %{from: {caller, _tag} = from} = request, count, content, term) do
    GenServer.reply(from, {:reply, request.id, state.creation, count, content, term})
    if count > 0, do: put_in(state.untaken[request.id], {Process.monitor(caller), term}), else: state
  end

  # What the reply begins with, or that within one which comes with its times.
  defp outcome(%{kind: :submit, prefix: prefix}, term) do
    size = byte_size(prefix)

    case term do
      <<_::binary-size(size), 104, _, 119, 8, "observed", rest::binary>> -> beginning(rest)
      <<_::binary-size(size), rest::binary>> -> beginning(rest)
    end
  end

  defp outcome(_request, _term), do: :ok

  defp beginning(<<104, _, 119, 2, "ok", _::binary>>), do: :ok
  defp beginning(<<104, _, 119, 8, "deferred", _::binary>>), do: :deferred
  defp beginning(<<104, _, 119, 12, "python_error", _::binary>>), do: :failed
  defp beginning(<<104, _, 119, 5, "raise", _::binary>>), do: :failed
  defp beginning(_other), do: :ok

  defp forget(state, request) do
    Enum.each(request.timers, &Process.cancel_timer/1)
    if request.monitor, do: Process.demonitor(request.monitor, [:flush])

    %{
      state
      | pending: Map.delete(state.pending, request.id),
        callers: Map.delete(state.callers, request.monitor)
    }
  end

  defp request_over(state, %{lease: nil}), do: state
  defp request_over(state, %{mode: :once, lease: lease}), do: lease_over(state, lease)
  defp request_over(state, _held), do: state

  defp lease_over(state, lease) do
    tell_pool(state, {:free, lease, state.held})
    %{state | over: lease}
  end

  # The time is over, or nobody waits any more. Its reply may be on its way already, and is taken then.
  defp cancel(state, request, why) do
    state = put_in(state.pending[request.id].cancelled, why)
    state = if request.kind == :submit, do: cancel_job(state, request.id), else: state
    ask_for_rest(state, request.id)
  end

  defp cancel_job(state, id) do
    arguments = [Reference.job(state.creation, id), true]
    write(state, Frame.to_worker(:call, 0, Frame.payload({:cancel, self(), arguments})))
  end

  defp abandon(state, id, request) do
    Enum.each(request.timers, &Process.cancel_timer/1)
    timer = Process.send_after(self(), {:kill, id, :abandoned}, state.options.kill_after)
    request = %{request | from: nil, timers: [timer], mode: :once}
    state = put_in(%{state | over: request.lease}.pending[id], request)
    if request.cancelled, do: put_in(state.pending[id].cancelled, :abandoned), else: cancel(state, request, :abandoned)
  end

  defp ask(state, kind, id, function, arguments) do
    number = state.next_id
    entry = %{id: number, kind: kind, of: id, lease: nil, from: nil, timers: [], monitor: nil, end: nil, cancelled: nil}
    state = put_in(%{state | next_id: rem(number, 0x7FFFFFFF) + 1}.pending[number], entry)
    write(state, Frame.to_worker(:call, number, Frame.payload({function, self(), arguments})))
  end

  defp ask_for_rest(state, id), do: ask(state, :rest, id, :running, [])

  defp rested(state, %{id: number, of: id}, term) do
    state = %{state | pending: Map.delete(state.pending, number)}

    case state.pending do
      %{^id => request} -> if at_rest?(term, state), do: come_to_rest(state, request), else: look_again(state, id)
      _ended -> state
    end
  end

  defp at_rest?(term, state) do
    case External.decode(term, state.pool) do
      {:ok, {:ok, running}} when is_list(running) -> Enum.all?(running, &finalizer?/1)
      _other -> false
    end
  end

  defp finalizer?({process, _thread, _main, elapsed, _code}), do: process == janitor() and elapsed < @finalizer_us
  defp finalizer?(_other), do: false

  defp look_again(state, id) do
    Process.send_after(self(), {:look_for_rest, id}, @rest_poll_ms)
    state
  end

  defp come_to_rest(state, request) do
    state = forget(state, request)
    if request.from, do: GenServer.reply(request.from, :timeout)
    request_over(state, request)
  end

  # Python's threads answer nothing while C code runs, but the one that reads does.
  defp ask_sign(state, id, time) do
    number = state.next_id
    timer = Process.send_after(self(), {:kill, number, :not_taken}, time)
    state = ask(state, :sign, id, :worker_echo, [:alive])
    put_in(state.pending[number].timers, [timer])
  end

  ## Objects

  defp hold(state, 0), do: state
  defp hold(state, count), do: %{state | held: state.held + count}

  # Gives back what is lent in a term that nobody takes.
  defp drop(state, term) do
    case External.decode(term, state.pool) do
      {:ok, term} -> release(state, numbers(term, state.creation))
      _full_or_damaged -> state
    end
  end

  defp numbers(term, creation) do
    {_term, numbers} =
      Terms.map_reduce(term, [], fn
        reference, numbers when is_reference(reference) ->
          case Reference.read(reference) do
            {:resource, ^creation, number} -> {reference, [number | numbers]}
            _other -> :walk
          end

        _other, _numbers ->
          :walk
      end)

    numbers
  end

  defp release(state, []), do: state

  defp release(state, numbers) do
    held = max(state.held - length(numbers), 0)
    if held == 0 and state.held > 0, do: tell_pool(state, :unpinned)
    counts = numbers |> Enum.frequencies() |> Map.to_list()
    write(%{state | held: held}, Frame.to_worker(:release, 0, Frame.payload(counts)))
  end

  ## Writing

  # The launcher says how the worker has ended, as soon as it knows that nothing more is written. Or else somebody wrote on the
  # connection, and will be killed.
  defp say_farewell(%{farewell: true} = state), do: state

  defp say_farewell(state) do
    Process.send_after(self(), :protocol, @protocol_ms)
    %{write(state, Frame.farewell()) | farewell: true}
  end

  # Never waits: a worker that does not read must not keep this process from killing it.
  defp write(%{farewell: true} = state, _frame), do: state

  defp write(state, frame) do
    state = %{state | written: state.written + IO.iodata_length(frame)}
    if state.outbox == [], do: command(state, frame), else: %{state | outbox: state.outbox ++ [frame]}
  end

  defp command(state, frame) do
    if Port.command(state.port, frame, [:nosuspend]), do: state, else: write_later(%{state | outbox: [frame]})
  rescue
    # It has ended, which the port's last message will say.
    ArgumentError -> state
  end

  defp write_later(state) do
    Process.send_after(self(), {:write_again}, @write_ms)
    state
  end

  defp write_again(%{outbox: outbox} = state) do
    case Enum.drop_while(outbox, &Port.command(state.port, &1, [:nosuspend])) do
      [] -> %{state | outbox: []}
      left -> write_later(%{state | outbox: left})
    end
  rescue
    ArgumentError -> %{state | outbox: []}
  end

  ## Ends

  # SIGTERM tells the launcher to make the worker tell its stack and die. A launcher that does not is cut off, upon which it
  # kills everything.
  defp kill(%{killed_for: nil} = state, why) do
    case Port.info(state.port, :os_pid) do
      {:os_pid, launcher} -> terminate_process(launcher)
      nil -> :ok
    end

    Process.send_after(self(), :end_now, @end_ms)
    %{state | killed_for: why}
  end

  defp kill(state, _why), do: state

  # The shell has a `kill` of its own where there is no program of that name. SIGCONT is for a launcher that Python code has
  # stopped.
  defp terminate_process(os_pid) do
    Port.open({:spawn_executable, "/bin/sh"},
      args: ["-c", "exec 2>/dev/null; kill -TERM #{os_pid}; kill -CONT #{os_pid}"]
    )

    :ok
  end

  defp ended(state, status) do
    {reason, stderr, unread} = state.buffer |> Frame.last_words() |> describe_end(status)
    stderr = state.said <> stderr
    reason = state.killed_for || reason
    answer_all(state, reason, stderr, unread)
    if state.phase in [:starting, :booting], do: tell_pool(state, {:failed, failure(reason, stderr)})
    tell_pool(state, {:ended, reason, stderr})
    catch_close(state.port)
    {:stop, :normal, %{state | phase: :ended}}
  end

  defp describe_end({:signal, number, output, unread}, _status),
    do: {{:signal, CrashError.signal_name(number)}, text(output), unread}

  defp describe_end({:exit_status, number, output, unread}, _status),
    do: {{:exit_status, number}, text(output), unread}

  # The launcher itself was killed, and the worker with it.
  defp describe_end(nil, status) when status > 128, do: {{:signal, CrashError.signal_name(status - 128)}, "", 0}
  defp describe_end(nil, status), do: {{:exit_status, status}, "", 0}

  # It may begin in the middle of a character.
  defp text(output) do
    case :unicode.characters_to_binary(output) do
      text when is_binary(text) -> text
      {_error, valid, <<_invalid, rest::binary>>} -> valid <> text(rest)
    end
  end

  # A request is read whole before it begins, so one of which something was not read has not.
  defp answer_all(state, reason, stderr, unread) do
    unwritten = state.outbox |> Enum.map(&IO.iodata_length/1) |> Enum.sum()

    for {_id, %{from: from} = request} when from != nil <- state.pending do
      behind = state.written - request.end - if(state.farewell, do: byte_size(Frame.farewell()), else: 0)
      begun? = unread == nil or unread + unwritten <= behind

      if not begun? and state.killed_for in [nil, :not_taken],
        do: GenServer.reply(from, :not_begun),
        else: GenServer.reply(from, {:crash, reason, stderr, state.os_pid})
    end
  end

  defp failure({:boot_timeout, timeout}, stderr) do
    "a worker did not start within #{timeout} ms" <> said(stderr)
  end

  defp failure({kind, what}, stderr), do: "a worker ended while it started, #{kind}: #{what}" <> said(stderr)
  defp failure(other, stderr), do: "a worker ended while it started: #{inspect(other)}" <> said(stderr)

  defp said(""), do: ""
  defp said(stderr), do: "\n\n" <> stderr

  defp catch_close(port) do
    Port.close(port)
  rescue
    ArgumentError -> true
  end

  defp tell_pool(state, event), do: send(state.pool, {:worker, self(), event})
end
