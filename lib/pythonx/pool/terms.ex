defmodule Pythonx.Pool.Terms do
  # What has to be looked at inside of terms, on their way between a pool and a worker: structs, references, functions. Where
  # there are none is known before, from the bytes (`Pythonx.Pool.External`), and nobody walks.
  @moduledoc false

  @doc """
  Replaces structs, references and functions by what `fun` makes of them and an accumulator. Where it returns `:walk`, they stay
  as they are, and a struct's fields are walked.
  """
  @spec map_reduce(term(), acc, (term(), acc -> {term(), acc} | :walk)) :: {term(), acc} when acc: term()
  def map_reduce([head | tail], acc, fun) do
    {head, acc} = map_reduce(head, acc, fun)
    {tail, acc} = map_reduce(tail, acc, fun)
    {[head | tail], acc}
  end

  def map_reduce(tuple, acc, fun) when is_tuple(tuple) do
    {list, acc} = tuple |> Tuple.to_list() |> map_reduce(acc, fun)
    {List.to_tuple(list), acc}
  end

  def map_reduce(%MapSet{} = set, acc, fun) do
    {list, acc} = set |> MapSet.to_list() |> map_reduce(acc, fun)
    {MapSet.new(list), acc}
  end

  def map_reduce(%module{} = struct, acc, fun) do
    with :walk <- fun.(struct, acc) do
      {fields, acc} = struct |> Map.from_struct() |> map_reduce(acc, fun)
      {Map.put(fields, :__struct__, module), acc}
    end
  end

  def map_reduce(map, acc, fun) when is_map(map) do
    {list, acc} = map |> Map.to_list() |> map_reduce(acc, fun)
    {Map.new(list), acc}
  end

  def map_reduce(term, acc, fun) when is_reference(term) or is_function(term) do
    with :walk <- fun.(term, acc), do: {term, acc}
  end

  def map_reduce(term, acc, _fun), do: {term, acc}
end
