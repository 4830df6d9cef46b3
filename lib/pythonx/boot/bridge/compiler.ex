defmodule Pythonx.Boot.Bridge.Compiler do
  # Compiles the sources of the bridge, in a folder of its own beside the place where the library goes, and renames the
  # library there when it is whole. The caller holds the lock.
  #
  # With it comes the program of the workers of `Pythonx.Pool`, from the folder `worker` beside that of the sources: its file
  # is `PATH.worker` where the library is `PATH.so`, and it is there before the library is.
  #
  # Who works on the bridge sets PYTHONX_BRIDGE_BUILD_DIR to a folder, which is then kept: only what changed is compiled again.
  @moduledoc false

  alias Pythonx.Host.{Cache, OS, Program}

  # What else lies in the folder of the sources, such as the files of editors, makes no difference.
  @extensions ~w(.c .cpp .hpp .h .inc)
  @names ~w(Makefile pybind11.txt)
  @tail_lines 20

  # Without the settings of a make that may have started us; with messages in English, of which one is looked for below.
  @make_env [{"MAKEFLAGS", nil}, {"MFLAGS", nil}, {"MAKELEVEL", nil}, {"LC_ALL", "C"}]

  @type includes :: %{python: String.t(), pybind11: String.t(), erlang: String.t()}

  @doc "The sources in a folder and in those below it, as paths from there, sorted. None if there is no such folder."
  @spec sources(String.t()) :: [String.t()]
  def sources(dir), do: dir |> sources_in("") |> Enum.sort()

  # Those of the workers lie beside those of the bridge.
  defp sources_with_worker(dir) do
    worker_dir = worker_dir(dir)

    for(path <- sources(dir), do: {path, Path.join(dir, path)}) ++
      for path <- sources(worker_dir), do: {Path.join("worker", path), Path.join(worker_dir, path)}
  end

  defp worker_dir(dir), do: dir |> Path.dirname() |> Path.join("worker")

  # No wildcard: characters of the folder may mean something in one.
  defp sources_in(dir, folder) do
    case File.ls(Path.join(dir, folder)) do
      {:ok, names} -> Enum.flat_map(names, &source(dir, Path.join(folder, &1)))
      {:error, _reason} -> []
    end
  end

  defp source(dir, path) do
    if Path.basename(path) in @names or Path.extname(path) in @extensions,
      do: [path],
      else: sources_in(dir, path)
  end

  @doc "A hash of the names and contents of the sources in a folder: that of what `sha256sum` prints of them, as text."
  @spec source_hash(String.t()) :: String.t()
  def source_hash(dir) do
    hash_all(for path <- sources(dir), do: {path, Path.join(dir, path)})
  end

  @doc "The same of the sources of the bridge in a folder, with those of the workers."
  @spec bridge_hash(String.t()) :: String.t()
  def bridge_hash(dir), do: dir |> sources_with_worker() |> hash_all()

  defp hash_all(sources) do
    sha256(for {path, file} <- sources, do: "#{file |> File.read!() |> sha256()}  #{path}\n")
  end

  @doc "The SHA-256 of data, as text."
  @spec sha256(iodata()) :: String.t()
  def sha256(data), do: :crypto.hash(:sha256, data) |> Base.encode16(case: :lower)

  @doc "Compiles the sources in `source_dir` into the library `path` with the tag in its name."
  @spec compile!(String.t(), String.t(), includes(), String.t()) :: :ok
  def compile!(source_dir, path, includes, tag) do
    programs = programs!(tag)
    build_dir = build_dir!(path, tag)

    try do
      copy_sources!(source_dir, build_dir)
      make!(programs, build_dir, includes, path, tag)

      if File.dir?(Path.join(build_dir, "worker")) do
        make!(programs, Path.join(build_dir, "worker"), includes, path, tag)
        install!(Path.join(build_dir, "worker/worker"), worker_path(path))
      end

      install!(Path.join(build_dir, "bridge.so"), path)
    after
      if not kept?(), do: File.rm_rf(build_dir)
    end
  end

  @doc "Where the program of the workers is that belongs to a library."
  @spec worker_path(Path.t()) :: Path.t()
  def worker_path(path), do: Path.rootname(path, ".so") <> ".worker"

  @doc "The programs that it takes. Raises a `RuntimeError` that says which are missing."
  @spec programs!(String.t()) :: %{make: String.t(), cxx: String.t()}
  def programs!(tag) do
    # BSDs call GNU make gmake.
    make = Enum.find_value(["gmake", "make"], &System.find_executable/1)
    cxx = find_cxx(System.get_env("CXX", ""))
    if make && cxx, do: %{make: make, cxx: cxx}, else: raise(missing_programs(make, cxx, tag))
  end

  # As the shell reads it. The variable is a path, or a program with arguments, as in "ccache g++".
  defp find_cxx(""), do: Enum.find_value(["c++", "g++", "clang++"], &find_cxx/1)

  defp find_cxx(variable) do
    with nil <- System.find_executable(variable) do
      [program | _arguments] = String.split(variable <> " ", " ", trim: false)
      System.find_executable(program) && variable
    else
      path -> "'" <> String.replace(path, "'", "'\\''") <> "'"
    end
  end

  defp missing_programs(make, cxx, tag) do
    missing = for {nil, name} <- [{make, "make"}, {cxx, "a C++ compiler"}], do: name

    "Pythonx has no bridge for #{Pythonx.Boot.Bridge.describe(tag)} yet, and cannot compile it: " <>
      "#{Enum.join(missing, " and ")} not found. Install what is missing, for example with: #{OS.install_compiler(OS.current())}. " <>
      "On a machine that has them, mix pythonx.build prebuilds the bridge into priv, for a release"
  end

  defp kept?, do: System.get_env("PYTHONX_BRIDGE_BUILD_DIR", "") != ""

  # Those of builds that were killed go first. Their compilers may still run, hence the name of our own.
  defp build_dir!(path, tag) do
    if kept?() do
      System.get_env("PYTHONX_BRIDGE_BUILD_DIR") |> Path.join(tag) |> Path.expand()
    else
      folder = Path.dirname(path)
      for name <- File.ls!(folder), Cache.temporary?(name, path), do: File.rm_rf(Path.join(folder, name))
      Cache.temporary_beside(path)
    end
  end

  # Copied, so that make meets no path with spaces; files that are there already keep their time stamps.
  defp copy_sources!(source_dir, build_dir) do
    Cache.mkdir!(build_dir)
    sources = sources_with_worker(source_dir)
    for old <- sources(build_dir) -- for({path, _file} <- sources, do: path), do: File.rm!(Path.join(build_dir, old))

    for {path, file} <- sources, target = Path.join(build_dir, path), content = File.read!(file) do
      Cache.mkdir!(Path.dirname(target))
      if File.read(target) != {:ok, content}, do: Cache.write!(target, content)
    end
  end

  defp make!(programs, build_dir, includes, path, tag) do
    args = ["-j#{System.schedulers_online()}", "CXX=" <> String.replace(programs.cxx, "$", "$$")]

    # Otherwise the compilers of a VM that ends meanwhile go on, beside those of the next one.
    {program, args} = Program.watched(programs.make, args)

    case Program.run(program, args, cd: build_dir, env: make_env(includes) ++ @make_env) do
      {:ok, _output, 0} -> :ok
      {:ok, output, _status} -> raise failure(output, Path.rootname(path, ".so") <> ".log", tag)
      {:error, reason} -> raise "#{programs.make} cannot be run: #{reason}"
    end
  end

  @doc "The environment variables that c_src/bridge/Makefile needs."
  @spec make_env(includes()) :: [{String.t(), String.t()}]
  def make_env(includes) do
    [{"PYTHON_INCLUDE", includes.python}, {"PYBIND11_INCLUDE", includes.pybind11}, {"ERL_INCLUDE", includes.erlang}]
  end

  defp failure(output, log, tag) do
    failed = "compiling the bridge for #{Pythonx.Boot.Bridge.describe(tag)} failed"

    cond do
      output =~ "No space left on device" -> "#{failed}: the disk of #{Path.dirname(log)} is full"
      File.write(log, output) == :ok -> "#{failed}, the whole output is in #{log}. Its end:\n\n#{tail(output)}"
      true -> "#{failed}:\n\n#{tail(output)}"
    end
  end

  defp tail(output) do
    output |> String.trim_trailing() |> String.split("\n") |> Enum.take(-@tail_lines) |> Enum.join("\n")
  end

  # Written anew beside its place: a folder that is kept may be on another file system.
  defp install!(built, path), do: Cache.write_atomically!(path, File.read!(built), 0o755)
end
