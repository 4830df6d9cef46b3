defmodule Pythonx.Table.Column do
  @moduledoc false

  # A column as an enumerable that reads what it is asked for: a table of a million rows on a page of ten costs ten.

  defstruct [:table, :index]

  @type t :: %__MODULE__{table: Pythonx.Table.t(), index: non_neg_integer()}

  @doc "The values of some rows."
  @spec read(t(), non_neg_integer(), non_neg_integer()) :: list()
  def read(%{table: table, index: index}, offset, length) do
    Pythonx.Table.Reading.column!(table, index, offset, length, nanoseconds: :truncate)
  end
end

defimpl Enumerable, for: Pythonx.Table.Column do
  alias Pythonx.Table.Column

  @batch 1024

  def count(column), do: {:ok, column.table.row_count}
  def member?(_column, _value), do: {:error, __MODULE__}

  def slice(column) do
    read = fn start, length, step -> column |> Column.read(start, (length - 1) * step + 1) |> Enum.take_every(step) end
    {:ok, column.table.row_count, read}
  end

  def reduce(column, acc, fun) do
    0..(column.table.row_count - 1)//@batch
    |> Stream.flat_map(&Column.read(column, &1, min(@batch, column.table.row_count - &1)))
    |> Enumerable.reduce(acc, fun)
  end
end
