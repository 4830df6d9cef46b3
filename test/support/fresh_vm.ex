defmodule Pythonx.FreshVM do
  @moduledoc false

  # Runs a script in a VM of its own, with the Python of this suite: what ends the VM is tested there.

  import Pythonx.Case, only: [eval!: 1]

  @doc "What `Pythonx.init/4` needs to start the Python of this suite in another VM."
  @spec python :: [String.t()]
  def python do
    eval!("""
    import os, sys, sysconfig
    name = sysconfig.get_config_var("INSTSONAME")
    folders = [os.path.join(sys.base_prefix, "lib"), sysconfig.get_config_var("LIBDIR")]
    multiarch = sysconfig.get_config_var("MULTIARCH")
    folders += [os.path.join(f, multiarch) for f in folders if multiarch]
    [next(os.path.join(f, name) for f in folders if os.path.exists(os.path.join(f, name))), sys.base_prefix, sys.executable]
    """)
  end

  @doc """
  Runs Elixir code in a new VM, after `python` has been evaluated there, with `globals` of texts. The script goes on until the
  VM is ended. Returns the output and the exit status.
  """
  @spec run([String.t()], String.t(), String.t(), %{String.t() => String.t()}) :: {String.t(), non_neg_integer()}
  def run(paths, python, elixir, globals \\ %{}) do
    code = """
    {:ok, _} = Application.ensure_all_started(:pythonx)
    :ok = apply(Pythonx, :init, #{inspect(paths)})
    globals = Map.new(#{inspect(globals)}, fn {name, text} -> {name, Pythonx.encode!(text, binaries: :str)} end)
    kill = fn signal -> System.cmd("kill", ["-" <> signal, System.pid()]) end
    Pythonx.eval(#{inspect(python)}, globals)
    #{elixir}
    Process.sleep(:infinity)
    """

    ebin = Path.join(Application.app_dir(:pythonx), "ebin")
    System.cmd(System.find_executable("elixir"), ["-pa", ebin, "-e", code], stderr_to_stdout: true)
  end
end
