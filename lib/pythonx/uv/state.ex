defmodule Pythonx.Uv.State do
  # What this VM was initialised with. It outlives the application, as the interpreter does.
  @moduledoc false

  import Pythonx.Uv.Existing, only: [is_source: 1]

  alias Pythonx.Requirements.Declared
  alias Pythonx.Uv.{Existing, Options, Project}

  @key __MODULE__
  @variable "PYTHONX_INIT_STATE"

  # `id` tells projects apart; the rest is what `install_env/0` hands on.
  @type t :: %{
          type: :uv_init,
          pyproject_toml: String.t() | Existing.source(),
          opts: keyword(),
          install_paths: [String.t()],
          id: String.t()
        }

  @spec get() :: t() | nil
  def get, do: :persistent_term.get(@key, nil)

  @spec put(Project.t() | Existing.t(), install_paths :: [String.t()]) :: :ok
  def put(project, install_paths) do
    :persistent_term.put(@key, %{
      type: :uv_init,
      pyproject_toml: project.toml,
      opts: Options.portable(project.opts),
      install_paths: install_paths,
      id: project.id
    })
  end

  # Apart from the rest: requirements can be met in a Python that was started in another way, too.
  @notes {__MODULE__, :notes}
  @no_notes %{owners: [], requirements?: false, added: []}

  @doc """
  Notes what has become of Python since. `owners` are those whose requirements are met, `requirements?` whether the project
  was made of such, `added` the environments that were added while Python ran, the last one first.
  """
  @spec note(keyword()) :: :ok
  def note(changes), do: :persistent_term.put(@notes, Map.merge(notes(), Map.new(changes)))

  defp notes, do: :persistent_term.get(@notes, @no_notes)

  @spec owners() :: [Declared.t()]
  def owners, do: notes().owners

  @spec requirements?() :: boolean()
  def requirements?, do: notes().requirements?

  @spec added() :: [%{site_packages: String.t(), owners: [Declared.t()], toml: String.t(), opts: keyword()}]
  def added, do: notes().added

  @doc "Those for whom something was added while Python ran."
  @spec added_owners() :: [Declared.t()]
  def added_owners, do: Enum.flat_map(added(), & &1.owners)

  @doc "The options that hold for other environments as well."
  @spec options() :: keyword()
  def options, do: Keyword.take((get() || %{opts: []}).opts, [:uv_version, :native_tls])

  @doc "The environment variable that makes another VM initialise itself in the same way."
  @spec to_env(t()) :: %{String.t() => String.t()}
  def to_env(state) do
    # Deterministic, so that every VM that was started like this one says the same.
    encoded = state |> Map.delete(:id) |> :erlang.term_to_binary([:deterministic, compressed: 9]) |> Base.encode64()
    %{@variable => encoded}
  end

  @doc "What the environment variable says, if it is set. Raises an `ArgumentError` when that makes no sense."
  @spec from_env() :: {String.t() | Existing.source(), keyword()} | nil
  def from_env do
    case System.get_env(@variable, "") do
      "" -> nil
      encoded -> encoded |> decode!() |> check!()
    end
  end

  # Safe: it comes from outside, and must not create atoms. Those that we know are in this module and in that of the
  # options, which a VM that is just starting has not loaded yet.
  defp decode!(encoded) do
    Code.ensure_loaded!(Options)

    case Base.decode64(encoded, ignore: :whitespace) do
      {:ok, binary} -> :erlang.binary_to_term(binary, [:safe])
      :error -> raise ArgumentError, "it is not Base64"
    end
  rescue
    error in ArgumentError -> invalid!(error.message)
  end

  defp check!(%{type: :uv_init, pyproject_toml: toml, opts: opts}) when is_binary(toml) or is_source(toml) do
    if Keyword.keyword?(opts), do: {toml, opts}, else: invalid!("its :opts are not a keyword list")
  end

  defp check!(term) do
    invalid!(
      "expected a map with type: :uv_init, :pyproject_toml and :opts, got: #{inspect(term, limit: 10, printable_limit: 100)}"
    )
  end

  @spec invalid!(String.t()) :: no_return()
  defp invalid!(reason) do
    raise ArgumentError,
          "the environment variable #{@variable} is not what Pythonx.install_env/0 returned: #{String.trim(reason)}"
  end
end
