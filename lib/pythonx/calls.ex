defmodule Pythonx.Calls do
  @moduledoc false

  # What `Pythonx.call/4` and its siblings have in common: options, operands and the reply. See
  # c_src/bridge/object_operations.cpp for the other side.

  alias Pythonx.Encoder.Native
  alias Pythonx.NIF
  alias Pythonx.Object

  @defaults [decode: false, binaries: :str, timeout: :infinity]

  @doc """
  Calls an object; see `Pythonx.call/4`.
  """
  @spec call(Object.t(), list(), keyword() | map(), keyword()) :: term()
  def call(callable, args, kwargs, opts) do
    {names, values} = keywords!(kwargs)
    perform("call", {NIF.local!(callable), args, values}, names, opts)
  end

  @doc """
  Calls a method; see `Pythonx.call_method/5`.
  """
  @spec call_method(Object.t(), atom() | String.t(), list(), keyword() | map(), keyword()) :: term()
  def call_method(object, name, args, kwargs, opts) do
    {names, values} = keywords!(kwargs)
    perform("call_method", {NIF.local!(object), args, values}, [name!(name) | names], opts)
  end

  @doc """
  Runs one of the native operations on encoded operands, by name.
  """
  @spec perform(String.t(), tuple(), [String.t()], keyword()) :: term()
  def perform(operation, operands, names, opts) do
    submit(operation, operands, names, options!(opts), devices(), [])
  end

  defp submit(operation, operands, names, opts, {out, err, relay} = devices, replacements) do
    arguments = {operands, names, opts.decode, opts.binaries == :str, replacements}

    case NIF.perform(operation, arguments, out, err, relay, opts.timeout) do
      {:deferred, terms} ->
        objects = Native.encode_deferred(terms, operands, binaries: opts.binaries)
        submit(operation, operands, names, opts, devices, objects)

      {:ok, result} ->
        result
    end
  end

  @doc """
  A name as text; Python has no atoms.
  """
  @spec name!(atom() | String.t()) :: String.t()
  def name!(name) when is_atom(name), do: Atom.to_string(name)
  def name!(name) when is_binary(name), do: name

  def name!(other) do
    raise ArgumentError, "expected a name to be an atom or a string, got: #{inspect(other)}"
  end

  @doc """
  The names of keyword arguments, as text, and their values.
  """
  @spec keywords!(keyword() | map()) :: {[String.t()], [term()]}
  def keywords!([]), do: {[], []}

  def keywords!(kwargs) when is_map(kwargs) or is_list(kwargs) do
    kwargs |> Enum.map(&keyword!(&1, kwargs)) |> Enum.unzip()
  end

  def keywords!(other), do: refuse_keywords!(other)

  defp keyword!({name, value}, _kwargs) when is_atom(name) or is_binary(name), do: {name!(name), value}
  defp keyword!(_other, kwargs), do: refuse_keywords!(kwargs)

  defp refuse_keywords!(kwargs) do
    raise ArgumentError,
          "expected kwargs to be a keyword list or a map with atoms or strings as keys, got: #{inspect(kwargs)}"
  end

  @doc """
  The options of calls as a map, checked.
  """
  @spec options!(keyword()) :: map()
  def options!([]), do: Map.new(@defaults)

  def options!(opts) when is_list(opts) do
    opts = opts |> Keyword.validate!(@defaults) |> Map.new()
    check!(:decode, opts.decode, is_boolean(opts.decode), "a boolean")
    check!(:binaries, opts.binaries, opts.binaries in [:bytes, :str], ":bytes or :str")
    timeout!(opts.timeout)
    opts
  end

  @doc """
  The timeout itself, checked.
  """
  @spec timeout!(term()) :: timeout()
  def timeout!(timeout) do
    valid = timeout == :infinity or (is_integer(timeout) and timeout >= 0)
    check!(:timeout, timeout, valid, "a non-negative integer or :infinity")
    timeout
  end

  defp check!(_option, _value, true, _expected), do: :ok

  defp check!(option, value, false, expected) do
    raise ArgumentError, "expected #{inspect(option)} to be #{expected}, got: #{inspect(value)}"
  end

  @doc """
  Where output of this process goes: the devices for standard output and standard error, and the process that takes
  what they answer.
  """
  @spec devices() :: {pid(), pid(), pid()}
  def devices do
    out = Process.group_leader()
    {out, Process.whereis(:standard_error) || out, Process.whereis(Pythonx.Janitor) || await_janitor!()}
  end

  # It is between a crash and its restart, which the supervisor answers for.
  defp await_janitor! do
    if Process.whereis(Pythonx.Supervisor), do: Supervisor.which_children(Pythonx.Supervisor)

    Process.whereis(Pythonx.Janitor) ||
      raise "the :pythonx application needs to be started before Python can be called"
  end
end
