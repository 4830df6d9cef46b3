defmodule Pythonx.Boot.Bridge.Store do
  # Where built bridges and the pybind11 headers are kept between VMs, in the cache of Pythonx:
  #
  #     BASE/bridge/<platform>/cp313-0123456789abcdef.so    complete whenever it is there: renamed into place; .worker beside it
  #     BASE/bridge/<platform>/cp313.lock                   held while one of that tag is built
  #     BASE/pybind11-3.1.0/include/pybind11/...            the same, under pybind11.lock
  #
  # What lies there is loaded into the VM, hence it must belong to the user of this VM, or to root.
  @moduledoc false

  alias Pythonx.Host.Cache

  # Recent libraries that are kept for each tag: the sources change often only for those who work on them.
  @kept 8

  @doc "The folder under `base` for the bridges of this platform."
  @spec dir(String.t()) :: String.t()
  def dir(base), do: Path.join([base, "bridge", platform()])

  # The operating system's release stands for the ABI of its C and C++ libraries: a home folder may be shared by containers
  # of several distributions, and no compiler is needed to look it up.
  defp platform do
    architecture = to_string(:erlang.system_info(:system_architecture))

    case File.read("/etc/os-release") do
      {:ok, text} -> Enum.join([architecture | os_release(text)], "-")
      {:error, _reason} -> architecture
    end
  end

  defp os_release(text) do
    for key <- ["ID", "VERSION_ID"],
        [_line, value] <- [Regex.run(~r/^#{key}=["']?([\w.+-]+)/m, text)],
        do: value
  end

  @doc "Makes the folder `dir` under `base`, and checks that it can be trusted and written."
  @spec prepare!(String.t(), String.t()) :: :ok
  def prepare!(base, dir) do
    Cache.mkdir!(dir)
    Cache.check_owner!(base, dir)
    check_writable!(dir)
  end

  # Permission bits do not tell: read-only and full file systems, access lists, root squashing. Trying does.
  defp check_writable!(dir) do
    probe = Cache.temporary_beside(Path.join(dir, "probe"))

    try do
      Cache.write!(probe, String.duplicate("x", 4096))
    after
      File.rm(probe)
    end
  end

  @doc "Deletes all but the latest libraries of a tag."
  @spec prune(String.t(), String.t()) :: :ok
  def prune(dir, tag) do
    libraries = for name <- File.ls!(dir), name =~ ~r/\A#{tag}-[0-9a-f]{16}\.so\z/, do: Path.join(dir, name)

    libraries
    |> Enum.sort_by(&modified/1, :desc)
    |> Enum.drop(@kept)
    |> Enum.each(&remove/1)
  end

  defp remove(library) do
    File.rm(library)
    File.rm(Path.rootname(library) <> ".worker")
  end

  # Another VM may have deleted it meanwhile.
  defp modified(path) do
    case File.stat(path, time: :posix) do
      {:ok, stat} -> stat.mtime
      {:error, _reason} -> 0
    end
  end
end
