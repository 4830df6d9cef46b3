defmodule Pythonx.Pool.ExternalTest do
  # What is believed of a term from a worker before it is made.
  use ExUnit.Case, async: true

  alias Pythonx.Pool.{External, Frame, Reference}

  defp check(bytes) do
    with {:ok, _content} <- External.check(bytes), do: :ok
  end

  defp external(term), do: :erlang.term_to_binary(term)

  defp terms do
    port = hd(Port.list())
    numbers = [1, -5, 1_000_000, 2.5, 2 ** 100, -(2 ** 3000)]
    texts = ["x", <<1::3>>, ~c"abc", :a, :é, :日本]
    nested = [[], [1 | 2], {}, List.to_tuple(Enum.to_list(1..300)), %{a: {1, %{}}}, MapSet.new([1]), ~D[2024-01-01]]
    numbers ++ texts ++ nested ++ [self(), make_ref(), port]
  end

  test "what a VM writes is a term" do
    for term <- [terms() | terms()], do: assert({check(external(term)), term} == {:ok, term})
  end

  test "what is cut off, or has bytes behind it, is none" do
    bytes = external(terms())
    for size <- 0..(byte_size(bytes) - 1), do: assert({:error, _} = check(binary_part(bytes, 0, size)))
    assert check(bytes <> "x") == {:error, "a term with bytes behind it"}
  end

  test "announced sizes cost nothing, whatever they are" do
    for head <- [<<105>>, <<108>>, <<109>>, <<111>>, <<116>>], size <- [0xFFFFFFFF, 0x7FFFFFFF, 1_000_000] do
      assert check(<<131, head::binary, size::32, 97, 1>>) == {:error, "a damaged term"}
    end

    # A thousand tuples inside of each other, of 255 elements each.
    assert check(<<131>> <> String.duplicate(<<104, 255>>, 1000)) == {:error, "a damaged term"}
  end

  test "compressed terms and functions are refused" do
    assert check(:erlang.term_to_binary(String.duplicate("x", 10_000), compressed: 9)) == {:error, "a compressed term"}
    assert check(external([fn -> 1 end])) == {:error, "a function"}
    assert check(external([&String.length/1])) == {:error, "a function"}
  end

  test "what is in it is told, in pieces as well" do
    large = :binary.copy("x", 100_000)
    fun = fn -> large end
    other = spawn(fn -> :ok end)

    for {term, flags} <- [
          {[1, large, :a], []},
          {%{large => ~D[2024-01-01], a: {large}}, [:structs]},
          {{large, fun}, [:functions]},
          {[%Pythonx.Object{}, large], [:structs, :objects]},
          {[%Pythonx.Pool.Object{}, large], [:structs, :objects]},
          {[Reference.job(1, 2), large], [:worker_references]},
          {[Reference.function(2 ** 40 + 3), large], [:function_references]}
        ],
        kind <- [:functions, :worker_references, :function_references, :structs, :objects] do
      content = External.content(:erlang.term_to_iovec(term))
      assert {term, kind, External.any?(content, kind)} == {term, kind, kind in flags}
    end

    {_flags, pids} = External.content(:erlang.term_to_iovec([self(), self(), large, other, %{self() => 1}]))
    known = for pid <- pids, uniq: true, do: :erlang.binary_to_term(<<131, pid::binary>>)
    assert Enum.sort(known) == Enum.sort([self(), other])
  end

  test "references are read as they were built" do
    assert Reference.read(Reference.job(7, 9)) == {:job, 7, 9}
    assert Reference.read(Reference.function(2 ** 40 + 3)) == {:function, 2 ** 40 + 3}
    assert Reference.read(make_ref()) == nil
  end

  test "random bytes are refused or a term, and never more" do
    :rand.seed(:exsss, {1, 2, 3})
    bytes = external(terms())

    for _ <- 1..5000 do
      position = :rand.uniform(byte_size(bytes)) - 1

      before = binary_part(bytes, 0, position)
      byte = :binary.at(bytes, position)
      rest = binary_part(bytes, position + 1, byte_size(bytes) - position - 1)
      damaged = <<before::binary, Bitwise.bxor(byte, :rand.uniform(255)), rest::binary>>
      random = <<131, :rand.bytes(:rand.uniform(40))::binary>>

      for input <- [damaged, random] do
        assert check(input) == :ok or match?({:error, _}, check(input))
        assert External.names(input) == :error or match?({:ok, _}, External.names(input))
      end
    end
  end

  test "the names of atoms that are not there are told, once each" do
    name = "pythonx no such atom"
    atom = <<119, byte_size(name), name::binary>>
    assert External.names(<<131, 104, 3, atom::binary, atom::binary, 119, 2, "ok">>) == {:ok, %{name => true}}
    refute External.atom?(name)
  end

  test "random bytes on the connection never make more than came of them" do
    :rand.seed(:exsss, {4, 5, 6})

    for _ <- 1..2000 do
      bytes = :rand.bytes(:rand.uniform(60))
      assert {messages, {needed, received, parts}} = Frame.add(Frame.new(), bytes)
      assert messages == [] and received == IO.iodata_length(parts) and received <= byte_size(bytes)
      assert needed == :infinity or needed >= 0
    end

    # What is read on when no message can follow is kept as far as the last words may reach.
    chunk = String.duplicate("x", 1_000_000)
    buffer = Frame.ignore(Frame.new())

    {:infinity, received, _parts} =
      Enum.reduce(1..20, buffer, fn _, buffer -> buffer |> Frame.add(chunk) |> elem(1) end)

    assert received < 3_300_000
  end
end
