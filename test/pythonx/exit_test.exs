defmodule Pythonx.ExitTest do
  # The end of the VM: by a signal that Python code would take from it, and what Python does then. Each is one of its own.
  use Pythonx.Case, async: true

  alias Pythonx.FreshVM

  @moduletag :tmp_dir

  setup_all do
    %{python: FreshVM.python()}
  end

  defp lines(output), do: String.split(output, "\n", trim: true)

  describe "SIGTERM stops the VM" do
    for {name, code} <- [
          {"a handler that goes on", "signal.signal(signal.SIGTERM, lambda *_: print('handled', flush=True))"},
          {"a handler that leaves",
           """
           def leave(*_):
               print('handled', flush=True)
               raise SystemExit(1)
           signal.signal(signal.SIGTERM, leave)
           """},
          {"a handler that does not return",
           """
           def stay(*_):
               print('handled', flush=True)
               while True: time.sleep(60)
           signal.signal(signal.SIGTERM, stay)
           """},
          {"a handler of faulthandler", "faulthandler.register(signal.SIGTERM, file)\nprint('handled')"},
          {"SIG_IGN", "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('handled')"},
          {"SIG_DFL", "signal.signal(signal.SIGTERM, signal.SIG_DFL)\nprint('handled')"},
          {"a handler that was given back",
           """
           old = signal.signal(signal.SIGTERM, print)
           signal.signal(signal.SIGTERM, old)
           print('handled')
           """},
          {"a server's loop on a thread",
           """
           async def serve():
               asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: print('handled', flush=True))
               ready.set()
               await asyncio.sleep(60)
           threading.Thread(target=asyncio.run, args=(serve(),)).start()
           ready.wait()
           """}
        ] do
      test "with #{name}", %{python: python, tmp_dir: dir} do
        code =
          "import asyncio, faulthandler, os, signal, threading, time\nready = threading.Event()\n" <>
            "file = open(path + '/stack', 'w')\n" <> unquote(code) <> "\nfile.write('flushed'); file2 = file"

        assert {output, 0} = FreshVM.run(python, code, ~s|kill.("TERM")|, %{"path" => dir})
        assert output =~ "handled\n"
        assert File.read!(Path.join(dir, "stack")) =~ "flushed"
      end
    end
  end

  describe "Python's exit" do
    test "is cut short by no signal, exception or handler that hangs", %{python: python, tmp_dir: dir} do
      code = """
      import atexit, signal, threading, time
      def leave(*_): raise SystemExit(1)
      signal.signal(signal.SIGTERM, leave)
      file = open(path, "w")
      file.write("flushed")
      def hang():
          print("hangs", flush=True)
          threading.Event().wait()
      def fail(): raise ValueError("no")
      atexit.register(print, "first", flush=True)
      for handler in (hang, fail, leave, hang): atexit.register(handler)
      @atexit.register
      def last():
          atexit.register(print, "registered", "late", flush=True, sep=" ")
          signal.raise_signal(signal.SIGTERM)
      """

      path = Path.join(dir, "kept.txt")
      assert {output, 3} = FreshVM.run(python, code, ~s|kill.("TERM")\nSystem.halt(3)|, %{"path" => path})
      printed = for line <- lines(output), line in ["first", "hangs", "registered late"], do: line
      assert printed == ["registered late", "hangs", "hangs", "first"]
      assert [_, _] = Regex.scan(~r/Exception ignored in: <function hang /, output)
      assert output =~ "ValueError: no"
      assert output =~ "SystemExit: 1"
      assert File.read!(path) == "flushed"
    end

    test "goes on beside a thread that does not come back from C code", %{python: python, tmp_dir: dir} do
      code = """
      import atexit, builtins, ctypes, signal
      def stay():
          print("stays", flush=True)
          libc = ctypes.CDLL(None)
          libc.pthread_sigmask(int(signal.SIG_BLOCK), b"\\xff" * 128, None)
          libc.sleep(600)
      builtins.stay = stay
      file = open(path, "w")
      file.write("flushed")
      atexit.register(print, "first", flush=True)
      """

      path = Path.join(dir, "kept.txt")
      twice = code <> "atexit.register(stay)\natexit.register(stay)"
      assert {output, 3} = FreshVM.run(python, twice, "System.halt(3)", %{"path" => path})
      assert lines(output) == ["stays", "stays", "first"]
      assert File.read!(path) == "flushed"

      File.rm!(path)

      evaluate = """
      parent = self()
      spawn(fn -> Pythonx.eval("begun()\nstay()", %{"begun" => fn -> tap(nil, fn nil -> send(parent, :begun) end) end}) end)
      receive do: (:begun -> :ok)
      true = hd(Pythonx.running()).main_thread
      System.halt(3)
      """

      assert {output, 3} = FreshVM.run(python, code, evaluate, %{"path" => path})
      assert "first" in lines(output)
      assert File.read!(path) == "flushed"
    end

    test "runs what is registered as CPython does", %{python: python} do
      code = """
      import atexit
      def gone(): print("gone")
      atexit.register(gone)
      atexit.register(gone, 1)
      atexit.unregister(gone)
      atexit.register(print, "run by hand", flush=True)
      count = atexit._ncallbacks()
      atexit._run_exitfuncs()
      atexit.register(print, "cleared")
      atexit._clear()
      atexit.register(print, "counted", count, atexit._ncallbacks(), flush=True)
      try: atexit.register(1)
      except TypeError as error: print(error, flush=True)
      """

      assert {output, 0} = FreshVM.run(python, code, "System.stop(0)")
      assert ["run by hand", "the first argument must be callable", "counted " <> counts] = lines(output)
      assert [count, "0"] = String.split(counts)
      assert String.to_integer(count) >= 1
    end

    test "ends the workers of executors and the children of multiprocessing", %{python: python, tmp_dir: dir} do
      code = """
      import builtins, concurrent.futures, math, multiprocessing, threading, time
      from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
      context = multiprocessing.get_context("spawn")
      pool = ProcessPoolExecutor(2, mp_context=context)
      list(pool.map(math.sqrt, [1, 4]))
      pool.submit(time.sleep, 600)
      threads = ThreadPoolExecutor(1)
      threads.submit(time.sleep, 600)
      child = context.Process(target=time.sleep, args=(600,))
      daemon = context.Process(target=time.sleep, args=(600,), daemon=True)
      child.start(); daemon.start()
      other = multiprocessing.get_context("spawn").Pool(1)
      other.map(math.sqrt, [9])
      builtins.kept = [pool, threads, child, daemon, other]
      pids = [*pool._processes, child.pid, daemon.pid, *(p.pid for p in other._pool)]
      with open(path, "w") as file: file.write(" ".join(map(str, pids)))
      """

      path = Path.join(dir, "pids")
      assert {_output, 3} = FreshVM.run(python, code, "System.halt(3)", %{"path" => path})
      pids = path |> File.read!() |> String.split()
      assert length(pids) >= 4
      wait_until(fn -> not Enum.any?(pids, &alive?/1) end, 10_000)
    end
  end

  # A process that has ended is one until somebody has asked for its status.
  defp alive?(pid) do
    case File.read("/proc/#{pid}/stat") do
      {:ok, stat} -> not (stat =~ ~r/\) Z /)
      {:error, _} -> false
    end
  end
end
