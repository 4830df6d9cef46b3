defmodule Mix.Tasks.Pythonx.Shell do
  @shortdoc "Python's prompt, in this VM"

  @moduledoc """
  Starts Python in this VM with the packages of this project, and its prompt.

      $ mix pythonx.shell
      Python 3.13.0 in this VM. Leave with exit() or Ctrl+D
      >>> import pythonx
      >>> pythonx.self()

  The application is started, so that Python can call it. The environment is that of `config :pythonx, :uv_init`, or what the
  applications ask for, see `Pythonx.Requirements`.

  ## Options

    * `--no-start` - does not start the application
  """

  use Mix.Task

  # A console whose lines come from Elixir, which has the terminal.
  @console """
  import code, sys

  class Console(code.InteractiveConsole):
      def raw_input(self, prompt=""):
          line = read(prompt)
          if line is None:
              raise EOFError
          return line

  banner = "Python " + sys.version.split()[0] + " in this VM. Leave with exit() or Ctrl+D"
  try:
      Console({"__name__": "__console__", "__doc__": None}).interact(banner, exitmsg="")
  except SystemExit:
      pass
  """

  @impl true
  def run(args) do
    {opts, rest} = OptionParser.parse!(args, strict: [start: :boolean])
    if rest != [], do: Mix.raise("unexpected arguments: #{Enum.join(rest, " ")}")
    if opts[:start] == false, do: Mix.Task.run("app.config"), else: Mix.Task.run("app.start")
    {:ok, _started} = Application.ensure_all_started(:pythonx)
    start!()
    Pythonx.eval(@console, %{"read" => &read/1}, binaries: :str)
    :ok
  end

  defp start! do
    unless Pythonx.initialized?(), do: Pythonx.uv_init(Pythonx.Requirements.configured())
  rescue
    error in [RuntimeError, ArgumentError] -> Mix.raise(Exception.message(error))
  end

  defp read(prompt) do
    case IO.gets(prompt) do
      line when is_binary(line) -> Pythonx.encode!(String.trim_trailing(line, "\n"), binaries: :str)
      _end -> nil
    end
  end
end
