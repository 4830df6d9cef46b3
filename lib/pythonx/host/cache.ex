defmodule Pythonx.Host.Cache do
  # The folder where Pythonx keeps what can be had again: uv, Pythons, environments, compiled bridges.
  #
  #     BASE/uv/<uv version>/bin/uv   a downloaded uv
  #     BASE/uv/python/               the Pythons that uv installs
  #     BASE/uv/projects/<id>/        one environment for each pyproject.toml
  #     BASE/uv/locks/                files that are only ever locked
  #     BASE/uv/cache/                what uv downloads, where the user has no cache folder of their own
  #
  # Neither our own version nor that of uv is part of the way to an environment: an upgrade of either finds what the
  # version before it has downloaded.
  #
  # Every function that writes raises a `RuntimeError` which names the path, the reason and the remedy.
  @moduledoc false

  alias Pythonx.Host.OS

  @doc "The base folder: PYTHONX_CACHE_DIR, else the cache folder of the user."
  @spec base_dir() :: String.t()
  def base_dir do
    case System.get_env("PYTHONX_CACHE_DIR", "") do
      "" -> user_cache_dir()
      dir -> Path.expand(dir)
    end
  end

  @doc "The folder of everything that has to do with uv."
  @spec uv_dir() :: String.t()
  def uv_dir, do: Path.join(base_dir(), "uv")

  # basedir/2 exits with the name of the missing variable in a list when it cannot tell the home of the user.
  defp user_cache_dir do
    :filename.basedir(:user_cache, "pythonx") |> Path.expand()
  catch
    _kind, _reason ->
      raise "the cache folder of the user is unknown, because HOME is not set: set PYTHONX_CACHE_DIR to a folder that can be written"
  end

  @doc "Whether the cache folder of the user, which is not the one of PYTHONX_CACHE_DIR, can be written or made."
  @spec user_writable?() :: boolean()
  def user_writable? do
    :filename.basedir(:user_cache, "pythonx") |> Path.expand() |> writable?()
  catch
    # As above.
    _kind, _reason -> false
  end

  defp writable?(path) do
    case File.stat(path) do
      {:ok, %File.Stat{type: type, access: access}} -> type == :directory and access in [:write, :read_write]
      {:error, :enoent} -> path |> Path.dirname() |> writable?()
      {:error, _reason} -> false
    end
  end

  @doc "Makes a folder and its parents."
  @spec mkdir!(Path.t()) :: :ok
  def mkdir!(path), do: check!(mkdir_p(path), "create the folder", path)

  # As File.mkdir_p/1, which loses the reason when a parent cannot be made.
  defp mkdir_p(path) do
    case File.mkdir(path) do
      {:error, :eexist} -> if File.dir?(path), do: :ok, else: {:error, :eexist}
      {:error, :enoent} -> with(:ok <- mkdir_p(Path.dirname(path)), do: mkdir_p(path))
      result -> result
    end
  end

  @doc "Writes a file that nobody else reads yet."
  @spec write!(Path.t(), iodata()) :: :ok
  def write!(path, content), do: check!(File.write(path, content), "write", path)

  @doc "Writes a file so that others see either the old one, the new one or none, whenever they look and whatever dies."
  @spec write_atomically!(Path.t(), iodata(), mode :: nil | non_neg_integer()) :: :ok
  def write_atomically!(path, content, mode \\ nil) do
    temporary = temporary_beside(path)

    try do
      write!(temporary, content)
      if mode, do: check!(File.chmod(temporary, mode), "make executable", temporary)
      rename!(temporary, path)
    after
      File.rm(temporary)
    end
  end

  @doc "A new name in the same folder, hence on the same file system. `temporary?/2` knows it again."
  @spec temporary_beside(Path.t()) :: String.t()
  def temporary_beside(path) do
    random = Base.encode32(:crypto.strong_rand_bytes(5), case: :lower, padding: false)
    Path.join(Path.dirname(path), "#{temporary_prefix(path)}#{random}")
  end

  @doc "Whether `name` was made by `temporary_beside(path)`."
  @spec temporary?(String.t(), Path.t()) :: boolean()
  def temporary?(name, path), do: String.starts_with?(name, temporary_prefix(path))

  defp temporary_prefix(path), do: ".tmp-#{Path.basename(path)}-"

  @doc "Moves a file or a folder to a name beside it in one step. A folder that has the name is replaced."
  @spec rename!(Path.t(), Path.t()) :: :ok
  def rename!(from, to) do
    if File.dir?(from), do: rm_rf!(to)
    check!(File.rename(from, to), "move #{from} to", to)
  end

  @doc "Deletes a file or folder with all that is in it."
  @spec rm_rf!(Path.t()) :: :ok
  def rm_rf!(path) do
    case File.rm_rf(path) do
      {:ok, _deleted} -> :ok
      {:error, reason, at} -> check!({:error, reason}, "delete", at)
    end
  end

  @doc """
  Raises when something from `base` to `path` exists and belongs to a user other than this one and root: what is found
  there will be run.
  """
  @spec check_owner!(Path.t(), Path.t()) :: :ok
  def check_owner!(base, path) do
    others = for part <- parts(base, path), {:ok, %{uid: uid}} <- [File.stat(part)], uid != 0, do: {part, uid}

    with [_ | _] <- others,
         own = OS.own_uid(OS.current()),
         {part, uid} <- Enum.find(others, fn {_part, uid} -> uid != own end) do
      raise "the cache cannot be trusted: #{part} belongs to the user with the id #{uid}, this is #{own}. " <>
              "Set PYTHONX_CACHE_DIR to a folder of your own"
    end

    :ok
  end

  defp parts(base, path), do: Enum.scan([base | Path.split(Path.relative_to(path, base))], &Path.join(&2, &1))

  @spec check!(:ok | {:error, File.posix()}, String.t(), Path.t()) :: :ok
  defp check!(:ok, _what, _path), do: :ok

  defp check!({:error, reason}, what, path) do
    raise "could not #{what} #{path}: #{:file.format_error(reason)}. #{remedy(reason, path)}"
  end

  defp remedy(:enospc, _path), do: "Free some space, or set PYTHONX_CACHE_DIR to a folder on another disk"
  defp remedy(:edquot, path), do: remedy(:enospc, path)

  defp remedy(reason, path) when reason in [:eacces, :eperm] do
    "#{owner(path)}Set PYTHONX_CACHE_DIR to a folder of your own, or have this one made writable for you"
  end

  defp remedy(_reason, _path), do: "Set PYTHONX_CACHE_DIR to a folder that can be written"

  # The folder that refuses is the nearest one that exists.
  defp owner(path) do
    case File.stat(path) do
      {:ok, %File.Stat{uid: uid}} -> "#{path} belongs to the user with the id #{uid}. "
      {:error, _reason} -> if Path.dirname(path) == path, do: "", else: owner(Path.dirname(path))
    end
  end
end
