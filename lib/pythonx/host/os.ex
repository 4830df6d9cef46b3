defmodule Pythonx.Host.OS do
  # What differs between operating systems. What they are called elsewhere is told by Pythonx.Host.Platform and
  # Pythonx.Uv.Target; the C++ side has c_src/bridge/vm/system.hpp, the launcher c_src/launcher/family.h and sandbox.h. No other part of Pythonx
  # asks on which system it is.
  #
  # Each function takes the system, so that what it says for another one can be tested.
  @moduledoc false

  alias Pythonx.Host.Program

  @type t :: :linux | :macos | :unix | :windows

  @doc "The system that this VM runs on. `:unix` is any other than Linux and macOS."
  @spec current() :: t()
  def current do
    case :os.type() do
      {:unix, :linux} -> :linux
      {:unix, :darwin} -> :macos
      {:unix, _other} -> :unix
      {:win32, _name} -> :windows
    end
  end

  @doc "Why nothing can be compiled for this system, in a sentence; `nil` if it can."
  @spec unsupported(t()) :: String.t() | nil
  def unsupported(:windows) do
    "Pythonx does not run on Windows itself: use it in WSL2, the Windows Subsystem for Linux, which `wsl --install` sets up"
  end

  def unsupported(_os), do: nil

  @doc "How to install a compiler and make, as a command."
  @spec install_compiler(t()) :: String.t()
  def install_compiler(:macos), do: "xcode-select --install"
  def install_compiler(_os), do: "apt-get install build-essential"

  @doc """
  The memory that a process uses, by default this one, in bytes: its data on Linux, which its limit counts, and what of it is
  resident elsewhere. The error is a sentence.
  """
  @spec memory(t(), String.t()) :: {:ok, non_neg_integer()} | {:error, String.t()}
  def memory(os, os_pid \\ System.pid())

  def memory(:linux, os_pid) do
    with {:ok, status} <- File.read("/proc/#{os_pid}/status"),
         [_all, kilobytes] <- Regex.run(~r/^VmData:\s+(\d+) kB/m, status) do
      {:ok, String.to_integer(kilobytes) * 1024}
    else
      _missing -> {:error, "/proc/#{os_pid}/status does not tell it"}
    end
  end

  def memory(:windows, _os_pid), do: {:error, "this system does not tell it"}

  def memory(_os, os_pid) do
    with {:ok, output, 0} <- Program.run("ps", ["-o", "rss=", "-p", os_pid]),
         {kilobytes, ""} <- output |> String.trim() |> Integer.parse() do
      {:ok, kilobytes * 1024}
    else
      {:error, reason} -> {:error, "ps cannot be run: #{reason}"}
      _other -> {:error, "ps does not tell it"}
    end
  end

  @doc "Whether the system keeps a process below the limit that it has set on its data. macOS takes the limit, and counts little."
  @spec enforces_data_limit?(t()) :: boolean()
  def enforces_data_limit?(os), do: os == :linux

  @doc "The user that this process belongs to; 0 where users have no numbers, as all files have that one then."
  @spec own_uid(t()) :: non_neg_integer()
  def own_uid(:windows), do: 0

  # Linux tells it without a process.
  def own_uid(os) do
    with {:error, _reason} <- if(os == :linux, do: File.stat("/proc/self"), else: {:error, :enoent}),
         {:ok, output, 0} <- Program.run("id", ["-u"]) do
      output |> String.trim() |> String.to_integer()
    else
      {:ok, %File.Stat{uid: uid}} -> uid
      _unknown -> 0
    end
  end

  @doc """
  A path in the form in which two names of one file are equal, links aside.

  The usual file system of macOS keeps how a name is written, and takes it in upper and lower case, composed or not, for the same.
  """
  @spec comparable(Path.t(), t()) :: String.t()
  def comparable(path, os) when os in [:macos, :windows] do
    path |> String.normalize(:nfd) |> String.downcase() |> String.normalize(:nfd)
  end

  def comparable(path, _os), do: path

  @doc "The name of the shared library in an installation of Python, as a pattern below its folder."
  @spec libpython_pattern(t()) :: String.t()
  def libpython_pattern(:windows), do: "python3?*.dll"
  def libpython_pattern(:macos), do: "lib/libpython3.*.dylib"
  def libpython_pattern(_os), do: "lib/libpython3.*.so"

  @doc "Where a virtual environment has its Python, and its packages (as a pattern), below its folder."
  @spec venv_layout(t()) :: %{python: String.t(), packages: String.t()}
  def venv_layout(:windows), do: %{python: "Scripts/python.exe", packages: "Lib/site-packages"}
  def venv_layout(_os), do: %{python: "bin/python", packages: "lib/python3*/site-packages"}

  @doc "The folder of programs of an installation, below its own: `nil` for that itself."
  @spec programs_folder(t()) :: String.t() | nil
  def programs_folder(:windows), do: nil
  def programs_folder(_os), do: "bin"

  @doc "The name of a program as a file."
  @spec python_program(String.t(), t()) :: String.t()
  def python_program(_name, :windows), do: "python.exe"
  def python_program(name, _os), do: name

  @doc "What stands between two folders in `PATH`."
  @spec path_separator(t()) :: String.t()
  def path_separator(:windows), do: ";"
  def path_separator(_os), do: ":"

  @doc "Whether there is `/bin/sh`, and are process groups and signals."
  @spec posix?(t()) :: boolean()
  def posix?(os), do: os != :windows

  @doc """
  What uv calls the system in the names of its Pythons, for a copy of one; or, in a sentence, why a Python cannot be copied here.
  """
  @spec copied_python_name(t()) :: {:ok, String.t()} | {:error, String.t()}
  def copied_python_name(:linux), do: {:ok, "linux"}

  def copied_python_name(_os) do
    {:error,
     "a Python of the system can be copied on Linux only: elsewhere its files name each other by paths that are signed, or not " <>
       "known. Let uv install a Python of its own"}
  end
end
