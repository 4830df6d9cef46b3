defmodule Pythonx.Pool.Client do
  # The caller's side: gets a worker, has it run a job, and makes of the answer what `Pythonx.eval/3` would have returned or
  # raised.
  @moduledoc false

  alias Pythonx.Calls
  alias Pythonx.Conversion.{Native, Own, Types}
  alias Pythonx.NIF.Job
  alias Pythonx.Pool.{CrashError, Home, Object, Remote, Worker}
  alias Pythonx.Telemetry

  # How long the process of a worker may take to end.
  @end_ms 500

  @typedoc "A worker that was checked out, with the time that each evaluation has by default."
  @type lease :: {:lease, pid(), pid(), reference(), timeout()}

  @type job ::
          {:eval, code :: String.t(), location :: {String.t(), pos_integer()}, globals :: %{String.t() => term()}}
          | {:call, String.t() | Object.t(), args :: list(), kwargs :: keyword() | map()}

  @doc "Runs a job on a pool, or on a worker that was checked out. Returns the result and the globals asked for."
  @spec run(GenServer.server() | lease(), job(), map()) :: {:ok, term(), map()} | {:error, :overloaded}
  def run(pool, job, opts) do
    metadata = %{process: self(), pool: pool_of(pool), job: elem(job, 0)}

    try do
      Telemetry.span([:pythonx, :pool, :run], metadata, fn -> pool |> run_on(job, [], opts) |> result(opts) end)
    after
      # What is sent keeps no object alive. The handles in it do, and the caller may need them for nothing else.
      Pythonx.ObjectTracker.identity(job)
    end
  end

  defp pool_of({:lease, pool, _worker, _ref, _timeout}), do: pool
  defp pool_of(pool), do: pool

  ## Requests

  defp run_on({:lease, pool, worker, ref, _timeout}, job, replacements, opts) do
    home = {worker, pool}
    prepared = home |> encode_own(ref, job, opts) |> prepare(replacements, opts)

    case Remote.request_prepared(home, {:held, ref}, :submit, prepared, opts.timeout, opts.named) do
      # It has died since it was checked out.
      :not_begun -> raise CrashError, reason: :gone
      :timeout -> Calls.Deadline.give_up!(opts.timeout)
      {:ok, reply} -> go_on(reply, home, {:held, ref}, job, opts)
    end
  end

  defp run_on(pool, job, [], opts) do
    {_ref, {_pieces, _content, need, _functions}} = prepared = prepare(job, [], opts)
    if Own.types() == 0, do: run_at_once(pool, job, need, prepared, opts), else: run_held(pool, job, need, opts)
  end

  # Somebody has implementations of their own for built-in types, which are asked with the worker in hand.
  defp run_held(pool, job, need, opts) do
    with {:ok, worker, ref, manager} <- checkout(pool, need, opts.queue_timeout, false) do
      try do
        run_on({:lease, manager, worker, ref, :infinity}, job, [], opts)
      after
        Worker.end_lease(worker, ref)
      end
    end
  end

  defp run_at_once(pool, job, need, prepared, opts) do
    with {:ok, worker, ref, manager} <- checkout(pool, need, opts.queue_timeout, false) do
      home = {worker, manager}

      case Remote.request_prepared(home, {:once, ref}, :submit, prepared, opts.timeout, opts.named) do
        :not_begun -> run_on(pool, job, [], opts)
        :timeout -> Calls.Deadline.give_up!(opts.timeout)
        {:ok, reply} -> go_on(reply, home, {:once, ref}, job, opts)
      end
    end
  end

  # What only the protocol can encode is encoded by it, with the worker in hand, and put into its place by a second request.
  defp go_on({:deferred, terms}, {worker, pool} = home, {mode, ref}, job, opts) do
    replacements = encoded(home, ref, fn -> Native.encode_deferred(terms, root(job), encoding(opts)) end)

    run_on({:lease, pool, worker, ref, :infinity}, job, replacements, opts)
  after
    if mode == :once, do: Worker.end_lease(worker, ref)
  end

  defp go_on(reply, {worker, _pool} = home, {_mode, ref}, job, opts) do
    reply = with({:observed, reply, times} <- reply, do: tap(reply, fn _ -> Telemetry.note(times) end))
    {reply, home, ref, job, worker, opts}
  end

  defp root({:eval, _code, _location, globals}), do: globals
  defp root({:call, _function, args, kwargs}), do: {args, elem(Calls.keywords!(kwargs), 1)}

  defp encode_own(home, ref, job, opts) do
    if Own.types() == 0, do: job, else: encoded(home, ref, fn -> encode_own(job, encoding(opts)) end)
  end

  defp encode_own({:eval, code, location, globals}, opts) do
    {names, values} = Enum.unzip(globals)
    {:eval, code, location, names |> Enum.zip(Native.encode_own(values, opts)) |> Map.new()}
  end

  defp encode_own({:call, function, args, kwargs}, opts) do
    {names, values} = Calls.keywords!(kwargs)
    {:call, function, Native.encode_own(args, opts), names |> Enum.zip(Native.encode_own(values, opts)) |> Map.new()}
  end

  defp encoded({worker, _pool} = home, ref, fun) do
    Home.with_access(worker, {:lease, ref}, fn -> Home.at(home, fun) end)
  end

  defp prepare({:eval, code, {file, line}, globals}, replacements, opts) do
    {names, values} = Enum.unzip(globals)
    wanted = if opts.globals == :all, do: true, else: opts.globals
    decode? = opts.decode and opts.types == :basic
    how = {decode?, opts.binaries == :str, replacements, wanted}
    {out, err} = opts.devices
    arguments = [code, file, line, {names, values}, how, out, err, nil]
    Remote.prepare(:submit, :submit_values, arguments)
  end

  defp prepare({:call, function, args, kwargs}, replacements, opts) do
    {names, values} = Calls.keywords!(kwargs)
    decode? = opts.decode and opts.types == :basic
    {out, err} = opts.devices

    {operation, operands, names} =
      case function do
        %Object{} -> {:call, {function, args, values}, names}
        path -> {:call_path, {args, values}, [path | names]}
      end

    arguments = {operands, names, decode?, opts.binaries == :str, replacements}
    Remote.prepare(:submit, :submit_object, [operation, arguments, out, err, nil])
  end

  defp encoding(opts), do: [binaries: opts.binaries, types: opts.types, timeout: :infinity]

  ## Replies

  defp result({:error, :overloaded} = refused, _opts), do: refused
  defp result({:ok, _result, _globals} = done, _opts), do: done

  defp result({reply, home, ref, job, worker, _opts}, opts) do
    case reply do
      {:ok, result, globals, relayed} when is_map(globals) and is_boolean(relayed) ->
        await_relay(relayed, worker)

        {:ok, rich(result, home, ref, opts),
         Map.new(globals, fn {name, value} -> {name, rich(value, home, ref, opts)} end)}

      {:ok, result, relayed} when is_boolean(relayed) ->
        await_relay(relayed, worker)
        {:ok, rich(result, home, ref, opts), %{}}

      {:python_error, error, relayed} when is_boolean(relayed) ->
        await_relay(relayed, worker)
        raise_python!(error, worker)

      {:python_error, error} ->
        raise_python!(error, worker)

      {:encoding_error, error} ->
        raise_encoding!(error, job, worker, opts)

      {:argument_error, text} when is_binary(text) ->
        raise ArgumentError, text

      # What the bridge itself had no memory for: it is as full for the next one as when Python code finds none.
      {:raise, :enomem} ->
        raise %Pythonx.Error{type: nil, value: nil, traceback: nil, lines: ["MemoryError\n"]}

      {:raise, reason} ->
        :erlang.error(reason)

      {:error, :cancelled} ->
        raise "the Python interpreter is shutting down"

      _other ->
        Remote.raise_forged!(worker)
    end
  end

  defp rich(%Object{} = object, _home, _ref, %{decode: true, types: :rich}), do: Types.decode(object)
  defp rich(value, _home, _ref, _opts), do: value

  # What the relay passes on has been handed to its device once the relay has answered.
  defp await_relay(false, _worker), do: :ok
  defp await_relay(true, worker), do: GenServer.call({Pythonx.Janitor, node(worker)}, :ping, :infinity)

  defp raise_encoding!(error, job, worker, opts) do
    raise_python!(error, worker)
  rescue
    error in Pythonx.Error -> reraise Native.with_place(error, root(job), opts.binaries == :str), __STACKTRACE__
  end

  defp raise_python!({lines, _type, _value, _traceback} = error, worker) do
    if is_list(lines) and Enum.all?(lines, &is_binary/1),
      do: Job.raise_error!({:python_error, error}),
      else: Remote.raise_forged!(worker)
  end

  # `:erlang.raise/3` returns where it does not like what it is given.
  defp raise_python!({_lines, _type, _value, _traceback, {kind, reason, stack}}, worker) do
    if kind in [:error, :exit, :throw] and is_list(stack) and List.improper?(stack) == false and
         Enum.all?(stack, &entry?/1),
       do: :erlang.raise(kind, reason, stack),
       else: Remote.raise_forged!(worker)
  end

  defp raise_python!(_other, worker), do: Remote.raise_forged!(worker)

  defp entry?({module, function, arity, location}) when is_atom(module) and is_atom(function),
    do: (is_list(arity) or arity in 0..255) and Keyword.keyword?(location)

  defp entry?({function, args, location}) when is_function(function), do: is_list(args) and Keyword.keyword?(location)
  defp entry?(_other), do: false

  ## Workers

  # Gets a worker, the one that has the objects if there are any. `hold?` says that it is for a function.
  defp checkout(pool, need, queue_timeout, hold?) do
    case GenServer.call(pool, {:checkout, need, queue_timeout, hold?}, :infinity) do
      {:error, :gone} -> raise CrashError, reason: :gone
      {:error, :unknown} -> raise_not_there!(need)
      {:error, :deadlock} -> raise_deadlock!()
      {:error, :stopping} -> exit({:shutdown, {__MODULE__, :checkout, [pool]}})
      other -> other
    end
  end

  # One of this pool that has ended is soon seen to be dead, if it is not yet.
  @spec raise_not_there!(pid()) :: no_return()
  defp raise_not_there!(worker) do
    monitor = Process.monitor(worker)

    receive do
      {:DOWN, ^monitor, :process, ^worker, _reason} -> raise CrashError, reason: :gone
    after
      @end_ms ->
        Process.demonitor(monitor, [:flush])
        raise ArgumentError, "the object is in a worker of another pool, and can be used in that pool only"
    end
  end

  @spec raise_deadlock!() :: no_return()
  defp raise_deadlock! do
    raise "this would wait for ever: all workers that it could get are held by functions of Pythonx.Pool.run/3 that wait " <>
            "for workers themselves. Such a function evaluates with the worker that it is given"
  end

  @doc "Calls a function with the way to use the worker of an object for one request, when its turn has come."
  @spec with_object(pid(), pid(), (Remote.access() -> result)) :: result when result: term()
  def with_object(pool, worker, fun) do
    case checkout_of(pool, worker) do
      {:ok, ^worker, ref, _manager} ->
        reply = fun.({:once, ref})
        # The lease is over with any other.
        if match?({:deferred, _terms}, reply), do: Worker.end_lease(worker, ref)
        reply
    end
  end

  defp checkout_of(pool, worker) do
    checkout(pool, worker, :infinity, false)
  catch
    :exit, {reason, {GenServer, :call, _args}} when reason in [:noproc, :normal, :shutdown] ->
      raise CrashError, reason: :gone
  end

  ## What the caller's process is to the worker

  @doc "The time that an evaluation has unless it is told."
  @spec default_timeout(GenServer.server() | lease()) :: timeout()
  def default_timeout({:lease, _pool, _worker, _ref, timeout}), do: timeout
  def default_timeout(_pool), do: :infinity

  @doc "The devices for standard output and standard error of this process."
  @spec devices(keyword()) :: {Pythonx.device(), Pythonx.device()}
  def devices(opts) do
    out = device!(:stdout_device, opts[:stdout_device] || Process.group_leader())
    err = device!(:stderr_device, opts[:stderr_device] || Process.whereis(:standard_error) || out)
    {out, err}
  end

  defp device!(_option, pid) when is_pid(pid), do: pid
  defp device!(_option, {name, node} = device) when is_atom(name) and is_atom(node), do: device

  defp device!(option, name) when is_atom(name) do
    Process.whereis(name) ||
      raise ArgumentError,
            "expected #{inspect(option)} to be a device, but no process is registered as #{inspect(name)}"
  end

  defp device!(option, other) do
    raise ArgumentError,
          "expected #{inspect(option)} to be a pid, a registered name or {name, node}, got: #{inspect(other)}"
  end

  @doc "Calls a function with a worker that this process has alone."
  @spec with_worker(GenServer.server(), map(), (lease() -> result)) :: {:ok, result} | {:error, :overloaded}
        when result: term()
  def with_worker(pool, opts, fun) do
    with {:ok, worker, ref, manager} <- checkout(pool, nil, opts.queue_timeout, true) do
      if answers?(worker, manager, ref),
        do: call_with({:lease, manager, worker, ref, opts.timeout}, fun),
        else: with_worker(pool, opts, fun)
    end
  end

  # A worker may have died of what ran in it before, and nobody knows yet. That is not for the function to find out.
  defp answers?(worker, manager, ref) do
    prepared = Remote.prepare(:call, :worker_echo, [:alive])
    Remote.request_prepared({worker, manager}, {:held, ref}, :call, prepared, :infinity) == {:ok, :alive}
  rescue
    CrashError -> false
  end

  defp call_with({:lease, pool, worker, ref, _timeout} = lease, fun) do
    {:ok, Home.with_access(worker, {:lease, ref}, fn -> fun.(lease) end)}
  after
    # The pool hears from the worker when it is free. That this process holds it no more, it must know before it is asked for
    # the next one.
    GenServer.cast(pool, {:returned, worker, ref})
    Worker.end_lease(worker, ref)
  end
end
