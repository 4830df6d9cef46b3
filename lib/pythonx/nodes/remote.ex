defmodule Pythonx.Nodes.Remote do
  # Evaluation on other nodes, and objects that move between nodes.
  #
  # An evaluation is three processes: the caller, the evaluator on the target node, and beside the evaluator a
  # watchdog, which ends it when the caller is gone; the end of the evaluator interrupts Python.
  #
  #     caller    -> evaluator   spawned and monitored, with code and globals
  #     evaluator -> caller      {ref, outcome}
  #     caller    -> evaluator   {ref, :taken}
  #
  # Ownership: the objects of an outcome live in the evaluator, which stays until the caller has had the owner's
  # tracker keep each of them (or has failed to), so there is no moment without a keeper.
  #
  # Before code is sent and before it runs, the trackers on both sides finish what they know of collected objects:
  # Python's finalizers run before the evaluation that follows a collection replies, not at some later time.
  @moduledoc false

  alias Pythonx.Calls.{Deadline, Evaluation, Options}
  alias Pythonx.NIF
  alias Pythonx.Object
  alias Pythonx.ObjectTracker
  alias Pythonx.Pool.Home
  alias Pythonx.Telemetry

  @typedoc "The options of `Pythonx.eval/3` but the devices, all of them."
  @type options :: %{required(:binaries) => :bytes | :str, optional(atom()) => term()}

  ## Evaluation

  @doc """
  Evaluates code on a node; see `Pythonx.remote_eval/4`.
  """
  @spec eval(node(), String.t(), %{String.t() => term()}, keyword()) ::
          {Object.t() | nil, %{String.t() => Object.t()}}
  def eval(node, code, globals, opts) do
    {options, devices} = Evaluation.check!(globals, opts)
    check_tracker!(node)
    ObjectTracker.sync()
    ref = make_ref()
    arguments = [self(), ref, code, globals, devices, options]
    {evaluator, monitor} = Node.spawn_monitor(node, Pythonx, :__remote_eval__, arguments)

    receive do
      {^ref, outcome} ->
        outcome = take(outcome, evaluator, ref)
        Process.demonitor(monitor, [:flush])
        result!(outcome)

      {:DOWN, ^monitor, :process, _evaluator, reason} ->
        exit(reason)
    end
  end

  # What comes back could not be kept, and by then the code would have run.
  defp check_tracker!(node) do
    if node != node() and Process.whereis(ObjectTracker) == nil do
      raise "the :pythonx application needs to be started before calling Pythonx.remote_eval/4"
    end
  end

  # Whatever becomes of it, the evaluator is let go.
  defp take(outcome, evaluator, ref) do
    track(outcome)
  after
    send(evaluator, {ref, :taken})
  end

  defp track({:ok, result, globals}) do
    {names, values} = Enum.unzip(globals)
    {tracked, _marker} = ObjectTracker.track_remote_objects(Enum.reject([result | values], &is_nil/1))
    {result, values} = if result, do: {hd(tracked), tl(tracked)}, else: {nil, tracked}
    {:ok, result, names |> Enum.zip(values) |> Map.new()}
  end

  defp track({:error, %Pythonx.Error{} = error, stacktrace}) do
    objects = [error.type, error.value, error.traceback]
    {[type, value, traceback], _marker} = ObjectTracker.track_remote_objects(objects)
    {:error, %{error | type: type, value: value, traceback: traceback}, stacktrace}
  end

  defp track({:error, _exception, _stacktrace} = outcome), do: outcome

  defp result!({:ok, result, globals}), do: {result, globals}

  # Where it happened, and below that how we came there.
  defp result!({:error, exception, stacktrace}) do
    {:current_stacktrace, [_info | here]} = Process.info(self(), :current_stacktrace)
    :erlang.raise(:error, exception, stacktrace ++ here)
  end

  @doc """
  The evaluator: evaluates here for `caller`, a process of another node or this one.
  """
  @spec serve(pid(), reference(), String.t(), %{String.t() => term()}, Evaluation.devices(), options()) :: :ok
  def serve(caller, ref, code, globals, devices, options) do
    watch(caller)
    ObjectTracker.sync()
    outcome = evaluate(code, globals, devices, options)
    send(caller, {ref, outcome})

    receive do
      {^ref, :taken} -> ObjectTracker.identity(outcome)
    end

    :ok
  end

  defp evaluate(code, globals, {out, err}, options) do
    options = Map.merge(options, %{timeout: options |> Map.get(:timeout, :infinity) |> Deadline.new()})
    encoding = [binaries: options.binaries, types: Map.get(options, :types, :basic), timeout: options.timeout]
    globals = Map.new(globals, fn {name, value} -> {name, encode(value, encoding)} end)
    options = [stdout_device: out, stderr_device: err] ++ Map.to_list(options)
    {result, globals} = Pythonx.eval(code, globals, options)
    {:ok, result, globals}
  rescue
    exception -> {:error, exception, __STACKTRACE__}
  end

  defp watch(caller) do
    evaluator = self()
    spawn(fn -> watch(caller, evaluator) end)
  end

  defp watch(caller, evaluator) do
    caller_monitor = Process.monitor(caller)
    evaluator_monitor = Process.monitor(evaluator)

    receive do
      {:DOWN, ^evaluator_monitor, :process, _pid, _reason} -> :ok
      {:DOWN, ^caller_monitor, :process, _pid, reason} -> Process.exit(evaluator, end_reason(reason))
    end
  end

  # An exit signal `:normal` ends nobody.
  defp end_reason(:normal), do: :kill
  defp end_reason(reason), do: reason

  ## Encoding values that came from elsewhere

  # Objects of other nodes are replaced by copies, wherever they are; all the rest is for the native walk to encode. It
  # takes one of this node that has been collected for one of another, so these are found here too.
  @spec encode(term(), keyword()) :: Object.t()
  defp encode(value, opts) do
    value = if foreign_inside?(value), do: localize(value, opts), else: value
    Pythonx.encode!(value, opts)
  end

  defp foreign_inside?(%Object{} = object), do: not NIF.local_object?(object)
  defp foreign_inside?(%MapSet{} = set), do: Enum.any?(set, &foreign_inside?/1)
  defp foreign_inside?([head | tail]), do: foreign_inside?(head) or foreign_inside?(tail)
  defp foreign_inside?(tuple) when is_tuple(tuple), do: tuple |> Tuple.to_list() |> foreign_inside?()
  defp foreign_inside?(struct) when is_struct(struct), do: struct |> Map.from_struct() |> foreign_inside?()

  defp foreign_inside?(map) when is_map(map) do
    Enum.any?(map, fn {key, value} -> foreign_inside?(key) or foreign_inside?(value) end)
  end

  defp foreign_inside?(_term), do: false

  defp localize(%Object{resource: resource} = object, _opts) do
    if node(resource) == node(), do: NIF.local!(object), else: copy(object)
  end

  defp localize(%MapSet{} = set, opts), do: MapSet.new(set, &localize(&1, opts))
  defp localize([head | tail], opts), do: [localize(head, opts) | localize(tail, opts)]

  defp localize(tuple, opts) when is_tuple(tuple) do
    tuple |> Tuple.to_list() |> Enum.map(&localize(&1, opts)) |> List.to_tuple()
  end

  # What a struct holds is known to its implementation, which asks this encoder for what is inside.
  defp localize(struct, opts) when is_struct(struct) do
    if foreign_inside?(struct) do
      Pythonx.Encoder.encode(struct, fn term, _encoder -> encode(term, opts) end)
    else
      struct
    end
  end

  defp localize(map, opts) when is_map(map) do
    Map.new(map, fn {key, value} -> {localize(key, opts), localize(value, opts)} end)
  end

  defp localize(term, _opts), do: term

  ## Copying objects

  @doc """
  A copy of an object on this node, or the object itself if it is here; see `Pythonx.copy_remote_object/2`.
  """
  @spec copy(Pythonx.object(), keyword()) :: Object.t()
  def copy(object, opts \\ [])

  # Of a worker of a pool.
  def copy(%Pythonx.Pool.Object{} = object, opts) do
    %{timeout: timeout} = Options.validate!(opts, [:timeout])
    Telemetry.operation(:copy_remote_object, fn -> load(NIF.local!(object), Deadline.new(timeout)) end)
  end

  def copy(%Object{resource: resource} = object, opts) do
    %{timeout: timeout} = Options.validate!(opts, [:timeout])

    if node(resource) == node() do
      object
    else
      Telemetry.operation(:copy_remote_object, fn -> load(object, Deadline.new(timeout)) end)
    end
  end

  defp load(object, deadline) do
    # Nobody shall wait for data to arrive that cannot be loaded.
    NIF.initialized?() || NIF.not_initialized!()
    data = object |> fetch(deadline) |> dumped!(deadline)
    NIF.call("call_internal", {"pickle", "loads", {data}}, deadline)
  end

  defp fetch(%Pythonx.Pool.Object{} = object, deadline) do
    Home.at(Home.of({object}), fn -> dump(object, deadline) end)
  end

  # The other node, which may have an earlier version, is told of a limit only where there is one.
  defp fetch(%Object{resource: resource} = object, :infinity) do
    resource |> node() |> :erpc.call(Pythonx, :__dump__, [object])
  end

  defp fetch(%Object{resource: resource} = object, deadline) do
    left = Deadline.left(deadline)
    resource |> node() |> :erpc.call(Pythonx, :__dump__, [object, left], left)
  rescue
    error in ErlangError ->
      if error.original == {:erpc, :timeout}, do: Deadline.give_up!(deadline), else: reraise(error, __STACKTRACE__)
  end

  @doc """
  Serializes an object of this node, for `copy/2` on another.
  """
  @spec dump(Object.t(), timeout()) ::
          {:ok, binary()} | {:error, String.t() | nil, String.t()} | {:raised, Exception.t()}
  def dump(object, timeout) do
    deadline = Deadline.new(timeout)
    object = NIF.local!(object)
    module = decode_call("pythonx._pickling", "pickler", {}, deadline)
    dump_with(module, object, deadline)
  rescue
    error in Pythonx.Error -> {:error, nil, Exception.message(error)}
    error -> {:raised, error}
  end

  defp dump_with(module, object, deadline) do
    {:ok, decode_call("pythonx._pickling", "dump", {module, object}, deadline)}
  rescue
    error in Pythonx.Error -> {:error, module, Exception.message(error)}
  end

  defp decode_call(module, function, arguments, deadline) do
    "call_internal" |> NIF.call({module, function, arguments}, deadline) |> Pythonx.decode()
  end

  defp dumped!({:ok, data}, _deadline), do: data
  defp dumped!({:raised, %Pythonx.TimeoutError{}}, deadline), do: Deadline.give_up!(deadline)
  defp dumped!({:raised, exception}, _deadline), do: raise(exception)
  defp dumped!({:error, module, message}, _deadline), do: not_dumped!(module, message)

  defp not_dumped!(nil, message) do
    raise "failed to serialize the given object, got Python exception: #{message}\n"
  end

  defp not_dumped!("pickle", message) do
    raise ArgumentError, """
    failed to serialize the given object using the built-in pickle module. The pickle module does not support all \
    object types, for extended pickling support add the following package:

        cloudpickle==3.1.2

    Original error: #{message}
    """
  end

  defp not_dumped!(module, message) do
    raise """
    failed to serialize the given object using the #{module} module.

    Original error: #{message}
    """
  end
end
