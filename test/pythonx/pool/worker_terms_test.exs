defmodule Pythonx.Pool.WorkerTermsTest do
  # The terms of a native worker: what goes there and comes back is what it was, and what is no frame ends it as it should.
  # No Python runs in these.
  use ExUnit.Case, async: true

  import Pythonx.WorkerCase

  @moduletag :capture_log

  defp echo(port, term), do: call(port, :worker_echo, [term])

  # Random, of a seed that a failure shows.
  defp random(depth) do
    case :rand.uniform(if(depth > 0, do: 22, else: 15)) do
      1 -> :rand.uniform(300) - 20
      2 -> :rand.uniform(0xFFFFFFFFFF) - 0x7FFFFFFFFF
      3 -> Enum.random([-1, 1]) * Integer.pow(2, :rand.uniform(2200)) + :rand.uniform(3) - 2
      4 -> (:rand.uniform() - 0.5) * :math.pow(10, :rand.uniform(600) - 300)
      5 -> Enum.random([nil, true, :ok, :"", :naïve, :кот, String.to_atom(String.duplicate("é", 255))])
      6 -> :crypto.strong_rand_bytes(:rand.uniform(100))
      7 -> :crypto.strong_rand_bytes(:rand.uniform(20_000))
      8 -> ""
      9 -> <<:rand.uniform(255), :rand.uniform(127)::7>>
      10 -> self()
      11 -> make_ref()
      12 -> hd(Port.list())
      13 -> Enum.random([[], {}, %{}])
      14 -> &String.length/1
      15 -> ~c"string"
      16 -> for(_ <- 1..:rand.uniform(6), do: random(depth - 1))
      17 -> [random(depth - 1), random(depth - 1) | random(depth - 1)]
      18 -> List.to_tuple(for(_ <- 1..:rand.uniform(5), do: random(depth - 1)))
      19 -> Map.new(1..:rand.uniform(5), fn _ -> {random(depth - 1), random(depth - 1)} end)
      20 -> Map.new(1..:rand.uniform(200), fn i -> {{i, random(0)}, random(0)} end)
      21 -> MapSet.new(1..:rand.uniform(50), fn _ -> random(0) end)
      22 -> %{random(depth - 1) => random(depth - 1)}
    end
  end

  defp nested(0, term, _wrap), do: term
  defp nested(depth, term, wrap), do: nested(depth - 1, wrap.(term), wrap)

  test "what is echoed is the same" do
    port = start!()

    for _ <- 1..2000 do
      :rand.seed(:exsss)
      seed = :rand.export_seed()
      term = random(4)
      assert {seed, echo(port, term)} == {seed, {:ok, term}}
    end
  end

  test "the limits of each type are" do
    port = start!()

    terms = [
      for(
        bits <- [7, 8, 31, 32, 59, 60, 61, 62, 63, 64, 65, 2039, 2040, 2041, 100_000],
        n = Integer.pow(2, bits),
        d <- -2..2,
        do: [n + d, -n + d]
      ),
      for(size <- [0, 1, 63, 64, 65, 255, 256, 16_383, 16_384, 65_536, 1_000_000], do: :binary.copy(<<7>>, size)),
      for(size <- [0, 1, 15, 16, 17, 31, 32, 33, 1000, 100_000], do: Map.new(1..size//1, &{&1, {&1}})),
      for(size <- [0, 1, 254, 255, 256, 257, 100_000], do: Tuple.duplicate(:a, size)),
      for(size <- [0, 1, 65_535, 65_536, 300_000], do: {Enum.to_list(1..size//1), List.duplicate(1, size)}),
      [1.7976931348623157e308, 5.0e-324, -0.0, 0.0],
      Map.new(1..1000, &{[&1, "key", %{&1 => 1}], &1})
    ]

    assert echo(port, terms) == {:ok, terms}
  end

  test "depth costs memory, not the stack" do
    port = start!()

    for wrap <- [&[&1], &{&1}, &%{a: &1}, &[1 | &1], &%{[&1] => 1}] do
      deep = nested(if(wrap.(0) == %{[0] => 1}, do: 300, else: 300_000), 1, wrap)
      assert {:ok, back} = echo(port, deep)
      assert :erlang.term_to_binary(back) == :erlang.term_to_binary(deep)
    end
  end

  test "a function is a reference that comes back, and its end is told" do
    port = start!()
    function = reference("pythonx@function", 3, [5, 6, 7])
    assert echo(port, [function, function]) == {:ok, [function, function]}
    assert {:dropped, 0, numbers} = next(port)
    assert Enum.sort(numbers) == List.duplicate(5 + 6 * 0x100000000, 2)
  end

  test "handles that nobody has, and functions that there are not, are errors of the call" do
    port = start!()
    ours = &reference("pythonx@worker", number(), [1, 0, &1])
    assert echo(port, {1, ours.(0)}) == {:raise, :error, :badarg}
    assert echo(port, {1, ours.(2)}) == {:raise, :error, :badarg}
    # Of another worker, and made by no resource.
    for other <- [reference("pythonx@worker", number() + 1, [1, 0, 0]), ours.(1)],
        do: assert(echo(port, other) == {:ok, other})

    assert call(port, :worker_echo, [1, 2]) == {:raise, :error, :undef}
    assert call(port, :nothing, []) == {:raise, :error, :undef}
    assert job(port, 9, :nothing, []) == {:raise, :undef}
    assert echo(port, 1) == {:ok, 1}
  end

  defp reference(node, creation, words) do
    words = for word <- words, into: <<>>, do: <<word::32>>

    :erlang.binary_to_term(
      <<131, 90, div(byte_size(words), 4)::16, 119, byte_size(node)>> <> node <> <<creation::32, words::binary>>
    )
  end

  # How a worker ends that was sent these bytes after its setup. Sent at once: what is written to a worker that has ended
  # closes the port before it has told how.
  defp end_with(bytes) do
    port = start!()

    Port.command(port, [
      frame(:call, 1, {:worker_echo, self(), [1]}),
      bytes,
      frame(:call, 2, {:worker_echo, self(), [1]})
    ])

    assert {:reply, 1, _} = next(port)
    assert {:failed, 0, text} = next(port)
    {text, await_end(port)}
  end

  defp await_end(port) do
    :ended = next(port)
    status(port)
  end

  test "what is no frame ends the worker, which says why" do
    for {bytes, text} <- [
          {<<0::32>>, "a frame of no size came"},
          {<<4::32, 2, 0, 0, 0>>, "a frame of no size came"},
          {<<0xFFFFFFFF::32>>, "a frame of no size came"},
          {<<5::32, 2, 3::32>>, "a frame came that holds no term"},
          {<<7::32, 99, 3::32, 131, 106>>, "a frame of unknown kind came"},
          {<<7::32, 2, 3::32, 131, 106>>, "this is no call"},
          {<<8::32, 2, 3::32, 131, 106, 106>>, "a frame came that holds no term"},
          {<<7::32, 1, 3::32, 131, 106>>, "this is no setup"},
          {<<7::32, 7, 3::32, 131, 106>>, "this is no job"},
          {<<7::32, 4, 3::32, 131, 106>>, "this is no monitor"},
          {<<9::32, 3, 3::32, 131, 107, 0, 1, 1>>, "a frame came that holds no term"},
          {frame(:release, 0, [1]), "this is no release"}
        ] do
      assert end_with(bytes) == {text, 1}
    end
  end

  test "counts and sizes are compared with what came" do
    for term <- [
          <<108, 0xFFFFFFFF::32, 106>>,
          <<105, 0xFFFFFFFF::32, 106>>,
          <<104, 200, 106>>,
          <<116, 0xFFFFFFFF::32, 106, 106>>,
          <<116, 0x80000000::32, 106, 106>>,
          <<109, 0xFFFFFFFF::32, 1>>,
          <<107, 0xFFFF::16, 1>>,
          <<110, 255, 0, 1>>,
          <<111, 0xFFFFFFFF::32, 0, 1>>,
          <<110, 1, 2, 1>>,
          <<77, 1::32, 9, 1>>,
          <<77, 0::32, 1>>,
          <<70, 0x7FF0000000000000::64>>,
          <<119, 2, 0xC3, 0x28>>,
          <<119, 3, 0xED, 0xA0, 0x80>>,
          <<118, 1024::16>> <> :binary.copy("a", 1024),
          <<90, 0::16, 119, 1, "a", 0::32>>,
          <<90, 6::16, 119, 1, "a", 0::224>>,
          <<116, 2::32, 97, 1, 106, 97, 1, 106>>,
          <<116, 17::32>> <> for(n <- Enum.to_list(1..16) ++ [1], into: <<>>, do: <<97, n, 106>>),
          <<80, 10::32, 1>>,
          <<112, 10::32, 1>>,
          <<103, 119, 1, "a", 0::72>>
        ] do
      payload = <<131>> <> term

      assert end_with([<<5 + byte_size(payload)::32, 2, 1::32>>, payload]) ==
               {"a frame came that holds no term", 1}
    end
  end

  # Whatever the bytes are, it is the same worker that answers, and what is a term to it is the same one to the VM.
  test "a term that is altered or cut at any byte does no harm" do
    port = start!()

    terms = [
      [
        1,
        1.5,
        %{1 => "binary", a: :b},
        {2, [3 | 4]},
        self(),
        make_ref(),
        Integer.pow(2, 70),
        ~c"str",
        <<1::3>>,
        &String.length/1
      ],
      Map.new(1..40, &{&1, {&1, <<&1>>}}),
      nested(30, [], &[&1]),
      hd(Port.list()),
      [reference("pythonx@worker", number(), [1, 2, 0]), reference("pythonx@function", 1, [1, 2, 3])],
      :crypto.strong_rand_bytes(100)
    ]

    for term <- terms, good = :erlang.term_to_binary(term), at <- 0..(byte_size(good) - 1) do
      <<before::binary-size(at), byte, rest::binary>> = good

      altered =
        for new <- [0, 1, 127, 128, 255, byte + 1, byte - 1, :rand.uniform(256)],
            do: <<before::binary, new, rest::binary>>

      all = [before, before <> rest, good <> <<byte>> | altered]

      # All at once, which saves waiting.
      for {bytes, id} <- Enum.with_index(all, 1), do: send_frame(port, :call, id, {:worker_decode, self(), [bytes]})

      for {bytes, id} <- Enum.with_index(all, 1) do
        case next(port, &match?({:reply, _, _}, &1)) do
          {:reply, ^id, {0, {:ok, {:ok, encoded}}}} -> assert {bytes, read(encoded)} == {bytes, read(bytes)}
          {:reply, ^id, {0, {:ok, :error}}} -> :ok
        end
      end
    end
  end

  # The VM knows more than the worker of what may be in a pid, a port or a function, which are bytes to that one.
  defp read(bytes) do
    :erlang.binary_to_term(bytes)
  rescue
    ArgumentError -> :none
  end

  test "random bytes do no harm" do
    port = start!()

    tags = [
      70,
      77,
      88,
      89,
      90,
      97,
      98,
      104,
      105,
      106,
      107,
      108,
      109,
      110,
      111,
      113,
      116,
      118,
      119,
      120,
      0,
      0,
      1,
      1,
      2,
      255
    ]

    for _ <- 1..3000 do
      bytes = for _ <- 1..:rand.uniform(40), into: <<131>>, do: <<Enum.random(tags)>>
      assert {:ok, answer} = call(port, :worker_decode, [bytes])
      assert answer == :error or match?({:ok, _}, answer)
    end
  end

  test "a frame that is altered at any byte of its head, or cut, ends the worker or is answered" do
    good = IO.iodata_to_binary(frame(:call, 3, {:worker_echo, self(), [1]}))

    for at <- 0..8, new <- [0, 1, 255, :cut] do
      <<before::binary-size(at), _byte, rest::binary>> = good
      bytes = if new == :cut, do: before <> rest, else: <<before::binary, new, rest::binary>>
      <<size::32, _::binary>> = bytes
      # It would wait for the rest of what is announced.
      if size < 1000, do: assert({at, new, fate(bytes)} == {at, new, :harmless})
    end
  end

  defp fate(bytes) do
    port = start!()
    Port.command(port, [bytes, frame(:call, 4, {:worker_echo, self(), [:sentinel]}), :binary.copy(<<0>>, 1000)])

    case next(port, &(elem(&1, 0) == :failed)) do
      {:failed, 0, _text} -> if await_end(port) == 1, do: :harmless, else: {:status, status(port)}
      :ended -> {:status, status(port)}
    end
  end
end
