defmodule Pythonx.NIF.Loader do
  # The native library that every build has, free of Python symbols (c_src/loader). It opens libpython, which must be there
  # before the bridge of `Pythonx.NIF` can load, holds the file locks of `Pythonx.Host.Lock`, and tells `Pythonx.ObjectTracker`
  # what has been collected.
  #
  # The library is loaded by the first call and not when the module is: an application must start without it, and say
  # what is missing when it is needed. Once loaded, the native functions take the place of those below. It stays for the life
  # of the VM: when this module is loaded again, it finds the same one.
  @moduledoc false

  alias Pythonx.Host.Native
  alias Pythonx.NIF.Library

  @on_load :resume

  @type reason :: String.t() | {:symbol, name :: String.t(), reason :: String.t()}

  @doc """
  Opens a libpython by its full path and makes its symbols global. Returns its full `Py_GetVersion` text.

  It stays open for the life of the VM. The same file may be opened again; another one is refused.
  """
  @spec open(String.t()) :: {:ok, String.t()} | {:error, reason()}
  def open(path) when is_binary(path), do: with(:ok <- load(), do: __MODULE__.open(path))

  @doc "Tries to lock a file, which is created when missing. Never waits."
  @spec lock_file(String.t()) :: {:ok, reference()} | :busy | {:error, String.t()}
  def lock_file(path) when is_binary(path), do: with(:ok <- load(), do: __MODULE__.lock_file(path))

  @doc "Lets go of a lock."
  @spec unlock_file(reference()) :: :ok
  def unlock_file(handle) when is_reference(handle), do: with(:ok <- load(), do: __MODULE__.unlock_file(handle))

  @doc """
  A reference that sends `message` to `pid`, a process of this node, when its last copy on this node has been collected.
  """
  @spec gc_notifier(pid(), term()) :: reference() | {:error, String.t()}
  def gc_notifier(pid, message) when is_pid(pid), do: with(:ok <- load(), do: __MODULE__.gc_notifier(pid, message))

  @doc """
  Looks over a term in the external format, whole or in pieces, without making it: flags of what is in it and the bytes of the
  process identifiers, or what is wrong with it. See c_src/loader/external.c.
  """
  @spec scan(binary() | [binary()]) :: {:ok, non_neg_integer(), [binary()]} | {:error, String.t()}
  def scan(bytes) when is_binary(bytes) or is_list(bytes), do: with(:ok <- load(), do: __MODULE__.scan(bytes))

  # An error leaves the module as it was before, in use.
  defp resume do
    # No other module may be there yet, when this one has just been compiled.
    with {_path, _identity} = library <- :persistent_term.get({Library, __MODULE__}, :ok),
         {:ok, path} <- Library.recall(__MODULE__, library),
         do: load(path)
  end

  defp load do
    with {:ok, path} <- library_path(), :ok <- load(path), do: Library.remember(__MODULE__, path)
  end

  defp load(path) do
    case :erlang.load_nif(path, 0) do
      :ok -> :ok
      # Another process was faster.
      {:error, {:reload, _text}} -> :ok
      {:error, {_reason, text}} -> {:error, failure(IO.iodata_to_binary(text))}
    end
  end

  # A charlist, in which load_nif and code:priv_dir have each character of a file name; its error texts are lists of bytes.
  defp library_path do
    case :code.priv_dir(:pythonx) do
      {:error, :bad_name} -> {:error, failure("the priv directory of :pythonx is not in the code path")}
      priv -> {:ok, priv |> List.to_string() |> Native.path(:loader) |> Path.rootname(".so") |> String.to_charlist()}
    end
  end

  defp failure(text) do
    "the loader library of Pythonx cannot be used: #{text}. It is built by mix compile, " <>
      "in a project that depends on Pythonx by: mix deps.compile pythonx --force"
  end
end
