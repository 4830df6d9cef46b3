defmodule Pythonx.Telemetry do
  @moduledoc false

  # Events in the shape of `:telemetry`, which is used where it is loaded and no dependency of ours.

  @doc """
  Emits an event.
  """
  @spec execute([atom()], map(), map()) :: :ok
  def execute(event, measurements, metadata) do
    if loaded?(), do: apply(:telemetry, :execute, [event, measurements, metadata])
    :ok
  end

  @doc """
  Runs the function between the events `start` and `stop`, or `exception`, as `:telemetry.span/3` has them.
  """
  @spec span([atom()], map(), (-> result)) :: result when result: term()
  def span(event, metadata, fun) do
    if loaded?(), do: run_span(event, metadata, fun), else: fun.()
  end

  defp run_span(event, metadata, fun) do
    start = System.monotonic_time()
    execute(event ++ [:start], %{monotonic_time: start, system_time: System.system_time()}, metadata)

    try do
      fun.()
    catch
      kind, reason ->
        failure = Map.merge(metadata, %{kind: kind, reason: reason, stacktrace: __STACKTRACE__})
        execute(event ++ [:exception], duration(start), failure)
        :erlang.raise(kind, reason, __STACKTRACE__)
    else
      result ->
        execute(event ++ [:stop], duration(start), metadata)
        result
    end
  end

  defp duration(start) do
    now = System.monotonic_time()
    %{duration: now - start, monotonic_time: now}
  end

  defp loaded?, do: :erlang.function_exported(:telemetry, :execute, 3)
end
