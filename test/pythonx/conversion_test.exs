defmodule Pythonx.ConversionTest do
  use Pythonx.Case, async: false

  import Bitwise

  alias Pythonx.Case.Complex

  doctest Pythonx.Encoder

  defmodule Point do
    defstruct [:x, :y]
  end

  defmodule Given do
    # Encodes as whatever it holds.
    defstruct [:value]

    defimpl Pythonx.Encoder do
      def encode(%{value: value}, _encoder), do: value
    end
  end

  defp object(code, globals \\ %{}) do
    {result, _globals} = Pythonx.eval(code, globals)
    result
  end

  defp round_trip(term, opts \\ []), do: term |> Pythonx.encode!(opts) |> Pythonx.decode()

  defp undefined(term) do
    error = assert_raise Protocol.UndefinedError, fn -> Pythonx.encode!(term) end
    assert error.protocol == Pythonx.Encoder
    error
  end

  defp python_error(fun) do
    error = assert_raise Pythonx.Error, fun
    error.lines |> Enum.reject(&(&1 =~ ~r/^while (en|de)coding /)) |> List.last() |> String.trim_trailing()
  end

  defp refused(code) do
    assert_raise(ArgumentError, fn -> Pythonx.decode(object(code)) end).message
  end

  defp depth([inner], depth), do: depth(inner, depth + 1)
  defp depth({inner}, depth), do: depth(inner, depth + 1)
  defp depth(%{"k" => inner}, depth), do: depth(inner, depth + 1)
  defp depth(_leaf, depth), do: depth

  describe "encoding" do
    test "atoms" do
      assert repr([nil, true, false]) == "[None, True, False]"
      assert repr([:ok, :"with space", :é, :żółw, :"😀", :""]) == "['ok', 'with space', 'é', 'żółw', '😀', '']"
      assert repr(String) == "'Elixir.String'"
      longest = String.to_atom(String.duplicate("ż", 255))
      assert round_trip(longest) == Atom.to_string(longest)
    end

    test "singletons are the singletons of Python" do
      code = "e = ()\n(a is None, b is True, c is False, d is e)"
      globals = %{"a" => nil, "b" => true, "c" => false, "d" => {}}
      assert eval!(code, globals) == {true, true, true, true}
    end

    test "integers of any size" do
      assert repr([0, 1, -1, 255, -5, -6]) == "[0, 1, -1, 255, -5, -6]"
      assert eval!("x == 2**64 and y == -(2**63) - 1", %{"x" => 1 <<< 64, "y" => -(1 <<< 63) - 1})
      assert eval!("x == 10**5000", %{"x" => Integer.pow(10, 5000)})
      assert eval!("x == -(10**5000)", %{"x" => -Integer.pow(10, 5000)})
    end

    test "floats" do
      assert repr([1.5, -0.0, 1.0e308, 5.0e-324]) == "[1.5, -0.0, 1e+308, 5e-324]"
    end

    test "binaries are bytes, UTF-8 or not" do
      assert repr("ok") == "b'ok'"
      assert repr(["", "a", <<255>>, "a\0b", "ż"]) == "[b'', b'a', b'\\xff', b'a\\x00b', b'\\xc5\\xbc']"
      assert repr({2, nil, "ok"}) == "(2, None, b'ok')"
    end

    test "lists, charlists, keyword lists and tuples" do
      assert repr([1, [2.5, []]]) == "[1, [2.5, []]]"
      assert repr(~c"ab") == "[97, 98]"
      assert repr(a: 1, b: "x") == "[('a', 1), ('b', b'x')]"
      assert repr([{}, {1}, {1, {2}}]) == "[(), (1,), (1, (2,))]"
    end

    test "maps" do
      assert repr(%{}) == "{}"

      assert eval!("x == {'a': [1], b'a': (2,), 3: {}, None: None}", %{
               "x" => %{:a => [1], "a" => {2}, 3 => %{}, nil => nil}
             })

      large = for i <- 1..1000, into: %{}, do: {i, "v#{i}"}
      assert eval!("x == {i: b'v%d' % i for i in range(1, 1001)}", %{"x" => large})
    end

    test "keys that are equal in Python become one, and the later value stays" do
      assert repr(%{1 => :a, 1.0 => :b}) == "{1: 'b'}"
      assert repr(%{{1} => [:a], {1.0} => [:b]}) == "{(1,): ['b']}"
      assert repr(MapSet.new([1, 1.0])) in ["{1}", "{1.0}"]
    end

    test "sets" do
      assert repr(MapSet.new()) == "set()"
      assert repr(MapSet.new([1])) == "{1}"
      assert eval!("x == {1, 'a', b'a', (1, (2,))}", %{"x" => MapSet.new([1, :a, "a", {1, {2}}])})
      assert eval!("x == set(range(100))", %{"x" => MapSet.new(0..99)})
    end

    test "what cannot be a key is an error of Python" do
      for {key, type} <- [{[1], "list"}, {%{}, "dict"}, {MapSet.new(), "set"}, {{1, {[2]}}, "list"}] do
        assert python_error(fn -> Pythonx.encode!(%{key => 1}) end) =~ "unhashable type: '#{type}'"
        assert python_error(fn -> Pythonx.encode!([MapSet.new([key])]) end) =~ "unhashable type: '#{type}'"
      end

      error = assert_raise Pythonx.Error, fn -> Pythonx.encode!(%{[1] => 2}) end
      assert Pythonx.decode(error.traceback) == nil
      assert eval!("t is TypeError and isinstance(v, t)", %{"t" => error.type, "v" => error.value})
    end

    test "local pids, dead ones too" do
      dead = spawn(fn -> :ok end)
      assert repr(self()) == "<pythonx.PID>"
      assert round_trip([self(), dead]) == [self(), dead]
    end

    test "objects are themselves" do
      object = object("object()")
      assert Pythonx.encode!(object) == object
      assert eval!("x[0] is o and x[1][b'k'] is o", %{"x" => [object, %{"k" => object}], "o" => object})
    end

    test "objects of user classes as keys are hashed by their class" do
      code = "class K:\n    def __hash__(self): return 7\n    def __eq__(self, other): return True\nK"
      class = object(code)
      [a, b] = for _ <- 1..2, do: object("K()", %{"K" => class})
      assert eval!("len(x)", %{"x" => %{a => 1}}) == 1
      assert eval!("(len(x), len(y))", %{"x" => %{a => 1, b => 2}, "y" => MapSet.new([a, b])}) == {1, 1}

      {nil, globals} = Pythonx.eval("class B:\n    def __hash__(self): raise ValueError('no hash')\nb = B()", %{})
      assert python_error(fn -> Pythonx.encode!([1, %{{globals["b"]} => 1}]) end) == "ValueError: no hash"
    end

    test "structs go through the protocol, wherever they are" do
      complex = %Complex{re: 1, im: 2}
      assert repr(complex) == "(1+2j)"
      assert repr([complex, %{"k" => {complex}}]) == "[(1+2j), {b'k': ((1+2j),)}]"
      assert eval!("x == {1+2j: {1+2j}}", %{"x" => %{complex => MapSet.new([complex])}})
    end

    test "structs without an implementation are an error that says where" do
      assert undefined(%Point{}).value == %Point{}
      error = undefined([1, %{"k" => {~D[2020-01-01]}}])
      assert error.value == ~D[2020-01-01]
      assert Exception.message(error) =~ ~s([1]["k"][0]: cannot encode this value)
      assert undefined(1..2).value == 1..2
    end

    test "an implementation that returns no object is an error that says where" do
      expected =
        &"expected the Pythonx.Encoder implementation for #{inspect(&1)} to return a Pythonx.Object, got: #{inspect(&1.value)}"

      for value <- [nil, 1, {:ok, 2}], given = %Given{value: value} do
        message = expected.(given)
        assert_raise ArgumentError, message, fn -> Pythonx.encode!(given) end
        assert_raise ArgumentError, message, fn -> Pythonx.eval("x", %{"x" => given}) end
        assert_raise ArgumentError, ~s([1]["k"]: #{message}), fn -> Pythonx.encode!([1, %{"k" => given}]) end
      end

      assert round_trip(%Given{value: Pythonx.encode!([1])}) == [1]
    end

    test "an object of this node that has been collected is an error that names the reference" do
      gone = %Pythonx.Object{resource: make_ref()}
      message = "decode failed, expected a resource reference, got: #{:erlang.ref_to_list(gone.resource)}"
      assert_raise ArgumentError, message, fn -> Pythonx.encode!(gone) end
      assert_raise ArgumentError, message, fn -> Pythonx.eval("x", %{"x" => gone}) end
      assert_raise ArgumentError, "[0]: " <> message, fn -> Pythonx.encode!([gone]) end
      assert_raise ArgumentError, message, fn -> Pythonx.encode!(%Given{value: gone}) end
    end

    test "references and ports are an error" do
      port = hd(Port.list())
      for term <- [make_ref(), port], do: assert(undefined([term]).value == term)
      for term <- [make_ref(), port], do: assert(undefined(term).description in [nil, ""])
    end

    test "bitstrings that are no binaries are an error" do
      error = undefined(<<1::3>>)
      assert error.description == "cannot encode a bitstring as a Python object"
      assert undefined([<<"a", 1::1>>]).description == "[0]: cannot encode a bitstring as a Python object"
    end

    test "improper lists are an error" do
      assert_raise ArgumentError, ~r/\A\["k"\]: /, fn -> Pythonx.encode!(%{"k" => [1, 2 | 3]}) end

      message = "cannot encode an improper list as a Python object, got: [1 | 2]"
      assert_raise ArgumentError, message, fn -> Pythonx.encode!([1 | 2]) end
      assert_raise ArgumentError, message, fn -> Pythonx.encode!([1 | 2], &Pythonx.Encoder.encode(&1, &2)) end
    end

    test "the order in which structs are met is that in which their objects are placed" do
      term = for i <- 1..100, do: {%Complex{re: i, im: 0}, %{"k" => [%Complex{re: 0, im: i}]}}
      assert eval!("x == [(complex(i), {b'k': [complex(0, i)]}) for i in range(1, 101)]", %{"x" => term})
    end

    test "an error leaks nothing" do
      object = object("object()")
      count = fn -> eval!("import sys\nsys.getrefcount(x)", %{"x" => object}) end
      before = count.()

      for _ <- 1..20 do
        assert_raise Protocol.UndefinedError, fn ->
          Pythonx.encode!([object, [object, %{"k" => object}], make_ref()])
        end

        assert_raise Pythonx.Error, fn -> Pythonx.encode!([object, {object}, %{[object] => object}]) end
        assert_raise Pythonx.Error, fn -> Pythonx.encode!([object, <<255>>], binaries: :str) end
      end

      wait_until(fn ->
        collect_free_threaded()
        count.() == before
      end)
    end

    test "rows share their keys, and each row is its own dict" do
      rows = for i <- 1..100, do: %{"id" => i, "tags" => ["a"]}
      code = "x[0][b'tags'].append(1)\n(len({id(k) for r in x for k in r}), x[1][b'tags'])"
      assert {keys, ["a"]} = eval!(code, %{"x" => rows})
      assert keys < 20
    end

    test "a subterm that is shared in Elixir is two lists in Python" do
      shared = [1]
      assert eval!("x[0].append(2)\nx", %{"x" => [shared, shared]}) == [[1, 2], [1]]
    end
  end

  describe "encoding with binaries: :str" do
    test "makes str of binaries, keys and elements of sets included" do
      term = %{"name" => ["Ada", {"é", "żółw", "日本", "😀", "", "a\0b"}], "set" => MapSet.new(["x"])}
      expected = "x == {'name': ['Ada', ('é', 'żółw', '日本', '😀', '', 'a\\0b')], 'set': {'x'}}"
      assert eval!(expected, %{"x" => Pythonx.encode!(term, binaries: :str)})
      assert round_trip(term, binaries: :str) == term
    end

    test "an atom and a binary of the same text are one key" do
      assert repr(Pythonx.encode!(%{:a => 1, "a" => 1}, binaries: :str)) == "{'a': 1}"
    end

    test "refuses what is not UTF-8" do
      for binary <- [<<255>>, <<0xC0, 0x80>>, <<0xED, 0xA0, 0x80>>, <<0xF4, 0x90, 0x80, 0x80>>, "a" <> <<0xE2, 0x82>>] do
        error = python_error(fn -> Pythonx.encode!([%{"k" => binary}], binaries: :str) end)
        assert error =~ "UnicodeDecodeError: 'utf-8' codec can't decode byte"
        assert python_error(fn -> Pythonx.encode!(%{binary => 1}, binaries: :str) end) =~ "UnicodeDecodeError"
      end
    end
  end

  describe "decoding" do
    test "None, True, False" do
      assert eval!("[None, True, False]") == [nil, true, false]
    end

    test "integers of any size and of any subclass" do
      values = [0, 1, -1, 1 <<< 30, 1 <<< 60, (1 <<< 63) - 1, 1 <<< 63, -(1 <<< 63), -(1 <<< 63) - 1]
      values = values ++ [(1 <<< 64) - 1, 1 <<< 64, (1 <<< 64) + 1, -(1 <<< 64), Integer.pow(10, 5000)]
      values = values ++ for(bits <- 240..270, do: 1 <<< bits) ++ for(bits <- 240..270, do: -(1 <<< bits))
      assert round_trip(values) == values
      assert eval!("10**5000") == Integer.pow(10, 5000)

      code = """
      import enum
      class E(enum.IntEnum):
          A = 7
      class Odd(int):
          def __str__(self): return "odd"
          def __int__(self): return 1
          def __index__(self): return 1
          def __abs__(self): return 1
      [E.A, Odd(5), Odd(2**70), Odd(-(2**70))]
      """

      assert eval!(code) == [7, 5, 1 <<< 70, -(1 <<< 70)]
    end

    @tag :limited_integers
    test "an integer larger than any of Elixir is an error" do
      assert refused("[1, {'a': 1 << 5_000_000}]") ==
               ~s([1]["a"]: cannot decode an integer that is larger than any of Elixir)
    end

    test "floats, those without a counterpart included" do
      assert eval!("[1.5, -0.0, 5e-324]") == [1.5, -0.0, 5.0e-324]
      assert eval!("class F(float): pass\nF(2.5)") == 2.5
      assert eval!("float('nan')") == :nan
      code = "import struct\nnan, inf = float('nan'), float('inf')\n"
      code = code <> "payload = struct.unpack('<d', bytes.fromhex('010000000000f8ff'))[0]\n"
      assert eval!(code <> "[nan, inf, -inf, -nan, payload]") == [:nan, :infinity, :neg_infinity, :nan, :nan]

      assert eval!(code <> "{'k': (nan, [inf]), inf: {-inf}}") == %{
               "k" => {:nan, [:infinity]},
               :infinity => MapSet.new([:neg_infinity])
             }
    end

    test "containers" do
      assert eval!("[(), (1,), [], [[2]], {}, {'a': {1: 2}}]") == [{}, {1}, [], [[2]], %{}, %{"a" => %{1 => 2}}]
      assert eval!("{i: str(i) for i in range(1000)}") == Map.new(0..999, &{&1, Integer.to_string(&1)})
      assert eval!("list(range(3000))") == Enum.to_list(0..2999)
      assert eval!("{(1, 'a'): [1], None: 2, True: 3, 1.5: 4}") == %{{1, "a"} => [1], nil => 2, true => 3, 1.5 => 4}
    end

    test "subclasses of containers, by what they store" do
      code = """
      import collections
      class D(dict):
          def items(self): raise ValueError
          def __iter__(self): raise ValueError
          def __len__(self): raise ValueError
      class L(list):
          def __iter__(self): raise ValueError
          def __len__(self): return 0
      P = collections.namedtuple("P", "x y")
      [
          D(a=1), L([1, 2]), P(1, [2]),
          collections.OrderedDict(a=1), collections.defaultdict(int, x=1), collections.Counter("aab"),
      ]
      """

      expected = [%{"a" => 1}, [1, 2], {1, [2]}, %{"a" => 1}, %{"x" => 1}, %{"a" => 2, "b" => 1}]
      assert eval!(code) == expected
    end

    test "str and bytes" do
      assert eval!(~S(["", "a", "a\0b", "é", "żółw", "日本", "😀", b"", b"a\xff", b"a\0b"])) ==
               ["", "a", "a\0b", "é", "żółw", "日本", "😀", "", <<"a", 255>>, "a\0b"]

      assert eval!("class S(str): pass\nclass B(bytes): pass\n[S('żs'), S('s'), B(b'b')]") == ["żs", "s", "b"]
    end

    test "text of every length and width" do
      for sample <- ["a", "é", "ż", "日", "😀", "aé", "aż日", "é😀"],
          n <- [1, 2, 7, 8, 9, 63, 64, 65, 511, 512, 513, 5000] do
        text = String.duplicate(sample, n)
        assert round_trip(text) == text
        assert round_trip([text], binaries: :str) == [text]
        assert eval!("text * n", %{"text" => Pythonx.encode!(sample, binaries: :str), "n" => n}) == text
      end
    end

    test "100 MB of text and bytes" do
      text = String.duplicate("żółw😀x", 100_000_000 |> div(12))
      assert round_trip(text, binaries: :str) == text
      assert round_trip(text) == text
    end

    test "a binary outlives the object that it was decoded from" do
      text = eval!("'x' * 100_000")
      :erlang.garbage_collect()
      eval!("import gc\ngc.collect()")
      assert text == String.duplicate("x", 100_000)
      assert binary_part(text, 50_000, 3) == "xxx"
    end

    test "a small binary is a copy, a large one keeps its object" do
      for {size, kept} <- [{500, 0}, {100_000, 1}] do
        object = object("b'x' * n", %{"n" => size})

        count = fn ->
          Task.await(Task.async(fn -> eval!("import sys; sys.getrefcount(o)", %{"o" => object}) end), patience())
        end

        settled = fn ->
          collect_free_threaded()
          count.()
        end

        before = Enum.min(for _ <- 1..20, do: settled.())

        part = object |> Pythonx.decode() |> binary_part(0, 400)
        :erlang.garbage_collect()
        # What a part belongs to is kept whole.
        wait_until(fn -> settled.() == before + kept end)
        assert part == String.duplicate("x", 400)
      end
    end

    test "a lone surrogate is a UnicodeEncodeError" do
      for code <- ["'\\ud800'", "['a', {'k': 'x\\udfff'}]", "{'\\ud800': 1}", "'ż' * 200_000 + '\\ud800'"] do
        assert python_error(fn -> Pythonx.decode(object(code)) end) =~
                 ~r/\AUnicodeEncodeError: 'utf-8' codec can't encode/
      end
    end

    test "an error of Python names the place" do
      last = fn code -> assert_raise(Pythonx.Error, fn -> Pythonx.decode(object(code)) end).lines |> List.last() end
      assert last.("['a', {'k': ('x', '\\udfff')}]") == ~s/while decoding [1]["k"][1]\n/
      assert last.("[{'\\ud800': 1}]") == "while decoding [0][a key]\n"
      assert last.("'\\ud800'") =~ ~r/\AUnicodeEncodeError: /
      odd = "class S(set):\n    def __iter__(self): raise KeyError('mine')\n"
      assert last.(odd <> "{'s': [S()]}") == ~s/while decoding ["s"][0]\n/
    end

    test "sets" do
      assert eval!("[set(), {1}, frozenset([2, 'a'])]") == [MapSet.new(), MapSet.new([1]), MapSet.new([2, "a"])]
      assert eval!("set(range(1000))") == MapSet.new(0..999)
      assert eval!("{frozenset([(1, 2)])}") == MapSet.new([MapSet.new([{1, 2}])])
    end

    test "a decoded set is a MapSet like any other" do
      set = eval!("{1, 2}")
      assert set == MapSet.new([1, 2])
      assert Map.keys(set) == Map.keys(MapSet.new())
      assert 3 in MapSet.put(set, 3)
      assert MapSet.equal?(MapSet.delete(set, 1), MapSet.new([2]))
      assert inspect(set) == "MapSet.new([1, 2])"
    end

    test "a set class with an __iter__ of its own" do
      code = "class S(set):\n    def __iter__(self): return iter([7, 7, 8])\nclass T(set):\n    pass\n[S([1]), T([2])]"
      assert eval!(code) == [MapSet.new([7, 8]), MapSet.new([2])]
      code = "class S(set):\n    def __iter__(self): raise KeyError('mine')\n[1, S()]"
      assert python_error(fn -> Pythonx.decode(object(code)) end) == "KeyError: 'mine'"
    end

    test "pids" do
      assert eval!("[pid, {pid: pid}]", %{"pid" => self()}) == [self(), %{self() => self()}]
    end

    test "everything else stays an object" do
      object = object("object()")
      assert Pythonx.decode(object) == object

      code = """
      import datetime, decimal, enum
      class E(enum.Enum):
          A = 1
      [bytearray(b"x"), memoryview(b"x"), range(3), iter([]), {}.keys(), 1j, decimal.Decimal(1), datetime.date.min, E.A, len, E]
      """

      decoded = eval!(code)
      assert length(decoded) == 11
      assert Enum.all?(decoded, &is_struct(&1, Pythonx.Object))
      assert repr(Enum.at(decoded, 2)) == "range(0, 3)"

      object = object("object()")
      assert %{"k" => {same}} = eval!("{'k': (o,)}", %{"o" => object})
      assert eval!("a is b", %{"a" => same, "b" => object})
    end

    test "scalars of numpy" do
      code = "import numpy as np\n[np.float64(1.5), np.str_('ż'), np.bytes_(b'b'), np.float64('nan')]"
      assert eval!(code) == [1.5, "ż", "b", :nan]
      code = "import numpy as np\n[np.int64(1), np.bool_(True), np.float32(1), np.array([1])]"
      assert Enum.all?(eval!(code), &is_struct(&1, Pythonx.Object))
    end

    test "only objects are decoded" do
      message =
        "Pythonx.decode/1 expects a %Pythonx.Object{}, but got nil. Note that Pythonx.eval/2 or the ~PY sigil result in nil, " <>
          "if the evaluated code ends with a statement, rather than expression"

      assert_raise ArgumentError, message, fn -> Pythonx.decode(nil) end
      assert_raise FunctionClauseError, fn -> Pythonx.decode(Process.get(:none, 1)) end
    end
  end

  describe "keys that meet" do
    test "in a dict are an error that names them and their place" do
      assert refused("{'a': 1, b'a': 2}") == "cannot decode a dict whose keys 'a' and b'a' are the same in Elixir"

      assert refused("{'x': {'a': 1, 'c': 0, b'a': 2}}") ==
               ~s(["x"]: cannot decode a dict whose keys 'a' and b'a' are the same in Elixir)

      assert refused("[0, ({1: {('a', 1): 1, (b'a', 1): 2}},)]") ==
               "[1][0][1]: cannot decode a dict whose keys ('a', 1) and (b'a', 1) are the same in Elixir"
    end

    test "in a large dict too" do
      code = "d = {str(i): i for i in range(5000)}\nd[b'4999'] = 1\n[d]"
      assert refused(code) == "[0]: cannot decode a dict whose keys '4999' and b'4999' are the same in Elixir"
    end

    test "in a set" do
      message = "cannot decode a set whose elements (b'a' and 'a'|'a' and b'a') are the same in Elixir"
      assert refused("{'a', b'a'}") =~ ~r/\A#{message}\z/
      assert refused("[{'a', b'a'}.union(range(1000))]") =~ ~r/\A\[0\]: #{message}\z/
    end

    test "as nan" do
      assert refused("{float('nan'): 1, float('nan'): 2}") ==
               "cannot decode a dict whose keys nan and nan are the same in Elixir"

      assert eval!("{float('nan'): 1}") == %{nan: 1}
    end

    test "as objects of other types are named by these" do
      assert refused("{frozenset(['a']): 1, frozenset([b'a']): 2}") ==
               "cannot decode a dict whose keys an object of type frozenset and an object of type frozenset are the same in Elixir"
    end

    test "1 and 1.0 are one key in Python already" do
      assert eval!("{1: 'a', 1.0: 'b', True: 'c'}") == %{1 => "c"}
    end
  end

  describe "containers that hold themselves" do
    test "are an error that names the place" do
      assert refused("a = []\na.append(a)\na") == "[0]: cannot decode a list that contains itself"
      assert refused("a = [1, {}]\na[1]['a'] = a\na") == ~s([1]["a"]: cannot decode a list that contains itself)
      assert refused("d = {}\nd['x'] = [d]\n[0, d]") == ~s([1]["x"][0]: cannot decode a dict that contains itself)
      assert refused("t = ([],)\nt[0].append(t)\nt") == "[0][0]: cannot decode a tuple that contains itself"
    end

    test "keys are written as in Elixir" do
      for {key, text} <- [
            {~S("a\"b"), ~S("a\"b")},
            {~S("#{x}"), ~S("\#{x}")},
            {~S(b"a"), "b'a'"},
            {"1", "1"},
            {"None", "nil"},
            {"True", "true"},
            {"1.5", "1.5"},
            {"(1, 'a')", "(1, 'a')"},
            {"'x' * 100", "'" <> String.duplicate("x", 59) <> "..."}
          ] do
        assert refused("d = {}\nd[#{key}] = d\nd") == "[#{text}]: cannot decode a dict that contains itself"
      end
    end

    test "deep inside are found as well, and the way there is cut" do
      text = refused("a = []\nb = a\nfor _ in range(1_000_000):\n    a = [a]\nb.append(a)\na")

      assert text =~
               ~r/\A(\[0\]){10}\[\.\.\. 9999\d\d more \.\.\.\](\[0\]){10}: cannot decode a list that contains itself\z/
    end
  end

  describe "shared containers" do
    test "thirty doublings need thirty lists" do
      decoded = eval!("a = []\nfor _ in range(30):\n    a = [a, a]\na")
      assert :erts_debug.size(decoded) < 1000
      assert [[left | _], [right | _]] = decoded
      assert :erts_debug.same(left, right)
    end

    test "of every type" do
      decoded = eval!("a = ()\nfor _ in range(40):\n    a = {'l': [a], 't': (a, {1: a}), 'f': frozenset([1])}\na")
      assert :erts_debug.size(decoded) < 5000
    end

    test "are decoded alike wherever they are" do
      assert eval!("a = [1]\n[a, (a, a), {'k': a}]") == [[1], {[1], [1]}, %{"k" => [1]}]
    end
  end

  describe "a term nested a million deep" do
    test "goes in and out" do
      for {leaf, wrap} <- [{[], &[&1]}, {{}, &{&1}}, {%{}, &%{"k" => &1}}] do
        term = Enum.reduce(1..1_000_000, leaf, fn _, inner -> wrap.(inner) end)
        object = Pythonx.encode!(term)
        assert depth(Pythonx.decode(object), 0) == 1_000_000
      end
    end

    test "is freed when its innermost element is an error" do
      # A fun of one million levels of path is of no use to anybody, and takes quadratic time.
      term = Enum.reduce(1..1_000_000, %{[1] => 2}, fn _, inner -> [inner] end)
      assert python_error(fn -> Pythonx.encode!(term) end) =~ "unhashable type: 'list'"
      assert eval!("1") == 1
    end

    test "as a key is a RecursionError" do
      term = Enum.reduce(1..100_000, 1, fn _, inner -> {inner} end)
      assert python_error(fn -> Pythonx.encode!(%{term => 1}) end) =~ "RecursionError: maximum recursion depth exceeded"
      term = Enum.reduce(1..1000, 1, fn _, inner -> {inner} end)
      assert round_trip(%{term => 1}) == %{term => 1}
    end
  end

  describe "data that changes while it is decoded" do
    test "is decoded without harm" do
      code = """
      import threading

      data = {"list": [[i, str(i)] for i in range(50_000)], "dict": {i: [i] for i in range(50_000)}}
      stop = threading.Event()

      def change():
          step = 0
          while not stop.wait(0.0005):
              step += 1
              if step % 3 == 0:
                  del data["list"][-5000:]
                  for key in list(data["dict"])[:5000]:
                      del data["dict"][key]
              elif step % 3 == 1:
                  data["list"].extend([[i] for i in range(5000)])
                  data["dict"].update({(step, i): [i] for i in range(5000)})
              else:
                  data["dict"] = dict(data["dict"])

      thread = threading.Thread(target=change, daemon=True)
      thread.start()
      """

      {_result, globals} = Pythonx.eval(code, %{})
      on_exit(fn -> Pythonx.eval("stop.set()\nthread.join()", globals) end)

      for _ <- 1..20 do
        assert %{"list" => list, "dict" => dict} = Pythonx.decode(globals["data"])
        assert Enum.all?(list, &match?([_ | _], &1))
        assert Enum.all?(dict, fn {_key, value} -> match?([_], value) end)
      end
    end

    test "what is encoded is seen by others only when it is whole" do
      code = """
      import gc, threading

      stop = threading.Event()
      seen = []

      def look():
          while not stop.wait(0.0005):
              for item in gc.get_objects():
                  if type(item) in (list, tuple):
                      item[:2]
          seen.append("done")

      thread = threading.Thread(target=look, daemon=True)
      thread.start()
      """

      {_result, globals} = Pythonx.eval(code, %{})
      term = for i <- 1..100_000, do: {i, [i, "s#{i}"], %{"k" => [i]}}
      for _ <- 1..5, do: assert(round_trip(term) == term)
      Pythonx.eval("stop.set()\nthread.join()", globals)
      assert eval!("seen", globals) == ["done"]
      assert eval!("import gc\ngc.is_tracked(x) and all(map(gc.is_tracked, x[0]))", %{"x" => [[[1], {[]}]]})
    end
  end

  describe "any term" do
    test "comes back as it was" do
      for i <- 1..1000 do
        :rand.seed(:exsss, {i, 0, 0})
        opts = if rem(i, 2) == 0, do: [binaries: :str], else: []
        term = any_term(3)
        assert round_trip(term, opts) === term
      end
    end
  end

  # Of the terms that have a counterpart: no atoms but three, no keys that are equal in Python.
  defp any_term(0), do: any_scalar()

  defp any_term(depth) do
    inner = fn -> any_term(depth - 1) end

    case :rand.uniform(7) do
      1 -> several(6, inner)
      2 -> List.to_tuple(several(6, inner))
      3 -> Map.new(several(6, fn -> {any_key(), inner.()} end))
      4 -> Map.new(several(50, fn -> {any_key(), any_scalar()} end))
      5 -> MapSet.new(several(50, &any_key/0))
      6 -> several(8, fn -> %{"id" => any_scalar(), "name" => any_scalar(), 7 => inner.()} end)
      7 -> any_scalar()
    end
  end

  defp several(most, fun), do: for(_ <- 1..(:rand.uniform(most) - 1)//1, do: fun.())

  defp any_key do
    case :rand.uniform(3) do
      1 -> any_text()
      2 -> {any_text(), :rand.uniform(1000)}
      3 -> :rand.uniform(1 <<< 80)
    end
  end

  defp any_scalar do
    case :rand.uniform(6) do
      1 -> Enum.random([nil, true, false])
      2 -> :rand.uniform(1000) - 500
      3 -> :rand.normal() * :math.pow(10, :rand.uniform(200) - 100)
      4 -> (:rand.uniform(5) - 3) * (1 <<< :rand.uniform(400)) + :rand.uniform(3)
      5 -> any_text()
      6 -> self()
    end
  end

  defp any_text do
    widest = Enum.random([0x7F, 0xFF, 0x7FF, 0xD7FF, 0x10FFFF])
    for _ <- 1..(:rand.uniform(40) - 1)//1, into: "", do: <<any_character(widest)::utf8>>
  end

  defp any_character(widest) do
    case :rand.uniform(widest) do
      surrogate when surrogate in 0xD800..0xDFFF -> ?a
      character -> character
    end
  end
end
