defmodule Pythonx.Requirements.Requirement do
  # One line of what a library asks for, such as `jinja2>=3.1` (PEP 508), as far as it can be judged here.
  @moduledoc false

  alias Pythonx.Requirements.Version

  @pattern ~r/\A\s*([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*(\[[^\]]*\])?\s*(.*)\z/s

  @doc "The name of the package as all tools write it, or `nil`."
  @spec name(String.t()) :: String.t() | nil
  def name(text) do
    case Regex.run(@pattern, text) do
      [_all, name | _rest] -> normalise(name)
      nil -> nil
    end
  end

  @doc "The one form of a name that can be written in several."
  @spec normalise(String.t()) :: String.t()
  def normalise(name), do: name |> String.replace(~r/[-_.]+/, "-") |> String.downcase()

  @doc """
  Whether one of the installed packages satisfies it. `:unknown` for what uv has to be asked: extras, markers, addresses.
  """
  @spec met?(String.t(), %{String.t() => String.t()}) :: boolean() | :unknown
  def met?(text, installed) do
    with [_all, name, "", rest] <- Regex.run(@pattern, text),
         false <- String.contains?(rest, [";", "@"]),
         {:ok, version} <- Map.fetch(installed, normalise(name)) do
      specifier = rest |> String.trim() |> String.trim_leading("(") |> String.trim_trailing(")")
      if specifier == "", do: true, else: unless_error(Version.match?(version, specifier))
    else
      :error -> false
      _other -> :unknown
    end
  end

  defp unless_error(:error), do: :unknown
  defp unless_error(met?), do: met?
end
