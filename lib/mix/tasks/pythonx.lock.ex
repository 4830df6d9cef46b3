defmodule Mix.Tasks.Pythonx.Lock do
  @shortdoc "Locks the Python packages of all libraries"

  @moduledoc """
  Writes `pythonx.lock`: the versions and checksums of all Python packages that the applications of this project ask for, and
  of those that these need.

      $ mix pythonx.lock
      $ mix pythonx.lock --upgrade

  Commit the file. From then on `Pythonx.uv_init/0`, `Pythonx.ensure_ready!/1` and releases install what it says, and raise when
  the requirements have changed since: run the task again then. It keeps the versions that are locked where they still fit.

  The file is beside `mix.exs`, or where `config :pythonx, lock: "path"` says. Libraries with a Python of their own are not in
  it. A project whose dependencies differ from one environment of Mix to another is locked in the one that is released.

  ## Options

    * `--upgrade` - takes the newest versions that fit
  """

  use Mix.Task

  alias Pythonx.Requirements
  alias Pythonx.Requirements.{Declared, Lock, Merged}

  @impl true
  def run(args) do
    {opts, rest} = OptionParser.parse!(args, strict: [upgrade: :boolean])
    if rest != [], do: Mix.raise("unexpected arguments: #{Enum.join(rest, " ")}")
    Mix.Task.run("app.config")
    owners = Requirements.shared(Declared.all())
    toml = Merged.toml!(owners)
    place = Lock.place()

    lock =
      Requirements.explained(owners, fn ->
        Pythonx.Uv.resolve!(toml, Keyword.drop(Requirements.configured(), [:lock]) ++ earlier(place), opts)
      end)

    File.write!(place, Lock.text(toml, lock))
    # The project itself is one of them.
    count = map_size(Lock.packages(lock)) - 1
    who = Enum.map_join(owners, ", ", &inspect(&1.owner))
    Mix.shell().info("#{Path.relative_to_cwd(place)}: #{count} packages for #{who}")
  rescue
    error in [RuntimeError, ArgumentError] -> Mix.raise(Exception.message(error))
  end

  defp earlier(place) do
    case File.read(place) do
      {:ok, text} -> [lock: Lock.uv_lock(text)]
      {:error, _reason} -> []
    end
  end
end
