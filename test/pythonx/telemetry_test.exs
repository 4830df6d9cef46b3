defmodule Pythonx.TelemetryTest do
  use Pythonx.Case, async: false

  setup do
    define_telemetry()
  end

  # What was told of the operation: its name, its subject, and the thread.
  defp operation(fun) do
    test = self()
    fun.()
    assert_received {:event, [:pythonx, :operation, :start], start, %{process: ^test} = started}
    assert %{system_time: _, monotonic_time: _} = start
    assert_received {:event, [:pythonx, :operation, :stop], stop, %{process: ^test} = stopped}
    assert stop.duration > 0 and stop.monotonic_time >= start.monotonic_time
    assert Map.delete(stopped, :thread) == started

    if stopped.operation != :await do
      assert stop.queue_time >= 0 and stop.gil_wait >= 0 and stop.queue_time + stop.gil_wait <= stop.duration
    end

    refute_received {:event, [:pythonx, :operation | _], _, _}
    {stopped.operation, stopped.name, stopped.thread}
  end

  defp drop([what, edge]) do
    receive do
      {:event, [:pythonx, ^what, ^edge], _measurements, _metadata} -> drop([what, edge])
    after
      0 -> :ok
    end
  end

  test "an evaluation is a span with the time it queued, waited for the GIL, and its thread" do
    test = self()
    Pythonx.eval("1 + 1", %{})
    assert_received {:event, [:pythonx, :eval, :start], %{system_time: _}, %{process: ^test, code: "1 + 1"} = start}
    refute is_map_key(start, :thread)
    assert_received {:event, [:pythonx, :eval, :stop], measurements, %{process: ^test, code: "1 + 1", thread: thread}}
    assert is_integer(thread)
    %{duration: duration, queue_time: queued, gil_wait: waited} = measurements
    assert duration > 0 and queued >= 0 and waited >= 0 and queued + waited <= duration
  end

  test "an exception ends the span, with what was raised" do
    error = assert_raise Pythonx.Error, fn -> Pythonx.eval("1 / 0", %{}) end
    assert_received {:event, [:pythonx, :eval, :exception], %{duration: _, queue_time: _}, metadata}
    assert %{kind: :error, reason: ^error, stacktrace: [_ | _], thread: thread} = metadata
    assert is_integer(thread)
    refute_received {:event, [:pythonx, :eval, :stop], _, _}
  end

  test "a timeout does too, without what is not known" do
    assert_raise Pythonx.TimeoutError, fn -> Pythonx.eval("while True: pass", %{}, timeout: 20) end

    assert_received {:event, [:pythonx, :eval, :exception], measurements,
                     %{reason: %Pythonx.TimeoutError{}, thread: nil}}

    assert Enum.sort(Map.keys(measurements)) == [:duration, :monotonic_time]
    wait_until(fn -> Pythonx.running() == [] end)
  end

  @tag :gil
  @tag :tmp_dir
  test "the time of waiting for the GIL is told", %{tmp_dir: dir} do
    test = self()
    path = Path.join(dir, "pipe")
    {"", 0} = System.cmd("mkfifo", [path])

    held = """
    import ctypes, os, pythonx
    pipe = os.open(path, os.O_RDWR)
    pythonx.send(test, pythonx.Atom('held'))
    ctypes.PyDLL(None).read(pipe, ctypes.create_string_buffer(1), 1)
    os.close(pipe)
    """

    holder = Task.async(fn -> Pythonx.eval(held, %{"test" => test, "path" => path}) end)
    assert_receive :held
    waiting = Task.async(fn -> Pythonx.eval("1", %{}) end)
    wait_until(fn -> Enum.any?(Pythonx.running(), &(&1.process == waiting.pid and &1.elapsed > 200_000)) end)
    File.write!(path, "x")
    Task.await_many([holder, waiting], 60_000)
    assert_receive {:event, [:pythonx, :eval, :stop], %{gil_wait: waited, duration: duration}, %{code: "1"}}
    assert waited >= System.convert_time_unit(100, :millisecond, :native)
    assert waited <= duration
  end

  test "every operation is a span of its name" do
    {object, _} = Pythonx.eval("import types; types.SimpleNamespace(method=len, items=[1, 2])", %{})
    {coroutine, _} = Pythonx.eval("async def f(): pass\nf()", %{})
    items = Pythonx.getattr(object, :items)
    length = Pythonx.getattr(object, :method)
    for event <- [[:eval, :start], [:eval, :stop], [:operation, :start], [:operation, :stop]], do: drop(event)

    assert {:call, nil, thread} = operation(fn -> Pythonx.call(length, [[1]]) end)
    assert is_integer(thread)
    assert {:call_method, "method", ^thread} = operation(fn -> Pythonx.call_method(object, :method, [[]]) end)
    assert {:getattr, "items", ^thread} = operation(fn -> Pythonx.getattr(object, :items) end)
    assert {:setattr, "x", ^thread} = operation(fn -> Pythonx.setattr(object, :x, 1) end)
    assert {:getitem, nil, ^thread} = operation(fn -> Pythonx.getitem(items, 0) end)
    assert {:setitem, nil, ^thread} = operation(fn -> Pythonx.setitem(items, 0, 1) end)
    assert {:fetch, nil, ^thread} = operation(fn -> items[0] end)
    assert {:import_module, "json", ^thread} = operation(fn -> Pythonx.import_module("json") end)
    assert {:type, nil, ^thread} = operation(fn -> Pythonx.type(object) end)
    assert {:str, nil, ^thread} = operation(fn -> to_string(object) end)
    assert {:repr, nil, ^thread} = operation(fn -> inspect(object) end)
    assert {:attach_logger, nil, ^thread} = operation(fn -> Pythonx.attach_logger(level: :none) end)
    assert {:iterator, nil, ^thread} = operation(fn -> Pythonx.iterator([]) end)
    assert {:await, nil, nil} = operation(fn -> Pythonx.await(coroutine) end)
    assert {:encode, nil, nil} = operation(fn -> Pythonx.encode!([1]) end)
    assert {:encode, nil, ^thread} = operation(fn -> Pythonx.encode!([1], timeout: 60_000) end)
    assert {:decode, nil, nil} = operation(fn -> Pythonx.decode(items) end)
    assert {:decode, nil, ^thread} = operation(fn -> Pythonx.decode(items, timeout: 60_000) end)
  end

  test "a stream tells of its batches" do
    {numbers, _} = Pythonx.eval("(n for n in range(3))", %{})
    assert Enum.take(numbers, 2) == [0, 1]

    for operation <- [:iterate, :next_batch, :next_batch, :close_iterator] do
      assert_received {:event, [:pythonx, :operation, :stop], _, %{operation: ^operation}}
    end

    refute_received {:event, [:pythonx, :operation, :stop], _, _}
  end

  test "threads tell that they start" do
    test = self()

    f = fn ->
      send(test, {:waiting, self()})
      receive do: (:go -> 1)
    end

    # More at once than there are threads.
    {threads, _handles} = Pythonx.NIF.stats()
    tasks = for _ <- 0..threads, do: Task.async(fn -> eval!("f()", %{"f" => f}) end)
    handlers = for _ <- tasks, do: elem(assert_receive({:waiting, _pid}), 1)

    assert_receive {:event, [:pythonx, :thread, :started], %{count: count}, %{thread: thread, main_thread: false}}
                   when count > threads

    assert is_integer(thread)
    Enum.each(handlers, &send(&1, :go))
    assert Task.await_many(tasks, 60_000) == List.duplicate(1, threads + 1)
  end

  test "who hears of a thread that ends or is set aside" do
    test = self()
    send(Pythonx.Calls.Watch, {:pythonx_event, :retired, 7, false, 3})
    assert_receive {:event, [:pythonx, :thread, :retired], %{count: 3}, %{thread: 7, main_thread: false}}

    ExUnit.CaptureLog.capture_log(fn ->
      send(Pythonx.Calls.Watch, {:pythonx_event, :stuck, 7, test, 1_000_000, "f()"})
      send(Pythonx.Calls.Watch, {:pythonx_event, :freed, 7, test, 2_000_000, "f()"})

      assert_receive {:event, [:pythonx, :thread, :stuck], %{elapsed: 1_000_000},
                      %{thread: 7, process: ^test, code: "f()"}}

      assert_receive {:event, [:pythonx, :thread, :freed], %{elapsed: 2_000_000}, %{thread: 7}}
    end)
  end

  # In a VM of its own, whose memory is the C library's, which overwrites what is freed.
  test "the code of a thread that was set aside is known when its reply has long been read" do
    code = ~S"""
    defmodule :telemetry do
      def execute([:pythonx, :thread, event], _measurements, %{code: code}), do: send(:main, {event, code})
      def execute(_event, _measurements, _metadata), do: :ok
    end

    :logger.set_primary_config(:level, :none)
    Process.register(self(), :main)
    started = fn -> tap(nil, fn nil -> send(:main, :started) end) end
    # Python's main thread waits, so the call gets another thread.
    {_lock, %{"wait" => wait, "sleep" => sleep}} = Pythonx.eval(~s'''
    import threading, time
    lock = threading.Lock()
    lock.acquire()

    def wait(started):
        started()
        lock.acquire()

    class Sleep:
        def sleep_on(self, started):
            started()
            until = time.monotonic() + 1.5
            while time.monotonic() < until:
                try:
                    while time.monotonic() < until: time.sleep(0.01)
                except KeyboardInterrupt:
                    pass

    sleep = Sleep()
    ''', %{})

    spawn_link(fn -> Pythonx.call(wait, [started]) end)
    receive do: (:started -> :ok)

    caller = spawn_link(fn ->
      Pythonx.call_method(sleep, :sleep_on, [started])
      :erlang.garbage_collect()
      receive do: (:end -> :ok)
    end)

    receive do: (:started -> :ok)
    true = Pythonx.interrupt(caller)
    receive do: ({:stuck, code} -> IO.puts(code))
    receive do: ({:freed, code} -> IO.puts(code))
    System.halt(0)
    """

    env = [{"ERL_FLAGS", "+Mea min"}, {"MALLOC_PERTURB_", "90"} | Map.to_list(Pythonx.install_env())]
    paths = ["-pa", Path.join(Application.app_dir(:pythonx), "ebin")]

    {output, status} =
      System.cmd("elixir", paths ++ ["-e", "Application.ensure_all_started(:pythonx)", "-e", code], env: env)

    assert {status, output} == {0, "call_method sleep_on\ncall_method sleep_on\n"}
  end

  test "the guide has the table of the module's documentation" do
    rows = fn path ->
      Regex.scan(~r/^ *\| `\[:pythonx, :(?:eval|operation).*$/m, File.read!(path)) |> Enum.map(&String.trim(hd(&1)))
    end

    assert length(rows.("guides/control.md")) == 6
    assert rows.("guides/control.md") == rows.("lib/pythonx/telemetry.ex")
  end
end
