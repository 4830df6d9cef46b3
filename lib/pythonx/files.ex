defmodule Pythonx.Files do
  @moduledoc false

  # The user's own Python files: which folders Python imports from. `priv/python` of every application on the code path,
  # and those that `config :pythonx, :python_path` names. They are there when Python starts, or from `add!/1` on. See
  # priv/python/pythonx/_files.py for the other side.

  alias Pythonx.Host.Cache
  alias Pythonx.NIF

  @key __MODULE__

  @doc """
  The folders that are there when Python starts.
  """
  @spec folders() :: [Path.t()]
  def folders, do: Enum.uniq(of_applications() ++ configured!() ++ added())

  # An application is not loaded yet when Python starts before it, as it does where the one depends on Pythonx. But its
  # code is on the code path.
  defp of_applications do
    own = :pythonx |> Application.app_dir("ebin") |> Path.expand()

    for ebin <- :code.get_path(),
        ebin = Path.expand(ebin),
        Path.basename(ebin) == "ebin" and ebin != own,
        folder = Path.join(Path.dirname(ebin), "priv/python"),
        File.dir?(folder, [:raw]),
        do: folder
  end

  defp configured! do
    case Application.get_env(:pythonx, :python_path, []) do
      paths when is_list(paths) -> Enum.map(paths, &expand!/1)
      other -> refuse!(other)
    end
  end

  @doc """
  A folder as `config :pythonx, :python_path` names one: a path, or one within an application.
  """
  @spec expand!(Path.t() | {atom(), Path.t()}) :: Path.t()
  def expand!({app, path}) when is_atom(app) and is_binary(path), do: check!(Application.app_dir(app, path))
  def expand!(path) when is_binary(path), do: path |> Path.expand() |> check!()
  def expand!(other), do: refuse!(other)

  defp check!(folder) do
    if File.dir?(folder),
      do: folder,
      else: raise(ArgumentError, "the folder for Python files does not exist: #{folder}")
  end

  defp refuse!(other) do
    raise ArgumentError,
          "expected python_path of config :pythonx to be a list of folders or {application, folder}, got: #{inspect(other)}"
  end

  @doc """
  Has Python import from these folders too: now, if it runs, or when it starts.
  """
  @spec add!([Path.t()]) :: :ok
  def add!(folders) do
    case folders -- added() do
      [] -> :ok
      more -> :persistent_term.put(@key, added() ++ more)
    end

    if NIF.initialized?(), do: tell!(folders), else: :ok
  end

  @doc """
  The folders that have been added since.
  """
  @spec added() :: [Path.t()]
  def added, do: :persistent_term.get(@key, [])

  @doc """
  Tells Python, which has just started, that these folders on its path are the user's own.
  """
  @spec tell!([Path.t()]) :: :ok
  def tell!([]), do: :ok

  def tell!(folders) do
    NIF.call("call_internal", {"pythonx._files", "add", {folders, bytecode()}})
    # The process that starts an application waits for ever, and would have the handle of the result for as long.
    :erlang.garbage_collect()
    :ok
  end

  # Where there is no cache folder, nothing is kept.
  defp bytecode do
    Path.join(Cache.base_dir(), "bytecode")
  rescue
    _unknown in RuntimeError -> ""
  end
end
