defmodule Pythonx.Pool.External do
  # What the VM of a pool believes of a worker: nothing.
  #
  # Python code can write to the worker's connection, and C code can make of its memory what it likes. So all that comes from
  # there is checked on this side before anything is done with it, and costs memory in proportion to the bytes that came, whatever
  # they announce. What no worker sends that runs our code ends the worker that sent it, and nothing else: its caller gets a
  # `Pythonx.Pool.CrashError` with the reason `:protocol` (no messages) or `{:forged, what}` (messages that lie).
  #
  #   - The worker's process (`Pythonx.Pool.Worker`) takes answers to what was asked, messages to processes that the worker was
  #     given or may be given, and a term only in the form that `check/1` allows. This comes before the lease is over.
  #   - Terms are decoded with `:safe`. Only where that fails are the atoms looked at, and new ones made for as long as the
  #     pool may (`Pythonx.Pool.Atoms`): all lives of all workers of a pool together have what Python has in one VM.
  #   - An object, and whatever else of the worker's memory is referred to, is a reference of a node that there is none of. A
  #     worker that refers to what it does not have gets an error when that is used. A reply announces how many there are.
  #   - Functions come back by number, of those that this worker was given. Code never comes.
  #   - Compressed terms are refused, because they grow; so are the forms that `:erlang.term_to_binary/1` does not write.
  @moduledoc false

  import Bitwise

  alias Pythonx.NIF.Loader
  alias Pythonx.Pool.Atoms

  # As in c_src/loader/external.c.
  @flags %{functions: 1, worker_references: 2, function_references: 4, structs: 8, objects: 16}

  @typedoc "Names of atoms."
  @type names :: %{optional(String.t()) => true}

  @type flag :: :functions | :worker_references | :function_references | :structs | :objects

  @typedoc "What is in a term, and the bytes of the process identifiers in it."
  @type content :: {non_neg_integer(), [binary()]}

  @doc "Whether the bytes are a term from a worker, as far as this can be told without making it."
  @spec check(binary()) :: {:ok, content()} | {:error, String.t()}
  def check(bytes) do
    case Loader.scan(bytes) do
      {:ok, flags, _pids} when (flags &&& 1) == 1 -> {:error, "a function"}
      {:ok, flags, pids} -> {:ok, {flags, pids}}
      {:error, _what} = error -> error
    end
  end

  @doc "What is in a term of ours."
  @spec content([binary()]) :: content()
  def content(pieces) do
    {:ok, flags, pids} = Loader.scan(pieces)
    {flags, pids}
  end

  @doc "Whether there is any of one kind in it."
  @spec any?(content(), flag()) :: boolean()
  def any?({flags, _pids}, flag), do: (flags &&& Map.fetch!(@flags, flag)) != 0

  @doc "Makes the term, with what new atoms the pool may still make."
  @spec decode(binary(), GenServer.server()) :: {:ok, term()} | {:full, String.t()} | :error
  def decode(bytes, pool) do
    with :error <- to_term(bytes, [:safe]),
         {:ok, names} <- names(bytes),
         :ok <- Atoms.make(pool, names),
         # All that is in it is counted.
         do: to_term(bytes, [])
  end

  @doc "The same with the atoms that are there."
  @spec decode_known(binary()) :: {:ok, term()} | :error
  def decode_known(bytes), do: to_term(bytes, [:safe])

  defp to_term(binary, opts) do
    {:ok, :erlang.binary_to_term(binary, opts)}
  rescue
    _damaged in [ArgumentError, SystemLimitError] -> :error
  end

  @doc "The names in a term of which the VM has no atoms yet."
  @spec names(binary()) :: {:ok, names()} | :error
  def names(<<131, bytes::binary>>) do
    case terms(bytes, 1, %{}) do
      {"", names} -> {:ok, names}
      _damaged -> :error
    end
  end

  def names(_bytes), do: :error

  # Nothing is kept of what is walked over but how many terms are still to come, so depth costs nothing. Each of them takes a
  # byte at least, so none of the sizes can announce more than there is.
  defp terms(rest, 0, acc), do: {rest, acc}
  defp terms(<<97, _, rest::binary>>, n, acc), do: terms(rest, n - 1, acc)
  defp terms(<<98, _::32, rest::binary>>, n, acc), do: terms(rest, n - 1, acc)
  defp terms(<<70, _::float, rest::binary>>, n, acc), do: terms(rest, n - 1, acc)
  defp terms(<<106, rest::binary>>, n, acc), do: terms(rest, n - 1, acc)
  defp terms(<<109, size::32, _::binary-size(size), rest::binary>>, n, acc), do: terms(rest, n - 1, acc)
  defp terms(<<107, size::16, _::binary-size(size), rest::binary>>, n, acc), do: terms(rest, n - 1, acc)
  defp terms(<<104, size, rest::binary>>, n, acc), do: terms(rest, n - 1 + size, acc)
  defp terms(<<105, size::32, rest::binary>>, n, acc) when size <= byte_size(rest), do: terms(rest, n - 1 + size, acc)
  defp terms(<<108, size::32, rest::binary>>, n, acc) when size < byte_size(rest), do: terms(rest, n + size, acc)

  defp terms(<<116, size::32, rest::binary>>, n, acc) when size <= byte_size(rest),
    do: terms(rest, n - 1 + 2 * size, acc)

  defp terms(<<110, size, _sign, _::binary-size(size), rest::binary>>, n, acc), do: terms(rest, n - 1, acc)
  defp terms(<<111, size::32, _sign, _::binary-size(size), rest::binary>>, n, acc), do: terms(rest, n - 1, acc)

  defp terms(<<77, size::32, bits, _::binary-size(size), rest::binary>>, n, acc) when bits in 1..8 and size > 0,
    do: terms(rest, n - 1, acc)

  # Process, port, port, reference.
  defp terms(<<88, rest::binary>>, n, acc), do: identifier(rest, 12, n, acc)
  defp terms(<<89, rest::binary>>, n, acc), do: identifier(rest, 8, n, acc)
  defp terms(<<120, rest::binary>>, n, acc), do: identifier(rest, 12, n, acc)

  defp terms(<<90, size::16, rest::binary>>, n, acc) when size in 1..5 do
    identifier(rest, 4 + 4 * size, n, acc)
  end

  defp terms(bytes, n, acc) do
    with {name, rest} <- atom(bytes), do: terms(rest, n - 1, put(acc, name))
  end

  defp identifier(bytes, size, n, acc) do
    case atom(bytes) do
      {name, rest} when byte_size(rest) >= size ->
        rest |> binary_part(size, byte_size(rest) - size) |> terms(n - 1, put(acc, name))

      _cut_off ->
        :error
    end
  end

  defp atom(<<119, size, name::binary-size(size), rest::binary>>), do: {name, rest}
  defp atom(<<118, size::16, name::binary-size(size), rest::binary>>), do: {name, rest}
  # OTP before 26 writes those of Latin-1 so.
  defp atom(<<100, size::16, name::binary-size(size), rest::binary>>), do: {latin1(name), rest}
  defp atom(<<115, size, name::binary-size(size), rest::binary>>), do: {latin1(name), rest}
  defp atom(_bytes), do: :error

  defp latin1(name), do: :unicode.characters_to_binary(name, :latin1)

  defp put(names, name) when is_map_key(names, name), do: names
  defp put(names, name), do: if(atom?(name), do: names, else: Map.put(names, name, true))

  @doc "Whether the VM has this atom."
  @spec atom?(binary()) :: boolean()
  def atom?(name) do
    is_atom(String.to_existing_atom(name))
  rescue
    _no_such_atom in [ArgumentError, SystemLimitError] -> false
  end
end
