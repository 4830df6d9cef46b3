defprotocol Pythonx.Encoder do
  @moduledoc """
  How Elixir values become Python objects.

  Built-in types are converted as the table in the README says. For a struct of your own, implement the protocol and
  return a `Pythonx.Object`, most easily one that `Pythonx.eval/2` made:

      defimpl Pythonx.Encoder, for: Complex do
        def encode(complex, _encoder) do
          {result, %{}} =
            Pythonx.eval("complex(re, im)", %{"re" => complex.re, "im" => complex.im})

          result
        end
      end

  Where a value cannot be encoded after all, say because a Python package is missing, raise

      raise Protocol.UndefinedError, protocol: @protocol, value: value, description: "why"

  Structs without an implementation are an error, nested ones too: the message names the place.

  An implementation of your own for a built-in type, such as `BitString`, takes the place of the one here, for terms inside
  of others too, also where it is defined only at run time. Terms of that type are then encoded one by one.
  """

  @doc """
  Encodes `term` as a Python object.

  Implementations for containers call `encoder.(child, encoder)` for what they hold, so that a function given to
  `Pythonx.encode!/2` may treat any nested term in its own way.

      iex> Pythonx.Encoder.encode({:ok, 1}, &Pythonx.Encoder.encode/2)
      #Pythonx.Object<
        ('ok', 1)
      >
  """
  @spec encode(term(), Pythonx.encoder()) :: Pythonx.Object.t()
  def encode(term, encoder)
end

defimpl Pythonx.Encoder, for: [Atom, Integer, Float, BitString, PID, Function] do
  def encode(term, _encoder), do: Pythonx.Conversion.Native.encode(term)

  @doc false
  def __ours__, do: 0
end

defimpl Pythonx.Encoder, for: List do
  alias Pythonx.Conversion.Native

  def encode(list, encoder) do
    Native.encode_container(list, encoder, fn encode_child ->
      # The walk has an error of its own for an improper list.
      if List.improper?(list), do: Native.encode(list), else: list |> Enum.map(encode_child) |> Native.encode_plainly()
    end)
  end

  @doc false
  def __ours__, do: 0
end

defimpl Pythonx.Encoder, for: Tuple do
  alias Pythonx.Conversion.Native

  def encode(tuple, encoder) do
    Native.encode_container(tuple, encoder, fn encode_child ->
      tuple |> Tuple.to_list() |> Enum.map(encode_child) |> List.to_tuple() |> Native.encode_plainly()
    end)
  end

  @doc false
  def __ours__, do: 0
end

defimpl Pythonx.Encoder, for: Map do
  alias Pythonx.Conversion.Native

  def encode(map, encoder) do
    Native.encode_container(map, encoder, fn encode_child ->
      pairs = Enum.map(map, fn {key, value} -> {encode_child.(key), encode_child.(value)} end)
      # As Python's own dict does with pairs, a key that is equal to an earlier one takes its place.
      Pythonx.NIF.call("dict_from_pairs", {pairs})
    end)
  end

  @doc false
  def __ours__, do: 0
end

defimpl Pythonx.Encoder, for: MapSet do
  alias Pythonx.Conversion.Native

  def encode(set, encoder) do
    Native.encode_container(set, encoder, fn encode_child ->
      Pythonx.NIF.call("set_from_list", {Enum.map(set, encode_child)})
    end)
  end

  @doc false
  def __ours__, do: 0
end

defimpl Pythonx.Encoder, for: Pythonx.Object do
  def encode(object, _encoder) do
    if remote?(object) do
      raise Protocol.UndefinedError,
        protocol: @protocol,
        value: object,
        description:
          "remote objects cannot be encoded implicitly, call Pythonx.copy_remote_object/1 first to get a local copy of the object"
    end

    # One of this node that has been collected, such as one that came back in a message, is not remote.
    Pythonx.NIF.local!(object)
  end

  defp remote?(%{resource: resource}), do: is_reference(resource) and node(resource) != node()
end
