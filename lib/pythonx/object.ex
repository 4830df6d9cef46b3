defmodule Pythonx.Object do
  @moduledoc ~S"""
  A handle to a Python object.

  The object lives for as long as any handle to it does. Two handles to one object are not equal in Elixir; passing
  both back to Python yields the identical object.

  Handles are opaque. They can be sent to other processes of the node and used there. One that is sent to another
  node says where it belongs, see `Pythonx.remote_eval/4`.

  ## Access

  `object[key]` reads an item as Python does. A key or index that is not there (`KeyError`, `IndexError`) gives `nil`;
  use `Pythonx.getitem/2` where it should raise.

      iex> {prices, _} = Pythonx.eval("{'apple': 1.5}", %{})
      iex> prices["apple"]
      #Pythonx.Object<
        1.5
      >
      iex> prices["pear"]
      nil

  Items are changed with `Pythonx.setitem/3`: `put_in/2` and its like raise.

  ## Text

  `to_string/1` and interpolation give Python's `str(object)`.

      iex> {path, _} = Pythonx.eval("import pathlib; pathlib.PurePosixPath('/usr') / 'lib'", %{})
      iex> "libraries are in #{path}"
      "libraries are in /usr/lib"

  ## Time

  Protocols and `object[key]` take no options, so there is no limit to how long Python may work for them, but for
  `inspect/1`: after `config :pythonx, inspect_timeout: 10_000` milliseconds it says so in place of the text. Where there has to be one, use
  `Pythonx.getitem/3` and `Pythonx.stream/2` with `:timeout`, and for text

      iex> {path, _} = Pythonx.eval("import pathlib; pathlib.PurePosixPath('/usr')", %{})
      iex> Pythonx.call_method(path, :__str__, [], [], decode: true, timeout: 1000)
      "/usr"
  """

  @behaviour Access

  alias Pythonx.Interpreter

  defstruct [:resource, :remote_info]

  @opaque t :: %__MODULE__{resource: reference(), remote_info: nil | reference()}

  @doc false
  @spec repr_text(t()) :: String.t()
  def repr_text(object) do
    if Interpreter.owns?(object) do
      Interpreter.perform("repr_text", object, repr_timeout())
    else
      object = Pythonx.NIF.local!(object)
      Pythonx.Telemetry.operation(:repr, fn -> Pythonx.NIF.call("repr_text", {object}, repr_timeout()) end)
    end
  end

  @doc false
  @spec str_text(t()) :: String.t()
  def str_text(object) do
    if is_struct(object, __MODULE__) and Interpreter.owns?(object) do
      Interpreter.perform("str_text", object)
    else
      object = Pythonx.NIF.local!(object)
      text = Pythonx.Telemetry.operation(:str, fn -> Pythonx.NIF.call("str", {object}) end)
      Pythonx.NIF.unicode_to_string(text)
    end
  end

  @doc false
  @impl Access
  def fetch(object, key) when is_struct(object) do
    case Pythonx.Calls.perform(:fetch, {Pythonx.NIF.local!(object), key}, [], []) do
      :error -> :error
      item -> {:ok, item}
    end
  end

  @doc false
  @impl Access
  def get_and_update(_object, _key, _function), do: refuse_change!()

  @doc false
  @impl Access
  def pop(_object, _key), do: refuse_change!()

  # A `__repr__` that hangs must not take the shell with it that shows its object.
  defp repr_timeout(), do: Application.get_env(:pythonx, :inspect_timeout, 10_000)

  defp refuse_change!() do
    raise ArgumentError, "a Python object is changed in place, use Pythonx.setitem/3"
  end
end

defimpl String.Chars, for: Pythonx.Object do
  def to_string(object) when node(object.resource) == node(), do: Pythonx.Object.str_text(object)
  def to_string(object), do: :erpc.call(node(object.resource), Pythonx.Object, :str_text, [object])
end

defimpl Inspect, for: Pythonx.Object do
  import Inspect.Algebra

  def inspect(object, _opts) do
    owner = node(object.resource)
    lines = node_lines(object, owner) ++ lines(object, owner)
    body = Enum.map(lines, &concat(line(), &1))
    force_unfit(concat(["#Pythonx.Object<", nest(concat(body), 2), line(), ">"]))
  end

  defp lines(object, owner) do
    case owner == node() && Pythonx.NIF.initialized?() && Pythonx.Interpreter.interpreter_of(object.resource) do
      {name, true} -> ["[interpreter: #{name}]" | repr_lines(object, owner)]
      {name, false} -> ["[interpreter: #{name}, closed]"]
      _main_or_remote -> repr_lines(object, owner)
    end
  end

  # On this node the call happens in this very process.
  defp repr_lines(object, owner) do
    owner |> :erpc.call(Pythonx.Object, :repr_text, [object]) |> String.split("\n")
  rescue
    error in ErlangError ->
      case error.original do
        {:exception, %Pythonx.TimeoutError{timeout: timeout}, _stacktrace} -> ["(no repr within #{timeout} ms)"]
        _other -> reraise error, __STACKTRACE__
      end
  end

  defp node_lines(%{remote_info: nil}, owner) when owner == node(), do: []
  defp node_lines(_object, owner), do: ["[node: #{owner}]"]
end
