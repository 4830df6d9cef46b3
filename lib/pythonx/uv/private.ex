defmodule Pythonx.Uv.Private do
  # What an environment in the priv of the application needs so that a release can take it along, be moved, and be run
  # from a folder that cannot be written: no path in it may lead out of it.
  #
  # `mix release` copies what links lead to. Links that only give a second name to something would be second copies.
  @moduledoc false

  alias Pythonx.{Cache, Python}
  alias Pythonx.Uv.{Paths, Project}

  @doc """
  Copies a Python that is installed on this machine into priv, so that it need not be downloaded.

  `find` looks for a managed Python that suits the project in the folder that it gets.
  """
  @spec adopt_python(Project.t(), (Path.t() -> {:ok, Python.t()} | {:error, term()})) :: :ok
  def adopt_python(project, find) do
    sources =
      Enum.reject([Project.user_python_dir(), Path.join(Cache.uv_dir(), "python")], &(&1 == nil or not File.dir?(&1)))

    with {:error, _reason} <- find.(project.python_dir),
         {:ok, python} <- Enum.find_value(sources, :error, &found_inside(&1, find)) do
      copy!(python.prefix, Path.join(project.python_dir, Path.basename(python.prefix)))
    else
      _present_or_absent -> :ok
    end
  end

  defp found_inside(source, find) do
    with {:ok, python} <- find.(source) do
      if Paths.inside?(python.prefix, Paths.real_path(source)) and Python.embeddable(python) == :fully,
        do: {:ok, python}
    else
      {:error, _reason} -> nil
    end
  end

  defp copy!(from, to) do
    Cache.mkdir!(Path.dirname(to))
    temporary = Cache.temporary_beside(to)

    try do
      case File.cp_r(from, temporary) do
        {:ok, _copied} -> Cache.rename!(temporary, to)
        {:error, reason, at} -> raise "could not copy #{from} to #{to}: #{:file.format_error(reason)}, at #{at}"
      end
    after
      File.rm_rf(temporary)
    end
  end

  @doc "Makes the environment in `dir`, which will be moved to the place of the project, independent of where it is."
  @spec detach!(Project.t(), dir :: Path.t(), Python.t()) :: :ok
  def detach!(project, dir, python) do
    program = Path.relative_to(python.executable, Paths.real_path(project.python_dir))
    unless Path.type(program) == :relative, do: raise("#{python.executable} is not in #{project.python_dir}")

    # From .venv/bin of the project to the folder of the Pythons, which is beside the project.
    relink!(Paths.venv_python(dir), Path.join("../../../#{Path.basename(project.python_dir)}", program))
    Enum.each(["bin/#{Path.basename(program)}", "lib64"], &remove_link(Path.join([dir, ".venv", &1])))
    remove_others(project.python_dir, python)
    write_pth!(project, dir, python)
  end

  defp relink!(link, target) do
    Cache.rm_rf!(link)
    File.ln_s!(target, link)
  end

  # Pythons of earlier environments, and the second name without the patch version that uv gives each Python.
  defp remove_others(python_dir, python) do
    for name <- File.ls!(python_dir),
        name != Path.basename(python.prefix),
        do: Cache.rm_rf!(Path.join(python_dir, name))

    :ok
  end

  defp remove_link(path), do: if(match?({:ok, _target}, File.read_link(path)), do: File.rm(path), else: :ok)

  # Lets the base Python find the packages without the virtual environment. Paths in such a file may be relative.
  defp write_pth!(project, dir, python) do
    site_packages = Path.relative_to(Paths.site_packages!(dir), dir)
    folder = Path.join(python.prefix, Path.relative_to(site_packages, ".venv"))

    up =
      folder
      |> Path.relative_to(Paths.real_path(Path.dirname(project.python_dir)))
      |> Path.split()
      |> Enum.map(fn _ -> ".." end)

    Cache.mkdir!(folder)
    Cache.write!(Path.join(folder, "pythonx.pth"), Path.join(up ++ [Path.basename(project.dir), site_packages]) <> "\n")
  end
end
