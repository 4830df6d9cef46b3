defmodule Pythonx.Pool.Child do
  # The worker's side of the connection: the process that reads it, and starts a process for each job.
  #
  # The connection is a port on the descriptors 3 and 4, which the launcher has put there. When it ends, so does the VM.
  #
  # There is one job at a time. Its process writes the reply itself, when Python has come to rest: a worker that has replied
  # is free. A cancelled job's process is killed, which interrupts its Python; `done` says when that has come to rest. If it
  # never does, the pool kills the worker.
  @moduledoc false

  alias Pythonx.NIF
  alias Pythonx.Pool.{Device, Frame, Job, Memory, Object}

  # A message of more bytes is not left to lie about.
  @large 1_000_000

  # Nothing announces that the Python of a process that is gone has ended.
  @rest_poll_ms 2

  @doc "Called by the VM's command line, while the VM starts."
  @spec start() :: pid()
  def start, do: spawn(&run/0)

  defp run do
    Process.flag(:trap_exit, true)
    port = Port.open({:fd, 3, 4}, [:binary, :eof, packet: 4])
    loop(%{port: port, init: %{}, limit: nil, job: nil})
  catch
    kind, reason ->
      IO.puts(:stderr, Exception.format(kind, reason, __STACKTRACE__))
      :erlang.halt(1)
  end

  defp loop(%{port: port} = state) do
    receive do
      {^port, {:data, message}} -> message |> Frame.parse_to_worker() |> handle(state) |> loop()
      {^port, :eof} -> :erlang.halt(0)
      {:EXIT, ^port, _reason} -> :erlang.halt(0)
      {:DOWN, ref, :process, pid, reason} -> ref |> job_down(pid, reason, state) |> loop()
      :collect -> :erlang.garbage_collect() && loop(state)
      _other -> loop(state)
    end
  end

  defp handle({:setup, _job, payload}, state) do
    {globals, limit} = payload |> :erlang.binary_to_term() |> boot!(state.port)
    send_frame(state.port, Frame.from_worker(:ready, 0, Frame.payload(%{os_pid: System.pid()})))
    %{state | init: globals, limit: limit}
  rescue
    exception ->
      send_frame(state.port, Frame.from_worker(:failed, 0, Exception.message(exception)))
      state
  end

  # Whether there is anybody.
  defp handle({:job, id, ""}, state) do
    send_frame(state.port, Frame.reply(id, 0, 0, {:ok, nil, %{}}))
    state
  end

  defp handle({:job, id, payload}, %{port: port} = state) do
    send_frame(port, Frame.from_worker(:begun, id))
    worker = Map.take(state, [:port, :init, :limit])
    {pid, ref} = spawn_monitor(fn -> Job.run(id, :erlang.binary_to_term(payload), worker) end)
    if byte_size(payload) > @large, do: send(self(), :collect)
    %{state | job: {id, pid, ref, :wanted}}
  end

  # The reply may be on its way already. The pool knows what it has cancelled.
  defp handle({:cancel, id, _payload}, state) do
    case state.job do
      {^id, pid, ref, :wanted} ->
        Process.exit(pid, :kill)
        %{state | job: {id, pid, ref, :cancelled}}

      _ended ->
        send_at_rest(Frame.from_worker(:done, id), state.port)
        state
    end
  end

  defp handle({:release, _job, payload}, state) do
    payload |> :erlang.binary_to_term() |> Object.release()
    state
  end

  # Halting runs Python's atexit handlers.
  defp handle({:halt, _job, _payload}, state) do
    System.halt(0)
    state
  end

  defp job_down(ref, pid, reason, %{job: {id, pid, ref, wanted}} = state) do
    if reason != :normal, do: id |> epitaph(reason, wanted) |> send_at_rest(state.port)
    %{state | job: nil}
  end

  defp job_down(_ref, _pid, _reason, state), do: state

  # A job that was killed and not cancelled, by something that it has called, owes its caller an answer.
  defp epitaph(id, _reason, :cancelled), do: Frame.from_worker(:done, id)
  defp epitaph(id, reason, :wanted), do: Frame.reply(id, 0, 0, {:raised, :exit, reason, []})

  defp send_at_rest(frame, port) do
    spawn_link(fn ->
      await_rest()
      send_frame(port, frame)
    end)
  end

  @doc "Returns when no Python code runs."
  @spec await_rest() :: :ok
  def await_rest do
    if Pythonx.running() == [] do
      :ok
    else
      Process.sleep(@rest_poll_ms)
      await_rest()
    end
  end

  @doc "Writes a message, from any process of the worker."
  @spec send_frame(port(), iodata()) :: true
  def send_frame(port, frame), do: Port.command(port, frame)

  # How often to look at once, before it is done with pauses: the other side may be busy.
  @looks 1000

  @doc """
  Returns when all messages so far have been written.

  The VM writes on a thread of its own. What it has not written is lost when code ends the worker, and that a job has begun
  must not be: it would be given to another.
  """
  @spec await_written(port(), non_neg_integer()) :: :ok
  def await_written(port, looks \\ @looks) do
    case :erlang.port_info(port, :queue_size) do
      {:queue_size, size} when size > 0 ->
        if looks == 0, do: Process.sleep(1), else: :erlang.yield()
        await_written(port, max(looks - 1, 0))

      _written_or_closed ->
        :ok
    end
  end

  # Returns the globals that the initial code leaves, and the limit of memory.
  defp boot!(setup, port) do
    Object.new_table()
    Device.start(port)
    {:ok, _apps} = Application.ensure_all_started(:logger)
    {:ok, _supervisor} = Pythonx.Application.start_services()
    start_python!(setup.environment)
    prepare_python()
    globals = evaluate_init!(setup.init)
    # Jobs begin with the context variables that were set, and run on the main thread.
    NIF.call("share_state", {})
    {globals, Memory.limit(setup.max_memory)}
  end

  defp start_python!({toml, false, opts}), do: Pythonx.Uv.uv_init(toml, opts)
  defp start_python!({toml, private, opts}), do: Pythonx.Uv.init_from_priv(toml, opts, private)

  # The connection is not for what Python starts. A fatal signal leaves the stack of each thread in what the launcher keeps.
  defp prepare_python do
    Pythonx.eval(
      """
      import faulthandler, os
      for descriptor in (3, 4):
          os.set_inheritable(descriptor, False)
      faulthandler.enable(file=2)
      """,
      %{}
    )
  end

  defp evaluate_init!(nil), do: %{}

  defp evaluate_init!(code) do
    {_result, globals} = Pythonx.eval(code, %{})
    globals
  end
end
