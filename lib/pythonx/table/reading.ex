defmodule Pythonx.Table.Reading do
  @moduledoc false

  # Values and memory of columns. What it refuses, it names with the column and, where there is one, the row.

  alias Pythonx.NIF
  alias Pythonx.NIF.Job
  alias Pythonx.Table

  @doc "Some rows of a column as a list."
  @spec column!(Table.t(), non_neg_integer(), non_neg_integer(), non_neg_integer(), keyword()) :: list()
  def column!(table, index, offset, length, opts) do
    type = Enum.at(table.types, index)
    refuse_unsupported!(table, index, type)
    read!(table, index, offset, length, options!([type], opts))
  end

  @doc "The same with the options of the native side: whether there are `Decimal` and `Duration`, and what is cut off."
  @spec read!(Table.t(), non_neg_integer(), non_neg_integer(), non_neg_integer(), {boolean(), boolean(), boolean()}) ::
          list()
  def read!(table, index, offset, length, options) do
    Job.native(:table_column, [NIF.local!(table.object), index, offset, length, options]) |> result!(table)
  end

  @doc "All columns as lists, in their order."
  @spec columns!(Table.t(), keyword()) :: [list()]
  def columns!(table, opts) do
    options = options!(table.types, opts)

    for {type, index} <- Enum.with_index(table.types) do
      refuse_unsupported!(table, index, type)
      read!(table, index, 0, table.row_count, options)
    end
  end

  @doc "The rows as maps."
  @spec rows!(Table.t(), keyword()) :: [%{String.t() => term()}]
  def rows!(table, opts) do
    options = options!(table.types, opts)
    for {type, index} <- Enum.with_index(table.types), do: refuse_unsupported!(table, index, type)
    Job.native(:table_rows, [NIF.local!(table.object), 0, table.row_count, options]) |> result!(table)
  end

  @doc "The raw values of all columns, in their order: for each of them a list of binaries."
  @spec raw_columns!(Table.t()) :: [[binary()]]
  def raw_columns!(table) do
    for index <- 0..(length(table.types) - 1)//1, do: raw_values!(table, index)
  end

  @doc "The chunks of a column as the native side has them."
  @spec chunks!(Table.t(), non_neg_integer()) :: [tuple()]
  def chunks!(table, index) do
    refuse_unsupported!(table, index, Enum.at(table.types, index))
    Job.native(:table_chunks, [NIF.local!(table.object), index])
  end

  defp result!({:error, {index, row, text}}, table) do
    raise ArgumentError, "column #{name(table, index)}, row #{row}: #{text}"
  end

  defp result!(list, _table), do: list

  # {decimals, durations, truncate}. To look for a module that is not there takes a third of a millisecond, so nobody looks
  # for what no column needs.
  defp options!(types, opts) do
    nanoseconds = opts[:nanoseconds]

    if nanoseconds not in [:raise, :truncate] do
      raise ArgumentError, "expected :nanoseconds to be :raise or :truncate, got: #{inspect(nanoseconds)}"
    end

    decimals = Enum.any?(types, &find(&1, :decimal)) and Code.ensure_loaded?(Decimal)
    durations = Enum.any?(types, &find(&1, :duration)) and Code.ensure_loaded?(Duration)
    {decimals, durations, nanoseconds == :truncate}
  end

  defp raw_values!(table, index) do
    case Job.native(:table_binaries, [NIF.local!(table.object), index]) do
      {:error, :type} ->
        type = inspect(Enum.at(table.types, index))
        raise ArgumentError, "column #{name(table, index)}: #{type} has no raw values of a fixed size"

      {:error, nulls} ->
        raise ArgumentError,
              "column #{name(table, index)}: raw values cannot show its #{nulls} nulls; see Pythonx.Table.chunks/2"

      binaries ->
        binaries
    end
  end

  defp refuse_unsupported!(table, index, type) do
    with {:unsupported, format} <- find(type, :unsupported) do
      raise ArgumentError,
            "column #{name(table, index)}: the Arrow type #{inspect(format)}#{explain(format)} has no counterpart in Elixir"
    end
  end

  # Arrow's format strings are short.
  defp explain("tiM"), do: ", an interval of months,"
  defp explain("tiD"), do: ", an interval of days and milliseconds,"
  defp explain("tin"), do: ", an interval of months, days and nanoseconds,"
  defp explain("+u" <> _rest), do: ", a union,"
  defp explain("_pli128"), do: ", integers of 128 bits of polars,"
  defp explain(_format), do: ""

  defp name(table, index), do: inspect(Enum.at(table.names, index))

  # The type itself, or the first one of its kind in it.
  defp find(type, kind) when is_tuple(type) and elem(type, 0) == kind, do: type
  defp find({:struct, fields}, kind), do: Enum.find_value(fields, fn {_name, type} -> find(type, kind) end)
  defp find({:list, type}, kind), do: find(type, kind)
  defp find({:fixed_size_list, type, _length}, kind), do: find(type, kind)
  defp find({outer, one, other}, kind) when outer in [:map, :dictionary], do: find(one, kind) || find(other, kind)
  defp find(_type, _kind), do: nil
end
