defmodule Pythonx.Uv do
  # Environments made by uv, and the interpreter started in one of them. The functions of `Pythonx` that have to do with
  # either end here.
  #
  # See the modules below this one: Options, Project (what is asked for), Fetch (makes it), Binary (finds uv),
  # Interpreter (chooses the Python), Environment (what to start), State (what was started).
  @moduledoc false

  import Pythonx.Uv.Existing, only: [is_source: 1]

  require Logger

  alias Pythonx.Host.Cache
  alias Pythonx.Requirements.Running
  alias Pythonx.Uv.{Binary, Environment, Existing, Fetch, Options, Project, State}

  @doc "The version of uv that is downloaded by default."
  @spec default_uv_version() :: String.t()
  defdelegate default_uv_version(), to: Options

  @doc """
  Makes the environment if need be, and initialises the interpreter in it.

  The same project again is fine, and repairs an environment that was deleted. Another one raises, before anything is fetched.
  """
  @spec uv_init(String.t() | Existing.source(), keyword()) :: :ok
  def uv_init(pyproject_toml, opts \\ [])

  def uv_init(source, opts) when is_source(source) do
    opts |> Options.validate!() |> check_env!()
    source |> Existing.load!(opts) |> initialise()
  end

  def uv_init(pyproject_toml, opts), do: initialise(pyproject_toml, false, opts)

  @doc """
  Like `uv_init/2`, for the environment in priv that was made when the application was compiled. Fetches nothing.

  Initialising again in a VM whose interpreter was started so is not an error: an application may be restarted.
  """
  @spec init_from_priv(String.t(), keyword(), true | String.t()) :: :ok
  def init_from_priv(pyproject_toml, opts \\ [], private \\ true), do: initialise(pyproject_toml, private, opts)

  @doc "Initialises from PYTHONX_INIT_STATE, if that is set."
  @spec maybe_init_from_env() :: :ok | :noop
  def maybe_init_from_env do
    case State.from_env() do
      {pyproject_toml, opts} -> uv_init(pyproject_toml, opts)
      nil -> :noop
    end
  end

  defp initialise(toml, private, opts) do
    project = Project.new(toml, private, Options.validate!(opts))
    check_env!(project.opts)
    initialised_with?(project)
    unless private, do: fetch!(project)
    initialise(project)
  end

  defp initialise(project) do
    exclusively(fn ->
      unless initialised_with?(project) do
        State.put(project, boot(project))
        if project.opts.env != %{}, do: Running.update_environ!(project.opts.env)
      end
    end)

    :ok
  end

  # Setting them is an evaluation.
  defp check_env!(%{env: env} = opts) do
    if env != %{} and Process.whereis(Pythonx.Supervisor) == nil,
      do: raise("the :pythonx application needs to be started before calling Pythonx.uv_init/2 with the option :env")

    opts
  end

  # Before anything of what lies there is run, uv to begin with.
  defp fetch!(project) do
    unless project.private?, do: Cache.check_owner!(Cache.base_dir(), project.dir)
    Fetch.run!(project)
  end

  # Raises for another project, and for an interpreter that was started in another way. Called before anything is
  # fetched, because that could not be used.
  defp initialised_with?(%{id: id}) do
    case State.get() do
      %{id: ^id} -> true
      nil -> Pythonx.NIF.initialized?() && raise_initialised()
      _other -> raise_initialised()
    end
  end

  # Callers compare the text, so what runs is said in the log.
  @spec raise_initialised() :: no_return()
  defp raise_initialised do
    Logger.warning(
      "another Python cannot be started in this VM: #{running()}. A Pythonx.Pool can run another project beside it. " <>
        "Libraries that each need packages say so as Pythonx.Requirements shows, and Pythonx.uv_init/0 puts them together"
    )

    raise "Python interpreter has already been initialized"
  end

  defp running do
    case State.get() do
      nil ->
        "the one that runs was started by Pythonx.init/4"

      %{pyproject_toml: {kind, path}} ->
        "the one that runs was started by Pythonx.uv_init/1 with #{kind}: #{inspect(path)}"

      %{pyproject_toml: toml, install_paths: [python | _] = paths} ->
        "#{project_name(toml)} runs, in #{List.last(paths)}, with the Python in #{python}"
    end
  end

  defp project_name(toml) do
    case Regex.run(~r/^\s*name\s*=\s*["']([^"']+)["']/m, toml) do
      [_, name] -> "the project #{name}"
      nil -> "a project without a name"
    end
  end

  # Two processes of this VM may start the same project at once: the second one finds it started.
  defp exclusively(fun), do: :global.trans({__MODULE__, self()}, fun, [node()])

  @doc """
  Makes the environment unless it is there. With `private?`, in the priv of the application, otherwise in the cache.

  Raises a `RuntimeError` when that fails, and can be called again then.
  """
  @spec fetch(String.t(), Project.private(), keyword()) :: :ok
  def fetch(pyproject_toml, private?, opts \\ []) do
    pyproject_toml |> Project.new(private?, Options.validate!(opts)) |> fetch!()
  end

  @doc """
  Makes the environment and the bridge for its Python, unless they are there, and says what a process that starts it needs.
  """
  @spec prepare(String.t(), Project.private(), keyword()) :: Pythonx.Boot.plan()
  def prepare(source, _private, opts) when is_source(source) do
    found = Existing.load!(source, opts)
    Pythonx.Boot.plan!(found.libpython, found.root, found.executable, found.sys_paths, [found.dir], found.opts.env)
  end

  def prepare(pyproject_toml, private?, opts) do
    project = Project.new(pyproject_toml, private?, Options.validate!(opts))
    unless private?, do: fetch!(project)
    environment = project |> Environment.load!() |> Environment.settle(project)
    %{libpython: libpython, python_root: root, executable: executable, site_packages: packages} = environment
    Pythonx.Boot.plan!(libpython, root, executable, [packages], [project.dir], project.opts.env)
  end

  @doc """
  The folder of packages of an environment that other code is to find, made if need be: of what uv has in its cache, where
  that will do. To ask an index whether it has something newer takes longer than all the rest.
  """
  @spec site_packages!(String.t(), keyword()) :: Path.t()
  def site_packages!(pyproject_toml, opts) do
    project = Project.new(pyproject_toml, false, Options.validate!(opts))
    unless fetched_offline?(project), do: fetch!(project)
    Environment.load!(project).site_packages
  end

  # What uv says is of interest only where it had something to do.
  defp fetched_offline?(project) do
    leader = Process.group_leader()
    {:ok, device} = StringIO.open("")
    Process.group_leader(self(), device)

    try do
      fetch!(%{project | offline?: true})
      {_input, output} = StringIO.contents(device)
      IO.write(leader, output)
      true
    rescue
      RuntimeError -> false
    after
      Process.group_leader(self(), leader)
      StringIO.close(device)
    end
  end

  @doc "The Python of an environment, which is made if need be."
  @spec program!(String.t(), keyword()) :: Path.t()
  def program!(pyproject_toml, opts) do
    project = Project.new(pyproject_toml, false, Options.validate!(opts))
    fetch!(project)
    Environment.load!(project).executable
  end

  @doc "The text of a lock for a project, see `Pythonx.Uv.Fetch.resolve!/2`."
  @spec resolve!(String.t(), keyword(), keyword()) :: String.t()
  def resolve!(pyproject_toml, opts, how \\ []) do
    project = Project.new(pyproject_toml, false, Options.validate!(opts))
    Cache.check_owner!(Cache.base_dir(), project.dir)
    Fetch.resolve!(project, how)
  end

  @doc "What this VM was started with, for `prepare/3`; `nil` if it was not started by uv_init."
  @spec started_with() :: {String.t() | Existing.source(), private? :: boolean(), keyword()} | nil
  def started_with do
    # What was added last holds all that libraries have asked for before.
    case State.requirements?() && State.added() do
      [%{toml: toml, opts: opts} | _earlier] -> {toml, false, opts}
      _nothing -> started_with_project()
    end
  end

  defp started_with_project do
    with %{pyproject_toml: toml, opts: opts, install_paths: paths} when is_binary(toml) <- State.get() do
      private = Project.new(toml, true, Options.validate!(opts))
      {toml, List.last(paths) == private.dir, opts}
    else
      %{pyproject_toml: source, opts: opts} -> {source, false, opts}
      nil -> nil
    end
  end

  @doc "Initialises the interpreter in an environment that is there. Returns the folders that hold it."
  @spec init(String.t(), Project.private(), keyword()) :: [String.t()]
  def init(pyproject_toml, private?, opts \\ []) do
    pyproject_toml |> Project.new(private?, Options.validate!(opts)) |> boot()
  end

  defp boot(%Existing{} = found) do
    Pythonx.init(found.libpython, found.root, found.executable, sys_paths: found.sys_paths)
    [found.root, found.dir]
  end

  defp boot(project) do
    unless project.private?, do: Cache.check_owner!(Cache.base_dir(), project.dir)
    environment = project |> Environment.load!() |> Environment.settle(project)
    %{libpython: libpython, python_root: root, executable: executable} = environment
    Pythonx.init(libpython, root, executable, sys_paths: [environment.site_packages])
    [root, project.dir]
  end

  @doc "The Python of the environment in priv, which must be there."
  @spec priv_python(String.t(), keyword(), Project.private()) :: Path.t()
  def priv_python(pyproject_toml, opts \\ [], private \\ true) do
    project = Project.new(pyproject_toml, private, Options.validate!(opts))
    Environment.load!(project).executable
  end

  @doc "Finds a uv program, or downloads one. See `Pythonx.Uv.Binary`."
  @spec find_uv(keyword()) :: {:ok, String.t()} | {:error, message :: String.t()}
  def find_uv(opts \\ []), do: opts |> Options.validate!() |> Binary.find()

  @doc "The environment variables that make another VM initialise itself in the same way."
  @spec install_env() :: %{String.t() => String.t()}
  def install_env, do: State.to_env(state!("install_env"))

  @doc "The folders of Python and of the project, in this order."
  @spec install_paths() :: [String.t()]
  def install_paths, do: state!("install_paths").install_paths

  defp state!(name) do
    State.get() || raise "before calling Pythonx.#{name}/0, you must initialize Pythonx"
  end
end
