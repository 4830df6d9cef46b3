defmodule Pythonx.Calls.Control do
  @moduledoc false

  # What runs, and how it is stopped.

  alias Pythonx.NIF

  # Releases come and go all the time: only those that take long, in microseconds, are worth a line.
  @shown_after 1_000_000

  @doc """
  Interrupts what the process runs; see `Pythonx.interrupt/1`.
  """
  @spec interrupt(pid()) :: boolean()
  def interrupt(pid) do
    if NIF.initialized?() do
      running = NIF.interrupt(pid)
      elsewhere = NIF.interrupt_in_interpreters(pid)
      Pythonx.Calls.Awaits.interrupt(pid) or running or elsewhere
    else
      false
    end
  end

  @doc """
  What runs now; see `Pythonx.running/0`.
  """
  @spec running() :: [map()]
  def running do
    if NIF.initialized?() do
      main =
        for {process, thread, main, elapsed, code} <- NIF.running(),
            elapsed >= @shown_after or process != Process.whereis(Pythonx.Janitor) do
          %{process: process, thread: thread, main_thread: main, elapsed: elapsed, code: code}
        end

      others =
        for {process, name, elapsed, code} <- NIF.running_in_interpreters() do
          %{process: process, interpreter: name, elapsed: elapsed, code: code}
        end

      main ++ others
    else
      []
    end
  end
end
