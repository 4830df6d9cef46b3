defmodule Pythonx.NIF do
  @moduledoc false

  # The native functions, and the two things that every caller of a job needs: waiting for its reply, and turning
  # what went wrong into an exception.
  #
  # Two libraries make the native side. `Pythonx.NIF.Loader` opens libpython; only then can the one behind this
  # module be loaded, because its symbols are libpython's. Until then the functions here raise.

  alias Pythonx.Calls.Deadline

  @not_initialized "Python interpreter has not been initialized"

  @doc """
  Loads the bridge library at `path` (without extension). libpython must be open.
  """
  @spec load(Path.t()) :: :ok | {:error, String.t()}
  def load(path) do
    # The template shows the native side how this version of Elixir shapes a MapSet.
    case :erlang.load_nif(String.to_charlist(path), MapSet.new()) do
      :ok -> :ok
      {:error, {:reload, _text}} -> :ok
      {:error, {_reason, text}} -> {:error, List.to_string(text)}
    end
  end

  @doc """
  Whether Python has been started in this VM.
  """
  @spec initialized?() :: boolean()
  # A constant would let the compiler conclude that nothing after a check can ever run.
  def initialized?(), do: :persistent_term.get({__MODULE__, :initialized}, false)

  def nif_init(_executable, _home, _python_dir, _sys_paths), do: not_loaded()
  def submit_eval(_ref, _code, _file, _line, _globals, _out, _err, _relay), do: not_loaded()
  def submit_call(_ref, _operation, _arguments), do: not_loaded()
  def submit_object(_ref, _operation, _arguments, _out, _err, _relay), do: not_loaded()
  def nif_encode(_term, _binaries_as_str, _replacements), do: not_loaded()
  def nif_decode(_object), do: not_loaded()
  def nif_memoryview(_binary), do: not_loaded()
  def local_object?(_object), do: not_loaded()
  def cancel(_job, _mute), do: not_loaded()
  def interrupt(_pid), do: not_loaded()
  def begin_call(_call), do: not_loaded()
  def answer_call(_call, _answer), do: not_loaded()
  def caller_waits?(_call), do: not_loaded()
  def running(), do: not_loaded()
  def observe(_wanted), do: not_loaded()
  def stats(), do: not_loaded()
  def table_info(_object), do: not_loaded()
  def table_new(_columns), do: not_loaded()
  def table_part(_object, _columns, _offset, _length), do: not_loaded()
  def table_column(_object, _column, _offset, _length, _options), do: not_loaded()
  def table_rows(_object, _offset, _length, _options), do: not_loaded()
  def table_binaries(_object, _column), do: not_loaded()
  def table_chunks(_object, _column), do: not_loaded()
  def table_arrays(), do: not_loaded()
  def open_interpreter(_name, _owner), do: not_loaded()
  def submit_to_interpreter(_ref, _resource, _operation, _label, _arguments, _out, _err, _relay), do: not_loaded()
  def cancel_in_interpreter(_job, _mute), do: not_loaded()
  def close_interpreter(_resource, _ref), do: not_loaded()
  def interpreter_of(_resource), do: not_loaded()
  def interrupt_in_interpreters(_pid), do: not_loaded()
  def running_in_interpreters(), do: not_loaded()
  def interpreter_stats(), do: not_loaded()

  # To the compiler, a function that may be replaced by a native one may return anything.
  defp not_loaded(), do: :erlang.nif_error(RuntimeError.exception(@not_initialized))

  @doc """
  Evaluates code and returns `{result, globals}`; see `Pythonx.eval/3`.
  """
  def eval(code, {file, line}, globals, out, err, relay, deadline) do
    run_destructors()
    ref = make_ref()

    reply =
      case submit_eval(ref, code, file, line, globals, out, err, relay) do
        {:reply, reply} ->
          reply

        job ->
          job = submitted!(job)

          receive do
            {^ref, reply} -> reply
          after
            Deadline.left(deadline) -> give_up!(job, ref, deadline)
          end
      end

    eval_result(reply, relay)
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
  def call(operation, arguments, deadline \\ :infinity) do
    ref = make_ref()

    reply =
      case submit_call(ref, operation, arguments) do
        {:reply, reply} ->
          reply

        job ->
          job = submitted!(job)

          receive do
            {^ref, reply} -> reply
          after
            Deadline.left(deadline) -> give_up!(job, ref, deadline)
          end
      end

    result!(reply)
  end

  @doc """
  Works on an object; see `Pythonx.Calls`. Returns `{:ok, result}` or `{:deferred, terms}`.
  """
  @spec perform(atom(), tuple(), pid(), pid(), pid(), Deadline.t()) :: {:ok, term()} | {:deferred, [term()]}
  def perform(operation, arguments, out, err, relay, deadline) do
    ref = make_ref()

    reply =
      case submit_object(ref, operation, arguments, out, err, relay) do
        {:reply, reply} ->
          reply

        job ->
          job = submitted!(job)

          receive do
            {^ref, reply} -> reply
          after
            Deadline.left(deadline) -> give_up!(job, ref, deadline)
          end
      end

    perform_result(reply, relay)
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

  defp submitted!({:error, :not_initialized}), do: not_initialized!()
  defp submitted!(job), do: job

  # Once `cancel` has returned, the reply is either in the mailbox or will never be sent.
  defp give_up!(job, ref, deadline) do
    cancel(job, true)

    receive do
      {^ref, _late} -> :ok
    after
      0 -> :ok
    end

    Deadline.give_up!(deadline)
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
  Raises what a reply says that went wrong: `{:python_error, error}` or `{:argument_error, text}`.
  """
  @spec raise_error!({atom(), term()}) :: no_return()
  def raise_error!({kind, _what} = error) when kind in [:python_error, :argument_error], do: result!(error)

  @doc """
  The Python `repr` of an object, as an object that holds a `str`.
  """
  @spec object_repr(Pythonx.Object.t()) :: Pythonx.Object.t()
  def object_repr(object), do: call("repr", {local!(object)})

  @doc """
  The text of an object that holds a `str`.
  """
  @spec unicode_to_string(Pythonx.Object.t()) :: String.t()
  def unicode_to_string(object), do: call("unicode_to_string", {local!(object)})

  @doc """
  A Python `str` with the text of a binary.
  """
  @spec unicode_from_string(String.t()) :: Pythonx.Object.t()
  def unicode_from_string(string) when is_binary(string), do: call("unicode_from_string", {string})

  @doc """
  A `memoryview` of a binary; see `Pythonx.memoryview/1`.
  """
  @spec memoryview(binary()) :: Pythonx.Object.t()
  def memoryview(binary) when is_binary(binary) do
    case nif_memoryview(binary) do
      {:ok, object} -> object
      {:error, :not_initialized} -> not_initialized!()
      :no_memory -> raise "Python has no memory left for a memoryview"
    end
  end

  @doc """
  The names that code reads, defines and so on; see `Pythonx.AST`.
  """
  @spec scan_globals(binary()) :: {[String.t()], [String.t()], [String.t()], [String.t()], [String.t()]}
  def scan_globals(code) when is_binary(code) do
    "call_internal" |> call({"pythonx._globals", "scan_globals", {code}}) |> Pythonx.decode()
  end

  @doc """
  The object itself, or the error for one that belongs to another node or is no object at all.
  """
  @spec local!(term()) :: Pythonx.Object.t()
  def local!(%{__struct__: Pythonx.Object} = object) do
    if local_object?(object) do
      object
    else
      Pythonx.Interpreter.refuse_in_main!(object)
      stale!(object.resource)
    end
  end

  def local!(other) do
    # Whether Python runs is the first question, whatever was given.
    _ = local_object?(other)
    raise ArgumentError, "decode failed, expected a struct, got: #{inspect(other)}"
  end

  @doc """
  Raises the error for what is in the place of a resource: one of another node, or one that has been collected.
  """
  @spec stale!(term()) :: no_return()
  def stale!(resource) do
    text = if is_reference(resource), do: :erlang.ref_to_list(resource), else: inspect(resource)
    raise ArgumentError, "decode failed, expected a resource reference, got: #{text}"
  end

  @doc """
  Raises the error for native calls without an interpreter.
  """
  @spec not_initialized!() :: no_return()
  def not_initialized!(), do: :erlang.error(RuntimeError.exception(@not_initialized))
end
