defmodule Pythonx.Formatter do
  @moduledoc ~S'''
  A plugin of `mix format` that formats the Python code in `~PY` with [ruff](https://docs.astral.sh/ruff/).

  In `.formatter.exs`:

      [
        plugins: [Pythonx.Formatter],
        inputs: ["{config,lib,test}/**/*.{ex,exs}"]
      ]

  ruff is that of `config :pythonx, ruff: "path"`, else the one on `PATH`, else that of the environment in the folder `.venv` or of
  `config :pythonx, :uv_init`. Where there is none, and where ruff cannot read the code, the code stays as it is. A `ruff.toml` or
  `pyproject.toml` of the project counts.

  Other sigils can be formatted as well:

      [
        plugins: [Pythonx.Formatter],
        python_sigils: [:PYTHON],
        inputs: [...]
      ]
  '''

  @behaviour Mix.Tasks.Format

  alias Pythonx.Host.{Cache, OS, Program}

  @impl true
  def features(opts), do: [sigils: [:PY | Keyword.get(opts, :python_sigils, [])]]

  # Only the text of a heredoc ends with a line end of its own.
  @impl true
  def format(code, opts) do
    with false <- String.trim(code) == "",
         ruff when ruff != nil <- ruff(),
         {:ok, text} <- run(ruff, code) do
      if opts[:opening_delimiter] in [~s(\"""), "'''"], do: text, else: in_place(String.trim_trailing(text, "\n"), code)
    else
      _as_it_is -> code
    end
  end

  # Amid Elixir, one line stays one.
  defp in_place(text, code),
    do: if(String.contains?(text, "\n") and not String.contains?(code, "\n"), do: code, else: text)

  defp ruff do
    case Application.get_env(:pythonx, :ruff) do
      nil -> System.find_executable("ruff") || Enum.find_value(environments(), &in_environment/1)
      path -> System.find_executable(path)
    end
  end

  # The one of the folder, and that of `config :pythonx, :uv_init`.
  defp environments, do: [Path.expand(".venv"), Application.app_dir(:pythonx, "priv/uv/project/.venv")]

  defp in_environment(venv) do
    programs = Path.dirname(OS.venv_layout(OS.current()).python)
    System.find_executable(Path.join([venv, programs, "ruff"]))
  end

  # In the folder of the project, whose settings count. A file is its input, as a program of the VM cannot be told where
  # that ends.
  defp run(ruff, code) do
    path = Path.join(System.tmp_dir!(), "pythonx_#{System.pid()}_#{System.unique_integer([:positive])}.py")
    script = ~s(file=$1; shift; exec "$@" <"$file" 2>/dev/null)
    args = ["-c", script, "sh", path, ruff, "format", "--quiet", "--stdin-filename", "sigil.py", "-"]

    try do
      Cache.write!(path, code)
      with {:ok, text, 0} <- Program.run("/bin/sh", args), do: {:ok, text}
    after
      File.rm(path)
    end
  end
end
