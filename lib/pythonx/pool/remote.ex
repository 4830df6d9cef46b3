defmodule Pythonx.Pool.Remote do
  # The native functions of the bridge in a worker, called from here: in the caller's own process terms are taken apart and put
  # together.
  @moduledoc false

  alias Pythonx.Calls.Deadline
  alias Pythonx.Pool.{Atoms, Client, CrashError, Exchange, External, Home, Worker}

  @typedoc "How a worker is used: for a lease, once or on, nested or by what starts it."
  @type access :: {:once | :held, reference()} | :nested | :boot

  @doc "Submits a job, as `Pythonx.NIF.submit_call/3` and its like do, and returns its reply."
  @spec submit(Home.t(), atom(), list(), Deadline.t(), [Pythonx.device()]) :: term()
  def submit(home, function, arguments, deadline \\ :infinity, devices \\ []) do
    use_worker(home, fn access -> request(home, access, :submit, function, arguments, deadline, devices) end)
  end

  @doc "Calls a native function that returns at once."
  @spec call(Home.t(), atom(), list()) :: term()
  def call(home, function, arguments) do
    use_worker(home, fn access -> request(home, access, :call, function, arguments, :infinity) end)
  end

  defp use_worker({worker, pool}, fun) do
    case Home.access(worker) do
      {:lease, lease} -> fun.({:held, lease})
      access when access != nil -> fun.(access)
      nil -> Client.with_object(pool, worker, fun)
    end
  end

  @doc "The same with a worker that may be used so."
  @spec request(Home.t(), access(), :submit | :call, atom(), list(), Deadline.t(), [Pythonx.device()]) :: term()
  def request(home, access, kind, function, arguments, deadline, devices \\ []) do
    case request_prepared(home, access, kind, prepare(kind, function, arguments), Deadline.left(deadline), devices) do
      {:ok, reply} -> reply
      :timeout -> Deadline.give_up!(deadline)
      :not_begun -> raise CrashError, reason: :gone
    end
  end

  @doc "A request made ready, with the number that its reply comes with."
  @spec prepare(:submit | :call, atom(), list()) :: {pos_integer() | nil, Exchange.prepared()}
  def prepare(:submit, function, arguments) do
    # A reference of this node would be that of another, should this one get a name meanwhile.
    tag = System.unique_integer([:positive])
    {tag, Exchange.prepare({function, self(), [tag | arguments]})}
  end

  def prepare(:call, function, arguments), do: {nil, Exchange.prepare({function, self(), arguments})}

  @doc "Makes a request that has been made ready."
  @spec request_prepared(Home.t(), access(), :submit | :call, {pos_integer() | nil, Exchange.prepared()}, timeout(), [
          term()
        ]) ::
          {:ok, term()} | :timeout | :not_begun
  def request_prepared({worker, pool}, access, kind, {tag, {pieces, content, need, functions}}, timeout, devices \\ []) do
    if need not in [nil, worker], do: Exchange.raise_elsewhere!()
    {mode, lease} = if is_tuple(access), do: access, else: {access, nil}

    how = %{
      kind: kind,
      mode: mode,
      timeout: timeout,
      prefix: if(tag, do: prefix(tag), else: ""),
      content: content,
      devices: devices,
      functions: functions
    }

    worker |> run(lease, pieces, how) |> answer(worker, pool, tag)
  end

  # What the reply's message begins with: {caller, {tag, reply}}.
  defp prefix(tag) do
    bytes = :erlang.term_to_binary({self(), {tag, []}})
    binary_part(bytes, 0, byte_size(bytes) - 1)
  end

  # What has been told to a worker that is not there any more has not begun.
  defp run(worker, lease, pieces, how) do
    Worker.run(worker, lease, pieces, how)
  catch
    :exit, {reason, {GenServer, :call, _args}} when reason in [:noproc, :normal] -> :not_begun
    :exit, {reason, {GenServer, :call, _args}} -> {:crash, {:down, reason}, "", nil}
  end

  defp answer(:not_begun, _worker, _pool, _tag), do: :not_begun
  defp answer(:timeout, _worker, _pool, _tag), do: :timeout

  defp answer(:lease_over, _worker, _pool, _tag),
    do: raise("the worker was checked out for a function that has returned")

  defp answer(:busy, _worker, _pool, _tag), do: raise("the worker evaluates for another process already")

  defp answer({:crash, reason, stderr, os_pid}, _worker, _pool, _tag) do
    raise CrashError, reason: reason, stderr: stderr, os_pid: os_pid
  end

  # What the worker's process could not know of the term without making it is found out here. `Pythonx.Pool.External` has the
  # rule.
  defp answer({:reply, id, creation, count, content, bytes}, worker, pool, tag) do
    origin = %{worker: worker, pool: pool, creation: creation, functions: :ask}

    with {:ok, term} <- External.decode(bytes, pool),
         {:ok, term} <- adopt(term, count, content, origin),
         {:ok, reply} <- reply(term, tag, worker) do
      if count > 0, do: Worker.taken(worker, id)
      {:ok, reply}
    else
      {:full, name} ->
        raise "the workers of a pool have made #{Atoms.limit()} new atoms, which is the limit, because atoms are never " <>
                "freed: #{inspect(name)}"

      _damaged ->
        raise_forged!(worker)
    end
  end

  defp adopt(term, count, content, origin) do
    if count > 0 or External.any?(content, :function_references) or External.any?(content, :objects),
      do: Exchange.adopt(term, count, origin),
      else: {:ok, term}
  end

  defp reply({:ok, value}, nil, _worker), do: {:ok, value}
  defp reply({:raise, :error, reason}, nil, _worker), do: :erlang.error(reason)
  # The worker's process has looked at who and what it is for.
  defp reply({_caller, {tag, reply}}, tag, _worker), do: {:ok, reply}
  defp reply(_other, _ref, _worker), do: :error

  @doc "For a reply that is none that a worker sends."
  @spec raise_forged!(pid()) :: no_return()
  def raise_forged!(worker) do
    what = "a damaged term"
    Worker.damaged(worker, what)
    raise CrashError, reason: {:forged, what}
  end
end
