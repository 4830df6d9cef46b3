defmodule Pythonx.Pool.Memory do
  # The limit of memory that a worker has, which it sets itself when it is ready.
  #
  # Of all limits the system has, that on data is the one that counts what is used, not what is reserved: a VM reserves
  # gigabytes.
  #
  # Code that runs into the limit may leave the memory full behind: in an exception that its caller keeps, in what it has
  # put somewhere. Whoever came next in this worker would find none, so such a worker is replaced.
  @moduledoc false

  @typedoc "What was used when the limit was set, and how much more may be, in bytes. `nil` without a limit."
  @type limit :: {used :: non_neg_integer(), more :: pos_integer()} | nil

  @doc "Sets the limit for this process."
  @spec limit(pos_integer() | nil) :: limit()
  def limit(nil), do: nil

  def limit(bytes) do
    used = used()
    code = "import resource\nresource.setrlimit(resource.RLIMIT_DATA, (total, total))"
    Pythonx.eval(code, %{"total" => used + bytes})
    {used, bytes}
  end

  @doc "Whether more than half of what there is between use and limit is used."
  @spec short?(limit()) :: boolean()
  def short?(nil), do: false
  def short?({used, more}), do: used() - used > div(more, 2)

  defp used do
    [_all, kilobytes] = Regex.run(~r/^VmData:\s+(\d+) kB/m, File.read!("/proc/self/status"))
    String.to_integer(kilobytes) * 1024
  end
end
