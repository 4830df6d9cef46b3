defmodule Pythonx.Uv.Fetch do
  # Makes the environment of a project, unless it is there.
  #
  # It is made in a folder of its own beside its place and moved there when it is whole: a start that is killed leaves
  # nothing that looks like an environment, and a uv that outlives its VM for a moment writes where nobody looks. The
  # lock only saves others the same work.
  @moduledoc false

  alias Pythonx.Host.{Cache, Lock}
  alias Pythonx.Uv.{Binary, Command, Environment, Interpreter, Paths, Private, Project, PyvenvCfg}

  # uv says why it has none to give. That one of the system would do, it does not say.
  @no_python "Pythonx: no Python was found that fits, and uv could not download one. One of the system will do, with its " <>
               "shared library and headers: on Debian, apt-get install python3-dev"

  @doc "Raises a `RuntimeError` when the environment cannot be made, and leaves an earlier one alone then."
  @spec run!(Project.t()) :: :ok
  def run!(project) do
    if project.opts.force or not Environment.ready?(project), do: locked(project), else: :ok
  end

  @doc """
  What uv would install, as the text of a lock: nothing is installed. An earlier lock is that of the project, which keeps its
  versions where they fit, unless `upgrade?`. Output of uv is shown unless `quiet?`.
  """
  @spec resolve!(Project.t(), keyword()) :: String.t()
  def resolve!(project, opts \\ []) do
    Cache.mkdir!(Path.dirname(project.dir))
    uv = find_uv!(project.opts)
    dir = Cache.temporary_beside(project.dir)

    try do
      write_project!(project, dir)
      python = choose!(uv, project, dir)
      args = ["lock", "--no-config", "--python", python.executable] ++ if(opts[:upgrade?], do: ["--upgrade"], else: [])
      if opts[:quiet?], do: capture!(uv, args, project, dir), else: run!(uv, args, project, dir)
      dir |> Path.join("uv.lock") |> File.read!()
    after
      File.rm_rf(dir)
    end
  end

  defp capture!(uv, args, project, dir) do
    case Command.capture(uv, args, dir, Command.env(project)) do
      {_output, 0} -> :ok
      {output, _status} -> raise failure(output)
    end
  end

  defp locked(project) do
    Cache.mkdir!(Path.dirname(project.dir))
    Cache.mkdir!(project.locks_dir)
    on_wait = fn -> IO.puts("Waiting for another process that makes the same environment") end

    Lock.with_lock(
      Project.lock_path(project),
      fn -> if project.opts.force or not Environment.ready?(project), do: make!(project), else: :ok end,
      on_wait: on_wait
    )
  end

  defp make!(project) do
    remove_leftovers(project)
    uv = find_uv!(project.opts)
    dir = Cache.temporary_beside(project.dir)

    try do
      write_project!(project, dir)
      python = install!(uv, project, dir)
      finish!(project, dir, python)
      Cache.rename!(dir, project.dir)
    after
      File.rm_rf(dir)
    end
  end

  # Whoever holds the lock is the only one at work, so these belong to starts that were killed.
  defp remove_leftovers(project) do
    parent = Path.dirname(project.dir)
    for name <- File.ls!(parent), Cache.temporary?(name, project.dir), do: File.rm_rf(Path.join(parent, name))
    :ok
  end

  defp find_uv!(opts) do
    case Binary.find(opts) do
      {:ok, uv} -> uv
      {:error, message} -> raise message
    end
  end

  defp write_project!(project, dir) do
    Cache.mkdir!(dir)
    Cache.write!(Path.join(dir, "pyproject.toml"), project.toml)
    if project.opts.lock, do: Cache.write!(Path.join(dir, "uv.lock"), project.opts.lock)
    :ok
  end

  defp install!(uv, project, dir) do
    python = choose!(uv, project, dir)
    IO.puts("Using CPython #{python.version} at #{python.prefix}")
    make_venv!(uv, project, dir, python)
    sync!(uv, project, dir, python)
    python
  end

  defp choose!(uv, project, dir) do
    Cache.mkdir!(project.python_dir)

    case Interpreter.choose(uv, project, dir) do
      {:ok, python} ->
        python

      {:error, nil} ->
        no_python!("")

      {:error, {:uv, last_lines}} ->
        no_python!(last_lines)

      {:error, reason} ->
        raise reason
    end
  end

  @spec no_python!(String.t()) :: no_return()
  defp no_python!(last_lines) do
    IO.puts(@no_python)
    raise failure(String.trim_leading(last_lines <> "\n" <> @no_python))
  end

  # Relocatable: the scripts in it look for Python beside themselves, and not where they were written.
  defp make_venv!(uv, project, dir, python) do
    Cache.rm_rf!(Path.join(dir, ".venv"))
    run!(uv, ["venv", "--quiet", "--relocatable", "--no-config", "--python", python.executable, ".venv"], project, dir)
  end

  # With a lock file, uv installs what it says or fails if it does not belong to the project.
  defp sync!(uv, project, dir, python) do
    locked = if project.opts.lock, do: ["--locked"], else: []
    run!(uv, ["sync", "--no-config", "--python", python.executable] ++ locked, project, dir)
  end

  defp run!(uv, args, project, dir) do
    case Command.stream(uv, args, dir, Command.env(project)) do
      {0, _last_lines} -> :ok
      {_status, last_lines} -> raise failure(last_lines)
    end
  end

  # The first line is what callers know. The reason is in the text as well, as standard output may be far from where this is read.
  defp failure(""), do: "fetching Python and dependencies failed, see standard output for details"
  defp failure(reason), do: failure("") <> "\n\n" <> reason

  defp finish!(project, dir, python) do
    correct_paths!(dir, project.dir)
    if Paths.inside?(python.prefix, Paths.real_path(project.python_dir)), do: set_home!(dir, project, python)
    if project.private?, do: Private.detach!(project, dir, python)
    Environment.write_record!(project, dir, python)
  end

  # Two kinds of files name the folder of the project: of packages that are installed from it, and of the project itself.
  defp correct_paths!(dir, place) do
    site_packages = Paths.site_packages!(dir)
    names = for name <- File.ls!(site_packages), String.ends_with?(name, ".pth"), do: name

    infos =
      for name <- File.ls!(site_packages), String.ends_with?(name, ".dist-info"), do: Path.join(name, "direct_url.json")

    for name <- names ++ infos,
        path = Path.join(site_packages, name),
        {:ok, content} <- [File.read(path)],
        String.contains?(content, dir),
        do: Cache.write_atomically!(path, String.replace(content, dir, place))

    :ok
  end

  # uv names it by a link that leads to the latest patch version.
  defp set_home!(dir, project, python) do
    root = Path.join(project.python_dir, Path.relative_to(python.prefix, Paths.real_path(project.python_dir)))
    with {:error, error} <- PyvenvCfg.put_home(dir, PyvenvCfg.read!(dir), Paths.home(root)), do: raise(error)
  end
end
