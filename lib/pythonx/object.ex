defmodule Pythonx.Object do
  @moduledoc """
  A handle to a Python object.

  The object lives for as long as any handle to it does. Two handles to one object are not equal in Elixir; passing
  both back to Python yields the identical object.

  Handles are opaque. They can be sent to other processes of the node and used there. One that is sent to another
  node says where it belongs, see `Pythonx.remote_eval/4`.
  """

  defstruct [:resource, :remote_info]

  @opaque t :: %__MODULE__{resource: reference(), remote_info: nil | reference()}

  @doc false
  @spec repr_text(t()) :: String.t()
  def repr_text(object), do: Pythonx.NIF.call("repr_text", {Pythonx.NIF.local!(object)}, repr_timeout())

  # A `__repr__` that hangs must not take the shell with it that shows its object.
  defp repr_timeout(), do: Application.get_env(:pythonx, :inspect_timeout, 10_000)
end

defimpl Inspect, for: Pythonx.Object do
  import Inspect.Algebra

  def inspect(object, _opts) do
    owner = node(object.resource)
    # On this node the call happens in this very process.
    repr = :erpc.call(owner, Pythonx.Object, :repr_text, [object])
    lines = node_lines(object, owner) ++ String.split(repr, "\n")
    body = Enum.map(lines, &concat(line(), &1))
    force_unfit(concat(["#Pythonx.Object<", nest(concat(body), 2), line(), ">"]))
  end

  defp node_lines(%{remote_info: nil}, owner) when owner == node(), do: []
  defp node_lines(_object, owner), do: ["[node: #{owner}]"]
end
