defmodule Pythonx.Requirements.Lock do
  # The lock of what all owners together ask for: a uv.lock with a line above it that says for which requirements.
  # `mix pythonx.lock` writes it, and it is committed with the project.
  @moduledoc false

  alias Pythonx.Uv.Options

  @name "pythonx.lock"
  @head "# Made by mix pythonx.lock for the requirements "

  @doc "The name of the file, beside mix.exs."
  @spec name() :: String.t()
  def name, do: @name

  @doc """
  The path of the lock of this project, or `nil`: what `config :pythonx, :lock` says, else the one beside its mix.exs.
  """
  @spec path() :: Path.t() | nil
  def path do
    case Application.get_env(:pythonx, :lock) do
      nil -> beside_mix_exs()
      path -> Path.expand(path)
    end
  end

  # Mix is not there in a release, where the environment is made already.
  defp beside_mix_exs do
    with true <- Code.ensure_loaded?(Mix.Project) and Process.whereis(Mix.ProjectStack) != nil,
         file when file != nil <- apply(Mix.Project, :project_file, []),
         path = Path.join(Path.dirname(file), @name),
         true <- File.regular?(path) do
      path
    else
      _no_project -> nil
    end
  end

  @doc "Where `mix pythonx.lock` writes it."
  @spec place() :: Path.t()
  def place, do: path() || Path.expand(@name)

  @doc "What to write into the file."
  @spec text(toml :: String.t(), uv_lock :: String.t()) :: String.t()
  def text(toml, uv_lock), do: @head <> id(toml) <> ". Commit it.\n" <> uv_lock

  @doc "The options with the lock, if there is one. Raises a `RuntimeError` when it is for other requirements."
  @spec put!(keyword(), toml :: String.t()) :: keyword()
  def put!(opts, toml) do
    case Keyword.get(opts, :lock) || path() do
      nil -> opts
      lock -> Keyword.put(opts, :lock, check!(lock, toml))
    end
  end

  defp check!(lock, toml) do
    %{lock: text} = Options.validate!(lock: lock)
    what = if String.contains?(lock, "\n"), do: "the lock", else: "the lock file #{lock}"

    cond do
      not String.starts_with?(text, @head) -> text
      String.starts_with?(text, @head <> id(toml)) -> text
      true -> raise "#{what} was made for other Python requirements. Run mix pythonx.lock to make it anew"
    end
  end

  defp id(toml), do: toml |> :erlang.md5() |> Base.encode32(case: :lower, padding: false)

  @doc "The uv.lock in the text of a lock of ours."
  @spec uv_lock(String.t()) :: String.t()
  def uv_lock(@head <> rest), do: rest |> String.split("\n", parts: 2) |> List.last()
  def uv_lock(text), do: text

  @doc "The packages in a lock: their names, versions, and the names of those that they need, on all systems or always."
  @spec packages(String.t()) :: %{String.t() => %{version: String.t() | nil, needs: [String.t()], always: [String.t()]}}
  def packages(lock) do
    [_head | sections] = String.split(lock, ~r/^\[\[package\]\]$/m)

    for section <- sections, [_all, name] <- [Regex.run(~r/^name = "([^"]+)"/m, section)], into: %{} do
      version = with [_all, version] <- Regex.run(~r/^version = "([^"]+)"/m, section), do: version
      needed = needed(section)
      names = for {name, _rest} <- needed, do: name
      always = for {name, rest} <- needed, not String.contains?(rest, "marker ="), do: name
      {name, %{version: version, needs: Enum.uniq(names), always: always}}
    end
  end

  # One line for each.
  defp needed(section) do
    case Regex.run(~r/^dependencies = \[(.*?)^\]/ms, section) do
      [_all, lines] -> for [_all, name, rest] <- Regex.scan(~r/\{ name = "([^"]+)"(.*)\}/, lines), do: {name, rest}
      nil -> []
    end
  end
end
