defmodule Pythonx.Uv.Environment do
  # What has to be known to start Python in an environment: which library, home, program and folder of packages.
  #
  # The environment holds the answer in a file, so that starting runs no other program. Paths in it are relative to the
  # folder of the project or of the Pythons, because a release is built in one place and runs in another. The file says
  # which project it is for, too. Without it, or when it is out of date, the environment itself is asked.
  @moduledoc false

  alias Pythonx.Boot.Python
  alias Pythonx.Host.Cache
  alias Pythonx.Uv.{Paths, Private, Project, PyvenvCfg}

  @record "pythonx.config"

  @enforce_keys [:libpython, :python_root, :executable, :site_packages]
  defstruct @enforce_keys

  @typedoc """
  Absolute paths.

    * `python_root` - the base installation: the home of Python
    * `executable` - the Python of the virtual environment
  """
  @type t :: %__MODULE__{
          libpython: String.t(),
          python_root: String.t(),
          executable: String.t(),
          site_packages: String.t()
        }

  @doc "Whether the environment can be started from."
  @spec ready?(Project.t()) :: boolean()
  def ready?(project) do
    case read_record(project) do
      {:ok, environment} ->
        present?(environment, project)

      {:error, :other_project} ->
        false

      {:error, :no_record} ->
        files = [Paths.venv_python(project.dir), Paths.pyvenv_cfg(project.dir)]
        Enum.all?(files, &File.exists?/1) and Paths.site_packages?(project.dir)
    end
  end

  # Followed through links: .venv/bin/python leads to the base Python.
  defp present?(environment, project) do
    paths = environment |> Map.from_struct() |> Map.values()
    Enum.all?([Paths.pyvenv_cfg(project.dir) | paths], &File.exists?/1)
  end

  @doc "Reads the record, or else looks for what it would say. Raises when the environment is not whole."
  @spec load!(Project.t()) :: t()
  def load!(project) do
    case read_record(project) do
      {:ok, environment} -> if present?(environment, project), do: environment, else: discover!(project)
      {:error, :no_record} -> discover!(project)
      {:error, :other_project} -> raise_other_project(project)
    end
  end

  defp raise_other_project(project) do
    raise "the environment at #{project.dir} was made for another pyproject.toml or other options. " <>
            "It is made when Pythonx is compiled: run mix deps.compile pythonx --force"
  end

  @doc "Writes the record of an environment that is made in the folder `dir` and will be moved to its place."
  @spec write_record!(Project.t(), Path.t(), Python.t()) :: :ok
  def write_record!(project, dir, python) do
    record = %{
      project: project.id,
      python_root: to_stored(python.prefix, project),
      libpython: to_stored(python.libpython, project),
      site_packages: {:project_dir, Path.relative_to(Paths.site_packages!(dir), dir)}
    }

    text =
      :io_lib.format("%% Made by Pythonx, so that it need not ask Python again. May be deleted.~n~0tp.~n", [record])

    Cache.write_atomically!(Path.join(dir, @record), :unicode.characters_to_binary(text))
  end

  # The Python that uv installed last may be found through a link, and Python itself tells paths without links.
  defp to_stored(path, %{python_dir: python_dir}) do
    dir = Enum.find([python_dir, Paths.real_path(python_dir)], &Paths.inside?(path, &1))
    if dir, do: {:python_dir, Path.relative_to(path, dir)}, else: path
  end

  defp from_stored({:python_dir, path}, project), do: Path.join(project.python_dir, path)
  defp from_stored({:project_dir, path}, project), do: Path.join(project.dir, path)
  defp from_stored(path, _project) when is_binary(path), do: path

  # Whatever else the file may hold counts as no record.
  defp read_record(project) do
    with {:ok, [%{project: id} = record]} <- :file.consult(Path.join(project.dir, @record)),
         %{python_root: root, libpython: libpython, site_packages: site_packages} <- record do
      if id == project.id, do: {:ok, build(project, root, libpython, site_packages)}, else: {:error, :other_project}
    else
      _missing_or_damaged -> {:error, :no_record}
    end
  rescue
    FunctionClauseError -> {:error, :no_record}
  end

  defp build(project, root, libpython, site_packages) do
    %__MODULE__{
      python_root: from_stored(root, project),
      libpython: from_stored(libpython, project),
      site_packages: from_stored(site_packages, project),
      executable: Paths.venv_python(project.dir)
    }
  end

  # The Python is the one of pyvenv.cfg. Its folder is looked up by name among our Pythons first: the path was true where
  # the environment was made.
  defp discover!(project) do
    cfg = PyvenvCfg.read!(project.dir)
    recorded_root = cfg |> PyvenvCfg.home!() |> Paths.root_of_home()
    root = Enum.find([Path.join(project.python_dir, Path.basename(recorded_root)), recorded_root], &File.dir?/1)
    unless root, do: raise_gone(project, recorded_root)
    site_packages = Paths.site_packages!(project.dir)

    %__MODULE__{
      python_root: root,
      libpython: find_libpython!(root, cfg),
      site_packages: site_packages,
      executable: Paths.venv_python(project.dir)
    }
  end

  defp find_libpython!(root, cfg) do
    case Python.probe(Path.join(Paths.home(root), PyvenvCfg.program(cfg))) do
      {:ok, %{libpython: path}} when path != nil -> path
      _other -> Paths.libpython!(root)
    end
  end

  defp raise_gone(project, root) do
    raise "the environment at #{project.dir} was made with the Python at #{root}, which is gone. " <>
            "Call Pythonx.uv_init/2 with force: true to make it again"
  end

  @doc """
  Makes sure that programs which Python starts find the environment too, and returns what to start from.

  An environment knows its base Python by an absolute path, which moving both makes wrong, and its program may have become
  a copy. Both are set right where they can be written; elsewhere the base Python stands in, which finds the packages of a
  release by itself (see `Pythonx.Uv.Private`).
  """
  @spec settle(t(), Project.t()) :: t()
  def settle(environment, project) do
    if Paths.inside?(environment.python_root, project.python_dir),
      do: settle_here(environment, project),
      else: environment
  end

  defp settle_here(environment, project) do
    home = Paths.home(environment.python_root)
    cfg = PyvenvCfg.read!(project.dir)
    base = Path.join(home, PyvenvCfg.program(cfg))

    with :ok <- settle_program(project, base),
         :ok <- settle_home(project, cfg, home) do
      environment
    else
      {:error, _reason} -> %{environment | executable: base}
    end
  end

  defp settle_program(%{private?: true} = project, base), do: Private.link_program(project, project.dir, base)
  defp settle_program(_project, _base), do: :ok

  defp settle_home(project, cfg, home) do
    if Paths.real_path(PyvenvCfg.home!(cfg)) == Paths.real_path(home),
      do: :ok,
      else: PyvenvCfg.put_home(project.dir, cfg, home)
  end
end
