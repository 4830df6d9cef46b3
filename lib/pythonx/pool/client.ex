defmodule Pythonx.Pool.Client do
  # The caller's side: gets a worker, has it run a job, and makes of the answer what `Pythonx.eval/3` would have returned or
  # raised. Terms are taken apart and put together here, in the caller's own process.
  @moduledoc false

  alias Pythonx.Pool.{Atoms, CrashError, External, Handles, Job, Object, Terms, Worker}
  alias Pythonx.Telemetry

  # How long the process of a worker may take to end.
  @end_ms 500
  # Where a term may have handles in it.
  @handles [Atom.to_string(Object), Atom.to_string(Pythonx.Object)]

  @typedoc "A worker that was checked out, with the time that each evaluation has by default."
  @type lease :: {:lease, GenServer.server(), pid(), reference(), timeout()}

  @doc "Runs a job on a pool, or on a worker that was checked out."
  @spec run(GenServer.server() | lease(), Job.t(), map()) :: {:ok, term(), map()} | {:error, :overloaded}
  def run(pool, job, opts) do
    {sent, worker} = take_handles(job)
    payload = :erlang.term_to_iovec(sent)
    opts = Map.put(opts, :devices, job |> elem(tuple_size(job) - 1) |> Map.fetch!(:devices) |> Tuple.to_list())
    metadata = %{process: self(), pool: pool_of(pool), job: elem(job, 0)}

    try do
      Telemetry.span([:pythonx, :pool, :run], metadata, fn -> run_on(pool, worker, payload, opts) end)
    after
      # What is sent keeps no object alive. The handles in it do, and the caller may need them for nothing else.
      if worker, do: Pythonx.ObjectTracker.identity(job)
    end
  end

  defp pool_of({:lease, pool, _worker, _ref, _timeout}), do: pool
  defp pool_of(pool), do: pool

  defp run_on({:lease, pool, worker, ref, _timeout}, need, payload, opts) do
    if need not in [nil, worker], do: raise_elsewhere!()

    case run_job(pool, worker, ref, payload, %{timeout: opts.timeout, devices: opts.devices, once: false}) do
      # It has died since it was checked out.
      :not_begun -> raise CrashError, reason: :gone
      result -> result
    end
  end

  defp run_on(pool, need, payload, opts) do
    with {:ok, worker, ref} <- checkout(pool, need, opts.queue_timeout, false) do
      case run_job(pool, worker, ref, payload, %{timeout: opts.timeout, devices: opts.devices, once: true}) do
        :not_begun -> run_on(pool, need, payload, opts)
        result -> result
      end
    end
  end

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

  # What has been told to a worker that is not there any more has not begun.
  defp run_job(pool, worker, ref, payload, how) do
    worker |> call_worker(ref, payload, how) |> answer(worker, pool)
  end

  defp call_worker(worker, ref, payload, how) do
    Worker.run(worker, ref, payload, how)
  catch
    :exit, {reason, {GenServer, :call, _args}} when reason in [:noproc, :normal] -> :not_begun
    :exit, {reason, {GenServer, :call, _args}} -> {:crash, {:down, reason}, "", nil}
  end

  defp answer(:not_begun, _worker, _pool), do: :not_begun
  defp answer(:lease_over, _worker, _pool), do: raise("the worker was checked out for a function that has returned")
  defp answer(:busy, _worker, _pool), do: raise("the worker evaluates for another process already")

  defp answer({:crash, reason, stderr, os_pid}, _worker, _pool) do
    raise CrashError, reason: reason, stderr: stderr, os_pid: os_pid
  end

  # What the worker's process could not know of the term without making it is found out here. `Pythonx.Pool.External` has the
  # rule.
  defp answer({:reply, first, count, binary}, worker, pool) do
    with {:ok, term} <- decode(binary, pool), {:ok, outcome} <- adopt(term, binary, worker, first, count) do
      case outcome do
        {:ok, result, globals} when is_map(globals) -> {:ok, result, globals}
        {:raised, kind, reason, stack} -> reraise_here(kind, reason, stack, worker)
        _other -> raise_forged!(worker)
      end
    else
      :error ->
        raise_forged!(worker)

      {:full, name} ->
        drop(worker, first, count)

        raise "the workers of a pool have made #{Atoms.limit()} new atoms, which is the limit, because atoms are never " <>
                "freed: #{inspect(name)}"
    end
  end

  @spec raise_forged!(pid()) :: no_return()
  defp raise_forged!(worker) do
    what = "a damaged term"
    Worker.damaged(worker, what)
    raise CrashError, reason: {:forged, what}
  end

  defp decode(binary, pool) do
    with :error <- to_term(binary, [:safe]),
         {:ok, names} <- External.names(binary),
         :ok <- Atoms.make(pool, names),
         # All that is in it is counted.
         do: to_term(binary, [])
  end

  defp to_term(binary, opts) do
    {:ok, :erlang.binary_to_term(binary, opts)}
  rescue
    _damaged in [ArgumentError, SystemLimitError] -> :error
  end

  # `:erlang.raise/3` returns where it does not like what it is given.
  defp reraise_here(kind, reason, stack, worker) do
    if kind in [:error, :exit, :throw] and is_list(stack) and List.improper?(stack) == false and
         Enum.all?(stack, &entry?/1),
       do: :erlang.raise(kind, reason, stack ++ here()),
       else: raise_forged!(worker)
  end

  defp entry?({module, function, arity, location}) when is_atom(module) and is_atom(function),
    do: (is_list(arity) or arity in 0..255) and Keyword.keyword?(location)

  defp entry?({function, args, location}) when is_function(function), do: is_list(args) and Keyword.keyword?(location)
  defp entry?(_other), do: false

  # Where it happened, and below that how we came there.
  defp here do
    {:current_stacktrace, [_info, _here | stack]} = Process.info(self(), :current_stacktrace)
    stack
  end

  ## Handles

  # From here on the garbage collector of this node decides how long the objects live.
  defp adopt(term, binary, worker, first, count) do
    if count > 0 or :binary.match(binary, @handles) != :nomatch do
      {term, taken} = Terms.map_reduce(term, %{}, &adopt_handle(&1, &2, worker, first, count))

      if map_size(taken) < count,
        do: drop(worker, first, count, taken),
        else: if(count > 0, do: Worker.taken(worker, first))

      {:ok, term}
    else
      {:ok, term}
    end
  rescue
    # A struct that is none, such as a set without its map.
    _damaged in [ArgumentError, BadMapError, FunctionClauseError, Protocol.UndefinedError, KeyError] -> :error
  end

  # One that the reply does not tell of, once only, is no handle to anything: an error may have one of an argument in it.
  defp adopt_handle(%Object{worker: nil, id: id, type: type} = handle, taken, worker, first, count)
       when is_integer(id) and id >= first and id < first + count and not is_map_key(taken, id) and is_binary(type) do
    {%{handle | worker: worker, marker: Handles.marker(worker, id)}, Map.put(taken, id, true)}
  end

  defp adopt_handle(%Object{} = handle, taken, _worker, _first, _count) do
    id = if is_integer(handle.id), do: handle.id, else: 0
    type = if is_binary(handle.type), do: handle.type, else: "object"
    {%Object{worker: nil, marker: nil, id: id, type: type}, taken}
  end

  defp adopt_handle(%Pythonx.Object{}, _taken, _worker, _first, _count), do: raise(ArgumentError, "forged")
  defp adopt_handle(_other, _taken, _worker, _first, _count), do: :walk

  # Lets go of the objects of a reply that nobody has taken.
  defp drop(worker, first, count, taken \\ %{}) do
    if count > 0 do
      Worker.taken(worker, first)
      send(worker, {:release, for(id <- first..(first + count - 1), not is_map_key(taken, id), do: id)})
    end
  end

  # The job with handles as the worker knows them, and the worker that they are in.
  defp take_handles(job) do
    if Terms.any?(job, &(is_struct(&1, Object) or is_struct(&1, Pythonx.Object))),
      do: Terms.map_reduce(job, nil, &take_handle/2),
      else: {job, nil}
  end

  defp take_handle(%Object{worker: nil} = handle, _needed) do
    raise ArgumentError, "#{inspect(handle)} lives in a worker of a pool, and only there it can be used"
  end

  defp take_handle(%Object{worker: worker} = handle, needed) when needed in [nil, worker] do
    {%{handle | worker: nil, marker: nil}, worker}
  end

  defp take_handle(%Object{}, _needed), do: raise_elsewhere!()

  defp take_handle(%Pythonx.Object{}, _needed) do
    raise ArgumentError,
          "a Pythonx.Object belongs to the Python of this VM and cannot be used in a worker of a pool. Decode it, or " <>
            "evaluate in the pool what it was made by"
  end

  defp take_handle(_other, _needed), do: :walk

  @spec raise_elsewhere!() :: no_return()
  defp raise_elsewhere! do
    raise ArgumentError,
          "the objects are in different workers, and each can be used in its own only. Evaluations of one " <>
            "Pythonx.Pool.run/3 have the same worker"
  end

  ## What the caller's process is to the worker

  @doc "The time that an evaluation has unless it is told."
  @spec default_timeout(GenServer.server() | lease()) :: timeout()
  def default_timeout({:lease, _pool, _worker, _ref, timeout}), do: timeout
  def default_timeout(_pool), do: :infinity

  @doc "The devices for standard output and standard error of this process, in a form for `Job`."
  @spec devices(keyword()) :: {binary(), binary()}
  def devices(opts) do
    out = device!(:stdout_device, opts[:stdout_device] || Process.group_leader())
    err = device!(:stderr_device, opts[:stderr_device] || Process.whereis(:standard_error) || out)
    {:erlang.term_to_binary(out), :erlang.term_to_binary(err)}
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
    with {:ok, worker, ref} <- checkout(pool, nil, opts.queue_timeout, true) do
      if answers?(worker, ref),
        do: call_with({:lease, pool, worker, ref, opts.timeout}, fun),
        else: with_worker(pool, opts, fun)
    end
  end

  # A worker may have died of what ran in it before, and nobody knows yet. That is not for the function to find out.
  defp answers?(worker, ref) do
    call_worker(worker, ref, [], %{timeout: :infinity, devices: [], once: false}) != :not_begun
  end

  defp call_with({:lease, pool, worker, ref, _timeout} = lease, fun) do
    {:ok, fun.(lease)}
  after
    # The pool hears from the worker when it is free. That this process holds it no more, it must know before it is asked for
    # the next one.
    GenServer.cast(pool, {:returned, worker, ref})
    Worker.end_lease(worker, ref)
  end
end
