defmodule Pythonx.Pool.Worker do
  # The process on this side that owns the connection to a worker, and is the worker to everybody else. It runs where the
  # worker runs: on another node if the pool has workers there.
  #
  # Its life: `starting` until the worker says `ready`; then jobs, one at a time; it stops with the worker, and the worker
  # with it. To the pool it sends `{:worker, pid, event}`:
  #
  #     {:ready, os_pid}            may be given out
  #     {:failed, text}             did not start; ends
  #     {:free, lease, handles}     the lease is over; so many objects are held
  #     :spent                      is to be replaced when the lease is over
  #     :unpinned                   none is held any more
  #     {:ended, reason, stderr}    gone
  #
  # A lease is a reference that the pool has made for whoever checked the worker out. A job is run for a lease. With
  # `once: true` the lease is over when the job is; else the caller ends it. When the caller dies, the pool says
  # `{:abandoned, lease}`: the job is cancelled, then the lease is over.
  #
  # What it says is checked first; `Pythonx.Pool.External` has the rule. A message that begins and does not go on is one of
  # those that lie: nothing else would be heard any more.
  #
  # Once a worker is to be killed, nothing that it says counts any more, except that it has begun.
  #
  # A worker that is stopped, or whose descriptors Python has closed, takes no job: it is killed, and the job is given to
  # another.
  #
  # A job that is over its time is interrupted by the worker itself. This process kills what has not come to rest
  # `kill_after` later, interrupted or cancelled.
  #
  # Ownership of objects: a reply says which numbers stay in the worker. They are held from then on, first for the caller
  # until that has taken them (`:taken`) or died, then until `{:release, ids}`.
  #
  # Above 400 lines: it is one state machine, whose states are understood together.
  @moduledoc false

  use GenServer, restart: :temporary

  alias Pythonx.Pool.{Command, CrashError, External, Frame}

  # How long a connection may stay open on which no more messages can come, unless the worker has ended.
  @protocol_ms 500
  # How long a launcher may take to end.
  @end_ms 3000
  # How often to look whether a message goes on that has begun, and how often in vain.
  @stall_ms 1000
  @stalls 10
  # The bytes that a handle in a reply takes at least.
  @handle_bytes 60
  # As many as a worker may print to, and more; see `Pythonx.Pool.Device`.
  @devices 128
  # A message of more bytes is not left to lie about.
  @large 1_000_000
  # How long a worker may take to say that it has taken a job, and how much longer for a large one.
  @take_ms 10_000
  @take_bytes_per_ms 10_000
  # Between attempts to write to a worker that does not read.
  @write_ms 10

  @typedoc "How a job ended. `:not_begun`: it may be given to another worker."
  @type answer ::
          {:reply, first :: non_neg_integer(), count :: non_neg_integer(), binary()}
          | {:crash, CrashError.reason(), String.t(), pos_integer() | nil}
          | :not_begun
          | :lease_over
          | :busy

  defstruct [
    :pool,
    :options,
    :port,
    :job,
    :over,
    :os_pid,
    :killed_for,
    :boot_timer,
    phase: :starting,
    next_id: 1,
    next_object: 1,
    devices: [],
    bytes: 0,
    stall: nil,
    buffer: Frame.new(),
    outbox: [],
    held: MapSet.new(),
    untaken: %{}
  ]

  ## For the pool

  @doc "Starts a worker on this node, for the calling process."
  @spec start(pid(), map(), term()) :: DynamicSupervisor.on_start_child()
  def start(pool, options, environment) do
    DynamicSupervisor.start_child(Pythonx.Pool.Workers, {__MODULE__, {pool, options, environment}})
  end

  @spec start_link({pid(), map(), term()}) :: GenServer.on_start()
  def start_link(argument), do: GenServer.start_link(__MODULE__, argument)

  ## For callers

  @doc "Runs a job for a lease, and waits for its end."
  @spec run(pid(), reference(), iodata(), map()) :: answer()
  def run(worker, lease, payload, how), do: GenServer.call(worker, {:run, lease, payload, how}, :infinity)

  @doc "Tells that the objects of a reply are in the care of this process now."
  @spec taken(pid(), non_neg_integer()) :: :ok
  def taken(worker, first), do: GenServer.cast(worker, {:taken, first})

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
  def init({pool, options, environment}) do
    Process.flag(:trap_exit, true)
    Process.monitor(pool)
    command = Command.build(options, environment)
    port = open_port(command)
    state = %__MODULE__{pool: pool, options: options, port: port}
    setup = %{environment: environment, init: options.init, max_memory: options.max_memory}
    timer = Process.send_after(self(), :boot_timeout, options.boot_timeout)
    {:ok, write(%{state | boot_timer: timer}, Frame.to_worker(:setup, 0, Frame.payload(setup)))}
  end

  defp open_port(%{program: program, args: args, env: env}) do
    Port.open({:spawn_executable, program}, [:binary, :exit_status, :hide, args: args, env: env])
  end

  @impl true
  def terminate(_reason, _state), do: :ok

  ## Jobs

  @impl true
  def handle_call({:run, _lease, _payload, _how}, _from, %{phase: phase, killed_for: killed_for} = state)
      when phase != :ready or killed_for != nil do
    {:reply, :not_begun, state}
  end

  def handle_call({:run, _lease, _payload, _how}, _from, %{job: job} = state) when job != nil do
    {:reply, :busy, state}
  end

  def handle_call({:run, lease, payload, how}, from, state) do
    if lease == state.over do
      {:reply, :lease_over, state}
    else
      id = state.next_id
      size = IO.iodata_length(payload)
      timers = [timer(how.timeout, id, state), take_timer(size, id, state)]
      job = %{id: id, lease: lease, from: from, how: how, begun: false, timers: timers}
      devices = Enum.take(Enum.uniq(how.devices ++ state.devices), @devices)
      state = %{state | devices: devices}
      state = write(%{state | job: job, next_id: rem(id, 0xFFFFFFFF) + 1}, Frame.to_worker(:job, id, payload))
      if size > @large, do: send(self(), :collect)
      {:noreply, state}
    end
  end

  @impl true
  def handle_cast({:taken, first}, state) do
    case Map.pop(state.untaken, first) do
      {nil, _untaken} ->
        {:noreply, state}

      {{monitor, _ids}, untaken} ->
        Process.demonitor(monitor, [:flush])
        {:noreply, %{state | untaken: untaken}}
    end
  end

  def handle_cast({:damaged, what}, state), do: {:noreply, kill(state, {:forged, what})}
  def handle_cast(:stop, state), do: {:noreply, stop_gently(state)}

  # The time of the job is the worker's to keep; this is for what does not stop then.
  defp timer(:infinity, _id, _state), do: nil
  defp timer(timeout, id, state), do: start_kill_timer(id, timeout + state.options.kill_after, {:timeout, timeout})

  defp take_timer(size, id, state) do
    start_kill_timer(id, min(@take_ms, state.options.boot_timeout) + div(size, @take_bytes_per_ms), :not_taken)
  end

  defp start_kill_timer(id, delay, why), do: Process.send_after(self(), {:kill, id, why}, delay)

  # The worker's VM halts when asked to. What it does not do in time is done to it.
  defp stop_gently(%{phase: :ready} = state) do
    Process.send_after(self(), :end_now, state.options.kill_after)
    write(%{state | phase: :stopping}, Frame.to_worker(:halt))
  end

  defp stop_gently(%{phase: :starting} = state) do
    send(self(), :end_now)
    %{state | phase: :stopping}
  end

  defp stop_gently(state), do: state

  ## Messages

  @impl true
  def handle_info({port, {:data, bytes}}, %{port: port} = state) do
    {messages, buffer} = Frame.add(state.buffer, bytes)

    if elem(buffer, 0) == :infinity and elem(state.buffer, 0) != :infinity,
      do: Process.send_after(self(), :protocol, @protocol_ms)

    state = watch(%{state | buffer: buffer, bytes: state.bytes + byte_size(bytes)})
    {:noreply, Enum.reduce(messages, state, &handle_message/2)}
  catch
    {:forged, state, why} -> {:noreply, kill(%{state | buffer: Frame.ignore(state.buffer)}, why)}
  end

  def handle_info({port, {:exit_status, status}}, %{port: port} = state), do: ended(state, status)
  def handle_info({:EXIT, port, _reason}, %{port: port} = state), do: ended(state, 0)

  def handle_info({:release, ids}, state), do: {:noreply, release(state, ids)}

  def handle_info({:abandoned, lease}, %{job: %{lease: lease, id: id} = job} = state) do
    Enum.each(job.timers, &cancel_timer/1)
    timer = start_kill_timer(id, state.options.kill_after, :abandoned)
    state = %{state | over: lease, job: %{job | from: nil, timers: [timer], how: %{job.how | once: true}}}
    {:noreply, write(state, Frame.to_worker(:cancel, id))}
  end

  # Unless it was over before, which the pool has been told then.
  def handle_info({:abandoned, lease}, state) do
    {:noreply, if(lease == state.over, do: state, else: lease_over(state, lease))}
  end

  def handle_info({:kill, id, :not_taken}, %{job: %{id: id, begun: true}} = state), do: {:noreply, state}
  def handle_info({:kill, id, why}, %{job: %{id: id}} = state), do: {:noreply, kill(state, why)}
  def handle_info({:write_again}, state), do: {:noreply, write_again(state)}

  def handle_info(:boot_timeout, %{phase: :starting} = state) do
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
    answer_job(state, {:down, reason}, "")
    {:stop, :normal, state}
  end

  def handle_info({:DOWN, ref, :process, _caller, _reason}, state) do
    case Enum.find(state.untaken, fn {_first, {monitor, _ids}} -> monitor == ref end) do
      {first, {_monitor, ids}} -> {:noreply, release(%{state | untaken: Map.delete(state.untaken, first)}, ids)}
      nil -> {:noreply, state}
    end
  end

  # Devices' replies, late timers.
  def handle_info(_other, state), do: {:noreply, state}

  ## What the worker says

  defp handle_message({:begun, id, _payload}, %{job: %{id: id}} = state), do: put_in(state.job.begun, true)

  # It may still say that it is done, but is as good as dead: the next job would die with it.
  defp handle_message({kind, _job, _payload}, %{killed_for: why} = state) when why != nil and kind != :output, do: state

  defp handle_message({:ready, _job, payload}, %{phase: :starting} = state) do
    os_pid = os_pid(payload) || forged(state, "a number of a process that is none")
    cancel_timer(state.boot_timer)
    tell_pool(state, {:ready, os_pid})
    %{state | phase: :ready, os_pid: os_pid}
  end

  defp handle_message({:failed, _job, text}, %{phase: :starting} = state) do
    tell_pool(state, {:failed, text(text)})
    send(self(), :end_now)
    %{state | phase: :failed}
  end

  # Once it is asked to stop, what it says of its start comes too late.
  defp handle_message({kind, _job, _payload}, %{phase: :ready} = state) when kind in [:ready, :failed],
    do: forged(state, "a message out of its time")

  defp handle_message({:reply, id, <<first::64, count::32, term::binary>>}, %{job: %{id: id} = job} = state) do
    check_objects!(state, first, count, byte_size(term))
    if job.from, do: check_term!(state, term)
    state = if count == 0, do: state, else: %{state | next_object: first + count}
    state = finish(%{state | held: hold(state.held, first, count)})
    if byte_size(term) > @large, do: send(self(), :collect)

    case job.from do
      nil -> release(state, ids(first, count))
      from -> from |> reply_to({:reply, first, count, term}) |> await_taking(first, count, state)
    end
  end

  defp handle_message({:done, id, _payload}, %{job: %{id: id}} = state), do: finish(state)

  defp handle_message({:spent, _job, _payload}, state) do
    tell_pool(state, :spent)
    state
  end

  defp handle_message({:output, _job, <<size::32, device::binary-size(size), text::binary>>}, state) do
    if device not in state.devices, do: forged(state, "output for a device that it was not given")
    if not String.valid?(text), do: forged(state, "output that is no text")
    Pythonx.Janitor.put_chars(:erlang.binary_to_term(device), text)
    state
  end

  defp handle_message({:unknown, _job, _payload}, state), do: forged(state, :protocol)

  # A reply or an output that is too short.
  defp handle_message({:output, _job, _payload}, state), do: forged(state, "a damaged message")
  defp handle_message({:reply, id, _payload}, %{job: %{id: id}} = state), do: forged(state, "a damaged message")

  defp handle_message({kind, id, _payload}, state)
       when kind in [:begun, :reply, :done] and id not in 1..(state.next_id - 1)//1,
       do: forged(state, "a message about a job that it was not given")

  defp handle_message(_late, state), do: state

  ## What is believed of it

  # Before it changes anything.
  @spec forged(map(), :protocol | String.t()) :: no_return()
  defp forged(state, :protocol), do: throw({:forged, state, :protocol})
  defp forged(state, what), do: throw({:forged, state, {:forged, what}})

  defp os_pid(payload) do
    with :ok <- External.check(payload),
         %{os_pid: text} when is_binary(text) <- :erlang.binary_to_term(payload, [:safe]),
         {os_pid, ""} when os_pid > 0 <- Integer.parse(text) do
      os_pid
    else
      _ -> nil
    end
  rescue
    ArgumentError -> nil
  end

  # Numbers are given out in their order, and each is in the term.
  defp check_objects!(state, first, count, size) do
    if count > 0 and (first < state.next_object or count * @handle_bytes > size or first + count > 0xFFFFFFFFFFFF),
      do: forged(state, "objects that it does not have")
  end

  defp check_term!(state, term) do
    with {:error, what} <- External.check(term), do: forged(state, what)
  end

  # Looks after a while whether a message that has begun goes on.
  defp watch(%{stall: nil} = state), do: if(Frame.incomplete?(state.buffer), do: look_later(state, 1), else: state)
  defp watch(state), do: state

  defp look_later(state, looks) do
    Process.send_after(self(), :look, @stall_ms)
    %{state | stall: {state.bytes, looks}}
  end

  defp finish(%{job: job} = state) do
    Enum.each(job.timers, &cancel_timer/1)
    state = %{state | job: nil}
    if job.how.once, do: lease_over(state, job.lease), else: state
  end

  defp lease_over(state, lease) do
    tell_pool(state, {:free, lease, MapSet.size(state.held)})
    %{state | over: lease}
  end

  ## Objects

  defp ids(_first, 0), do: []
  defp ids(first, count), do: Enum.to_list(first..(first + count - 1))

  defp hold(held, first, count), do: first |> ids(count) |> Enum.into(held)

  defp reply_to({pid, _tag} = from, answer) do
    GenServer.reply(from, answer)
    pid
  end

  # A caller that dies now has nobody to tell that its handles are gone.
  defp await_taking(_caller, _first, 0, state), do: state

  defp await_taking(caller, first, count, state) do
    put_in(state.untaken[first], {Process.monitor(caller), ids(first, count)})
  end

  defp release(state, []), do: state

  defp release(state, ids) do
    held = Enum.reduce(ids, state.held, &MapSet.delete(&2, &1))
    if MapSet.size(held) == 0 and MapSet.size(state.held) > 0, do: tell_pool(state, :unpinned)
    write(%{state | held: held}, Frame.to_worker(:release, 0, Frame.payload(ids)))
  end

  ## Writing

  # Never waits: a worker that does not read must not keep this process from killing it.
  defp write(%{outbox: [_ | _]} = state, frame), do: %{state | outbox: state.outbox ++ [frame]}

  defp write(state, frame) do
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
    {reason, stderr} = state.buffer |> Frame.last_words() |> describe_end(status)
    reason = state.killed_for || reason
    answer_job(state, reason, stderr)
    if state.phase == :starting, do: tell_pool(state, {:failed, failure(reason, stderr)})
    tell_pool(state, {:ended, reason, stderr})
    catch_close(state.port)
    {:stop, :normal, %{state | phase: :ended}}
  end

  defp describe_end({:signal, number, output}, _status), do: {{:signal, CrashError.signal_name(number)}, text(output)}
  defp describe_end({:exit_status, number, output}, _status), do: {{:exit_status, number}, text(output)}

  # The launcher itself was killed, and the worker with it.
  defp describe_end(nil, status) when status > 128, do: {{:signal, CrashError.signal_name(status - 128)}, ""}
  defp describe_end(nil, status), do: {{:exit_status, status}, ""}

  # It may begin in the middle of a character.
  defp text(output) do
    case :unicode.characters_to_binary(output) do
      text when is_binary(text) -> text
      {_error, valid, <<_invalid, rest::binary>>} -> valid <> text(rest)
    end
  end

  defp answer_job(%{job: nil}, _reason, _stderr), do: :ok
  defp answer_job(%{job: %{from: nil}}, _reason, _stderr), do: :ok

  defp answer_job(%{job: %{begun: false, from: from}, killed_for: why}, _reason, _stderr)
       when why in [nil, :not_taken] do
    GenServer.reply(from, :not_begun)
  end

  defp answer_job(%{job: %{from: from}} = state, reason, stderr) do
    GenServer.reply(from, {:crash, reason, stderr, state.os_pid})
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

  defp cancel_timer(nil), do: :ok
  defp cancel_timer(timer), do: Process.cancel_timer(timer)

  defp tell_pool(state, event), do: send(state.pool, {:worker, self(), event})
end
