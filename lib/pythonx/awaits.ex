defmodule Pythonx.Awaits do
  @moduledoc false

  # Awaiting Python's awaitables. They run as tasks on Python's event loop (priv/python/pythonx/_loop.py), which sends a
  # message when one is done, so no thread waits. This process watches those who wait: the death of one cancels
  # its task.

  use GenServer

  alias Pythonx.Calls
  alias Pythonx.NIF

  @doc """
  Waits for an awaitable; see `Pythonx.await/2`.
  """
  @spec await(Pythonx.Object.t(), keyword()) :: term()
  def await(awaitable, opts) do
    opts = Keyword.validate!(opts, decode: false, timeout: :infinity)
    Calls.options!(opts)
    key = System.unique_integer([:positive])
    awaitable = NIF.local!(awaitable)
    GenServer.cast(__MODULE__, {:watch, self(), key})
    internal("start", {awaitable, self(), key})

    receive do
      {:pythonx_await, ^key, outcome} ->
        GenServer.cast(__MODULE__, {:forget, key})
        Calls.perform("take_outcome", {outcome}, [], decode: opts[:decode])
    after
      opts[:timeout] -> give_up!(key, opts[:timeout])
    end
  end

  # Once `forget` has returned, the outcome is in the mailbox or will never be sent.
  defp give_up!(key, timeout) do
    GenServer.cast(__MODULE__, {:forget, key})
    internal("forget", {key})

    receive do
      {:pythonx_await, ^key, _late} -> :ok
    after
      0 -> :ok
    end

    raise Pythonx.TimeoutError, timeout: timeout
  end

  defp internal(name, arguments), do: Calls.perform("internal", arguments, ["pythonx._loop", name], decode: true)

  @doc """
  Interrupts what the process awaits; false when it awaits nothing.
  """
  @spec interrupt(pid()) :: boolean()
  def interrupt(pid) do
    keys = if Process.whereis(__MODULE__), do: GenServer.call(__MODULE__, {:awaited_by, pid}, :infinity), else: []
    Enum.count(keys, &internal("interrupt", {&1})) > 0
  end

  @spec start_link(term()) :: GenServer.on_start()
  def start_link(_opts), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)

  @impl true
  def init(nil), do: {:ok, %{}}

  # `awaits` is a map of keys to {process, monitor}.
  @impl true
  def handle_cast({:watch, pid, key}, awaits), do: {:noreply, Map.put(awaits, key, {pid, Process.monitor(pid)})}

  def handle_cast({:forget, key}, awaits) do
    {gone, awaits} = Map.pop(awaits, key)
    with {_pid, monitor} <- gone, do: Process.demonitor(monitor, [:flush])
    {:noreply, awaits}
  end

  @impl true
  def handle_call({:awaited_by, pid}, _from, awaits) do
    {:reply, for({key, {^pid, _monitor}} <- awaits, do: key), awaits}
  end

  @impl true
  def handle_info({:DOWN, monitor, :process, _pid, _reason}, awaits) do
    {gone, kept} = Enum.split_with(awaits, fn {_key, {_pid, other}} -> other == monitor end)
    # Elsewhere: Python may be busy, and others wait to be watched.
    for {key, _awaiting} <- gone, do: spawn(fn -> internal("forget", {key}) end)
    {:noreply, Map.new(kept)}
  end

  def handle_info(_unknown, awaits), do: {:noreply, awaits}
end
