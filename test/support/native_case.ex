defmodule Pythonx.NativeCase do
  @moduledoc false
  # For tests of what is native: a real Python, libraries made on the spot, and VMs that a test may spoil.

  @doc "The Python under test: the executable of the base installation that the suite runs in, or else PYTHONX_TEST_PYTHON."
  def python! do
    with nil <- base_of_running(), nil <- System.get_env("PYTHONX_TEST_PYTHON") do
      raise "Python is not running here, and PYTHONX_TEST_PYTHON is not set"
    end
  end

  defp base_of_running do
    [_root, project_dir] = Pythonx.install_paths()
    venv_python = Path.join(project_dir, ".venv/bin/python")
    {executable, 0} = System.cmd(venv_python, ["-I", "-c", "import sys; print(sys._base_executable, end='')"])
    executable
  rescue
    RuntimeError -> nil
  end

  @doc "What an expression over `sys` and `sysconfig` is in the Python under test."
  def ask_python!(expression) do
    {answer, 0} = System.cmd(python!(), ["-I", "-c", "import os, sys, sysconfig; print(#{expression}, end='')"])
    answer
  end

  @doc "Compiles C source text into a shared library at `path`."
  def shared_library!(path, source) do
    File.mkdir_p!(Path.dirname(path))
    file = path <> ".c"
    File.write!(file, source)
    {_output, 0} = System.cmd("cc", ["-shared", "-fPIC", "-o", path, file])
    path
  end

  @doc "Writes an executable shell script."
  def script!(path, body) do
    File.write!(path, "#!/bin/sh\n" <> body)
    File.chmod!(path, 0o755)
    path
  end

  @doc """
  Starts an OS process of its own: a VM with Elixir and Pythonx in its code path, with no distribution, to be called with
  `:peer.call/4`. It ends with the test process.
  """
  def start_vm! do
    paths = Enum.flat_map([:elixir, :logger, :pythonx], &[~c"-pa", &1 |> :code.lib_dir() |> :filename.join(~c"ebin")])
    erl = Path.join(:code.root_dir(), "bin/erl") |> String.to_charlist()
    # What it says on standard error would mix with what the suite prints.
    exec = {~c"/bin/sh", [~c"-c", ~c"exec \"$@\" 2>/dev/null", ~c"sh", erl]}
    {:ok, vm, _node} = :peer.start_link(%{connection: :standard_io, exec: exec, args: paths})
    vm
  end

  @doc "Takes a lock, in a process that keeps it until it gets `:leave`. Returns that process."
  def hold_lock(path) do
    caller = self()

    pid =
      spawn(fn ->
        Pythonx.Host.Lock.with_lock(path, fn ->
          send(caller, {:held, self()})
          receive do: (:leave -> :ok)
        end)
      end)

    receive do: ({:held, ^pid} -> pid)
  end

  @doc "Kills the OS process of such a VM, as kill -9 does, and waits for its end."
  def kill_vm!(vm) do
    Process.unlink(vm)
    monitor = Process.monitor(vm)
    pid = :peer.call(vm, :os, :getpid, []) |> to_string()
    {"", 0} = System.cmd("kill", ["-9", pid])

    receive do
      {:DOWN, ^monitor, :process, ^vm, _reason} -> :ok
    end
  end
end
