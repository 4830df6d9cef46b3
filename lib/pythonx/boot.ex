defmodule Pythonx.Boot do
  @moduledoc false

  # Starts the one interpreter of this VM: opens libpython, finds or builds the bridge that fits it, loads that, and
  # has it boot Python. Whatever can be checked is checked before, because a Python that failed half-way through its
  # boot cannot be tried again in the same VM.

  alias Pythonx.NIF

  @doc """
  Starts Python. See COMPAT for the texts of what may go wrong.
  """
  @spec start(String.t(), String.t(), String.t(), [String.t()]) :: :ok
  def start(dl_path, home, executable, sys_paths) do
    :global.trans({__MODULE__, self()}, fn -> do_start(dl_path, home, executable, sys_paths) end, [node()])
    |> case do
      :ok -> :ok
      {:raised, error, stacktrace} -> reraise error, stacktrace
    end
  end

  @typedoc "What a process that is to run a Python is told."
  @type plan :: %{
          libpython: Path.t(),
          bridge: Path.t(),
          program: Path.t(),
          arguments: list(),
          root: Path.t(),
          executable: Path.t(),
          folders: [Path.t()],
          reads: [Path.t()],
          env: %{String.t() => String.t() | nil}
        }

  @doc """
  What a worker of a pool starts Python from: the libraries, the program that opens them, and the arguments of `nif_init`. The
  folders are those of the user's own files; what else it reads, and environment variables, are given.
  """
  @spec plan!(Path.t(), Path.t(), Path.t(), [Path.t()], [Path.t()], map()) :: plan()
  def plan!(dl_path, home, executable, sys_paths, reads, env) do
    check_exists!(dl_path, &File.regular?/1, "dynamic library file")
    check_exists!(home, &File.dir?/1, "python home directory")
    bridge = Pythonx.Boot.Bridge.ensure_for!(program(executable, home, dl_path))
    python_dir = Application.app_dir(:pythonx, "priv/python")
    folders = Pythonx.Files.folders()

    %{
      libpython: dl_path,
      bridge: bridge,
      program: Pythonx.Boot.Bridge.Compiler.worker_path(bridge),
      arguments: [executable, home_for(executable, home), python_dir, sys_paths ++ folders],
      root: home,
      executable: executable,
      folders: folders,
      reads: reads ++ sys_paths,
      env: env
    }
  end

  # An exception must not leave `:global` with a lock of a process that lives on.
  defp do_start(dl_path, home, executable, sys_paths) do
    check_exists!(dl_path, &File.regular?/1, "dynamic library file")
    check_exists!(home, &File.dir?/1, "python home directory")
    if NIF.initialized?(), do: raise("Python interpreter has already been initialized")
    own = Pythonx.Files.folders()
    version = open!(dl_path)
    check_home!(home, version)
    load!(Pythonx.Boot.Bridge.ensure!(Pythonx.Boot.Bridge.tag(version), program(executable, home, dl_path)), dl_path)
    # The application need not have been started.
    Pythonx.Integrations.Kino.implement()
    boot!(executable, home_for(executable, home), sys_paths ++ own)
    Pythonx.Files.tell!(own)
  rescue
    error -> {:raised, error, __STACKTRACE__}
  end

  defp check_exists!(path, exists?, what) do
    exists?.(path) || raise ArgumentError, "the given #{what} does not exist: #{path}"
  end

  defp open!(dl_path) do
    case NIF.Loader.open(dl_path) do
      {:ok, version} ->
        version

      {:error, {:symbol, name, reason}} ->
        raise "failed to load library symbol: #{name}, reason: #{reason}"

      {:error, reason} ->
        raise "failed to open Python dynamic library, path: #{dl_path}, reason: #{reason}"
    end
  end

  # Without its standard library Python cannot even report what is wrong.
  defp check_home!(home, version) do
    [major, minor | _] = version |> String.split(~r/[. ]/)
    threads = if version =~ "free-threading", do: "t", else: ""

    candidates = [
      Path.join([home, "lib", "python#{major}.#{minor}#{threads}", "encodings"]),
      Path.join([home, "lib64", "python#{major}.#{minor}#{threads}", "encodings"]),
      Path.join([home, "lib", "python#{major}#{minor}#{threads}.zip"]),
      Path.join([home, "Lib", "encodings"])
    ]

    Enum.any?(candidates, &File.exists?/1) ||
      raise "the Python home directory #{home} does not hold the standard library of Python #{major}.#{minor}, " <>
              "#{hd(candidates)} does not exist"
  end

  defp load!(bridge_path, dl_path) do
    case NIF.load(bridge_path) do
      :ok -> :ok
      {:error, text} -> raise "failed to load the bridge library #{bridge_path} for #{dl_path}, reason: #{text}"
    end
  end

  # An embedded Python may have no executable: callers then name a file that is not there, or libpython itself. What can be
  # asked for headers, should the bridge have to be compiled, is that of its home then.
  defp program(executable, home, dl_path) do
    others = for name <- ["python3", "python"], do: Path.join([home, "bin", name])
    Enum.find([executable | others], executable, &(&1 != dl_path and File.regular?(&1)))
  end

  # In a virtual environment Python finds its home by itself, from pyvenv.cfg, and only then takes the environment for
  # one. A home is given where that file is missing or names a folder that is gone.
  defp home_for(executable, home) do
    config = executable |> Path.dirname() |> Path.dirname() |> Path.join("pyvenv.cfg")

    with {:ok, text} <- File.read(config),
         [_, recorded] <- Regex.run(~r/^home\s*=\s*(.*?)\s*$/m, text),
         true <- File.dir?(recorded) do
      ""
    else
      _ -> home
    end
  end

  defp boot!(executable, home, sys_paths) do
    python_dir = Application.app_dir(:pythonx, "priv/python")

    case NIF.nif_init(executable, home, python_dir, sys_paths) do
      :ok -> :ok
      {:error, :already_initialized} -> raise "Python interpreter has already been initialized"
      {:error, reason} -> raise "failed to start the Python interpreter, reason: #{reason}"
    end
  end
end
