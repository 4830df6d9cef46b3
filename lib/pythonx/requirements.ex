defmodule Pythonx.Requirements do
  @moduledoc ~S'''
  What libraries need of Python, put together into one environment.

  A library says it in its `mix.exs`, where its other facts are:

      def application do
        [
          extra_applications: [:logger],
          env: [python: [dependencies: ["jinja2>=3.1"], requires_python: ">=3.10"]]
        ]
      end

  and calls `Pythonx.ensure_ready!/1` with its name before it uses Python. `Pythonx.uv_init/0` starts Python with what all
  loaded applications ask for, and with the module's own of a script or a notebook:

      defmodule Report do
        use Pythonx.Requirements, dependencies: ["jinja2>=3.1"]

        def render(name) do
          Pythonx.ensure_ready!(__MODULE__)
          Pythonx.Requirements.call(__MODULE__, "jinja2.utils.htmlsafe_json_dumps", [name])
        end
      end

  ## What can be said

    * `:dependencies` - a list of requirements as in a `pyproject.toml`: `"jinja2>=3.1"`, `"pandas[excel]>=2,<3"`

    * `:requires_python` - the versions of Python that will do, such as `">=3.11"`. All that can be embedded by default

    * `:isolated` - with `true`, the owner has a Python of its own, in a `Pythonx.Pool` that `Pythonx.ensure_ready!/1` starts,
      whose packages are nobody else's; or options of `Pythonx.Pool.start_link/1`, such as `[size: 4]`. Defaults to `false`

  `call/5` and `eval/4` do the same with either: a library that uses these can become isolated without other changes.

  The guide *Libraries* has the rest: locks, releases, and what happens when requirements exclude each other.
  '''

  alias Pythonx.Requirements.{Addition, Clash, Declared, Isolated, Lock, Merged, Release}
  alias Pythonx.Uv
  alias Pythonx.Uv.State

  @doc """
  Says in a module what it needs of Python, see the top of this page.

      defmodule Report do
        use Pythonx.Requirements, dependencies: ["jinja2>=3.1"], requires_python: ">=3.10"
      end

  `Pythonx.uv_init/0` counts in the modules that are loaded. Raises an `ArgumentError` for what cannot be understood.
  """
  defmacro __using__(opts) do
    quote do
      @pythonx_requirements unquote(opts)
      # Says now what is wrong with it.
      Pythonx.Requirements.Declared.new!(__MODULE__, @pythonx_requirements)

      @doc false
      def __pythonx_requirements__, do: @pythonx_requirements
    end
  end

  @doc false
  @spec start(keyword()) :: :ok
  def start(opts \\ []) do
    _checked = Uv.Options.validate!(opts)
    exclusively(fn -> start_or_add(shared(Declared.all()), opts) end)
  end

  @doc false
  @spec ensure_ready!(atom()) :: :ok
  def ensure_ready!(owner) do
    declared = Declared.fetch!(owner)

    cond do
      declared.isolated -> Isolated.ensure!(declared)
      declared in State.owners() -> :ok
      true -> exclusively(fn -> unless declared in State.owners(), do: meet!(declared) end)
    end

    :ok
  end

  # Others that are loaded will want theirs: they are counted in where that is free.
  defp meet!(declared) do
    if Pythonx.initialized?(),
      do: Addition.add!([declared]),
      else: start_or_add(Enum.uniq([declared | shared(Declared.all())]), [])
  end

  defp start_or_add(owners, opts) do
    cond do
      Pythonx.initialized?() -> Addition.add!(Enum.reject(owners, &(&1 in State.owners())))
      built = Release.read() -> start_built(built)
      true -> start_made(owners, opts)
    end

    :ok
  end

  defp start_built(%{toml: toml, opts: opts, owners: owners}) do
    Uv.init_from_priv(toml, opts)
    State.note(owners: owners, requirements?: true)
  end

  # A lock is that of the applications: modules of a script or a notebook come on top of it.
  defp start_made(owners, opts) do
    {strays, locked} = if !opts[:lock] && Lock.path(), do: Enum.split_with(owners, &stray?/1), else: {[], owners}
    make_and_start!(locked, opts)
    if strays != [], do: Addition.add!(strays)
  end

  defp stray?(%{owner: owner}), do: of_application(owner) == owner and String.starts_with?("#{owner}", "Elixir.")

  defp make_and_start!(owners, opts) do
    toml = Merged.toml!(owners)
    opts = Lock.put!(opts, toml)
    explained(owners, fn -> Uv.uv_init(toml, opts) end)
    State.note(owners: owners, requirements?: true)
  end

  @doc false
  @spec program!() :: Path.t()
  def program! do
    case Uv.Config.parse!(Application.get_env(:pythonx, :uv_init)) do
      {toml, opts} when is_binary(toml) -> Uv.priv_python(toml, opts)
      _requirements -> program_of_requirements!()
    end
  end

  defp program_of_requirements! do
    owners = shared(Declared.all())
    toml = Merged.toml!(owners)
    explained(owners, fn -> Uv.program!(toml, Lock.put!(configured(), toml)) end)
  end

  @doc false
  @spec explained([Declared.t()], (-> result)) :: result when result: var
  def explained(owners, fun) do
    fun.()
  rescue
    error in RuntimeError ->
      case Clash.message(error.message, owners) do
        nil -> reraise error, __STACKTRACE__
        message -> reraise RuntimeError, [message: message], __STACKTRACE__
      end
  end

  @doc false
  @spec shared([Declared.t()]) :: [Declared.t()]
  def shared(owners), do: Enum.reject(owners, & &1.isolated)

  # A failed one leaves nothing half-done, and the next one may try again. The error is raised by the caller: one must not
  # leave `:global` with a lock of a process that lives on.
  defp exclusively(fun) do
    attempt = fn ->
      try do
        {:ok, fun.()}
      rescue
        error -> {:raised, error, __STACKTRACE__}
      end
    end

    case :global.trans({__MODULE__, self()}, attempt, [node()]) do
      {:ok, result} -> result
      {:raised, error, stacktrace} -> reraise error, stacktrace
    end
  end

  ## Releases

  @doc """
  A step of `mix release` that makes the environment of all libraries in the release, which then needs neither uv nor a network.

      releases: [
        my_app: [steps: [&Pythonx.Requirements.release/1, :assemble]]
      ]

  What is made is what the applications of the release ask for, from `pythonx.lock` if there is one. Libraries with a Python
  of their own have it in the release too. Python is started from there by `uv_init/0`, `ensure_ready!/1` of `Pythonx`, and with
  `config :pythonx, :uv_init, :requirements`.
  """
  @spec release(struct()) :: struct()
  def release(%{applications: applications} = release) do
    for {app, _properties} <- applications, do: Application.load(app)
    owners = Enum.filter(Declared.all(), &Map.has_key?(applications, of_application(&1.owner)))
    Release.build!(owners, configured())
    release
  end

  @doc false
  @spec configured() :: keyword()
  def configured do
    case Uv.Config.parse!(Application.get_env(:pythonx, :uv_init)) do
      {:requirements, opts} -> opts
      _other -> []
    end
  end

  defp of_application(owner), do: Application.get_application(owner) || owner

  ## The same functions for shared and isolated owners

  @doc ~S'''
  Evaluates Python code for an application or module, in the Python that is its: that of this VM, or that of its pool.

  Makes it ready first, as `Pythonx.ensure_ready!/1` does. Returns the result and the globals asked for as terms; arguments
  and options are those of `Pythonx.Pool.eval/4`.

      Pythonx.Requirements.eval(:my_library, "import jinja2\njinja2.__version__", %{})
      #=> {"3.1.6", %{}}

  In the Python of this VM, what has no counterpart in Elixir is a `Pythonx.Object`, in a pool a `Pythonx.Pool.Object`.
  '''
  @spec eval(atom(), String.t(), %{String.t() => term()}, keyword()) ::
          {term(), %{String.t() => term()}} | {:error, :overloaded}
  def eval(owner, code, globals \\ %{}, opts \\ []) do
    ensure_ready!(owner)

    if pool = pool(owner),
      do: Pythonx.Pool.eval(pool, code, globals, opts),
      else: Isolated.eval_here(code, globals, opts)
  end

  @doc """
  Calls a Python function for an application or module, in the Python that is its.

  The function is a path that begins with a module, or a builtin. Makes the Python ready first, as `Pythonx.ensure_ready!/1`
  does. Returns the result as a term; arguments and options are those of `Pythonx.Pool.call/5`.

      Pythonx.Requirements.call(:my_library, "markupsafe.escape", ["<b>"])
      #=> "&lt;b&gt;"
  """
  @spec call(atom(), String.t(), list(), keyword() | map(), keyword()) :: term() | {:error, :overloaded}
  def call(owner, function, args \\ [], kwargs \\ [], opts \\ []) when is_binary(function) and is_list(args) do
    ensure_ready!(owner)

    if pool = pool(owner),
      do: Pythonx.Pool.call(pool, function, args, kwargs, opts),
      else: Isolated.call_here(function, args, kwargs, opts)
  end

  @doc """
  The pool of an owner that is isolated, for `Pythonx.Pool` and as a `:target`; `nil` for one that is not.

  It runs once `Pythonx.ensure_ready!/1` has returned.

      iex> defmodule OwnPython do
      ...>   use Pythonx.Requirements, isolated: true
      ...> end
      iex> Pythonx.Requirements.pool(OwnPython) == Module.concat(Pythonx.Requirements.Pool, OwnPython)
      true
  """
  @spec pool(atom()) :: GenServer.name() | nil
  def pool(owner), do: if(Declared.fetch!(owner).isolated, do: Isolated.name(owner))
end
