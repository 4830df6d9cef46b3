defmodule Pythonx.Watch do
  @moduledoc false

  # Hears from the native side of threads that do not end although they were interrupted, and tells whoever may want to
  # know: the log and telemetry.

  use GenServer

  require Logger

  @spec start_link(term()) :: GenServer.on_start()
  def start_link(_opts), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)

  @impl true
  def init(nil), do: {:ok, %{reported: 0}}

  @impl true
  def handle_info({:pythonx_event, event, process, elapsed, code}, state) when event in [:stuck, :freed] do
    Pythonx.Telemetry.execute([:pythonx, :thread, event], %{elapsed: elapsed}, %{process: process, code: code})
    log(event, process, elapsed, code)
    {:noreply, %{state | reported: state.reported + 1}}
  end

  def handle_info(_unknown, state), do: {:noreply, state}

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
