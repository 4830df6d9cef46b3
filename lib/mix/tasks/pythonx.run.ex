defmodule Mix.Tasks.Pythonx.Run do
  @shortdoc "Runs a Python script or module in the environment"

  @moduledoc """
  Runs a Python script, or a module with `-m`, with the Python and the packages of this project.

      $ mix pythonx.run scripts/import.py --year 2024
      $ mix pythonx.run -m pytest tests
      $ mix pythonx.run -c "import sys; print(sys.prefix)"

  All arguments are Python's. The environment is that of `config :pythonx, :uv_init`, or what the applications ask for, see
  `Pythonx.Requirements`; it is made if it is not there.

  Python runs as a program of its own, on the terminal if there is one; otherwise its standard input is empty. The task ends
  with its exit status.
  """

  use Mix.Task

  alias Pythonx.Host.Program

  # The VM's own input is not to be had by other programs, but the terminal is.
  @script """
  if [ -t 1 ] && (exec </dev/tty) 2>/dev/null; then exec "$@" </dev/tty; else exec "$@" </dev/null; fi
  """

  @impl true
  def run([]), do: Mix.raise("expected a script, -m and a module, or -c and code. Python's prompt is mix pythonx.shell")

  def run(args) do
    Mix.Task.run("app.config")
    program = program!()

    case run_program(program, args) do
      0 -> :ok
      status -> exit({:shutdown, status})
    end
  end

  defp program! do
    Pythonx.Requirements.program!()
  rescue
    error in [RuntimeError, ArgumentError] -> Mix.raise(Exception.message(error))
  end

  # Its output does not pass through this VM, so that Python knows whether it is a terminal.
  defp run_program(program, args) do
    Program.apart(fn ->
      arguments = ["-c", @script, "sh", program | args]
      port = Port.open({:spawn_executable, "/bin/sh"}, [:nouse_stdio, :exit_status, :hide, args: arguments])

      receive do
        {^port, {:exit_status, status}} -> status
      end
    end)
  end
end
