defmodule Pythonx.SchedulersTest do
  # While C code holds the GIL, callers of Python wait as processes, not as schedulers of the VM: the work of others goes on.
  use Pythonx.Case, async: false

  @moduletag :tmp_dir

  # C code that holds the GIL, says so, and goes on until something is written to the pipe: all in one call.
  @hold """
  import ctypes
  ctypes.PyDLL(None).system(b"echo > '%b'; read line < '%b'" % (begun, pipe))
  """

  setup %{tmp_dir: dir} do
    [begun, pipe] = for name <- ["begun", "pipe"], do: Path.join(dir, name)
    {"", 0} = System.cmd("mkfifo", [begun, pipe])
    globals = %{"begun" => Pythonx.encode!(begun), "pipe" => Pythonx.encode!(pipe)}
    release = fn -> {"", 0} = System.cmd("sh", ["-c", "echo > \"$0\"", pipe]) end

    hold = fn ->
      holder = Task.async(fn -> Pythonx.eval(@hold, globals) end)
      # Also when the test fails.
      on_exit(fn -> if Process.alive?(holder.pid), do: release.() end)
      {"", 0} = System.cmd("sh", ["-c", "read line < \"$0\"", begun])
      holder
    end

    %{hold: hold, release: release}
  end

  # What takes a dirty scheduler and has nothing to do with Python.
  defp others_work() do
    large =
      Task.async(fn -> 1..1_000_000 |> Enum.to_list() |> tap(fn _ -> :erlang.garbage_collect() end) |> length() end)

    key = Task.async(fn -> :crypto.generate_key(:rsa, {1024, 65_537}) end)
    assert Task.await(large, 60_000) == 1_000_000
    assert {_public, _private} = Task.await(key, 60_000)
    assert Regex.scan(~r/b+/, String.duplicate("ab", 100_000)) |> length() == 100_000
  end

  defp answers(callers), do: callers |> Task.await_many(60_000) |> Enum.uniq()

  describe "others go on while callers wait for the GIL in" do
    setup do
      {list, _globals} = Pythonx.eval("[1, 2]", %{})
      %{list: list, table: Pythonx.Table.new(a: [1, 2, 3])}
    end

    for {name, call, answer} <- [
          {"encode!/1", quote(do: fn _, _ -> [3] |> Pythonx.encode!() |> Pythonx.decode() end), [3]},
          {"encode!/1 of a large binary",
           quote(
             do: fn _, _ -> "x" |> :binary.copy(2_000_000) |> Pythonx.encode!() |> Pythonx.decode() |> byte_size() end
           ), 2_000_000},
          {"decode/1", quote(do: fn list, _ -> Pythonx.decode(list) end), [1, 2]},
          {"memoryview/1",
           quote(do: fn _, _ -> "abc" |> Pythonx.memoryview() |> Pythonx.buffer() |> Map.get(:data) end), "abc"},
          {"eval/2 with globals",
           quote(do: fn _, _ -> "x" |> Pythonx.eval(%{"x" => [5]}) |> elem(0) |> Pythonx.decode() end), [5]},
          {"Table.new/1", quote(do: fn _, _ -> Pythonx.Table.new(a: [1]) |> Pythonx.Table.to_columns() end),
           %{"a" => [1]}},
          {"Table.slice/3",
           quote(do: fn _, table -> table |> Pythonx.Table.slice(1, 1) |> Pythonx.Table.to_columns() end),
           %{"a" => [2]}}
        ] do
      test name, %{hold: hold, release: release, list: list, table: table} do
        call = unquote(call)
        holder = hold.()

        callers =
          for _ <- 1..(4 * :erlang.system_info(:dirty_cpu_schedulers)), do: Task.async(fn -> call.(list, table) end)

        others_work()
        # It still holds the GIL, so the callers have been waiting.
        assert Task.yield(holder, 0) == nil
        release.()
        assert answers(callers) == [unquote(Macro.escape(answer))]
        Task.await(holder, 60_000)
      end
    end
  end

  # As many processes, each of which waits for the GIL in one of these.
  defp thousand_callers(list) do
    for n <- 1..1000 do
      Task.async(fn ->
        case rem(n, 4) do
          0 -> Pythonx.encode!([n]) |> Pythonx.decode() == [n]
          1 -> Pythonx.decode(list) == [1, 2]
          2 -> Pythonx.memoryview("#{n}") |> Pythonx.buffer() |> Map.get(:data) == "#{n}"
          3 -> Pythonx.eval("x[0]", %{"x" => [n]}) |> elem(0) |> Pythonx.decode() == n
        end
      end)
    end
  end

  defp threads(), do: Pythonx.NIF.stats() |> elem(0)

  test "a thousand callers wait, and all get their answers", %{hold: hold, release: release} do
    {list, _globals} = Pythonx.eval("[1, 2]", %{})
    holder = hold.()
    callers = thousand_callers(list)
    others_work()
    assert Task.yield(holder, 0) == nil
    # No more than what evaluations that sleep would take.
    assert threads() <= 2048
    release.()
    assert answers(callers) == [true]
    Task.await(holder, 60_000)
  end

  test "what waits for processes that die is dropped", %{hold: hold, release: release} do
    {seen, _globals} = Pythonx.eval("[]", %{})
    holder = hold.()

    callers =
      for n <- 1..200 do
        spawn_monitor(fn ->
          Pythonx.encode!([n])
          Pythonx.eval("seen.append(n)", %{"seen" => seen, "n" => n})
        end)
      end

    {dying, living} = Enum.split(callers, 100)
    for {pid, _monitor} <- dying, do: Process.exit(pid, :kill)
    for {_pid, monitor} <- dying, do: assert_receive({:DOWN, ^monitor, :process, _pid, :killed})
    others_work()
    release.()
    for {_pid, monitor} <- living, do: assert_receive({:DOWN, ^monitor, :process, _pid, :normal}, 60_000)
    Task.await(holder, 60_000)
    assert seen |> Pythonx.decode() |> Enum.sort() == Enum.to_list(101..200)
  end

  test "long walks of many callers end while evaluations run" do
    stop = "threading.Event()"
    {event, _} = Pythonx.eval("import threading\n" <> stop, %{})
    busy = Task.async(fn -> Pythonx.eval("while not event.is_set(): pass", %{"event" => event}) end)
    list = Enum.to_list(1..200_000)
    callers = for _ <- 1..4, do: Task.async(fn -> list |> Pythonx.encode!() |> Pythonx.decode() == list end)
    assert answers(callers) == [true]
    Pythonx.eval("event.set()", %{"event" => event})
    Task.await(busy, 60_000)
  end

  # C code that has the GIL for longer than a scheduler waits to have it back, again and again.
  @hold_often """
  import ctypes, time
  while not event.is_set():
      ctypes.PyDLL(None).usleep(5000)
      time.sleep(0.002)
  """

  test "a walk that loses the GIL midway is done by a thread, and leaves nothing behind" do
    {event, _} = Pythonx.eval("import threading; threading.Event()", %{})

    {count, globals} =
      Pythonx.eval(
        """
        import sys
        inner = ["inner"]
        key = "a key of its own"
        rows = [{key: i, "inner": inner, "set": {i, "x"}, "tuple": (i, [i])} for i in range(20_000)]
        table = {f"key {i}": inner for i in range(50_000)}
        lambda: (sys.getrefcount(inner), sys.getrefcount(key))
        """,
        %{}
      )

    counts = Pythonx.call(count, [], [], decode: true)
    rows = Pythonx.decode(globals["rows"])
    table = Pythonx.decode(globals["table"])
    terms = for row <- rows, do: {row, Map.to_list(row)}
    busy = Task.async(fn -> Pythonx.eval(@hold_often, %{"event" => event}) end)

    callers =
      for n <- 1..4 do
        Task.async(fn ->
          for _ <- 1..4 do
            case rem(n, 2) do
              0 -> terms |> Pythonx.encode!() |> Pythonx.decode() == terms
              1 -> Pythonx.decode(globals["rows"]) == rows and Pythonx.decode(globals["table"]) == table
            end
          end
        end)
      end

    assert callers |> Task.await_many(120_000) |> List.flatten() |> Enum.uniq() == [true]
    Pythonx.eval("event.set()", %{"event" => event})
    Task.await(busy, 60_000)
    wait_until(fn -> Pythonx.call(count, [], [], decode: true) == counts end)
  end

  {minor, _globals} = Pythonx.eval("import sys; sys.version_info[1]", %{})

  if Pythonx.decode(minor) >= 12 do
    test "files are read while callers wait for interpreters", %{hold: hold, release: release, tmp_dir: dir} do
      path = Path.join(dir, "file")
      File.write!(path, "text")
      holder = hold.()

      interpreters =
        for _ <- 1..(2 + :erlang.system_info(:dirty_io_schedulers)) do
          Task.async(fn ->
            interpreter = Pythonx.Interpreter.create()
            {result, %{}} = Pythonx.Interpreter.eval(interpreter, "1 + 1", %{})
            two = Pythonx.decode(result)
            :ok = Pythonx.Interpreter.close(interpreter)
            two
          end)
        end

      others_work()
      assert Task.async(fn -> File.read!(path) end) |> Task.await(60_000) == "text"
      assert Task.yield(holder, 0) == nil
      release.()
      assert interpreters |> Task.await_many(120_000) |> Enum.uniq() == [2]
      Task.await(holder, 60_000)
    end
  end
end
