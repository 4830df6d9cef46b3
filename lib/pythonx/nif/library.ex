defmodule Pythonx.NIF.Library do
  # Which file the native library of a module came from.
  #
  # A library stays open for the life of the VM. When its module is loaded again, it has to find that library: the VM opens
  # it by its path, and gets the one that is in use if that is still the same file. Another one, built in its place meanwhile,
  # would know nothing of the Python that runs, so it is not even opened.
  @moduledoc false

  @doc "Notes that a module has loaded the library at `path` (without its extension)."
  @spec remember(module(), Path.t()) :: :ok
  def remember(module, path), do: :persistent_term.put({__MODULE__, module}, {path, identity(path)})

  @doc "The path of a library, if it is still the file that a module has loaded before."
  @spec recall(module(), {Path.t(), term()}) :: {:ok, Path.t()} | {:error, String.t()}
  def recall(module, {path, identity}) do
    if identity(path) == identity, do: {:ok, path}, else: {:error, replaced(module, path)}
  end

  defp identity(path) do
    case File.stat("#{path}.so") do
      {:ok, stat} -> {stat.major_device, stat.minor_device, stat.inode}
      {:error, reason} -> reason
    end
  end

  defp replaced(module, path) do
    "#{inspect(module)} cannot be loaded again: its library, #{path}.so, is in use and stays so, but the file is another one " <>
      "now, or gone. The module that is loaded goes on. Restart the VM to use the new file"
  end
end
