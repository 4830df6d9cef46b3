defmodule Pythonx.Pool.Job do
  # What a worker is asked to do, and how: in a process of its own there.
  #
  # The outcome is `{:ok, result, globals}` or `{:raised, kind, reason, stacktrace}`. Objects in it are kept in the worker
  # and become `Pythonx.Pool.Object`s.
  @moduledoc false

  alias Pythonx.Calls
  alias Pythonx.Pool.{Child, Device, Frame, Memory, Object, Terms}

  @type target :: String.t() | Object.t()

  @type options :: %{
          binaries: :bytes | :str,
          decode: boolean(),
          timeout: timeout(),
          globals: [String.t()] | :all,
          devices: {binary(), binary()}
        }

  @type t ::
          {:eval, code :: String.t(), globals :: %{String.t() => term()}, options()}
          | {:call, target(), args :: list(), kwargs :: keyword() | map(), options()}

  @typedoc "What the worker has: its connection, the globals of the initial code, its limit of memory."
  @type worker :: %{port: port(), init: %{String.t() => Pythonx.Object.t()}, limit: Memory.limit()}

  @doc "Runs a job and writes the reply to the port."
  @spec run(Frame.job(), t(), worker()) :: true
  def run(id, job, %{port: port, init: init, limit: limit}) do
    options = elem(job, tuple_size(job) - 1)
    {out, err} = options.devices
    out = Device.get(out)
    err = if err == elem(options.devices, 0), do: out, else: Device.get(err)
    Process.group_leader(self(), out)
    Child.await_written(port)
    {outcome, first, count} = job |> outcome(init, {out, err}) |> keep_objects()
    Device.flush(out)
    if err != out, do: Device.flush(err)

    if match?({:raised, _, _, _}, outcome) and Memory.short?(limit),
      do: Child.send_frame(port, Frame.from_worker(:spent, id))

    Child.send_frame(port, Frame.reply(id, first, count, outcome))
  end

  defp outcome(job, init, devices) do
    perform(job, init, devices)
  rescue
    # The pool's side has to tell whether the worker is free.
    error in Pythonx.TimeoutError ->
      Child.await_rest()
      {:raised, :error, error, __STACKTRACE__}

    error in Pythonx.Error ->
      {:raised, :error, forget_memory(error), __STACKTRACE__}

    error ->
      {:raised, :error, as_memory_error(error), __STACKTRACE__}
  catch
    kind, reason -> {:raised, kind, reason, __STACKTRACE__}
  end

  # Whoever keeps this error would keep all that has filled the memory, by way of the traceback, and the worker would have
  # none for others. Its text has the traceback already. The last evaluation's globals are kept until the next one. With
  # so little memory any of this may fail, too.
  defp forget_memory(%{lines: lines} = error) do
    if List.last(lines || []) =~ ~r/\A[\w.]*MemoryError\b/ do
      Pythonx.setattr(error.value, "__traceback__", nil)
      Pythonx.eval("", %{})
      %{error | traceback: Pythonx.encode!(nil)}
    else
      error
    end
  rescue
    _another -> %{error | type: nil, value: nil, traceback: nil}
  end

  # What the bridge itself had no memory for: it is as full for the next one as when Python code finds none.
  defp as_memory_error(%ErlangError{original: :enomem}) do
    %Pythonx.Error{type: nil, value: nil, traceback: nil, lines: ["MemoryError\n"]}
  end

  defp as_memory_error(error), do: error

  defp perform({:eval, code, globals, options}, init, {out, err}) do
    eval_options = [
      stdout_device: out,
      stderr_device: err,
      binaries: options.binaries,
      timeout: options.timeout
    ]

    {result, defined} = Pythonx.eval(code, Map.merge(init, globals), eval_options)
    {:ok, finish(result, options), defined |> wanted(options.globals) |> finish_globals(options)}
  end

  defp perform({:call, target, args, kwargs, options}, init, devices) do
    call_options = [binaries: options.binaries, timeout: options.timeout, decode: options.decode]
    {:ok, target |> resolve(init) |> Calls.call(args, kwargs, call_options, Calls.devices(devices)), %{}}
  end

  defp wanted(_defined, []), do: %{}
  defp wanted(defined, :all), do: defined
  defp wanted(defined, names), do: Map.take(defined, names)

  defp finish(nil, _options), do: nil
  defp finish(object, %{decode: true}), do: Pythonx.decode(object)
  defp finish(object, %{decode: false}), do: object

  defp finish_globals(globals, options) do
    Map.new(globals, fn {name, object} -> {name, finish(object, options)} end)
  end

  defp resolve(%Object{} = handle, _init), do: Object.fetch!(handle)

  # A name that the initial code has defined, a builtin, or module.name.
  defp resolve(path, init) do
    case String.split(path, ".") do
      [name] -> Map.get_lazy(init, name, fn -> Pythonx.getattr(Pythonx.import_module("builtins"), name) end)
      [first | rest] -> resolve_dotted(init[first], first, rest)
    end
  end

  defp resolve_dotted(nil, first, rest) do
    {modules, name} = Enum.split([first | rest], -1)
    Enum.reduce(name, import_longest(modules), &Pythonx.getattr(&2, &1))
  end

  defp resolve_dotted(object, _first, rest), do: Enum.reduce(rest, object, &Pythonx.getattr(&2, &1))

  # In "datetime.datetime.now" only the first is a module.
  defp import_longest(names, attributes \\ []) do
    module = Pythonx.import_module(Enum.join(names, "."))
    Enum.reduce(attributes, module, &Pythonx.getattr(&2, &1))
  rescue
    error in Pythonx.Error ->
      if length(names) == 1 or not missing_module?(error), do: reraise(error, __STACKTRACE__)
      {names, [last]} = Enum.split(names, -1)
      import_longest(names, [last | attributes])
  end

  defp missing_module?(error), do: Pythonx.getattr(error.type, "__name__", decode: true) == "ModuleNotFoundError"

  # A raised Python exception holds objects too.
  defp keep_objects(outcome) do
    if Terms.any?(outcome, &is_struct(&1, Pythonx.Object)) do
      first = Object.next_id()
      {outcome, next} = Terms.map_reduce(outcome, first, &keep_object/2)
      Object.advance_ids(next)
      {outcome, first, next - first}
    else
      {outcome, 0, 0}
    end
  end

  defp keep_object(%Pythonx.Object{} = object, id), do: {Object.keep(object, id), id + 1}
  defp keep_object(_other, _id), do: :walk
end
