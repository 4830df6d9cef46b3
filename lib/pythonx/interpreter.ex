defmodule Pythonx.Interpreter do
  @moduledoc """
  Interpreters with a GIL of their own, for pure-Python work in parallel. They need Python 3.12 or later.

  What `Pythonx.eval/3` runs, in however many processes, takes turns on the lock of the main interpreter. An interpreter
  made here has its own lock, its own modules and its own objects, all in the same operating system process: several of
  them compute at the same time.

      iex> interpreter = Pythonx.Interpreter.create()
      iex> {result, %{}} = Pythonx.Interpreter.eval(interpreter, "sum(n * n for n in numbers)", %{"numbers" => [1, 2, 3]})
      iex> Pythonx.decode(result)
      14
      iex> Pythonx.Interpreter.close(interpreter)
      :ok

  ## What can run there

  Python code, and the standard library: `json`, `decimal`, `re`, `sqlite3`, `asyncio`, threads, subprocesses. Most
  extension modules of packages cannot be loaded, numpy among them. To import one raises a `Pythonx.Error` with Python's
  `ImportError`, which says so; such work is for `Pythonx.eval/3`, or for `Pythonx.Pool` where it has to be parallel. Nor
  are there daemon threads, `os.fork`, `signal.signal`, `await` at the top level, calls to Elixir functions, and the
  package `pythonx`.

  It is no protection: a crash ends the VM, whichever interpreter it is in.

  ## Objects

  `eval/4` and `call/5` return handles, as `Pythonx.eval/3` does. They belong to their interpreter: `Pythonx.decode/1`,
  `inspect/2` and `to_string/1` work on them there, and they can be given to `eval/4` and `call/5` of the same interpreter.
  Everything else, another interpreter and the main one, refuses them with an `ArgumentError` that names both. Plain data
  goes from one to another by way of Elixir: decode it here, and pass it there.

  What can be passed in is plain data too: numbers, binaries, atoms, lists, tuples, maps, `MapSet`s and handles of the same
  interpreter. Pids, functions and structs are refused, since Python's side of them belongs to the main interpreter. So
  would be what an implementation of `Pythonx.Encoder` returns: none is asked.

  ## Life

  An interpreter has one thread, which does one thing after the other: calls from several processes wait for each other,
  and so do `Pythonx.decode/1` and `inspect/2` of its handles.

  It is closed by `close/1`, when its owner dies, and when nothing refers to it any more: neither the interpreter nor any
  handle of it. What it runs then is interrupted. Afterwards its handles are dead, and using one raises an `ArgumentError`.

  To create one takes about 20 ms, and some 5 MB of memory; of that CPython loses 0.3 MB (3.12: 2.3 MB) when it is closed.
  """

  alias Pythonx.Calls
  alias Pythonx.Conversion.Path
  alias Pythonx.NIF
  alias Pythonx.Object

  require Logger

  @enforce_keys [:name, :resource]
  defstruct [:name, :resource]

  @opaque t :: %__MODULE__{name: String.t(), resource: reference()}

  # How long `close/1` waits for what cannot be interrupted, such as a long call of C code.
  @close_timeout 5000

  @doc """
  Makes an interpreter.

  ## Options

    * `:name` - its name, which errors mention. Defaults to a new one, such as `"interpreter-1"`

    * `:owner` - the process whose death closes it, or `nil` for none. Defaults to the caller

  Raises a `RuntimeError` on a Python before 3.12, and an `ArgumentError` when an interpreter of that name is open.

      iex> interpreter = Pythonx.Interpreter.create(name: "worker")
      iex> interpreter
      #Pythonx.Interpreter<"worker">
      iex> Pythonx.Interpreter.create(name: "worker")
      ** (ArgumentError) an interpreter with the name "worker" is open already
  """
  @spec create(keyword()) :: t()
  def create(opts \\ []) when is_list(opts) do
    opts = Keyword.validate!(opts, name: nil, owner: self())
    name = name!(opts[:name])
    owner = owner!(opts[:owner])

    ref = make_ref()

    with {:ok, resource, name} <- NIF.open_interpreter(name || "", owner, ref),
         :ok <- receive(do: ({^ref, started} -> started)) do
      import_from(%__MODULE__{name: name, resource: resource}, Pythonx.Files.added())
    else
      {:error, reason} -> refuse_to_create!(reason, name, owner)
    end
  end

  # An interpreter begins with the path that Python has started with.
  defp import_from(interpreter, []), do: interpreter

  defp import_from(interpreter, folders) do
    code = "import sys\nsys.path += [folder for folder in folders if folder not in sys.path]"
    eval(interpreter, code, %{"folders" => folders}, binaries: :str)
    interpreter
  end

  defp name!(nil), do: nil

  defp name!(name) do
    valid = is_binary(name) and name != "" and String.valid?(name) and not String.contains?(name, <<0>>)
    valid || raise ArgumentError, "expected :name to be a string that is not empty, got: #{inspect(name)}"
    name
  end

  defp owner!(nil), do: nil
  defp owner!(owner) when is_pid(owner) and node(owner) == node(), do: owner

  defp owner!(other) do
    raise ArgumentError, "expected :owner to be a process of this node or nil, got: #{inspect(other)}"
  end

  defp refuse_to_create!(:not_initialized, _name, _owner), do: NIF.not_initialized!()

  defp refuse_to_create!(:unsupported, _name, _owner) do
    raise "interpreters with a GIL of their own need Python 3.12 or later. " <>
            "Use Pythonx.eval/3, or Pythonx.Pool for work in parallel"
  end

  defp refuse_to_create!(:taken, name, _owner) do
    raise ArgumentError, "an interpreter with the name #{inspect(name)} is open already"
  end

  defp refuse_to_create!(:not_alive, _name, owner) do
    raise ArgumentError, "expected :owner to be a process that is alive, got: #{inspect(owner)}"
  end

  defp refuse_to_create!(reason, _name, _owner), do: raise("failed to create an interpreter, reason: #{reason}")

  @doc """
  Evaluates Python code in an interpreter.

  As `Pythonx.eval/3`, with the same options and results; see the head of this page for what can be passed in and used. The
  call waits for its turn when the interpreter is busy, and the `:timeout` counts from the call.

      iex> interpreter = Pythonx.Interpreter.create()
      iex> {result, globals} = Pythonx.Interpreter.eval(interpreter, "y = x + 1\\ny * 2", %{"x" => 20})
      iex> {Pythonx.decode(result), Pythonx.decode(globals["y"])}
      {42, 21}

  An exception of Python is raised as `Pythonx.Error`, whose `type`, `value` and `traceback` are handles of the interpreter.

      iex> interpreter = Pythonx.Interpreter.create(name: "plain")
      iex> Pythonx.Interpreter.eval(interpreter, "days", %{"days" => [1, ~D[2024-01-31]]})
      ** (ArgumentError) ["days"][1]: the interpreter "plain" takes plain data only, got: ~D[2024-01-31]
  """
  @spec eval(t(), String.t(), %{String.t() => term()}, keyword()) ::
          {Object.t() | nil, %{String.t() => Object.t()}}
  def eval(%__MODULE__{} = interpreter, code, globals, opts \\ [])
      when is_binary(code) and is_map(globals) and is_list(opts) do
    {opts, devices} = Pythonx.Calls.Evaluation.prepare!(globals, opts)
    arguments = {code, globals, opts.binaries == :str}
    job = %{operation: "eval", label: code, arguments: arguments, root: globals, timeout: opts.timeout}

    Pythonx.Telemetry.span([:pythonx, :eval], %{process: self(), code: code, interpreter: interpreter.name}, fn ->
      run(interpreter.name, interpreter.resource, job, devices)
    end)
  end

  @doc """
  Calls an object of an interpreter: a function, a class, anything callable.

  Arguments and options are those of `Pythonx.call/4`.

      iex> interpreter = Pythonx.Interpreter.create()
      iex> {dumps, _} = Pythonx.Interpreter.eval(interpreter, "import json; json.dumps", %{})
      iex> Pythonx.Interpreter.call(interpreter, dumps, [%{"b" => 1, "a" => nil}], [sort_keys: true], decode: true)
      ~s({"a": null, "b": 1})
  """
  @spec call(t(), Object.t(), list(), keyword() | map(), keyword()) :: term()
  def call(%__MODULE__{} = interpreter, %Object{} = callable, args \\ [], kwargs \\ [], opts \\ [])
      when is_list(args) do
    opts = Calls.options!(opts)
    own!(callable, interpreter.name)
    {names, values} = Calls.keywords!(kwargs)
    kwargs = names |> Enum.zip(values) |> Map.new()
    arguments = {callable, args, kwargs, opts.binaries == :str, opts.decode}
    root = if kwargs == %{}, do: args, else: {args, kwargs}
    job = %{operation: "call", label: "call", arguments: arguments, root: root, timeout: opts.timeout}
    run(interpreter.name, interpreter.resource, job, Calls.devices())
  end

  @doc """
  Closes an interpreter.

  What it runs is interrupted and raises a `RuntimeError` in its caller, what waits in line an `ArgumentError`. Threads
  that Python code has started there are interrupted too, after a moment in which they may end by themselves; then
  `atexit` handlers run. Closing what is closed already is no error.

  What cannot be interrupted, a long call of C code, goes on: after five seconds this function returns all the same, and a
  warning is logged. Threads that do not end stay behind with the memory of their interpreter, which is logged too.

      iex> interpreter = Pythonx.Interpreter.create(name: "short")
      iex> {object, %{}} = Pythonx.Interpreter.eval(interpreter, "[1, 2]", %{})
      iex> Pythonx.Interpreter.close(interpreter)
      :ok
      iex> Pythonx.decode(object)
      ** (ArgumentError) the interpreter "short" is closed, its objects are gone
  """
  @spec close(t()) :: :ok
  def close(%__MODULE__{name: name, resource: resource}) do
    if interpreter_of(resource) == nil, do: not_local!(name, resource)
    # A process of its own waits, whose mailbox takes what may come when nobody waits any more.
    {pid, monitor} = spawn_monitor(fn -> exit({:closed, close_and_wait(resource)}) end)

    receive do
      {:DOWN, ^monitor, :process, ^pid, {:closed, {:ok, :abandoned}}} -> warn(name, "threads of its code go on")
      {:DOWN, ^monitor, :process, ^pid, _ended} -> :ok
    after
      @close_timeout ->
        Process.demonitor(monitor, [:flush])
        warn(name, "its code cannot be interrupted and goes on")
    end
  end

  defp close_and_wait(resource) do
    ref = make_ref()
    by = NIF.close_interpreter(resource, ref)
    receive(do: ({^ref, how} -> {by, how}))
  end

  defp warn(name, what), do: Logger.warning("the interpreter #{inspect(name)} is closed, but #{what}")

  ## For objects

  @doc false
  # Whether something is a handle of an interpreter other than the main one.
  @spec owns?(term()) :: boolean()
  def owns?(%Object{resource: resource}), do: interpreter_of(resource) != nil
  def owns?(_other), do: false

  @doc false
  # Works on a single handle, in the interpreter that it belongs to.
  @spec perform(String.t(), Object.t(), timeout()) :: term()
  def perform(operation, %Object{resource: resource} = object, timeout \\ :infinity) do
    {name, _open} = interpreter_of(resource)
    job = %{operation: operation, label: operation, arguments: {object}, root: object, timeout: timeout}
    run(name, resource, job, Calls.devices(), "is closed, its objects are gone")
  end

  @doc false
  # The name of the interpreter that a handle belongs to and whether that is open; nil for the main one and other nodes.
  @spec interpreter_of(term()) :: {String.t(), boolean()} | nil
  def interpreter_of(resource) when is_reference(resource), do: NIF.interpreter_of(resource)
  def interpreter_of(_resource), do: nil

  @doc false
  # Raises for a handle of an interpreter where one of the main interpreter is wanted.
  @spec refuse_in_main!(Object.t()) :: :ok
  def refuse_in_main!(%{resource: resource}) do
    with {name, _open} <- interpreter_of(resource),
         do: foreign!("the interpreter #{inspect(name)}", "the main interpreter")

    :ok
  end

  defp own!(%Object{resource: resource} = object, name) do
    case interpreter_of(resource) do
      {^name, _open} -> :ok
      {other, _open} -> foreign!("the interpreter #{inspect(other)}", "the interpreter #{inspect(name)}")
      nil -> refuse_handle!(object, name, "")
    end
  end

  defp foreign!(owner, user, path \\ "") do
    raise ArgumentError,
          "#{path}the object belongs to #{owner} and cannot be used in #{user}. " <>
            "What Pythonx.decode/1 makes of it can, if that is plain data"
  end

  ## Jobs

  defp run(name, resource, job, {out, err, relay}, closed \\ "is closed") do
    submit = &NIF.submit_to_interpreter(&1, resource, job.operation, job.label, job.arguments, out, err, relay)

    case NIF.request(submit, job.timeout, &NIF.cancel_in_interpreter/2) do
      {:error, :not_initialized} -> NIF.not_initialized!()
      {:error, :not_local} -> not_local!(name, resource)
      reply -> result!(reply, name, job.root, relay, closed)
    end
  end

  defp result!({:error, :closed}, name, _root, _relay, closed) do
    raise ArgumentError, "the interpreter #{inspect(name)} #{closed}"
  end

  defp result!({:error, :closing}, name, _root, _relay, _closed) do
    raise "the interpreter #{inspect(name)} was closed while this ran"
  end

  defp result!({:error, :cancelled}, name, _root, _relay, _closed) do
    raise "what was to run in the interpreter #{inspect(name)} was cancelled"
  end

  defp result!({:raise, reason}, _name, _root, _relay, _closed), do: NIF.raise_error!({:raise, reason})

  defp result!({kind, value, relayed}, name, root, relay, _closed) do
    # What the relay passes on has been handed to its device once the relay has answered.
    if relayed, do: GenServer.call(relay, :ping, :infinity)

    case kind do
      :ok -> value
      :refused -> refuse!(value, name, root)
      _error -> NIF.raise_error!({kind, value})
    end
  end

  defp refuse!(term, name, root) do
    path = with path when path != "" <- Path.find(root, term), do: path <> ": "

    case term do
      %Object{} ->
        refuse_handle!(term, name, path)

      other ->
        raise ArgumentError, "#{path}the interpreter #{inspect(name)} takes plain data only, got: #{inspect(other)}"
    end
  end

  defp refuse_handle!(%Object{resource: resource} = object, name, path) do
    user = "the interpreter #{inspect(name)}"

    cond do
      owner = interpreter_of(resource) -> foreign!("the interpreter #{inspect(elem(owner, 0))}", user, path)
      NIF.local_object?(object) -> foreign!("the main interpreter", user, path)
      is_reference(resource) and node(resource) != node() -> foreign!("the node #{node(resource)}", user, path)
      true -> NIF.stale!(resource)
    end
  end

  defp not_local!(name, resource) do
    where =
      if is_reference(resource) and node(resource) != node(),
        do: "belongs to the node #{node(resource)}",
        else: "is gone"

    raise ArgumentError, "the interpreter #{inspect(name)} #{where}"
  end
end

defimpl Inspect, for: Pythonx.Interpreter do
  def inspect(interpreter, _opts), do: "#Pythonx.Interpreter<#{Kernel.inspect(interpreter.name)}>"
end
