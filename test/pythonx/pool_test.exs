defmodule Pythonx.PoolTest do
  use Pythonx.Case, async: true

  import ExUnit.CaptureLog

  alias Pythonx.{NativeCase, Peers, Pool}
  alias Pythonx.Pool.{CrashError, OverloadedError}

  # The workers have the Python of the suite.
  setup_all do
    start_supervised!({Pool, [name: MyPool, size: 1] ++ in_time()})
    two = [name: TwoPool, size: 2, spares: 1, kill_after: 300, init: "import os, time\nbase = 40"]
    start_supervised!({Pool, two ++ in_time()})
    :ok
  end

  doctest Pythonx.Pool
  doctest Pythonx.Pool.Object

  defp start_pool!(opts) do
    start_supervised!({Pool, Keyword.merge([size: 1, kill_after: 300] ++ in_time(), opts)}, id: make_ref())
  end

  # Enough for any machine.
  defp in_time, do: [boot_timeout: 2 * patience()]

  defp worker_os_pids(pool), do: for(worker <- Pool.info(pool).workers, do: worker.os_pid)
  defp alive?(os_pid), do: File.exists?("/proc/#{os_pid}")

  # A process that evaluates code which has begun when this returns.
  defp begin!(pool, code, opts \\ []) do
    file = Path.join(System.tmp_dir!(), "pythonx-pool-#{System.unique_integer([:positive])}")
    on_exit(fn -> File.rm(file) end)
    code = "open(file, 'w').close()\n" <> code
    {pid, _} = spawn_monitor(fn -> exit_as_raised(fn -> Pool.eval(pool, code, %{"file" => file}, opts) end) end)
    wait_for_file(file)
    pid
  end

  # Ends as a process does in which an exception is not rescued, but for what is logged then.
  defp exit_as_raised(fun) do
    fun.()
  rescue
    error -> exit({error, __STACKTRACE__})
  end

  defp count_workers(pool, status), do: Enum.count(Pool.info(pool).workers, &(&1.status == status))

  describe "evaluation" do
    test "is that of Pythonx.eval/3, in another process" do
      assert {[os_pid, 42], %{"x" => %{"a" => {1, 2.5, nil}}}} =
               Pool.eval(TwoPool, "[os.getpid(), base + n]", %{"n" => 2, "x" => %{a: {1, 2.5, nil}}},
                 globals: ["x", "missing"],
                 binaries: :str
               )

      assert os_pid in worker_os_pids(TwoPool)
      assert {nil, globals} = Pool.eval(TwoPool, "y = 1", %{}, globals: :all, decode: false)
      assert Enum.sort(Map.keys(globals)) == ["base", "os", "time", "y"]
    end

    test "raises what Python raises, with objects of the worker" do
      error = raised(fn -> Pool.eval(TwoPool, "[][1]", %{}) end)
      assert %Pythonx.Error{value: %Pool.Object{type: "IndexError"}} = error
      assert List.last(error.lines) == "IndexError: list index out of range\n"
      assert {["list index out of range"], _} = Pool.eval(TwoPool, "list(e.args)", %{"e" => error.value})
    end

    test "raises what Elixir raises in the worker" do
      assert_raise ArgumentError, "expected globals keys to be strings, got: :a", fn ->
        Pool.eval(TwoPool, "1", %{a: 1})
      end

      # An implementation of the protocol may raise.
      assert_raise ArgumentError, ~r/cannot encode an improper list/, fn ->
        Pool.eval(TwoPool, "1", %{"f" => [1 | 2]})
      end

      assert_raise ArgumentError, "cannot decode a dict whose keys 'a' and b'a' are the same in Elixir", fn ->
        Pool.eval(TwoPool, "{'a': 1, b'a': 2}", %{})
      end
    end

    test "encodes structs by the protocol, and knows rich types" do
      number = %Pythonx.Case.Complex{re: 1.0, im: 2.0}
      assert {[1.0, 2.0], _} = Pool.eval(TwoPool, "[x[0].real, x[0].imag]", %{"x" => [number]})
      error = raised(fn -> Pool.eval(TwoPool, "1", %{"a" => 1, "uri" => [%URI{}]}) end)
      assert %Protocol.UndefinedError{value: %URI{}, description: description} = error
      assert description =~ "[0]"
      # The worker is free again.
      assert Pool.eval(TwoPool, "1", %{}) == {1, %{}}

      code = "import datetime\n(d + datetime.timedelta(days=1), type(d).__name__)"
      assert {result, %{}} = Pool.eval(TwoPool, code, %{"d" => ~D[2024-02-28]}, types: :rich, binaries: :str)
      assert result == {~D[2024-02-29], "date"}
      assert Pool.call(TwoPool, "datetime.date.isoformat", [~D[2024-02-28]], [], types: :rich) == "2024-02-28"
    end

    test "that cannot encode says where" do
      error = raised(fn -> Pool.eval(TwoPool, "1", %{"x" => [1, <<255>>]}, binaries: :str) end)
      assert %Pythonx.Error{lines: lines} = error
      assert Enum.join(lines) =~ "UnicodeDecodeError"
      assert List.last(lines) =~ "while encoding "
    end

    test "refuses options that make no sense" do
      assert_raise ArgumentError, "expected :decode to be a boolean, got: 1", fn ->
        Pool.eval(TwoPool, "1", %{}, decode: 1)
      end

      assert_raise ArgumentError, "expected :globals to be a list of strings or :all, got: [:a]", fn ->
        Pool.eval(TwoPool, "1", %{}, globals: [:a])
      end

      assert_raise ArgumentError, "expected :queue_timeout to be a non-negative integer or :infinity, got: -1", fn ->
        Pool.eval(TwoPool, "1", %{}, queue_timeout: -1)
      end

      assert_raise ArgumentError, ~r/unknown keys \[:foo\]/, fn -> Pool.call(TwoPool, "abs", [1], [], foo: 1) end
    end

    test "prints to the caller's devices" do
      out = start_device()
      err = start_device(:err)
      code = "import sys\nprint('to out')\nprint('to err', file=sys.stderr)"
      Pool.eval(TwoPool, code, %{}, stdout_device: out, stderr_device: err)
      # The device passes on what it has got by then.
      assert_receive {:device, :out, "to out\n"}
      assert_receive {:device, :err, "to err\n"}

      Process.group_leader(self(), out)
      Pool.call(TwoPool, "print", ["from a call"])
      assert_receive {:device, :out, "from a call\n"}
    end

    test "takes large binaries and the objects of any type" do
      binary = :crypto.strong_rand_bytes(20_000_000)
      assert {{20_000_000, ^binary}, _} = Pool.eval(TwoPool, "(len(b), b)", %{"b" => binary})
      assert {%Pool.Object{type: "os._Environ"}, _} = Pool.eval(TwoPool, "os.environ", %{})
    end

    test "in calls finds builtins, what init defined, modules and handles" do
      assert Pool.call(TwoPool, "len", ["abc"]) == 3
      assert Pool.call(TwoPool, "os.path.join", ["a", "b"]) == "a/b"
      assert Pool.call(TwoPool, "datetime.datetime.fromtimestamp", [0], [], decode: false).type == "datetime.datetime"
      assert {double, _} = Pool.eval(TwoPool, "lambda n: 2 * n", %{})
      assert Pool.call(TwoPool, double, [21]) == 42

      error = raised(fn -> Pool.call(TwoPool, "no_such_module.f", []) end)
      assert List.last(error.lines) == "ModuleNotFoundError: No module named 'no_such_module'\n"
    end
  end

  describe "the connection" do
    test "is out of reach of what is printed to file descriptors" do
      code = """
      import ctypes, subprocess, sys
      libc = ctypes.CDLL(None)
      os.write(1, bytes(range(256)) * 100)
      os.write(2, b"\\x00\\x00\\x00\\x05garbage" * 100)
      libc.puts(b"from C")
      libc.fflush(None)
      read = os.read(0, 10)
      cat = os.system("cat; echo hi; echo err >&2")
      child = subprocess.run(["sh", "-c", "cat; echo hi"], capture_output=True).stdout
      descriptors = subprocess.run("ls /proc/self/fd", shell=True, capture_output=True).stdout
      [read, cat, child, descriptors]
      """

      # 3 is the folder that ls reads.
      assert {["", 0, "hi\n", "0\n1\n2\n3\n"], _} = Pool.eval(TwoPool, code, %{})

      pool = start_pool!(init: "import os")
      assert {nil, _} = Pool.eval(pool, "for n in 0, 1, 2: os.close(n)", %{})
      assert {_, _} = Pool.eval(pool, "print('lost')", %{}, stdout_device: start_device())
    end

    test "that is written to costs the worker" do
      pool = start_pool!([])
      error = raised(fn -> Pool.eval(pool, "import os, time\nos.write(4, b'x' * 1000)\ntime.sleep(60)", %{}) end)
      assert error.reason == :protocol
      assert Pool.eval(pool, "1", %{}) == {1, %{}}
    end
  end

  describe "a crash" do
    test "costs only who waits for it" do
      kinds = [
        {"import ctypes; ctypes.string_at(0)", {:signal, "SIGSEGV"}},
        {"os._exit(3)", {:exit_status, 3}},
        {"os.abort()", {:signal, "SIGABRT"}},
        {"import signal; os.kill(os.getpid(), signal.SIGKILL)", {:signal, "SIGKILL"}}
      ]

      good = Task.async(fn -> TwoPool |> Pool.async_stream(1..60, "x * x", max_concurrency: 1) |> Enum.to_list() end)

      for {code, reason} <- kinds do
        error = raised(fn -> Pool.eval(TwoPool, code, %{}) end)
        assert %CrashError{reason: ^reason, os_pid: os_pid} = error
        wait_until(fn -> not alive?(os_pid) end)
      end

      assert Task.await(good, 60_000) == for(n <- 1..60, do: {:ok, n * n})
    end

    test "says what stderr said" do
      code = "os.write(2, b'last words ' + '\\u00fc\\n'.encode())\nimport ctypes; ctypes.string_at(0)"
      error = raised(fn -> Pool.eval(TwoPool, code, %{}) end)
      assert error.stderr =~ "last words ü\nFatal Python error: Segmentation fault\n"

      assert Exception.message(error) =~
               ~r/\Athe worker was ended by the signal SIGSEGV\n\nIts last output was:\n\n    /

      assert Exception.message(error) =~ ~s(    File "<string>", line 2 in <module>)
    end

    test "says the last of much that stderr said" do
      pool = start_pool!(stderr_limit: 100)
      code = "import os\nfor n in range(1000): os.write(2, b'%d\\n' % n)\nos._exit(1)"
      error = raised(fn -> Pool.eval(pool, code, %{}) end)
      assert byte_size(error.stderr) == 100
      assert String.ends_with?(error.stderr, "997\n998\n999\n")
    end

    test "in the middle of a reply is told as any other" do
      code = """
      import threading
      threading.Timer(0.05, lambda: os._exit(9)).start()
      [str(n) for n in range(3_000_000)]
      """

      assert %CrashError{reason: {:exit_status, 9}} = raised(fn -> Pool.eval(TwoPool, code, %{}) end)
    end

    test "takes along what the worker has started" do
      code = """
      import subprocess
      child = subprocess.Popen(["setsid", "sleep", "1000"])
      open(path, "w").write(str(child.pid))
      os._exit(0)
      """

      path = Path.join(System.tmp_dir!(), "pythonx-pool-#{System.unique_integer([:positive])}")
      on_exit(fn -> File.rm(path) end)
      assert %CrashError{} = raised(fn -> Pool.eval(TwoPool, code, %{"path" => path}, binaries: :str) end)
      os_pid = File.read!(path)
      wait_until(fn -> not alive?(os_pid) end)
    end

    test "of a worker that has nothing to do is not noticed" do
      pool = start_pool!([])
      {os_pid, _} = Pool.eval(pool, "import os; os.getpid()", %{})
      System.cmd("kill", ["-9", "#{os_pid}"])
      assert {other, _} = Pool.eval(pool, "import os; os.getpid()", %{})
      assert other != os_pid
    end
  end

  describe "time" do
    test "that is over interrupts Python, and the worker goes on" do
      {os_pid, _} = Pool.eval(MyPool, "import os; os.getpid()", %{})

      assert_raise Pythonx.TimeoutError, fn ->
        Pool.eval(MyPool, "import time\nwhile True: time.sleep(0.01)", %{}, timeout: 50)
      end

      assert {^os_pid, _} = Pool.eval(MyPool, "import os; os.getpid()", %{})
    end

    test "that is over kills what does not stop" do
      error = raised(fn -> Pool.eval(TwoPool, "sum(range(10**12))", %{}, timeout: 300) end)
      assert error.reason == {:timeout, 300}

      assert Exception.message(error) =~
               "the worker was killed, as the Python code neither ended within 300 ms nor when it was interrupted"
    end

    test "of a caller that is dead is over" do
      pool = start_pool!([])
      [os_pid] = worker_os_pids(pool)
      caller = begin!(pool, "import time\nwhile True: time.sleep(0.01)")
      Process.exit(caller, :kill)
      assert {^os_pid, _} = Pool.eval(pool, "import os; os.getpid()", %{})

      caller = begin!(pool, "sum(range(10**12))")
      Process.exit(caller, :kill)
      assert {other, _} = Pool.eval(pool, "import os; os.getpid()", %{})
      assert other != os_pid
    end

    test "of one that dies in line or in a function is over" do
      pool = start_pool!([])
      test = self()

      hold = fn _worker ->
        send(test, :held)
        Process.sleep(:infinity)
      end

      holder = spawn(fn -> Pool.run(pool, hold) end)
      assert_receive :held, 5000
      waiting = spawn(fn -> Pool.eval(pool, "1", %{}) end)
      wait_until(fn -> Pool.info(pool).queued == 1 end)
      Process.exit(waiting, :kill)
      wait_until(fn -> Pool.info(pool).queued == 0 end)
      Process.exit(holder, :kill)
      assert {1, _} = Pool.eval(pool, "1", %{})
    end
  end

  describe "objects" do
    test "stay in their worker and are themselves there" do
      {items, _} = Pool.eval(TwoPool, "[]", %{}, decode: false)
      assert inspect(items) =~ ~r/\A#Pythonx.Pool.Object<list, \d+ in worker [\d.]+>\z/

      for n <- 1..10 do
        assert {true, _} =
                 Pool.eval(
                   TwoPool,
                   "a[0] is b['k'] and a[0].append(n) is None",
                   %{"a" => [items], "b" => %{"k" => items}, "n" => n},
                   binaries: :str
                 )
      end

      assert Pool.call(TwoPool, "len", [items]) == 10
    end

    test "are let go of when the last handle is" do
      pool = start_pool!([])
      code = "import weakref\nclass C: pass\nc = C()\nweak = weakref.ref(c)\ndel c\n(weak(), weak)"
      [os_pid] = worker_os_pids(pool)

      Task.await(
        Task.async(fn ->
          {{object, weak}, _} = Pool.eval(pool, String.replace(code, "del c\n", ""), %{})
          # What the evaluation itself has held goes a moment later.
          wait_until(fn -> :erlang.garbage_collect() && match?([%{handles: 2}], Pool.info(pool).workers) end)
          assert object.type == "__main__.C" and weak.type =~ "weakref"
        end),
        60_000
      )

      wait_until(fn -> match?([%{handles: 0}], Pool.info(pool).workers) end)
      assert [^os_pid] = worker_os_pids(pool)
    end

    test "keep a worker that is due to be replaced, beside its successor" do
      pool = start_pool!(max_uses: 2)
      {items, _} = Pool.eval(pool, "[1]", %{}, decode: false)
      [first] = worker_os_pids(pool)

      log =
        capture_log(fn ->
          Pool.eval(pool, "1", %{})
          wait_until(fn -> count_workers(pool, :retired) == 1 end)
        end)

      assert log =~ "replaces a worker after 2 uses, and keeps it besides for the 1 objects in it that are held"
      assert {other, _} = Pool.eval(pool, "import os; os.getpid()", %{})
      assert other != first
      assert count_workers(pool, :retired) == 1
      assert {[1, ^first], _} = Pool.eval(pool, "import os; items + [os.getpid()]", %{"items" => items})
      assert Pythonx.ObjectTracker.identity(items)
      :erlang.garbage_collect()
      wait_until(fn -> not alive?(first) end)
    end

    test "of a worker that is gone, of several, and of this VM are errors" do
      pool = start_pool!(size: 2)
      {object, _} = Pool.eval(pool, "[]", %{}, decode: false)

      {other, _} =
        Pool.run(pool, fn _worker -> Pool.eval(pool, "[]", %{}, decode: false) end)
        |> then(fn {other, globals} ->
          if other.worker == object.worker, do: elsewhere(pool, object), else: {other, globals}
        end)

      assert_raise ArgumentError, ~r/\Athe objects are in different workers/, fn ->
        Pool.eval(pool, "1", %{"a" => object, "b" => other})
      end

      assert_raise ArgumentError, ~r/\Aa Pythonx.Object belongs to the Python of this VM/, fn ->
        Pool.eval(pool, "1", %{"a" => [Pythonx.encode!(1)]})
      end

      assert_raise ArgumentError, ~r/lives in a worker of a pool, and only there it can be used/, fn ->
        Pythonx.encode!([object])
      end

      assert %CrashError{} = raised(fn -> Pool.eval(pool, "import os; os._exit(1)", %{"object" => object}) end)
      error = raised(fn -> Pool.eval(pool, "1", %{"object" => object}) end)
      assert Exception.message(error) == "the worker that has the object is gone"
    end

    defp elsewhere(pool, object) do
      Pool.run(pool, fn worker ->
        {held, _} = Pool.eval(worker, "[]", %{}, decode: false)
        if held.worker == object.worker, do: Pool.eval(pool, "[]", %{}, decode: false), else: {held, %{}}
      end)
    end
  end

  describe "a worker that is checked out" do
    test "is one for several evaluations, and for nobody else" do
      pool = start_pool!([])

      Pool.run(pool, fn worker ->
        Pool.eval(worker, "import builtins; builtins.mine = 1", %{})
        other = Task.async(fn -> Pool.eval(pool, "import builtins; builtins.mine", %{}) end)
        wait_until(fn -> Pool.info(pool).queued == 1 end)
        assert {2, _} = Pool.eval(worker, "import builtins; builtins.mine += 1; mine", %{})
        send(self(), {:other, other})
      end)

      assert_received {:other, other}
      assert {2, _} = Task.await(other, 60_000)
    end

    test "is of no use afterwards, and gone when it crashes" do
      worker = Pool.run(TwoPool, & &1)
      error = raised(fn -> Pool.eval(worker, "1", %{}) end)
      assert Exception.message(error) == "the worker was checked out for a function that has returned"

      Pool.run(TwoPool, fn worker ->
        assert %CrashError{} = raised(fn -> Pool.eval(worker, "os._exit(1)", %{}) end)
        assert %CrashError{reason: :gone} = raised(fn -> Pool.eval(worker, "1", %{}) end)
      end)

      assert {1, _} = Pool.eval(TwoPool, "1", %{})
    end
  end

  describe "async_stream" do
    test "is in order, or as things are ready" do
      wait_until(fn -> Pool.info(TwoPool).idle >= 2 end)
      sleep = "import time; time.sleep(x); x"
      assert TwoPool |> Pool.async_stream([0.2, 0], sleep) |> Enum.to_list() == [ok: 0.2, ok: 0]
      assert TwoPool |> Pool.async_stream([0.2, 0], sleep, ordered: false) |> Enum.to_list() == [ok: 0, ok: 0.2]
    end

    test "goes on after what fails" do
      codes = ["1", "1/0", "os._exit(1)", "while True: pass", "sum(range(10**12))", "2"]
      # Enough time for a busy machine to get to what needs none.
      pool = start_pool!(size: 2, kill_after: 3000, init: "import os")
      work = fn worker, code -> worker |> Pool.eval(code, %{}) |> elem(0) end

      assert [
               {:ok, 1},
               {:error, %Pythonx.Error{}},
               {:error, %CrashError{reason: {:exit_status, 1}}},
               {:error, %Pythonx.TimeoutError{timeout: 3000}},
               {:error, %CrashError{reason: {:timeout, 3000}}},
               {:ok, 2}
             ] = pool |> Pool.async_stream(codes, work, timeout: 3000) |> Enum.to_list()
    end

    test "reads no further ahead than it works, and tells how far it is" do
      test = self()
      read = fn tag -> Stream.each(1..1000, &send(test, {tag, &1})) end
      progress = fn done, total -> send(test, {:done, done, total}) end
      options = [max_concurrency: 2, progress: progress, as: "n", globals: %{"k" => 10}]
      assert TwoPool |> Pool.async_stream(read.(:read), "k * n", options) |> Enum.take(3) == [ok: 10, ok: 20, ok: 30]
      assert_received {:done, 3, nil}
      refute_received {:done, 4, _}
      refute_received {:read, 8}

      # The first takes long enough for the others to get ahead, if they could.
      work = fn worker, n ->
        if n == 1, do: Pool.eval(worker, "time.sleep(0.5)", %{}), else: Pool.eval(worker, "n", %{"n" => n})
      end

      assert [{:ok, {nil, %{}}}] = TwoPool |> Pool.async_stream(read.(:ahead), work, max_concurrency: 2) |> Enum.take(1)
      refute_received {:ahead, 5}
      assert TwoPool |> Pool.async_stream([1, 2], "x", progress: progress) |> Enum.count() == 2
      assert_received {:done, 2, 2}
    end

    test "refuses what makes no sense" do
      assert_raise ArgumentError, "expected :max_concurrency to be a positive integer, got: 0", fn ->
        Pool.async_stream(TwoPool, [], "x", max_concurrency: 0)
      end
    end
  end

  describe "limits" do
    test "of the line turn callers away" do
      pool = start_pool!(max_queue: 1, name: SmallPool)
      caller = begin!(pool, "import time; time.sleep(60)")
      waiting = Task.async(fn -> Pool.eval(pool, "1", %{}) end)
      wait_until(fn -> Pool.info(pool).queued == 1 end)
      assert Pool.eval(pool, "1", %{}) == {:error, :overloaded}
      assert Pool.call(pool, "abs", [1]) == {:error, :overloaded}
      assert Pool.run(pool, fn _worker -> 1 end) == {:error, :overloaded}

      assert_raise OverloadedError, "the pool SmallPool is overloaded", fn ->
        Pool.eval!(SmallPool, "1", %{})
      end

      assert [{:error, %OverloadedError{}}] = pool |> Pool.async_stream([1], "x") |> Enum.to_list()
      Process.exit(caller, :kill)
      assert {1, _} = Task.await(waiting, 60_000)
      assert Pool.info(pool).overloads == 5
    end

    test "of the wait in line as well" do
      pool = start_pool!([])
      caller = begin!(pool, "import time; time.sleep(60)")
      assert Pool.eval(pool, "1", %{}, queue_timeout: 0) == {:error, :overloaded}
      assert Pool.eval(pool, "1", %{}, queue_timeout: 20) == {:error, :overloaded}
      Process.exit(caller, :kill)
      assert {1, _} = Pool.eval(pool, "1", %{}, queue_timeout: 20_000)
    end

    test "of memory, priority and threads hold in the worker" do
      pool = start_pool!(max_memory: 200_000_000, nice: 5, threads: 3, env: %{"MY_VARIABLE" => "ä", "USER" => nil})

      error = raised(fn -> Pool.eval(pool, "x = bytearray(300_000_000)", %{}) end)
      assert %Pythonx.Error{} = error
      assert List.last(error.lines) == "MemoryError\n"

      code =
        "import os\n[os.nice(0), os.environ['OMP_NUM_THREADS'], os.environ['MY_VARIABLE'], os.environ.get('USER'), len(bytearray(50_000_000))]"

      {own, 0} = System.cmd("nice", [])
      nice = min(String.to_integer(String.trim(own)) + 5, 19)
      assert {[^nice, "3", "ä", nil, 50_000_000], _} = Pool.eval(pool, code, %{})
    end

    test "of uses replace the worker" do
      pool = start_pool!(max_uses: 2)
      os_pids = for _n <- 1..4, do: Pool.eval(pool, "import os; os.getpid()", %{}) |> elem(0)
      assert [a, a, b, b] = os_pids
      assert a != b
      wait_until(fn -> not alive?(a) end)
    end
  end

  describe "the start" do
    test "tells what keeps workers from starting" do
      Process.flag(:trap_exit, true)
      assert {:error, {%RuntimeError{message: message}, _}} = Pool.start_link(size: 1, init: "1/0")
      assert message =~ "Python exception raised\n\n"
      assert message =~ "ZeroDivisionError: division by zero"

      assert {:error, {%RuntimeError{message: message}, _}} = Pool.start_link(size: 1, init: "import os; os._exit(7)")
      assert message =~ "a worker ended while it started, exit_status: 7"

      assert {:error, {%RuntimeError{message: message}, _}} =
               Pool.start_link(size: 1, init: "import time; time.sleep(60)", boot_timeout: 500)

      assert message =~ "a worker did not start within 500 ms"
    end

    test "refuses options that make no sense" do
      for {opts, message} <- [
            {[size: 0], "expected :size to be a positive integer, got: 0"},
            {[pyproject: "", template: :numpy], "expected one of the options :pyproject and :template, not both"},
            {[max_uses: 0], "expected :max_uses to be a positive integer or :infinity, got: 0"},
            {[nodes: []], "expected :nodes to be a list of nodes, got: []"},
            {[env: %{a: 1}], "expected :env to be a map or list of names and values, both strings, got: %{a: 1}"}
          ] do
        assert_raise ArgumentError, message, fn -> Pool.start_link(opts) end
      end
    end

    test "is given up when workers keep failing" do
      Process.flag(:trap_exit, true)
      marker = Path.join(System.tmp_dir!(), "pythonx-pool-#{System.unique_integer([:positive])}")
      on_exit(fn -> File.rm(marker) end)
      # The first one starts.
      init = "import os\nif os.path.exists('#{marker}'): raise Exception('no more')\nopen('#{marker}', 'w').close()"
      {:ok, pool} = Pool.start_link(size: 1, init: init, max_restarts: 1)

      log =
        capture_log(fn ->
          assert %CrashError{} = raised(fn -> Pool.eval(pool, "os._exit(1)", %{}) end)
          assert_receive {:EXIT, ^pool, {:workers_fail, message}}, 20_000
          assert message =~ "Exception: no more"
        end)

      assert log =~ "Exception: no more"
    end
  end

  test "what Python logs in a worker goes to Logger" do
    pool = start_pool!(attach_logger: [level: :warning])

    log =
      capture_log(fn ->
        Pool.eval(pool, "import logging\nlogging.warning('from a worker')\nlogging.info('not this')", %{})
        # It has come with the reply, and is handled by a process of its own.
        GenServer.call(Pythonx.Janitor, :ping)
        :sys.get_state(Pythonx.Integrations.Logging)
        Logger.flush()
      end)

    assert log =~ "from a worker"
    refute log =~ "not this"
  end

  describe "the end" do
    test "lets finish what runs and what waits" do
      pool = start_pool!([])
      test = self()
      file = Path.join(System.tmp_dir!(), "pythonx-pool-#{System.unique_integer([:positive])}")
      on_exit(fn -> File.rm(file) end)
      code = "import os, time\nwhile not os.path.exists(file): time.sleep(0.01)\n'ran'"
      spawn(fn -> send(test, Pool.eval(pool, code, %{"file" => file})) end)
      wait_until(fn -> Pool.info(pool).busy == 1 end)
      spawn(fn -> send(test, Pool.eval(pool, "'waited'", %{})) end)
      wait_until(fn -> Pool.info(pool).queued == 1 end)
      [os_pid] = worker_os_pids(pool)
      stop = Task.async(fn -> GenServer.stop(pool, :shutdown) end)
      File.touch!(file)
      Task.await(stop, 20_000)
      assert_received {"ran", _}
      assert_receive {"waited", _}
      wait_until(fn -> not alive?(os_pid) end)
    end

    test "comes when the time to drain is over" do
      pool = start_pool!(drain_timeout: 100)
      caller = begin!(pool, "sum(range(10**12))")
      monitor = Process.monitor(caller)
      [os_pid] = worker_os_pids(pool)
      capture_log(fn -> GenServer.stop(pool, :shutdown) end)
      assert_receive {:DOWN, ^monitor, :process, _, {%CrashError{}, _}}
      wait_until(fn -> not alive?(os_pid) end)
    end

    test "of the VM is that of the workers, whatever they do" do
      vm = NativeCase.start_vm!()
      {:ok, _} = :peer.call(vm, Application, :ensure_all_started, [:pythonx], 30_000)
      {toml, false, uv} = Pythonx.Uv.started_with()
      spec = {Pool, name: VmPool, size: 2, pyproject: toml, uv: uv}
      {:ok, _} = :peer.call(vm, Supervisor, :start_child, [Pythonx.Supervisor, spec], 60_000)
      :peer.cast(vm, Pool, :eval, [VmPool, "sum(range(10**12))", %{}])
      info = fn -> :peer.call(vm, Pool, :info, [VmPool]) end
      wait_until(fn -> match?(%{busy: 1, idle: 1}, info.()) end)
      os_pids = for worker <- info.().workers, do: worker.os_pid
      assert Enum.all?(os_pids, &alive?/1)
      NativeCase.kill_vm!(vm)
      wait_until(fn -> not Enum.any?(os_pids, &alive?/1) end)
    end
  end

  # The bridge for the other Python may have to be compiled.
  @tag timeout: 1_200_000
  test "two pools have two Pythons and packages that conflict" do
    own = "PYTHONX_TEST_PYTHON_MINOR" |> System.get_env("13") |> String.to_integer()
    other = another_minor(own)
    # The suite's own, for which there is a bridge.
    any = if embeddable?("python3.#{own}"), do: "==3.#{own}.*", else: ">=3.10"

    project = fn python, six ->
      """
      [project]
      name = "pool"
      version = "0.0.0"
      requires-python = "#{python}"
      dependencies = ["six==#{six}"]
      """
    end

    old = start_pool!(pyproject: project.("==3.#{other}.*", "1.15.0"), init: "import six, sys")
    new = start_pool!(pyproject: project.(any, "1.16.0"), init: "import six, sys")
    code = "(sys.version_info[1], six.__version__)"
    assert {{^other, "1.15.0"}, _} = Pool.eval(old, code, %{}, binaries: :str)
    assert {{_minor, "1.16.0"}, _} = Pool.eval(new, code, %{}, binaries: :str)
  end

  # A machine may have one Python, and no way to get another: the packages are two all the same.
  defp another_minor(own), do: Enum.find([12, 13, 11, 10] -- [own], own, &embeddable?("python3.#{&1}"))

  defp embeddable?(name) do
    pyenv = Path.wildcard(Path.expand("~/.pyenv/versions/*/bin/#{name}"))

    Enum.any?([System.find_executable(name) | pyenv], fn path ->
      with true <- path != nil, {:ok, python} <- Pythonx.Boot.Python.probe(path) do
        Pythonx.Boot.Python.embeddable(python) == :fully
      else
        _unusable -> false
      end
    end)
  end

  test "workers may be on other nodes" do
    {peer, node} = Peers.start!(python: false)
    pool = start_pool!(nodes: [node], size: 1)
    assert {os_pid, _} = Pool.eval(pool, "import os; os.getpid()", %{})
    assert [%{node: ^node, os_pid: ^os_pid}] = Pool.info(pool).workers
    {items, _} = Pool.eval(pool, "[1]", %{}, decode: false)
    assert {[1, 2], _} = Pool.eval(pool, "items + [2]", %{"items" => items})
    device = start_device()
    Pool.eval(pool, "print('from there')", %{}, stdout_device: device)
    assert_receive {:device, :out, "from there\n"}
    assert %CrashError{reason: {:exit_status, 1}} = raised(fn -> Pool.eval(pool, "import os; os._exit(1)", %{}) end)
    assert {os_pid, _} = Pool.eval(pool, "import os; os.getpid()", %{})

    caller = begin!(pool, "import time; time.sleep(60)")
    monitor = Process.monitor(caller)

    capture_log(fn ->
      Peers.kill!(peer)
      assert_receive {:DOWN, ^monitor, :process, _pid, {%CrashError{reason: {:down, _reason}}, _stack}}
    end)

    wait_until(fn -> not alive?(os_pid) end)
  end
end
