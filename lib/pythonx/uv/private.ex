defmodule Pythonx.Uv.Private do
  # What an environment in the priv of the application needs so that a release can take it along, be moved, and be run
  # from a folder that cannot be written: no path in it may lead out of it.
  #
  # `mix release` copies what links lead to. Links that only give a second name to something would be second copies.
  @moduledoc false

  alias Pythonx.Boot.Python
  alias Pythonx.Host.{Cache, Program}
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
    with {:error, error} <- link_program(project, dir, python.executable), do: raise(error)
    for name <- ["bin/#{Path.basename(python.executable)}", "lib64"], do: remove_link(dir, name)
    remove_others(project.python_dir, python)
    write_pth!(project, dir, python)
    compile_all(dir, python)
  end

  @doc """
  Makes the programs of the environment in `dir` lead to `base`, a program of its base Python.

  `mix release` puts copies in place of links, which may not find their libpython from there.
  """
  @spec link_program(Project.t(), dir :: Path.t(), base :: Path.t()) :: :ok | {:error, Exception.t()}
  def link_program(project, dir, base) do
    program = Path.relative_to(Paths.real_path(base), Paths.real_path(project.python_dir))
    # From .venv/bin of the project to the folder of the Pythons, which is beside the project.
    target = Path.join("../../../#{Path.basename(project.python_dir)}", program)
    python = Paths.venv_python(dir)
    # What the scripts of packages start.
    python3 = Path.join(Path.dirname(python), "python3")
    with :ok <- link(python, target), do: link(python3, Path.basename(python))
  end

  defp link(path, target) do
    if File.read_link(path) == {:ok, target}, do: :ok, else: replace_by_link(path, target)
  end

  defp replace_by_link(path, target) do
    temporary = Cache.temporary_beside(path)

    with :ok <- File.ln_s(target, temporary), :ok <- File.rename(temporary, path) do
      :ok
    else
      {:error, reason} ->
        File.rm(temporary)
        {:error, RuntimeError.exception("could not make the link #{path}: #{:file.format_error(reason)}")}
    end
  end

  # Pythons of earlier environments, and the second name without the patch version that uv gives each Python.
  defp remove_others(python_dir, python) do
    for name <- File.ls!(python_dir),
        name != Path.basename(python.prefix),
        do: Cache.rm_rf!(Path.join(python_dir, name))

    :ok
  end

  defp remove_link(dir, name) do
    path = Path.join([dir, ".venv", name])
    if match?({:ok, _target}, File.read_link(path)), do: File.rm(path), else: :ok
  end

  # Lets the base Python find the packages without the virtual environment. Paths in such a file may be relative.
  defp write_pth!(project, dir, python) do
    uv_dir = Paths.real_path(Path.dirname(project.python_dir))
    folder = own_site_packages!(python)
    up = folder |> Path.relative_to(uv_dir) |> Path.split() |> Enum.map(fn _ -> ".." end)
    site_packages = Path.relative_to(Paths.site_packages!(dir), dir)
    Cache.mkdir!(folder)
    Cache.write!(Path.join(folder, "pythonx.pth"), Path.join(up ++ [Path.basename(project.dir), site_packages]) <> "\n")
  end

  # Distributions have changed where it is.
  defp own_site_packages!(python) do
    script = "import site; print(site.getsitepackages()[0], end='')"

    with {:ok, output, 0} <- Program.run(python.executable, ["-I", "-c", script]),
         true <- Paths.inside?(output, python.prefix) do
      output
    else
      other -> raise "#{python.executable} does not say where its packages are: #{inspect(other)}"
    end
  end

  # Where it runs, the folder may not be writable, and copying has changed the times of its files: compiled files that are
  # believed without a look at them serve from the first start on. Those of our own may be worked on.
  defp compile_all(dir, python) do
    venv_lib = Path.dirname(Path.dirname(Paths.site_packages!(dir)))
    tests = "(site-packages|/python3[.0-9t]+)/(.*/)?tests?/"
    compile(python, ["unchecked-hash", "-x", tests, venv_lib, Path.join(python.prefix, "lib")])
    compile(python, ["checked-hash", "-f", Application.app_dir(:pythonx, "priv/python")])
  end

  # What cannot be compiled was not meant to be, such as templates.
  defp compile(python, args) do
    options = ["-q", "-q", "-j", "0", "--invalidation-mode"]
    _result = Program.run(python.executable, ["-I", "-m", "compileall"] ++ options ++ args)
    :ok
  end
end
