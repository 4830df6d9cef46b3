defmodule Pythonx.Pool.Memory do
  # The limit of memory that a worker has, which it sets itself when it is ready.
  #
  # Of all limits the system has, that on data is the one that counts what is used, not what is reserved: a VM reserves
  # gigabytes. Where the system does not see to that limit (Pythonx.Host.OS), a process of the worker does: it looks now and
  # then, and ends the worker that is above.
  #
  # Code that runs into the limit may leave the memory full behind: in an exception that its caller keeps, in what it has
  # put somewhere. Whoever came next in this worker would find none, so such a worker is replaced.
  @moduledoc false

  alias Pythonx.Host.OS

  @typedoc "What was used when the limit was set, and how much more may be, in bytes. `nil` without a limit."
  @type limit :: {used :: non_neg_integer(), more :: pos_integer()} | nil

  # A look runs a program.
  @look_ms 500

  @doc "Sets the limit for this process."
  @spec limit(pos_integer() | nil) :: limit()
  def limit(nil), do: nil

  def limit(bytes) do
    used = used!()
    if OS.enforces_data_limit?(OS.current()), do: set(used + bytes), else: spawn_link(fn -> watch({used, bytes}) end)
    {used, bytes}
  end

  # A sandbox may have set a lower one already, above which there is none.
  defp set(total) do
    Pythonx.eval(
      """
      import resource
      _, most = resource.getrlimit(resource.RLIMIT_DATA)
      total = total if most == resource.RLIM_INFINITY else min(total, most)
      resource.setrlimit(resource.RLIMIT_DATA, (total, total))
      """,
      %{"total" => total}
    )
  end

  @doc "Calls `on_excess` with a sentence as soon as a look shows more than the limit."
  @spec watch({non_neg_integer(), pos_integer()}, keyword()) :: term()
  def watch({used, more} = limit, opts \\ []) do
    opts = Keyword.validate!(opts, look_ms: @look_ms, used: &used!/0, on_excess: &end_worker/1)
    Process.sleep(opts[:look_ms])
    now = opts[:used].()

    if now > used + more,
      do: opts[:on_excess].("the worker uses #{now - used} bytes more than when it was ready, :max_memory is #{more}"),
      else: watch(limit, opts)
  end

  defp end_worker(sentence) do
    IO.puts(:stderr, sentence)
    :erlang.halt(1, flush: false)
  end

  @doc "Whether more than half of what there is between use and limit is used."
  @spec short?(limit()) :: boolean()
  def short?(nil), do: false
  def short?({used, more}), do: used!() - used > div(more, 2)

  defp used! do
    case OS.memory(OS.current()) do
      {:ok, bytes} -> bytes
      {:error, reason} -> raise ":max_memory needs to know how much memory a worker uses, and #{reason}"
    end
  end
end
