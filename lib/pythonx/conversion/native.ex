defmodule Pythonx.Conversion.Native do
  @moduledoc false

  # The default encoder: one walk over the whole term in native code. What the walk meets and only the protocol can
  # encode (structs, functions of other nodes, ..., and built-in types for which somebody has an implementation of their
  # own) it reports; each goes through the protocol, and a second walk puts the objects in their places.

  alias Pythonx.Conversion.Own
  alias Pythonx.NIF.Job
  alias Pythonx.Pool.Home

  # With a time limit it runs on a thread of Python's, where a walk can be stopped.
  @type opts :: [binaries: :bytes | :str, types: :basic | :rich, timeout: Pythonx.Calls.Deadline.t()]

  @doc """
  Encodes a term of any type, with the default meaning of each built-in one that nobody has an own implementation for.
  """
  @spec encode(term(), opts()) :: Pythonx.Object.t()
  def encode(term, opts \\ []), do: encode(term, Own.types(), opts)

  @doc """
  The same with the default meanings alone: for what is not the user's, or has been encoded already.
  """
  @spec encode_plainly(term(), opts()) :: Pythonx.Object.t()
  def encode_plainly(term, opts \\ []), do: encode(term, 0, opts)

  # Both walks have to leave the same terms to the protocol, so they are told of the types.
  defp encode(term, own, opts) do
    binaries_as_str = Keyword.get(opts, :binaries, :bytes) == :str
    deadline = Keyword.get(opts, :timeout, :infinity)

    case walk(term, binaries_as_str, own, [], deadline) do
      {:ok, object} ->
        object

      {:deferred, terms} ->
        {:ok, object} = walk(term, binaries_as_str, own, encode_deferred(terms, term, opts), deadline)
        object
    end
  end

  @doc """
  The arguments of an operation, encoded where somebody has own implementations; otherwise as they are, for the operation
  itself to encode.
  """
  @spec encode_own(list(), opts()) :: list()
  def encode_own(terms, opts) do
    case Own.types() do
      0 -> terms
      own -> Enum.map(terms, &encode(&1, own, opts))
    end
  end

  @doc """
  The objects for terms that a native walk over `root` left to the protocol.
  """
  @spec encode_deferred([term()], term(), opts()) :: [Pythonx.Object.t()]
  def encode_deferred(terms, root, opts) when is_list(terms) do
    encoder = encoder(opts)

    case Keyword.get(opts, :types, :basic) do
      :basic ->
        Enum.map(terms, &encode_one(&1, root, encoder))

      :rich ->
        terms |> Enum.map(&describe(&1, root, encoder)) |> build_described(Keyword.get(opts, :timeout, :infinity))
    end
  end

  # Who implements the protocol for one of the structs that `types: :rich` knows means it.
  defp describe(term, root, encoder) do
    description =
      if Pythonx.Encoder.impl_for(term) == nil, do: at_path(term, root, &Pythonx.Conversion.Types.describe/1)

    if description, do: {:describe, description}, else: {:object, encode_one(term, root, encoder)}
  end

  # One call makes the objects of all.
  defp build_described(found, deadline) do
    objects = Pythonx.Conversion.Types.build(for({:describe, description} <- found, do: description), deadline)

    {built, []} =
      Enum.map_reduce(found, objects, fn
        {:object, object}, objects -> {object, objects}
        {:describe, _description}, [object | objects] -> {object, objects}
      end)

    built
  end

  @doc """
  The 2-arity encoder that `Pythonx.encode!/2` uses under these options.
  """
  @spec encoder(opts()) :: Pythonx.encoder()
  def encoder(opts) do
    defaults = [binaries: :bytes, types: :basic, timeout: :infinity]

    if Enum.all?(defaults, fn {option, default} -> Keyword.get(opts, option, default) == default end) do
      &Pythonx.Encoder.encode/2
    else
      fn term, _encoder -> encode(term, opts) end
    end
  end

  @doc """
  Encodes a container: by the walk, or of children that a caller's own encoder encodes, each of which is checked. `build` gets
  the function for a child.
  """
  @spec encode_container(term(), Pythonx.encoder(), ((term() -> Pythonx.Object.t()) -> Pythonx.Object.t())) ::
          Pythonx.Object.t()
  def encode_container(container, encoder, build) do
    if encoder == (&Pythonx.Encoder.encode/2), do: encode(container), else: build.(&encode_child(&1, encoder))
  end

  defp encode_child(term, encoder) do
    case encoder.(term, encoder) do
      %Pythonx.Object{} = object -> object
      other -> raise ArgumentError, "expected the encoder to return a Pythonx.Object, got: #{inspect(other)}"
    end
  end

  # Python's own errors, and user code such as a key's __hash__, belong on a thread of Python's. So does all that is for a worker.
  defp walk(term, binaries_as_str, own, objects, :infinity) do
    case Home.current() == nil &&
           Pythonx.NIF.unobserved(Pythonx.NIF.nif_encode(term, binaries_as_str, own, objects)) do
      elsewhere when elsewhere in [false, :needs_thread] ->
        walk_on_thread(term, binaries_as_str, own, objects, :infinity)

      {:error, :not_initialized} ->
        Pythonx.NIF.not_initialized!()

      result ->
        result
    end
  end

  defp walk(term, binaries_as_str, own, objects, deadline) do
    walk_on_thread(term, binaries_as_str, own, objects, deadline)
  end

  defp walk_on_thread(term, binaries_as_str, own, objects, deadline) do
    case Job.call_at(Home.current(), "encode", {term, binaries_as_str, own, objects}, deadline) do
      {:deferred, terms} -> {:deferred, terms}
      object -> {:ok, object}
    end
  rescue
    error in Pythonx.Error -> reraise with_place(error, term, binaries_as_str), __STACKTRACE__
  end

  # Python knows what it refused, not where in the term that was.
  @doc false
  @spec with_place(Exception.t(), term(), boolean()) :: Exception.t()
  def with_place(error, term, binaries_as_str) do
    case Pythonx.Conversion.Path.find_by(term, &refused?(&1, binaries_as_str)) do
      "" -> error
      path -> %{error | lines: error.lines ++ ["while encoding #{path}\n"]}
    end
  end

  defp refused?(text, true) when is_binary(text), do: not String.valid?(text)
  defp refused?(%MapSet{} = set, _binaries_as_str), do: Enum.any?(set, &unhashable?/1)

  defp refused?(map, _binaries_as_str) when is_map(map) and not is_struct(map),
    do: Enum.any?(map, &unhashable?(elem(&1, 0)))

  defp refused?(_term, _binaries_as_str), do: false

  defp unhashable?(%Pythonx.Object{}), do: false
  defp unhashable?(tuple) when is_tuple(tuple), do: tuple |> Tuple.to_list() |> Enum.any?(&unhashable?/1)
  defp unhashable?(term), do: is_list(term) or is_map(term)

  defp encode_one(term, root, encoder) do
    at_path(term, root, &checked(encode_by_protocol(&1, encoder), &1))
  end

  defp at_path(term, root, fun) do
    fun.(term)
  rescue
    error in [Protocol.UndefinedError, ArgumentError] ->
      reraise error |> with_hint(term) |> with_path(term, Pythonx.Conversion.Path.find(root, term)), __STACKTRACE__
  end

  @doc """
  The error of a term that has no counterpart, with the option that would give it one.
  """
  @spec with_hint(Exception.t(), term()) :: Exception.t()
  def with_hint(%Protocol.UndefinedError{protocol: Pythonx.Encoder, value: term, description: none} = error, term)
      when none in [nil, ""] do
    if Pythonx.Conversion.Types.known?(term),
      do: %{
        error
        | description: "cannot encode this value, but with the option types: :rich it becomes one of Python's own"
      },
      else: error
  end

  def with_hint(error, _term), do: error

  # Of a built-in type the walk leaves what it has no counterpart for, about which there is something to say, or a type that
  # somebody has an own implementation for.
  defp encode_by_protocol(term, encoder) do
    if Own.member?(Own.types(), term), do: Pythonx.Encoder.encode(term, encoder), else: encode_left(term, encoder)
  end

  defp encode_left(term, _encoder) when is_list(term) do
    raise ArgumentError, "cannot encode an improper list as a Python object, got: #{inspect(term)}"
  end

  defp encode_left(term, _encoder) when is_bitstring(term) do
    raise Protocol.UndefinedError,
      protocol: Pythonx.Encoder,
      value: term,
      description: "cannot encode a bitstring as a Python object"
  end

  defp encode_left(term, _encoder) when is_pid(term) do
    raise ArgumentError,
          "decode failed, expected a local pid, but got a remote one. " <>
            "NIFs can only send messages to local PIDs and remote PIDs cannot be decoded"
  end

  defp encode_left(term, encoder), do: Pythonx.Encoder.encode(term, encoder)

  @doc """
  What an implementation returned for `term`, if that is an object of this node.
  """
  @spec checked(term(), term()) :: Pythonx.Object.t() | Pythonx.Pool.Object.t()
  def checked(%struct{} = object, _term) when struct in [Pythonx.Object, Pythonx.Pool.Object],
    do: Pythonx.NIF.local!(object)

  def checked(other, term) do
    raise ArgumentError,
          "expected the Pythonx.Encoder implementation for #{inspect(term)} to return a Pythonx.Object, " <>
            "got: #{inspect(other)}"
  end

  @doc """
  An error about a value, or a part of one, that an evaluation was given under a name: says the name.
  """
  @spec in_global(Exception.t(), String.t()) :: Exception.t()
  def in_global(%Protocol.UndefinedError{protocol: Pythonx.Encoder} = error, name) do
    # The description of a part begins with its own path.
    what =
      case error.description do
        none when none in [nil, ""] -> ": cannot encode this value"
        "[" <> _path = description -> description
        description -> ": " <> description
      end

    %{error | description: "[#{inspect(name)}]#{what}"}
  end

  def in_global(error, _name), do: error

  # The term itself needs no path, and an error about another value is not about this place.
  defp with_path(error, _term, ""), do: error

  defp with_path(%Protocol.UndefinedError{value: value} = error, term, path) when value === term do
    what = if error.description in [nil, ""], do: "cannot encode this value", else: error.description
    %{error | description: "#{path}: #{what}"}
  end

  defp with_path(%ArgumentError{} = error, _term, path), do: %{error | message: "#{path}: #{error.message}"}
  defp with_path(error, _term, _path), do: error
end
