defmodule Mix.Tasks.Pythonx.Gen do
  @shortdoc "Writes Elixir modules for installed Python modules"

  @moduledoc """
  Writes an Elixir module with a function for each public function of an installed Python module.

      mix pythonx.gen statistics
      mix pythonx.gen numpy.linalg --as MyApp.LinearAlgebra
      mix pythonx.gen --check

  The file is an ordinary one, to be read and committed: `lib/my_app/statistics.ex` with `MyApp.Statistics`, for the first
  of these. What becomes of functions, classes and names, is that of `Pythonx.Module`; but here Python imports the module
  and tells what it has, so that compiled modules, and what decorators have made, are known as well. The version of the
  package, and a hash of what it offers, stand in the head of the file.

  With `--check`, nothing is written: the task fails when a file below `lib` that was made by it is not what would be
  written now, because the package has moved on.

  ## Which Python

  The module is imported in a process of its own, by the Python of the environment that `config :pythonx, :uv_init` names, or
  that the requirements of libraries make (see `Pythonx.Requirements`), or else by `python3`; or by that of

    * `--python PATH` - this one

    * `--pyproject PATH` - a project, as for `Pythonx.uv_init/2`

    * `--template NAME` - the project of a template, see `Pythonx.uv_templates/0`

  ## Other options

    * `--as NAME` - the name of the Elixir module. Defaults to the name of the application and of the Python module

    * `--output PATH` - the file. Defaults to that of the name, below `lib`; `-` prints the text

    * `--only NAMES`, `--except NAMES` - the names of functions and classes, with commas between them

    * `--no-classes` - functions only

    * `--target NAME` - a `Pythonx.Pool`, whose workers run the functions

    * `--isolated` - the module has a pool of its own

    * `--rich` - results without a hint are decoded with `types: :rich`
  """

  use Mix.Task

  alias Pythonx.Module.{Generated, Source}
  alias Pythonx.Uv

  @switches [
    as: :string,
    output: :string,
    only: :string,
    except: :string,
    classes: :boolean,
    target: :string,
    isolated: :boolean,
    rich: :boolean,
    python: :string,
    pyproject: :string,
    template: :string,
    check: :boolean
  ]

  @impl Mix.Task
  def run(args) do
    Mix.Task.run("app.config")

    case OptionParser.parse(args, strict: @switches) do
      {opts, names, []} ->
        perform(names, opts)

      {_opts, _names, [{switch, _value} | _]} ->
        Mix.raise("mix pythonx.gen does not know #{switch}, see mix help pythonx.gen")
    end
  end

  defp perform(files, opts) do
    cond do
      opts[:check] -> check(if(files == [], do: generated_files(), else: files), opts)
      files == [] -> Mix.raise("expected the name of a Python module, as in mix pythonx.gen statistics")
      true -> generate(files, opts)
    end
  end

  defp generated_files, do: "lib/**/*.ex" |> Path.wildcard() |> Enum.sort()

  defp generate(names, opts) do
    if length(names) > 1 and (opts[:as] || opts[:output]),
      do: Mix.raise("--as and --output are for one module at a time")

    python = python!(opts)
    for name <- names, do: write(name, opts, python)
    :ok
  end

  defp write(name, opts, python) do
    settings = Generated.settings(name, opts, module_name(name, opts))
    generated = name |> describe!(python) |> Generated.build(settings)

    case opts[:output] do
      "-" -> Mix.shell().info(generated.text)
      path -> path |> Kernel.||(file(settings.as)) |> put(generated)
    end
  end

  defp put(path, generated) do
    case File.read(path) do
      {:ok, text} ->
        unless Generated.read_head(text),
          do: Mix.raise("#{path} is there, and was not written by mix pythonx.gen: choose another --as or --output")

      {:error, _missing} ->
        File.mkdir_p!(Path.dirname(path))
    end

    File.write!(path, generated.text)
    Mix.shell().info("#{path}: #{generated.summary}")
    for [name, why] <- generated.skipped, do: Mix.shell().info("  without #{name}: it #{why}")
  end

  # The application's name, and each part of the module's.
  defp module_name(name, opts) do
    opts[:as] ||
      Enum.map_join(
        [to_string(Mix.Project.config()[:app] || "python") | String.split(name, ".")],
        ".",
        &Macro.camelize/1
      )
  end

  defp file(module), do: Path.join("lib", Macro.underscore(module) <> ".ex")

  ## Checking

  defp check(files, opts) do
    heads = for file <- files, head = file |> File.read!() |> Generated.read_head(), do: {file, head}
    if heads == [], do: Mix.shell().info("no file was written by mix pythonx.gen")
    python = if heads != [], do: python!(opts)
    stale = for {file, head} <- heads, reason = stale(head, python), do: "#{file}: #{reason}"

    case stale do
      [] ->
        Mix.shell().info(
          "#{length(heads)} generated #{if length(heads) == 1, do: "file is", else: "files are"} up to date"
        )

      reasons ->
        Mix.raise(
          "these are not what mix pythonx.gen would write now:\n\n" <> Enum.map_join(reasons, "\n", &("  " <> &1))
        )
    end
  end

  defp stale(head, python) do
    case Source.imported(python, head.settings.python) do
      {:error, reason} ->
        reason

      {:ok, description} ->
        now = Generated.build(description, head.settings)

        cond do
          now.version != head.version ->
            "#{head.version} has become #{now.version}, #{Generated.command(head.settings)}"

          now.hash != head.hash ->
            "what #{head.settings.python} offers has changed, #{Generated.command(head.settings)}"

          true ->
            nil
        end
    end
  end

  ## Python

  defp describe!(name, python) do
    case Source.imported(python, name) do
      {:ok, description} -> description
      {:error, reason} -> Mix.raise(reason)
    end
  end

  defp python!(opts) do
    cond do
      path = opts[:python] -> System.find_executable(path) || Mix.raise("#{path}, which --python names, is not there")
      path = opts[:pyproject] -> path |> read!() |> environment!()
      name = opts[:template] -> name |> String.to_atom() |> Uv.Templates.fetch!() |> environment!()
      true -> configured!()
    end
  end

  defp read!(path) do
    case File.read(path) do
      {:ok, text} -> text
      {:error, reason} -> Mix.raise("#{path} cannot be read: #{:file.format_error(reason)}")
    end
  end

  defp environment!(toml), do: Uv.program!(toml, [])

  defp configured! do
    if Application.get_env(:pythonx, :uv_init) || Pythonx.Requirements.Declared.all() != [] do
      Pythonx.Requirements.program!()
    else
      System.find_executable("python3") ||
        Mix.raise(
          "there is no Python: name one with --python, --pyproject or --template, or in config :pythonx, :uv_init"
        )
    end
  rescue
    error in [RuntimeError, ArgumentError] -> Mix.raise(Exception.message(error))
  end
end
