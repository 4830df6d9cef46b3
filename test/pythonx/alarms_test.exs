defmodule Pythonx.AlarmsTest do
  # SIGALRM and the interval timers, which are the whole VM's.
  use Pythonx.SignalCase, async: false

  @moduletag :tmp_dir

  @alarm """
  import signal
  def handler(*_): raise TimeoutError("late")
  signal.signal(signal.SIGALRM, handler)
  signal.setitimer(signal.ITIMER_REAL, 0.05)
  """

  @waits [
    "import time; time.sleep(60)",
    "import threading; threading.Event().wait()",
    "import threading; lock = threading.Lock(); lock.acquire(); lock.acquire()",
    "import socket; a, b = socket.socketpair(); a.recv(1)",
    "import select; select.select([], [], [], 60)",
    "import subprocess; subprocess.run(['sleep', '60'])",
    "import queue; queue.SimpleQueue().get()",
    "import asyncio; asyncio.run(asyncio.sleep(60))",
    "import asyncio; await asyncio.sleep(60)",
    "signal.pause()",
    "while True: pass",
    "wait()"
  ]

  test "end whatever waits, and what computes, on every thread" do
    globals = %{"wait" => fn -> Process.sleep(:infinity) end}

    on_each_thread(fn ->
      for wait <- @waits do
        line = last_line(fn -> Pythonx.eval(@alarm <> wait, globals) end)
        assert line =~ "TimeoutError: late", wait
      end
    end)
  end

  test "leave no module half imported", %{tmp_dir: dir} do
    File.write!(Path.join(dir, "rings_while_imported.py"), """
    import signal, time
    def late(*_): raise TimeoutError("late")
    signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    while signal.getitimer(signal.ITIMER_REAL)[0]: time.sleep(0.01)
    time.sleep(0.1)
    whole = True
    """)

    code = """
    import importlib, sys, time
    sys.modules.pop("rings_while_imported", None)
    sys.path.insert(0, path)
    try:
        import rings_while_imported
        time.sleep(60)
    except TimeoutError as error: text = str(error)
    finally: sys.path.remove(path)
    (text, rings_while_imported.whole)
    """

    on_each_thread(fn -> assert eval!(code, %{"path" => Pythonx.encode!(dir, binaries: :str)}) == {"late", true} end)
  end

  test "of processor time do as well, and are repeated" do
    on_each_thread(fn ->
      for {timer, name} <- [{"ITIMER_VIRTUAL", "SIGVTALRM"}, {"ITIMER_PROF", "SIGPROF"}] do
        code = """
        import signal
        seen = []
        def handler(number, frame):
            seen.append(number)
            if len(seen) == 3: raise TimeoutError("late")
        signal.signal(signal.#{name}, handler)
        signal.setitimer(signal.#{timer}, 0.02, 0.02)
        def spin():
            while True: pass
        try:
            spin()  # A loop with which a `try` begins is in part outside of it in CPython 3.11 and 3.12.
        except TimeoutError:
            signal.setitimer(signal.#{timer}, 0)
        signal.signal(signal.#{name}, signal.SIG_DFL)
        seen == [signal.#{name}] * 3
        """

        assert eval!(code)
      end
    end)
  end

  test "that no handler waits for end the evaluation that has set them, and nothing else" do
    on_each_thread(fn ->
      assert last_line(fn -> Pythonx.eval("import signal, time\nsignal.alarm(1); time.sleep(60)", %{}) end) =~
               "KeyboardInterrupt: SIGALRM came, for which there is no handler"

      assert eval!("1") == 1
    end)
  end

  test "that are ignored are nothing" do
    code = """
    import signal, time
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
    end = time.monotonic() + 0.2
    while time.monotonic() < end: time.sleep(0.01)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    1
    """

    on_each_thread(fn -> assert eval!(code) == 1 end)
  end

  test "that are left over do not hit the evaluations of another process" do
    test = self()

    rang =
      "import signal\ndef handler(*_):\n  rang()\n  raise TimeoutError('late')\nsignal.signal(signal.SIGALRM, handler)\n"

    on_each_thread(fn ->
      {:ok, device} = StringIO.open("")

      leave = fn code ->
        in_process(fn ->
          Pythonx.eval(code, %{"rang" => fn -> tap(nil, fn nil -> send(test, :rang) end) end}, stderr_device: device)
        end)
      end

      # With a handler: it is called, and what it raises reported.
      leave.(rang <> "signal.setitimer(signal.ITIMER_REAL, 0.2)")
      wait = fn -> await_text(device, ~r/TimeoutError: late/) end
      assert eval!("wait()\n1", %{"wait" => wait}) == 1
      # Without one.
      leave.("import signal\nsignal.signal(signal.SIGALRM, signal.SIG_DFL)\nsignal.setitimer(signal.ITIMER_REAL, 0.05)")

      assert eval!(
               "import signal, time\nwhile signal.getitimer(signal.ITIMER_REAL)[0]: time.sleep(0.01)\ntime.sleep(0.1)\n1"
             ) == 1
    end)

    assert_received :rang
  end

  test "use handlers that another process has set, such as the first to import a module" do
    in_process(fn ->
      Pythonx.eval(
        "import signal\ndef handler(*_): raise TimeoutError('late')\nsignal.signal(signal.SIGALRM, handler)",
        %{}
      )
    end)

    on_each_thread(fn ->
      code = "import signal, time\nsignal.setitimer(signal.ITIMER_REAL, 0.05)\ntime.sleep(60)"
      assert last_line(fn -> Pythonx.eval(code, %{}) end) =~ "TimeoutError: late"
    end)
  end
end
