defmodule Pythonx.Host.Lock do
  # A lock between OS processes, and between the processes of one VM, by the name of a file.
  #
  # The kernel holds it (c_src/loader/lock.c): it is free again when the function returns or raises, when the process that
  # runs it dies, and when its VM dies, kill -9 included. It is advisory, not reentrant (a process that locks the same path
  # twice waits for itself), and in no order: who asks first need not be served first.
  #
  # Rule for users of several locks: that of an environment first, then that of a bridge, then that of the pybind11 headers.
  #
  # What a lock protects can still be half done when it becomes free, because its holder may have been killed. Make
  # things in a temporary place and rename them; the lock only saves the others from doing the same work.
  @moduledoc false

  alias Pythonx.Host.Cache
  alias Pythonx.NIF.Loader

  # There is no message to wait for: the holder may be in another VM. Short enough to be unnoticed, long enough to be free.
  @poll_ms 25

  @type option :: {:timeout, timeout()} | {:on_wait, (-> any())}

  @doc """
  Runs `fun` while holding the lock of the file `path`, and returns what it returns.

  The file and its folder are created when missing and never deleted. Raises a `RuntimeError` when the file cannot be locked.

  ## Options

    * `:timeout` - how many milliseconds to wait for the lock, `:infinity` by default. Raises when they have passed

    * `:on_wait` - a function called once if the lock is held by someone else, before waiting for it, such as to say so

  """
  @spec with_lock(Path.t(), (-> result), [option()]) :: result when result: var
  def with_lock(path, fun, opts \\ []) when is_function(fun, 0) and is_list(opts) do
    path = Path.expand(path)
    opts = Keyword.validate!(opts, timeout: :infinity, on_wait: fn -> :ok end)
    Cache.mkdir!(Path.dirname(path))
    handle = acquire!(path, opts)

    try do
      fun.()
    after
      Loader.unlock_file(handle)
    end
  end

  defp acquire!(path, opts) do
    with :busy <- try_lock!(path) do
      opts[:on_wait].()
      wait!(path, opts[:timeout], now())
    end
  end

  defp wait!(path, timeout, started) do
    if timeout != :infinity and now() - started >= timeout do
      raise "could not lock #{path}: it is still held by another process after #{timeout} ms"
    end

    Process.sleep(@poll_ms)
    with :busy <- try_lock!(path), do: wait!(path, timeout, started)
  end

  defp try_lock!(path) do
    case Loader.lock_file(path) do
      {:ok, handle} ->
        handle

      :busy ->
        :busy

      {:error, reason} ->
        raise "could not lock #{path}: #{reason}. Set PYTHONX_CACHE_DIR to a folder that can be written"
    end
  end

  defp now, do: System.monotonic_time(:millisecond)
end
