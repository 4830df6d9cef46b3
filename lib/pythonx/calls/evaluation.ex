defmodule Pythonx.Calls.Evaluation do
  @moduledoc false

  # What an evaluation is given, checked and made ready: options, names, values and the devices of its output. See
  # c_src/bridge/work/eval.cpp for the other side.

  alias Pythonx.Calls
  alias Pythonx.Calls.{Deadline, Options}
  alias Pythonx.Conversion
  alias Pythonx.NIF
  alias Pythonx.Object
  alias Pythonx.Telemetry

  @devices [:stdout_device, :stderr_device]

  # Told apart from the others, because callers match on the text of the error for an unknown key, which lists exactly
  # those above.
  @additional [:binaries, :types, :timeout]

  @defaults %{stdout_device: nil, stderr_device: nil, binaries: :bytes, types: :basic, timeout: :infinity}

  @typedoc "For standard output and standard error."
  @type devices :: {Pythonx.device(), Pythonx.device()}

  @doc """
  Evaluates code; see `Pythonx.eval/3`.
  """
  @spec eval(String.t(), %{String.t() => term()}, keyword()) :: {Object.t() | nil, %{String.t() => Object.t()}}
  def eval(code, globals, opts) do
    location = Pythonx.Sigil.take_location(code) || {"<string>", 1}
    relay = relay!()
    opts = opts |> options!() |> Map.update!(:timeout, &Deadline.new/1)
    globals = encode!(globals, opts)
    {out, err} = devices!(opts)
    Pythonx.Reloader.check()

    Telemetry.span([:pythonx, :eval], %{process: self(), code: code}, fn ->
      NIF.eval(code, location, globals, out, err, relay, opts.timeout)
    end)
  end

  @doc """
  Evaluates code in the module of a `Pythonx.Session`, in which the names stay. Returns the result alone.
  """
  @spec eval_in(Object.t(), String.t(), %{String.t() => term()}, keyword()) :: Object.t() | nil
  def eval_in(session, code, globals, opts) do
    relay = relay!()
    opts = opts |> options!() |> Map.update!(:timeout, &Deadline.new/1)
    globals = encode!(globals, opts)
    {out, err} = devices!(opts)

    {result, _names} =
      Telemetry.span([:pythonx, :eval], %{process: self(), code: code}, fn ->
        NIF.eval(code, {"<string>", 1}, {session, globals}, out, err, relay, opts.timeout)
      end)

    result
  end

  @doc """
  For an evaluation elsewhere: its options and devices, checked, and the process that takes what the devices answer.
  """
  @spec prepare!(map(), keyword()) :: {map(), Calls.devices()}
  def prepare!(globals, opts) do
    relay = relay!()
    {opts, {out, err}} = check!(globals, opts)
    {opts, {out, err, relay}}
  end

  @doc """
  The same for one that has such a process of its own.
  """
  @spec check!(map(), keyword()) :: {map(), devices()}
  def check!(globals, opts) do
    opts = options!(opts)
    check_names!(globals)
    devices = devices!(opts)
    {Map.drop(opts, @devices), devices}
  end

  defp relay!, do: Calls.relay() || raise("the :pythonx application needs to be started before calling Pythonx.eval/3")

  defp options!([]), do: Options.configured(@defaults)

  defp options!(opts) do
    documented = if Keyword.keyword?(opts), do: Keyword.drop(opts, @additional), else: opts
    Keyword.validate!(documented, @devices)
    opts = @defaults |> Options.configured() |> Map.merge(Map.new(opts))
    for option <- @additional, do: Options.check!(option, Map.fetch!(opts, option))
    opts
  end

  defp encode!(globals, _opts) when map_size(globals) == 0, do: globals

  defp encode!(globals, opts) do
    check_names!(globals)
    opts = [binaries: opts.binaries, types: opts.types, timeout: opts.timeout]
    Map.new(globals, fn {name, value} -> {name, encode_global!(name, value, opts)} end)
  end

  defp encode_global!(name, value, opts) do
    Conversion.encode(value, opts)
  rescue
    error in Protocol.UndefinedError -> reraise Conversion.Native.in_global(error, name), __STACKTRACE__
  end

  defp check_names!(globals) do
    for {name, _value} <- globals, not is_binary(name) do
      raise ArgumentError, "expected globals keys to be strings, got: #{inspect(name)}"
    end
  end

  defp devices!(opts) do
    out = device!(:stdout_device, opts.stdout_device || Process.group_leader())
    err = device!(:stderr_device, opts.stderr_device || Process.whereis(:standard_error) || Process.group_leader())
    {out, err}
  end

  # Names are looked up now, in the caller, where the one who gave a wrong one can be told.
  defp device!(_option, pid) when is_pid(pid), do: pid

  defp device!(option, name) when is_atom(name) do
    Process.whereis(name) ||
      raise ArgumentError,
            "expected #{inspect(option)} to be a device, but no process is registered as #{inspect(name)}"
  end

  defp device!(_option, {name, node} = device) when is_atom(name) and is_atom(node), do: device

  defp device!(option, other) do
    raise ArgumentError,
          "expected #{inspect(option)} to be a pid, a registered name or {name, node}, got: #{inspect(other)}"
  end
end
