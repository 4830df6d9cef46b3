defmodule Pythonx.Uv.Config do
  # The compile-time configuration of a project that brings its environment along:
  #
  #     config :pythonx, :uv_init,
  #       pyproject_toml: "..."
  #
  # Or of one whose environment is made of what applications ask for (see `Pythonx.Requirements`):
  #
  #     config :pythonx, :uv_init, :requirements
  @moduledoc false

  @options [:uv_version, :native_tls, :python, :lock]

  @doc """
  The pyproject.toml and the options of `Pythonx.uv_init/2` that the configuration says, or `nil` for none.

  `:requirements` stands in the place of the text, with `requirements: true` where there are options.
  Other keys are ignored. Raises an `ArgumentError` for a pyproject.toml that is no text.
  """
  @spec parse!(keyword() | :requirements | nil) :: {String.t() | :requirements, keyword()} | nil
  def parse!(nil), do: nil
  def parse!(:requirements), do: {:requirements, []}

  def parse!(config) when is_list(config) do
    case config[:pyproject_toml] do
      nil ->
        if config[:requirements], do: {:requirements, Keyword.take(config, @options)}

      toml when is_binary(toml) ->
        {toml, Keyword.take(config, @options)}

      other ->
        raise ArgumentError, "expected pyproject_toml of config :pythonx, :uv_init to be text, got: #{inspect(other)}"
    end
  end
end
