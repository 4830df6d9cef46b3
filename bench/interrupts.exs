# How fast an interrupt stops Python code, on Python's main thread and on another one: the table of guides/control.md.
#
#     mix run bench/interrupts.exs
#
# Each case runs until it is certain to be in the middle of its work, is interrupted, and is given two seconds to end. The
# time is from the call of Pythonx.interrupt/1 to the exception in the process that evaluates: the median of five.

unless Pythonx.NIF.initialized?(), do: Pythonx.uv_init(:numpy)

defmodule Interrupts do
  @cases [
    {"`while True: pass`", "while True: pass"},
    {"`time.sleep`", "import time; started(); time.sleep(4)"},
    {"`Event.wait`", "import threading; started(); threading.Event().wait(4)"},
    {"`lock.acquire`", "import threading; l = threading.Lock(); l.acquire(); started(); l.acquire(timeout=4)"},
    {"`subprocess.run`", "import subprocess; started(); subprocess.run(['sleep', '4'])"},
    {"`socket.recv`", "import socket; a, b = socket.socketpair(); a.settimeout(4); started(); a.recv(1)"},
    {"`asyncio.run(sleep)`", "import asyncio; started(); asyncio.run(asyncio.sleep(4))"},
    {"`await` at the top level", "import asyncio; started(); await asyncio.sleep(4)"},
    {"waiting for an Elixir function", "started(); f()"},
    {"a loop of numpy operations", "import numpy as np; x = np.ones((300, 300)); started()\nwhile True: x @ x"},
    {"big-integer arithmetic", "started(); 3 ** 6_000_000"},
    {"one long C call: `sum(range(n))`", "started(); sum(range(150_000_000))"}
  ]

  def run do
    main = for {name, code} <- @cases, do: {name, measure(code)}
    {holder, handler} = hold_main_thread()
    others = for {_name, code} <- @cases, do: measure(code)
    Process.exit(holder, :kill)
    Process.exit(handler, :kill)
    IO.puts("| code | on the main thread | on another thread |\n|---|---|---|")
    for {{name, main}, other} <- Enum.zip(main, others), do: IO.puts("| #{name} | #{main} | #{other} |")
  end

  # Python's main thread waits for a function that does not return.
  defp hold_main_thread do
    parent = self()
    f = fn -> send(parent, {:handler, self()}) && Process.sleep(:infinity) end
    holder = spawn(fn -> Pythonx.eval("f()", %{"f" => f}) end)
    receive do: ({:handler, handler} -> {holder, handler})
  end

  defp measure(code) do
    times = for _ <- 1..5, do: once(code)
    if :late in times, do: "not before it ends", else: "#{times |> Enum.sort() |> Enum.at(2) |> Float.round(1)} ms"
  end

  defp once(code) do
    parent = self()
    prefix = "import pythonx\ndef started(): pythonx.send(parent, pythonx.Atom('started'))\n"
    prefix = if code =~ "started()", do: prefix, else: prefix <> "started()\n"
    f = fn -> Process.sleep(:infinity) end

    {pid, monitor} =
      spawn_monitor(fn ->
        try do
          Pythonx.eval(prefix <> code, %{"parent" => parent, "f" => f})
          send(parent, :not_stopped)
        rescue
          Pythonx.Error -> send(parent, {:stopped, System.monotonic_time(:microsecond)})
        end
      end)

    receive do: (:started -> Process.sleep(100))
    before = System.monotonic_time(:microsecond)
    true = Pythonx.interrupt(pid)

    result =
      receive do
        {:stopped, time} when time - before < 1_000_000 -> (time - before) / 1000
        {:stopped, _late} -> :late
        :not_stopped -> :late
      end

    receive do: ({:DOWN, ^monitor, :process, ^pid, _reason} -> result)
  end
end

Interrupts.run()
