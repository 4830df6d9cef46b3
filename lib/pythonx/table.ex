defmodule Pythonx.Table do
  @moduledoc ~S'''
  Columns of data that Elixir and Python share, without a copy.

  `Pythonx.table/2` takes whatever a Python library offers as [Arrow](https://arrow.apache.org) data: a pyarrow table, a
  polars or pandas data frame, a relation of duckdb. `new/2` makes a table of lists, or of binaries with raw values.
  Encoding a table gives Python an object that all of these libraries read:

      iex> table = Pythonx.Table.new(city: ["Oslo", "Lima"], height: [23, 161])
      iex> table
      #Pythonx.Table<2 rows, city: :string, height: {:s, 64}>
      iex> {frame, _globals} = Pythonx.eval("import polars\npolars.DataFrame(table).filter(polars.col('height') > 100)", %{"table" => table})
      iex> frame |> Pythonx.table() |> Pythonx.Table.to_rows()
      [%{"city" => "Lima", "height" => 161}]

  A table is a handle. Making one of a data frame, encoding it, `select/2`, `slice/3`, `chunks/2` and the raw values of
  `to_columns/2` take a time that depends on the number of columns and chunks, not on that of rows: no element is
  touched. `to_columns/2`, `column/3` and `to_rows/2` make terms of elements. Tables do not change.

  The fields `names`, `types` and `row_count` may be read and matched.

  ## Types

  | Type | Values | From Arrow's |
  |---|---|---|
  | `:null` | `nil` | null |
  | `:boolean` | `true`, `false` | bool |
  | `{:s, bits}`, `{:u, bits}` | integers | int and uint of 8, 16, 32, 64 |
  | `{:f, bits}` | floats, `:nan`, `:infinity`, `:neg_infinity` | float of 16, 32, 64 |
  | `:string` | binaries of UTF-8 | utf8, large_utf8, utf8_view |
  | `:binary` | binaries | binary, large_binary, binary_view |
  | `{:fixed_size_binary, bytes}` | binaries | fixed_size_binary |
  | `:date` | `Date` | date32, date64 |
  | `{:time, unit}` | `Time` | time32, time64 |
  | `{:naive_datetime, unit}` | `NaiveDateTime` | timestamp without a zone |
  | `{:datetime, unit, zone}` | `DateTime`, in UTC | timestamp with a zone |
  | `{:duration, unit}` | `Duration`, or `{value, unit}` before Elixir 1.17 | duration |
  | `{:decimal, precision, scale}` | `Decimal` where that package is loaded, else `{coefficient, exponent}` | decimal32 to decimal256 |
  | `{:list, type}` | lists | list, large_list, list_view, large_list_view |
  | `{:fixed_size_list, type, length}` | lists | fixed_size_list |
  | `{:struct, [{name, type}]}` | maps with strings as keys | struct |
  | `{:map, key_type, value_type}` | maps | map |
  | `{:dictionary, index_type, type}` | those of `type` | dictionary |
  | `{:unsupported, format}` | none | unions, intervals, others |

  Units are `:second`, `:millisecond`, `:microsecond` and `:nanosecond`. Run-end encoded columns have the type of their
  values. A null is `nil` in every type.

  A `DateTime` is an instant: it comes in UTC, whatever the zone of its column, which the type tells. `DateTime.shift_zone/3`
  shows it as local time.

  A column of an unsupported type is kept and passed on to Python. Reading it raises.
  '''

  alias Pythonx.{Calls, NIF, Options, Telemetry}
  alias Pythonx.Table.Chunk

  @enforce_keys [:object, :names, :types, :row_count]
  defstruct [:object, :names, :types, :row_count]

  @type unit :: :second | :millisecond | :microsecond | :nanosecond

  @type type ::
          :null
          | :boolean
          | {:s | :u, 8 | 16 | 32 | 64}
          | {:f, 16 | 32 | 64}
          | :string
          | :binary
          | {:fixed_size_binary, non_neg_integer()}
          | :date
          | {:time | :naive_datetime | :duration, unit()}
          | {:datetime, unit(), zone :: String.t()}
          | {:decimal, precision :: 1..76, scale :: integer()}
          | {:list, type()}
          | {:fixed_size_list, type(), non_neg_integer()}
          | {:struct, [{String.t(), type()}]}
          | {:map, type(), type()}
          | {:dictionary, type(), type()}
          | {:unsupported, String.t()}

  @type t :: %__MODULE__{
          object: Pythonx.Object.t(),
          names: [String.t()],
          types: [type()],
          row_count: non_neg_integer()
        }

  @typedoc """
  A column by its name, or by its index, from 0, where several have the same name.
  """
  @type column :: String.t() | atom() | non_neg_integer()

  @doc """
  The table of a Python object; see `Pythonx.table/2`.

      iex> {frame, _} = Pythonx.eval("import polars\\npolars.DataFrame({'a': [1, 2]})", %{})
      iex> Pythonx.Table.from_object(frame).row_count
      2
  """
  @spec from_object(Pythonx.Object.t(), keyword()) :: t()
  def from_object(%Pythonx.Object{} = object, opts \\ []) do
    %{copy: copy, timeout: timeout} = Options.validate!(opts, [:timeout, copy: :auto])

    if copy not in [:auto, true, false] do
      raise ArgumentError, "expected :copy to be :auto, true or false, got: #{inspect(copy)}"
    end

    arguments = {NIF.local!(object)}
    opts = %{decode: false, binaries: :str, timeout: timeout}
    open(Telemetry.operation(:table, fn -> Calls.run(:read_table, arguments, [Atom.to_string(copy)], opts) end))
  end

  defp open(object) do
    {names, types, row_count} = NIF.table_info(object)
    %__MODULE__{object: object, names: names, types: types, row_count: row_count}
  end

  @doc """
  Makes a table of columns: a map, a keyword list, or a list of pairs, which keeps its order. Names are strings or atoms.

  A column is a list of values, with `nil` for nulls, or a range. Its type is the one that all values have in common:
  integers are `{:s, 64}`, with floats among them `{:f, 64}`, binaries `:string`, dates and times of microseconds, maps
  structs. Maps may lack fields, which are null then. What is in the option `:types` counts before that.

      iex> Pythonx.Table.new([{"id", [1, 2]}, {"tags", [["a"], nil]}], types: %{"id" => {:u, 8}})
      #Pythonx.Table<2 rows, id: {:u, 8}, tags: {:list, :string}>

  A column of numbers, dates or times can also be a binary of raw values in the byte order of the machine, or a list of
  such binaries, one after the other. Then its type has to be given. The binaries are not copied, but for parts of binaries
  that are not aligned.

      iex> table = Pythonx.Table.new(%{x: <<1.5::float-native, 2.5::float-native>>}, types: %{x: {:f, 64}})
      iex> Pythonx.Table.to_columns(table)
      %{"x" => [1.5, 2.5]}

  Raises an `ArgumentError` with the column and the row, counted from 0, of what does not fit:

      iex> Pythonx.Table.new(%{size: [1, 2, 300]}, types: %{size: {:u, 8}})
      ** (ArgumentError) column "size", row 2: 300 does not fit {:u, 8}

  ## Options

    * `:types` - types of columns by their names, as a map or a list of pairs such as `columns/1` returns. Defaults to
      none
  """
  @spec new(Enumerable.t(), keyword()) :: t()
  def new(columns, opts \\ []) do
    opts = Keyword.validate!(opts, types: [])
    types = opts[:types] |> pairs!(":types") |> Map.new(fn {name, type} -> {name!(name), type} end)
    columns = for {name, data} <- pairs!(columns, "columns"), do: column_argument(name!(name), data, types)
    names = Enum.map(columns, &elem(&1, 0))
    refuse_repeated!(names, "a table is made of columns with different names")

    for name <- Map.keys(types), name not in names do
      raise ArgumentError, "the option :types has a type for #{inspect(name)}, which is no column"
    end

    case NIF.table_new(columns) do
      {:ok, object} -> open(object)
      {:error, failure} -> raise ArgumentError, Pythonx.Table.Failure.message(failure, names)
    end
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

  defp refuse_repeated!(names, why) do
    case names -- Enum.uniq(names) do
      [] -> :ok
      [name | _rest] -> raise ArgumentError, "two columns are named #{inspect(name)}, and #{why}"
    end
  end

  @doc """
  The names and types of the columns, in order.

      iex> Pythonx.Table.columns(Pythonx.Table.new(a: [1], b: ["x"]))
      [{"a", {:s, 64}}, {"b", :string}]
  """
  @spec columns(t()) :: [{String.t(), type()}]
  def columns(%__MODULE__{} = table), do: Enum.zip(table.names, table.types)

  @doc """
  The columns as a map from names.

      iex> table = Pythonx.Table.new(a: [1, nil], b: ["x", "y"])
      iex> Pythonx.Table.to_columns(table)
      %{"a" => [1, nil], "b" => ["x", "y"]}

  With `as: :binaries` a column is a list of binaries with its raw values in the byte order of the machine, one for each
  chunk. Nothing is copied: each binary refers to the memory of its chunk and keeps that alive. This is for columns of
  numbers, dates, times and binaries of a fixed size without nulls; `chunks/2` shows the memory of all others.

      iex> table = Pythonx.Table.new(a: [1, 2])
      iex> [<<1::native-64, 2::native-64>>] = Pythonx.Table.to_columns(table, as: :binaries)["a"]

  Raises an `ArgumentError` that names the column, and the row where it is a value that has no counterpart in Elixir.

  ## Options

    * `:as` - `:lists` or `:binaries`. Defaults to `:lists`

    * `:nanoseconds` - `:raise` or `:truncate`, for times with parts of a microsecond, which Elixir's types cannot hold.
      Defaults to `:raise`
  """
  @spec to_columns(t(), keyword()) :: %{String.t() => list() | [binary()]}
  def to_columns(%__MODULE__{} = table, opts \\ []) do
    opts = Keyword.validate!(opts, as: :lists, nanoseconds: :raise)
    refuse_repeated!(table.names, "a map can hold only one of them; see Pythonx.Table.column/3")

    read =
      case opts[:as] do
        :lists -> &read!(table, &1, 0, table.row_count, read_options!(opts))
        :binaries -> &raw_values!(table, &1)
        other -> raise ArgumentError, "expected :as to be :lists or :binaries, got: #{inspect(other)}"
      end

    for {name, index} <- Enum.with_index(table.names), into: %{}, do: {name, read.(index)}
  end

  @doc """
  The values of a column as a list.

      iex> table = Pythonx.Table.new(a: [1, nil], b: [~D[2024-02-29], ~D[2024-03-01]])
      iex> Pythonx.Table.column(table, :b)
      [~D[2024-02-29], ~D[2024-03-01]]

  ## Options

    * `:nanoseconds` - as for `to_columns/2`
  """
  @spec column(t(), column(), keyword()) :: list()
  def column(%__MODULE__{} = table, column, opts \\ []) do
    options = opts |> Keyword.validate!(nanoseconds: :raise) |> read_options!()
    read!(table, index!(table, column), 0, table.row_count, options)
  end

  @doc """
  The rows as maps with the names of the columns as keys.

      iex> Pythonx.Table.to_rows(Pythonx.Table.new(a: [1, 2], b: ["x", nil]))
      [%{"a" => 1, "b" => "x"}, %{"a" => 2, "b" => nil}]

  ## Options

    * `:nanoseconds` - as for `to_columns/2`
  """
  @spec to_rows(t(), keyword()) :: [%{String.t() => term()}]
  def to_rows(%__MODULE__{} = table, opts \\ []) do
    options = opts |> Keyword.validate!(nanoseconds: :raise) |> read_options!()
    refuse_repeated!(table.names, "a map can hold only one of them; see Pythonx.Table.column/3")
    for index <- 0..(length(table.names) - 1)//1, do: refuse_unsupported!(table, index)
    table.object |> NIF.local!() |> NIF.table_rows(0, table.row_count, options) |> result!(table)
  end

  @doc """
  The memory of a column, chunk by chunk and without a copy; see `Pythonx.Table.Chunk`.

      iex> table = Pythonx.Table.new(a: ["x", "yz"])
      iex> [chunk] = Pythonx.Table.chunks(table, :a)
      iex> {chunk.length, chunk.format, chunk.buffers}
      {2, "u", [nil, <<0::native-32, 1::native-32, 3::native-32>>, "xyz"]}
  """
  @spec chunks(t(), column()) :: [Chunk.t()]
  def chunks(%__MODULE__{} = table, column) do
    index = index!(table, column)
    refuse_unsupported!(table, index)
    table.object |> NIF.local!() |> NIF.table_chunks(index) |> Enum.map(&Chunk.new/1)
  end

  @doc """
  A table of some columns, in the given order. They share the memory, and the others are not kept alive.

      iex> Pythonx.Table.select(Pythonx.Table.new(a: [1], b: [2], c: [3]), [:c, :a])
      #Pythonx.Table<1 row, c: {:s, 64}, a: {:s, 64}>
  """
  @spec select(t(), [column()]) :: t()
  def select(%__MODULE__{} = table, columns) when is_list(columns) do
    part(table, Enum.map(columns, &index!(table, &1)), 0, table.row_count)
  end

  @doc """
  A table of at most `length` rows from `offset` on, which shares the memory. A negative offset counts from the end.

      iex> table = Pythonx.Table.new(a: [1, 2, 3, 4])
      iex> table |> Pythonx.Table.slice(1, 2) |> Pythonx.Table.to_columns()
      %{"a" => [2, 3]}
      iex> table |> Pythonx.Table.slice(-1, 10) |> Pythonx.Table.to_columns()
      %{"a" => [4]}
  """
  @spec slice(t(), integer(), non_neg_integer()) :: t()
  def slice(%__MODULE__{row_count: rows} = table, offset, length)
      when is_integer(offset) and is_integer(length) and length >= 0 do
    first = if offset < 0, do: max(rows + offset, 0), else: min(offset, rows)
    part(table, Enum.to_list(0..(Kernel.length(table.names) - 1)//1), first, min(length, rows - first))
  end

  defp part(table, indices, offset, length) do
    table.object |> NIF.local!() |> NIF.table_part(indices, offset, length) |> open()
  end

  @doc """
  The table of an `Explorer.DataFrame`.

  Explorer hands its data over as a stream of Arrow's IPC format (`Explorer.DataFrame.dump_ipc_stream/2`), which pyarrow or
  polars reads: one of them has to be installed. Two copies are made.

  Raises a `RuntimeError` when Explorer is not loaded.
  """
  @spec from_explorer(struct()) :: t()
  def from_explorer(frame) do
    case explorer!(:dump_ipc_stream, [frame]) do
      {:ok, stream} -> "read_ipc_stream" |> ipc(stream, :bytes) |> from_object()
      {:error, error} -> raise error
    end
  end

  @doc """
  An `Explorer.DataFrame` of the table, the other way round; see `from_explorer/1`.
  """
  @spec to_explorer(t()) :: struct()
  def to_explorer(%__MODULE__{} = table) do
    case explorer!(:load_ipc_stream, ["write_ipc_stream" |> ipc(table, :bytes) |> Pythonx.decode()]) do
      {:ok, frame} -> frame
      {:error, error} -> raise error
    end
  end

  defp ipc(function, argument, binaries) do
    opts = %{decode: false, binaries: binaries, timeout: :infinity}
    Calls.run(:internal, {argument}, ["pythonx._tables", function], opts)
  end

  # Explorer is no dependency: it is called where it is.
  defp explorer!(function, arguments) do
    if not Code.ensure_loaded?(Explorer.DataFrame), do: raise("Explorer is not loaded")
    apply(Explorer.DataFrame, function, arguments)
  end

  @doc false
  @spec read!(t(), non_neg_integer(), non_neg_integer(), non_neg_integer(), tuple()) :: list()
  def read!(table, index, offset, length, options) do
    refuse_unsupported!(table, index)
    table.object |> NIF.local!() |> NIF.table_column(index, offset, length, options) |> result!(table)
  end

  @doc false
  @spec read_options!(keyword()) :: {boolean(), boolean(), boolean()}
  def read_options!(opts) do
    nanoseconds = opts[:nanoseconds]

    if nanoseconds not in [:raise, :truncate] do
      raise ArgumentError, "expected :nanoseconds to be :raise or :truncate, got: #{inspect(nanoseconds)}"
    end

    {Code.ensure_loaded?(Decimal), Code.ensure_loaded?(Duration), nanoseconds == :truncate}
  end

  defp result!({:error, {index, row, text}}, table) do
    raise ArgumentError, "column #{inspect(Enum.at(table.names, index))}, row #{row}: #{text}"
  end

  defp result!(list, _table), do: list

  defp raw_values!(table, index) do
    name = inspect(Enum.at(table.names, index))

    case table.object |> NIF.local!() |> NIF.table_binaries(index) do
      {:error, :type} ->
        raise ArgumentError, "column #{name}: #{inspect(Enum.at(table.types, index))} has no raw values of a fixed size"

      {:error, nulls} ->
        raise ArgumentError, "column #{name}: raw values cannot show its #{nulls} nulls; see Pythonx.Table.chunks/2"

      binaries ->
        binaries
    end
  end

  defp refuse_unsupported!(table, index) do
    with {:unsupported, format} <- unsupported(Enum.at(table.types, index)) do
      raise ArgumentError,
            "column #{inspect(Enum.at(table.names, index))}: the Arrow type #{inspect(format)} has no counterpart in Elixir"
    end
  end

  # The type itself, or the first one in it.
  defp unsupported({:unsupported, _format} = type), do: type
  defp unsupported({:struct, fields}), do: Enum.find_value(fields, fn {_name, type} -> unsupported(type) end)
  defp unsupported({:list, type}), do: unsupported(type)
  defp unsupported({:fixed_size_list, type, _length}), do: unsupported(type)
  defp unsupported({kind, one, other}) when kind in [:map, :dictionary], do: unsupported(one) || unsupported(other)
  defp unsupported(_type), do: nil

  defp index!(table, index) when is_integer(index) do
    if index >= 0 and index < length(table.names), do: index, else: no_column!(table, index)
  end

  defp index!(table, column) do
    name = if is_atom(column), do: Atom.to_string(column), else: column

    case for {^name, index} <- Enum.with_index(table.names), do: index do
      [index] -> index
      [] -> no_column!(table, column)
      _several -> refuse_repeated!(table.names, "the index of one is wanted")
    end
  end

  defp no_column!(table, column) do
    raise ArgumentError,
          "no column #{inspect(column)}, the columns are: #{Enum.map_join(table.names, ", ", &inspect/1)}"
  end
end

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

defmodule Pythonx.Table.Column do
  @moduledoc false

  # A column as an enumerable that reads what it is asked for: a table of a million rows on a page of ten costs ten.

  defstruct [:table, :index]

  @type t :: %__MODULE__{table: Pythonx.Table.t(), index: non_neg_integer()}

  @doc "The values of some rows."
  @spec read(t(), non_neg_integer(), non_neg_integer()) :: list()
  def read(%{table: table, index: index}, offset, length) do
    Pythonx.Table.read!(table, index, offset, length, Pythonx.Table.read_options!(nanoseconds: :truncate))
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

defimpl Pythonx.Encoder, for: Pythonx.Table do
  def encode(table, encoder), do: Pythonx.Encoder.encode(table.object, encoder)
end

defimpl Inspect, for: Pythonx.Table do
  import Inspect.Algebra

  def inspect(table, opts) do
    rows = if table.row_count == 1, do: "1 row", else: "#{table.row_count} rows"
    columns = for column <- Pythonx.Table.columns(table), do: {:column, column}
    container_doc("#Pythonx.Table<", [rows | columns], ">", opts, &show/2, separator: ",", break: :flex)
  end

  defp show({:column, {name, type}}, opts), do: concat([label(name), ": ", to_doc(type, %{opts | limit: :infinity})])
  defp show(rows, _opts), do: rows

  defp label(name), do: if(name =~ ~r/\A[a-zA-Z_]\w*\z/, do: name, else: Kernel.inspect(name))
end
