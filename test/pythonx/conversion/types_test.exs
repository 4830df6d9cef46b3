defmodule Pythonx.Conversion.TypesTest do
  # With a double of Decimal, test/support/decimal_double.ex.
  use Pythonx.Case, async: false

  doctest Pythonx.Decoder

  @durations Code.ensure_loaded?(Duration)

  defmodule Point do
    defstruct [:x, :y]
  end

  @imports """
  import collections, dataclasses, datetime, decimal, enum, pathlib, uuid
  from datetime import date, time, timedelta, timezone
  from decimal import Decimal
  """

  defp object(code, globals \\ %{}) do
    {result, _globals} = Pythonx.eval(@imports <> code, globals)
    result
  end

  defp rich(code, globals \\ %{}), do: code |> object(globals) |> Pythonx.decode(types: :rich)

  defp show(term) do
    {result, _globals} = Pythonx.eval("repr(x)", %{"x" => term}, types: :rich)
    Pythonx.decode(result)
  end

  defp round_trip(term), do: term |> Pythonx.encode!(types: :rich) |> Pythonx.decode(types: :rich)

  describe "without the option" do
    test "nothing changes" do
      for code <- [
            "date(2024, 1, 2)",
            "Decimal('1')",
            "range(3)",
            "1j",
            "bytearray(b'a')",
            "uuid.UUID(int=1)",
            "pathlib.Path('a')"
          ] do
        object = object(code)
        assert Pythonx.decode(object) == object
        assert Pythonx.decode(object, types: :basic) == object
        assert Pythonx.decode(object, []) == object
      end

      assert eval!("import collections\ncollections.namedtuple('P', 'x y')(1, 2)") == {1, 2}

      for struct <- [~D[2024-01-02], ~T[01:02:03], ~N[2024-01-02 03:04:05], ~U[2024-01-02 03:04:05Z], 1..2, %Decimal{}] do
        assert_raise Protocol.UndefinedError, fn -> Pythonx.encode!(struct) end
        assert_raise Protocol.UndefinedError, fn -> Pythonx.encode!([struct]) end
      end
    end

    test "the option is checked" do
      message = "expected :types to be :basic or :rich, got: :all"
      assert_raise ArgumentError, message, fn -> Pythonx.decode(object("1"), types: :all) end
      assert_raise ArgumentError, message, fn -> Pythonx.encode!(1, types: :all) end
      assert_raise ArgumentError, message, fn -> Pythonx.eval("1", %{}, types: :all) end
      assert_raise ArgumentError, message, fn -> Pythonx.call(object("len"), [[]], [], types: :all) end
      assert_raise ArgumentError, ~r/unknown keys \[:foo\]/, fn -> Pythonx.decode(object("1"), foo: 1) end
    end
  end

  describe "dates and times" do
    test "decode to those of Elixir" do
      assert rich("date(2024, 2, 29)") == ~D[2024-02-29]
      assert rich("date.min") == ~D[0001-01-01]
      assert rich("time(1, 2, 3)") == ~T[01:02:03.000000]
      assert rich("time(23, 59, 59, 999999)") == ~T[23:59:59.999999]
      assert rich("datetime.datetime(2024, 2, 29, 1, 2, 3, 4)") == ~N[2024-02-29 01:02:03.000004]
      assert rich("datetime.datetime(2024, 2, 29, 1, 2, 3, 4, timezone.utc)") == ~U[2024-02-29 01:02:03.000004Z]
    end

    test "keep their zone" do
      fields = fn t -> {t.time_zone, t.zone_abbr, t.utc_offset, t.std_offset, t.hour} end
      summer = rich("import zoneinfo\ndatetime.datetime(2024, 7, 1, 12, tzinfo=zoneinfo.ZoneInfo('Europe/Warsaw'))")
      assert fields.(summer) == {"Europe/Warsaw", "CEST", 3600, 3600, 12}
      assert DateTime.to_iso8601(summer) == "2024-07-01T12:00:00.000000+02:00"
      # The second of two equal hours: Elixir could not say so.
      for code <- ["datetime.datetime(2024, 10, 27, 2, 30, fold=1)", "datetime.time(2, 30, fold=1)"] do
        assert %Pythonx.Object{} = object = rich(code)
        assert inspect(object) =~ "fold=1"
      end

      fixed = rich("datetime.datetime(2024, 7, 1, 12, tzinfo=timezone(timedelta(hours=-3, minutes=-30)))")
      assert fields.(fixed) == {"UTC-03:30", "UTC-03:30", -12_600, 0, 12}
      assert DateTime.to_unix(fixed) == DateTime.to_unix(~U[2024-07-01 15:30:00Z])

      assert fields.(rich("import zoneinfo\ndatetime.datetime(2024, 7, 1, tzinfo=zoneinfo.ZoneInfo('UTC'))")) ==
               {"Etc/UTC", "UTC", 0, 0, 0}

      for time <- [summer, fixed], do: assert(round_trip(time) == time)

      # As dateutil has it.
      utc = """
      class UTC(datetime.tzinfo):
          def utcoffset(self, moment): return timedelta(0)
          def dst(self, moment): return timedelta(0)
          def tzname(self, moment): return 'UTC'
      """

      assert rich(utc <> "datetime.datetime(2024, 7, 1, tzinfo=UTC())") == ~U[2024-07-01 00:00:00.000000Z]
    end

    test "in an hour that comes twice are told apart" do
      for fold <- [0, 1] do
        code =
          "import zoneinfo\ndatetime.datetime(2024, 10, 27, 2, 30, tzinfo=zoneinfo.ZoneInfo('Europe/Warsaw'), fold=#{fold})"

        time = rich(code)
        assert time.std_offset == 3600 * (1 - fold)
        assert eval!("t.fold", %{"t" => Pythonx.encode!(time, types: :rich)}) == fold
        assert round_trip(time) == time
      end
    end

    test "that Elixir has not stay objects" do
      for code <- [
            "time(1, tzinfo=timezone.utc)",
            "datetime.datetime(2024, 1, 1, tzinfo=timezone(timedelta(seconds=1, microseconds=1)))"
          ] do
        object = object(code)
        assert Pythonx.decode(object, types: :rich) == object
      end
    end

    test "encode to those of Python" do
      assert show(~D[2024-02-29]) == "datetime.date(2024, 2, 29)"
      assert show(~T[01:02:03.5]) == "datetime.time(1, 2, 3, 500000)"
      assert show(~N[2024-02-29 01:02:03]) == "datetime.datetime(2024, 2, 29, 1, 2, 3)"

      assert show(~U[2024-02-29 01:02:03.000004Z]) ==
               "datetime.datetime(2024, 2, 29, 1, 2, 3, 4, tzinfo=datetime.timezone.utc)"
    end

    test "that Python has not are errors" do
      assert_raise Pythonx.Error, ~r/ValueError: year -?1 is out of range|ValueError: year must be/, fn ->
        show(~D[-0001-01-01])
      end

      zone = %{~U[2024-01-01 00:00:00Z] | time_zone: "Mars/Crater", zone_abbr: "MC"}
      assert_raise Pythonx.Error, ~r/No time zone found with key Mars\/Crater/, fn -> show(zone) end
      wrong = %{~U[2024-01-01 00:00:00Z] | time_zone: "Europe/Warsaw", zone_abbr: "X", utc_offset: 60}

      assert_raise Pythonx.Error, ~r/the offset of 2024-01-01 00:00:00\+01:00 in Europe\/Warsaw is not 0:01:00/, fn ->
        show(wrong)
      end

      wrong = %{~U[2024-01-01 00:00:00Z] | utc_offset: 3600}

      assert_raise Pythonx.Error, ~r/the offset of 2024-01-01 00:00:00\+00:00 in Etc\/UTC is not 1:00:00/, fn ->
        show(wrong)
      end

      assert_raise ArgumentError,
                   ~s([1]["day"]: cannot encode a date of Some.Calendar: Python knows the calendar of ISO only),
                   fn -> Pythonx.encode!([1, %{"day" => %{~D[2024-01-01] | calendar: Some.Calendar}}], types: :rich) end
    end
  end

  if @durations do
    describe "durations" do
      test "go both ways" do
        assert rich("timedelta(days=-1, seconds=5, microseconds=7)") ==
                 struct!(Duration, day: -1, second: 5, microsecond: {7, 6})

        assert show(struct!(Duration, week: 1, day: 1, hour: -1, minute: 1, second: 1, microsecond: {5, 6})) ==
                 "datetime.timedelta(days=7, seconds=82861, microseconds=5)"

        duration = struct!(Duration, day: 3, second: 5, microsecond: {7, 6})
        assert round_trip(duration) == duration
      end

      test "of months have no counterpart" do
        duration = struct!(Duration, month: 1)
        message = "cannot encode a duration with years or months as a Python timedelta, got: #{inspect(duration)}"
        assert_raise ArgumentError, message, fn -> show(duration) end
      end
    end
  end

  describe "numbers" do
    test "decimals go both ways, exactly" do
      for {text, decimal} <- [
            {"1.20", %Decimal{sign: 1, coef: 120, exp: -2}},
            {"-0.0", %Decimal{sign: -1, coef: 0, exp: -1}},
            {"1E+30", %Decimal{sign: 1, coef: 1, exp: 30}},
            {"Infinity", %Decimal{sign: 1, coef: :inf, exp: 0}},
            {"-Infinity", %Decimal{sign: -1, coef: :inf, exp: 0}},
            {"NaN", %Decimal{sign: 1, coef: :NaN, exp: 0}}
          ] do
        assert rich("Decimal('#{text}')") == decimal
        assert show(decimal) == "Decimal('#{text}')"
      end

      large = %Decimal{sign: -1, coef: Integer.pow(7, 10_000), exp: -5}
      assert round_trip(large) == large
    end

    test "decimals that Elixir has not stay objects" do
      for text <- ["sNaN", "NaN123"] do
        object = object("Decimal('#{text}')")
        assert Pythonx.decode(object, types: :rich) == object
      end
    end

    test "complex numbers are pairs" do
      assert rich("[1+2j, complex('inf')]") == [{1.0, 2.0}, {:infinity, 0.0}]
    end

    test "ranges go both ways" do
      for {code, range} <- [
            {"range(0, 10)", 0..9//1},
            {"range(0, 10, 3)", 0..9//3},
            {"range(5, 0, -2)", 5..1//-2},
            {"range(0, 0)", 0..-1//1},
            {"range(3, 1)", 3..0//1},
            {"range(0, 1180591620717411303424)", 0..(Integer.pow(2, 70) - 1)//1}
          ] do
        assert rich(code) == range

        assert eval!("list(a) == list(b) and a == b if len(range(9)) and b.stop < 99 else a == b", %{
                 "a" => Pythonx.encode!(range, types: :rich),
                 "b" => object(code)
               })

        assert round_trip(range) == range
      end
    end

    test "scalars of numpy are numbers" do
      code =
        "import numpy as np\n[np.int64(-3), np.uint8(3), np.float32(1.5), np.float64(2.5), np.bool_(True), np.complex64(1j), np.str_('a')]"

      assert rich(code) == [-3, 3, 1.5, 2.5, true, {0.0, 1.0}, "a"]

      for code <- ["np.datetime64('2024-01-01')", "np.longdouble(1)"] do
        object = object("import numpy as np\n" <> code)
        assert Pythonx.decode(object, types: :rich) == object
      end
    end
  end

  describe "other types" do
    test "of the standard library" do
      assert rich("bytearray(b'abc')") == "abc"
      assert rich("memoryview(b'abcd')[::2]") == "ac"
      assert rich("uuid.UUID('12345678-1234-5678-1234-567812345678')") == "12345678-1234-5678-1234-567812345678"
      assert rich("pathlib.PurePosixPath('/usr') / 'lib'") == "/usr/lib"
    end

    test "enums are their values" do
      code = """
      class Color(enum.Enum):
          RED = 'red'
          POINT = (1, date(2024, 1, 1))
      class Level(enum.IntEnum):
          HIGH = 3
      class Flags(enum.Flag):
          A = 1
          B = 2
      marker = object()
      class Odd(enum.Enum):
          THING = marker
      """

      assert rich(code <> "[Color.RED, Color.POINT, Level.HIGH, Flags.A | Flags.B]") == [
               "red",
               {1, ~D[2024-01-01]},
               3,
               3
             ]

      assert %Pythonx.Object{} = thing = rich(code <> "Odd.THING")
      assert inspect(thing) =~ "<object object"
    end

    test "dataclasses and named tuples are maps" do
      code = """
      @dataclasses.dataclass
      class Person:
          name: str
          born: date
          parents: list = dataclasses.field(default_factory=list)

      Pair = collections.namedtuple('Pair', 'left right')
      """

      assert rich(code <> "Person('Ada', date(1815, 12, 10), [Person('Byron', date(1788, 1, 22))])") == %{
               "name" => "Ada",
               "born" => ~D[1815-12-10],
               "parents" => [%{"name" => "Byron", "born" => ~D[1788-01-22], "parents" => []}]
             }

      assert rich(code <> "[Pair(1, Pair(2, 3)), (4, 5)]") == [
               %{"left" => 1, "right" => %{"left" => 2, "right" => 3}},
               {4, 5}
             ]

      assert %Pythonx.Object{} = rich(code <> "Person")
    end

    test "keep what is plain as it is" do
      term = [1, 2.5, "a", nil, true, %{"k" => MapSet.new([1])}, {1}]
      assert rich("[1, 2.5, 'a', None, True, {'k': {1}}, (1,)]") == term
      assert rich("collections.OrderedDict(a=1)") == %{"a" => 1}
      assert %Pythonx.Object{} = rich("object()")
      assert [%Pythonx.Object{}] = rich("[object()]")
    end

    test "as keys and members" do
      assert rich("{date(2024, 1, 1): 1}") == %{~D[2024-01-01] => 1}
      assert rich("{date(2024, 1, 1), Decimal(1)}") == MapSet.new([~D[2024-01-01], %Decimal{coef: 1}])

      assert_raise ArgumentError, ~r/cannot decode a set whose elements .* are the same in Elixir/, fn ->
        rich("{uuid.UUID(int=0), '00000000-0000-0000-0000-000000000000'}")
      end
    end

    test "that hold themselves are refused" do
      code = """
      @dataclasses.dataclass
      class Node:
          next: object = None
      node = Node()
      node.next = [node]
      node
      """

      assert_raise ArgumentError, ~s(["next"][0]: cannot decode an object of type Node that contains itself), fn ->
        rich(code)
      end
    end

    test "that are shared are decoded once" do
      code = """
      @dataclasses.dataclass
      class Node:
          left: object
          right: object
      node = None
      for _ in range(60):
          node = Node(node, node)
      node
      """

      depth = fn depth, term -> if term, do: depth.(depth, term["left"]) + 1, else: 0 end
      {node, _globals} = Pythonx.eval(@imports <> code, %{})
      # Some answers come back at once, others as messages.
      for _ <- 1..50, do: assert(depth.(depth, Pythonx.decode(node, types: :rich)) == 60)
    end

    test "of which an attribute raises" do
      code = """
      @dataclasses.dataclass
      class Broken:
          x: int
      b = Broken(1)
      del b.x
      [b]
      """

      error = assert_raise Pythonx.Error, fn -> rich(code) end
      assert error.lines == ["AttributeError: 'Broken' object has no attribute 'x'\n", "while decoding [0]\n"]
    end

    test "of which an attribute is code that raises, show the line" do
      code = """
      import dataclasses
      @dataclasses.dataclass
      class Odd:
          x: int
          def __getattribute__(self, name):
              if name == "x": raise ValueError("mine")
              return super().__getattribute__(name)
      {"k": Odd(1)}
      """

      {object, _globals} = Pythonx.eval(code, %{})
      error = assert_raise Pythonx.Error, fn -> Pythonx.decode(object, types: :rich) end

      assert ["Traceback (most recent call last):\n", "  File \"<string>\", line 6, in __getattribute__\n" | rest] =
               error.lines

      assert rest == ["ValueError: mine\n", ~s/while decoding ["k"]\n/]
      assert eval!("t.tb_lineno", %{"t" => error.traceback}) == 6
    end

    test "subclasses that hold more stay objects" do
      code = """
      class Stamp(datetime.datetime):
          nanosecond = 0
      class Exact(Stamp):
          nanosecond = 5
      [Stamp(2024, 1, 1), Exact(2024, 1, 1)]
      """

      assert [~N[2024-01-01 00:00:00.000000], %Pythonx.Object{}] = rich(code)
    end
  end

  describe "everything that encodes" do
    test "takes the option" do
      assert repr(Pythonx.encode!([~D[2024-01-01], %{"r" => 1..2}], types: :rich)) =~ "datetime.date(2024, 1, 1)"

      assert Pythonx.call(object("lambda a, *, b: (b - a).days"), [~D[2024-01-01]], [b: ~D[2024-01-31]],
               types: :rich,
               decode: true
             ) == 30

      assert Pythonx.call_method(object("date(2024, 1, 31)"), :replace, [], [day: 1], types: :rich, decode: true) ==
               ~D[2024-01-01]

      assert Pythonx.getattr(object("datetime.datetime(2024, 1, 31)"), :min, types: :rich, decode: true) ==
               ~N[0001-01-01 00:00:00.000000]

      {result, _} = Pythonx.eval("day.isoformat()", %{"day" => ~D[2024-01-01]}, types: :rich)
      assert Pythonx.decode(result) == "2024-01-01"
    end

    test "leaves other structs to the protocol, and says where they are" do
      error = assert_raise Protocol.UndefinedError, fn -> Pythonx.encode!([~D[2024-01-01], %Point{}], types: :rich) end
      assert error.description == "[1]: cannot encode this value"
      object = Pythonx.encode!(1)
      assert Pythonx.encode!(object, types: :rich) == object

      assert show([~D[2024-01-01], object, %Pythonx.Case.Complex{re: 1, im: 2}, 1..2]) =~
               "[datetime.date(2024, 1, 1), 1, (1+2j), range(1, 3)]"
    end

    test "goes with binaries: :str" do
      assert repr(Pythonx.encode!(["a", ~D[2024-01-01]], types: :rich, binaries: :str)) ==
               "['a', datetime.date(2024, 1, 1)]"
    end
  end

  describe "decoders" do
    setup do
      on_exit(fn -> for name <- Pythonx.Decoder.registered(), do: Pythonx.Decoder.unregister(name) end)
    end

    @points """
    class Point:
        def __init__(self, x, y):
            self.x, self.y = x, y
    class Point3(Point):
        z = 0
    """

    defp decode_point(object) do
      %Point{x: Pythonx.getattr(object, :x, decode: true, types: :rich), y: Pythonx.getattr(object, :y, decode: true)}
    end

    test "make terms of instances, wherever they are" do
      :ok = Pythonx.Decoder.register("__main__.Point", &decode_point/1)
      assert Pythonx.Decoder.registered() == ["__main__.Point"]
      assert rich(@points <> "Point(1, 2)") == %Point{x: 1, y: 2}

      assert rich(@points <> "{'a': [Point(1, 2), (Point(3, 4),)]}") == %{
               "a" => [%Point{x: 1, y: 2}, {%Point{x: 3, y: 4}}]
             }

      assert rich(@points <> "p = Point(1, 2); [p, p, Point3(date(2024, 1, 1), 5)]") ==
               [%Point{x: 1, y: 2}, %Point{x: 1, y: 2}, %Point{x: ~D[2024-01-01], y: 5}]

      assert rich(@points <> "{Point(1, 2), Point(3, 4)}") == MapSet.new([%Point{x: 1, y: 2}, %Point{x: 3, y: 4}])
      assert [%Pythonx.Object{}] = Pythonx.decode(object(@points <> "[Point(1, 2)]"))
      assert Pythonx.Decoder.unregister("__main__.Point")
      refute Pythonx.Decoder.unregister("__main__.Point")
      assert [%Pythonx.Object{}] = rich(@points <> "[Point(1, 2)]")
    end

    test "are called once for each object" do
      test = self()
      Pythonx.Decoder.register("__main__.Point", fn object -> send(test, {:decoded, decode_point(object)}) end)
      rich(@points <> "p = Point(1, 2); [p] * 100")
      assert_received {:decoded, %Point{x: 1, y: 2}}
      refute_received {:decoded, _point}
    end

    test "may be nested" do
      Pythonx.Decoder.register("__main__.Point", &decode_point/1)
      assert rich(@points <> "Point(Point(Point(1, 2), 3), 4)") == %Point{x: %Point{x: %Point{x: 1, y: 2}, y: 3}, y: 4}
    end

    test "of a class that is given as an object, and of one that Pythonx knows" do
      :ok =
        Pythonx.Decoder.register(object("date"), fn object -> {:day, Pythonx.getattr(object, :day, decode: true)} end)

      assert Pythonx.Decoder.registered() == ["datetime.date"]
      assert rich("[date(2024, 1, 31)]") == [{:day, 31}]

      assert_raise ArgumentError, "expected a class or the name of one, got an instance of datetime.date", fn ->
        Pythonx.Decoder.register(object("date(2024, 1, 1)"), & &1)
      end
    end

    test "of plain types are refused" do
      for name <- ["int", "list", "NoneType", "set"] do
        assert_raise ArgumentError,
                     "cannot register a decoder for #{name}: objects of the type #{name} are decoded as they are",
                     fn -> Pythonx.Decoder.register(name, & &1) end
      end
    end

    test "that raise, raise where the caller is" do
      Pythonx.Decoder.register("__main__.Point", fn _object -> raise "no" end)
      assert_raise RuntimeError, "no", fn -> rich(@points <> "[Point(1, 2)]") end
    end

    test "and objects that make new ones for ever" do
      Pythonx.Decoder.register("__main__.Point", fn _object -> :point end)

      code = """
      class Fresh:
          def __get__(self, instance, owner):
              return self if instance is None else Point(1, 2)
      @dataclasses.dataclass
      class Box:
          x: int = 0
      Box.x = Fresh()
      b = Box.__new__(Box)
      b
      """

      assert_raise ArgumentError, "cannot decode an object that holds new ones each time it is looked at", fn ->
        rich(@points <> code)
      end
    end
  end

  describe "code that runs meanwhile" do
    test "may take an object out of the list that held it alone" do
      code = """
      class Emptying(type):
          def __getattr__(cls, name):
              items.clear()
              raise AttributeError(name)
      class Items(list, metaclass=Emptying):
          pass
      items = [1, Items([2, 3])]
      items
      """

      assert rich(code) == [[2, 3]]
    end
  end

  describe "memory" do
    test "everything is given back" do
      held = fn -> Pythonx.NIF.stats() |> elem(1) end
      code = "[(date(2024, 1, 1), Decimal(i), collections.namedtuple('P', 'x')(i)) for i in range(1000)]"
      {list, _} = Pythonx.eval(@imports <> code, %{})
      before = {settled(held), eval!("import sys; sys.getrefcount(x[0][0])", %{"x" => list})}
      for _ <- 1..5, do: Pythonx.decode(list, types: :rich)
      for _ <- 1..5, do: Pythonx.encode!(Enum.to_list(Date.range(~D[2024-01-01], ~D[2026-01-01])), types: :rich)
      :erlang.garbage_collect()
      eval!("None")
      wait_until(fn -> held.() <= elem(before, 0) end)
      assert eval!("import sys; sys.getrefcount(x[0][0])", %{"x" => list}) == elem(before, 1)
    end
  end
end
