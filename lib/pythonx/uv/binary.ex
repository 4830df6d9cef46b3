defmodule Pythonx.Uv.Binary do
  # Finds a uv program: the one that is asked for, one that is there, or one that is downloaded.
  @moduledoc false

  alias Pythonx.Host.{Cache, Lock, Program}
  alias Pythonx.Uv.{Download, Options}

  # The oldest whose options we have tried.
  @oldest Version.parse!("0.5.0")

  @doc """
  Finds uv: the option `:uv`, the variable PYTHONX_UV, the PATH, the cache, and last a download into the cache.

  One on the PATH that is too old or does not run, such as a shim of pyenv, is passed over, and so is one of another
  version when the caller asks for a version.
  """
  @spec find(Options.t()) :: {:ok, String.t()} | {:error, message :: String.t()}
  def find(opts) do
    cond do
      opts.uv -> named(opts.uv, "the option :uv")
      (path = System.get_env("PYTHONX_UV", "")) != "" -> named(path, "the environment variable PYTHONX_UV")
      path = on_path(opts) -> {:ok, path}
      true -> cached_or_downloaded(opts.uv_version)
    end
  end

  defp named(name, source) do
    case System.find_executable(if(String.contains?(name, "/"), do: Path.expand(name), else: name)) do
      nil -> {:error, "#{name}, which #{source} names as uv, does not exist or is not executable"}
      path -> usable(path, source)
    end
  end

  # Asked here, where the answer can say who named it. Whatever else runs it could only say that uv failed.
  defp usable(path, source) do
    case version(path) do
      {:ok, version} ->
        if Version.compare(version, @oldest) == :lt,
          do: {:error, "#{path}, which #{source} names as uv, is uv #{version}: Pythonx needs #{@oldest} or later"},
          else: {:ok, path}

      _other ->
        {:error, "#{path}, which #{source} names as uv, is not one: it does not answer to --version as uv does"}
    end
  end

  defp on_path(opts) do
    with path when path != nil <- System.find_executable("uv"),
         {:ok, version} <- version(path),
         true <- fits?(version, opts) do
      path
    else
      _unusable -> nil
    end
  end

  defp fits?(version, opts) do
    if Options.uv_version_given?(opts),
      do: to_string(version) == opts.uv_version,
      else: Version.compare(version, @oldest) != :lt
  end

  # Says `uv 0.13.8`, with more behind it in some builds.
  defp version(path) do
    with {:ok, "uv " <> text, 0} <- Program.run(path, ["--version"]),
         [word | _rest] <- String.split(text) do
      Version.parse(word)
    end
  end

  defp cached_or_downloaded(version) do
    path = Path.join([Cache.uv_dir(), version, "bin", "uv"])
    if File.exists?(path), do: {:ok, path}, else: download(path, version)
  end

  defp download(path, version) do
    Lock.with_lock(Path.join([Cache.uv_dir(), "locks", "uv-#{version}.lock"]), fn ->
      unless File.exists?(path) do
        IO.puts("Downloading uv #{version}")
        program = Download.fetch!(version)
        Cache.mkdir!(Path.dirname(path))
        Cache.write_atomically!(path, program, 0o755)
      end
    end)

    {:ok, path}
  rescue
    error in RuntimeError ->
      # The error itself is what callers match on: it says what failed, not what to do.
      IO.puts("There is no uv on this machine. Install it, or name one with the option :uv or the variable PYTHONX_UV")
      {:error, Exception.message(error)}
  end
end
