defmodule Pythonx.Pool.Streams do
  # See `Pythonx.Pool.async_stream/4`. A task for each element, of which there are never more than may run; what goes wrong in
  # one becomes its result.
  #
  # Not `Task.async_stream/3`: while the first of its tasks takes its time, an ordered one reads on and keeps what is ready
  # behind it, without a bound. Here at most twice as many elements as may run have been read and not been yielded.
  @moduledoc false

  alias Pythonx.Pool
  alias Pythonx.Pool.{Client, OverloadedError}

  @defaults [
    max_concurrency: nil,
    ordered: true,
    timeout: :infinity,
    as: "x",
    globals: %{},
    binaries: :bytes,
    progress: nil
  ]

  @spec async_stream(GenServer.server(), Enumerable.t(), String.t() | function(), keyword()) :: Enumerable.t()
  def async_stream(pool, enumerable, code_or_function, opts) do
    opts = opts |> Keyword.validate!(@defaults) |> Map.new() |> check!()
    work = work(code_or_function, opts)

    # The size is asked for when the stream is used.
    Stream.flat_map([pool], &start(&1, enumerable, work, opts))
  end

  defp start(pool, enumerable, work, opts) do
    concurrency = opts.max_concurrency || Pool.info(pool).size

    Stream.resource(
      fn -> new(enumerable, fn item -> attempt(fn -> work.(pool, item) end) end, concurrency, opts.ordered) end,
      &next/1,
      &stop/1
    )
    |> with_progress(opts.progress, enumerable)
  end

  ## The tasks

  # `read` continues the enumerable. Elements are counted: `first` is the number of the next one to yield in order, `last` of
  # the last one read. `running` has the numbers of tasks, `ready` the results that wait for their turn.
  defp new(enumerable, fun, concurrency, ordered) do
    read = &Enumerable.reduce(enumerable, &1, fn item, _acc -> {:suspend, item} end)
    %{read: read, fun: fun, concurrency: concurrency, ordered: ordered, first: 1, last: 0, running: %{}, ready: %{}}
  end

  defp next(state) do
    state = fill(state)

    case state do
      %{ready: %{} = ready, first: first} when is_map_key(ready, first) ->
        {result, ready} = Map.pop(ready, first)
        {[result], %{state | ready: ready, first: first + 1}}

      %{running: running} when running == %{} ->
        {:halt, state}

      _waiting ->
        await(state)
    end
  end

  defp fill(%{read: nil} = state), do: state

  defp fill(state) do
    unread? = map_size(state.running) < state.concurrency and state.last - state.first + 1 < 2 * state.concurrency
    if unread?, do: state |> read_one() |> fill(), else: state
  end

  defp read_one(%{read: read, fun: fun} = state) do
    case read.({:cont, nil}) do
      {:suspended, item, read} ->
        task = Task.async(fn -> fun.(item) end)
        number = state.last + 1
        %{state | read: read, last: number, running: Map.put(state.running, task.ref, {number, task})}

      _at_its_end ->
        %{state | read: nil}
    end
  end

  defp await(%{running: running} = state) do
    receive do
      {ref, result} when is_map_key(running, ref) ->
        Process.demonitor(ref, [:flush])
        {{number, _task}, running} = Map.pop!(running, ref)
        finished(%{state | running: running}, number, result)

      # Only to a process that traps exits: the task is linked.
      {:DOWN, ref, :process, _pid, reason} when is_map_key(running, ref) ->
        exit(reason)
    end
  end

  defp finished(%{ordered: true} = state, number, result) do
    next(%{state | ready: Map.put(state.ready, number, result)})
  end

  defp finished(state, _number, result), do: {[result], %{state | first: state.first + 1}}

  # What runs for a stream that is left is stopped, and the enumerable told that no more is read.
  defp stop(%{running: running, read: read}) do
    for {_ref, {_number, task}} <- running, do: Task.shutdown(task, :brutal_kill)
    if read, do: read.({:halt, nil})
    :ok
  end

  defp work(code, opts) when is_binary(code) do
    eval_opts = [timeout: opts.timeout, binaries: opts.binaries]
    fn pool, item -> pool |> Pool.eval!(code, Map.put(opts.globals, opts.as, item), eval_opts) |> elem(0) end
  end

  defp work(function, opts) do
    worker_opts = %{queue_timeout: :infinity, timeout: opts.timeout}
    fn pool, item -> pool |> Client.with_worker(worker_opts, &function.(&1, item)) |> result!(pool) end
  end

  defp result!({:ok, result}, _pool), do: result
  defp result!({:error, :overloaded}, pool), do: raise(OverloadedError, pool: pool)

  # An exit is not caught: it says that the pool itself is gone.
  defp attempt(fun) do
    {:ok, fun.()}
  rescue
    exception -> {:error, exception}
  end

  defp with_progress(stream, nil, _enumerable), do: stream

  defp with_progress(stream, progress, enumerable) do
    total = total(enumerable)

    Stream.with_index(stream, fn result, index ->
      progress.(index + 1, total)
      result
    end)
  end

  # What would have to be read to be counted is not.
  defp total(enumerable) when is_list(enumerable), do: length(enumerable)

  defp total(enumerable) do
    case Enumerable.count(enumerable) do
      {:ok, count} -> count
      {:error, _module} -> nil
    end
  end

  defp check!(opts) do
    check!(opts, :max_concurrency, &(&1 == nil or (is_integer(&1) and &1 > 0)), "a positive integer")
    check!(opts, :ordered, &is_boolean/1, "a boolean")
    check!(opts, :as, &is_binary/1, "a string")
    check!(opts, :globals, &globals?/1, "a map with strings as keys")
    check!(opts, :binaries, &(&1 in [:bytes, :str]), ":bytes or :str")
    check!(opts, :progress, &(&1 == nil or is_function(&1, 2)), "a function of two arguments")
    Pythonx.Calls.timeout!(opts.timeout)
    opts
  end

  defp globals?(globals), do: is_map(globals) and Enum.all?(Map.keys(globals), &is_binary/1)

  defp check!(opts, key, valid?, expected) do
    value = Map.fetch!(opts, key)
    valid?.(value) || raise ArgumentError, "expected #{inspect(key)} to be #{expected}, got: #{inspect(value)}"
  end
end
