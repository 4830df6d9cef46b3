defmodule Pythonx.Uv.Options do
  # The options of `Pythonx.uv_init/2`: checked once, then a map with every key.
  @moduledoc false

  @default_uv_version "0.13.8"

  @defaults [force: false, uv_version: @default_uv_version, native_tls: false, python: nil]

  # Told apart from the others, because callers match on the text of the error for an unknown key, which lists exactly
  # those above.
  @additional [:uv, :lock, :env]

  # Becomes a part of paths and URLs.
  @version_format ~r/\A\d+(\.\d+){1,2}[0-9A-Za-z.+-]*\z/

  @type t :: %{
          force: boolean(),
          uv_version: String.t(),
          native_tls: boolean(),
          python: String.t() | nil,
          uv: String.t() | nil,
          lock: String.t() | nil,
          env: %{String.t() => String.t() | nil},
          given: [atom()]
        }

  @doc "The version of uv that is downloaded unless another one is asked for."
  @spec default_uv_version() :: String.t()
  def default_uv_version, do: @default_uv_version

  @doc """
  Checks the options, fills in the defaults and reads the lock file. A value of `nil` stands for the default.

  Raises an `ArgumentError` for unknown keys and wrong values.
  """
  @spec validate!(keyword()) :: t()
  def validate!(opts) do
    # What is no keyword list is refused by the same function that refuses unknown keys.
    {additional, documented} = if Keyword.keyword?(opts), do: Keyword.split(opts, @additional), else: {[], opts}
    Keyword.validate!(documented, @defaults)
    given = for {key, value} <- documented ++ additional, value != nil, into: %{}, do: {key, value}

    Map.new(@defaults ++ [uv: nil, lock: nil, env: %{}])
    |> Map.merge(given)
    |> Map.put(:given, Map.keys(given))
    |> check!(:force, &is_boolean/1, "a boolean")
    |> check!(:native_tls, &is_boolean/1, "a boolean")
    |> check!(:uv_version, &version?/1, "a version such as #{inspect(@default_uv_version)}")
    |> check!(:python, &text_or_nil?/1, "a string such as \"3.13\"")
    |> check!(:uv, &text_or_nil?/1, "the path of a uv program")
    |> check!(:lock, &text_or_nil?/1, "the path or the content of a uv.lock file")
    |> check!(:env, &env?/1, "a map or list of names and values, both strings")
    |> Map.update!(:lock, &read_lock!/1)
    |> Map.update!(:env, &Map.new/1)
  end

  @doc "Whether these are environment variables: a map or list of names and values, where `nil` removes one."
  @spec env?(term()) :: boolean()
  def env?(env) when is_map(env) and not is_struct(env), do: env |> Map.to_list() |> env?()

  def env?(env) when is_list(env) do
    Enum.all?(env, fn
      {name, value} -> name?(name) and (value == nil or (text_or_nil?(value) or value == ""))
      _other -> false
    end)
  end

  def env?(_other), do: false

  defp name?(name), do: name != nil and text_or_nil?(name) and not String.contains?(name, "=")

  defp version?(value), do: is_binary(value) and value =~ @version_format

  defp text_or_nil?(nil), do: true

  defp text_or_nil?(value) do
    is_binary(value) and value != "" and String.valid?(value) and not String.contains?(value, <<0>>)
  end

  defp check!(opts, key, valid?, expected) do
    if valid?.(opts[key]),
      do: opts,
      else: raise(ArgumentError, "expected #{inspect(key)} to be #{expected}, got: #{inspect(opts[key])}")
  end

  # The content of a lock file has several lines, which no sensible path has.
  defp read_lock!(nil), do: nil

  defp read_lock!(lock) do
    if String.contains?(lock, "\n"), do: lock, else: read_lock_file!(Path.expand(lock))
  end

  defp read_lock_file!(path) do
    case File.read(path) do
      {:ok, content} -> content
      {:error, reason} -> raise ArgumentError, "could not read the lock file #{path}: #{:file.format_error(reason)}"
    end
  end

  @doc "Whether the caller asked for this version of uv, rather than for any that will do."
  @spec uv_version_given?(t()) :: boolean()
  def uv_version_given?(opts), do: :uv_version in opts.given

  # `:uv` is a path of this machine, `:force` was meant for this call.
  @doc "What another VM needs to set up the same environment, as `install_env/0` hands on."
  @spec portable(t()) :: keyword()
  def portable(opts),
    do: for(key <- [:uv_version, :native_tls, :python, :lock], key in opts.given, do: {key, opts[key]})
end
