defmodule Pythonx.Object.Help do
  @moduledoc false

  # What a person asks about an object: its class and its documentation, both told by priv/python/pythonx/_help.py.

  alias Pythonx.NIF
  alias Pythonx.Calls.Options
  alias Pythonx.Telemetry

  @doc """
  The name of the class.
  """
  @spec type(Pythonx.Object.t(), keyword()) :: String.t()
  def type(object, opts), do: ask("type_name", object, opts)

  @doc """
  Prints the documentation to the group leader. In a terminal with colours, what `pydoc` marks is bold.
  """
  @spec print(Pythonx.Object.t(), keyword()) :: :ok
  def print(object, opts) do
    text = ask("document", object, opts)
    IO.puts(if IO.ANSI.enabled?(), do: embolden(text), else: plain(text))
  end

  # `pydoc` makes text bold as typewriters did: each letter, a step back, the letter again.
  defp embolden(text) do
    Regex.replace(~r/(?:(.)\x08\1)+/u, text, fn marked, _letter ->
      IO.ANSI.format([:bright, plain(marked)], true) |> IO.iodata_to_binary()
    end)
  end

  defp plain(text), do: Regex.replace(~r/.\x08/u, text, "")

  defp ask(function, object, opts) do
    %{timeout: timeout} = Options.validate!(opts, [:timeout])
    arguments = {"pythonx._help", function, {NIF.local!(object)}}
    answer = Telemetry.operation(operation(function), fn -> NIF.call("call_internal", arguments, timeout) end)
    NIF.unicode_to_string(answer)
  end

  defp operation("type_name"), do: :type
  defp operation("document"), do: :help
end
