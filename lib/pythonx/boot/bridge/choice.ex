defmodule Pythonx.Boot.Bridge.Choice do
  # What the user says of the origin of the native parts: PYTHONX_NATIVE, which is `compile` or `wheel`.
  @moduledoc false

  @type t :: :any | :compile | :wheel

  @doc "The choice; `:any` where nothing is said. Raises an `ArgumentError` for another value of the variable."
  @spec get!() :: t()
  def get! do
    case System.get_env("PYTHONX_NATIVE", "") do
      "" -> :any
      "compile" -> :compile
      "wheel" -> :wheel
      other -> raise ArgumentError, "expected PYTHONX_NATIVE to be compile or wheel, got: #{inspect(other)}"
    end
  end

  @doc "Where wheels are, other than in the index of uv, and who says so: PYTHONX_NATIVE_FIND_LINKS or the configuration."
  @spec find_links!() :: {place :: String.t(), who :: String.t()} | nil
  def find_links! do
    config = Application.get_env(:pythonx, :native, [])

    case {System.get_env("PYTHONX_NATIVE_FIND_LINKS", ""), Keyword.keyword?(config) && config[:find_links]} do
      {"", nil} ->
        nil

      {"", place} when is_binary(place) ->
        {place, "config :pythonx, :native, find_links: ..."}

      {"", _other} ->
        raise ArgumentError,
              "expected config :pythonx, :native to be [find_links: \"a folder\"], got: #{inspect(config)}"

      {place, _config} ->
        {place, "PYTHONX_NATIVE_FIND_LINKS"}
    end
  end
end
