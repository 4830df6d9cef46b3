defmodule Pythonx.Table.Arguments do
  @moduledoc false

  # What `Pythonx.Table.new/2` is given, as the native side takes it.

  @typedoc """
  A column: its name, its type or `nil`, and its values.
  """
  @type column :: {String.t(), Pythonx.Table.type() | nil, {:rows, list()} | {:binary, [binary()]}}

  @doc """
  The columns in the order in which they are given.
  """
  @spec columns!(Enumerable.t(), Enumerable.t()) :: [column()]
  def columns!(columns, types) do
    types = types |> pairs!(":types") |> Map.new(fn {name, type} -> {name!(name), type} end)
    columns = for {name, data} <- pairs!(columns, "columns"), do: column_argument(name!(name), data, types)
    names = Enum.map(columns, &elem(&1, 0))
    refuse_repeated!(names, "a table is made of columns with different names")

    with [name | _rest] <- types |> Map.drop(names) |> Map.keys() do
      raise ArgumentError, "the option :types has a type for #{inspect(name)}, which is no column"
    end

    columns
  end

  defp pairs!(columns, _what) when is_map(columns) and not is_struct(columns), do: Map.to_list(columns)

  defp pairs!(columns, what) do
    if is_list(columns) and Enum.all?(columns, &match?({_name, _value}, &1)) do
      columns
    else
      raise ArgumentError, "expected #{what} to be a map or a list of pairs, got: #{inspect(columns, limit: 5)}"
    end
  end

  defp name!(name) when is_atom(name) and not is_nil(name), do: Atom.to_string(name)

  defp name!(name) when is_binary(name) do
    if String.valid?(name) and not String.contains?(name, "\0"), do: name, else: refuse_name!(name)
  end

  defp name!(name), do: refuse_name!(name)

  defp refuse_name!(name) do
    raise ArgumentError, "expected the name of a column to be an atom or a string without NUL, got: #{inspect(name)}"
  end

  defp column_argument(name, data, types) do
    type = types[name]

    cond do
      is_binary(data) ->
        {name, plain!(name, type), {:binary, [data]}}

      match?([first | _] when is_binary(first), data) and raw?(type) ->
        {name, type, {:binary, binaries!(name, data)}}

      is_list(data) and not List.improper?(data) ->
        {name, type, {:rows, data}}

      is_list(data) ->
        raise ArgumentError, "column #{inspect(name)}: expected a list or a binary, got an improper list"

      is_struct(data, Range) ->
        {name, type, {:rows, Enum.to_list(data)}}

      true ->
        raise ArgumentError, "column #{inspect(name)}: expected a list or a binary, got: #{inspect(data, limit: 5)}"
    end
  end

  # Types of which no value is a binary: a list of binaries can only be one of raw values.
  defp raw?(:date), do: true
  defp raw?(type) when is_tuple(type), do: elem(type, 0) in ~w(s u f time naive_datetime datetime duration decimal)a
  defp raw?(_type), do: false

  defp plain!(name, type) do
    if raw?(type) or match?({:fixed_size_binary, _bytes}, type) do
      type
    else
      raise ArgumentError,
            "column #{inspect(name)}: a binary of raw values needs a type of numbers, dates or times, got: #{inspect(type)}"
    end
  end

  defp binaries!(name, list) do
    case Enum.find_index(list, &(not is_binary(&1))) do
      nil -> list
      index -> raise ArgumentError, "column #{inspect(name)}: expected binaries, got: #{inspect(Enum.at(list, index))}"
    end
  end

  @doc """
  Raises when two columns have the same name.
  """
  @spec refuse_repeated!([String.t()], String.t()) :: :ok
  def refuse_repeated!(names, why) do
    case names -- Enum.uniq(names) do
      [] -> :ok
      [name | _rest] -> raise ArgumentError, "two columns are named #{inspect(name)}, and #{why}"
    end
  end
end
