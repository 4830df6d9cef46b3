defmodule Pythonx.Telemetry do
  @moduledoc """
  The events that Pythonx tells of, for [`:telemetry`](https://hexdocs.pm/telemetry).

  That library is no dependency. Where it is loaded, it gets the events below; where it is not, none of this costs
  anything but a look whether it is.

  ## Python code

  Each function that runs Python is a span, of one of two names, in the process that calls it:

    * `[:pythonx, :eval, ...]` - an evaluation, of `Pythonx.eval/3` or the `~PY` sigil

    * `[:pythonx, :operation, ...]` - any other. The functions of `Pythonx` are operations of their names: `:call`,
      `:call_method`, `:getattr`, `:setattr`, `:getitem`, `:setitem`, `:import_module`, `:type`, `:help`, `:iterator`,
      `:await`, `:attach_logger`, `:encode`, `:decode`, `:copy_remote_object`. A stream is one `:iterate`, a `:next_batch`
      for each of its batches, and a `:close_iterator` if it is left early. `object[key]` is `:fetch`, `to_string/1` is
      `:str`, and `inspect/1` is `:repr`

  | event | measurements | metadata |
  |---|---|---|
  | `[:pythonx, :eval, :start]` | `system_time`, `monotonic_time` | `process`, `code` |
  | `[:pythonx, :eval, :stop]` | `duration`, `monotonic_time`, `queue_time`, `gil_wait` | `process`, `code`, `thread` |
  | `[:pythonx, :eval, :exception]` | those of `:stop` | those of `:stop`, `kind`, `reason`, `stacktrace` |
  | `[:pythonx, :operation, :start]` | `system_time`, `monotonic_time` | `process`, `operation`, `name` |
  | `[:pythonx, :operation, :stop]` | `duration`, `monotonic_time`, `queue_time`, `gil_wait` | `process`, `operation`, `name`, `thread` |
  | `[:pythonx, :operation, :exception]` | those of `:stop` | those of `:stop`, `kind`, `reason`, `stacktrace` |

  Times are in native units, see `System.convert_time_unit/3`. `duration` is what the caller waited in all. `queue_time` is
  the part of it until a thread began, `gil_wait` the part after that until Python's lock was free for it; later waits for
  the lock, while the code runs, are not told apart. `thread` is the thread's number, as in `Pythonx.running/0`, and `name`
  the attribute, method or module that an operation is about, otherwise `nil`.

  `encode` and `decode` of plain data run on a scheduler, and what is awaited on the event loop: their `thread` is `nil`.
  `queue_time` and `gil_wait` are missing where they are not known: for `:await`, and for code that did not begin or had
  not ended when its caller gave up.

  ## Threads

  | event | measurements | metadata |
  |---|---|---|
  | `[:pythonx, :thread, :started]` | `count`, how many there are now | `thread`, `main_thread` |
  | `[:pythonx, :thread, :retired]` | `count` | `thread`, `main_thread` |
  | `[:pythonx, :thread, :stuck]` | `elapsed` | `thread`, `process`, `code` |
  | `[:pythonx, :thread, :freed]` | `elapsed` | `thread`, `process`, `code` |

  These are the threads that Pythonx has Python code run on, not those that Python code starts. One is `:stuck`, and set
  aside, when its code goes on a second after it was interrupted, and `:freed` when that ends after all. `elapsed` are the
  microseconds since the interrupt.
  """

  alias Pythonx.NIF

  # The key of the process dictionary under which the times of a job wait for the end of the span that it is part of.
  @times :"$pythonx_times"

  @doc false
  @spec execute([atom()], map(), map()) :: :ok
  def execute(event, measurements, metadata) do
    if loaded?(), do: apply(:telemetry, :execute, [event, measurements, metadata])
    :ok
  end

  @doc false
  @spec span([atom()], map(), (-> result)) :: result when result: term()
  def span(event, metadata, fun) do
    if loaded?(), do: run_span(event, metadata, fun), else: fun.()
  end

  # The span of an operation; what it tells is made only when somebody is told.
  @doc false
  @spec operation(atom(), String.t() | nil, (-> result)) :: result when result: term()
  def operation(operation, name \\ nil, fun) do
    if loaded?() do
      run_span([:pythonx, :operation], %{process: self(), operation: operation, name: name}, fun)
    else
      fun.()
    end
  end

  # Keeps the times of a job for the span that this process is in; without one nobody would take them.
  @doc false
  @spec note({integer(), integer(), non_neg_integer() | nil}) :: :ok
  def note(times) do
    if Process.get(@times), do: Process.put(@times, times)
    :ok
  end

  # Takes back what has been noted, where the times are those of a part only.
  @doc false
  @spec forget_times() :: :ok
  def forget_times() do
    if Process.get(@times), do: Process.put(@times, :none)
    :ok
  end

  defp run_span(event, metadata, fun) do
    observe()
    outer = Process.put(@times, :none)
    start = System.monotonic_time()
    execute(event ++ [:start], %{monotonic_time: start, system_time: System.system_time()}, metadata)

    try do
      fun.()
    catch
      kind, reason ->
        {measurements, metadata} = ended(start, metadata, outer)
        failure = Map.merge(metadata, %{kind: kind, reason: reason, stacktrace: __STACKTRACE__})
        execute(event ++ [:exception], measurements, failure)
        :erlang.raise(kind, reason, __STACKTRACE__)
    else
      result ->
        {measurements, metadata} = ended(start, metadata, outer)
        execute(event ++ [:stop], measurements, metadata)
        result
    end
  end

  defp ended(start, metadata, outer) do
    times = if outer, do: Process.put(@times, outer), else: Process.delete(@times)
    now = System.monotonic_time()
    measurements = %{duration: now - start, monotonic_time: now}

    case times do
      {queued, waited, thread} ->
        times = %{queue_time: native(queued), gil_wait: native(waited)}
        {Map.merge(measurements, times), Map.put(metadata, :thread, thread)}

      :none ->
        {measurements, Map.put(metadata, :thread, nil)}
    end
  end

  defp native(nanoseconds), do: System.convert_time_unit(nanoseconds, :nanosecond, :native)

  # From the first listener on the native side takes times, which is only then worth its while.
  defp observe() do
    if not :persistent_term.get({__MODULE__, :observing}, false) and NIF.initialized?() do
      NIF.observe(true)
      :persistent_term.put({__MODULE__, :observing}, true)
    end
  end

  defp loaded?, do: :erlang.function_exported(:telemetry, :execute, 3)
end
