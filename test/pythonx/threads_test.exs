defmodule Pythonx.ThreadsTest do
  use Pythonx.Case, async: false

  @moduletag :capture_log

  defp in_parallel(count, fun) do
    1..count |> Enum.map(fn _ -> Task.async(fun) end) |> Task.await_many(patience())
  end

  defp in_process(fun), do: fun |> Task.async() |> Task.await(patience())

  describe "threads" do
    test "a process with the interpreter to itself is served by Python's main thread" do
      assert in_process(fn -> eval!("import threading; threading.current_thread() is threading.main_thread()") end)
    end

    test "a process keeps its thread, and with it what Python ties to a thread" do
      in_process(fn ->
        {nil, globals} =
          Pythonx.eval(
            "import sqlite3, threading\ndb = sqlite3.connect(':memory:')\nlocal = threading.local()\nlocal.x = 7",
            %{}
          )

        assert eval!("db.execute('select 41 + 1').fetchone()", globals) == {42}
        assert eval!("local.x", globals) == 7
      end)
    end

    test "context variables and the decimal context last from one evaluation to the next" do
      in_process(fn ->
        {nil, globals} = Pythonx.eval("import contextvars\nv = contextvars.ContextVar('v')\nv.set(5); pass", %{})
        assert eval!("v.get()", globals) == 5
        Pythonx.eval("import decimal\ndecimal.getcontext().prec = 11", %{})
        assert eval!("import decimal\nprec = decimal.getcontext().prec\ndecimal.getcontext().prec = 28\nprec") == 11
      end)
    end

    test "two hundred sleeping evaluations delay nobody" do
      code = "go.wait()"
      {nil, globals} = Pythonx.eval("import threading\ngo = threading.Event()", %{})
      tasks = for _ <- 1..200, do: Task.async(fn -> Pythonx.eval(code, globals) end)
      wait_until(fn -> length(Pythonx.NIF.running()) >= 200 end)
      assert eval!("1") == 1
      assert Pythonx.decode(Pythonx.encode!([1])) == [1]
      Pythonx.eval("go.set()", globals)
      Task.await_many(tasks, patience())
      # A large object of another test may be on its way out.
      wait_until(fn -> Pythonx.NIF.running() == [] end)
    end

    test "numpy works from many threads" do
      code = "import numpy as np\nfloat(np.ones((200, 200)).dot(np.ones((200, 200))).sum())"

      1..8
      |> Task.async_stream(fn _ -> eval!(code) end, max_concurrency: 8, timeout: 60_000)
      |> Enum.each(fn result -> assert result == {:ok, 8_000_000.0} end)
    end
  end

  describe "conversions" do
    test "give way to others" do
      {big, _} = Pythonx.eval("list(range(3_000_000))", %{})
      test = self()

      converter =
        Task.async(fn ->
          send(test, :started)
          length(Pythonx.decode(big))
        end)

      assert_receive :started
      assert eval!("1") == 1
      assert Task.await(converter, patience()) == 3_000_000
    end

    test "leave finalizers to Python's threads, also where the collector is due" do
      {nil, globals} =
        Pythonx.eval(
          """
          import threading
          threads = set()
          class Cycle:
              def __init__(self): self.me = self
              def __del__(self): threads.add(open(f"/proc/self/task/{threading.get_native_id()}/comm").read().strip())
          """,
          %{}
        )

      {refused, _} = Pythonx.eval("{'a': 1, b'a': 2}", %{})

      for _ <- 1..30 do
        Pythonx.eval("for _ in range(5): Cycle()", globals)
        Pythonx.encode!(for n <- 1..3000, do: [n])
        assert_raise ArgumentError, fn -> Pythonx.decode(refused) end
      end

      assert [] == for(name <- eval!("list(threads)", globals), not String.starts_with?(name, "python"), do: name)
    end
  end

  describe "a caller that dies" do
    test "interrupts what it ran, on every kind of thread" do
      {nil, globals} = Pythonx.eval("import threading\nstopped = threading.Semaphore(0)", %{})

      code = """
      import time
      started.set()
      try:
          while True: time.sleep(0.01)
      finally:
          stopped.release()
      """

      for count <- [1, 4] do
        pids =
          for _ <- 1..count do
            {nil, own} = Pythonx.eval("import threading\nstarted = threading.Event()", %{})
            pid = spawn(fn -> Pythonx.eval(code, Map.merge(globals, own)) end)
            Pythonx.eval("started.wait()", own)
            pid
          end

        Enum.each(pids, &Process.exit(&1, :kill))
        for _ <- 1..count, do: assert(eval!("stopped.acquire(timeout=10)", globals))
        wait_until(fn -> Pythonx.NIF.running() == [] end)
      end

      assert eval!("1 + 1") == 2
    end

    test "while it waits in line leaves nothing behind" do
      pids = for _ <- 1..50, do: spawn(fn -> Pythonx.eval("import time; time.sleep(0.2)", %{}) end)
      Enum.each(pids, &Process.exit(&1, :kill))
      wait_until(fn -> Pythonx.NIF.running() == [] end)
      assert eval!("1") == 1
    end
  end

  describe ":timeout" do
    # Only the main thread can be interrupted while it waits, and it may be busy for a moment with what came before.
    defp on_main_thread(fun) do
      await_main_thread()
      in_process(fun)
    end

    test "raises in the caller and stops the code; the thread serves again, the mailbox is clean" do
      for code <- ["while True: pass", "import time; time.sleep(60)", "import threading; threading.Event().wait()"] do
        on_main_thread(fn ->
          error = assert_raise Pythonx.TimeoutError, fn -> Pythonx.eval(code, %{}, timeout: 50) end
          assert error.timeout == 50
          assert Exception.message(error) == "the Python code did not end within 50 ms and was interrupted"
          wait_until(fn -> Pythonx.NIF.running() == [] end)
          assert eval!("sum(range(1000))") == 499_500
          refute_received _anything
        end)
      end
    end

    test "code that swallows the interrupt is interrupted again" do
      code = "import time\nfor _ in range(2):\n  try:\n    time.sleep(60)\n  except BaseException: pass"

      on_main_thread(fn ->
        assert_raise Pythonx.TimeoutError, fn -> Pythonx.eval(code, %{}, timeout: 50) end
        wait_until(fn -> Pythonx.NIF.running() == [] end)
      end)
    end

    test "code that cleans up after an interrupt has a moment for it" do
      # As long as a few thousand steps of the loop, in which an interrupt that comes twice would strike.
      code = """
      import pythonx, time
      try:
          pythonx.send_tagged_object(pid, "started", None)
          while True:
              time.sleep(0.01)
      finally:
          for _ in range(3000): pass
          pythonx.send_tagged_object(pid, "cleaned_up", None)
      """

      test = self()

      for _ <- 1..20 do
        task = Task.async(fn -> assert_raise Pythonx.Error, fn -> Pythonx.eval(code, %{"pid" => test}) end end)
        assert_receive {:started, _none}
        assert Pythonx.NIF.interrupt(task.pid)
        assert_receive {:cleaned_up, _none}
        Task.await(task, patience())
      end
    end

    test "an interrupt that comes late hits no innocent evaluation" do
      for n <- 1..300 do
        try do
          Pythonx.eval("for _ in range(3000): pass", %{}, timeout: rem(n, 3))
        rescue
          Pythonx.TimeoutError -> :ok
        end

        assert eval!("sum(range(200))") == 19_900
      end
    end
  end

  describe "an interrupt" do
    @import_in_turn """
    import sys, time
    with lock:
        sys.modules.pop("colorsys", None)
        import colorsys
        time.sleep(0.02)
    """

    test "in the middle of imports leaves no lock of the import system taken" do
      code = """
      import sys
      while True:
          sys.modules.pop("colorsys", None)
          try: import colorsys
          except KeyError: pass  # another thread took it away
      """

      interrupted = fn -> assert_raise Pythonx.TimeoutError, fn -> Pythonx.eval(code, %{}, timeout: 5) end end
      in_parallel(4, fn -> for _ <- 1..15, do: interrupted.() end)
      wait_until(fn -> Pythonx.NIF.running() == [] end)

      {nil, globals} = Pythonx.eval("import threading\nlock = threading.Lock()", %{})
      in_parallel(4, fn -> Pythonx.eval(@import_in_turn, globals, timeout: 20_000) end)
    end

    test "frees code that waits for another's import, which then goes on" do
      {_none, globals} =
        Pythonx.eval(
          """
          import sys, threading, types
          kept, leave, entered, go_on = (threading.Event() for _ in range(4))
          class Finder:
              @staticmethod
              def find_spec(name, path, target=None):
                  if name == "pythonx_test_slow":
                      from importlib.machinery import ModuleSpec
                      return ModuleSpec(name, Finder)
              @staticmethod
              def create_module(spec): return None
              @staticmethod
              def exec_module(module):
                  entered.set()
                  go_on.wait()
                  module.x = 5
          sys.meta_path.append(Finder)
          """,
          %{}
        )

      await_main_thread()
      keeper = Task.async(fn -> Pythonx.eval("kept.set()\nleave.wait()", globals) end)
      Pythonx.eval("kept.wait()", globals)
      holder = Task.async(fn -> eval!("import pythonx_test_slow\npythonx_test_slow.x") end)
      Pythonx.eval("entered.wait()\nleave.set()", globals)
      Task.await(keeper, patience())
      await_main_thread()

      in_process(fn ->
        assert_raise Pythonx.TimeoutError, fn -> Pythonx.eval("import pythonx_test_slow", %{}, timeout: 50) end
      end)

      wait_until(fn -> length(Pythonx.NIF.running()) == 1 end)
      Pythonx.eval("go_on.set()", globals)
      assert Task.await(holder, patience()) == 5
      assert eval!("import pythonx_test_slow\npythonx_test_slow.x") == 5
    end

    @patient """
    import time
    from pythonx_test_shared import go, starts
    starts.append(1)
    while not go.is_set(): time.sleep(0.005)
    """

    test "lets the code of a module that is being imported come to its end, unless that takes long" do
      for where <- [:main, :other] do
        if where == :main, do: await_main_thread()
        # A busy machine may take longer than the five seconds that there are for it.
        assert Enum.any?(1..5, fn n -> executed_once?("pythonx_test_patient_#{where}_#{n}", where) end)
      end
    end

    # Interrupts the import of a module while its code waits to be told to go on.
    defp executed_once?(name, where) do
      {nil, globals} =
        Pythonx.eval(
          """
          import importlib.machinery, sys, threading, types
          go, starts = threading.Event(), []
          class Finder:
              @staticmethod
              def find_spec(wanted, path, target=None):
                  if wanted == name.decode(): return importlib.machinery.ModuleSpec(wanted, Loader())
          class Loader(importlib.machinery.SourceFileLoader):
              def __init__(self): super().__init__(name.decode(), "module.py")
              def create_module(self, spec): return None
              def get_code(self, _): return compile(text.decode(), "module.py", "exec")
          sys.meta_path.append(Finder)
          shared = sys.modules["pythonx_test_shared"] = types.ModuleType("pythonx_test_shared")
          shared.go, shared.starts = go, starts
          """,
          %{"name" => name, "text" => @patient}
        )

      holder = if where == :other, do: hold_main_thread()

      in_process(fn ->
        assert_raise Pythonx.TimeoutError, fn -> Pythonx.eval("import #{name}", %{}, timeout: 100) end
        in_process(fn -> Pythonx.call_method(globals["go"], :set) end)
      end)

      wait_until(fn -> length(Pythonx.running()) == if(holder, do: 1, else: 0) end)
      if holder, do: Process.exit(holder, :kill)
      Pythonx.import_module(name)
      Pythonx.getattr(globals["starts"], :__len__) |> Pythonx.call([], [], decode: true) == 1
    end

    defp hold_main_thread do
      test = self()

      f = fn ->
        send(test, :held)
        Process.sleep(:infinity)
      end

      holder = spawn(fn -> Pythonx.eval("f()", %{"f" => f}) end)
      assert_receive :held
      holder
    end

    # Without the GIL, other threads than the main one are not woken.
    @tag :gil
    test "frees code that waits, on whatever thread" do
      await_main_thread()
      holder = hold_main_thread()
      assert [%{main_thread: true}] = running(holder)

      for code <- [
            "import time; time.sleep(600)",
            "import threading; threading.Event().wait()",
            "import threading; lock = threading.Lock(); lock.acquire(); lock.acquire()",
            "import socket; a, b = socket.socketpair(); a.recv(1)",
            "import select; select.select([], [], [], 600)",
            "import subprocess; subprocess.run(['sleep', '600'])",
            "import asyncio; asyncio.run(asyncio.sleep(600))",
            "import queue; queue.SimpleQueue().get()"
          ] do
        in_process(fn -> assert_raise Pythonx.TimeoutError, fn -> Pythonx.eval(code, %{}, timeout: 50) end end)
        wait_until(fn -> length(Pythonx.running()) == 1 end)
      end

      # The thread that was interrupted is as good as before, and the main thread is the main thread.
      assert in_process(fn -> eval!("import time; time.sleep(0.001); 5") end) == 5
      Process.exit(holder, :kill)
      await_main_thread()
      assert in_process(fn -> eval!("import signal; signal.signal(signal.SIGWINCH, signal.SIG_DFL); 1") end) == 1
    end

    test "frees code that stays where one is put off" do
      for code <- [
            "class C:\n  def __enter__(self): pass\n  def __exit__(self, *_):\n    while True: len('')\nwith C(): pass",
            """
            import sys
            class Finder:
                @staticmethod
                def find_spec(name, path, target=None):
                    while name == "pythonx_test_no_such": len("")
            sys.meta_path.append(Finder)
            try: import pythonx_test_no_such
            finally: sys.meta_path.remove(Finder)
            """
          ] do
        in_parallel(2, fn -> assert_raise Pythonx.TimeoutError, fn -> Pythonx.eval(code, %{}, timeout: 20) end end)
        wait_until(fn -> Pythonx.NIF.running() == [] end)
      end
    end

    test "leaves no lock taken that `with` was about to let go" do
      for _ <- 1..20 do
        {nil, globals} = Pythonx.eval("import threading\nlock = threading.Lock()", %{})
        code = "while True:\n  with lock: pass"
        assert_raise Pythonx.TimeoutError, fn -> Pythonx.eval(code, globals, timeout: 3) end
        wait_until(fn -> Pythonx.NIF.running() == [] end)
        assert eval!("lock.locked()", globals) == false
      end
    end

    test "frees code that waits for a lock" do
      code = "import threading\nlock = threading.Lock()\nlock.acquire()\nwith lock: pass"
      assert_raise Pythonx.TimeoutError, fn -> Pythonx.eval(code, %{}, timeout: 50) end
      wait_until(fn -> Pythonx.NIF.running() == [] end)
    end
  end

  describe "children" do
    # CPython cannot fork where there is another interpreter; those of other tests may be about to go.
    setup do
      wait_until(fn -> elem(Pythonx.NIF.interpreter_stats(), 0) == 0 end)
      :ok
    end

    test "leave their exit status" do
      assert eval!("import subprocess; subprocess.run(['false']).returncode") == 1
      assert eval!("import subprocess; subprocess.run(['sh', '-c', 'exit 7']).returncode") == 7
      assert eval!("import os; os.waitstatus_to_exitcode(os.system('exit 3'))") == 3
      assert System.cmd("sh", ["-c", "exit 5"]) == {"", 5}
    end

    test "and threads may exit without taking the VM along" do
      code =
        "import sys, threading\nt = threading.Thread(target=sys.exit, args=(3,))\nt.start()\nt.join()\nt.is_alive()"

      assert eval!(code) == false

      # A signal that Python code has a handler for reaches that handler.
      await_main_thread()

      code = """
      import signal
      seen = []
      before = signal.signal(signal.SIGWINCH, lambda number, frame: seen.append(number))
      try:
          signal.raise_signal(signal.SIGWINCH)
      finally:
          signal.signal(signal.SIGWINCH, before)
      seen == [signal.SIGWINCH]
      """

      assert eval!(code) == true
    end

    test "made by fork own no signal handlers of the VM" do
      code = """
      import os, signal, time
      pid = os.fork()
      if pid == 0:
          time.sleep(30)
          os._exit(0)
      os.kill(pid, signal.SIGTERM)
      os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
      """

      import ExUnit.CaptureIO
      capture_io(:stderr, fn -> assert eval!(code) == -15 end)
      assert eval!("1") == 1
    end

    test "made by fork end with the code, as a script does" do
      code = """
      import os, sys, warnings
      with warnings.catch_warnings():
          warnings.simplefilter("ignore")
          pid = os.fork()
      if pid == 0:
          what()
      os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) if pid else None
      """

      for {what, status} <- [{"lambda: None", 0}, {"lambda: sys.exit(7)", 7}, {"lambda: sys.exit()", 0}] do
        assert eval!("import sys\nwhat = #{what}\n" <> code) == status
      end
    end

    test "of multiprocessing are spawned, with the right Python" do
      code = """
      import multiprocessing as mp, operator
      with mp.Pool(1) as pool: result = pool.map(operator.neg, [1, 2])
      (mp.get_start_method(), result)
      """

      assert eval!(code) == {"spawn", [-1, -2]}

      assert eval!(
               "import subprocess, sys\nsubprocess.run([sys.executable, '-c', 'import sys, numpy; print(sys.prefix)'], capture_output=True, text=True).stdout.strip() == sys.prefix"
             )
    end
  end

  describe "asyncio" do
    test "runs" do
      assert eval!("import asyncio\nasync def f():\n  await asyncio.sleep(0)\n  return 5\nasyncio.run(f())") == 5
    end
  end

  test "ssl of Python and :crypto of the VM live together" do
    assert eval!("import hashlib, ssl; hashlib.sha256(b'x').hexdigest()") ==
             Base.encode16(:crypto.hash(:sha256, "x"), case: :lower)
  end
end
