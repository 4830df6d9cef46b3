defmodule Pythonx.Telemetry do
  @moduledoc false

  # Events in the shape of `:telemetry`, which is used where it is loaded and no dependency of ours.

  @doc """
  Emits an event.
  """
  @spec execute([atom()], map(), map()) :: :ok
  def execute(event, measurements, metadata) do
    if :erlang.function_exported(:telemetry, :execute, 3) do
      apply(:telemetry, :execute, [event, measurements, metadata])
    end

    :ok
  end
end
