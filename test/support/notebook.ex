defmodule Pythonx.Notebook do
  @moduledoc false
  # Runs cells as Livebook does, in the calling process: a Python cell is a ~PY sigil that is expanded once and whose call of
  # `Pythonx.eval/2` is given the group leader for standard error; an evaluation gets the variables of the cells before it
  # and returns those that it used. And reads .livemd files.

  defstruct binding: [], used: [], env: nil

  @type t :: %__MODULE__{binding: keyword(), used: keyword(), env: Macro.Env.t()}

  @doc "A notebook without variables. `file` is what Livebook gives its cells."
  def new(file \\ "/home/user/notebook.livemd#cell:abc"), do: %__MODULE__{env: %{Code.env_for_eval([]) | file: file}}

  @doc "Evaluates a cell. `used` of the returned notebook are the variables that it has read or written."
  @spec eval(t(), String.t(), String.t()) :: {term(), t()}
  def eval(notebook, "pyproject.toml", toml) do
    :ok = Pythonx.uv_init(toml)
    Pythonx.eval("import os\nos.environ['MPLBACKEND'] = 'Agg'", %{})
    {:ok, notebook}
  end

  def eval(notebook, language, code) do
    quoted = if language == "python", do: python(notebook, code), else: Code.string_to_quoted!(code)
    {value, used, env} = Code.eval_quoted_with_env(quoted, notebook.binding, env(notebook), prune_binding: true)
    if language == "python", do: close_figures()
    {value, %{notebook | binding: Keyword.merge(notebook.binding, used), used: used, env: env}}
  end

  # Only the variables are said anew: imports, aliases and requires of the cells before hold.
  defp env(%{binding: binding, env: env}) do
    vars = binding |> Enum.with_index() |> Map.new(fn {{name, _value}, index} -> {{name, nil}, index} end)
    %{env | versioned_vars: vars}
  end

  @doc "What a Python cell is evaluated as."
  @spec python(t(), String.t()) :: Macro.t()
  def python(notebook, code) do
    notebook |> expand(code) |> Macro.prewalk(&redirect_stderr/1)
  end

  @doc "The single expansion of a Python cell."
  @spec expand(t(), String.t()) :: Macro.t()
  def expand(notebook, code) do
    env = %{env(notebook) | requires: [Pythonx], macros: [{Pythonx, [{:sigil_PY, 2}]}], tracers: []}
    Macro.expand_once({:sigil_PY, [], [{:<<>>, [], [code]}, []]}, env)
  end

  defp redirect_stderr({{:., _, [{:__aliases__, _, [:Pythonx]}, :eval]} = function, meta, [code, globals]}) do
    {function, meta, [code, globals, quote(do: [stderr_device: Process.group_leader()])]}
  end

  defp redirect_stderr(other), do: other

  defp close_figures do
    Pythonx.eval(
      "import sys\nif 'matplotlib' in sys.modules:\n  import matplotlib.pyplot as plt\n  plt.close('all')",
      %{}
    )
  end

  @doc "The line that Livebook marks for an error, and its text there; `nil` when it marks none."
  @spec marker(Pythonx.Error.t()) :: {pos_integer(), String.t()} | nil
  def marker(error) do
    decode_error(error, """
    import traceback

    if traceback_ is None:
        marker = None
    else:
        line = value.lineno if isinstance(value, SyntaxError) else traceback_.tb_lineno
        marker = (line, "".join(traceback.format_exception_only(type, value)).strip())
    marker
    """)
  end

  @doc "The text that Livebook shows for an error, as iodata."
  @spec text(Pythonx.Error.t()) :: [String.t()]
  def text(error) do
    decode_error(error, """
    import traceback

    if isinstance(value, SyntaxError):
        traceback_ = None
    traceback.format_exception(type, value, traceback_)
    """)
  end

  defp decode_error(error, code) do
    globals = %{"type" => error.type, "value" => error.value, "traceback_" => error.traceback}
    {result, _globals} = Pythonx.eval(code, globals)
    Pythonx.decode(result)
  end

  @doc "What is shown of the value of a Python cell when nothing renders it; `nil` for nothing."
  @spec show(term()) :: String.t() | nil
  def show(nil), do: nil

  def show(%Pythonx.Object{} = value) do
    {result, _globals} = Pythonx.eval("repr(value)", %{"value" => value})
    Pythonx.decode(result)
  end

  @doc """
  Runs the cells of a file in the calling process, and returns what Livebook would show below each of them: what it printed
  and, unless that is `nil` in Python, its value.
  """
  @spec run([map()], Path.t()) :: [String.t()]
  def run(cells, path) do
    {outputs, _notebook} =
      Enum.map_reduce(cells, new(Path.expand(path) <> "#cell:abc"), fn cell, notebook ->
        {{value, notebook}, printed} = Pythonx.UvCase.with_output(fn -> eval(notebook, cell.language, cell.code) end)
        {printed <> shown(cell.language, value), notebook}
      end)

    outputs
  end

  defp shown("pyproject.toml", :ok), do: ""
  defp shown("python", value), do: if(text = show(value), do: text <> "\n", else: "")
  defp shown("elixir", value), do: inspect(value, pretty: true) <> "\n"

  @doc """
  The code cells of a .livemd file, in their order: `%{language: ..., code: ..., line: ..., output: text | nil}`, of which the
  first is the setup cell.
  """
  @spec read!(Path.t()) :: [map()]
  def read!(path) do
    lines = path |> File.read!() |> String.split("\n") |> Enum.with_index(1)
    lines |> read_cells([], false) |> Enum.reverse()
  end

  @output ~s(<!-- livebook:{"output":true} -->)

  defp read_cells([], cells, false), do: cells
  defp read_cells([{@output, _number} | rest], cells, false), do: read_cells(rest, cells, true)

  defp read_cells([{"```" <> language, number} | rest], cells, output?) do
    {code, [_end | rest]} = Enum.split_while(rest, fn {line, _number} -> line != "```" end)
    code = Enum.map_join(code, &(elem(&1, 0) <> "\n"))
    read_cells(rest, add(cells, language, code, number + 1, output?), false)
  end

  defp read_cells([_line | rest], cells, output?), do: read_cells(rest, cells, output?)

  defp add([cell | cells], _language, text, _line, true), do: [%{cell | output: (cell.output || "") <> text} | cells]
  defp add(cells, language, code, line, false), do: [%{language: language, code: code, line: line, output: nil} | cells]
end
