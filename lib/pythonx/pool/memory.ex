defmodule Pythonx.Pool.Memory do
  # The limit of memory that a worker has, which it is told to set when it is ready.
  #
  # Of all limits the system has, that on data is the one that counts what is used, not what is reserved. Where the system does
  # not see to that limit (Pythonx.Host.OS), a process of this VM does: it looks now and then, and ends the worker that is above.
  #
  # Code that runs into the limit may leave the memory full behind, in what it has put somewhere. Whoever came next in this worker
  # would find none, so the worker says when more than half of it is used, and is replaced if its job has failed.
  @moduledoc false

  alias Pythonx.Host.OS
  alias Pythonx.Pool.{Home, Remote}

  @look_ms 500

  @doc "Sets the limit for a worker that is being started."
  @spec limit(Home.t(), pos_integer(), pos_integer()) :: term()
  def limit({worker, _pool} = home, os_pid, bytes) do
    _set = Remote.call(home, :worker_limit, [bytes])

    unless OS.enforces_data_limit?(OS.current()) do
      used = fn -> with {:ok, bytes} <- OS.memory(OS.current(), "#{os_pid}"), do: bytes, else: (_gone -> nil) end
      before = used.() || raise(":max_memory needs to know how much memory a worker uses, and the system does not tell")
      spawn(fn -> watch({before, bytes}, used: used, on_excess: &GenServer.cast(worker, {:excess, &1})) end)
    end
  end

  @doc "Calls `on_excess` with a sentence as soon as a look shows more than the limit. Ends where there is nothing to look at."
  @spec watch({non_neg_integer(), pos_integer()}, keyword()) :: term()
  def watch({used, more} = limit, opts) do
    opts = Keyword.validate!(opts, [:used, :on_excess, look_ms: @look_ms])
    Process.sleep(opts[:look_ms])
    now = opts[:used].()

    cond do
      now == nil ->
        :ok

      now > used + more ->
        opts[:on_excess].("the worker uses #{now - used} bytes more than when it was ready, :max_memory is #{more}")

      true ->
        watch(limit, opts)
    end
  end
end
