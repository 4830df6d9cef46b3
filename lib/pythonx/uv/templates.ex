defmodule Pythonx.Uv.Templates do
  # The ready pyproject.toml files of uv_templates, by name. They are read when this module is compiled.
  @moduledoc false

  @dir Path.expand("../../../uv_templates", __DIR__)
  @paths @dir |> Path.join("*.toml") |> Path.wildcard() |> Enum.sort()

  for path <- @paths, do: @external_resource(path)

  @templates Map.new(@paths, &{&1 |> Path.basename(".toml") |> String.to_atom(), File.read!(&1)})

  # A file that is added or removed must have this module compiled again.
  @doc false
  @spec __mix_recompile__?() :: boolean()
  def __mix_recompile__?, do: @dir |> Path.join("*.toml") |> Path.wildcard() |> Enum.sort() != @paths

  @doc "The names of all templates, sorted."
  @spec names() :: [atom()]
  def names, do: @templates |> Map.keys() |> Enum.sort()

  @doc "The text of a template. Raises an `ArgumentError` when there is none of this name."
  @spec fetch!(atom()) :: String.t()
  def fetch!(name) when is_atom(name) do
    case @templates do
      %{^name => toml} ->
        toml

      _templates ->
        raise ArgumentError,
              "unknown template #{inspect(name)}, the available ones are: #{Enum.map_join(names(), ", ", &inspect/1)}"
    end
  end
end
