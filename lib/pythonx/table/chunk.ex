defmodule Pythonx.Table.Chunk do
  @moduledoc """
  A piece of a column as Arrow has it in memory; see `Pythonx.Table.chunks/2`.

  The fields are those of the [C data interface](https://arrow.apache.org/docs/format/CDataInterface.html):

    * `type`, `format` - the type, as a term and as Arrow's format string, which tells how it is laid out
    * `length` - how many values there are
    * `offset` - where in the buffers they begin, counted in values. Buffers hold `offset + length` values
    * `null_count` - how many are null, or `nil` where nobody has counted them
    * `buffers` - binaries over the memory, without a copy. Where the first one is a bitmap of validity, it is `nil` for
      none
    * `children` - the chunks of element types
    * `dictionary` - the chunk with the values that indices refer to, or `nil`
  """

  @enforce_keys [:type, :format, :length, :offset, :null_count, :buffers, :children, :dictionary]
  defstruct [:type, :format, :length, :offset, :null_count, :buffers, :children, :dictionary]

  @type t :: %__MODULE__{
          type: Pythonx.Table.type(),
          format: String.t(),
          length: non_neg_integer(),
          offset: non_neg_integer(),
          null_count: non_neg_integer() | nil,
          buffers: [binary() | nil],
          children: [t()],
          dictionary: t() | nil
        }

  @doc false
  @spec new(tuple() | nil) :: t() | nil
  def new(nil), do: nil

  def new({type, format, length, offset, null_count, buffers, children, dictionary}) do
    %__MODULE__{
      type: type,
      format: format,
      length: length,
      offset: offset,
      null_count: null_count,
      buffers: buffers,
      children: Enum.map(children, &new/1),
      dictionary: new(dictionary)
    }
  end
end
