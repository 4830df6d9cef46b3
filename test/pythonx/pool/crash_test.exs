defmodule Pythonx.Pool.CrashTest do
  # What Python code can do to its worker, and that neither its caller nor the next one has to wait for ever.
  use Pythonx.Case, async: true

  alias Pythonx.{Peers, Pool}
  alias Pythonx.Pool.CrashError

  @moduletag :capture_log

  defp start_pool!(opts) do
    start_supervised!({Pool, Keyword.merge([size: 1, kill_after: 300, init: "import os"], opts)}, id: make_ref())
  end

  describe "memory that is filled up" do
    @limit 150_000_000

    test "is an error to who has filled it, and there for the next, even while the error is kept" do
      pool = start_pool!(max_memory: @limit)

      for code <- [
            "x = []\nwhile True: x.append(bytearray(1_000_000))",
            "def fill():\n  x = []\n  while True: x.append(bytearray(100_000))\nfill()",
            "x = []\nwhile True: x.append([1])",
            "os.kept = []\nwhile True: os.kept.append(bytearray(1_000_000))"
          ] do
        error = raised(fn -> Pool.eval(pool, code, %{}) end)

        case error do
          %Pythonx.Error{lines: lines} -> assert List.last(lines) =~ ~r/\AMemoryError/
          other -> assert %CrashError{} = other
        end

        # Less than half of the limit: where that is not free, the worker has been replaced.
        assert {60_000_000, _} = Pool.eval(pool, "len(bytearray(60_000_000))", %{})
        assert Pythonx.ObjectTracker.identity(error)
      end
    end

    test "leaves no traceback that would keep it" do
      pool = start_pool!(max_memory: @limit)
      error = raised(fn -> Pool.eval(pool, "x = bytearray(100_000_000)\ny = bytearray(100_000_000)", %{}) end)

      assert error.lines == [
               "Traceback (most recent call last):\n",
               "  File \"<string>\", line 2, in <module>\n",
               "MemoryError\n"
             ]

      assert %Pool.Object{type: "MemoryError"} = error.value
      assert {nil, _} = Pool.eval(pool, "e.__traceback__", %{"e" => error.value})
    end

    test "costs the worker nothing when none of it is kept" do
      pool = start_pool!(max_memory: @limit)
      {os_pid, _} = Pool.eval(pool, "os.getpid()", %{})
      assert %Pythonx.Error{} = raised(fn -> Pool.eval(pool, "bytearray(10**10)", %{}) end)
      assert {^os_pid, _} = Pool.eval(pool, "os.getpid()", %{})
    end
  end

  test "a worker that has closed its connection is replaced, and the next evaluation run by another" do
    pool = start_pool!(boot_timeout: 20_000)
    {first, _} = Pool.eval(pool, "os.close(3); os.getpid()", %{})
    assert {second, _} = Pool.eval(pool, "os.getpid()", %{})
    assert second != first

    error = raised(fn -> Pool.eval(pool, "os.close(4)", %{}) end)
    # The worker ends by itself, and is killed where that takes it longer than half a second.
    assert %CrashError{reason: reason} = error
    assert reason in [{:exit_status, 0}, :protocol]
    assert {_third, _} = Pool.eval(pool, "os.getpid()", %{})
  end

  test "a caller that is killed by what its code calls costs the worker nothing" do
    pool = start_pool!(kill_after: 5000)
    {os_pid, _} = Pool.eval(pool, "os.getpid()", %{})
    {_pid, monitor} = spawn_monitor(fn -> Pool.eval(pool, "f()", %{"f" => &Peers.kill_callers/0}) end)
    assert_receive {:DOWN, ^monitor, :process, _caller, :killed}
    assert {^os_pid, _} = Pool.eval(pool, "os.getpid()", %{})
  end

  test "a launcher that is stopped does not stay" do
    pool = start_pool!([])

    code = """
    import signal
    open(path, "w").write(str(os.getppid()))
    os.kill(os.getppid(), signal.SIGSTOP)
    sum(range(10**12))
    """

    path = Path.join(System.tmp_dir!(), "pythonx-pool-#{System.unique_integer([:positive])}")
    on_exit(fn -> File.rm(path) end)
    error = raised(fn -> Pool.eval(pool, code, %{"path" => path}, binaries: :str, timeout: 300) end)
    assert %CrashError{reason: {:timeout, 300}} = error
    launcher = File.read!(path)
    wait_until(fn -> not File.exists?("/proc/#{launcher}") end)
  end

  @tag :tmp_dir
  test "a job that ends its worker at once has run once", %{tmp_dir: dir} do
    pool = start_pool!(max_restarts: 1000)
    log = Path.join(dir, "log")
    code = "fd = os.open(log, os.O_APPEND | os.O_CREAT | os.O_WRONLY)\nos.write(fd, b'x')\nos._exit(3)"

    for _ <- 1..10 do
      assert %CrashError{reason: {:exit_status, 3}} = raised(fn -> Pool.eval(pool, code, %{"log" => log}) end)
    end

    assert File.read!(log) == String.duplicate("x", 10)
  end
end
