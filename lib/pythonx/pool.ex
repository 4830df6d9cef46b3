defmodule Pythonx.Pool do
  @moduledoc ~S'''
  Python interpreters in operating system processes of their own.

  Python code of one VM takes turns, and a crash of a package's C code is the end of that VM. In a pool each worker is a
  process with a Python of its own: they run at the same time, whatever they do, and one that crashes, hangs or runs out of
  memory costs only who was waiting for it, who gets a `Pythonx.Pool.CrashError`. Each pool has its own version of Python
  and its own packages.

      children = [
        {Pythonx.Pool,
         name: MyPool,
         size: 4,
         init: "import numpy as np",
         pyproject: """
         [project]
         name = "project"
         version = "0.0.0"
         requires-python = ">=3.10"
         dependencies = ["numpy==2.2.2"]
         """}
      ]

  The VM that the pool is in needs no Python of its own for that.

      iex> Pythonx.Pool.eval(MyPool, "a + b", %{"a" => 1, "b" => 2})
      {3, %{}}
      iex> try do
      ...>   Pythonx.Pool.eval(MyPool, "import ctypes; ctypes.string_at(0)", %{})
      ...> rescue
      ...>   error in Pythonx.Pool.CrashError -> error.reason
      ...> end
      {:signal, "SIGSEGV"}
      iex> Pythonx.Pool.call(MyPool, "math.sqrt", [2.25])
      1.5

  ## What goes to a worker, and what comes back

  Values are sent as messages, and encoded and decoded in the worker. So results are terms, unlike those of `Pythonx.eval/3`:
  a handle keeps an object alive, and with it the worker. What has no counterpart in Elixir, or everything with `decode:
  false`, stays where it is and comes as a `Pythonx.Pool.Object`, which all functions take that take a `Pythonx.Object`.

  Elixir functions that are passed as arguments run in this VM when Python calls them, in processes of their own, as they do for
  `Pythonx.eval/3`. Process identifiers are `pythonx.PID`s, which `pythonx.send` takes; those of other nodes than the worker's
  raise when they are encoded. What is printed goes to the caller's group leader, as
  for `Pythonx.eval/3`. What C code, or anything that a worker starts, writes to the file descriptors 1 and 2 is kept for
  the report of a crash; descriptor 0 is empty.

  Each evaluation has a namespace of its own, in which the globals that `:init` left are defined. The interpreter itself
  (imported modules, `os.environ`) is shared by those that follow in the same worker. What code leaves in
  context variables, or on its thread, is the calling process's own, as in the VM, and each worker has its own of that: the next
  evaluation of that process may find it, one of another process never does, and begins with what `:init` has set.

  ## What can go wrong

  | What happens | What the caller gets |
  |---|---|
  | Python raises | `Pythonx.Error` |
  | the time is over | `Pythonx.TimeoutError` when Python has been interrupted; the worker lives on |
  | the time is over, and Python does not stop | `Pythonx.Pool.CrashError` after `:kill_after` |
  | the worker dies: a segmentation fault, `os._exit`, the system's memory is full | `Pythonx.Pool.CrashError` |
  | the code needs more than `:max_memory` | `MemoryError` as a `Pythonx.Error`, or `Pythonx.Pool.CrashError` where C code does not check |
  | the code writes on the worker's connection, or damages what the worker sends | `Pythonx.Pool.CrashError` |
  | the workers of the pool have made more than 10,000 new atoms in all their lives | `RuntimeError` |
  | nobody is free, and too many wait | `{:error, :overloaded}`, or `Pythonx.Pool.OverloadedError` from functions with `!` |

  In each case the others notice nothing, and a worker that died is replaced. Something that may have begun is not begun
  again. When a calling process dies, its code is interrupted, or else killed, and the worker free again.

  When the VM ends, its workers do, even if it is killed; so do programs that they have started.

  Code in a worker can do what the VM's user may do, unless the pool has a `:sandbox`, which the kernel holds on Linux. The guide
  *Sandbox* says what that bounds, and what it does not.

  ## Telemetry

  Events are emitted if `:telemetry` is loaded. All have `:pool` in their metadata. Durations are in native time units, see
  `System.convert_time_unit/3`.

    * `[:pythonx, :pool, :queue]` - a caller has to wait; `:length` is how many do now

    * `[:pythonx, :pool, :checkout]` - a caller gets a worker after `:duration`

    * `[:pythonx, :pool, :run, :start | :stop | :exception]` - a span around each evaluation, with `:duration`

    * `[:pythonx, :pool, :crash]` - a worker died; metadata `:reason`, `:stderr`, `:os_pid`

    * `[:pythonx, :pool, :worker, :start | :stop | :retire]` - a worker is ready, has stopped as intended, or is replaced but
      kept, because there are `:handles` to it
  '''

  alias Pythonx.Calls
  alias Pythonx.Pool.{Client, Manager, Object, Options, OverloadedError, Streams}

  @defaults [
    globals: [],
    decode: true,
    binaries: :bytes,
    types: :basic,
    timeout: :infinity,
    queue_timeout: :infinity,
    stdout_device: nil,
    stderr_device: nil
  ]

  @typedoc "A pool."
  @type t :: GenServer.server()

  @typedoc "A worker that `run/3` has checked out."
  @opaque worker :: Client.lease()

  @type option ::
          {:name, GenServer.name()}
          | {:size, pos_integer()}
          | {:spares, non_neg_integer()}
          | {:pyproject, String.t()}
          | {:template, atom()}
          | {:uv, keyword()}
          | {:init, String.t()}
          | {:attach_logger, keyword()}
          | {:nodes, [node()]}
          | {:max_memory, pos_integer()}
          | {:sandbox, :strict | keyword()}
          | {:max_uses, pos_integer() | :infinity}
          | {:max_queue, non_neg_integer() | :infinity}
          | {:nice, integer()}
          | {:threads, pos_integer()}
          | {:env, %{String.t() => String.t() | nil}}
          | {:stderr, :keep | :inherit}
          | {:stderr_limit, non_neg_integer()}
          | {:boot_timeout, non_neg_integer()}
          | {:kill_after, non_neg_integer()}
          | {:drain_timeout, non_neg_integer()}
          | {:max_restarts, non_neg_integer()}
          | {:max_seconds, pos_integer()}

  @doc """
  A child specification, which gives the pool the time to drain when it is shut down.

      iex> Pythonx.Pool.child_spec(name: MyPool, drain_timeout: 2000).shutdown
      8000
  """
  @spec child_spec([option()]) :: Supervisor.child_spec()
  def child_spec(opts) do
    options = Options.validate!(opts)

    %{
      id: options.name || __MODULE__,
      start: {__MODULE__, :start_link, [opts]},
      type: :worker,
      shutdown: options.drain_timeout + options.kill_after + 5000
    }
  end

  @doc """
  Starts a pool. It is up with its first worker; the others follow.

  The first start with a project makes its environment, as `Pythonx.uv_init/2` does.

  ## Options

    * `:name` - the name to register the pool under

    * `:size` - how many evaluations run at a time at most. Defaults to the number of schedulers

    * `:spares` - how many workers more there are, warm for when one dies or is replaced. Defaults to `0`

    * `:pyproject` - the text of a `pyproject.toml`, as for `Pythonx.uv_init/2`

    * `:template` - the name of a template instead, see `Pythonx.uv_templates/0`. Without either the workers have the
      project that this VM was started with

    * `:uv` - options of `Pythonx.uv_init/2`, such as `[python: "3.12"]`. Defaults to none

    * `:init` - Python code that each worker evaluates when it starts. What it defines is defined in each evaluation. A
      failure keeps the pool from starting. Defaults to none

    * `:attach_logger` - options of `Pythonx.attach_logger/1`, which is then done in each worker: what Python logs there goes to
      `Logger` here. Defaults to none

    * `:nodes` - the nodes to have workers on, which have the same code and `:pythonx` running. Defaults to this one

    * `:max_memory` - how many bytes of data a worker may have beside what it has when it is ready. What goes beyond raises
      `MemoryError`. It is the system's limit `RLIMIT_DATA`, which holds for programs that the worker starts, too. On macOS,
      which does not enforce it, the worker looks twice a second how much it has resident, and ends when that is too much: then
      there is a `Pythonx.Pool.CrashError`. A worker of which more than half of that is still in use when code has raised is replaced. Defaults to none

    * `:sandbox` - what a worker may do at most, held by the kernel, on Linux only: `:strict`, or a list of `:read`, `:write`,
      `:connect`, `:listen`, `:exec`, `:env`, `:processes`, `:files`, `:file_size`, `:cpu_time`, `:memory` and `:best_effort`; see the
      guide *Sandbox*. Defaults to none

    * `:max_uses` - after how many evaluations, or functions of `run/3`, a worker is replaced. One with objects that are
      held is kept beside its successor until they are not. Defaults to `:infinity`

    * `:max_queue` - how many callers may wait for a worker. Defaults to `1000`

    * `:nice` - how much the workers' priority is lowered, from `-20` to `19`. Defaults to `0`

    * `:threads` - how many threads numeric libraries shall use in each worker, told to them by `OMP_NUM_THREADS` and its
      like unless these are set. Defaults to the number of schedulers divided by the size

    * `:env` - more environment variables for the workers; `nil` removes one. Defaults to none

    * `:stderr` - with `:inherit`, what is written to the file descriptors 1 and 2 is also written to the VM's standard error.
      Defaults to `:keep`

    * `:stderr_limit` - how many bytes of it are kept for the report of a crash. Defaults to `16384`

    * `:boot_timeout` - how many milliseconds a worker may take to start. Defaults to `60000`. One that does not take an
      evaluation in this time, or in ten seconds if that is less, is killed, and the evaluation given to another

    * `:kill_after` - how many milliseconds a worker has to stop what it was interrupted in before it is killed. Defaults to
      `1000`

    * `:drain_timeout` - how many milliseconds the evaluations that run or wait have to end when the pool is stopped. Defaults
      to `5000`

    * `:max_restarts`, `:max_seconds` - the pool stops with an error when more workers than that fail to start, or end without
      having had anything to do, in that time. Workers that die at work do not count. Default to `5` in `60` seconds

  Returns when the first worker is ready, or with the reason why none can be started.

      iex> {:ok, pool} = Pythonx.Pool.start_link(size: 1, init: "import math")
      iex> {result, _globals} = Pythonx.Pool.eval(pool, "math.floor(x)", %{"x" => 2.5})
      iex> result
      2
  """
  @spec start_link([option()]) :: GenServer.on_start()
  def start_link(opts), do: opts |> Options.validate!() |> Manager.start_link()

  @doc ~S'''
  Evaluates Python code in a worker. Returns the result and the globals asked for, as terms.

      iex> Pythonx.Pool.eval(MyPool, "[n * n for n in numbers]", %{"numbers" => [1, 2, 3]})
      {[1, 4, 9], %{}}
      iex> Pythonx.Pool.eval(MyPool, "x = 1\ny = x + 1", %{}, globals: ["y"])
      {nil, %{"y" => 2}}

  The result is `nil` if the code does not end in an expression, and `{:error, :overloaded}` when no worker is free and no
  more callers may wait; `eval!/4` raises then. What else may go wrong is raised by both, see the top of this page.

  `pool` may be a worker of `run/3`.

  ## Options

    * `:globals` - which globals that are defined afterwards are returned: a list of names, or `:all`. Defaults to `[]`

    * `:decode` - with `false`, the result and the globals are `Pythonx.Pool.Object`s. Defaults to `true`

    * `:binaries` - with `:str`, binaries become `str` instead of `bytes`. Defaults to `:bytes`

    * `:types` - with `:rich`, structs such as `Date` become Python's, and Python's such types become structs, as for
      `Pythonx.encode!/2` and `Pythonx.decode/2`. Defaults to `:basic`

    * `:timeout` - how long the code may run, in milliseconds, or `:infinity`. The time in line does not count. Defaults to
      `:infinity`

    * `:queue_timeout` - how long to wait for a worker, in milliseconds, or `:infinity`. Then the pool counts as overloaded.
      Defaults to `:infinity`

    * `:stdout_device`, `:stderr_device` - see `Pythonx.eval/3`
  '''
  @spec eval(t() | worker(), String.t(), %{String.t() => term()}, keyword()) ::
          {term(), %{String.t() => term()}} | {:error, :overloaded}
  def eval(pool, code, globals, opts \\ []) when is_binary(code) and is_map(globals) and is_list(opts) do
    options = eval_options!(pool, opts)
    for {key, _value} <- globals, not is_binary(key), do: refuse_key!(key)

    location = Pythonx.Sigil.take_location(code) || {"<string>", 1}

    with {:ok, result, globals} <- Client.run(pool, {:eval, code, location, globals}, options) do
      {result, globals}
    end
  end

  @doc """
  The same as `eval/4`, but raises `Pythonx.Pool.OverloadedError` instead of returning `{:error, :overloaded}`.

      iex> Pythonx.Pool.eval!(MyPool, "6 * 7", %{})
      {42, %{}}
  """
  @spec eval!(t() | worker(), String.t(), %{String.t() => term()}, keyword()) :: {term(), %{String.t() => term()}}
  def eval!(pool, code, globals, opts \\ []), do: pool |> eval(code, globals, opts) |> unless_overloaded!(pool)

  @doc """
  Calls a Python function in a worker and returns its result.

  The function is a name that `:init` has defined, a builtin, or a path that begins with a module; or a handle.

      iex> Pythonx.Pool.call(MyPool, "sorted", [[3, 1, 2]], reverse: true)
      [3, 2, 1]
      iex> Pythonx.Pool.call(MyPool, "datetime.date.fromisoformat", ["2024-01-31"])
      ...> |> then(&Pythonx.Pool.eval(MyPool, "date.year", %{"date" => &1}))
      {2024, %{}}

  Returns `{:error, :overloaded}` where `eval/4` does.

  ## Options

  Those of `eval/4`, but for `:globals`. `:binaries` defaults to `:str`, as for `Pythonx.call/4`.
  """
  @spec call(t() | worker(), String.t() | Object.t(), list(), keyword() | map(), keyword()) ::
          term() | {:error, :overloaded}
  def call(pool, function, args \\ [], kwargs \\ [], opts \\ [])
      when (is_binary(function) or is_struct(function, Object)) and is_list(args) and is_list(opts) do
    Keyword.validate!(opts, Keyword.keys(@defaults) -- [:globals])
    options = eval_options!(pool, Keyword.put_new(opts, :binaries, :str))

    with {:ok, result, _globals} <- Client.run(pool, {:call, function, args, kwargs}, options) do
      result
    end
  end

  @doc """
  The same as `call/5`, but raises `Pythonx.Pool.OverloadedError` instead of returning `{:error, :overloaded}`.

      iex> Pythonx.Pool.call!(MyPool, "abs", [-1])
      1
  """
  @spec call!(t() | worker(), String.t() | Object.t(), list(), keyword() | map(), keyword()) :: term()
  def call!(pool, function, args \\ [], kwargs \\ [], opts \\ []) do
    pool |> call(function, args, kwargs, opts) |> unless_overloaded!(pool)
  end

  @doc """
  Calls a function with a worker that nobody else has meanwhile, for several evaluations on one interpreter.

      iex> Pythonx.Pool.run(MyPool, fn worker ->
      ...>   {items, _} = Pythonx.Pool.eval(worker, "[]", %{}, decode: false)
      ...>   for n <- 1..3, do: Pythonx.Pool.eval(worker, "items.append(n)", %{"items" => items, "n" => n})
      ...>   Pythonx.Pool.call(worker, "sum", [items])
      ...> end)
      6

  Returns what the function returns, or `{:error, :overloaded}`. The worker is given to `eval/4` and `call/5` in the place of
  the pool, one evaluation at a time, and is of no use when the function has returned.

  The only option is `:queue_timeout`, as for `eval/4`.
  """
  @spec run(t(), (worker() -> result), keyword()) :: result | {:error, :overloaded} when result: term()
  def run(pool, fun, opts \\ []) when is_function(fun, 1) do
    opts = Keyword.validate!(opts, queue_timeout: :infinity)
    timeout!(:queue_timeout, opts[:queue_timeout])

    with {:ok, result} <- Client.with_worker(pool, %{queue_timeout: opts[:queue_timeout], timeout: :infinity}, fun) do
      result
    end
  end

  @doc """
  The same as `run/3`, but raises `Pythonx.Pool.OverloadedError` instead of returning `{:error, :overloaded}`.

      iex> Pythonx.Pool.run!(MyPool, fn worker -> Pythonx.Pool.call(worker, "max", [1, 2]) end)
      2
  """
  @spec run!(t(), (worker() -> result), keyword()) :: result when result: term()
  def run!(pool, fun, opts \\ []), do: pool |> run(fun, opts) |> unless_overloaded!(pool)

  @doc ~S'''
  A stream of what Python makes of the elements of an enumerable, each in a worker, several at a time.

  The third argument is Python code, in which the element is the global `x`, or a function of a worker and the element, for
  `eval/4` and `call/5`:

      iex> MyPool |> Pythonx.Pool.async_stream(1..4, "x * x") |> Enum.to_list()
      [ok: 1, ok: 4, ok: 9, ok: 16]

      iex> MyPool
      ...> |> Pythonx.Pool.async_stream(["2", "two"], &Pythonx.Pool.call(&1, "int", [&2]))
      ...> |> Enum.map(fn
      ...>   {:ok, value} -> value
      ...>   {:error, error} -> List.last(error.lines)
      ...> end)
      [2, "ValueError: invalid literal for int() with base 10: 'two'\n"]

  Yields `{:ok, result}`, or `{:error, exception}` for an element that raised, ran out of time or had its worker crash; the
  others go on. The enumerable is read no further ahead than twice `:max_concurrency` elements. A stream that is left stops
  what runs for it.

  ## Options

    * `:max_concurrency` - how many elements are worked on at a time. Defaults to the size of the pool

    * `:ordered` - whether results come in the order of the elements, or as they are ready. Defaults to `true`

    * `:timeout` - how long the code may run for one element, in milliseconds, or `:infinity`. For a function it is the
      default of each evaluation in it. Defaults to `:infinity`

    * `:as` - the name of the element in the code. Defaults to `"x"`

    * `:globals` - more globals for the code. Defaults to `%{}`

    * `:binaries` - with `:str`, binaries in these become `str` instead of `bytes`. Defaults to `:bytes`

    * `:progress` - a function that is called in the consuming process, each time before a result is yielded, with the number
      of results so far, this one included, and the number of elements, or `nil` where the enumerable cannot tell. Defaults
      to none
  '''
  @spec async_stream(t(), Enumerable.t(), String.t() | (worker(), term() -> term()), keyword()) :: Enumerable.t()
  def async_stream(pool, enumerable, code_or_function, opts \\ [])
      when is_binary(code_or_function) or is_function(code_or_function, 2) do
    Streams.async_stream(pool, enumerable, code_or_function, opts)
  end

  @doc """
  What the pool does now, a map:

    * `:size` - how many evaluations run at a time at most

    * `:idle`, `:busy`, `:starting` - how many workers are so

    * `:queued` - how many callers wait for one

    * `:runs`, `:crashes`, `:overloads` - how many evaluations (or functions of `run/3`) have ended, workers have died, and
      callers were turned away, since the start

    * `:sandbox` - `nil` without one, else a map of what the kernel holds of it, on all nodes: `:landlock` (its version), `:holds` (a list
      of names) and `:lacks` (a map of names and why, which is empty without `best_effort: true`)

    * `:workers` - a list of maps with `:pid` (of the process that has the connection), `:os_pid`, `:node`, `:status` (`:starting`,
      `:idle`, `:busy`, `:retired`, `:stopping` or `:failed`), `:uses`, `:handles` (objects in it that were held when it was last
      used) and `:uptime` in milliseconds

  For example:

      iex> info = Pythonx.Pool.info(MyPool)
      iex> {info.size, info.queued, length(info.workers)}
      {1, 0, 1}
  """
  @spec info(t()) :: map()
  def info(pool), do: GenServer.call(pool, :info)

  ## Options of calls

  defp eval_options!(pool, opts) do
    defaults = Keyword.put(@defaults, :timeout, Client.default_timeout(pool))
    options = opts |> Keyword.validate!(defaults) |> Map.new()
    check!(:decode, options.decode, is_boolean(options.decode), "a boolean")
    check!(:binaries, options.binaries, options.binaries in [:bytes, :str], ":bytes or :str")
    check!(:types, options.types, options.types in [:basic, :rich], ":basic or :rich")
    check!(:globals, options.globals, globals?(options.globals), "a list of strings or :all")
    timeout!(:timeout, options.timeout)
    timeout!(:queue_timeout, options.queue_timeout)
    devices = Client.devices(opts)
    Map.merge(options, %{devices: devices, named: devices |> Tuple.to_list() |> Enum.uniq()})
  end

  defp globals?(globals), do: globals == :all or (is_list(globals) and Enum.all?(globals, &is_binary/1))

  defp timeout!(:timeout, timeout), do: Calls.timeout!(timeout)

  defp timeout!(option, timeout) do
    valid = timeout == :infinity or (is_integer(timeout) and timeout >= 0)
    check!(option, timeout, valid, "a non-negative integer or :infinity")
  end

  defp check!(_option, _value, true, _expected), do: :ok

  defp check!(option, value, false, expected) do
    raise ArgumentError, "expected #{inspect(option)} to be #{expected}, got: #{inspect(value)}"
  end

  defp refuse_key!(key), do: raise(ArgumentError, "expected globals keys to be strings, got: #{inspect(key)}")

  defp unless_overloaded!({:error, :overloaded}, pool), do: raise(OverloadedError, pool: pool)
  defp unless_overloaded!(result, _pool), do: result
end
