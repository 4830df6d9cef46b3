defmodule Pythonx.SignalsTest do
  # What Python code does with signals, and what becomes of the VM's. Where the VM must end it is one of its own.
  use Pythonx.SignalCase, async: false

  import ExUnit.CaptureIO

  @listed "[signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGCHLD, signal.SIGPIPE, signal.SIGTSTP]"

  describe "handlers" do
    test "are borrowed and given back as servers do, on every thread" do
      code = """
      import signal
      def handler(*_): pass
      before = {s: signal.getsignal(s) for s in #{@listed}}
      old = {s: signal.signal(s, handler) for s in before}
      during = [signal.getsignal(s) is handler for s in old]
      returned = [signal.signal(s, h) is handler for s, h in old.items()]
      after = {s: signal.getsignal(s) for s in before}
      (before == old, all(during), all(returned), before == after, before[signal.SIGTERM])
      """

      on_each_thread(fn -> assert eval!(code) == {true, true, true, true, nil} end)
    end

    test "of what Python code raises itself are called before it goes on, on every thread" do
      code = """
      import signal
      seen = []
      numbers = [s for s in #{@listed} if s != signal.SIGTERM] + [signal.SIGUSR2, signal.SIGHUP, signal.SIGRTMIN]
      old = {s: signal.signal(s, lambda number, frame: seen.append((number, frame.f_code.co_name))) for s in numbers}
      for s in numbers: signal.raise_signal(s)
      for s, h in old.items(): signal.signal(s, h)
      seen == [(s, "<module>") for s in numbers]
      """

      on_each_thread(fn -> assert eval!(code) end)
    end

    test "are called for a signal that comes from elsewhere, while the code waits" do
      code = """
      import signal, threading
      called = threading.Event()
      old = signal.signal(signal.SIGUSR2, lambda *_: called.set())
      ready()
      try:
          while not called.wait(60): pass
      finally:
          signal.signal(signal.SIGUSR2, old)
      called.is_set()
      """

      on_each_thread(fn ->
        ready = fn -> tap(nil, fn nil -> System.cmd("kill", ["-USR2", System.pid()]) end) end
        assert eval!(code, %{"ready" => ready})
      end)
    end

    test "raise in the evaluation of the process that has set them, and are reported where it has none" do
      set = """
      import signal
      def handler(*_):
          print("called")
          raise ValueError("out of the blue")
      signal.signal(signal.SIGUSR2, handler)
      ready()
      """

      ready = fn -> tap(nil, fn nil -> System.cmd("kill", ["-USR2", System.pid()]) end) end

      on_each_thread(fn ->
        {:ok, device} = StringIO.open("")
        code = set <> "import time; time.sleep(60)"
        run = fn -> Pythonx.eval(code, %{"ready" => ready}, stdout_device: device) end
        assert last_line(run) =~ "ValueError: out of the blue"
      end)

      # Another process evaluates, on whichever thread, and feels nothing of it.
      {:ok, device} = StringIO.open("")

      for text <- ["called\n", "called\n.*called\n"], thread = if(text == "called\n", do: :main, else: :another) do
        on_thread(thread, fn ->
          in_process(fn ->
            Pythonx.eval(set, %{"ready" => fn -> nil end}, stdout_device: device, stderr_device: device)
          end)

          reported = fn -> await_text(device, ~r/#{text}.*ValueError: out of the blue/s) end
          assert eval!("ready()\nreported()\n1", %{"ready" => ready, "reported" => reported}) == 1
        end)
      end

      assert eval!("import signal; signal.signal(signal.SIGUSR2, signal.SIG_DFL).__name__") == "handler"
    end

    test "that are no handlers are refused, and numbers that are none" do
      assert last_line(fn -> Pythonx.eval("import signal; signal.signal(signal.SIGUSR2, 'x')", %{}) end) =~
               "TypeError: signal handler must be signal.SIG_IGN, signal.SIG_DFL, None or a callable object"

      assert last_line(fn -> Pythonx.eval("import signal; signal.signal(65, print)", %{}) end) =~
               "ValueError: signal number out of range"

      assert last_line(fn -> Pythonx.eval("import signal; signal.getsignal(0)", %{}) end) =~
               "ValueError: signal number out of range"

      for name <- ["SIGKILL", "SIGSTOP"] do
        assert last_line(fn -> Pythonx.eval("import signal; signal.signal(signal.#{name}, print)", %{}) end) =~
                 "OSError: [Errno 22] Invalid argument"
      end

      assert last_line(fn -> Pythonx.eval("import os, signal\nsignal.set_wakeup_fd(os.pipe()[1])", %{}) end) =~
               ~r/ValueError: the fd \d+ must be in non-blocking mode/

      assert last_line(fn -> Pythonx.eval("import signal; signal.set_wakeup_fd(99999)", %{}) end) =~
               "OSError: [Errno 9] Bad file descriptor"
    end

    test "of an event loop are called, on every thread" do
      code = """
      import asyncio, os, signal
      async def main():
          loop, called = asyncio.get_running_loop(), asyncio.Event()
          for s in (signal.SIGINT, signal.SIGUSR2): loop.add_signal_handler(s, called.set)
          found = []
          for s in (signal.SIGINT, signal.SIGUSR2):
              os.kill(os.getpid(), s)
              await called.wait()
              called.clear()
              found.append(loop.remove_signal_handler(s))
          return found
      result = asyncio.run(main())
      signal.signal(signal.SIGINT, None), result
      """

      on_each_thread(fn -> assert {_, [true, true]} = eval!(code) end)
    end

    test "stay away from what the VM needs of a signal" do
      code = """
      import os, signal, subprocess
      for s in (signal.SIGPIPE, signal.SIGCHLD, signal.SIGALRM):
          signal.signal(s, signal.SIG_DFL)
          signal.signal(s, signal.SIG_IGN)
      signal.signal(signal.SIGPIPE, signal.SIG_DFL)
      recorded = [signal.getsignal(s) for s in (signal.SIGPIPE, signal.SIGCHLD)] == [signal.SIG_DFL, signal.SIG_IGN]
      r, w = os.pipe()
      os.close(r)
      try: os.write(w, b"x")
      except BrokenPipeError: broken = True
      os.close(w)
      status = subprocess.run(["sh", "-c", "exit 7"]).returncode
      for s in (signal.SIGPIPE, signal.SIGCHLD, signal.SIGALRM): signal.signal(s, None)
      (recorded, broken, status)
      """

      assert eval!(code) == {true, true, 7}
      assert System.cmd("sh", ["-c", "exit 5"]) == {"", 5}
    end

    test "are the same in a module that is imported again" do
      code = """
      import importlib, sys, signal
      again = []
      for name in ("_signal", "signal"):
          del sys.modules[name]
          again.append(importlib.import_module(name))
          again.append(importlib.reload(again[-1]))
      old = again[0].signal(signal.SIGTERM, print)
      found = [module.getsignal(signal.SIGTERM) is print for module in (signal, *again)]
      again[-1].signal(signal.SIGTERM, old)
      (all(found), signal.getsignal(signal.SIGTERM))
      """

      assert eval!(code) == {true, nil}
      assert_raise Pythonx.TimeoutError, fn -> Pythonx.eval("import time; time.sleep(60)", %{}, timeout: 20) end
    end
  end

  describe "KeyboardInterrupt" do
    test "is what an own SIGINT is without a handler, where it was raised" do
      on_each_thread(fn ->
        for code <- [
              "import signal\nsignal.raise_signal(signal.SIGINT)\nwhile True: pass",
              "import _thread, time\n_thread.interrupt_main()\ntime.sleep(60)",
              """
              import _thread, threading
              threading.Thread(target=_thread.interrupt_main).start()
              threading.Event().wait()
              """
            ] do
          assert last_line(fn -> Pythonx.eval(code, %{}) end) =~ ~r/KeyboardInterrupt\z/
        end
      end)
    end

    test "is not what another process's evaluation gets of it" do
      on_thread(:another, fn ->
        assert last_line(fn ->
                 Pythonx.eval("import signal; signal.raise_signal(signal.SIGINT)\nwhile True: pass", %{})
               end) =~
                 "KeyboardInterrupt"

        # That on the main thread goes on.
        assert [_] = for(%{main_thread: true} = job <- Pythonx.running(), do: job)
      end)
    end
  end

  describe "a server" do
    # uvicorn notes what handled SIGINT and SIGTERM, puts it back, and raises again what it has got.
    test "runs again and again, and is stopped by signals" do
      code = """
      import os, signal, threading, time, urllib.request, uvicorn
      async def app(scope, receive, send):
          await send({"type": "http.response.start", "status": 200, "headers": []})
          await send({"type": "http.response.body", "body": b"hello"})
      config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", lifespan="off")
      server = uvicorn.Server(config)
      texts = []
      def ask():
          while not server.started: time.sleep(0.01)
          port = server.servers[0].sockets[0].getsockname()[1]
          texts.append(urllib.request.urlopen(f"http://127.0.0.1:{port}/").read())
          if how == "flag": server.should_exit = True
          elif how == "raise": signal.raise_signal(signal.SIGINT)
          else: os.kill(os.getpid(), signal.SIGINT)
      client = threading.Thread(target=ask)
      client.start()
      try: server.run()
      except KeyboardInterrupt: pass
      client.join()
      (texts, [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)])
      """

      on_thread(:main, fn ->
        for how <- ["flag", "raise", "kill", "flag"] do
          assert eval!(code, %{"how" => Pythonx.encode!(how, binaries: :str)}) == {["hello"], [nil, nil]}
        end
      end)
    end
  end

  describe "the interrupt's own signal" do
    @stops "while True: pass"

    defp stops! do
      for code <- [@stops, "import time; time.sleep(60)", "import threading; threading.Event().wait()"] do
        assert_raise Pythonx.TimeoutError, fn -> Pythonx.eval(code, %{}, timeout: 50) end
        wait_until(fn -> not Enum.any?(Pythonx.running(), &(&1.process == self())) end)
      end
    end

    test "is neither reset, blocked nor made to restart what it breaks off" do
      on_each_thread(fn ->
        for change <- [
              "for n in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}: signal.signal(n, signal.SIG_DFL)",
              "for n in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}: signal.signal(n, signal.SIG_IGN)",
              "for n in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}: signal.signal(n, print)",
              "for n in range(1, signal.NSIG):\n  try: signal.siginterrupt(n, False)\n  except OSError: pass",
              "signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())"
            ] do
          Pythonx.eval("import signal\n" <> change, %{})
          stops!()

          Pythonx.eval(
            """
            import signal
            for n in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}: signal.signal(n, None)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            """,
            %{}
          )
        end
      end)
    end

    test "is taken back from C code that resets it" do
      for handler <- ["None", "ctypes.c_void_p(1)"] do
        on_each_thread(fn ->
          Pythonx.eval("import ctypes, signal\nctypes.CDLL(None).signal(signal.SIGRTMIN + 6, #{handler})", %{})
          stops!()
        end)
      end
    end

    test "is not sent while C code has it; what can be stopped without it is" do
      code = """
      import ctypes, signal
      libc = ctypes.CDLL(None)
      libc.signal.restype = ctypes.c_void_p
      libc.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
      called = []
      handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(called.append)
      old = libc.signal(signal.SIGRTMIN + 6, ctypes.cast(handler, ctypes.c_void_p).value)
      """

      on_each_thread(fn ->
        {_, globals} = Pythonx.eval(code, %{})
        assert_raise Pythonx.TimeoutError, fn -> Pythonx.eval(@stops, %{}, timeout: 50) end
        wait_until(fn -> not Enum.any?(Pythonx.running(), &(&1.process == self())) end)
        assert eval!("libc.signal(signal.SIGRTMIN + 6, old)\ncalled", globals) == []
        stops!()
      end)
    end

    test "cannot be registered with faulthandler" do
      code = "import faulthandler, signal\nfaulthandler.register(signal.SIGRTMIN + 6, open('/dev/null', 'w'))"

      assert last_line(fn -> Pythonx.eval(code, %{}) end) =~
               "RuntimeError: signal #{eval!("import signal; signal.SIGRTMIN + 6")} cannot be registered: " <>
                 "Python code is interrupted by it"
    end
  end

  describe "a copy made by fork" do
    setup do
      wait_until(fn -> elem(Pythonx.NIF.interpreter_stats(), 0) == 0 end)
      :ok
    end

    test "has handlers of its own, and the default of everything else" do
      code = """
      import os, signal
      def child(run):
          pid = os.fork()
          if pid == 0:
              try: os._exit(run())
              finally: os._exit(99)
          return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
      def leave(*_): os._exit(5)
      def inherited():
          os.kill(os.getpid(), signal.SIGUSR2)
          signal.pause()
      def own():
          signal.signal(signal.SIGTERM, leave)
          os.kill(os.getpid(), signal.SIGTERM)
          signal.pause()
      def default(number):
          def run():
              os.kill(os.getpid(), number)
              signal.pause()
          return run
      def alarm():
          signal.alarm(1)
          signal.pause()
      old = signal.signal(signal.SIGUSR2, leave)
      found = [child(inherited), child(own), child(default(signal.SIGTERM)), child(default(signal.SIGINT)), child(alarm)]
      signal.signal(signal.SIGUSR2, old)
      found
      """

      capture_io(:stderr, fn -> assert eval!(code) == [5, 5, -15, -2, -14] end)
    end
  end
end
