defmodule Pythonx.Pool.Streams do
  # See `Pythonx.Pool.async_stream/4`. A task for each element, of which there are never more than may run; what goes wrong in
  # one becomes its result.
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
    task_opts = [max_concurrency: concurrency, ordered: opts.ordered, timeout: :infinity]

    enumerable
    |> Task.async_stream(&attempt(fn -> work.(pool, &1) end), task_opts)
    |> Stream.map(fn {:ok, result} -> result end)
    |> with_progress(opts.progress, enumerable)
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
    check!(opts, :globals, &is_map/1, "a map")
    check!(opts, :progress, &(&1 == nil or is_function(&1, 2)), "a function of two arguments")
    Pythonx.Calls.timeout!(opts.timeout)
    opts
  end

  defp check!(opts, key, valid?, expected) do
    value = Map.fetch!(opts, key)
    valid?.(value) || raise ArgumentError, "expected #{inspect(key)} to be #{expected}, got: #{inspect(value)}"
  end
end
