defmodule Pythonx.Module.Source do
  @moduledoc false

  # The description of a Python module, while something is compiled. Python's own parser reads it: in the VM's Python where
  # that runs, or else in whatever Python 3 is there, by priv/python/pythonx/_describe.py. Nothing of the module is run,
  # but by `imported/2`.

  alias Pythonx.Host.Program
  alias Pythonx.{NIF, Uv}

  @mark "pythonx-description:"

  @missing "what a Python module offers is read by Python, and there is none: install Python 3 or uv, " <>
             "name a project in config :pythonx, :uv_init, or start Python before this is compiled"

  @type failure :: {:error, String.t()}

  @doc "Describes the module of a text, which stands in `file`."
  @spec text(String.t(), String.t(), Path.t()) :: {:ok, map()} | failure()
  def text(source, name, file) do
    if String.valid?(source), do: describe({:text, name, file, source}), else: {:error, "#{file} is not UTF-8"}
  end

  @doc "Describes a module that Python can import, without importing it."
  @spec module(String.t()) :: {:ok, map()} | failure()
  def module(name), do: describe({:module, name})

  @doc "Describes a module that a Python imports."
  @spec imported(Path.t(), String.t()) :: {:ok, map()} | failure()
  def imported(python, name), do: python |> run(["imported", name], "") |> check()

  defp describe(request) do
    if NIF.initialized?(), do: request |> ask_own() |> check(), else: request |> ask_others(pythons(request)) |> check()
  end

  defp ask_own({:text, name, file, source}), do: ask_own({"text", name, file, source})
  defp ask_own({:module, name}), do: ask_own({"module", name})

  defp ask_own(arguments) do
    {:ok, "call_internal" |> NIF.call({"pythonx._modules", "described", arguments}) |> Pythonx.decode()}
  end

  # A shim of pyenv is there and runs nothing, so each is tried.
  defp ask_others(_request, []), do: {:error, @missing}

  defp ask_others(request, [python | rest]) do
    case {ask(request, python), rest} do
      {{:ok, description}, _rest} -> {:ok, description}
      {{:error, _reason} = failure, []} -> failure
      {{:error, _reason}, rest} -> ask_others(request, rest)
    end
  end

  defp ask({:text, name, file, source}, python), do: run(python, ["text", name, file], source)
  defp ask({:module, name}, python), do: run(python, ["module", name], "")

  # That of the project comes first: installed packages are there. What reads a text need not be made for that.
  defp pythons(request) do
    found = configured(request) ++ Enum.map(["python3", "python"], &System.find_executable/1)
    found |> Enum.filter(& &1) |> then(&(&1 ++ of_uv(&1)))
  end

  defp configured(request) do
    case {Uv.Config.parse!(Application.get_env(:pythonx, :uv_init)), request} do
      {{toml, opts}, _request} when is_binary(toml) -> [Uv.priv_python(toml, opts)]
      {{:requirements, _opts}, {:module, _name}} -> [Pythonx.Requirements.program!()]
      _none -> []
    end
  rescue
    # It has not been made yet.
    _error in RuntimeError -> []
  end

  defp of_uv([_ | _]), do: []

  defp of_uv([]) do
    with uv when uv != nil <- System.find_executable("uv"),
         {:ok, path, 0} <- Program.run(uv, ["python", "find"]) do
      [path |> String.split("\n", trim: true) |> List.last() |> String.trim()]
    else
      _none -> []
    end
  end

  # The source comes by a file, as `System.cmd/3` writes to no standard input.
  defp run(python, arguments, source) do
    script = Application.app_dir(:pythonx, "priv/python/pythonx/_describe.py")
    path = Path.join(System.tmp_dir!(), "pythonx-#{Base.encode32(:crypto.strong_rand_bytes(10), padding: false)}.py")
    # Others may write in this folder: a file that is there is none of ours.
    File.write!(path, source, [:exclusive])

    try do
      # What it imports may say something on standard error.
      case Program.run(python, ["-B", script, path | arguments], env: [{"PYTHONHOME", nil}, {"PYTHONUTF8", "1"}]) do
        {:ok, output, 0} -> read(output, python)
        {:ok, output, _status} -> {:error, "the Python at #{python} says: #{last_lines(output)}"}
        {:error, reason} -> {:error, "the Python at #{python} cannot be run: #{reason}"}
      end
    after
      File.rm(path)
    end
  end

  defp read(output, python) do
    case String.split(output, @mark) do
      [_before, text | _] ->
        {:ok, text |> String.split("\n") |> hd() |> Base.decode64!() |> :erlang.binary_to_term([:safe])}

      _nothing ->
        {:error, "the Python at #{python} says: #{last_lines(output)}"}
    end
  end

  defp last_lines(output), do: output |> String.split("\n", trim: true) |> Enum.take(-3) |> Enum.join("\n")

  defp check({:ok, %{"error" => error, "line" => line, "file" => file}}) do
    {:error, if(line > 0, do: "#{file}:#{line}: #{error}", else: "#{file}: #{error}")}
  end

  defp check(other), do: other
end
