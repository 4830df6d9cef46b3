defmodule Pythonx.Calls.Callbacks do
  @moduledoc false

  # Elixir functions that Python calls. For each call this process starts another, the handler, and is linked to it:
  # when a handler dies its call is answered all the same, and none survives this process.
  #
  # A handler ends with the process that evaluates, as a linked process would: when that is killed or fails. For calls of
  # threads of the bridge the native side sees to that, by cancelling the job. For those of other threads, and of
  # coroutines, the process is monitored here. A thread that goes on after its evaluation has returned may call all the same.
  #
  # The native side of it, and who owns what: c_src/bridge/threads/call.hpp.
  #
  # Each worker of a pool has such a process too, for the functions of this VM that its Python calls.

  use GenServer

  alias Pythonx.Conversion.Own
  alias Pythonx.NIF
  alias Pythonx.Pool.{Home, Remote, Resource}

  # In the process dictionary of who works for a call of a worker's.
  @in_worker :"$pythonx_in_worker"

  @spec start_link(term()) :: GenServer.on_start()
  def start_link(:of_worker), do: GenServer.start_link(__MODULE__, nil)
  def start_link(_opts), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)

  # `calls` and `handlers` hold the same entries, by the id of the call and by the handler's pid. `monitors` are those of
  # callers, with the handlers that end with them.
  @impl true
  def init(nil) do
    Process.flag(:trap_exit, true)
    {:ok, %{handlers: %{}, calls: %{}, monitors: %{}}}
  end

  @impl true
  def handle_info({:pythonx_call, id, call, caller, device, tied}, state) do
    case start_handler(call, caller, device) do
      {:ok, pid} ->
        monitor = if tied, do: Process.monitor(caller)
        handlers = Map.put(state.handlers, pid, {id, call, monitor})
        state = %{state | handlers: handlers, calls: Map.put(state.calls, id, pid)}
        {:noreply, if(monitor, do: put_in(state.monitors[monitor], {pid, call}), else: state)}

      {:error, error} ->
        give(call, error(:error, error, []))
        {:noreply, state}
    end
  end

  def handle_info({:pythonx_cancel, id}, state) do
    with {:ok, pid} <- Map.fetch(state.calls, id), do: Process.exit(pid, :kill)
    {:noreply, state}
  end

  # Python asks whether an awaitable can ever be done: not when the loop waits for a function (`id`) that `process` works
  # for. See `_ask_whether_stuck` in priv/python/pythonx/_loop.py.
  def handle_info({:pythonx_awaits, id, process, key}, state) do
    handler = state.calls[id]
    # Elsewhere: it asks a process that may be busy, and Python.
    elsewhere(fn -> decide(key, handler != nil and handler in [process | callers_of(process)]) end)
    {:noreply, state}
  end

  def handle_info({:DOWN, monitor, :process, _caller, reason}, state) do
    {gone, monitors} = Map.pop(state.monitors, monitor)
    with {pid, call} <- gone, do: if(ends?(call, reason), do: Process.exit(pid, :kill))
    {:noreply, %{state | monitors: monitors}}
  end

  def handle_info({:EXIT, pid, reason}, state) do
    case Map.pop(state.handlers, pid) do
      {{id, call, monitor}, handlers} ->
        if monitor, do: Process.demonitor(monitor, [:flush])
        # The first answer counts, so this one is for a handler that died before it could give any.
        give(call, error(:exit, reason, []))
        monitors = Map.delete(state.monitors, monitor)
        {:noreply, %{state | handlers: handlers, calls: Map.delete(state.calls, id), monitors: monitors}}

      {nil, _handlers} ->
        {:noreply, state}
    end
  end

  def handle_info(_unknown, state), do: {:noreply, state}

  # A VM that has no process left must not lose this one, and with it the calls of everybody.
  defp start_handler(call, caller, device) do
    {:ok, spawn_link(__MODULE__, :handle, [call, caller, device])}
  rescue
    error in SystemLimitError -> {:error, error}
  end

  defp give(call, answer) do
    if at_home(call, fn -> answer_call(call, answer) end) == :async, do: elsewhere(fn -> resolve(call) end)
  catch
    # The worker is gone, and nobody waits any more.
    kind, _reason when kind in [:error, :exit] and is_struct(call) -> :ok
  end

  defp answer_call(%Resource{} = call, answer) do
    Remote.call(Home.of({call}), :answer_call, [call, answer])
  rescue
    # There are objects in it that live elsewhere.
    error in ArgumentError ->
      Remote.call(Home.of({call}), :answer_call, [call, elixir_error(:error, error, __STACKTRACE__)])
  end

  defp answer_call(call, answer), do: NIF.answer_call(call, answer)

  defp begin_call(%Resource{} = call), do: Remote.call(Home.of({call}), :begin_call, [call])
  defp begin_call(call), do: NIF.begin_call(call)

  # What is done for a call of a worker's needs no lease.
  defp at_home(%Resource{worker: worker}, fun) do
    Process.put(@in_worker, true)
    Home.with_access(worker, :nested, fun)
  end

  defp at_home(_call, fun), do: fun.()

  @doc """
  Does something in a process of its own, since it may take its time; where none can be started, here.
  """
  @spec elsewhere((-> term())) :: pid() | :ok
  def elsewhere(fun) do
    spawn(fun)
  rescue
    SystemLimitError -> attempt(fun)
  end

  defp attempt(fun) do
    fun.()
    :ok
  catch
    _kind, _reason -> :ok
  end

  # A caller may have ended before it was watched: well, if the evaluation has returned to it.
  defp ends?(_call, :normal), do: false
  defp ends?(%Resource{}, :noproc), do: false
  defp ends?(call, :noproc), do: NIF.caller_waits?(call)
  defp ends?(_call, _reason), do: true

  defp decide(key, stuck), do: Pythonx.Calls.internal("pythonx._loop", "decide", {key, stuck})

  ## In the handler

  @doc false
  @spec handle(reference(), pid() | nil, Pythonx.device() | nil) :: :ok
  def handle(call, caller, device) do
    if is_pid(device), do: Process.group_leader(self(), device)
    if caller, do: Process.put(:"$callers", [caller | callers_of(caller)])

    at_home(call, fn ->
      {function, arguments, binaries_as_str} = begin_call(call)
      answer = answer(function, arguments, binaries_as_str, Home.of({call}))
      if answer_call(call, answer) == :async, do: resolve(call)
    end)

    :ok
  end

  # No thread waits for the answer of a coroutine's call, so this takes one to hand it over.
  defp resolve(call), do: at_home(call, fn -> NIF.call("resolve_call", {call}) end)

  # The chain of a Task goes on through the process that it called Python from.
  defp callers_of(caller) do
    with {:dictionary, dictionary} <- Process.info(caller, :dictionary),
         {_key, callers} <- List.keyfind(dictionary, :"$callers", 0) do
      callers
    else
      _none -> []
    end
  end

  defp answer(function, arguments, binaries_as_str, home) do
    if is_function(function, length(arguments)) do
      run(function, arguments, binaries_as_str, home)
    else
      {:type_error, arity_text(function, length(arguments))}
    end
  end

  # Only what it returns belongs where it was called.
  defp run(function, arguments, binaries_as_str, home) do
    result = apply(function, arguments)
    {:ok, Home.at(home, fn -> encode(result, binaries_as_str) end)}
  catch
    kind, reason -> error(kind, reason, __STACKTRACE__)
  end

  # What needs no protocol and takes no time is encoded by the thread that waits.
  defp encode(result, binaries_as_str) when is_number(result) or is_atom(result) or is_binary(result) do
    if Own.member?(Own.types(), result), do: encode_here(result, binaries_as_str), else: result
  end

  defp encode(result, binaries_as_str), do: encode_here(result, binaries_as_str)

  defp encode_here(result, true), do: Pythonx.encode!(result, binaries: :str)
  defp encode_here(result, false), do: Pythonx.encode!(result)

  defp arity_text(function, count) do
    {:arity, arity} = Function.info(function, :arity)
    "the Elixir function takes #{arity} positional #{plural("argument", arity)}, but #{count} #{was(count)} given"
  end

  defp plural(word, 1), do: word
  defp plural(word, _count), do: word <> "s"

  defp was(1), do: "was"
  defp was(_count), do: "were"

  ## What went wrong

  # A Python exception that comes from an evaluation in the function goes on as it is.
  defp error(:error, %Pythonx.Error{value: value} = error, stacktrace) do
    if at_home?(value), do: {:python, value}, else: elixir_error(:error, foreign(error), stacktrace)
  end

  defp error(kind, reason, stacktrace), do: elixir_error(kind, reason, stacktrace)

  # Whether the exception lives where it is to be raised again.
  defp at_home?(%Pythonx.Pool.Object{worker: worker}), do: Home.access(worker) == :nested
  defp at_home?(value), do: Process.get(@in_worker) == nil and NIF.local_object?(value)

  # Its objects mean nothing there.
  defp foreign(error),
    do: if(Process.get(@in_worker), do: %{error | type: nil, value: nil, traceback: nil}, else: error)

  defp elixir_error(:error, reason, stacktrace) do
    exception = Exception.normalize(:error, reason, stacktrace)
    class = inspect(exception.__struct__)
    {:error, class, Exception.message(exception), text(stacktrace), {:error, exception, stacktrace}}
  end

  defp elixir_error(kind, reason, stacktrace) do
    {:error, Atom.to_string(kind), inspect(reason), text(stacktrace), {kind, reason, stacktrace}}
  end

  defp text([]), do: ""
  defp text(stacktrace), do: Exception.format_stacktrace(stacktrace)
end
