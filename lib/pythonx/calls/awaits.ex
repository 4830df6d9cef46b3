defmodule Pythonx.Calls.Awaits do
  @moduledoc false

  # Awaiting Python's awaitables. They run as tasks on Python's event loop (priv/python/pythonx/_loop.py), so no thread
  # waits. This process knows who waits for which, by a key, and is told by Python, of this VM or of a worker (its home), what becomes of them:
  #
  #     caller -> Awaits   {:watch, caller, alias, key, home}
  #     caller -> Python   start(awaitable, awaits, key)
  #     Python -> Awaits   {:pythonx_await, :started, key}, {:pythonx_await, :done, key}
  #     Awaits -> caller   {alias, :done}
  #     caller -> Python   take_outcome(key)
  #     caller -> Awaits   {:taken, key}, or {:forget, key, home}: the caller gave up
  #
  # Whoever gives up does so at once, however busy Python is: nothing is sent to an alias that has been given back. Python
  # is told later, to cancel the task and to drop its outcome; also when a caller has died, and when something was
  # started that is known here no more. The outcome stays in Python until it is taken: in the heap of this process it would
  # live until the next collection.

  use GenServer

  alias Pythonx.Calls
  alias Pythonx.Calls.Callbacks
  alias Pythonx.Calls.Deadline
  alias Pythonx.NIF
  alias Pythonx.Pool.Home
  alias Pythonx.Calls.Options
  alias Pythonx.Telemetry

  @loop "pythonx._loop"
  @farewell_ms 1000

  @doc """
  Waits for an awaitable; see `Pythonx.await/2`.
  """
  @spec await(Pythonx.Object.t(), keyword()) :: term()
  def await(awaitable, opts) do
    opts = opts |> Options.validate!([:decode, :timeout]) |> Map.put(:binaries, :bytes)
    awaitable = NIF.local!(awaitable)
    opts = %{opts | timeout: Deadline.new(opts.timeout)}
    key = System.unique_integer([:positive])
    Telemetry.operation(:await, fn -> run(awaitable, Home.of({awaitable}), server!(), key, opts) end)
  end

  defp server! do
    Process.whereis(__MODULE__) ||
      raise "the :pythonx application needs to be started before something can be awaited"
  end

  defp run(awaitable, home, server, key, opts) do
    monitor = Process.monitor(server, alias: :demonitor)
    send(server, {:watch, self(), monitor, key, home})

    try do
      Calls.internal(@loop, "start", {awaitable, server, key}, opts.timeout)
      wait(monitor, opts.timeout)
      Home.at(home, fn -> Calls.run(:take_outcome, {key}, [], opts) end)
    catch
      kind, reason ->
        # Not to `server`, which may have crashed: the next one does not know the key, but Python does.
        if next = Process.whereis(__MODULE__), do: send(next, {:forget, key, home})
        :erlang.raise(kind, reason, __STACKTRACE__)
    else
      result ->
        send(server, {:taken, key})
        result
    after
      # Those of the jobs in between say nothing of the whole.
      Telemetry.forget_times()
      let_go(monitor)
    end
  end

  defp wait(monitor, deadline) do
    receive do
      {^monitor, :done} -> :ok
      {:DOWN, ^monitor, :process, _server, reason} -> exit({reason, {__MODULE__, :await, []}})
    after
      Deadline.left(deadline) -> Deadline.give_up!(deadline)
    end
  end

  defp let_go(monitor) do
    Process.demonitor(monitor, [:flush])

    receive do
      {^monitor, :done} -> :ok
    after
      0 -> :ok
    end
  end

  @doc """
  Interrupts what the process awaits; false when it awaits nothing.
  """
  @spec interrupt(pid()) :: boolean()
  def interrupt(pid) do
    keys = if Process.whereis(__MODULE__), do: GenServer.call(__MODULE__, {:awaited_by, pid}, :infinity), else: []
    Enum.count(keys, fn {key, home} -> Home.at(home, fn -> Calls.internal(@loop, "interrupt", {key}) end) end) > 0
  end

  @spec start_link(term()) :: GenServer.on_start()
  def start_link(_opts), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)

  @impl true
  def init(nil) do
    # When the application stops, nobody is left who would cancel what is awaited.
    Process.flag(:trap_exit, true)
    {:ok, %{}}
  end

  # `awaits` is a map of keys to {process, alias, monitor of the process, where it runs}.
  @impl true
  def handle_info({:watch, pid, reply_to, key, home}, awaits) do
    {:noreply, Map.put(awaits, key, {pid, reply_to, Process.monitor(pid), home})}
  end

  def handle_info({:pythonx_await, "started", key}, awaits) do
    unless is_map_key(awaits, key), do: forget(key, nil)
    {:noreply, awaits}
  end

  def handle_info({:pythonx_await, "done", key}, awaits) do
    with {:ok, {_pid, reply_to, _monitor, _home}} <- Map.fetch(awaits, key), do: send(reply_to, {reply_to, :done})
    {:noreply, awaits}
  end

  def handle_info({:taken, key}, awaits), do: {:noreply, drop(awaits, key)}

  def handle_info({:forget, key, home}, awaits) do
    forget(key, home)
    {:noreply, drop(awaits, key)}
  end

  def handle_info({:DOWN, monitor, :process, _pid, _reason}, awaits) do
    {gone, kept} = Enum.split_with(awaits, fn {_key, {_pid, _reply_to, other, _home}} -> other == monitor end)
    for {key, {_pid, _reply_to, _monitor, home}} <- gone, do: forget(key, home)
    {:noreply, Map.new(kept)}
  end

  def handle_info(_unknown, awaits), do: {:noreply, awaits}

  @impl true
  def handle_call({:awaited_by, pid}, _from, awaits) do
    {:reply, for({key, {^pid, _reply_to, _monitor, home}} <- awaits, do: {key, home}), awaits}
  end

  defp drop(awaits, key) do
    {gone, awaits} = Map.pop(awaits, key)
    with {_pid, _reply_to, monitor, _home} <- gone, do: Process.demonitor(monitor, [:flush])
    awaits
  end

  @impl true
  def terminate(_reason, awaits) when awaits == %{}, do: :ok

  def terminate(_reason, awaits) do
    keys = for {key, {_pid, _reply_to, _monitor, nil}} <- awaits, do: key
    if keys != [], do: Calls.internal(@loop, "forget_all", {keys}, Deadline.new(@farewell_ms))
  catch
    # Python is too busy.
    _kind, _reason -> :ok
  end

  # Elsewhere: Python may be busy, and others wait to be watched.
  defp forget(key, home) do
    Callbacks.elsewhere(fn -> Home.at(home, fn -> Calls.internal(@loop, "forget", {key}) end) end)
  end
end
