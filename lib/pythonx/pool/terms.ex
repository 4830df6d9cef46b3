defmodule Pythonx.Pool.Terms do
  # Handles inside of terms, on their way between a pool and a worker.
  @moduledoc false

  @doc "Whether `match?` is true of a struct somewhere in the term. Structs that it is not true of are not looked into."
  @spec any?(term(), (struct() -> boolean())) :: boolean()
  def any?(term, _match?) when is_number(term) or is_binary(term) or is_atom(term), do: false
  def any?([head | tail], match?), do: any?(head, match?) or any?(tail, match?)
  def any?([], _match?), do: false
  def any?(tuple, match?) when is_tuple(tuple), do: tuple |> Tuple.to_list() |> any?(match?)
  def any?(%MapSet{} = set, match?), do: set |> MapSet.to_list() |> any?(match?)
  def any?(struct, match?) when is_struct(struct), do: match?.(struct) or struct |> Map.from_struct() |> any?(match?)
  def any?(map, match?) when is_map(map), do: map |> Map.to_list() |> any?(match?)
  def any?(_other, _match?), do: false

  @doc """
  Replaces structs by what `fun` makes of them and an accumulator. Where it returns `:walk`, the struct's fields are walked.
  """
  @spec map_reduce(term(), acc, (struct(), acc -> {term(), acc} | :walk)) :: {term(), acc} when acc: term()
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

  def map_reduce(term, acc, _fun), do: {term, acc}
end
