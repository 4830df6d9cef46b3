defmodule Pythonx.Calls.Watch do
  @moduledoc false

  # Hears from the native side of threads: that one was started or retired, that one does not end although it was
  # interrupted, or that one sticks in a finalizer, which nobody waits for. Tells whoever may want to know: the log and telemetry.

  use GenServer

  require Logger

  alias Pythonx.Telemetry

  @spec start_link(term()) :: GenServer.on_start()
  def start_link(_opts), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)

  @impl true
  # How many reports there were of threads that stick or are free again, and how many stick.
  def init(nil), do: {:ok, %{reported: 0, stuck: 0}}

  @impl true
  def handle_info({:pythonx_event, event, thread, main?, count}, state) when event in [:started, :retired] do
    Telemetry.execute([:pythonx, :thread, event], %{count: count}, %{thread: thread, main_thread: main?})
    {:noreply, state}
  end

  def handle_info({:pythonx_event, event, thread, process, elapsed, code}, state) when event in [:stuck, :freed] do
    log(event, process, elapsed, code)
    {:noreply, tell(event, thread, process, elapsed, code, state)}
  end

  def handle_info({:pythonx_event, :release_stuck, thread, elapsed, code}, state) do
    Logger.warning(
      "a finalizer of Python goes on after #{div(elapsed, 1000)} ms, its thread is set aside until it ends: #{code}. " <>
        "Pythonx.interrupt(Process.whereis(Pythonx.Janitor)) interrupts it"
    )

    {:noreply, tell(:stuck, thread, Process.whereis(Pythonx.Janitor), elapsed, code, state)}
  end

  def handle_info({:pythonx_event, :release_freed, thread, elapsed, code}, state) do
    Logger.info("a finalizer of Python ended after #{div(elapsed, 1000)} ms: #{code}")
    {:noreply, tell(:freed, thread, Process.whereis(Pythonx.Janitor), elapsed, code, state)}
  end

  def handle_info(_unknown, state), do: {:noreply, state}

  defp tell(event, thread, process, elapsed, code, state) do
    metadata = %{thread: thread, process: process, code: code}
    Telemetry.execute([:pythonx, :thread, event], %{elapsed: elapsed}, metadata)
    change = if event == :stuck, do: 1, else: -1
    %{state | reported: state.reported + 1, stuck: state.stuck + change}
  end

  defp log(:stuck, process, elapsed, code) do
    Logger.warning(
      "Python code of #{inspect(process)} goes on #{div(elapsed, 1000)} ms after it was interrupted, " <>
        "its thread is set aside until it ends: #{code}"
    )
  end

  defp log(:freed, process, elapsed, code) do
    Logger.info("Python code of #{inspect(process)} ended #{div(elapsed, 1000)} ms after it was interrupted: #{code}")
  end
end
