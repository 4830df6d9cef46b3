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
  touched, but for one pass over offsets and other references of a data frame, by which damaged data is refused; see the
  guide [Tables](tables.md#damaged-data). `to_columns/2`, `column/3` and `to_rows/2` make terms of elements. Tables do not
  change.

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

  alias Pythonx.Calls
  alias Pythonx.Calls.Options
  alias Pythonx.Integrations.Explorer
  alias Pythonx.NIF
  alias Pythonx.NIF.Job
  alias Pythonx.Telemetry
  alias Pythonx.Table.{Arguments, Chunk, Failure, Reading}

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
  @spec from_object(Pythonx.object(), keyword()) :: t()
  def from_object(object, opts \\ [])
      when is_struct(object, Pythonx.Object) or is_struct(object, Pythonx.Pool.Object) do
    %{copy: copy, timeout: timeout} = Options.validate!(opts, [:timeout, copy: :auto])

    if copy not in [:auto, true, false] do
      raise ArgumentError, "expected :copy to be :auto, true or false, got: #{inspect(copy)}"
    end

    arguments = {NIF.local!(object)}
    opts = %{decode: false, binaries: :str, timeout: timeout}
    open(Telemetry.operation(:table, fn -> Calls.run(:read_table, arguments, [Atom.to_string(copy)], opts) end))
  end

  defp open(object) do
    {names, types, row_count} = Job.native(:table_info, [object])
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
    columns = Arguments.columns!(columns, opts[:types])

    case Job.native(:table_new, [columns]) do
      {:error, failure} -> raise ArgumentError, Failure.message(failure, Enum.map(columns, &elem(&1, 0)))
      made -> open_made(made)
    end
  end

  defp open_made({:ok, object}), do: open(object)
  defp open_made({:needs_thread, table}), do: open(NIF.call("table_object", {table}))

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
    {as, opts} = opts |> Keyword.validate!(as: :lists, nanoseconds: :raise) |> Keyword.pop!(:as)
    Arguments.refuse_repeated!(table.names, "a map can hold only one of them; see Pythonx.Table.column/3")

    case as do
      :lists -> table.names |> Enum.zip(Reading.columns!(table, opts)) |> Map.new()
      :binaries -> table.names |> Enum.zip(Reading.raw_columns!(table)) |> Map.new()
      other -> raise ArgumentError, "expected :as to be :lists or :binaries, got: #{inspect(other)}"
    end
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
    opts = Keyword.validate!(opts, nanoseconds: :raise)
    Reading.column!(table, index!(table, column), 0, table.row_count, opts)
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
    opts = Keyword.validate!(opts, nanoseconds: :raise)
    Arguments.refuse_repeated!(table.names, "a map can hold only one of them; see Pythonx.Table.column/3")
    Reading.rows!(table, opts)
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
    table |> Reading.chunks!(index!(table, column)) |> Enum.map(&Chunk.new/1)
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
    Job.native(:table_part, [NIF.local!(table.object), indices, offset, length]) |> open_made()
  end

  @doc """
  The table of an `Explorer.DataFrame`.

  Explorer hands its data over as a stream of Arrow's IPC format (`Explorer.DataFrame.dump_ipc_stream/2`), which pyarrow or
  polars reads: one of them has to be installed. Two copies are made.

  Raises a `RuntimeError` when Explorer is not loaded.
  """
  @spec from_explorer(struct()) :: t()
  def from_explorer(frame), do: Explorer.to_table(frame)

  @doc """
  An `Explorer.DataFrame` of the table, the other way round; see `from_explorer/1`.
  """
  @spec to_explorer(t()) :: struct()
  def to_explorer(%__MODULE__{} = table), do: Explorer.from_table(table)

  defp index!(table, index) when is_integer(index) do
    if index >= 0 and index < length(table.names), do: index, else: no_column!(table, index)
  end

  defp index!(table, column) do
    name = if is_atom(column), do: Atom.to_string(column), else: column

    case for {^name, index} <- Enum.with_index(table.names), do: index do
      [index] -> index
      [] -> no_column!(table, column)
      _several -> Arguments.refuse_repeated!(table.names, "the index of one is wanted")
    end
  end

  defp no_column!(table, column) do
    raise ArgumentError,
          "no column #{inspect(column)}, the columns are: #{Enum.map_join(table.names, ", ", &inspect/1)}"
  end
end
