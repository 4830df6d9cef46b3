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

  Decoders are there for all processes, and for objects in workers of pools too, until they are taken back. Without
  `types: :rich` they are not asked, so nothing changes for code that does not know of them.

  A decoder goes before what `types: :rich` does of its own. It runs in the process that decodes; what it raises is
  raised there.
  """

  alias Pythonx.NIF
  alias Pythonx.Object
  alias Pythonx.Pool.Home

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
  @spec register(String.t() | Pythonx.object(), (Pythonx.object() -> term())) :: :ok
  def register(class, function) when is_function(function, 1) do
    name = name!(class)
    if here?(), do: register_here!(name, function)
    update(&Map.put(&1, name, function))
  end

  defp register_here!(name, function) do
    why = ask("register", {name, function})
    if why, do: raise(ArgumentError, "cannot register a decoder for #{name}: #{why}")
  end

  @doc """
  Takes the decoder of a class back. Returns whether there was one.

      iex> Pythonx.Decoder.unregister("no.Such")
      false
  """
  @spec unregister(String.t() | Pythonx.object()) :: boolean()
  def unregister(class) do
    name = name!(class)
    known? = is_map_key(known(), name)
    update(&Map.delete(&1, name))
    if here?(), do: ask("unregister", {name}), else: known?
  end

  @doc """
  The names of the classes that have a decoder.

      iex> Pythonx.Decoder.register("uuid.UUID", &to_string/1)
      iex> "uuid.UUID" in Pythonx.Decoder.registered()
      true
      iex> Pythonx.Decoder.unregister("uuid.UUID")
      true
  """
  @spec registered() :: [String.t()]
  def registered, do: if(here?(), do: ask("registered", {}), else: Enum.sort(Map.keys(known())))

  # A VM with pools need not have a Python of its own.
  defp here?, do: NIF.initialized?()

  # All of them, for the workers of pools, which are told when they decode something with rich types. What decodes there is looked
  # up by its name each time.
  defp known, do: :persistent_term.get(__MODULE__, %{})

  defp update(change) do
    :global.trans({__MODULE__, self()}, fn -> :persistent_term.put(__MODULE__, change.(known())) end, [node()])
  end

  @doc false
  # In a worker, where `object` lives.
  @spec tell(Pythonx.Pool.Object.t()) :: :ok
  def tell(object) do
    known = :persistent_term.get(__MODULE__, nil)
    if known, do: Home.at(Home.of({object}), fn -> tell_all(Map.keys(known)) end)
    :ok
  end

  defp tell_all(names) do
    told = ask("registered", {})
    for name <- names -- told, do: ask("register", {name, &decode(name, &1)})
    for name <- told -- names, do: ask("unregister", {name})
    :ok
  end

  defp decode(name, object), do: Map.get(known(), name, & &1).(object)

  defp name!(name) when is_binary(name), do: name

  defp name!(%struct{} = class) when struct in [Object, Pythonx.Pool.Object] do
    Home.at(Home.of({class}), fn -> ask("name_of", {class}) end) ||
      raise ArgumentError, "expected a class or the name of one, got an instance of #{Pythonx.type(class)}"
  end

  # Names are text.
  defp ask(function, arguments) do
    arguments = Pythonx.Conversion.Native.encode_plainly(arguments, binaries: :str)
    "call_internal" |> NIF.call({"pythonx._types", function, arguments}) |> Pythonx.decode()
  end
end
