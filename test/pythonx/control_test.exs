defmodule Pythonx.ControlTest do
  use Pythonx.Case, async: false

  import ExUnit.CaptureLog

  # A C function that holds no GIL and cannot be interrupted, on any thread: it restarts what a signal broke off.
  @stubborn """
  import pythonx, ctypes, time
  def stubborn(seconds):
      libc = ctypes.CDLL(None)
      until = time.monotonic() + seconds
      pythonx.send(test, pythonx.Atom('started'))
      while True:
          try:
              while time.monotonic() < until: libc.usleep(200000)
              return
          except KeyboardInterrupt:
              pass
  stubborn(1.6)
  """

  describe "code that does not end when it is interrupted" do
    test "leaves the caller free, is reported, and reported again when it ends" do
      test = self()
      before = :sys.get_state(Pythonx.Watch).reported

      log =
        capture_log(fn ->
          assert_raise Pythonx.TimeoutError, fn -> Pythonx.eval(@stubborn, %{"test" => test}, timeout: 50) end
          assert_receive :started
          assert [%{process: ^test, code: "import pythonx, ctypes, time", elapsed: elapsed}] = Pythonx.running()
          assert elapsed > 0
          # Nobody else is held up.
          assert Task.await(Task.async(fn -> eval!("1") end)) == 1
          wait_until(fn -> Pythonx.running() == [] end)
          # It is told just after; what it was sent has been handled when it answers.
          wait_until(fn -> :sys.get_state(Pythonx.Watch).reported == before + 2 end)
        end)

      assert log =~
               ~r/Python code of #{Regex.escape(inspect(test))} goes on 1\d\d\d ms after it was interrupted, its thread is set aside until it ends: import pythonx, ctypes, time/

      assert log =~ ~r/Python code of #{Regex.escape(inspect(test))} ended 1\d\d\d ms after it was interrupted: import/
    end
  end

  describe "running/0" do
    test "names process, thread, time and code, outer ones included" do
      test = self()

      f = fn ->
        send(test, {:inner, self()})
        eval!("f()", %{"f" => fn -> send(test, {:inmost, self()}) && receive(do: (:go -> 1)) end})
      end

      task = Task.async(fn -> eval!("# outer\nf()", %{"f" => f}) end)
      assert_receive {:inner, inner}
      assert_receive {:inmost, inmost}
      running = Enum.sort_by(Pythonx.running(), & &1.code)
      assert [%{code: "# outer", thread: thread}, %{code: "f()", process: ^inner, thread: thread}] = running
      assert hd(running).process == task.pid
      assert hd(running).elapsed >= List.last(running).elapsed
      send(inmost, :go)
      assert Task.await(task) == 1
      assert Pythonx.running() == []
    end

    test "names the operation and what it works on" do
      test = self()
      f = fn -> send(test, {:waiting, self()}) && receive(do: (:go -> 1)) end
      {object, _} = Pythonx.eval("import types; types.SimpleNamespace(method=f)", %{"f" => f})
      task = Task.async(fn -> Pythonx.call_method(object, :method, [], [], decode: true) end)
      assert_receive {:waiting, handler}
      assert [%{code: "call_method method"}] = Pythonx.running()
      send(handler, :go)
      assert Task.await(task) == 1
    end
  end

  test "interrupt/1 of a process that runs no Python is false" do
    refute Pythonx.interrupt(self())
  end

  describe "a caller that is killed" do
    for {what, code} <- [{"a busy loop", "while True: pass"}, {"time.sleep", "time.sleep(60)"}] do
      test "frees the core within 50 ms, on the main thread: #{what}" do
        test = self()

        # Python itself says when the code ended.
        code = """
        import time, pythonx
        try:
            pythonx.send(test, (pythonx.Atom('started'), ))
            #{unquote(code)}
        finally:
            pythonx.send(test, pythonx.Atom('ended'))
        """

        times =
          for _ <- 1..5 do
            await_main_thread()
            pid = spawn(fn -> Pythonx.eval(code, %{"test" => test}) end)
            assert_receive {:started}
            before = System.monotonic_time(:millisecond)
            Process.exit(pid, :kill)
            assert_receive :ended, 3000, inspect(Pythonx.running())
            System.monotonic_time(:millisecond) - before
          end

        # The median: one of several may be held up by the machine.
        assert times |> Enum.sort() |> Enum.at(2) < 50
      end
    end
  end
end
