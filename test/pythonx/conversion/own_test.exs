defmodule Pythonx.Conversion.OwnTest do
  # Implementations of Pythonx.Encoder for built-in types, which take the place of ours for as long as a test runs.
  use Pythonx.Case, async: false

  @ours [Atom, BitString, Float, Function, Integer, List, Map, MapSet, PID, Tuple]

  # Encodes as text that begins with "own".
  @shown ~S"""
  def encode(term, _encoder) do
    # A pid and a function are not the same every time.
    Pythonx.NIF.unicode_from_string("own " <> String.replace(inspect(term), ~r/^[#&].*/s, "it"))
  end
  """

  defp define(type, body) do
    before = Code.get_compiler_option(:ignore_module_conflict)
    Code.put_compiler_option(:ignore_module_conflict, true)
    modules = Code.compile_string("defimpl Pythonx.Encoder, for: #{inspect(type)} do\n#{body}\nend")
    Code.put_compiler_option(:ignore_module_conflict, before)
    on_exit(fn -> restore(type) end)
    modules
  end

  # The next call loads it from its file.
  defp restore(type) do
    module = Module.concat(Pythonx.Encoder, type)
    :code.purge(module)
    :code.delete(module)
    :code.purge(module)
    true = Code.ensure_loaded?(module)
  end

  defp there(term, opts \\ []), do: term |> Pythonx.encode!(opts) |> Pythonx.decode()

  defp operator(name, args),
    do: "operator" |> Pythonx.import_module() |> Pythonx.call_method(name, args, [], decode: true)

  @terms [
    {Atom, quote(do: :a), "own :a"},
    {Atom, nil, "own nil"},
    {Atom, true, "own true"},
    {BitString, "x", ~S(own "x")},
    {BitString, quote(do: <<5::3>>), "own <<5::size(3)>>"},
    {Float, 1.5, "own 1.5"},
    {Function, quote(do: &Function.identity/1), "own it"},
    {Integer, 7, "own 7"},
    {Integer, 123_456_789_012_345_678_901_234, "own 123456789012345678901234"},
    {List, [1, 2], "own [1, 2]"},
    {List, [], "own []"},
    {List, quote(do: [1 | 2]), "own [1 | 2]"},
    {Map, quote(do: %{}), "own %{}"},
    {Map, quote(do: Map.new(1..40, &{&1, &1})), nil},
    {MapSet, quote(do: MapSet.new([1])), "own MapSet.new([1])"},
    {PID, quote(do: self()), "own it"},
    {Tuple, quote(do: {}), "own {}"},
    {Tuple, quote(do: {1, 2, 3}), "own {1, 2, 3}"}
  ]

  for {{type, term, text}, index} <- Enum.with_index(@terms) do
    @type_of type
    test "#{inspect(type)} #{index}, wherever it is" do
      term = unquote(term)
      define(@type_of, @shown)
      text = unquote(text) || "own " <> inspect(term)

      assert there(term) == text
      assert there(term, binaries: :str) == text
      assert there(term, types: :rich) == text
      assert there(term, timeout: 60_000) == text
      assert Pythonx.decode(Pythonx.Encoder.encode(term, &Pythonx.Encoder.encode/2)) == text
      assert eval!("x", %{"x" => term}) == text
      assert eval!("x", %{"x" => term}, binaries: :str) == text
      assert operator(:concat, [term, term]) == text <> text

      if @type_of != List do
        assert there([term, term]) == [text, text]
        assert eval!("x", %{"x" => [term]}) == [text]
        assert there(List.duplicate(term, 5000)) == List.duplicate(text, 5000)
      end

      if @type_of != Tuple do
        assert there({term, [term]}) == {text, if(@type_of == List, do: "own " <> inspect([term]), else: [text])}
        # One of ours is asked only about what it is for.
        assert there({term}, types: :rich) == {text}
      end

      if @type_of not in [Map, BitString] do
        assert there(%{term => "v", "k" => term}) == %{text => "v", "k" => text}
        large = Map.new(1..100, &{"#{&1}", term})
        assert there(large) == Map.new(large, fn {key, _} -> {key, text} end)

        assert there(Map.put(large, term, "v")) ==
                 large |> Map.new(fn {key, _} -> {key, text} end) |> Map.put(text, "v")
      end

      if @type_of not in [MapSet, List], do: assert(there(MapSet.new([term])) == MapSet.new([text]))
    end
  end

  test "texts as keys, of maps of all sizes and of sets" do
    define(BitString, "def encode(text, _encoder), do: Pythonx.NIF.unicode_from_string(String.upcase(text))")
    rows = for i <- 1..40, do: %{"id" => "v#{i}", "name" => %{"first" => "x"}}
    assert eval!("[sorted(row) for row in rows] == [['ID', 'NAME']] * 40", %{"rows" => rows})
    assert there(rows) == for(i <- 1..40, do: %{"ID" => "V#{i}", "NAME" => %{"FIRST" => "X"}})
    large = Map.new(1..2000, &{"k#{&1}", &1})
    assert there(large) == Map.new(1..2000, &{"K#{&1}", &1})
    assert there(MapSet.new(["a", "b"])) == MapSet.new(["A", "B"])
    assert there({:a, "b", 1.5}) == {"a", "B", 1.5}
  end

  test "operands of all operations, and no others" do
    define(BitString, "def encode(text, _encoder), do: Pythonx.NIF.unicode_from_string(String.upcase(text))")
    {object, _} = Pythonx.eval("import types; types.SimpleNamespace()", %{})
    Pythonx.setattr(object, "name", "ada")
    assert Pythonx.getattr(object, "name", decode: true) == "ADA"
    {dict, _} = Pythonx.eval("{'K': 1}", %{})
    assert Pythonx.getitem(dict, "k", decode: true) == 1
    assert Pythonx.decode(dict["k"]) == 1
    Pythonx.setitem(dict, "k", ["v"])
    assert Pythonx.decode(dict) == %{"K" => ["V"]}
    {function, _} = Pythonx.eval("def f(*args, **kwargs): return args, kwargs\nf", %{})
    assert Pythonx.call(function, ["a", ["b"]], [c: "d"], decode: true) == {{"A", ["B"]}, %{"c" => "D"}}
    assert Pythonx.call(function, [], %{"c" => {"d"}}, decode: true, timeout: 60_000) == {{}, %{"c" => {"D"}}}
    assert Pythonx.type(function) =~ "function"
  end

  # What goes between the two sides on our own account is none of their terms.
  test "of all types at once, functions, iterators and all else work" do
    for type <- @ours -- [Function, PID], do: define(type, @shown)
    assert there([{1, "a"}]) == ~S(own [{1, "a"}])

    for {result, text} <- [{"a", ~S(own "a")}, {1, "own 1"}, {:ok, "own :ok"}, {nil, "own nil"}, {[2.5], "own [2.5]"}] do
      assert eval!("f()", %{"f" => fn -> result end}) == text
    end

    iterator = Pythonx.iterator([1, "b", {:c}])
    assert eval!("list(i)", %{"i" => iterator}) == ["own 1", ~S(own "b"), "own {:c}"]
    {numbers, _} = Pythonx.eval("range(3)", %{})
    assert Enum.to_list(numbers) == [0, 1, 2]
    assert Pythonx.getattr(Pythonx.import_module("math"), :pi, decode: true) > 3

    assert Pythonx.await(Pythonx.eval("import asyncio\nasync def f(): return 1\nf()", %{}) |> elem(0))
           |> Pythonx.decode() == 1

    Pythonx.Decoder.register("fractions.Fraction", fn _ -> :half end)
    assert eval!("import fractions; 1", %{}) == 1
    {half, _} = Pythonx.eval("import fractions; fractions.Fraction(1, 2)", %{})
    assert Pythonx.decode(half, types: :rich) == :half
    assert Pythonx.Decoder.unregister("fractions.Fraction")
    assert there(~D[2024-05-17], types: :rich) |> inspect() =~ "datetime.date(2024, 5, 17)"
  end

  test "children are encoded by the encoder that was given" do
    define(Integer, @shown)
    encoder = fn term, encoder -> Pythonx.Encoder.encode(term, encoder) end
    object = Pythonx.encode!([1, {2, %{3 => MapSet.new([4])}}], encoder)
    assert Pythonx.decode(object) == ["own 1", {"own 2", %{"own 3" => MapSet.new(["own 4"])}}]

    define(List, "def encode(list, encoder), do: Pythonx.Encoder.encode(List.to_tuple(list), encoder)")
    assert there([1, [2, "x"], %{a: [3]}]) == {"own 1", {"own 2", "x"}, %{"a" => {"own 3"}}}
    assert Pythonx.decode(Pythonx.encode!([1, [2]], encoder)) == {"own 1", {"own 2"}}
  end

  test "errors name the place, and the value that is none" do
    define(BitString, ~S"""
    def encode("bad", _encoder), do: :none
    def encode("worse" = text, _encoder), do: raise(Protocol.UndefinedError, protocol: @protocol, value: text, description: "no")
    def encode(text, _encoder), do: Pythonx.NIF.unicode_from_string(text)
    """)

    message =
      ~S([1]["k"]: expected the Pythonx.Encoder implementation for "bad" to return a Pythonx.Object, got: :none)

    assert_raise ArgumentError, message, fn -> Pythonx.encode!(["fine", %{"k" => "bad"}]) end
    error = assert_raise Protocol.UndefinedError, fn -> Pythonx.eval("", %{"x" => ["fine", {"worse"}]}) end
    assert error.description == ~S(["x"][1][0]: no)
    assert error.value == "worse"
    # What we say of ours stays.
    assert_raise ArgumentError, ~r/^cannot encode an improper list/, fn -> Pythonx.encode!([1 | 2]) end
  end

  # As in a project that has a module of its own in the place of ours.
  test "act in the workers of a pool, which load them from the same folders" do
    folder = Path.join(System.tmp_dir!(), "own-encoder-#{System.unique_integer([:positive])}")
    File.mkdir_p!(folder)
    [{module, code}] = define(BitString, "def encode(text, _encoder), do: Pythonx.NIF.unicode_from_string(text)")
    File.write!(Path.join(folder, "#{module}.beam"), code)
    true = :code.add_patha(String.to_charlist(folder))

    on_exit(fn ->
      :code.del_path(String.to_charlist(folder))
      File.rm_rf!(folder)
      restore(BitString)
    end)

    pool = start_supervised!({Pythonx.Pool, size: 1, boot_timeout: 2 * patience()})
    assert {"['x', {'k': 'v'}]", _} = Pythonx.Pool.eval(pool, "repr(x)", %{"x" => ["x", %{"k" => "v"}]})
  end

  test "are noticed when they come and when they go" do
    assert there(["x"]) == ["x"]
    define(BitString, @shown)
    assert there(["x"]) == [~S(own "x")]
    define(BitString, "def encode(_text, _encoder), do: Pythonx.encode!(:other)")
    assert there(["x"]) == ["other"]
    restore(BitString)
    assert there(["x"]) == ["x"]
    assert eval!("x", %{"x" => ["y"]}) == ["y"]
  end
end
