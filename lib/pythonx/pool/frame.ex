defmodule Pythonx.Pool.Frame do
  # The messages between a pool and its workers; guides/architecture.md has the page about them. Each is a length, what it is, a
  # number, and the rest, which is a term in the external format unless said otherwise.
  #
  #     size (4 bytes, of all that follows), kind (1 byte), number (4 bytes), payload, and from the worker a mark (8 bytes)
  #
  # This end takes the bytes as they come, because after the last message comes one of the launcher, and the message before that
  # may be incomplete; see `last_words/1`. The mark tells a message from one that was cut off and has got its missing bytes from
  # what the launcher says.
  @moduledoc false

  @version 1

  @to_worker %{setup: 1, call: 2, release: 3, down: 4, answer: 5, halt: 6, submit: 7, names: 8}
  @from_worker %{ready: 1, failed: 2, reply: 3, send: 4, monitor: 5, demonitor: 6, ask: 7, spent: 8, dropped: 9}

  @kinds Map.values(@from_worker)

  @mark <<0xB7, 0x1E, 0x5C, 0xF0, 0x93, 0x2A, 0xD8, 0x46>>

  # As in c_src/launcher/launcher.c.
  @end_size 26
  @end_mark <<0x70, 0x79, 0x74, 0x68, 0x6F, 0x6E, 0x78, 0, 0xE3, 0x1B, 0x9D, 0x52, 0xC7, 0x46, 0xAF, 8>>

  # The most that it says: its limit of output, and some more.
  @max_last 1_100_000

  @head_size 5
  @mark_size 8
  # The largest size means that it is no message.
  @max_size 0xFFFFFFFE

  @type kind :: atom()
  @type job :: non_neg_integer()

  @typedoc """
  What has come of a message that is not complete: its size, if known, and its parts in reverse. The size is `:infinity`
  where no message can follow any more.
  """
  @type buffer :: {needed :: non_neg_integer() | :infinity, received :: non_neg_integer(), [binary()]}

  @doc "The version of the format, which the first message names."
  @spec version() :: pos_integer()
  def version, do: @version

  @doc "A term as the payload of a message. Large binaries in it are not copied."
  @spec payload(term()) :: iolist()
  def payload(term), do: :erlang.term_to_iovec(term)

  @doc "A message to the worker. Raises an `ArgumentError` for one that is larger than 4 GiB."
  @spec to_worker(kind(), job(), iodata()) :: iolist()
  def to_worker(kind, job \\ 0, payload \\ []) do
    size = @head_size + IO.iodata_length(payload)

    if size > @max_size,
      do: raise(ArgumentError, "expected the arguments to take less than 4 GiB, they take #{size} bytes")

    [<<size::32, Map.fetch!(@to_worker, kind), job::32>> | payload]
  end

  @doc "A message as a worker writes it, for tests."
  @spec from_worker(kind(), job(), iodata()) :: iolist()
  def from_worker(kind, job \\ 0, payload \\ []) do
    size = @head_size + IO.iodata_length(payload) + @mark_size
    [<<size::32, Map.fetch!(@from_worker, kind), job::32>>, payload, @mark]
  end

  for {kind, number} <- @from_worker do
    defp parse_from_worker(<<unquote(number), job::32, payload::binary>>), do: {unquote(kind), job, payload}
  end

  # Nobody but Python can have written this.
  defp parse_from_worker(_other), do: {:unknown, 0, ""}

  @spec new() :: buffer()
  def new, do: {0, 0, []}

  @doc "Adds bytes; returns the messages that are complete with them."
  @spec add(buffer(), binary()) :: {[{kind(), job(), binary()}], buffer()}
  def add({:infinity, received, parts}, bytes) do
    received = received + byte_size(bytes)
    buffer = {:infinity, received, [bytes | parts]}
    {[], if(received > 2 * @max_last, do: ignore(buffer), else: buffer)}
  end

  def add({needed, received, parts}, bytes) do
    received = received + byte_size(bytes)
    parts = [bytes | parts]

    if received < needed do
      {[], {needed, received, parts}}
    else
      parts |> Enum.reverse() |> IO.iodata_to_binary() |> split([])
    end
  end

  # What the launcher begins its last words with.
  defp split(<<0xFFFFFFFF::32, _::binary>> = bytes, messages), do: wait_for(:infinity, bytes, messages)

  # Sizes are read and used in one pattern: a variable from outside would want a pin in newer versions of Elixir, which
  # older ones refuse there.
  defp split(<<size::32, message::binary-size(size - @mark_size), @mark, rest::binary>>, messages),
    do: split(rest, [parse_from_worker(message) | messages])

  defp split(<<size::32, _cut_off::binary-size(size), _::binary>> = bytes, messages),
    do: wait_for(:infinity, bytes, messages)

  defp split(<<_size::32, kind, _::binary>> = bytes, messages) when kind not in @kinds,
    do: wait_for(:infinity, bytes, messages)

  defp split(<<size::32, _incomplete::binary>> = bytes, messages), do: wait_for(4 + size, bytes, messages)
  defp split(bytes, messages), do: wait_for(0, bytes, messages)

  defp wait_for(needed, bytes, messages), do: {Enum.reverse(messages), {needed, byte_size(bytes), [bytes]}}

  @doc "Waits for nothing but the launcher's last words, and keeps no more than these can be."
  @spec ignore(buffer()) :: buffer()
  def ignore({_needed, _received, parts}) do
    bytes = parts |> Enum.reverse() |> IO.iodata_to_binary()
    kept = min(byte_size(bytes), @max_last)
    {:infinity, kept, [bytes |> binary_part(byte_size(bytes), -kept) |> :binary.copy()]}
  end

  @doc "What the launcher is told when its last words have begun: that nothing follows."
  @spec farewell() :: binary()
  def farewell, do: @end_mark

  @doc "Whether no message can follow any more."
  @spec over?(buffer()) :: boolean()
  def over?({needed, _received, _parts}), do: needed == :infinity

  @doc "Whether a message has begun and not ended."
  @spec incomplete?(buffer()) :: boolean()
  def incomplete?({needed, received, _parts}), do: needed != :infinity and received > 0

  @doc "Whether what has come of a message ends as a message does: it has announced more than there was, and took in others."
  @spec swallowed?(buffer()) :: boolean()
  def swallowed?({_needed, _received, parts}) do
    bytes = parts |> Enum.take(@mark_size) |> Enum.reverse() |> IO.iodata_to_binary()
    String.ends_with?(bytes, @mark)
  end

  @doc """
  What the launcher says at the end: how the worker ended, the last it has printed, and how many bytes it has not read. `nil` when
  it said nothing, because it was killed itself.
  """
  @spec last_words(buffer()) :: {:exit_status | :signal, non_neg_integer(), binary(), non_neg_integer()} | nil
  def last_words({_needed, _received, parts}) do
    bytes = parts |> Enum.reverse() |> IO.iodata_to_binary()
    before = byte_size(bytes) - @end_size

    with true <- before >= 0,
         {rest, <<unread::32, length::32, kind, number, @end_mark>>} <- :erlang.split_binary(bytes, before),
         true <- length <= before do
      output = binary_part(rest, before - length, length)
      {if(kind == 2, do: :signal, else: :exit_status), number, output, unread}
    else
      _ -> nil
    end
  end
end
