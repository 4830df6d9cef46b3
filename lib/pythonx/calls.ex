defmodule Pythonx.Calls do
  @moduledoc false

  # What `Pythonx.call/4` and its siblings have in common: options, operands and the reply. See
  # c_src/bridge/work/object_operations.cpp for the other side.

  alias Pythonx.Calls.{Deadline, Options}
  alias Pythonx.Conversion.{Native, Own, Types}
  alias Pythonx.NIF
  alias Pythonx.Object
  alias Pythonx.Pool.Home
  alias Pythonx.Telemetry

  @options [:decode, :types, :timeout, binaries: :str]
  @defaults %{decode: false, binaries: :str, types: :basic, timeout: :infinity}

  @typedoc "Where output goes: the devices for standard output and standard error, and the process that takes what they answer."
  @type devices :: {pid(), pid(), pid()}

  @doc """
  Calls an object; see `Pythonx.call/4`.
  """
  @spec call(Object.t(), list(), keyword() | map(), keyword(), devices() | nil) :: term()
  def call(callable, args, kwargs, opts, devices \\ nil) do
    {names, values} = keywords!(kwargs)
    perform(:call, {NIF.local!(callable), args, values}, names, opts, devices)
  end

  @doc """
  Calls a method; see `Pythonx.call_method/5`.
  """
  @spec call_method(Object.t(), atom() | String.t(), list(), keyword() | map(), keyword()) :: term()
  def call_method(object, name, args, kwargs, opts) do
    {names, values} = keywords!(kwargs)
    perform(:call_method, {NIF.local!(object), args, values}, [name!(name) | names], opts)
  end

  @doc """
  Runs one of the native operations on encoded operands, by name. Output goes to `devices`, or where that of the calling
  process goes.
  """
  @spec perform(atom(), tuple(), [String.t()], keyword() | map(), devices() | nil) :: term()
  def perform(operation, operands, names, opts, devices \\ nil) do
    opts = options!(opts)
    Pythonx.Reloader.check()
    observed(operation, operands, names, opts, devices)
  end

  @doc """
  The same with options that have been checked, after whoever calls has looked for changed files.
  """
  @spec observed(atom(), tuple(), [String.t()], map(), devices() | nil) :: term()
  def observed(operation, operands, names, opts, devices \\ nil) do
    Telemetry.operation(operation, subject(operation, names), fn -> run(operation, operands, names, opts, devices) end)
  end

  # What the operation is about; the names of a call are those of its keywords.
  defp subject(:call, _names), do: nil
  defp subject(_operation, names), do: List.first(names)

  @doc """
  The same as a part of something, with options that have been checked, of which telemetry is not told.
  """
  @spec run(atom(), tuple(), [String.t()], map(), devices() | nil) :: term()
  def run(operation, operands, names, opts, devices \\ nil) do
    opts = %{opts | timeout: Deadline.new(opts.timeout)}
    operands = encode_own(operation, operands, opts)
    devices = devices || devices()

    if opts.decode and rich?(opts) do
      # The one walk that decodes with rich types is that of `decode/2`.
      operation |> submit(operands, names, %{opts | decode: false}, devices, []) |> decode_rich(opts)
    else
      submit(operation, operands, names, opts, devices, [])
    end
  end

  @doc """
  Calls a function of the package's own Python side, and decodes what it returns.
  """
  @spec internal(String.t(), String.t(), tuple(), Deadline.t()) :: term()
  def internal(module, function, arguments, deadline \\ :infinity) do
    opts = %{@defaults | decode: true, timeout: deadline}
    submit(:internal, arguments, [module, function], opts, devices(), [])
  end

  # Functions of a `Pythonx.Module` know what they return, and may be given anything.
  defp rich_arguments?(opts), do: rich?(opts) or Map.get(opts, :rich_arguments, false)

  # Not every function takes the option.
  defp rich?(opts), do: Map.get(opts, :types, :basic) == :rich

  defp decode_rich(%struct{} = object, opts) when struct in [Object, Pythonx.Pool.Object],
    do: Types.decode(object, opts.timeout)

  defp decode_rich(other, _opts), do: other

  # Asked once, and before anything is made: nearly nobody has implementations of their own.
  defp encode_own(operation, operands, opts)
       when operation in [:call, :call_method, :setattr, :getitem, :setitem, :fetch] do
    if Own.types() == 0,
      do: operands,
      else: Home.at(Home.of(operands), fn -> encode_operands(operation, operands, encoding(opts)) end)
  end

  defp encode_own(_operation, operands, _opts), do: operands

  # The first operand is the object; those of calls are in lists.
  defp encode_operands(operation, {object, args, values}, encoding) when operation in [:call, :call_method] do
    {object, Native.encode_own(args, encoding), Native.encode_own(values, encoding)}
  end

  defp encode_operands(_operation, operands, encoding) do
    [object | terms] = Tuple.to_list(operands)
    List.to_tuple([object | Native.encode_own(terms, encoding)])
  end

  defp encoding(opts) do
    [binaries: opts.binaries, types: if(rich_arguments?(opts), do: :rich, else: :basic), timeout: opts.timeout]
  end

  defp submit(operation, operands, names, opts, {out, err, relay} = devices, replacements) do
    arguments = {operands, names, opts.decode, opts.binaries == :str, replacements}

    case NIF.perform(operation, arguments, out, err, relay, opts.timeout) do
      {:deferred, terms} ->
        # What belongs to a worker is encoded there.
        objects = Home.at(Home.of(operands), fn -> Native.encode_deferred(terms, operands, encoding(opts)) end)
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
  The options of calls as a map, checked; such a map stays as it is.
  """
  @spec options!(keyword() | map()) :: map()
  def options!([]), do: defaults()
  def options!(decode: true), do: %{defaults() | decode: true}
  def options!(%{} = checked), do: checked
  def options!(opts), do: Options.validate!(opts, @options)

  # Calls have a default for :binaries of their own.
  defp defaults, do: if(Options.configured?(), do: Options.validate!([], @options), else: @defaults)

  @doc """
  The timeout itself, checked.
  """
  @spec timeout!(term()) :: timeout()
  def timeout!(timeout) do
    Options.check!(:timeout, timeout)
    timeout
  end

  @doc """
  Where output of this process goes.
  """
  @spec devices() :: devices()
  def devices do
    out = Process.group_leader()
    devices({out, Process.whereis(:standard_error) || out})
  end

  @doc """
  The same with two devices that were chosen.
  """
  @spec devices({pid(), pid()}) :: devices()
  def devices({out, err}) do
    relay = relay() || raise "the :pythonx application needs to be started before Python can be called"
    {out, err, relay}
  end

  @doc """
  The process that takes what devices answer; nil where the application has not been started.
  """
  @spec relay() :: pid() | nil
  def relay, do: Process.whereis(Pythonx.Janitor) || (Process.whereis(Pythonx.Supervisor) && await_janitor())

  # It is between a crash and its restart, which the supervisor answers for.
  defp await_janitor do
    _children = Supervisor.which_children(Pythonx.Supervisor)
    Process.whereis(Pythonx.Janitor)
  end
end
