defmodule Pythonx.Help do
  @moduledoc false

  # What a person asks about an object: its class and its documentation, both told by priv/python/pythonx/_help.py.

  alias Pythonx.NIF

  @doc """
  The name of the class.
  """
  @spec type(Pythonx.Object.t()) :: String.t()
  def type(object), do: ask("type_name", object)

  @doc """
  Prints the documentation to the group leader. In a terminal with colours, what `pydoc` marks is bold.
  """
  @spec print(Pythonx.Object.t()) :: :ok
  def print(object) do
    text = ask("document", object)
    IO.puts(if IO.ANSI.enabled?(), do: embolden(text), else: plain(text))
  end

  # `pydoc` makes text bold as typewriters did: each letter, a step back, the letter again.
  defp embolden(text) do
    Regex.replace(~r/(?:(.)\x08\1)+/u, text, fn marked, _letter ->
      IO.ANSI.format([:bright, plain(marked)], true) |> IO.iodata_to_binary()
    end)
  end

  defp plain(text), do: Regex.replace(~r/.\x08/u, text, "")

  defp ask(function, object) do
    "call_internal" |> NIF.call({"pythonx._help", function, {NIF.local!(object)}}) |> Pythonx.decode()
  end
end
