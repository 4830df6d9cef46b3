defmodule Pythonx.Session do
  @moduledoc ~S'''
  A namespace that stays in Python, to evaluate in again and again.

      iex> {:ok, session} = Pythonx.Session.start_link()
      iex> Pythonx.Session.run(session, "import math\ndef area(r): return math.pi * r ** 2")
      {:ok, nil}
      iex> Pythonx.Session.run(session, "round(area(2), 3)")
      {:ok, 12.566}

  `Pythonx.eval/3` gives each evaluation a namespace of its own, and returns what it has defined. Here the names stay where
  they are: nothing is sent back and forth, however many there are.

  Code of a session runs in its process, one evaluation at a time, on that process's own thread of Python, with the context
  variables that it sets. `Pythonx.interrupt/1` of the process stops it. The names go when the process ends, and with them what
  nothing else refers to.

  ## Under a supervisor

      children = [
        {Pythonx.Session, name: MyApp.Python, init: "import numpy as np"}
      ]

  Code in `:init` that raises makes the start fail with `{exception, stacktrace}`.
  '''

  use GenServer

  alias Pythonx.Calls.{Evaluation, Options, Run, Serving}
  alias Pythonx.NIF
  alias Pythonx.Object

  @typedoc "A session: its process, or the name of that."
  @type t :: GenServer.server()

  @type option ::
          {:init, String.t()}
          | {:globals, %{String.t() => term()}}
          | {:binaries, :bytes | :str}
          | {:types, :basic | :rich}
          | {:name, GenServer.name()}

  @doc """
  Starts a session.

  ## Options

    * `:init` - Python code to evaluate first. Defaults to none

    * `:globals` - names and values to begin with, for `:init` too. Defaults to none

    * `:binaries`, `:types` - what `:globals` become, and what these options are by default for `eval/4` and `run/4`. Default to
      what they are for `Pythonx.eval/3`, and for `Pythonx.run/3`

    * `:name` - the name to register the process under, as for `GenServer.start_link/3`

        iex> {:ok, session} = Pythonx.Session.start_link(init: "total = sum(numbers)", globals: %{"numbers" => [1, 2]})
        iex> Pythonx.Session.run!(session, "total")
        3
  """
  @spec start_link([option()]) :: GenServer.on_start()
  def start_link(opts \\ []) do
    opts = Keyword.validate!(opts, [:name, :binaries, :types, :init, globals: %{}])
    {server_opts, opts} = Keyword.split(opts, [:name])
    {encoding, opts} = Keyword.split(opts, [:binaries, :types])
    for {option, value} <- encoding, do: Options.check!(option, value)

    unless is_map(opts[:globals]),
      do: raise(ArgumentError, "expected :globals to be a map, got: #{inspect(opts[:globals])}")

    unless is_nil(opts[:init]) or is_binary(opts[:init]),
      do: raise(ArgumentError, "expected :init to be Python code, got: #{inspect(opts[:init])}")

    GenServer.start_link(__MODULE__, {opts[:init], opts[:globals], encoding}, server_opts)
  end

  @doc """
  Evaluates code, and returns its result as an object; `nil` for code that ends in a statement.

  `globals` are more names and values, which stay. Options are those of `Pythonx.eval/3`, and so is what is raised. Output goes
  where that of the caller goes.

      iex> {:ok, session} = Pythonx.Session.start_link()
      iex> Pythonx.Session.eval(session, "items = []")
      nil
      iex> Pythonx.Session.eval(session, "items.append(item)\\nitems", %{"item" => 1})
      #Pythonx.Object<
        [1]
      >
  """
  @spec eval(t(), String.t(), %{String.t() => term()}, keyword()) :: Object.t() | nil
  def eval(session, code, globals \\ %{}, opts \\ []) when is_binary(code) and is_map(globals) and is_list(opts) do
    Evaluation.check!(globals, opts)
    request(session, :eval, code, globals, opts)
  end

  @doc """
  Evaluates code and decodes its result, in one step. Options and results are those of `Pythonx.run/3`.

      iex> {:ok, session} = Pythonx.Session.start_link(init: "from datetime import date")
      iex> Pythonx.Session.run(session, "date(2024, 5, 17)")
      {:ok, ~D[2024-05-17]}
      iex> {:error, error} = Pythonx.Session.run(session, "datum")
      iex> Pythonx.Error.summary(error)
      "NameError: name 'datum' is not defined. Did you mean: 'date'?"
  """
  @spec run(t(), String.t(), %{String.t() => term()}, keyword()) :: {:ok, term()} | {:error, Exception.t()}
  def run(session, code, globals \\ %{}, opts \\ []) when is_binary(code) and is_map(globals) and is_list(opts) do
    Run.check!(opts)

    try do
      {:ok, request(session, :run, code, globals, opts)}
    rescue
      error -> {:error, error}
    end
  end

  @doc """
  The same as `run/4`, but returns the value itself and raises what goes wrong.

      iex> {:ok, session} = Pythonx.Session.start_link()
      iex> Pythonx.Session.run!(session, "n = 20\\nn + 1")
      21
  """
  @spec run!(t(), String.t(), %{String.t() => term()}, keyword()) :: term()
  def run!(session, code, globals \\ %{}, opts \\ []) when is_binary(code) and is_map(globals) and is_list(opts) do
    Run.check!(opts)
    request(session, :run, code, globals, opts)
  end

  # Output goes where the caller's goes.
  defp request(session, function, code, globals, opts) do
    err = Process.whereis(:standard_error) || Process.group_leader()
    opts = Keyword.merge([stdout_device: Process.group_leader(), stderr_device: err], opts)
    Serving.request(session, &{function, code, globals, opts, &1}, Keyword.get(opts, :timeout, :infinity))
  end

  ## In the session

  # The state is the module that the names are in, and the options that it was started with.
  @impl true
  def init({code, globals, encoding}) do
    module = NIF.call("call_internal", {"pythonx._main", "new_session", {}})
    Evaluation.eval_in(module, code || "", globals, encoding)
    {:ok, {module, encoding}}
  rescue
    error -> {:stop, {error, __STACKTRACE__}}
  end

  @impl true
  def handle_call({function, code, globals, opts, due}, _from, {module, encoding} = state) do
    evaluate = fn opts -> Evaluation.eval_in(module, code, globals, opts) end

    outcome =
      Serving.run_until(due, Keyword.get(opts, :timeout, :infinity), fn timeout ->
        opts = encoding |> Keyword.merge(opts) |> Keyword.put(:timeout, timeout)
        if function == :eval, do: evaluate.(opts), else: Run.run!(opts, &{evaluate.(&1), %{}})
      end)

    {:reply, outcome, state}
  end
end
