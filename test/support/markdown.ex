defmodule Pythonx.Markdown do
  @moduledoc false

  # Runs what the fenced blocks of a document show, by these conventions:
  #
  #   * blocks with an `iex>` prompt are doctests, run by ExUnit's `doctest_file`
  #   * a section (from one heading to the next) in which `Mix.install` is called is a program, and runs in an operating
  #     system process of its own. With one block it is a script. With more it is a notebook: `elixir` blocks are Elixir
  #     cells, `python` blocks Python cells, `toml` blocks pyproject.toml cells, run as Livebook runs them
  #   * a `text` block shows what the block before it prints or, if that prints nothing, its value
  #   * an `elixir` block that begins with `import Config` is a configuration, and must load as one
  #   * other `elixir` blocks are not allowed: nothing would run them

  @type block :: %{lang: String.t(), code: String.t(), line: pos_integer()}
  @type program :: %{name: String.t(), kind: :script | :notebook, blocks: [block()]}

  @placeholder "/path/to/pythonx"

  @doc "The programs of a document, and the blocks that nothing runs."
  @spec read!(Path.t()) :: {[program()], unused :: [block()]}
  def read!(path) do
    {programs, others} = path |> File.read!() |> sections() |> Enum.split_with(&program?/1)
    rest = for {_name, blocks} <- others, %{lang: "elixir"} = block <- blocks, not doctest?(block), do: block
    {Enum.map(programs, &program/1), Enum.reject(rest, &config?/1)}
  end

  defp program?({_name, blocks}), do: Enum.any?(blocks, &(&1.code =~ "Mix.install("))

  defp config?(%{code: "import Config\n" <> _ = code}), do: Config.Reader.eval!("config.exs", code) != []
  defp config?(_block), do: false

  defp doctest?(block), do: block.code =~ ~r/^iex(\(\d+\))?>/m

  defp program({name, blocks}) do
    blocks = Enum.reject(blocks, &(doctest?(&1) or &1.lang not in ~w(elixir python toml text)))
    kind = if Enum.count(blocks, &(&1.lang != "text")) == 1, do: :script, else: :notebook
    %{name: name, kind: kind, blocks: blocks}
  end

  # As {heading, blocks}. The lines of a block are not taken for headings.
  defp sections(text) do
    text
    |> String.split("\n")
    |> Enum.with_index(1)
    |> Enum.reduce({nil, [{"", []}]}, &read_line/2)
    |> then(fn {nil, sections} -> sections end)
    |> Enum.map(fn {name, blocks} -> {name, Enum.reverse(blocks)} end)
    |> Enum.reverse()
  end

  defp read_line({"```" <> lang, number}, {nil, sections}), do: {%{lang: lang, code: "", line: number + 1}, sections}
  defp read_line({"```", _number}, {block, [{name, blocks} | rest]}), do: {nil, [{name, [block | blocks]} | rest]}
  defp read_line({line, _number}, {%{} = block, sections}), do: {%{block | code: block.code <> line <> "\n"}, sections}
  defp read_line({"#" <> _ = heading, _number}, {nil, sections}), do: {nil, [{heading, []} | sections]}
  defp read_line(_line, state), do: state

  @doc "Runs a program. Returns `{block, expected, printed}` for each block that a `text` block follows."
  @spec run!(program(), Path.t()) :: [{block(), String.t(), String.t()}]
  def run!(%{kind: :script, blocks: [code | expected]}, dir) do
    output = run_file!(code.code, dir)
    for block <- expected, do: {code, block.code, last_lines(output, block.code)}
  end

  def run!(%{kind: :notebook, blocks: blocks}, dir) do
    [setup | cells] = Enum.reject(blocks, &(&1.lang == "text"))
    marker = "-- end of cell #{System.unique_integer([:positive])} --"
    cells_as_data = Enum.map(cells, &{&1.lang, &1.code})
    source = setup.code <> "\n" <> notebook_runner(cells_as_data, marker)
    outputs = source |> run_file!(dir) |> String.split(marker <> "\n") |> tl()

    for {block, output} <- Enum.zip(cells, outputs), expected = following_text(blocks, block) do
      {block, expected, output}
    end
  end

  defp following_text(blocks, block) do
    case Enum.drop_while(blocks, &(&1 != block)) do
      [_block, %{lang: "text", code: expected} | _rest] -> expected
      _none -> nil
    end
  end

  # What is printed before, such as the progress of uv, differs from run to run.
  defp last_lines(output, expected) do
    count = length(String.split(expected, "\n"))
    output |> String.split("\n") |> Enum.take(-count) |> Enum.join("\n")
  end

  @doc "Runs Elixir source in an operating system process of its own; returns what it prints."
  @spec run_file!(String.t(), Path.t()) :: String.t()
  def run_file!(source, dir) do
    path = Path.join(dir, "program_#{System.unique_integer([:positive])}.exs")
    File.write!(path, String.replace(source, inspect(@placeholder), inspect(File.cwd!())))
    run_script!(path)
  end

  @doc "Runs a script in an operating system process of its own; returns what it prints on standard output."
  @spec run_script!(Path.t()) :: String.t()
  def run_script!(path) do
    errors = Path.join(System.tmp_dir!(), "pythonx_script_#{System.unique_integer([:positive])}.err")
    command = ~s(exec timeout 240 elixir "$1" 2>"$2")

    try do
      case System.cmd("sh", ["-c", command, "sh", path, errors], env: env()) do
        {output, 0} -> output
        {output, status} -> raise "#{path} exited with status #{status}:\n#{output}#{File.read!(errors)}"
      end
    after
      File.rm(errors)
    end
  end

  # Nothing of the suite's own environment, an installation that all scripts and later runs share, and the Python of the
  # suite as the first choice, for which there is a bridge.
  defp env() do
    # From its second use of an installation on, Mix asks for Hex, which takes a network, unless it begins anew.
    force = if Code.ensure_loaded?(Hex), do: nil, else: "1"
    path = Path.dirname(Pythonx.NativeCase.python!()) <> ":" <> System.get_env("PATH")

    [
      {"MIX_ENV", nil},
      {"PYTHONX_INIT_STATE", nil},
      {"MIX_INSTALL_DIR", Path.join(Mix.Project.build_path(), "mix_install")},
      {"MIX_INSTALL_FORCE", force},
      {"PATH", path}
    ]
  end

  # A Python cell is a sigil that is expanded in the environment of the cells before it.
  defp notebook_runner(cells, marker) do
    """

    quoted = fn
      "elixir", code -> Code.string_to_quoted!(code)
      "toml", code -> quote do: Pythonx.uv_init(unquote(code))
      "python", code -> {{:., [], [Pythonx, :sigil_PY]}, [], [{:<<>>, [], [code]}, []]}
    end

    # Writes to the standard output and remembers whether anything was written.
    defmodule Recorder do
      def start(device), do: spawn_link(fn -> loop(device, false) end)

      defp loop(device, written?) do
        receive do
          {:io_request, from, ref, request} ->
            send(device, {:io_request, from, ref, request})
            loop(device, true)

          {:written?, from} ->
            send(from, {:written, written?})
            loop(device, false)
        end
      end
    end

    out = Process.group_leader()
    recorder = Recorder.start(out)
    Process.group_leader(self(), recorder)

    show = fn
      "python", nil -> :ok
      "python", object -> IO.puts(Pythonx.Object.repr_text(object))
      _lang, value -> IO.inspect(value)
    end

    env = %{__ENV__ | file: "nofile", requires: [Pythonx | __ENV__.requires]}
    IO.puts(out, #{inspect(marker)})

    Enum.reduce(#{inspect(cells, limit: :infinity, printable_limit: :infinity)}, {[], env}, fn {lang, code}, {binding, env} ->
      {value, binding, env} = Code.eval_quoted_with_env(quoted.(lang, code), binding, env)
      send(recorder, {:written?, self()})
      receive do: ({:written, written?} -> written? || show.(lang, value))
      send(recorder, {:written?, self()})
      receive do: ({:written, _} -> :ok)
      IO.puts(out, #{inspect(marker)})
      {binding, env}
    end)
    """
  end
end
