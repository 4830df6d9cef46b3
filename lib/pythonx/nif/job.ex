defmodule Pythonx.NIF.Job do
  # The two things that every caller of a job needs: waiting for its reply, and turning what went wrong into an exception.
  @moduledoc false

  alias Pythonx.Calls.Deadline
  alias Pythonx.NIF
  alias Pythonx.Pool.{Home, Remote}

  @doc """
  Evaluates code and returns `{result, globals}`; see `Pythonx.eval/3`.
  """
  def eval(code, {file, line}, globals, out, err, relay, deadline) do
    case Home.current() do
      nil ->
        run_destructors()
        submit = &NIF.submit_eval(&1, code, file, line, globals, out, err, relay)
        submit |> request(deadline) |> eval_result(relay)

      {worker, _pool} = home ->
        home
        |> Remote.submit(:submit_eval, [code, file, line, globals, out, err, nil], deadline, [out, err])
        |> eval_result({Pythonx.Janitor, node(worker)})
    end
  end

  # The VM runs the destructors of what a garbage collection found between two processes, not in the collection. A caller
  # that gets its reply without waiting never lets go of the scheduler, so it does here: the evaluation drops then what
  # the caller has let go of before. Where others wait for the scheduler it does not: it would have to wait for them, for
  # a thousand times as long as an evaluation takes, and is soon made to let go anyway.
  defp run_destructors() do
    if :erlang.statistics(:total_run_queue_lengths) == 0, do: :erlang.yield()
  end

  defp eval_result({:ok, result, globals, relayed}, relay) do
    await_relay(relayed, relay)
    {result, globals}
  end

  defp eval_result({:python_error, error, relayed}, relay) do
    await_relay(relayed, relay)
    raise_python_error(error)
  end

  defp eval_result({:observed, reply, times}, relay), do: reply |> noted(times) |> eval_result(relay)
  defp eval_result(other, _relay), do: result!(other)

  # What the relay passes on has been handed to its device once the relay has answered.
  defp await_relay(false, _relay), do: :ok
  defp await_relay(true, relay), do: GenServer.call(relay, :ping, :infinity)

  @doc """
  Runs a named operation on a thread of Python's and returns its result.
  """
  @spec call(String.t(), tuple(), Deadline.t()) :: term()
  def call(operation, arguments, deadline \\ :infinity), do: call_at(Home.of(arguments), operation, arguments, deadline)

  @doc """
  The same where it is known where that is.
  """
  @spec call_at(Home.t(), String.t(), tuple(), Deadline.t()) :: term()
  def call_at(home, operation, arguments, deadline) do
    case home do
      nil -> request(&NIF.submit_call(&1, operation, arguments), deadline)
      home -> Remote.submit(home, :submit_call, [operation, arguments], deadline)
    end
    |> result!()
  end

  @doc """
  Works on an object; see `Pythonx.Calls`. Returns `{:ok, result}` or `{:deferred, terms}`.
  """
  @spec perform(atom(), tuple(), pid(), pid(), pid(), Deadline.t()) :: {:ok, term()} | {:deferred, [term()]}
  def perform(operation, arguments, out, err, relay, deadline) do
    case Home.of(elem(arguments, 0)) do
      nil ->
        submit = &NIF.submit_object(&1, operation, arguments, out, err, relay)
        submit |> request(deadline) |> perform_result(relay)

      {worker, _pool} = home ->
        # What passes on the output is where the worker is.
        home
        |> Remote.submit(:submit_object, [operation, arguments, out, err, nil], deadline, [out, err])
        |> perform_result({Pythonx.Janitor, node(worker)})
    end
  end

  defp perform_result({:ok, result, relayed}, relay) do
    await_relay(relayed, relay)
    {:ok, result}
  end

  defp perform_result({:python_error, error, relayed}, relay) do
    await_relay(relayed, relay)
    raise_python_error(error)
  end

  defp perform_result({:observed, reply, times}, relay), do: reply |> noted(times) |> perform_result(relay)
  defp perform_result(other, _relay), do: result!(other)

  @doc """
  Calls a native function that returns at once, where its arguments live.
  """
  @spec native(atom(), list()) :: term()
  def native(function, arguments) do
    case Home.of(List.to_tuple(arguments)) do
      nil -> apply(NIF, function, arguments)
      home -> Remote.call(home, function, arguments)
    end
  end

  @doc """
  Submits a job and waits for its reply, or cancels it when its time is over.

  `submit` gets the reference that the reply will come with. It returns the job, or what there is to say at once:
  `{:reply, reply}`, or `{:error, reason}` for one that is not taken.
  """
  # The reference is made and waited for in one function, for which a full mailbox is not searched.
  @spec request((reference() -> term()), Deadline.t(), (term(), boolean() -> term())) :: term()
  def request(submit, deadline, cancel \\ &NIF.cancel/2) do
    ref = make_ref()

    case submit.(ref) do
      {:reply, reply} ->
        reply

      {:error, _reason} = refused ->
        refused

      job ->
        receive do
          {^ref, reply} -> reply
        after
          Deadline.left(deadline) ->
            cancel.(job, true)
            # Once that has returned, the reply is either in the mailbox or will never be sent.
            receive(do: ({^ref, _late} -> :ok), after: (0 -> :ok))
            Deadline.give_up!(deadline)
        end
    end
  end

  defp noted(reply, times) do
    Pythonx.Telemetry.note(times)
    reply
  end

  @doc """
  The reply itself, when its times came with it; they are noted for telemetry.
  """
  @spec unobserved(term()) :: term()
  def unobserved({:observed, reply, times}), do: noted(reply, times)
  def unobserved(reply), do: reply

  defp result!({:ok, result}), do: result
  defp result!({:deferred, _terms} = deferred), do: deferred
  defp result!(:unchanged), do: :unchanged
  defp result!({:python_error, error}), do: raise_python_error(error)
  defp result!({:argument_error, message}), do: raise(ArgumentError, message)
  # What C++ threw; see c_src/bridge/vm/exception.hpp.
  defp result!({:raise, reason}), do: :erlang.error(reason)
  defp result!({:error, :not_initialized}), do: NIF.not_initialized!()
  defp result!({:error, :cancelled}), do: raise("the Python interpreter is shutting down")
  defp result!({:observed, reply, times}), do: reply |> noted(times) |> result!()

  # What Elixir raised inside of Python is raised as it was.
  defp raise_python_error({_lines, _type, _value, _traceback, {kind, reason, stack}}) do
    :erlang.raise(kind, reason, stack)
  end

  defp raise_python_error({lines, type, value, traceback}) do
    raise Pythonx.Error, lines: lines, type: type, value: value, traceback: traceback
  end

  @doc """
  Raises what a reply says that went wrong: `{:python_error, error}`, `{:argument_error, text}` or `{:raise, reason}`.
  """
  @spec raise_error!({atom(), term()}) :: no_return()
  def raise_error!({kind, _what} = error) when kind in [:python_error, :argument_error, :raise], do: result!(error)
end
