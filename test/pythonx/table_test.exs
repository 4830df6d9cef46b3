defmodule Pythonx.TableTest do
  use Pythonx.Case, async: false
  @moduletag :arrow

  import Bitwise

  alias Pythonx.{NIF, Table}

  doctest Pythonx.Table
  doctest Pythonx.Table.Chunk

  @imports "import datetime, decimal\nimport numpy as np, pandas as pd, polars as pl, pyarrow as pa, duckdb\n"

  # Three rows of each type, the second one null: an expression for pyarrow, the type and the values here.
  @columns [
    {"null", "pa.nulls(3)", :null, [nil, nil, nil]},
    {"bool", "pa.array([True, None, False])", :boolean, [true, nil, false]},
    {"int8", "pa.array([1, None, -128], pa.int8())", {:s, 8}, [1, nil, -128]},
    {"int16", "pa.array([1, None, -2**15], pa.int16())", {:s, 16}, [1, nil, -32_768]},
    {"int32", "pa.array([1, None, -2**31], pa.int32())", {:s, 32}, [1, nil, -2_147_483_648]},
    {"int64", "pa.array([2**63-1, None, -2**63])", {:s, 64},
     [9_223_372_036_854_775_807, nil, -9_223_372_036_854_775_808]},
    {"uint8", "pa.array([1, None, 255], pa.uint8())", {:u, 8}, [1, nil, 255]},
    {"uint16", "pa.array([1, None, 65535], pa.uint16())", {:u, 16}, [1, nil, 65_535]},
    {"uint32", "pa.array([1, None, 2**32-1], pa.uint32())", {:u, 32}, [1, nil, 4_294_967_295]},
    {"uint64", "pa.array([1, None, 2**64-1], pa.uint64())", {:u, 64}, [1, nil, 18_446_744_073_709_551_615]},
    {"half", "pa.array([np.float16(1.5), None, np.float16('inf')], pa.float16())", {:f, 16}, [1.5, nil, :infinity]},
    {"float", "pa.array([1.5, None, float('-inf')], pa.float32())", {:f, 32}, [1.5, nil, :neg_infinity]},
    {"double", "pa.array([0.1, None, float('nan')])", {:f, 64}, [0.1, nil, :nan]},
    {"text", "pa.array(['a', None, 'żółw'])", :string, ["a", nil, "żółw"]},
    {"large text", "pa.array(['', None, 'b' * 20], pa.large_string())", :string, ["", nil, String.duplicate("b", 20)]},
    {"text view", "pa.array(['twelve bytes', None, 'thirteen byte'], pa.string_view())", :string,
     ["twelve bytes", nil, "thirteen byte"]},
    {"bytes", "pa.array([b'a', None, b'\\xff'])", :binary, ["a", nil, <<255>>]},
    {"large bytes", "pa.array([b'a', None, b'\\xff'], pa.large_binary())", :binary, ["a", nil, <<255>>]},
    {"bytes view", "pa.array([b'a', None, b'\\xff' * 13], pa.binary_view())", :binary,
     ["a", nil, String.duplicate(<<255>>, 13)]},
    {"fixed bytes", "pa.array([b'ab', None, b'cd'], pa.binary(2))", {:fixed_size_binary, 2}, ["ab", nil, "cd"]},
    {"date32", "pa.array([datetime.date(2024, 2, 29), None, datetime.date(1, 1, 1)])", :date,
     [~D[2024-02-29], nil, ~D[0001-01-01]]},
    {"date64", "pa.array([datetime.date(2024, 2, 29), None, datetime.date(1969, 12, 31)], pa.date64())", :date,
     [~D[2024-02-29], nil, ~D[1969-12-31]]},
    {"time s", "pa.array([1, None, 86399], pa.time32('s'))", {:time, :second}, [~T[00:00:01], nil, ~T[23:59:59]]},
    {"time ms", "pa.array([1, None, 86399999], pa.time32('ms'))", {:time, :millisecond},
     [~T[00:00:00.001], nil, ~T[23:59:59.999]]},
    {"time us", "pa.array([1, None, 86399999999], pa.time64('us'))", {:time, :microsecond},
     [~T[00:00:00.000001], nil, ~T[23:59:59.999999]]},
    {"time ns", "pa.array([1000, None, 86399999999000], pa.time64('ns'))", {:time, :nanosecond},
     [~T[00:00:00.000001], nil, ~T[23:59:59.999999]]},
    {"naive s", "pa.array([0, None, -1], pa.timestamp('s'))", {:naive_datetime, :second},
     [~N[1970-01-01 00:00:00], nil, ~N[1969-12-31 23:59:59]]},
    {"naive ns", "pa.array([0, None, -1000], pa.timestamp('ns'))", {:naive_datetime, :nanosecond},
     [~N[1970-01-01 00:00:00.000000], nil, ~N[1969-12-31 23:59:59.999999]]},
    {"utc us", "pa.array([0, None, -1], pa.timestamp('us', 'UTC'))", {:datetime, :microsecond, "UTC"},
     [~U[1970-01-01 00:00:00.000000Z], nil, ~U[1969-12-31 23:59:59.999999Z]]},
    {"zone ms", "pa.array([0, None, 1], pa.timestamp('ms', 'Europe/Berlin'))",
     {:datetime, :millisecond, "Europe/Berlin"}, [~U[1970-01-01 00:00:00.000Z], nil, ~U[1970-01-01 00:00:00.001Z]]},
    {"decimal", "pa.array([decimal.Decimal('1.50'), None, decimal.Decimal('-99999999999999999999.99')])",
     {:decimal, 22, 2},
     [
       %{__struct__: Decimal, sign: 1, coef: 150, exp: -2},
       nil,
       %{__struct__: Decimal, sign: -1, coef: 9_999_999_999_999_999_999_999, exp: -2}
     ]},
    {"decimal256", "pa.array([decimal.Decimal(0), None, decimal.Decimal(-(10**60))], pa.decimal256(70, 2))",
     {:decimal, 70, 2},
     [
       %{__struct__: Decimal, sign: 1, coef: 0, exp: -2},
       nil,
       %{__struct__: Decimal, sign: -1, coef: 100 * Integer.pow(10, 60), exp: -2}
     ]},
    {"list", "pa.array([[1, 2], None, []], pa.list_(pa.int64()))", {:list, {:s, 64}}, [[1, 2], nil, []]},
    {"large list", "pa.array([['a'], None, [None]], pa.large_list(pa.string()))", {:list, :string},
     [["a"], nil, [nil]]},
    {"list view", "pa.array([[1, 2], None, [3]], pa.list_view(pa.int8()))", {:list, {:s, 8}}, [[1, 2], nil, [3]]},
    {"fixed list", "pa.array([[1, 2], None, [3, None]], pa.list_(pa.int32(), 2))", {:fixed_size_list, {:s, 32}, 2},
     [[1, 2], nil, [3, nil]]},
    {"struct", "pa.array([{'a': 1, 'b': ['x']}, None, {'a': None, 'b': []}])",
     {:struct, [{"a", {:s, 64}}, {"b", {:list, :string}}]}, [%{"a" => 1, "b" => ["x"]}, nil, %{"a" => nil, "b" => []}]},
    {"map", "pa.array([[('a', 1)], None, [('b', 2), ('c', None)]], pa.map_(pa.string(), pa.int32()))",
     {:map, :string, {:s, 32}}, [%{"a" => 1}, nil, %{"b" => 2, "c" => nil}]},
    {"dictionary", "pa.array(['x', None, 'x']).dictionary_encode()", {:dictionary, {:s, 32}, :string}, ["x", nil, "x"]},
    {"runs", "pa.RunEndEncodedArray.from_arrays(pa.array([1, 2, 3], pa.int32()), ['p', None, 'q'])", :string,
     ["p", nil, "q"]}
  ]

  # Those that pyarrow makes of what Elixir has built, in the same order.
  @not_built ["large text", "text view", "large bytes", "bytes view", "date64", "large list", "list view", "runs"]

  defp python(code, globals \\ %{}), do: Pythonx.eval(@imports <> code, globals) |> elem(0)
  defp table(code, globals \\ %{}), do: code |> python(globals) |> Pythonx.table()
  defp ask(code, table), do: python(code, %{"t" => table}) |> Pythonx.decode()

  defp all_columns do
    entries = Enum.map_join(@columns, ",\n", fn {name, code, _type, _values} -> "#{inspect(name)}: #{code}" end)
    "pa.table({\n#{entries}\n})"
  end

  defp expected, do: Map.new(@columns, fn {name, _code, _type, values} -> {name, values} end)

  # What is cut short while it is imported can never be imported again.
  setup_all do
    Pythonx.eval(@imports, %{})
    :ok
  end

  # How many arrays of the whole VM are more than `before`, which is exact where that is a level that `settled/1` has told.
  defp arrays(before), do: NIF.table_arrays() - before

  defp await_release(before) do
    # Functions that code has defined are in cycles with its globals.
    wait_until(fn ->
      :erlang.garbage_collect()
      Pythonx.eval("import gc; gc.collect()", %{})
      arrays(before) <= 0
    end)
  end

  describe "values from Arrow" do
    for {name, code, type, values} <- @columns do
      @code code
      @type_term Macro.escape(type)
      @values Macro.escape(values)
      test "#{name}" do
        table = table("array = #{@code}\npa.table({'c': pa.chunked_array([array, array, array.slice(1)])})")
        assert table.types == [unquote(@type_term)]
        values = unquote(@values)
        assert Table.column(table, "c") == values ++ values ++ tl(values)
        # Inside of an array the same values begin somewhere else.
        for {offset, length} <- [{1, 2}, {2, 1}, {2, 5}, {4, 4}, {7, 1}, {8, 0}] do
          slice = Table.slice(table, offset, length)
          assert Table.column(slice, "c") == Enum.slice(Table.column(table, "c"), offset, length)

          assert ask("pa.table(t)['c'].null_count", slice) == Enum.count(Table.column(slice, "c"), &is_nil/1) or
                   match?("runs", unquote(name))
        end
      end
    end

    test "all columns at once, as columns and as rows" do
      table = table(all_columns())
      assert Table.columns(table) == for({name, _code, type, _values} <- @columns, do: {name, type})
      assert Table.to_columns(table) == expected()
      rows = Table.to_rows(table)
      assert length(rows) == 3
      for {name, values} <- expected(), do: assert(Enum.map(rows, & &1[name]) == values)
    end

    test "many columns" do
      names = for index <- 1..3000, do: "c#{index}"
      table = Table.new(for {name, index} <- Enum.with_index(names), do: {name, [index, nil]})

      assert Table.to_columns(table) ==
               for({name, index} <- Enum.with_index(names), into: %{}, do: {name, [index, nil]})

      table = Table.slice(table, 0, 1)
      again = Table.new(Table.to_columns(table, as: :binaries), types: Table.columns(table))
      assert Table.to_rows(again) == [for({name, index} <- Enum.with_index(names), into: %{}, do: {name, index})]
    end

    test "inside of lists and structs" do
      for {name, code, type, values} <- @columns, name != "runs" do
        code = """
        array = #{code}
        lists = pa.ListArray.from_arrays(pa.array([0, 1, 3], pa.int32()), array)
        structs = pa.StructArray.from_arrays([array], ['x']).slice(1)
        pa.table({'l': lists, 's': structs})
        """

        table = table(code)
        assert table.types == [{:list, type}, {:struct, [{"x", type}]}]
        [one, two, three] = values
        assert Table.column(table, "l") == [[one], [two, three]]
        assert Table.column(table, "s") == [%{"x" => two}, %{"x" => three}]
      end
    end

    test "many rows with a bitmap of nulls, from any offset" do
      values = for i <- 0..999, do: if(rem(i, 7) == 3, do: nil, else: i)
      table = table("pa.table({'c': pa.array([None if i % 7 == 3 else i for i in range(1000)])})")

      for {offset, length} <- [{0, 1000}, {1, 999}, {8, 100}, {9, 64}, {63, 130}, {999, 1}] do
        assert table |> Table.slice(offset, length) |> Table.column(:c) == Enum.slice(values, offset, length)
      end
    end

    test "empty tables, tables without columns, empty batches" do
      assert %Table{names: ["a"], types: [{:s, 64}], row_count: 0} =
               empty = table("pa.table({'a': pa.array([], pa.int64())})")

      assert Table.to_columns(empty) == %{"a" => []}
      assert Table.to_columns(empty, as: :binaries) == %{"a" => []}
      assert Table.to_rows(empty) == []
      assert Table.chunks(empty, "a") == []
      assert ask("pa.table(t).schema.types == [pa.int64()] and pa.table(t).num_rows == 0", empty)

      none = table("pa.table({'a': [1, 2]}).select([])")
      assert {none.names, none.row_count} == {[], 2}
      assert Table.to_columns(none) == %{}
      assert Table.to_rows(none) == [%{}, %{}]
      assert ask("pa.table(t).num_rows", none) == 2
      assert ask("pa.table(t).num_rows", Table.slice(none, 1, 5)) == 1

      batches = "batches = [pa.record_batch({'a': pa.array(x, pa.int8())}) for x in ([], [1], [], [2, 3], [])]\n"
      table = table(batches <> "pa.Table.from_batches(batches)")
      assert Table.to_columns(table) == %{"a" => [1, 2, 3]}
      assert length(Table.chunks(table, "a")) == 2
    end

    test "arrays, series and record batches" do
      assert Table.to_columns(table("pa.record_batch({'a': [1, 2]}).slice(1)")) == %{"a" => [2]}
      assert Table.to_columns(table("pa.array([1, None])")) == %{"" => [1, nil]}
      assert Table.to_columns(table("pa.chunked_array([[1], [2]])")) == %{"" => [1, 2]}
      assert Table.to_columns(table("pl.Series('x', ['a', None])")) == %{"x" => ["a", nil]}
      assert Table.to_columns(table("pa.array([{'a': 1}, {'a': 2}])")) == %{"a" => [1, 2]}
      assert table("t", %{"t" => Table.new(a: [1])}) |> Table.to_rows() == [%{"a" => 1}]
    end

    test "a reader of batches is read to its end" do
      code = """
      def batches():
          for i in range(3):
              yield pa.record_batch({'a': [i, i + 10]})
      reader = pa.RecordBatchReader.from_batches(pa.schema({'a': pa.int64()}), batches())
      reader
      """

      reader = python(code)
      assert reader |> Pythonx.table() |> Table.column("a") == [0, 10, 1, 11, 2, 12]
      assert reader |> Pythonx.table() |> Table.column("a") == []
    end

    test "columns that share a name are read by their index" do
      table = table("pa.Table.from_arrays([pa.array([1]), pa.array(['x'])], ['a', 'a'])")
      assert Table.column(table, 1) == ["x"]
      assert table |> Table.select([1]) |> Table.to_rows() == [%{"a" => "x"}]
      message = ~S(two columns are named "a", and a map can hold only one of them; see Pythonx.Table.column/3)
      assert_raise ArgumentError, message, fn -> Table.to_columns(table) end
      assert_raise ArgumentError, message, fn -> Table.to_rows(table) end
      message = ~S(two columns are named "a", and the index of one is wanted)
      assert_raise ArgumentError, message, fn -> Table.column(table, "a") end
    end

    test "without the package decimal and without Duration, values are pairs" do
      table = table("pa.table({'d': [decimal.Decimal('-1.50')], 'x': pa.array([-1500], pa.duration('ms'))})")
      plain = {false, false, false}
      assert Table.Reading.read!(table, 0, 0, 1, plain) == [{-150, -2}]
      assert Table.Reading.read!(table, 1, 0, 1, plain) == [{-1500, :millisecond}]
    end

    if Code.ensure_loaded?(Duration) do
      test "durations" do
        table = table("pa.table({'d': pa.array([1500, None, -1500], pa.duration('ms'))})")
        [one, nil, three] = Table.column(table, "d")

        assert {one, three} ==
                 {struct!(Duration, second: 1, microsecond: {500_000, 3}),
                  struct!(Duration, second: -1, microsecond: {-500_000, 3})}

        again = Table.new(%{d: [one, nil, three]})

        assert ask(
                 "pa.table(t).to_pydict() == {'d': [datetime.timedelta(seconds=1.5), None, datetime.timedelta(seconds=-1.5)]}",
                 again
               )
      end
    end
  end

  describe "what has no counterpart" do
    test "a type is named with its column when it is read, and passed on to Python as it is" do
      table =
        table("""
        interval = pa.array([(1, 2, 3)], pa.month_day_nano_interval())
        union = pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])])
        pa.table({'ok': [1], 'interval': interval, 'union': union, 'nested': pa.array([[(1, 2, 3)]], pa.list_(pa.month_day_nano_interval()))})
        """)

      assert table.types == [{:s, 64}, {:unsupported, "tin"}, {:unsupported, "+us:0"}, {:list, {:unsupported, "tin"}}]

      message =
        ~S(column "interval": the Arrow type "tin", an interval of months, days and nanoseconds, has no counterpart in Elixir)

      assert_raise ArgumentError, message, fn -> Table.to_columns(table) end
      assert_raise ArgumentError, message, fn -> Table.to_rows(table) end
      assert_raise ArgumentError, message, fn -> Table.chunks(table, "interval") end
      message = String.replace(message, "interval\":", "nested\":")
      assert_raise ArgumentError, message, fn -> Table.column(table, "nested") end
      message = ~S(column "union": the Arrow type "+us:0", a union, has no counterpart in Elixir)
      assert_raise ArgumentError, message, fn -> Table.column(table, "union") end
      assert Table.column(table, "ok") == [1]

      assert ask(
               "pa.table(t).to_pylist() == [{'ok': 1, 'interval': pa.MonthDayNano([1, 2, 3]), 'union': 1, 'nested': [pa.MonthDayNano([1, 2, 3])]}]",
               table
             )
    end

    test "values" do
      for {code, message} <- [
            {"pa.array([0, 1], pa.timestamp('ns'))",
             "a value has parts of a microsecond, which Elixir's types cannot hold; nanoseconds: :truncate cuts them off"},
            {"pa.array([0, 1], pa.time64('ns'))",
             "a value has parts of a microsecond, which Elixir's types cannot hold; nanoseconds: :truncate cuts them off"},
            {"pa.array([0, 2**62], pa.timestamp('s'))", "a time is outside of the years -9999 to 9999"},
            {"pa.array([0, 2**31-1], pa.int32()).view(pa.date32())", "a date is outside of the years -9999 to 9999"},
            {"pa.array([0, 1], pa.int64()).view(pa.date64())", "a date has a time of day, which Date cannot hold"},
            {"pa.array([0, 86400], pa.int32()).view(pa.time32('s'))", "a time is outside of the day"},
            {"pa.array([[], [('a', 1), ('a', 2)]], pa.map_(pa.string(), pa.int8()))", "a map has a key twice"},
            # Of so many entries the VM would make a map all the same, with those that remain.
            {"pa.array([[], [(str(n % 39), n) for n in range(40)]], pa.map_(pa.string(), pa.int8()))",
             "a map has a key twice"},
            {"pa.StructArray.from_arrays([[n, n] for n in range(40)], [str(n % 39) for n in range(40)])[:2]",
             "a struct has two fields of one name"},
            {"pa.array([b'a', b'\\xff']).view(pa.string())", "a string is not UTF-8"},
            {"pa.array([b'a', b'x' * 12 + b'\\xff'], pa.binary_view()).view(pa.string_view())",
             "a string is not UTF-8"},
            {"pa.StructArray.from_arrays([pa.array([1, 2]), pa.array([3, 4])], ['x', 'x']).slice(1)",
             "a struct has two fields of one name"}
          ] do
        table = table("array = #{code}\npa.table({'fine': pa.nulls(len(array)), 'c': array})")
        row = table.row_count - 1
        assert_raise ArgumentError, ~s(column "c", row #{row}: #{message}), fn -> Table.column(table, "c") end
        assert_raise ArgumentError, ~s(column "c", row #{row}: #{message}), fn -> Table.to_rows(table) end
        # The row is that of the table, whichever chunk it is in.
        if row == 1 do
          chunked =
            table("array = #{code}\npa.table({'c': pa.chunked_array([array.slice(0, 1)] * 5 + [array.slice(1)])})")

          assert_raise ArgumentError, ~s(column "c", row 5: #{message}), fn -> Table.to_columns(chunked) end
        end
      end
    end

    test "nanoseconds can be cut" do
      table = table("pa.table({'c': pa.array([1999, -1], pa.timestamp('ns'))})")
      expected = [~N[1970-01-01 00:00:00.000001], ~N[1969-12-31 23:59:59.999999]]
      assert Table.column(table, "c", nanoseconds: :truncate) == expected
      assert Table.to_columns(table, nanoseconds: :truncate) == %{"c" => expected}
      assert [%{"c" => _}, %{"c" => _}] = Table.to_rows(table, nanoseconds: :truncate)
      message = "expected :nanoseconds to be :raise or :truncate, got: :round"
      assert_raise ArgumentError, message, fn -> Table.column(table, "c", nanoseconds: :round) end
    end

    test "objects without Arrow data, with what to do instead" do
      for {code, what} <- [
            {"[1]", "list"},
            {"1", "int"},
            {"np.array([1])", "numpy.ndarray"},
            {"pa.Table", "type"},
            {"pd.Series([1])", "Series; call its method to_frame() first"},
            {"pd.Index([1])", "Index; call its method to_frame() first"},
            {"pl.LazyFrame({'a': [1]})", "LazyFrame; call its method collect() first"}
          ],
          # A series of pandas 3 has such data.
          not Pythonx.decode(python("hasattr(#{code}, '__arrow_c_stream__') and not isinstance(#{code}, type)")) do
        error = assert_raise Pythonx.Error, fn -> table(code) end
        message = "TypeError: expected an object with __arrow_c_stream__ or __arrow_c_array__, got: #{what}\n"
        assert List.last(error.lines) == message
      end
    end

    # Asked for these, polars 1.35 ends the process.
    test "columns of Python objects in polars" do
      series = "pl.Series('o', [object()], dtype=pl.Object)"

      for code <- [
            series,
            "pl.DataFrame([pl.Series('a', [1]), #{series}])",
            "class F(pl.DataFrame): pass\nF([#{series}])"
          ] do
        error = assert_raise Pythonx.Error, fn -> table(code) end

        assert List.last(error.lines) ==
                 "TypeError: column 'o' has the type Object of polars, for which Arrow has none\n"
      end
    end

    test "arrays of structs in which some are null" do
      error = assert_raise Pythonx.Error, fn -> table("pa.array([{'a': 1}, None])") end
      assert List.last(error.lines) == "ValueError: an array of structs in which some are null is no table\n"
    end
  end

  describe "streams that fail" do
    test "say why, with what Python raised" do
      before = NIF.table_arrays()

      code = """
      def batches():
          yield pa.record_batch({'a': [1]})
          raise OSError("the disk is gone")
      pa.RecordBatchReader.from_batches(pa.schema({'a': pa.int64()}), batches())
      """

      error = assert_raise Pythonx.Error, fn -> table(code) end
      assert Exception.message(error) =~ "the Arrow stream failed: "
      assert Exception.message(error) =~ "the disk is gone"
      await_release(before)
    end

    test "that are consumed say so" do
      code = "capsule = pa.table({'a': [1]}).__arrow_c_stream__()\ncapsule"
      capsule = python(code)
      assert capsule |> Pythonx.table() |> Table.column("a") == [1]
      error = assert_raise Pythonx.Error, fn -> Pythonx.table(capsule) end
      assert List.last(error.lines) == "ValueError: the Arrow stream has been consumed or released already\n"

      code = """
      class Once:
          def __init__(self, value): self.value = value
          def __arrow_c_array__(self, requested_schema=None): return self.value
      Once(pa.array([1]).__arrow_c_array__())
      """

      once = python(code)
      assert once |> Pythonx.table() |> Table.to_rows() == [%{"" => 1}]
      error = assert_raise Pythonx.Error, fn -> Pythonx.table(once) end
      assert List.last(error.lines) == "ValueError: the Arrow array has been consumed or released already\n"
    end

    test "that are none say so" do
      for {value, message} <- [
            {"1", "TypeError: expected a capsule named arrow_array_stream, got: 1\n"},
            {"pa.array([1]).__arrow_c_array__()[0]",
             ~r/TypeError: expected a capsule named arrow_array_stream, got: <capsule/}
          ] do
        code = "class Odd:\n    def __arrow_c_stream__(self, requested_schema=None): return #{value}\nOdd()"
        error = assert_raise Pythonx.Error, fn -> table(code) end
        assert List.last(error.lines) =~ message
      end

      code = "class Odd:\n    def __arrow_c_array__(self, requested_schema=None): return (1,)\nOdd()"
      error = assert_raise Pythonx.Error, fn -> table(code) end
      assert List.last(error.lines) == "TypeError: __arrow_c_array__ must return two capsules\n"
      code = "class Odd:\n    def __arrow_c_stream__(self, requested_schema=None): return 1 / 0\nOdd()"
      error = assert_raise Pythonx.Error, fn -> table(code) end
      assert List.last(error.lines) == "ZeroDivisionError: division by zero\n"
    end

    test "that take too long are given up" do
      code = """
      import time
      def batches():
          while True:
              time.sleep(0.01)
              yield pa.record_batch({'a': [1]})
      pa.RecordBatchReader.from_batches(pa.schema({'a': pa.int64()}), batches())
      """

      before = NIF.table_arrays()
      reader = python(code)
      assert_raise Pythonx.TimeoutError, fn -> Pythonx.table(reader, timeout: 50) end
      await_release(before)
    end
  end

  describe "new/2" do
    for {name, code, type, values} <- @columns, name not in @not_built do
      @code code
      @type_term Macro.escape(type)
      @values Macro.escape(values)
      test "makes what pyarrow makes: #{name}" do
        table = Table.new(%{"c" => unquote(@values)}, types: %{c: unquote(@type_term)})
        assert table.types == [unquote(@type_term)]
        assert Table.column(table, "c") == unquote(@values)
        same = python("pa.table(t)['c'].combine_chunks()\n", %{"t" => table})

        code =
          "theirs = #{@code}\ntheirs.validate(full=True)\nours.validate(full=True)\n(str(ours.type), str(ours.to_pylist())) == (str(theirs.type), str(theirs.to_pylist()))"

        ours = python(code, %{"ours" => same})
        assert Pythonx.decode(ours), "pyarrow has #{Pythonx.Object.repr_text(same)}"
      end
    end

    test "finds the type that values have in common" do
      for {values, type} <- [
            {[], :null},
            {[nil], :null},
            {[nil, true], :boolean},
            {[1, nil], {:s, 64}},
            {[1, 18_446_744_073_709_551_615], {:u, 64}},
            {[1, 1.5], {:f, 64}},
            {[1, :nan], {:f, 64}},
            {["x"], :string},
            {[:x, "y"], :string},
            {[~D[2024-01-01]], :date},
            {[~T[01:02:03]], {:time, :microsecond}},
            {[~N[2024-01-01 00:00:00]], {:naive_datetime, :microsecond}},
            {[~U[2024-01-01 00:00:00Z]], {:datetime, :microsecond, "UTC"}},
            {[%{~U[2024-01-01 00:00:00Z] | time_zone: "Europe/Oslo"}], {:datetime, :microsecond, "Europe/Oslo"}},
            {[%{~U[2024-01-01 00:00:00Z] | time_zone: "Europe/Oslo"}, ~U[2024-01-01 00:00:00Z]],
             {:datetime, :microsecond, "UTC"}},
            {[struct!(Decimal, coef: 15, exp: -1), struct!(Decimal, coef: 12, exp: 3)], {:decimal, 38, 1}},
            {[struct!(Decimal, coef: Integer.pow(10, 40), exp: 0)], {:decimal, 76, 0}},
            {[[1], [nil, 2.5]], {:list, {:f, 64}}},
            {[[[]]], {:list, {:list, :null}}},
            {[%{a: 1}, %{"a" => 2.5, "b" => "x"}], {:struct, [{"a", {:f, 64}}, {"b", :string}]}},
            {[%{}], {:struct, []}},
            {1..3, {:s, 64}}
          ] do
        assert Table.new(%{"c" => values}).types == [type], inspect(values)
      end
    end

    test "keeps the order of pairs" do
      assert Table.new([{"z", [1]}, {:a, [2]}, {"m", [3]}]).names == ["z", "a", "m"]
      assert ask("pa.table(t).column_names", Table.new(z: [1], a: [2])) == ["z", "a"]

      assert ask("(len(t), repr(t), t.column_names)", Table.new(z: [1], a: [2])) ==
               {1, "<pythonx.Table of 1 rows, columns ['z', 'a']>", ["z", "a"]}
    end

    test "rows of maps may lack fields" do
      table = Table.new(%{"c" => [%{a: 1}, nil, %{b: [1]}, %{}]})

      assert Table.column(table, "c") ==
               [%{"a" => 1, "b" => nil}, nil, %{"a" => nil, "b" => [1]}, %{"a" => nil, "b" => nil}]

      assert ask("pa.table(t)['c'].combine_chunks().validate(full=True)", table) == nil
    end

    test "instants of other zones are the same instants" do
      local = %{
        ~U[2024-07-01 12:00:00.000000Z]
        | time_zone: "Europe/Oslo",
          zone_abbr: "CEST",
          utc_offset: 3600,
          std_offset: 3600
      }

      table = Table.new(%{"c" => [local]})
      assert Table.column(table, "c") == [~U[2024-07-01 10:00:00.000000Z]]
      assert ask("str(pa.table(t)['c'][0])", table) == "2024-07-01 12:00:00+02:00"
    end

    test "takes binaries of raw values without a copy" do
      binary = for i <- 1..1000, into: <<>>, do: <<i::native-signed-64>>
      table = Table.new([{"c", binary}], types: %{"c" => {:s, 64}})
      assert Table.column(table, "c") == Enum.to_list(1..1000)
      address = "pa.table(t)['c'].chunk(0).buffers()[1].address"
      assert ask(address, table) == ask(address, Table.new([{"c", binary}], types: %{"c" => {:s, 64}}))

      # A part that is not aligned is copied, and right all the same.
      <<_byte, rest::binary-size(7 * 8), _::binary>> = binary
      <<values::native-signed-64, _::binary>> = rest
      unaligned = Table.new([{"c", rest}], types: %{"c" => {:s, 64}})
      assert hd(Table.column(unaligned, "c")) == values
      assert rem(ask(address, unaligned), 8) == 0
    end

    test "takes what to_columns gives, chunks of different lengths too" do
      values = for i <- 1..10, do: i
      chunk = fn range -> for i <- range, into: <<>>, do: <<i::native-signed-16>> end
      columns = [{"a", [chunk.(1..3), "", chunk.(4..10)]}, {"b", [chunk.(1..5), chunk.(6..10)]}, {"c", values}]
      table = Table.new(columns, types: [a: {:s, 16}, b: {:s, 16}, c: {:s, 16}])
      assert Table.to_columns(table) == %{"a" => values, "b" => values, "c" => values}
      assert Enum.map(Table.chunks(table, "c"), & &1.length) == [3, 2, 5]
      assert ask("pa.table(t).to_pydict()", table) == Table.to_columns(table)
      again = Table.new(Table.to_columns(table, as: :binaries), types: Table.columns(table))
      assert Table.to_columns(again) == Table.to_columns(table)
    end

    # It takes six gigabytes: `mix test --include large`.
    @tag :large
    test "widens offsets for more than two gigabytes" do
      # The bytes are one binary, many times: only the column is large.
      mebibyte = String.duplicate("x", 1 <<< 20)
      table = Table.new(%{"c" => List.duplicate(mebibyte, 2049)})
      assert table.types == [:string]

      assert ask("(str(pa.table(t)['c'].type), len(pa.table(t)['c'][2048].as_py()))", table) ==
               {"large_string", 1 <<< 20}
    end

    for {columns, types, message} <- [
          {[a: [1], b: [1, 2]], [], ~S(column "b" has 2 rows, but column "a" has 1)},
          {[a: [1, "x"]], [], ~S(column "a", row 1: "x" is of another type than the values before it)},
          {[a: [nil, :nan, :foo]], [], ~S(column "a", row 2: :foo is of another type than the values before it)},
          {[a: [~N[2024-01-01 00:00:00], ~U[2024-01-01 00:00:00Z]]], [],
           ~S(column "a", row 1: ~U[2024-01-01 00:00:00Z] is of another type than the values before it)},
          {[a: [1], b: [[1], [[2]]]], [], ~S(column "b", row 1: [2] is of another type than the values before it)},
          {[a: [1, {1, 2}]], [], ~S(column "a", row 1: a column cannot hold {1, 2})},
          {[a: [1 <<< 64]], [],
           ~S(column "a", row 0: 18446744073709551616 does not fit integers of 64 bits with the others)},
          {[a: [-1, 1 <<< 63]], [],
           ~S(column "a", row 1: 9223372036854775808 does not fit integers of 64 bits with the others)},
          {[a: ["ok", <<255>>]], [],
           ~S(column "a", row 1: <<255>> is not UTF-8; what is no text needs the type :binary)},
          {[a: [[1 | 2]]], [], ~S(column "a", row 0: an improper list: 2)},
          {[a: [%{1 => 2}]], [], ~S(column "a", row 0: 1 cannot be the name of a field)},
          {[a: [1, 128]], [a: {:s, 8}], ~S(column "a", row 1: 128 does not fit {:s, 8})},
          {[a: [1, -1]], [a: {:u, 64}], ~S(column "a", row 1: -1 does not fit {:u, 64})},
          {[a: [1.0]], [a: {:s, 64}], ~S(column "a", row 0: expected a value of {:s, 64}, got: 1.0)},
          {[a: [1.0e300]], [a: {:f, 32}], ~S(column "a", row 0: 1.0e300 does not fit {:f, 32})},
          {[a: [65_520]], [a: {:f, 16}], ~S(column "a", row 0: 65520 does not fit {:f, 16})},
          {[a: [9_007_199_254_740_993]], [a: {:f, 64}],
           ~S(column "a", row 0: 9007199254740993 would lose digits as {:f, 64})},
          {[a: [0]], [a: :boolean], ~S(column "a", row 0: expected a value of :boolean, got: 0)},
          {[a: [1]], [a: :null], ~S(column "a", row 0: expected a value of :null, got: 1)},
          {[a: ["x"]], [a: :date], ~S(column "a": 1 bytes are not a whole number of values of :date)},
          {[a: [nil, "x"]], [a: :date], ~S(column "a", row 1: expected a value of :date, got: "x")},
          {[a: [~N[2024-01-01 00:00:00.5]]], [a: {:naive_datetime, :second}],
           ~S(column "a", row 0: ~N[2024-01-01 00:00:00.5] would lose digits as {:naive_datetime, :second})},
          {[a: [~N[9999-01-01 00:00:00]]], [a: {:naive_datetime, :nanosecond}],
           ~S(column "a", row 0: ~N[9999-01-01 00:00:00] does not fit {:naive_datetime, :nanosecond})},
          {[a: [12_345]], [a: {:decimal, 4, 0}], ~S(column "a", row 0: 12345 does not fit {:decimal, 4, 0})},
          {[a: [{15, -1}]], [a: {:decimal, 4, 0}],
           ~S(column "a", row 0: {15, -1} would lose digits as {:decimal, 4, 0})},
          {[a: [[1, 2, 3]]], [a: {:fixed_size_list, {:s, 8}, 2}],
           ~S(column "a", row 0: [1, 2, 3] does not have the length of {:fixed_size_list, {:s, 8}, 2})},
          {[a: ["abc"]], [a: {:fixed_size_binary, 2}],
           ~S(column "a", row 0: "abc" does not have the size of {:fixed_size_binary, 2})},
          {[a: [%{y: 2}]], [a: {:struct, [{"x", {:s, 8}}]}],
           ~S(column "a", row 0: a key is no field of {:struct, [{"x", {:s, 8}}]}: %{y: 2})},
          {[a: [%{nil => 1}]], [a: {:map, :string, {:s, 8}}],
           ~S(column "a", row 0: nil cannot be a key of {:struct, [{"key", :string}, {"value", {:s, 8}}]})},
          {[a: Enum.map(0..128, &"#{&1}")], [a: {:dictionary, {:s, 8}, :string}],
           ~S(column "a", row 128: "128" does not fit {:dictionary, {:s, 8}, :string})},
          {[a: [[1], ["x"]]], [a: {:list, {:s, 8}}], ~S(column "a", row 1: expected a value of {:s, 8}, got: "x")},
          {[a: [1]], [a: {:s, 7}], ~S(column "a": no column can be made of the type {:s, 7})},
          {[a: [1]], [a: {:unsupported, "tin"}],
           ~S(column "a": no column can be made of the type {:unsupported, "tin"})},
          {[a: <<1, 2, 3>>], [a: {:s, 16}], ~S(column "a": 3 bytes are not a whole number of values of {:s, 16})},
          {[a: <<1, 2>>], [a: :string],
           ~S(column "a": a binary of raw values needs a type of numbers, dates or times, got: :string)},
          {[a: <<1, 2>>], [], ~S(column "a": a binary of raw values needs a type of numbers, dates or times, got: nil)},
          {[a: [<<1, 2>>, 3]], [a: {:s, 16}], ~S(column "a": expected binaries, got: 3)},
          {[a: :x], [], ~S(column "a": expected a list or a binary, got: :x)},
          {[a: [1], a: [2]], [], ~S(two columns are named "a", and a table is made of columns with different names)},
          {[{"a", [1]}], [b: {:s, 8}], ~S(the option :types has a type for "b", which is no column)},
          {[{1, [1]}], [], ~S(expected the name of a column to be an atom or a string without NUL, got: 1)},
          {[{"a\0b", [1]}], [],
           ~S(expected the name of a column to be an atom or a string without NUL, got: <<97, 0, 98>>)},
          {[1, 2], [], "expected columns to be a map or a list of pairs, got: [1, 2]"}
        ] do
      test "refuses #{inspect(columns, limit: 8)} as #{inspect(types)}" do
        before = NIF.table_arrays()
        columns = unquote(Macro.escape(columns))
        assert_raise ArgumentError, unquote(message), fn -> Table.new(columns, types: unquote(Macro.escape(types))) end
        await_release(before)
      end
    end

    test "refuses improper lists of values" do
      assert_raise ArgumentError, ~S(column "a": expected a list or a binary, got an improper list), fn ->
        Table.new(a: [1 | 2])
      end
    end

    test "half floats, all of them" do
      halves = for i <- 0..65_535, into: <<>>, do: <<i::native-16>>
      table = Table.new([{"h", halves}], types: %{h: {:f, 16}})
      values = Table.column(table, "h")

      assert ask("pa.table(t)['h'].to_numpy().astype(np.float64).tolist()", table)
             |> Enum.zip(values)
             |> Enum.all?(fn {a, b} -> a == b end)

      again = Table.new([{"h", values}], types: %{h: {:f, 16}})
      assert Enum.zip(values, Table.column(again, "h")) |> Enum.all?(fn {a, b} -> a === b end)
      # Numbers between two halves go to the nearest one, as numpy's do.
      :rand.seed(:exsss, {1, 2, 3})
      doubles = for _ <- 1..20_000, do: (:rand.uniform() - 0.5) * :math.pow(10, :rand.uniform(12) - 8)
      ours = Table.new([{"h", doubles}], types: %{h: {:f, 16}})
      theirs = Table.new([{"h", doubles}], types: %{h: {:f, 64}})

      assert Table.column(ours, "h") ==
               ask("pa.table(t)['h'].to_numpy().astype(np.float16).astype(np.float64).tolist()", theirs)
    end

    test "dates of the whole calendar" do
      dates = for days <- Date.diff(~D[-9999-01-01], ~D[1970-01-01])..2_932_896//997, do: Date.add(~D[1970-01-01], days)
      table = Table.new(%{"d" => dates})
      [binary] = Table.to_columns(table, as: :binaries)["d"]
      assert binary == for(date <- dates, into: <<>>, do: <<Date.diff(date, ~D[1970-01-01])::native-signed-32>>)
      assert Table.column(table, "d") == dates
    end

    test "no structs that are no dates or times" do
      for {value, type} <- [
            {%{~D[2024-01-01] | month: 13}, :date},
            {%{~D[2023-02-28] | day: 29}, :date},
            {%{~D[2024-01-01] | year: 10_000}, :date},
            {%{~T[23:59:59] | second: 60}, {:time, :microsecond}},
            {%{~T[00:00:00] | hour: 24}, {:time, :microsecond}},
            {%{~N[2024-01-01 00:00:00] | day: 0}, {:naive_datetime, :microsecond}},
            {%{~U[2024-01-01 00:00:00Z] | minute: -1}, {:datetime, :microsecond, "UTC"}}
          ] do
        error = assert_raise ArgumentError, fn -> Table.new([c: [nil, value]], types: [c: type]) end
        assert error.message =~ ~s(column "c", row 1: expected a value of #{inspect(type)}, got: )
      end
    end

    test "decimals of any size" do
      :rand.seed(:exsss, {4, 5, 6})

      decimals =
        for _ <- 1..2000 do
          digits = :rand.uniform(70)
          struct!(Decimal, sign: Enum.random([1, -1]), coef: :rand.uniform(Integer.pow(10, digits)) - 1, exp: -5)
        end

      decimals = for decimal <- decimals, do: if(decimal.coef == 0, do: %{decimal | sign: 1}, else: decimal)
      table = Table.new(%{"d" => decimals}, types: %{d: {:decimal, 76, 5}})
      assert Table.column(table, "d") == decimals
      text = for d <- decimals, do: "#{d.sign * d.coef}"
      assert ask("[str(int(x.as_py().scaleb(5, decimal.Context(prec=100)))) for x in pa.table(t)['d']]", table) == text
    end
  end

  describe "libraries" do
    test "pyarrow, all types there and back with nothing changed" do
      code =
        "original = #{all_columns()}\noriginal = pa.concat_tables([original, original.slice(1), original])\noriginal"

      original = python(code)
      table = Pythonx.table(original)

      code =
        "again = pa.table(t)\nagain.validate(full=True)\nagain.schema.equals(original.schema, check_metadata=True) and again.equals(original)"

      # nan is not equal to itself.
      without_nan = Table.select(table, table.names -- ["double"])
      theirs = python("original.drop_columns(['double'])", %{"original" => original})
      assert Pythonx.decode(python(code, %{"original" => theirs, "t" => without_nan}))
      parts = Table.slice(without_nan, 2, 5)
      code = "pa.table(t).validate(full=True)\npa.table(t).to_pylist() == original.slice(2, 5).to_pylist()"
      assert Pythonx.decode(python(code, %{"original" => theirs, "t" => parts}))
    end

    test "polars" do
      code = """
      frame = pl.DataFrame({
          "i": [1, None, 3], "s": ["a", None, "a string that is longer than twelve bytes"], "b": [True, False, None],
          "l": [[1], [], None], "st": [{"x": 1}, {"x": 2}, {"x": None}], "d": [datetime.date(2024, 1, 1)] * 3,
          "t": [datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc)] * 3, "de": [decimal.Decimal("1.5"), None, None],
          "du": [datetime.timedelta(seconds=1)] * 3, "ti": [datetime.time(1, 2, 3)] * 3,
          "c": pl.Series(["p", "q", "p"], dtype=pl.Categorical), "e": pl.Series(["x", "y", None], dtype=pl.Enum(["x", "y"])),
          "bi": [b"x", None, b"y" * 20], "a": pl.Series([[1, 2], [3, 4], None], dtype=pl.Array(pl.Int8, 2)),
      })
      pl.concat([frame, frame.slice(1)], rechunk=False)
      """

      frame = python(code)
      table = Pythonx.table(frame)
      assert table.row_count == 5
      rows = Table.to_rows(table)
      assert hd(rows)["c"] == "p" and hd(rows)["e"] == "x" and hd(rows)["a"] == [1, 2]
      assert hd(rows)["t"] == ~U[2024-01-01 00:00:00.000000Z]

      assert Enum.map(rows, & &1["s"]) ==
               for(i <- [0, 1, 2, 1, 2], do: Enum.at(["a", nil, "a string that is longer than twelve bytes"], i))

      assert Pythonx.decode(
               python("pl.DataFrame(t).equals(frame) and pl.DataFrame(t).schema == frame.schema", %{
                 "t" => table,
                 "frame" => frame
               })
             )

      built =
        Table.new([
          {"i", [1, nil]},
          {"s", ["x", nil]},
          {"l", [[1.5], nil]},
          {"st", [%{a: 1}, nil]},
          {"d", [~D[2024-01-01], nil]}
        ])

      assert ask("pl.DataFrame(t).to_dicts()", built) |> tl() == [
               %{"i" => nil, "s" => nil, "l" => nil, "st" => nil, "d" => nil}
             ]

      assert ask("pl.DataFrame(t).select('i', 's', 'l', 'st').row(0)", built) == {1, "x", [1.5], %{"a" => 1}}
    end

    test "pandas" do
      code = """
      pd.DataFrame({"a": [1.5, None], "s": ["x", None], "c": pd.Categorical(["p", "q"]), "i": pd.array([1, None], dtype="Int64"),
                    "t": pd.to_datetime(["2024-01-01 10:00", "2024-01-02 10:00"]).tz_localize("Europe/Oslo")})
      """

      frame = python(code)
      table = Pythonx.table(frame)

      assert [{:f, 64}, :string, {:dictionary, {:s, 8}, :string}, {:s, 64}, {:datetime, _unit, "Europe/Oslo"}] =
               table.types

      assert Table.to_columns(table) |> Map.delete("t") == %{
               "a" => [1.5, nil],
               "s" => ["x", nil],
               "c" => ["p", "q"],
               "i" => [1, nil]
             }

      assert hd(Table.column(table, "t")) == ~U[2024-01-01 09:00:00.000000Z]
      # The index and the types are in the metadata, which come along.
      assert Pythonx.decode(
               python("pd.testing.assert_frame_equal(pa.table(t).to_pandas(), frame)", %{"t" => table, "frame" => frame})
             ) == nil
    end

    test "duckdb" do
      code =
        "duckdb.sql(\"select range::int as i, 'row ' || range as s, range * 1.5::decimal(10, 2) as d, [range] as l from range(5000)\")"

      table = table(code)
      assert table.row_count == 5000

      assert Enum.at(Table.to_rows(table), 4999) |> Map.take(["i", "s", "l"]) == %{
               "i" => 4999,
               "s" => "row 4999",
               "l" => [4999]
             }

      built = Table.new(x: [1, 2, 3], y: ["a", "b", nil])
      assert ask("duckdb.sql('select sum(x)::int, max(y) from t').fetchall()", built) == [{6, "b"}]
    end
  end

  describe "memory" do
    test "raw values are those of Python, without a copy" do
      frame =
        python("pa.table({'a': pa.chunked_array([np.arange(1000), np.arange(1000, 1500)]), 'f': np.arange(1500) / 2})")

      table = Pythonx.table(frame)
      %{"a" => [one, two], "f" => [_f, _rest]} = Table.to_columns(table, as: :binaries)
      assert byte_size(one) == 8000 and byte_size(two) == 4000
      assert two == for(i <- 1000..1499, into: <<>>, do: <<i::native-64>>)
      slice = table |> Table.slice(990, 20) |> Table.to_columns(as: :binaries)
      assert [<<990::native-64, _::binary>>, <<1000::native-64, _::binary>>] = slice["a"]
      assert Enum.map(slice["a"], &byte_size/1) == [80, 80]
    end

    test "a copy is another one's memory, of every type" do
      frame = python("original = #{all_columns()}\npa.concat_tables([original, original.slice(1)])")
      copy = Pythonx.table(frame, copy: true)
      assert Table.to_columns(copy) == Table.to_columns(Pythonx.table(frame))
      assert ask("pa.table(t).validate(full=True)", copy) == nil
      addresses = "{x['int64'].chunk(0).buffers()[1].address for x in (pa.table(a), pa.table(b))}"
      count = fn a, b -> MapSet.size(Pythonx.decode(python(addresses, %{"a" => a, "b" => b}))) end
      assert count.(copy, frame) == 2
      assert count.(Pythonx.table(frame), frame) == 1
      message = "expected :copy to be :auto, true or false, got: :never"
      assert_raise ArgumentError, message, fn -> Pythonx.table(frame, copy: :never) end
    end

    test "periods of pandas are refused, as Arrow would lose their frequency" do
      periods = "pd.period_range('2024-01', periods=2, freq='M')"

      for {code, name} <- [
            {"pd.DataFrame({'p': #{periods}})", "'p'"},
            {"pd.DataFrame({'a': [1, 2]}, index=#{periods})", "None"}
          ] do
        error = assert_raise Pythonx.Error, fn -> table(code) end

        assert List.last(error.lines) ==
                 "TypeError: column #{name} holds periods of pandas (period[M]), which Arrow does not have; " <>
                   "convert it with .dt.to_timestamp() or .astype(str)\n"
      end
    end

    test "what pandas changes later does not change here" do
      # Classes of others are derived from that of pandas, as that of geopandas.
      for code <- ["pd.DataFrame", "class Frame(pd.DataFrame): pass\nFrame"] do
        frame = python(code <> "({'a': [1.5, 2.5]})")
        [copied] = Table.to_columns(Pythonx.table(frame), as: :binaries)["a"]
        [shared] = Table.to_columns(Pythonx.table(frame, copy: false), as: :binaries)["a"]
        assert copied == shared
        python("a = f['a'].to_numpy()\na.flags.writeable = True\na[0] = 9.0", %{"f" => frame})
        assert copied == <<1.5::float-native, 2.5::float-native>>
        assert is_binary(shared)
      end
    end

    test "raw values are refused where there are none" do
      table = table("pa.table({'s': ['x', 'y'], 'n': pa.array([1, None])})")
      message = ~S(column "n": raw values cannot show its 1 nulls; see Pythonx.Table.chunks/2)
      assert_raise ArgumentError, message, fn -> Table.to_columns(Table.select(table, ["n"]), as: :binaries) end

      assert Table.to_columns(table |> Table.select(["n"]) |> Table.slice(0, 1), as: :binaries) == %{
               "n" => [<<1::native-64>>]
             }

      message = ~S(column "s": :string has no raw values of a fixed size)
      assert_raise ArgumentError, message, fn -> Table.to_columns(Table.select(table, ["s"]), as: :binaries) end

      assert_raise ArgumentError, "expected :as to be :lists or :binaries, got: :tuples", fn ->
        Table.to_columns(table, as: :tuples)
      end
    end

    test "chunks are what Arrow has" do
      table =
        table(
          "pa.table({'s': pa.array(['ab', None, 'c', 'def']).slice(1), 'l': pa.array([[1], [], [2, 3]]), 'd': pa.array(['x', 'y', 'x']).dictionary_encode()})"
        )

      [chunk] = Table.chunks(table, "s")

      assert %Table.Chunk{
               type: :string,
               format: "u",
               length: 3,
               offset: 1,
               null_count: 1,
               children: [],
               dictionary: nil
             } = chunk

      assert [<<_unused::4, 0b1101::4>>, offsets, "abcdef"] = chunk.buffers
      assert offsets == <<0::native-32, 2::native-32, 2::native-32, 3::native-32, 6::native-32>>
      [chunk] = Table.chunks(table, "l")
      assert [nil, _offsets] = chunk.buffers

      assert [%Table.Chunk{type: {:s, 64}, length: 3, buffers: [nil, <<1::native-64, 2::native-64, 3::native-64>>]}] =
               chunk.children

      [chunk] = Table.chunks(table, "d")

      assert %{type: {:dictionary, {:s, 32}, :string}, dictionary: %Table.Chunk{length: 2, buffers: [nil, _, "xy"]}} =
               chunk

      [chunk] = Table.chunks(table("pl.DataFrame({'v': ['short', 'a string that is longer than twelve bytes']})"), "v")

      assert [nil, <<views::binary-size(32)>>, "a string that is longer than twelve bytes" <> _, <<sizes::binary>>] =
               chunk.buffers

      assert byte_size(views) == 32 and byte_size(sizes) == 8
    end

    # Every array is counted from when it is taken until its release callback has run.
    test "everything is released, and nothing before its time" do
      before = settled(&NIF.table_arrays/0)
      code = "pl.DataFrame({'a': range(1000), 's': ['x' * 20] * 1000, 'f': [0.5] * 1000})"

      binary =
        Task.await(
          Task.async(fn ->
            table = table(code)
            assert arrays(before) == 3
            Table.to_rows(table)
            Table.to_columns(Table.select(table, ["a"]), as: :binaries)["a"] |> hd()
          end),
          60_000
        )

      # The binary keeps its own column.
      wait_until(fn -> arrays(before) == 1 end)
      assert binary == for(i <- 0..999, into: <<>>, do: <<i::native-64>>)
      assert byte_size(binary) == 8000
      identity(binary)
      await_release(before)
    end

    test "what Python holds lives on when Elixir has forgotten it" do
      before = settled(&NIF.table_arrays/0)

      holder =
        Task.await(
          Task.async(fn ->
            table = Table.new(a: Enum.to_list(1..1000), s: List.duplicate("text", 1000))
            binary = for i <- 1..1000, into: <<>>, do: <<i::native-64>>
            raw = Table.new([{"r", binary}], types: [r: {:s, 64}])
            python("a = pa.table(t)\nb = pl.DataFrame(r)\n(a, b)", %{"t" => table, "r" => raw})
          end),
          60_000
        )

      wait_until(fn -> :erlang.garbage_collect() && arrays(before) == 3 end)
      code = "(sum(h[0]['a'].to_pylist()), h[0]['s'].to_pylist() == ['text'] * 1000, h[1]['r'].sum())"
      assert Pythonx.decode(python(code, %{"h" => holder})) == {500_500, true, 500_500}
      identity(holder)
    end

    test "streams that nobody reads, and batches of which columns are taken apart, are released" do
      before = settled(&NIF.table_arrays/0)

      Task.await(
        Task.async(fn ->
          table = table(all_columns())

          python(
            """
            import gc
            unread = [t.__arrow_c_stream__() for _ in range(100)] + [t.__arrow_c_schema__() for _ in range(100)]
            del unread
            reader = pa.RecordBatchReader.from_stream(t)
            del reader
            column = pa.table(t)['struct'].chunk(0).field(1)
            column.to_pylist()
            del column
            gc.collect()
            None
            """,
            %{"t" => table}
          )
        end),
        60_000
      )

      await_release(before)
    end

    test "many tables from many processes" do
      before = settled(&NIF.table_arrays/0)

      1..8
      |> Task.async_stream(
        fn n ->
          for i <- 1..25 do
            table = Table.new(a: Enum.to_list(1..100), b: List.duplicate("#{n} #{i}", 100))
            again = Pythonx.table(python("pl.DataFrame(t).filter(pl.col('a') > 50)", %{"t" => table}))
            assert Enum.uniq(Table.column(again, "b")) == ["#{n} #{i}"]
            assert Table.column(again, "a") == Enum.to_list(51..100)
          end
        end,
        timeout: 60_000
      )
      |> Stream.run()

      await_release(before)
    end

    test "a table of another node is refused" do
      table = %{Table.new(a: [1]) | object: %Pythonx.Object{resource: make_ref(), remote_info: nil}}
      assert_raise ArgumentError, ~r/decode failed, expected a resource reference/, fn -> Table.to_rows(table) end
    end

    # For the compiler, a term that is given to this lives until then.
    defp identity(term), do: Pythonx.ObjectTracker.identity(term)
  end

  describe "protocols" do
    test "Inspect shows rows, columns and types" do
      assert inspect(Table.new(%{})) == "#Pythonx.Table<0 rows>"
      assert inspect(Table.new([{"a", [1]}, {"b c", ["x"]}])) == ~S(#Pythonx.Table<1 row, a: {:s, 64}, "b c": :string>)
      many = Table.new(for(i <- 1..60, do: {"c#{i}", [1]}))
      assert inspect(many, limit: 3) == "#Pythonx.Table<1 row, c1: {:s, 64}, c2: {:s, 64}, ...>"
    end

    test "Table.Reader (a double of table's) reads what it is asked for" do
      table = Table.new([{"a", Enum.to_list(1..3000)}, {"t", List.duplicate(~D[2024-01-01], 3000)}])
      assert {:columns, %{columns: ["a", "t"], count: 3000}, [a, t]} = Elixir.Table.Reader.init(table)
      assert Enum.to_list(a) == Enum.to_list(1..3000)
      assert Enum.count(t) == 3000
      assert Enum.slice(a, 2990, 100) == Enum.to_list(2991..3000)
      assert Enum.slice(a, 10..20//5) == [11, 16, 21]
      assert Enum.at(a, -1) == 3000
      assert Enum.take(a, 2) == [1, 2]
      assert 3000 in a and 3001 not in a
      assert a |> Enum.zip(t) |> hd() == {1, ~D[2024-01-01]}
      assert [] = Enum.to_list(Table.new(a: []) |> Elixir.Table.Reader.init() |> elem(2) |> hd())
      # Cells that cannot be shown exactly are shown all the same.
      nanoseconds = table("pa.table({'c': pa.array([1999], pa.timestamp('ns'))})")
      assert {:columns, _, [column]} = Elixir.Table.Reader.init(nanoseconds)
      assert Enum.to_list(column) == [~N[1970-01-01 00:00:00.000001]]
    end

    test "the implementations are found among compiled modules" do
      ebin = :pythonx |> Application.app_dir("ebin") |> to_charlist()

      for protocol <- [Elixir.Table.Reader, Kino.Render] do
        assert Pythonx.Table in Protocol.extract_impls(protocol, [ebin])
        refute Pythonx.Object in Protocol.extract_impls(protocol, [ebin]) and protocol == Elixir.Table.Reader
        implementation = Module.concat(protocol, Pythonx.Table)

        assert {implementation.__impl__(:for), implementation.__impl__(:protocol), implementation.__impl__(:target)} ==
                 {Pythonx.Table, protocol, implementation}
      end
    end

    test "Explorer (a double of it) by streams of Arrow's IPC format" do
      table = Table.new(a: [1, nil], s: ["x", nil])
      frame = Table.to_explorer(table)
      assert %Explorer.DataFrame{} = frame
      assert frame |> Table.from_explorer() |> Table.to_columns() == Table.to_columns(table)
      assert_raise RuntimeError, "Polars Error: no data", fn -> Table.from_explorer(%Explorer.DataFrame{}) end
    end

    test "Explorer with polars where there is no pyarrow" do
      code = """
      import importlib, sys
      from pythonx import _tables
      table = pl.DataFrame({"a": [1, None]})
      hidden = {"pyarrow": None}
      saved = {name: sys.modules.get(name) for name in hidden}
      original = importlib.import_module
      def import_module(name):
          if name == "pyarrow":
              raise ModuleNotFoundError("No module named 'pyarrow'", name="pyarrow")
          return original(name)
      importlib.import_module = import_module
      try:
          result = _tables.read_ipc_stream(_tables.write_ipc_stream(table)).equals(table)
      finally:
          importlib.import_module = original
      result
      """

      assert Pythonx.decode(python(code))
    end
  end

  # Random types, nested ones too, with random values: through pyarrow, which checks every buffer, sliced and in chunks.
  describe "random columns" do
    defp random_type(0) do
      Enum.random([
        :boolean,
        {:s, Enum.random([8, 16, 32, 64])},
        {:u, Enum.random([8, 16, 32, 64])},
        {:f, Enum.random([16, 32, 64])},
        :string,
        :binary,
        {:fixed_size_binary, :rand.uniform(5)},
        :date,
        {:time, unit()},
        {:naive_datetime, unit()},
        {:datetime, unit(), Enum.random(["UTC", "Europe/Oslo"])},
        {:decimal, Enum.random([9, 38, 60]), :rand.uniform(5)},
        {:dictionary, {Enum.random([:s, :u]), Enum.random([16, 32, 64])}, Enum.random([:string, :binary])},
        :null
      ])
    end

    defp random_type(depth) do
      inner = fn -> random_type(:rand.uniform(depth) - 1) end

      case :rand.uniform(5) do
        1 -> {:list, inner.()}
        2 -> {:fixed_size_list, inner.(), :rand.uniform(3)}
        3 -> {:struct, for(i <- 1..:rand.uniform(3), do: {"f#{i}", inner.()})}
        4 -> {:map, Enum.random([:string, {:s, 64}, :date]), inner.()}
        5 -> random_type(0)
      end
    end

    defp unit, do: Enum.random([:second, :millisecond, :microsecond, :nanosecond])

    defp random_value(type), do: if(:rand.uniform(5) == 1, do: nil, else: present_value(type))

    defp present_value({:list, type}), do: random_values(type, :rand.uniform(4) - 1)
    defp present_value({:fixed_size_list, type, size}), do: random_values(type, size)
    defp present_value({:struct, fields}), do: for({name, type} <- fields, into: %{}, do: {name, random_value(type)})

    defp present_value({:map, key, value}) do
      for _ <- 1..3, into: %{}, do: {present_value(key), random_value(value)}
    end

    defp present_value({:dictionary, _index, type}),
      do: type |> present_value() |> binary_part(0, 0) |> Kernel.<>(Enum.random(~w(a b c)))

    defp present_value(:boolean), do: Enum.random([true, false])
    defp present_value({:s, bits}), do: :rand.uniform(1 <<< bits) - 1 - (1 <<< (bits - 1))
    defp present_value({:u, bits}), do: :rand.uniform(1 <<< bits) - 1
    defp present_value({:f, _bits}), do: Enum.random([:nan, :infinity, :neg_infinity, (:rand.uniform(2000) - 1000) / 8])
    defp present_value(:string), do: String.duplicate(Enum.random(["a", "ż", "💡", ""]), :rand.uniform(20))
    defp present_value(:binary), do: :rand.bytes(:rand.uniform(30) - 1)
    defp present_value({:fixed_size_binary, size}), do: :rand.bytes(size)
    defp present_value(:date), do: Date.add(~D[1970-01-01], :rand.uniform(200_000) - 100_000)
    defp present_value(:null), do: nil
    defp present_value({:time, unit}), do: Time.from_seconds_after_midnight(:rand.uniform(86_400) - 1) |> precise(unit)

    defp present_value({:datetime, unit, _zone}),
      do: DateTime.from_unix!(:rand.uniform(8_000_000_000) - 4_000_000_000) |> precise(unit)

    defp present_value({:naive_datetime, unit}), do: present_value({:datetime, unit, "UTC"}) |> DateTime.to_naive()

    defp present_value({:decimal, precision, scale}) do
      struct!(Decimal, sign: Enum.random([1, -1]), coef: :rand.uniform(Integer.pow(10, precision) - 1), exp: -scale)
    end

    defp precise(time, :second), do: %{time | microsecond: {0, 0}}
    defp precise(time, :millisecond), do: %{time | microsecond: {(:rand.uniform(1000) - 1) * 1000, 3}}
    defp precise(time, _unit), do: %{time | microsecond: {:rand.uniform(1_000_000) - 1, 6}}

    defp random_values(_type, 0), do: []
    defp random_values(type, count), do: for(_ <- 1..count, do: random_value(type))

    test "arrive as they were" do
      seed = :rand.uniform(1_000_000)
      :rand.seed(:exsss, seed)

      for _ <- 1..150 do
        type = random_type(3)
        values = random_values(type, :rand.uniform(40) - 1)
        table = Table.new([{"c", values}], types: [c: type])
        assert Table.column(table, "c") == values, "seed #{seed}: #{inspect(type)}"
        {offset, length} = {:rand.uniform(10) - 1, :rand.uniform(30)}
        slice = Table.slice(table, offset, length)

        code = """
        whole, part = pa.table(t), pa.table(s)
        whole.validate(full=True)
        part.validate(full=True)
        pa.concat_tables([part, whole.slice(1), part])
        """

        again = Pythonx.table(python(code, %{"t" => table, "s" => slice}), copy: Enum.random([true, false]))
        part = Enum.slice(values, offset, length)
        assert Table.column(again, "c") == part ++ Enum.drop(values, 1) ++ part, "seed #{seed}: #{inspect(type)}"
        assert Enum.map(Table.to_rows(again), & &1["c"]) == Table.column(again, "c")
        assert again |> Table.chunks("c") |> Enum.map(& &1.length) |> Enum.sum() == again.row_count
      end
    end
  end

  describe "columns" do
    test "that are not there" do
      table = Table.new(a: [1], b: [2])
      message = ~S(no column "c", the columns are: "a", "b")
      assert_raise ArgumentError, message, fn -> Table.column(table, "c") end
      assert_raise ArgumentError, ~S(no column 2, the columns are: "a", "b"), fn -> Table.select(table, [0, 2]) end
      assert Table.column(table, :b) == [2]
    end

    test "are released apart from each other" do
      before = settled(&NIF.table_arrays/0)
      part = Task.await(Task.async(fn -> Table.select(table(all_columns()), ["text"]) end), patience())
      wait_until(fn -> arrays(before) == 1 end)
      assert Table.column(part, 0) == ["a", nil, "żółw"]
    end
  end

  # In a VM of its own, which may have no more than some memory.
  @tag skip: System.get_env("LD_PRELOAD", "") =~ "libasan" && "the sanitizer itself takes more address space than that"
  test "a column that there is no memory for is an error" do
    code = """
    Application.ensure_all_started(:pythonx)

    try do
      Pythonx.Table.new(%{a: List.duplicate(nil, 100_000)}, types: %{a: {:fixed_size_binary, 2_000_000_000}})
    rescue
      error -> IO.write(Exception.message(error))
    end
    """

    args = ["-c", "ulimit -v 8000000; exec \"$@\"", "sh", "elixir", "-pa", Application.app_dir(:pythonx, "ebin")]
    result = System.cmd("sh", args ++ ["-e", code], env: Map.to_list(Pythonx.install_env()))
    assert result == {"Erlang error: :enomem", 0}
  end
end
