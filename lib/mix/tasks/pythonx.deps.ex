defmodule Mix.Tasks.Pythonx.Deps do
  @shortdoc "Prints which libraries want which Python packages"

  @moduledoc """
  Prints who wants what of Python, as a tree: the applications and modules, what they ask for, and what these packages need.

      $ mix pythonx.deps
      $ mix pythonx.deps --outdated

  Versions are those of `pythonx.lock`, or else those that would be installed now.

  ## Options

    * `--outdated` - prints the packages in `pythonx.lock` of which there are newer versions that fit instead
  """

  use Mix.Task

  alias Pythonx.Requirements
  alias Pythonx.Requirements.{Declared, Lock, Merged, Requirement}

  @impl true
  def run(args) do
    {opts, rest} = OptionParser.parse!(args, strict: [outdated: :boolean])
    if rest != [], do: Mix.raise("unexpected arguments: #{Enum.join(rest, " ")}")
    Mix.Task.run("app.config")
    {isolated, shared} = Enum.split_with(Declared.all(), & &1.isolated)

    if opts[:outdated] do
      print_outdated(shared)
    else
      print(shared, locked(shared), "")
      for one <- isolated, do: print([one], resolved([one], uv_opts(one)), ", with a Python of its own")
    end

    :ok
  rescue
    error in [RuntimeError, ArgumentError] -> Mix.raise(Exception.message(error))
  end

  defp uv_opts(%{isolated: opts}),
    do: Keyword.merge(Keyword.take(Requirements.configured(), [:python]), opts[:uv] || [])

  ## The tree

  defp print(owners, packages, note) do
    for declared <- owners do
      python = if declared.requires_python, do: ", Python #{declared.requires_python}", else: ""
      Mix.shell().info("#{inspect(declared.owner)}#{python}#{note}")
      branches(declared.dependencies, "", &{&1, Requirement.name(&1)}, packages, [])
    end
  end

  defp branches(items, indent, describe, packages, above) do
    last = length(items) - 1

    for {item, index} <- Enum.with_index(items) do
      {text, name} = describe.(item)
      {branch, rest} = if index == last, do: {"└── ", "    "}, else: {"├── ", "│   "}
      package = packages[name]

      Mix.shell().info(
        indent <> branch <> text <> if(package && package.version, do: " (#{package.version})", else: "")
      )

      # Packages may need each other.
      needs = if package && name not in above, do: package.needs, else: []
      branches(needs, indent <> rest, &{&1, &1}, packages, [name | above])
    end
  end

  defp locked(owners) do
    case Lock.path() do
      nil -> resolved(owners, Requirements.configured())
      path -> path |> File.read!() |> Lock.packages()
    end
  end

  defp resolved(owners, opts) do
    toml = Merged.toml!(owners)

    Requirements.explained(owners, fn ->
      toml |> Pythonx.Uv.resolve!(opts, quiet?: true) |> Lock.packages()
    end)
  end

  ## What is newer

  defp print_outdated(owners) do
    path = Lock.path() || Mix.raise("there is no #{Lock.name()}. Run mix pythonx.lock to make it")
    text = File.read!(path)
    toml = Merged.toml!(owners)
    opts = Keyword.put(Requirements.configured(), :lock, Lock.uv_lock(text))

    newest =
      Requirements.explained(owners, fn ->
        toml |> Pythonx.Uv.resolve!(opts, quiet?: true, upgrade?: true) |> Lock.packages()
      end)

    outdated =
      for {name, %{version: version}} <- Lock.packages(text), %{version: other} <- [newest[name]], other != version do
        "#{name} #{version} -> #{other}#{wanted_by(name, owners)}"
      end

    if outdated == [], do: Mix.shell().info("all packages are the newest that fit")
    for line <- Enum.sort(outdated), do: Mix.shell().info(line)
  end

  defp wanted_by(name, owners) do
    case for(
           one <- owners,
           text <- one.dependencies,
           Requirement.name(text) == name,
           do: "#{inspect(one.owner)}: #{text}"
         ) do
      [] -> ""
      wishes -> " (#{Enum.join(wishes, ", ")})"
    end
  end
end
