# Random terms and random Python structures through the conversions, by PropEr, which makes what fails small.
#
#     make fuzz                      100,000 cases
#     FUZZ_CASES=2000 make fuzz
#
# Five properties share the cases:
#
#   terms       decode(encode!(term)) is what guides/conversions.md says, or the error that it names is raised
#   structures  Python builds a structure, shared and self-referential, from a description; the decoded term and the
#               structure are written to the same text on either side, or Python knows why it must be refused; what
#               was decoded goes there and back again
#   rich        the same as terms, with `types: :rich`
#   mutated     a thread of Python changes large structures while they are decoded: a term of sane parts, or an error
#   tables      Arrow data of all types with damage, in memory or in the bytes of a stream: columns that can be read to
#               their ends, or an error

# Mix hides what lies among the libraries of Erlang and is no dependency.
Code.ensure_loaded?(:proper) || Mix.ensure_application!(:proper)

unless Pythonx.NIF.initialized?() do
  Pythonx.uv_init("""
  [project]
  name = "fuzz"
  version = "0.0.0"
  requires-python = "==3.13.*"
  dependencies = ["pyarrow==22.0.0"]
  """)
end

defmodule Fuzz.Gen do
  import Bitwise
  alias :proper_types, as: T

  def sized(fun), do: T.sized(fun)
  def bind(type, fun), do: T.bind(type, fun, false)
  def lazy(fun), do: T.lazy(fun)
  def some(type, size), do: T.resize(size, T.list(type))

  @doc "Lists, tuples, maps and sets of leaves. Keys are leaves and tuples of them, seldom what Python cannot hash."
  def term(leaf, key_leaf), do: sized(&term(&1, leaf, key_leaf))

  defp term(0, leaf, _key), do: leaf

  defp term(size, leaf, key) do
    inner = lazy(fn -> term(div(size, 3), leaf, key) end)
    width = min(size, 8)

    T.frequency([
      {3, leaf},
      {2, some(inner, width)},
      {2, bind(some(inner, width), &List.to_tuple/1)},
      {2, bind(some({key(key, inner), inner}, width), &Map.new/1)},
      {1, bind(some(key(key, inner), width), &MapSet.new/1)}
    ])
  end

  # Shares values among each other, as tuples of numbers and text are what keys mostly are.
  defp key(leaf, inner), do: T.frequency([{36, leaf}, {12, bind(some(leaf, 3), &List.to_tuple/1)}, {1, inner}])

  @atoms [nil, true, false, :a, :"", :grüße, :nan, Fuzz, :"1", :infinity] ++
           [String.to_atom(String.duplicate("é", 255))]

  def leaf do
    T.frequency([
      {30, key_leaf()},
      {1, T.oneof([make_ref(), <<5::3>>, [1 | 2], %URI{}, hd(Port.list()), [[] | :a]])},
      {2, bind(T.range(33, 200), fn n -> Map.new(1..n, &{&1, "v#{&1}"}) end)},
      {2, bind(T.range(0, 2000), fn n -> Enum.to_list(1..n//1) end)}
    ])
  end

  def key_leaf do
    T.frequency([
      {4, integer()},
      {2, float()},
      {4, bytes()},
      {4, T.oneof(@atoms)},
      {1, T.oneof([self(), spawn(fn -> :ok end)])}
    ])
  end

  # Around the borders of digits, machine words and the forms of the external format.
  def integer do
    big = bind({T.integer(), T.range(0, 2100), T.integer()}, fn {i, shift, add} -> (i <<< shift) + add end)

    edge =
      bind({T.oneof([15, 27, 28, 30, 31, 59, 60, 62, 63, 64, 2040, 2048]), T.range(-2, 2)}, fn {n, d} ->
        (1 <<< n) + d
      end)

    T.frequency([{3, T.integer()}, {2, big}, {1, edge}, {1, bind(edge, &(-&1))}])
  end

  def float do
    bits = bind(T.binary(8), fn <<bits::64>> -> with <<f::float>> <- <<bits::64>>, do: f, else: (_ -> 0.5) end)

    T.frequency([
      {2, T.float()},
      {2, bits},
      {1, bind(T.integer(), &(&1 * 1.0))},
      {1, T.oneof([0.0, -0.0, 5.0e-324, 1.0e308])}
    ])
  end

  def bytes do
    text = bind(some(T.oneof([?a, ?b, 0, ?ä, 0x20AC, 0x1F40D, 0xFFFF]), 5), &List.to_string/1)
    long = bind({T.range(60, 1100), T.byte()}, fn {n, byte} -> :binary.copy(<<byte>>, n) end)
    part = bind(long, &binary_part(&1, 3, byte_size(&1) - 9))
    T.frequency([{4, text}, {3, T.binary()}, {1, long}, {1, part}])
  end

  # The years around the ends of Python's are refused.
  def rich_leaf do
    date =
      bind({T.oneof([T.range(1, 9999), T.range(1960, 2040)]), T.range(1, 12), T.range(1, 28)}, fn {y, m, d} ->
        Date.new!(y, m, d)
      end)

    time =
      bind({T.range(0, 86_399_999_999), T.range(0, 6)}, fn {us, digits} ->
        Time.add(~T[00:00:00.000000], us, :microsecond) |> Time.truncate(precision(digits))
      end)

    naive = bind({date, time}, fn {d, t} -> NaiveDateTime.new!(d, t) end)
    utc = bind(naive, &DateTime.from_naive!(&1, "Etc/UTC"))
    step = T.oneof([T.range(1, 9), T.range(-9, -1)])
    range = bind({T.integer(), T.integer(), step}, fn {a, b, s} -> a..b//s end)

    far =
      T.oneof([
        Date.new!(0, 12, 31),
        Date.new!(-1, 1, 1),
        Date.new!(10_000, 1, 1),
        NaiveDateTime.new!(10_000, 1, 1, 0, 0, 0)
      ])

    types = [date, time, naive, utc, range]

    types =
      if Code.ensure_loaded?(Duration) do
        us = T.range(-999_999, 999_999)

        types ++
          [
            bind({T.integer(), T.integer(), us}, fn {d, s, us} ->
              struct!(Duration, day: d, second: s, microsecond: {us, 6})
            end)
          ]
      else
        types
      end

    T.frequency([{8, T.oneof(types)}, {2, key_leaf()}, {1, T.frequency([{20, date}, {1, far}])}])
  end

  defp precision(digits) when digits < 3, do: :second
  defp precision(digits) when digits < 5, do: :millisecond
  defp precision(_digits), do: :microsecond

  @doc "Descriptions of Python structures, which bench/fuzz.py builds. A reference is to a container begun before, by number."
  def structure, do: sized(&structure/1)

  @doc "Where the damage is done, the seed of the table, and what is changed: places and values."
  def damage do
    value = T.frequency([{6, T.range(-2, 50)}, {1, T.integer()}, {1, T.oneof([0x7FFFFFFF, -0x80000000, 1 <<< 62])}])
    {T.oneof([:memory, :file]), T.range(0, 1_000_000), some({T.range(0, 1_000_000), value}, 4)}
  end

  defp structure(0), do: py_leaf()

  defp structure(size) do
    inner = lazy(fn -> structure(div(size, 3)) end)
    several = some(inner, min(size, 8))

    T.frequency([
      {4, py_leaf()},
      {2, {:ref, T.range(0, 20)}},
      {3, {T.oneof([:list, :tuple, :list_subclass, :named]), several}},
      {3, {T.oneof([:dict, :dict_subclass, :ordered, :default]), some({py_key(), inner}, min(size, 8))}},
      {1, {T.oneof([:set, :frozenset]), some(py_key(), min(size, 6))}}
    ])
  end

  defp py_key do
    plain = T.frequency([{8, py_value()}, {2, {:tuple, some(py_value(), 3)}}])
    T.frequency([{10, plain}, {1, {:frozenset, some(plain, 3)}}])
  end

  defp py_leaf, do: T.frequency([{12, py_value()}, {1, T.oneof([:object, :type, :bytearray])}])

  defp py_value do
    T.frequency([
      {4, {:value, integer()}},
      {2, {:value, float()}},
      {1, {:float, T.oneof(["nan", "inf", "-inf", "-0.0"])}},
      {2, {:bytes, bytes()}},
      {4,
       {:str,
        some(
          T.frequency([{40, T.oneof([?a, ?b, 0, 0xE4, 0xFF, 0x100, 0x20AC, 0x1F40D])}, {1, T.range(0xD800, 0xDFFF)}]),
          6
        )}},
      {1, {:repeat, T.range(0, 0x24F), T.range(500, 530)}},
      {1,
       {:subclass,
        T.oneof([{:value, T.integer()}, {:value, T.float()}, {:bytes, T.binary()}, {:str, some(T.range(32, 300), 4)}])}},
      {1, T.oneof([{:value, nil}, {:value, true}, {:value, false}, {:enum, T.range(1, 2)}, {:pid, self()}])}
    ])
  end
end

defmodule Fuzz.Image do
  # What a term is after the way to Python and back, as the guide says: {:ok, term}, or the kinds of errors that may be
  # raised, of which the first one met is.
  @moduledoc false

  def of(term, rich? \\ false) do
    case term |> encoding(rich?) |> Enum.uniq() do
      [] -> decoding(term)
      kinds -> {:error, kinds}
    end
  end

  defp decoding(term) do
    {:ok, image(term)}
  catch
    :same_key -> {:error, [:same_key]}
  end

  # The kinds of errors while encoding.
  defp encoding(map, rich?) when is_map(map) and not is_struct(map) do
    Enum.flat_map(map, fn {key, value} -> hashing(key, rich?) ++ encoding(value, rich?) end)
  end

  defp encoding(%MapSet{} = set, rich?), do: Enum.flat_map(set, &hashing(&1, rich?))
  defp encoding(tuple, rich?) when is_tuple(tuple), do: tuple |> Tuple.to_list() |> encoding(rich?)
  defp encoding(list, rich?) when is_list(list), do: elements(list, rich?)

  defp encoding(%module{} = struct, true) when module in [Date, NaiveDateTime],
    do: if(struct.year in 1..9999, do: [], else: [:out_of_range])

  defp encoding(%module{}, true) when module in [Time, DateTime, Range], do: []
  defp encoding(%{__struct__: Duration}, true), do: []
  defp encoding(%_module{}, _rich?), do: [:undefined]
  defp encoding(term, _) when is_atom(term) or is_number(term) or is_binary(term) or is_pid(term), do: []
  defp encoding(_term, _rich?), do: [:undefined]

  defp elements([head | tail], rich?), do: encoding(head, rich?) ++ elements(tail, rich?)
  defp elements([], _rich?), do: []
  defp elements(_improper, _rich?), do: [:improper]

  defp hashing(key, rich?), do: encoding(key, rich?) ++ if(hashable?(key), do: [], else: [:unhashable])

  defp hashable?(tuple) when is_tuple(tuple), do: tuple |> Tuple.to_list() |> Enum.all?(&hashable?/1)
  defp hashable?(%module{}), do: module != MapSet
  defp hashable?(term), do: not (is_list(term) or is_map(term))

  defp image(atom) when atom in [nil, true, false], do: atom
  defp image(atom) when is_atom(atom), do: Atom.to_string(atom)
  defp image(list) when is_list(list), do: Enum.map(list, &image/1)
  defp image(tuple) when is_tuple(tuple), do: tuple |> Tuple.to_list() |> image() |> List.to_tuple()
  defp image(%MapSet{} = set), do: set |> Enum.map(&{&1, nil}) |> entries() |> Enum.map(&elem(&1, 0)) |> MapSet.new()
  defp image(%Time{microsecond: {us, _}} = time), do: %{time | microsecond: {us, 6}}
  defp image(%NaiveDateTime{microsecond: {us, _}} = naive), do: %{naive | microsecond: {us, 6}}
  defp image(%DateTime{microsecond: {us, _}} = datetime), do: %{datetime | microsecond: {us, 6}}
  defp image(%{__struct__: Duration} = duration), do: duration |> microseconds() |> duration()
  defp image(%_module{} = struct), do: struct
  defp image(map) when is_map(map), do: map |> Map.to_list() |> entries() |> Map.new(fn {k, v} -> {k, image(v)} end)
  defp image(term), do: term

  # Of keys that are one in Python the first stays, with the value of the last.
  defp entries(pairs) do
    {order, entries} =
      Enum.reduce(pairs, {[], %{}}, fn {key, value}, {order, entries} ->
        python = python_key(key)

        case entries do
          %{^python => {first, _value}} -> {order, %{entries | python => {first, value}}}
          %{} -> {[python | order], Map.put(entries, python, {key, value})}
        end
      end)

    entries = for python <- order, {key, value} = entries[python], do: {image(key), value}
    if length(Enum.uniq_by(entries, &elem(&1, 0))) < length(entries), do: throw(:same_key)
    entries
  end

  defp python_key(true), do: 1
  defp python_key(false), do: 0
  defp python_key(nil), do: nil
  defp python_key(atom) when is_atom(atom), do: {:str, Atom.to_string(atom)}
  defp python_key(float) when is_float(float), do: if(trunc(float) == float, do: trunc(float), else: float)
  defp python_key(tuple) when is_tuple(tuple), do: {:tuple, tuple |> Tuple.to_list() |> Enum.map(&python_key/1)}

  defp python_key(%Range{first: first, step: step} = range) do
    case Range.size(range) do
      size when size < 2 -> {:range, size, if(size == 1, do: first)}
      size -> {:range, size, first, step}
    end
  end

  # These are the same with more digits.
  defp python_key(%_module{} = struct), do: image(struct)
  defp python_key(term), do: term

  defp microseconds(duration) do
    {us, _} = duration.microsecond

    ((((duration.week * 7 + duration.day) * 24 + duration.hour) * 60 + duration.minute) * 60 + duration.second) *
      1_000_000 + us
  end

  # As decoded: see `comparable/1`.
  defp duration(us), do: {:microseconds, us}

  @doc "Durations by what they come to, whichever units they are in."
  def comparable(list) when is_list(list), do: Enum.map(list, &comparable/1)
  def comparable(tuple) when is_tuple(tuple), do: tuple |> Tuple.to_list() |> comparable() |> List.to_tuple()
  def comparable(%{__struct__: Duration} = duration), do: {:microseconds, microseconds(duration)}
  def comparable(%MapSet{} = set), do: MapSet.new(set, &comparable/1)
  def comparable(%_module{} = struct), do: struct
  def comparable(map) when is_map(map), do: Map.new(map, fn {k, v} -> {comparable(k), comparable(v)} end)
  def comparable(term), do: term
end

defmodule Fuzz.Text do
  # The same text for a term as `text` in Python makes for the structure that it comes from.
  @moduledoc false

  def of(term), do: term |> text() |> IO.iodata_to_binary()

  defp text(nil), do: "N"
  defp text(true), do: "T"
  defp text(false), do: "F"
  defp text(atom) when atom in [:nan, :infinity, :neg_infinity], do: Atom.to_string(atom)
  defp text(integer) when is_integer(integer), do: ["i", Integer.to_string(integer, 16)]
  defp text(float) when is_float(float), do: ["f", Base.encode16(<<float::float>>)]
  defp text(binary) when is_binary(binary), do: ["b", Base.encode16(binary)]
  defp text(pid) when is_pid(pid), do: "P"
  defp text(list) when is_list(list), do: ["[", Enum.map(list, &[text(&1), ","]), "]"]
  defp text(tuple) when is_tuple(tuple), do: ["(", tuple |> Tuple.to_list() |> Enum.map(&[text(&1), ","]), ")"]
  defp text(%Pythonx.Object{}), do: "O"
  defp text(%MapSet{} = set), do: ["<", set |> Enum.map(&of/1) |> Enum.sort() |> Enum.map(&[&1, ","]), ">"]

  defp text(map) when is_map(map) and not is_struct(map) do
    ["{", map |> Enum.map(fn {k, v} -> of(k) <> ":" <> of(v) end) |> Enum.sort() |> Enum.map(&[&1, ","]), "}"]
  end
end

defmodule Fuzz do
  alias Fuzz.{Gen, Image, Text}

  @shares [terms: 50, structures: 40, rich: 9, mutated: 1, tables: 10]
  @build for name <- ["fuzz.py", "fuzz_tables.py"], do: Path.join(__DIR__, name)

  def run(cases) do
    {_result, globals} = Pythonx.eval(Enum.map_join(@build, "\n", &File.read!/1), %{})
    :persistent_term.put(__MODULE__, globals)
    :ets.new(__MODULE__, [:named_table, :public])
    IO.puts("CPython #{call("version", [], decode: true)}")
    results = for {name, share} <- @shares, do: property(name, max(div(cases * share, 100), 1))
    Enum.all?(results)
  end

  defp property(name, cases) do
    started = System.monotonic_time(:millisecond)
    property = :proper.forall(generator(name), &check(name, &1))
    passed = :proper.quickcheck(property, [:quiet, numtests: cases, max_size: 42]) == true
    seconds = (System.monotonic_time(:millisecond) - started) / 1000
    counts = for {{^name, kind}, count} <- :ets.tab2list(__MODULE__), do: {kind, count}
    IO.puts("#{name}: #{if(passed, do: "passed", else: "FAILED")}, #{cases} cases in #{Float.round(seconds, 1)} s")
    for {kind, count} <- Enum.sort(counts), do: IO.puts("  #{kind}: #{count}")
    again = for {{:again, kind}, count} <- :ets.tab2list(__MODULE__), name == :structures, do: {kind, count}
    for {kind, count} <- Enum.sort(again), do: IO.puts("  again, #{kind}: #{count}")
    if not passed, do: report(name)
    passed
  end

  # PropEr is quiet, as it would print a dot for each case: what it has found is checked once more, for the reason.
  defp report(name) do
    case :proper.counterexample() do
      [input] ->
        IO.puts("  for #{inspect(input, limit: :infinity, printable_limit: :infinity)}")

        try do
          check(name, input)
          IO.puts("  which passes now")
        catch
          kind, reason -> IO.puts("  " <> Exception.format(kind, reason, __STACKTRACE__))
        end

      other ->
        IO.puts("  no counterexample: #{inspect(other)}")
    end
  end

  defp generator(:terms), do: Gen.term(Gen.leaf(), Gen.key_leaf())
  defp generator(:rich), do: Gen.term(Gen.rich_leaf(), Gen.key_leaf())
  defp generator(:tables), do: Gen.damage()
  defp generator(_structures), do: Gen.structure()

  defp check(:terms, term), do: there_and_back(:terms, term, Image.of(term), [])
  defp check(:rich, term), do: there_and_back(:rich, term, Image.of(term, true), types: :rich)

  defp check(:structures, description) do
    {object, text, reasons} = built(description)

    case attempt(fn -> Pythonx.decode(object) end) do
      {:ok, term} ->
        if reasons != [], do: raise("decoded in spite of #{inspect(reasons)}: #{inspect(term)}")

        if text != nil and Text.of(term) != text,
          do: raise("decoded as #{inspect(term)}\n  #{Text.of(term)}\n  #{text}")

        # Objects are encoded as themselves, of which a term cannot tell.
        if text != nil and not String.contains?(text, "O"), do: there_and_back(:again, term, Image.of(term), [])
        count(:structures, if(text, do: :equal, else: :too_large_to_compare))

      {:error, error} ->
        expect!(error, reasons)
        count(:structures, kind(error))
    end
  end

  defp check(:mutated, description) do
    mutated = call("mutate", [Pythonx.encode!(description)])

    for opts <- [[], [], [types: :rich]] do
      case attempt(fn -> Pythonx.decode(mutated, opts) end) do
        {:ok, term} -> sane!(term)
        {:error, error} -> kind(error)
      end
      |> then(&count(:mutated, &1))
    end

    call("stop", [])
    true
  end

  defp check(:tables, {where, seed, changes}) do
    data = call("damaged_#{where}", [seed, changes])

    case attempt(fn -> Pythonx.table(data, copy: rem(seed, 2) == 0) end) do
      {:ok, table} -> count(:tables, read_to_the_end(table))
      {:error, %Pythonx.Error{} = error} -> count(:tables, refusal(List.last(error.lines)))
    end
  end

  # A table that was taken can be read, but for values that Elixir has no counterpart for.
  defp read_to_the_end(table) do
    kinds =
      for index <- 0..(length(table.names) - 1)//1 do
        case attempt(fn -> {Pythonx.Table.column(table, index), Pythonx.Table.chunks(table, index)} end) do
          {:ok, {values, chunks}} ->
            if length(values) != table.row_count, do: raise("#{length(values)} values of #{table.row_count}")
            for chunk <- chunks, buffer <- chunk.buffers, buffer != nil, do: :erlang.crc32(buffer)
            :read

          {:error, %ArgumentError{message: "column " <> _rest}} ->
            :no_counterpart
        end
      end

    if :no_counterpart in kinds, do: :no_counterpart, else: :read
  end

  defp refusal(line) do
    cond do
      line =~ "damaged" -> :damaged
      line =~ "has a name that is not UTF-8" -> :damaged
      line =~ "expected an object with __arrow_c_stream__" -> :refused_by_pyarrow
      true -> raise "refused by #{line}"
    end
  end

  defp there_and_back(name, term, image, opts) do
    case {attempt(fn -> term |> Pythonx.encode!(opts) |> Pythonx.decode(opts) end), image} do
      {{:ok, result}, {:ok, image}} ->
        if not (Image.comparable(result) === image), do: raise("came back as #{inspect(result)}, not #{inspect(image)}")
        count(name, :equal)

      {{:ok, result}, {:error, kinds}} ->
        raise("came back as #{inspect(result)} in spite of #{inspect(kinds)}")

      {{:error, error}, {:ok, _image}} ->
        raise("raised #{inspect(error)}")

      {{:error, error}, {:error, kinds}} ->
        expect!(error, kinds)
        count(name, kind(error))
    end
  end

  defp attempt(fun) do
    {:ok, fun.()}
  rescue
    error in [ArgumentError, Protocol.UndefinedError, Pythonx.Error] -> {:error, error}
  end

  defp expect!(error, kinds) do
    if kind(error) not in kinds, do: raise("raised #{inspect(error)}, not one of #{inspect(kinds)}")
  end

  # By what the guide says of them.
  defp kind(%Protocol.UndefinedError{}), do: :undefined
  defp kind(%Pythonx.Error{} = error), do: kind_of(Exception.message(error), error)
  defp kind(%ArgumentError{message: message} = error), do: kind_of(message, error)

  defp kind_of(message, error) do
    kinds = [
      improper: "an improper list",
      unhashable: "unhashable type",
      same_key: "are the same in Elixir",
      contains_itself: "that contains itself",
      surrogate: "UnicodeEncodeError",
      changed: "changed",
      out_of_range: "year"
    ]

    Enum.find_value(kinds, inspect(error), fn {kind, text} -> if message =~ text, do: kind end)
  end

  defp sane!(term) do
    Text.of(term)
    :decoded
  end

  defp built(description) do
    object = call("build", [Pythonx.encode!(description)])
    {text, reasons} = call("described", [object], decode: true)
    {object, text, Enum.map(reasons, &String.to_existing_atom/1)}
  end

  defp call(name, args, opts \\ []) do
    :persistent_term.get(__MODULE__) |> Map.fetch!(name) |> Pythonx.call(args, [], opts)
  end

  # Also the answer of the property.
  defp count(name, kind), do: :ets.update_counter(__MODULE__, {name, kind}, 1, {{name, kind}, 0}) > 0
end

cases = System.get_env("FUZZ_CASES", "100000") |> String.to_integer()
unless Fuzz.run(cases), do: System.halt(1)
