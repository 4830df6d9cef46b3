defmodule Pythonx.Table.Failure do
  @moduledoc false

  # What `Pythonx.Table.new/2` says of a value that the native side has refused.

  @doc "The message for `{column, row, value, reason, type}`."
  @spec message({non_neg_integer(), non_neg_integer(), term(), atom(), term()}, [String.t()]) :: String.t()
  def message({index, rows, first, :length, nil}, [name | _rest] = names) do
    "column #{inspect(Enum.at(names, index))} has #{rows} rows, but column #{inspect(name)} has #{first}"
  end

  def message({index, _row, type, :unsupported, _type}, names) do
    "column #{inspect(Enum.at(names, index))}: no column can be made of the type #{inspect(type)}"
  end

  def message({index, _row, size, :size, type}, names) when is_integer(size) do
    "column #{inspect(Enum.at(names, index))}: #{size} bytes are not a whole number of values of #{inspect(type)}"
  end

  def message({index, row, value, reason, type}, names) do
    "column #{inspect(Enum.at(names, index))}, row #{row}: #{text(reason, value, type)}"
  end

  defp text(:type, value, nil), do: "a column cannot hold #{show(value)}"
  defp text(:type, value, type), do: "expected a value of #{inspect(type)}, got: #{show(value)}"
  defp text(:mixed, value, _type), do: "#{show(value)} is of another type than the values before it"

  defp text(:range, value, nil) when is_integer(value),
    do: "#{show(value)} does not fit integers of 64 bits with the others"

  defp text(:range, value, nil), do: "#{show(value)} does not fit a decimal of 76 digits with the others"
  defp text(:range, value, type), do: "#{show(value)} does not fit #{inspect(type)}"
  defp text(:precision, value, type), do: "#{show(value)} would lose digits as #{inspect(type)}"
  defp text(:utf8, value, _type), do: "#{show(value)} is not UTF-8; what is no text needs the type :binary"
  defp text(:key, value, nil), do: "#{show(value)} cannot be the name of a field"
  defp text(:key, nil, type), do: "nil cannot be a key of #{inspect(type)}"
  defp text(:key, value, type), do: "a key is no field of #{inspect(type)}: #{show(value)}"
  defp text(:length, value, type), do: "#{show(value)} does not have the length of #{inspect(type)}"
  defp text(:size, value, type), do: "#{show(value)} does not have the size of #{inspect(type)}"
  defp text(:improper, value, _type), do: "an improper list: #{show(value)}"

  defp show(term), do: inspect(term, limit: 5, printable_limit: 60)
end
