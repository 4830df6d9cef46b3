defmodule Pythonx.Calls.Streams do
  @moduledoc false

  # Python iterators as Elixir streams. Elements come in batches, one job for each: the first has a single element, and
  # they double in size while reading them is fast. See c_src/bridge/work/stream_operations.cpp.

  alias Pythonx.Calls
  alias Pythonx.NIF
  alias Pythonx.Calls.Options

  # A batch ends after this many microseconds, and one that takes less than the second of them is followed by a larger.
  @budget 10_000
  @fast 2_000
  @max_elements 16_384

  @doc """
  A lazy enumerable over a Python iterable; see `Pythonx.stream/2`.
  """
  @spec stream(Pythonx.Object.t(), keyword()) :: Enumerable.t()
  def stream(object, opts) do
    opts = opts |> Options.validate!([:timeout, decode: true]) |> Map.put(:binaries, :str)
    Stream.resource(fn -> start(object, opts) end, &next(&1, opts), &close(&1, opts))
  end

  defp start(object, opts) do
    {Calls.perform(:iterate, {NIF.local!(object)}, [], %{opts | decode: false}), 1}
  end

  defp next({:failed, error}, _opts), do: NIF.raise_error!(error)
  defp next({iterator, :done}, _opts), do: {:halt, {iterator, :done}}

  defp next({iterator, count}, opts) do
    started = System.monotonic_time(:microsecond)
    {status, elements} = Calls.perform(:next_batch, {iterator, count, @budget}, [], opts)
    elapsed = System.monotonic_time(:microsecond) - started

    case status do
      :more -> {elements, {iterator, next_count(count, elapsed)}}
      :done -> {elements, {iterator, :done}}
      error -> {elements, {:failed, error}}
    end
  end

  defp next_count(count, elapsed) when elapsed < @fast, do: min(count * 2, @max_elements)
  defp next_count(count, elapsed) when elapsed > @budget, do: max(div(count, 2), 1)
  defp next_count(count, _elapsed), do: count

  defp close({:failed, _error}, _opts), do: :ok
  defp close({_iterator, :done}, _opts), do: :ok
  defp close({iterator, _count}, opts), do: Calls.perform(:close_iterator, {iterator}, [], opts)
end

defimpl Enumerable, for: Pythonx.Object do
  def reduce(object, acc, fun), do: object |> Pythonx.Calls.Streams.stream([]) |> Enumerable.reduce(acc, fun)
  def count(_object), do: {:error, __MODULE__}
  def member?(_object, _element), do: {:error, __MODULE__}
  def slice(_object), do: {:error, __MODULE__}
end
