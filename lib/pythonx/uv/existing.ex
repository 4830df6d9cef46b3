defmodule Pythonx.Uv.Existing do
  # Environments that others have made: a uv project with its lock, a virtual environment, an installed Python. They are
  # looked at and used where they are; nothing in them is written.
  @moduledoc false

  alias Pythonx.Boot.Python
  alias Pythonx.Host.OS
  alias Pythonx.Requirements.{Lock, Requirement}
  alias Pythonx.Uv.{Options, Paths}

  @kinds [:project, :venv, :python]

  @enforce_keys [:id, :toml, :opts, :libpython, :root, :executable, :sys_paths, :dir]
  defstruct @enforce_keys ++ [private?: false]

  @typedoc "What is named, and where it is. Takes the place of the text of a project."
  @type source :: {:project | :venv | :python, Path.t()}

  @type t :: %__MODULE__{
          id: term(),
          toml: source(),
          opts: Options.t(),
          libpython: Path.t(),
          root: Path.t(),
          executable: Path.t(),
          sys_paths: [Path.t()],
          dir: Path.t()
        }

  @doc "The source that options of `Pythonx.uv_init/1` name, and the other options; `nil` where they name none."
  @spec source!(keyword()) :: {source(), keyword()} | nil
  def source!(opts) do
    case for({kind, path} <- opts, kind in @kinds, path != nil, kind != :python or path?(path), do: {kind, path}) do
      [] ->
        nil

      [{kind, path}] when is_binary(path) ->
        {{kind, Path.expand(path)}, Keyword.delete(opts, kind)}

      [{kind, path}] ->
        raise ArgumentError, "expected #{inspect(kind)} to be a path, got: #{inspect(path)}"

      [_, _ | _] ->
        raise ArgumentError, "expected one of the options :project, :venv and :python, got: #{inspect(opts)}"
    end
  end

  # `python: "3.13"` says which Python uv is to take.
  defp path?(python), do: is_binary(python) and String.contains?(python, ["/", "\\"])

  @doc "Whether it is one of these rather than the text of a project."
  defguard is_source(source) when is_tuple(source) and elem(source, 0) in @kinds

  @doc "Looks at it. Raises a `RuntimeError` for what cannot be started, or is not what its lock says."
  @spec load!(source(), keyword()) :: t()
  def load!({:project, path} = source, opts) do
    unless File.regular?(Path.join(path, "pyproject.toml")), do: raise("there is no pyproject.toml in #{path}")
    root = root_of_project(path) || raise "the project in #{path} has no uv.lock. Run uv lock there"
    venv = Path.join(root, ".venv")
    unless File.dir?(venv), do: raise("the project in #{root} has no environment yet. Run uv sync there")
    found = load_venv!(source, venv, opts)
    check_lock!(path, root, found)
    found
  end

  def load!({:venv, path} = source, opts), do: load_venv!(source, path, opts)

  def load!({:python, path} = source, opts) do
    case path |> Path.dirname() |> Path.dirname() do
      venv ->
        if File.regular?(Path.join(venv, "pyvenv.cfg")),
          do: load_venv!(source, venv, opts),
          else: build(source, path, Path.dirname(path), [], opts)
    end
  end

  # A workspace has its lock and its environment in its root.
  defp root_of_project(path) do
    cond do
      File.regular?(Path.join(path, "uv.lock")) -> path
      Path.dirname(path) == path -> nil
      true -> root_of_project(Path.dirname(path))
    end
  end

  defp load_venv!(source, venv, opts) do
    layout = OS.venv_layout(OS.current())
    program = Path.join(venv, layout.python)

    unless File.regular?(program) and File.regular?(Path.join(venv, "pyvenv.cfg")),
      do: raise("there is no virtual environment at #{venv}: it has no #{layout.python} or no pyvenv.cfg")

    build(source, program, venv, [Paths.packages!(venv)], opts)
  end

  defp build(source, program, dir, sys_paths, opts) do
    python = probe!(program)

    %__MODULE__{
      id: {:existing, Paths.real_path(dir), python.executable},
      toml: source,
      opts: Options.validate!(opts),
      libpython: python.libpython,
      root: python.prefix,
      executable: program,
      sys_paths: sys_paths,
      dir: dir
    }
  end

  defp probe!(program) do
    with {:ok, python} <- Python.probe(program), {:error, reason} <- embeddable(python) do
      raise reason
    else
      {:error, reason} -> raise reason
      %Python{} = python -> python
    end
  end

  defp embeddable(python), do: with(verdict when is_atom(verdict) <- Python.embeddable(python), do: python)

  # Whether uv would find something to do. Which packages belong there on this system only uv can tell; that those which
  # are there have the versions of the lock, and that the project's own are there, can be seen.
  defp check_lock!(path, root, found) do
    locked = root |> Path.join("uv.lock") |> File.read!() |> Lock.packages()
    installed = found.sys_paths |> hd() |> installed()

    changed =
      for {name, version} <- installed, %{version: other} when is_binary(other) <- [locked[name]], other != version do
        "#{name} is installed in version #{version}, the lock says #{other}"
      end

    needed = with name when name != nil <- project_name(path), %{always: names} <- locked[name], do: names
    missing = for name <- needed || [], not Map.has_key?(installed, name), do: "#{name} is not installed"

    if changed ++ missing != [] do
      raise "the environment of the project in #{root} is not what its uv.lock says: " <>
              "#{Enum.join(Enum.sort(changed ++ missing), ", ")}. Run uv sync there"
    end
  end

  defp installed(site_packages) do
    for name <- File.ls!(site_packages), String.ends_with?(name, ".dist-info"), into: %{} do
      [package, version | _] = name |> String.trim_trailing(".dist-info") |> String.split("-")
      {Requirement.normalise(package), version}
    end
  end

  defp project_name(path) do
    case Regex.run(~r/^\s*name\s*=\s*["']([^"']+)["']/m, File.read!(Path.join(path, "pyproject.toml"))) do
      [_all, name] -> Requirement.normalise(name)
      nil -> nil
    end
  end

  @doc "The lock of a source, where it has one."
  @spec lock(source()) :: Path.t() | nil
  def lock({:project, path}), do: with(root when root != nil <- root_of_project(path), do: Path.join(root, "uv.lock"))
  def lock(_source), do: nil
end
