defmodule Pythonx.Pool.Handles do
  # Takes the notices that a handle to an object in a worker has been collected on this node, and tells the worker's
  # process, which may be on another node. It is on every node, as the notices reach processes of their own node only.
  @moduledoc false

  use GenServer

  # Long enough for one message to speak for all that one garbage collection drops.
  @batch_ms 1

  @spec start_link(term()) :: GenServer.on_start()
  def start_link(_opts), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)

  @doc "A reference whose collection makes `worker` let go of the object `id`."
  @spec marker(pid(), pos_integer()) :: reference()
  def marker(worker, id) do
    pid = Process.whereis(__MODULE__) || raise "the :pythonx application needs to be started before a pool can be used"
    Pythonx.NIF.Loader.gc_notifier(pid, {:dropped, worker, id})
  end

  @impl true
  def init(nil), do: {:ok, %{}}

  @impl true
  def handle_info({:dropped, worker, id}, dropped) do
    if dropped == %{}, do: Process.send_after(self(), :tell, @batch_ms)
    {:noreply, Map.update(dropped, worker, [id], &[id | &1])}
  end

  def handle_info(:tell, dropped) do
    Enum.each(dropped, fn {worker, ids} -> send(worker, {:release, ids}) end)
    {:noreply, %{}}
  end

  def handle_info(_unknown, dropped), do: {:noreply, dropped}
end
