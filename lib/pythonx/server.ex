defmodule Pythonx.Server do
  @moduledoc """
  A process that serves a Python object: a model that is loaded once and asked many times.

      {:ok, server} = Pythonx.Server.start_link(module: "sentiment", class: "Model", args: ["small"])
      Pythonx.Server.call(server, :predict, ["so good"])

  The state is a Python object: an instance of a class, or a module. Its methods are called by name, one at a time, by
  this process, and so on the same Python thread, with the context variables that they set. Arguments, results and options are
  those of `Pythonx.call/4`, but results are decoded by default.

  A Python exception in a call is raised in the caller as `Pythonx.Error`. The server goes on, with the object as the
  method left it.

  ## Under a supervisor

      children = [
        {Pythonx.Server, name: MyApp.Sentiment, module: "sentiment", class: "Model"}
      ]

  A class that raises while the server starts makes the start fail with `{exception, stacktrace}`.

  ## Messages

  A message to the process that is no request of this module is given to the object's method `handle_info`, decoded as
  any argument, if it has one; otherwise it is dropped. When the server is told to stop, the object's method `terminate`
  is called with the inspected reason, if it has one. An exception in either is logged.

  Being a `GenServer`, the process can be watched, named and replaced as any other.
  """

  use GenServer

  require Logger

  alias Pythonx.Calls
  alias Pythonx.Calls.{Options, Serving}
  alias Pythonx.{Object, Pool}

  @type option ::
          {:module, String.t() | atom()}
          | {:class, String.t() | atom()}
          | {:code, String.t()}
          | {:object, Pythonx.object()}
          | {:pool, Pythonx.Pool.t()}
          | {:args, list()}
          | {:kwargs, keyword() | map()}
          | {:timeout, timeout()}
          | {:name, GenServer.name()}

  @doc """
  Starts a server.

  ## Options

    * `:module` - the Python module to import. It is the state, unless `:class` is given

    * `:code` - Python code to evaluate instead of importing a module. Its globals are what `:class` is looked up in

    * `:object` - an object to serve. It is the state, unless `:class` is given, which is then an attribute of it

    * `:class` - the name of the class to make an instance of, or of any other callable that returns the object to serve

    * `:pool` - a `Pythonx.Pool`, in a worker of which the module or code is to live. When that worker dies, so does the server,
      with `{:shutdown, {error, stacktrace}}` of a `Pythonx.Pool.CrashError` as its reason. Defaults to the Python of this VM

    * `:args`, `:kwargs` - what `:class` is called with. Default to none

    * `:timeout` - how long each step of that (the import, the call) may take, in milliseconds, or `:infinity`. Defaults
      to `:infinity`

    * `:name` - the name to register the process under, as for `GenServer.start_link/3`

  Exactly one of `:module`, `:code` and `:object` is required; with `:code`, `:class` is as well.

      iex> code = \"\"\"
      ...> class Counter:
      ...>     def __init__(self, start):
      ...>         self.count = start
      ...>     def add(self, n=1):
      ...>         self.count += n
      ...>         return self.count
      ...> \"\"\"
      iex> {:ok, server} = Pythonx.Server.start_link(code: code, class: "Counter", args: [10])
      iex> Pythonx.Server.call(server, :add)
      11
      iex> Pythonx.Server.call(server, :add, [], [n: 5])
      16
  """
  @spec start_link([option()]) :: GenServer.on_start()
  def start_link(opts) do
    {server_opts, opts} = Keyword.split(opts, [:name])
    GenServer.start_link(__MODULE__, options!(opts), server_opts)
  end

  @doc """
  Calls a method of the object and returns its result.

  ## Options

    * `:decode` - if true, the result is decoded as by `Pythonx.decode/2`; otherwise it is an object. Defaults to `true`

    * `:binaries` - see `Pythonx.call/4`. Defaults to `:str`

    * `:timeout` - how long to wait for the result, in milliseconds, or `:infinity`. When the time is over,
      `Pythonx.TimeoutError` is raised in the caller, and the method is interrupted, or not called any more if others are
      being served; the server goes on. Defaults to `:infinity`

      iex> {:ok, server} = Pythonx.Server.start_link(module: "math")
      iex> Pythonx.Server.call(server, :gcd, [12, 18])
      6
  """
  @spec call(GenServer.server(), atom() | String.t(), list(), keyword() | map(), keyword()) :: term()
  def call(server, method, args \\ [], kwargs \\ [], opts \\ []) when is_list(args) do
    opts = Keyword.merge([decode: true], opts)
    make = &{__MODULE__, :call, Calls.name!(method), args, kwargs, opts, &1}
    Serving.request(server, make, Calls.options!(opts).timeout)
  end

  @doc """
  Calls a method of the object and returns at once. An exception is logged.

  The options are `:binaries` and `:timeout`, as for `call/5`.

      iex> {:ok, server} = Pythonx.Server.start_link(code: "def List(): return []", class: "List")
      iex> Pythonx.Server.cast(server, :append, [1])
      :ok
      iex> Pythonx.Server.call(server, :copy)
      [1]
  """
  @spec cast(GenServer.server(), atom() | String.t(), list(), keyword() | map(), keyword()) :: :ok
  def cast(server, method, args \\ [], kwargs \\ [], opts \\ []) when is_list(args) do
    opts = opts |> Options.validate!([:timeout, binaries: :str]) |> Map.to_list()
    GenServer.cast(server, {__MODULE__, :cast, Calls.name!(method), args, kwargs, opts})
  end

  ## In the server

  defp options!(opts) do
    keys = [:module, :code, :object, :class, :pool, args: [], kwargs: [], timeout: :infinity]
    opts = Keyword.validate!(opts, keys)

    case {Enum.filter([:module, :code, :object], &opts[&1]), opts[:class]} do
      {[:code], nil} -> raise ArgumentError, "expected the option :class, the name of what the code defines"
      {[_one], _class} -> opts
      _none_or_many -> raise ArgumentError, "expected exactly one of the options :module, :code and :object"
    end
  end

  @impl true
  def init(opts) do
    Process.flag(:trap_exit, true)
    {:ok, build(opts)}
  rescue
    error -> {:stop, {error, __STACKTRACE__}}
  end

  defp build(opts) do
    timeout = [timeout: opts[:timeout]]

    case {source(opts, timeout), opts[:class]} do
      {object, nil} -> object
      {source, class} -> source |> find(class, timeout) |> Calls.call(opts[:args], opts[:kwargs], timeout)
    end
  end

  defp source(opts, timeout) do
    cond do
      opts[:object] -> opts[:object]
      opts[:pool] && opts[:module] -> import_in_pool(opts[:pool], Calls.name!(opts[:module]), timeout)
      opts[:pool] -> opts[:pool] |> Pool.eval!(opts[:code], %{}, [globals: :all, decode: false] ++ timeout) |> elem(1)
      opts[:module] -> Pythonx.import_module(opts[:module], timeout)
      true -> opts[:code] |> Pythonx.eval(%{}, timeout) |> elem(1)
    end
  end

  defp import_in_pool(pool, module, timeout) do
    Pool.call!(pool, "importlib.import_module", [module], [], [decode: false] ++ timeout)
  end

  defp find(%struct{} = source, class, timeout) when struct in [Object, Pool.Object],
    do: Pythonx.getattr(source, class, timeout)

  defp find(globals, class, _timeout) do
    Map.get(globals, Calls.name!(class)) || raise ArgumentError, "the code defines no #{Calls.name!(class)}"
  end

  @impl true
  def handle_call({__MODULE__, :call, method, args, kwargs, opts, due}, _from, object) do
    call = &Calls.call_method(object, method, args, kwargs, Keyword.put(opts, :timeout, &1))
    due |> Serving.run_until(Keyword.get(opts, :timeout, :infinity), call) |> reply(object)
  end

  # Without its worker there is no object any more.
  defp reply({:raised, :error, %Pool.CrashError{} = error, stack} = answer, object) do
    {:stop, {:shutdown, {error, stack}}, answer, object}
  end

  defp reply(answer, object), do: {:reply, answer, object}

  @impl true
  def handle_cast({__MODULE__, :cast, method, args, kwargs, opts}, object) do
    object |> run(method, args, kwargs, opts) |> log(method)
    {:noreply, object}
  end

  @impl true
  def handle_info(message, object) do
    run_if_defined(object, "handle_info", [message])
    {:noreply, object}
  end

  @impl true
  def terminate(reason, object), do: run_if_defined(object, "terminate", [inspect(reason)])

  defp run(object, method, args, kwargs, opts) do
    Serving.run(fn -> Calls.call_method(object, method, args, kwargs, opts) end)
  end

  defp run_if_defined(object, method, args) do
    if defined?(object, method), do: object |> run(method, args, [], []) |> log(method), else: :ok
  end

  defp defined?(object, method) do
    _bound = Pythonx.getattr(object, method)
    true
  rescue
    Pythonx.Error -> false
  end

  defp log({:ok, _result}, _method), do: :ok

  defp log({:raised, kind, reason, stack}, method) do
    Logger.error("Pythonx.Server #{inspect(self())}, #{method}: " <> Exception.format(kind, reason, stack))
  end
end
