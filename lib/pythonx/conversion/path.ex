defmodule Pythonx.Conversion.Path do
  @moduledoc false

  # Where in a term another one is, as text like `[3]["name"]`. Only ever needed for an error message.

  @longest 400

  @doc """
  The path to the first occurrence of `wanted` in `term`; empty for the term itself or one that is not found.
  """
  @spec find(term(), term()) :: String.t()
  def find(term, wanted), do: find_by(term, &(&1 === wanted))

  @doc """
  The path to the first part of `term` of which `fun` is true; empty for the term itself or when there is none.
  """
  @spec find_by(term(), (term() -> boolean())) :: String.t()
  def find_by(term, fun), do: search([{term, ""}], fun)

  defp search([], _fun), do: ""

  defp search([{term, path} | rest], fun) do
    if fun.(term), do: shorten(path), else: search(children(term, path) ++ rest, fun)
  end

  # Nobody counts a thousand brackets.
  defp shorten(path) when byte_size(path) <= @longest, do: path

  defp shorten(path) do
    String.slice(path, 0, div(@longest, 2)) <> "..." <> String.slice(path, -div(@longest, 2)..-1//1)
  end

  defp children([_ | _] = list, path), do: list_children(list, path, 0)
  defp children(tuple, path) when is_tuple(tuple), do: tuple |> Tuple.to_list() |> list_children(path, 0)

  defp children(%MapSet{} = set, path) do
    Enum.map(set, &{&1, path <> "[member #{inspect(&1)}]"})
  end

  defp children(map, path) when is_map(map) and not is_struct(map) do
    Enum.flat_map(map, fn {key, value} ->
      [{key, path <> "[key #{inspect(key)}]"}, {value, path <> "[#{inspect(key)}]"}]
    end)
  end

  defp children(_term, _path), do: []

  defp list_children([head | tail], path, index) do
    [{head, path <> "[#{index}]"} | list_children(tail, path, index + 1)]
  end

  defp list_children(_end, _path, _index), do: []
end
