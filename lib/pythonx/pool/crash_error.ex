defmodule Pythonx.Pool.CrashError do
  @moduledoc """
  A worker of a `Pythonx.Pool` has died, and with it the code that this process was waiting for. Others notice nothing: the
  worker is replaced.

  Fields:

    * `:reason` - what happened:
      * `{:signal, name}` - a signal ended it: `"SIGSEGV"` for a wrong access to memory, `"SIGABRT"` for `os.abort()`,
        `"SIGKILL"` also when the system ran out of memory
      * `{:exit_status, status}` - it exited, as `os._exit(status)` does
      * `{:timeout, milliseconds}` - the code did not end in its time, nor when it was interrupted then, and was killed
      * `:not_taken` - it was killed because it had not begun with the code in time, and then had begun after all
      * `:protocol` - it wrote something else than messages on the connection
      * `{:forged, what}` - it sent a message that no worker sends, such as a damaged term or an object that it does not have:
        Python code has written it, or damaged the worker's memory
      * `:gone` - it had died before the call; what was asked for was an object in it
      * `{:down, reason}` - its node or its process on this node is gone

    * `:stderr` - the last that the worker's file descriptors 1 and 2 got, such as Python's own report of a segmentation
      fault, with the stack of each thread

    * `:os_pid` - the number of the operating system process, if it is known
  """

  defexception [:reason, :os_pid, stderr: ""]

  @type reason ::
          {:signal, String.t()}
          | {:exit_status, byte()}
          | {:timeout, non_neg_integer()}
          | :not_taken
          | :protocol
          | {:forged, String.t()}
          | :gone
          | {:down, term()}

  @type t :: %__MODULE__{reason: reason(), stderr: String.t(), os_pid: pos_integer() | nil}

  @impl true
  def message(%__MODULE__{} = error) do
    text = "the worker #{describe(error.reason)}"
    if error.stderr == "", do: text, else: text <> "\n\nIts last output was:\n\n" <> indent(error.stderr)
  end

  defp describe({:signal, name}), do: "was ended by the signal #{name}"
  defp describe({:exit_status, status}), do: "exited with status #{status}"

  defp describe({:timeout, timeout}) do
    "was killed, as the Python code neither ended within #{timeout} ms nor when it was interrupted"
  end

  defp describe(:not_taken), do: "was killed, as it did not begin with the code in time"
  defp describe(:protocol), do: "was killed, as it wrote on the connection to its pool"
  defp describe({:forged, what}), do: "was killed, as it sent its pool #{what}"
  defp describe(:gone), do: "that has the object is gone"
  defp describe({:down, reason}), do: "is out of reach: #{Exception.format_exit(reason)}"

  defp indent(text) do
    text |> String.trim_trailing() |> String.split("\n") |> Enum.map_join("\n", &("    " <> &1))
  end

  @doc false
  @spec signal_name(non_neg_integer()) :: String.t()
  for {number, name} <- [
        {1, "SIGHUP"},
        {2, "SIGINT"},
        {3, "SIGQUIT"},
        {4, "SIGILL"},
        {5, "SIGTRAP"},
        {6, "SIGABRT"},
        {7, "SIGBUS"},
        {8, "SIGFPE"},
        {9, "SIGKILL"},
        {11, "SIGSEGV"},
        {13, "SIGPIPE"},
        {14, "SIGALRM"},
        {15, "SIGTERM"},
        {24, "SIGXCPU"},
        {25, "SIGXFSZ"},
        {31, "SIGSYS"}
      ] do
    def signal_name(unquote(number)), do: unquote(name)
  end

  def signal_name(number), do: "#{number}"
end

defmodule Pythonx.Pool.OverloadedError do
  @moduledoc """
  A `Pythonx.Pool` had no worker free, and as many callers as it may have were waiting already, or this one has waited for
  its `:queue_timeout`. What was asked for has not been begun.

  Fields:

    * `:pool` - the pool
  """

  defexception [:pool]

  @type t :: %__MODULE__{pool: GenServer.server()}

  @impl true
  def message(%__MODULE__{pool: pool}), do: "the pool #{inspect(pool)} is overloaded"
end
