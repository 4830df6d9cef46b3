defmodule Pythonx.Requirements.Release do
  # What a release takes along: the environment of all that is shared, and one for each that is isolated, in priv of
  # Pythonx. What they are made of is noted beside them, as a release need not work it out again.
  @moduledoc false

  alias Pythonx.Boot.{Bridge, Python}
  alias Pythonx.Host.Cache
  alias Pythonx.Requirements.{Declared, Lock, Merged, Version}
  alias Pythonx.Uv

  @note "requirements.config"

  @typedoc "What was made: the project, the options of `Pythonx.uv_init/2`, and for whom."
  @type built :: %{toml: String.t(), opts: keyword(), owners: [Declared.t()]}

  @doc "Makes the environments of these owners in priv, and the bridges for their Pythons."
  @spec build!([Declared.t()], keyword()) :: :ok
  def build!(owners, opts) do
    {isolated, shared} = Enum.split_with(owners, & &1.isolated)
    remove_others(isolated)
    toml = Merged.toml!(shared)
    opts = Lock.put!(opts, toml)
    python = make!(true, %{toml: toml, opts: opts, owners: shared})
    for one <- isolated, do: make!(folder(one.owner), isolated(one, python))
    :ok
  end

  # The version of the others, where it will do: a release then needs one native part.
  defp isolated(%{isolated: own, requires_python: wanted} = declared, python) do
    opts = own |> Keyword.get(:uv, []) |> Keyword.take([:uv_version, :native_tls, :python, :lock])
    suits? = wanted == nil or Version.match?(python.version, wanted) == true
    opts = if suits?, do: Keyword.put_new(opts, :python, Python.short_version(python)), else: opts
    %{toml: Merged.toml!([declared]), opts: opts, owners: [declared]}
  end

  defp make!(private, %{toml: toml, opts: opts, owners: owners} = built) do
    Pythonx.Requirements.explained(owners, fn -> Uv.fetch(toml, private, opts) end)
    program = Uv.priv_python(toml, opts, private)
    {:ok, python} = Python.probe(program)
    Bridge.prebuild!(program)
    text = :io_lib.format("~0tp.~n", [built])
    Cache.write_atomically!(note_path(private), :unicode.characters_to_binary(text))
    python
  end

  # Of owners that are gone.
  defp remove_others(isolated) do
    kept = Enum.map(isolated, &folder(&1.owner))
    parent = Path.dirname(Path.dirname(note_path("any")))

    for name <- ls(parent), name not in kept, do: Cache.rm_rf!(Path.join(parent, name))
  end

  defp ls(dir) do
    case File.ls(dir) do
      {:ok, names} -> names
      {:error, _reason} -> []
    end
  end

  @doc "The folder of an isolated owner in priv."
  @spec folder(atom()) :: String.t()
  def folder(owner), do: owner |> Atom.to_string() |> String.replace(~r/[^A-Za-z0-9_.]/, "-")

  @doc "What was made for the shared owners, or for an isolated one; `nil` where nothing was."
  @spec read(atom()) :: built() | nil
  def read(owner \\ nil) do
    path = note_path(if(owner, do: folder(owner), else: true))

    case :file.consult(path) do
      {:ok, [%{toml: _, opts: _, owners: _} = built]} -> built
      {:error, :enoent} -> nil
      {:error, reason} -> raise "#{path} cannot be read: #{inspect(reason)}. Make the release again"
    end
  end

  defp note_path(private), do: Path.join(Uv.Project.priv_base(private), @note)
end
