defmodule Pythonx.Calls.ControlTest do
  use Pythonx.Case, async: false

  import ExUnit.CaptureLog

  # A C function that holds no GIL and cannot be interrupted, on any thread: it is called again when a signal broke it off.
  @stubborn """
  import ctypes, threading
  go = threading.Event()
  def stubborn(libc=ctypes.CDLL(None)):
      while not go.is_set():
          try:
              while not go.is_set(): libc.usleep(20000)
          except KeyboardInterrupt:
              pass
  """

  describe "code that does not end when it is interrupted" do
    test "leaves the caller free, is reported, and reported again when it ends" do
      test = self()
      wait_until(fn -> Pythonx.running() == [] and :sys.get_state(Pythonx.Calls.Watch).stuck == 0 end)
      {nil, globals} = Pythonx.eval(@stubborn, %{})

      log =
        capture_log(fn ->
          # Where its time is over before it got that far, it is like any other code.
          assert Enum.find(1..20, &sticks?(globals, 50 * &1))
          assert [%{code: "stubborn()", elapsed: elapsed}] = running(test)
          assert elapsed > 0
          # Nobody else is held up.
          assert Task.await(Task.async(fn -> eval!("1") end), patience()) == 1
          Task.await(Task.async(fn -> Pythonx.call_method(globals["go"], :set) end), patience())
          wait_until(fn -> Pythonx.running() == [] end)
          # It is told just after; what it was sent has been handled when it answers.
          wait_until(fn -> :sys.get_state(Pythonx.Calls.Watch).stuck == 0 end)
        end)

      assert log =~
               ~r/Python code of #{Regex.escape(inspect(test))} goes on \d{4,} ms after it was interrupted, its thread is set aside until it ends: stubborn\(\)/

      assert log =~ ~r/Python code of #{Regex.escape(inspect(test))} ended \d{4,} ms after it was interrupted: stubborn/
    end

    defp sticks?(globals, timeout) do
      assert_raise Pythonx.TimeoutError, fn -> Pythonx.eval("stubborn()", globals, timeout: timeout) end
      wait_until(fn -> :sys.get_state(Pythonx.Calls.Watch).stuck == 1 or Pythonx.running() == [] end)
      Pythonx.running() != []
    end
  end

  describe "running/0" do
    test "names process, thread, time and code, outer ones included" do
      test = self()

      f = fn ->
        send(test, {:inner, self()})
        eval!("f()", %{"f" => waiting(test, :inmost)})
      end

      task = Task.async(fn -> eval!("# outer\nf()", %{"f" => f}) end)
      assert_receive {:inner, inner}
      assert_receive {:inmost, inmost}
      assert [%{code: "f()", thread: thread, elapsed: shorter}] = running(inner)
      assert [%{code: "# outer", thread: ^thread, elapsed: elapsed}] = running(task.pid)
      assert elapsed >= shorter
      send(inmost, :go)
      assert Task.await(task, patience()) == 1
      assert running(task.pid) ++ running(inner) == []
    end

    test "shows the first line that is not blank" do
      test = self()
      f = waiting(test, :waiting)
      task = Task.async(fn -> eval!("\n  \r\nx = f()\r\nx", %{"f" => f}) end)
      assert_receive {:waiting, handler}
      assert [%{code: "x = f()"}] = running(task.pid)
      send(handler, :go)
      assert Task.await(task, patience()) == 1
    end

    test "names the operation and what it works on" do
      test = self()
      f = waiting(test, :waiting)
      {object, _} = Pythonx.eval("import types; types.SimpleNamespace(method=f)", %{"f" => f})
      task = Task.async(fn -> Pythonx.call_method(object, :method, [], [], decode: true) end)
      assert_receive {:waiting, handler}
      assert [%{code: "call_method method"}] = running(task.pid)
      send(handler, :go)
      assert Task.await(task, patience()) == 1
    end
  end

  describe "timeout:" do
    # A C function that holds the GIL: while it waits for the pipe, nothing else of Python can even begin.
    @held """
    import ctypes, os, pythonx
    pipe = os.open(path, os.O_RDWR)
    pythonx.send(test, pythonx.Atom('held'))
    ctypes.PyDLL(None).read(pipe, ctypes.create_string_buffer(1), 1)
    os.close(pipe)
    """

    # A function for Python that says where it runs, and waits to be told to go on.
    defp waiting(test, name) do
      fn ->
        send(test, {name, self()})
        receive do: (:go -> 1)
      end
    end

    defp operations do
      {object, _} = Pythonx.eval("import types; types.SimpleNamespace(method=len, items={'a': 1})", %{})
      items = Pythonx.getattr(object, :items)
      # A coroutine that never began would be warned about.
      {awaitable, _} = Pythonx.eval("class A:\n  def __await__(self): yield\nA()", %{})
      {:ok, server} = Pythonx.Server.start_link(object: items)
      big = Enum.to_list(1..1000)
      timeout = [timeout: 50]

      [
        eval: fn -> Pythonx.eval("1", %{}, timeout) end,
        eval_with_globals: fn -> Pythonx.eval("x", %{"x" => [1], "f" => & &1}, timeout) end,
        eval_with_struct: fn -> Pythonx.eval("x", %{"x" => MapSet.new([1])}, timeout) end,
        eval_with_rich_types: fn -> Pythonx.eval("x", %{"x" => [~D[2024-01-31]]}, [types: :rich] ++ timeout) end,
        remote_eval: fn -> Pythonx.remote_eval(node(), "1", %{}, timeout) end,
        remote_eval_with_globals: fn -> Pythonx.remote_eval(node(), "x", %{"x" => [1]}, timeout) end,
        call: fn -> Pythonx.call(object, [], [], timeout) end,
        call_with_struct: fn -> Pythonx.call(object, [1..3], [], timeout) end,
        call_method: fn -> Pythonx.call_method(object, :method, [[]], [], timeout) end,
        to_string: fn -> Pythonx.call_method(object, :__str__, [], [], [decode: true] ++ timeout) end,
        getattr: fn -> Pythonx.getattr(object, :items, timeout) end,
        setattr: fn -> Pythonx.setattr(object, :x, 1, timeout) end,
        getitem: fn -> Pythonx.getitem(items, "a", timeout) end,
        setitem: fn -> Pythonx.setitem(items, "b", 1, timeout) end,
        import_module: fn -> Pythonx.import_module("json", timeout) end,
        type: fn -> Pythonx.type(object, timeout) end,
        help: fn -> Pythonx.help(object, timeout) end,
        stream: fn -> object |> Pythonx.stream(timeout) |> Enum.to_list() end,
        iterator: fn -> Pythonx.iterator([1], timeout) end,
        await: fn -> Pythonx.await(awaitable, timeout) end,
        attach_logger: fn -> Pythonx.attach_logger([level: :none] ++ timeout) end,
        attach_named_logger: fn -> Pythonx.attach_logger([logger: "control_test"] ++ timeout) end,
        encode!: fn -> Pythonx.encode!(big, timeout) end,
        encode_rich!: fn -> Pythonx.encode!(~D[2024-01-31], [types: :rich] ++ timeout) end,
        decode: fn -> Pythonx.decode(items, timeout) end,
        server: fn -> Pythonx.Server.call(server, :keys, [], [], timeout) end
      ]
    end

    # Leaves half a minute to what imports asyncio.
    @tag :in_time
    @tag :gil
    @tag :tmp_dir
    test "raises at once in every function, however busy Python is, and nothing comes late", %{tmp_dir: dir} do
      test = self()
      operations = operations()
      path = Path.join(dir, "pipe")
      {"", 0} = System.cmd("mkfifo", [path])
      holder = Task.async(fn -> Pythonx.eval(@held, %{"test" => test, "path" => path}) end)
      assert_receive :held
      reported = :sys.get_state(Pythonx.Calls.Watch).reported

      tasks =
        for {name, operation} <- operations do
          Task.async(fn ->
            error = assert_raise Pythonx.TimeoutError, operation
            send(test, {:given_up, name, error.timeout})
            receive do: (:released -> {name, Process.info(self(), :messages)})
          end)
        end

      for {name, _operation} <- operations, do: assert_receive({:given_up, ^name, 50})
      assert Enum.any?(Pythonx.running(), &(&1.process == holder.pid))
      File.write!(path, "x")
      Task.await(holder, patience())
      wait_until(fn -> Pythonx.running() == [] end)
      for task <- tasks, do: send(task.pid, :released)
      for result <- Task.await_many(tasks, patience()), do: assert({_name, {:messages, []}} = result)
      wait_until(fn -> DynamicSupervisor.count_children(Pythonx.Calls.Producers).active == 0 end)
      # None of them began, so none of them goes on.
      assert %{reported: ^reported, stuck: 0} = :sys.get_state(Pythonx.Calls.Watch)
      assert eval!("1") == 1
    end

    test "is checked by every function" do
      {object, _} = Pythonx.eval("[1]", %{})

      for operation <- [
            &Pythonx.eval("1", %{}, &1),
            &Pythonx.call(object, [], [], &1),
            &Pythonx.getitem(object, 0, &1),
            &Pythonx.import_module("json", &1),
            &Pythonx.type(object, &1),
            &Pythonx.help(object, &1),
            &Pythonx.stream(object, &1),
            &Pythonx.iterator([], &1),
            &Pythonx.await(object, &1),
            &Pythonx.attach_logger/1,
            &Pythonx.encode!(1, &1),
            &Pythonx.decode(object, &1),
            &Pythonx.copy_remote_object(object, &1)
          ] do
        message = "expected :timeout to be a non-negative integer or :infinity, got: -1"
        assert_raise ArgumentError, message, fn -> operation.(timeout: -1) end
        message = "expected :timeout to be at most 4294967295, got: 4294967296"
        assert_raise ArgumentError, message, fn -> operation.(timeout: 4_294_967_296) end
      end

      refute_received _anything

      message = ~r/^unknown keys \[:tiemout\] in \[tiemout: 1\], the allowed keys are: \[:types, :timeout\]$/
      assert_raise ArgumentError, message, fn -> Pythonx.decode(object, tiemout: 1) end
    end

    test "stops a long conversion, and the thread goes on" do
      {numbers, _} = Pythonx.eval("[[n] for n in range(3_000_000)]", %{})
      terms = Enum.map(1..1_000_000, &[&1])

      # On a busy machine a process may be waked only when all is done.
      for convert <- [fn -> Pythonx.decode(numbers, timeout: 1) end, fn -> Pythonx.encode!(terms, timeout: 1) end] do
        assert Enum.any?(1..10, fn _ -> gives_up?(convert) end)
      end

      wait_until(fn -> Pythonx.running() == [] end)
      assert eval!("1") == 1
    end
  end

  defp gives_up?(fun) do
    fun.()
    false
  rescue
    Pythonx.TimeoutError -> true
  end

  test "interrupt/1 of a process that runs no Python is false" do
    refute Pythonx.interrupt(self())
  end

  describe "a caller that is killed" do
    for {what, code} <- [{"a busy loop", "while True: pass"}, {"time.sleep", "time.sleep(60)"}] do
      # How soon: bench/interrupts.exs.
      test "frees the core, on the main thread: #{what}" do
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

        for _ <- 1..5 do
          await_main_thread()
          pid = spawn(fn -> Pythonx.eval(code, %{"test" => test}) end)
          assert_receive {:started}
          Process.exit(pid, :kill)
          assert_receive :ended, patience(), inspect(Pythonx.running())
        end
      end
    end
  end
end
