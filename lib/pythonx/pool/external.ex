defmodule Pythonx.Pool.External do
  # What the VM of a pool believes of a worker: nothing.
  #
  # Python code can write to the worker's connection, and C code can make of its VM what it likes. So all that comes from there
  # is checked on this side before anything is done with it, and costs memory in proportion to the bytes that came, whatever
  # they announce. What no worker sends that runs our code ends the worker that sent it, and nothing else: its caller gets a
  # `Pythonx.Pool.CrashError` with the reason `:protocol` (no messages) or `{:forged, what}` (messages that lie).
  #
  #   - The worker's process (`Pythonx.Pool.Worker`) takes messages about jobs, objects and devices that it has given out or may
  #     be given, and a term only in the form that `check/1` allows. It decodes none. This comes before the lease is over.
  #   - The caller (`Pythonx.Pool.Client`) decodes the term with `:safe`. Only where that fails are its atoms looked at, and
  #     new ones made for as long as the pool may (`Pythonx.Pool.Atoms`): all lives of all workers of a pool together have what
  #     Python has in one VM. Then it checks what the term should be: an outcome, with the handles that the reply tells of.
  #   - A handle is what this side has made of a number of this worker. One that comes with a process in it is a dead one. A
  #     `Pythonx.Object` never comes: its reference could be guessed, and be that of a stranger's object in this VM.
  #   - Compressed terms are refused, because they grow; so are the forms that `:erlang.term_to_binary/1` does not write, and
  #     functions that this VM does not have. Others are let through, as callers get back those that they have passed.
  @moduledoc false

  # No module has more functions.
  @most_funs 0x10000

  @typedoc "Names of atoms, and of functions by module, name and arity."
  @type names :: %{optional(String.t()) => true, optional({String.t(), String.t(), byte()}) => true}

  @doc """
  Whether the bytes are a term from a worker, as far as this can be told without making it.
  """
  @spec check(binary()) :: :ok | {:error, String.t()}
  def check(<<131, 80, _::binary>>), do: {:error, "a compressed term"}

  def check(<<131, bytes::binary>>) do
    case terms(bytes, 1, :check) do
      {"", _} -> :ok
      {:error, _what} = error -> error
      {_rest, _} -> {:error, "a term with bytes behind it"}
      :error -> {:error, "a damaged term"}
    end
  end

  def check(_bytes), do: {:error, "a damaged term"}

  @doc "The names in a term of which the VM has no atoms yet, and the external functions in it."
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

  defp terms(<<112, size::32, _arity, unique::binary-size(16), index::32, free::32, rest::binary>>, n, acc)
       when size - 29 <= byte_size(rest) and free <= byte_size(rest) do
    # What follows: the module, two numbers, a process, and the values that the function holds.
    with {name, _rest} <- atom(rest), :ok <- present(name, unique, index, acc), do: terms(rest, n + 3 + free, acc)
  end

  defp terms(<<113, rest::binary>>, n, acc) do
    with {module, rest} <- atom(rest), {name, <<97, arity, rest::binary>>} <- atom(rest) do
      terms(rest, n - 1, acc |> put(module) |> put(name) |> put({module, name, arity}))
    else
      _ -> :error
    end
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

  defp put(:check, _name), do: :check
  defp put(names, name) when is_map_key(names, name), do: names
  defp put(names, name) when is_tuple(name), do: Map.put(names, name, true)
  defp put(names, name), do: if(atom?(name), do: names, else: Map.put(names, name, true))

  @doc "Whether the VM has this atom."
  @spec atom?(binary()) :: boolean()
  def atom?(name) do
    is_atom(String.to_existing_atom(name))
  rescue
    _no_such_atom in [ArgumentError, SystemLimitError] -> false
  end

  defp present(name, unique, index, :check) do
    if index < @most_funs and atom?(name) and compiled_as(String.to_existing_atom(name)) == unique,
      do: :ok,
      else: {:error, "a function that this VM does not have"}
  end

  defp present(_name, _unique, _index, _names), do: :ok

  defp compiled_as(module), do: if(Code.ensure_loaded?(module), do: module.module_info(:md5))
end
