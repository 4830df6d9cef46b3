defmodule Pythonx.Decoder do
  @moduledoc """
  How instances of a Python class become Elixir terms, as `Pythonx.Encoder` is for structs.

  A decoder is a function of an object. It is called for every instance of its class, and of the subclasses of it, that
  `Pythonx.decode/2` meets with `types: :rich`, nested ones too. What it returns takes the place of the object:

      iex> Pythonx.Decoder.register("fractions.Fraction", fn fraction ->
      ...>   {Pythonx.getattr(fraction, :numerator, decode: true), Pythonx.getattr(fraction, :denominator, decode: true)}
      ...> end)
      :ok
      iex> {result, _} = Pythonx.eval("import fractions; {'half': fractions.Fraction(1, 2)}", %{})
      iex> Pythonx.decode(result, types: :rich)
      %{"half" => {1, 2}}
      iex> Pythonx.Decoder.unregister("fractions.Fraction")
      true

  Decoders belong to the interpreter: they are there for all processes, until they are taken back. Without
  `types: :rich` they are not asked, so nothing changes for code that does not know of them.

  A decoder goes before what `types: :rich` does of its own. It runs in the process that decodes; what it raises is
  raised there.
  """

  alias Pythonx.NIF
  alias Pythonx.Object

  @doc """
  Registers the decoder of a class, in the place of an earlier one.

  The class is given by its name with its module, as `Pythonx.type/1` tells it of an instance, such as
  `"fractions.Fraction"`, or as an object that is the class. It is kept by name: a class that is defined anew, as in a
  notebook, keeps its decoder. The function may be `&Module.function/1`, which survives a new version of its module.

  Raises `ArgumentError` for the types that are always decoded as they are: `int`, `str`, `list` and so on.

      iex> Pythonx.Decoder.register("pathlib.PurePosixPath", &to_string/1)
      :ok
      iex> {path, _} = Pythonx.eval("import pathlib; pathlib.PurePosixPath('/usr')", %{})
      iex> Pythonx.decode(path, types: :rich)
      "/usr"
      iex> Pythonx.Decoder.unregister("pathlib.PurePosixPath")
      true
  """
  @spec register(String.t() | Object.t(), (Object.t() -> term())) :: :ok
  def register(class, function) when is_function(function, 1) do
    name = name!(class)

    case ask("register", {name, function}) do
      nil -> :ok
      why -> raise ArgumentError, "cannot register a decoder for #{name}: #{why}"
    end
  end

  @doc """
  Takes the decoder of a class back. Returns whether there was one.

      iex> Pythonx.Decoder.unregister("no.Such")
      false
  """
  @spec unregister(String.t() | Object.t()) :: boolean()
  def unregister(class), do: ask("unregister", {name!(class)})

  @doc """
  The names of the classes that have a decoder.

      iex> Pythonx.Decoder.register("uuid.UUID", &to_string/1)
      iex> "uuid.UUID" in Pythonx.Decoder.registered()
      true
      iex> Pythonx.Decoder.unregister("uuid.UUID")
      true
  """
  @spec registered() :: [String.t()]
  def registered, do: ask("registered", {})

  defp name!(name) when is_binary(name), do: name

  defp name!(%Object{} = class) do
    ask("name_of", {class}) ||
      raise ArgumentError, "expected a class or the name of one, got an instance of #{Pythonx.type(class)}"
  end

  # Names are text.
  defp ask(function, arguments) do
    arguments = Pythonx.Conversion.Native.encode_plainly(arguments, binaries: :str)
    "call_internal" |> NIF.call({"pythonx._types", function, arguments}) |> Pythonx.decode()
  end
end
