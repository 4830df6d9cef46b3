defmodule Pythonx.Uv.Project do
  # A pyproject.toml with its options, and the folders that belong to it. Nothing here touches the disk.
  @moduledoc false

  alias Pythonx.Host.Cache
  alias Pythonx.Uv.Options

  @typedoc "Whether it is in priv; the name of what is isolated there."
  @type private :: boolean() | String.t()

  @enforce_keys [:id, :toml, :opts, :private?, :dir, :python_dir, :locks_dir]
  defstruct @enforce_keys ++ [offline?: false]

  @typedoc """
    * `id` - the same for what gives the same environment
    * `private?` - whether the folders are in the priv of the application, which is what a release takes along
    * `dir` - holds pyproject.toml, uv.lock, .venv and our record
    * `python_dir` - where uv installs Pythons
    * `offline?` - whether only what uv has in its cache may be used
  """
  @type t :: %__MODULE__{
          id: String.t(),
          toml: String.t(),
          opts: Options.t(),
          private?: boolean(),
          dir: String.t(),
          python_dir: String.t(),
          locks_dir: String.t(),
          offline?: boolean()
        }

  @doc "A project in the cache, or in priv: in its own folder there where `private` is the name of one."
  @spec new(String.t(), private(), Options.t()) :: t()
  def new(toml, private, opts) when is_binary(toml) and (is_boolean(private) or is_binary(private)) do
    id = id(toml, opts)
    if private, do: in_priv(id, toml, opts, priv_base(private)), else: in_cache(id, toml, opts)
  end

  # The lock file is left out when there is none, so that the id stays what it has always been.
  defp id(toml, %{python: python, lock: lock}) do
    [toml, python || "", if(lock, do: [0, lock], else: "")]
    |> :erlang.md5()
    |> Base.encode32(case: :lower, padding: false)
  end

  defp in_cache(id, toml, opts) do
    base = Cache.uv_dir()

    %__MODULE__{
      id: id,
      toml: toml,
      opts: opts,
      private?: false,
      dir: Path.join([base, "projects", id]),
      python_dir: user_python_dir() || Path.join(base, "python"),
      locks_dir: Path.join(base, "locks")
    }
  end

  # A release has to hold its Python, wherever the user keeps theirs.
  defp in_priv(id, toml, opts, base) do
    %__MODULE__{
      id: id,
      toml: toml,
      opts: opts,
      private?: true,
      dir: Path.join(base, "project"),
      python_dir: Path.join(base, "python"),
      locks_dir: Path.join(base, "locks")
    }
  end

  @doc "The folder in priv of an environment and its Python."
  @spec priv_base(true | String.t()) :: String.t()
  def priv_base(true), do: Path.join(priv_dir(), "uv")
  def priv_base(name) when is_binary(name), do: Path.join([priv_dir(), "uv-isolated", name])

  @doc "UV_PYTHON_INSTALL_DIR: whoever sets it wants Pythons to be there, and those that are there to be used."
  @spec user_python_dir() :: String.t() | nil
  def user_python_dir do
    case System.get_env("UV_PYTHON_INSTALL_DIR", "") do
      "" -> nil
      dir -> Path.expand(dir)
    end
  end

  defp priv_dir do
    case :code.priv_dir(:pythonx) do
      {:error, :bad_name} -> raise "the priv directory of :pythonx is not in the code path"
      dir -> List.to_string(dir)
    end
  end

  @doc "The file whose lock belongs to whoever makes the environment."
  @spec lock_path(t()) :: String.t()
  def lock_path(project), do: Path.join(project.locks_dir, "#{Path.basename(project.dir)}.lock")
end
