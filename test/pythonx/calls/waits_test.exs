defmodule Pythonx.Calls.WaitsTest do
  # What Python waits for in Elixir comes to an end, or to an error that says why not: when the application stops, when the
  # VM has no process left, when all threads wait, and in copies of the process.
  use Pythonx.Case, async: false

  import ExUnit.CaptureLog
  import Pythonx.NativeCase, only: [start_vm!: 0, start_vm!: 1]

  defp last_line(code, globals) do
    eval!(code, globals)
  rescue
    error in Pythonx.Error -> List.last(error.lines)
  end

  defp value(vm, code) do
    for {name, value} <- Pythonx.install_env(), do: :peer.call(vm, System, :put_env, [name, value])
    {value, _binding} = :peer.call(vm, Code, :eval_string, [code], 120_000)
    value
  end

  describe "when the application stops" do
    setup do
      on_exit(fn -> {:ok, _started} = Application.ensure_all_started(:pythonx) end)
    end

    @stopped "RuntimeError: the :pythonx application was stopped while Python called Elixir"

    for {who, code, answer} <- [
          {"an evaluation", "f()", @stopped <> "\n"},
          {"a coroutine", "import asyncio\nawait asyncio.sleep(0)\nawait f.aio()", @stopped <> "\n"},
          {"a coroutine's plain call", "async def g():\n  return f()\nawait g()", @stopped <> "\n"},
          {"a coroutine of a loop of its own", "import asyncio\nasync def g():\n  await f.aio()\nasyncio.run(g())",
           @stopped <> "\n"},
          {"a thread",
           """
           import threading
           errors = []
           def g():
               try:
                   f()
               except BaseException as error:
                   errors.append(f'{type(error).__name__}: {error}')
           thread = threading.Thread(target=g)
           thread.start()
           thread.join()
           errors
           """, [@stopped]}
        ] do
      test "the call of #{who} ends" do
        test = self()

        f = fn ->
          send(test, :called)
          Process.sleep(:infinity)
        end

        task = Task.async(fn -> last_line(unquote(code), %{"f" => f}) end)
        assert_receive :called
        capture_log(fn -> assert Application.stop(:pythonx) == :ok end)
        assert Task.await(task, patience()) == unquote(answer)
      end
    end

    test "calls after it are refused" do
      # Without the application nothing can be evaluated, so a thread of Python's does it.
      code = """
      import asyncio, threading
      errors = []
      ended = threading.Event()
      def attempt(call):
          try:
              call()
          except BaseException as error:
              errors.append(str(error))
      async def main():
          await f.aio()
      def run():
          with open(path):
              pass
          attempt(f)
          attempt(lambda: asyncio.run(main()))
          ended.set()
      threading.Thread(target=run).start()
      """

      # It waits for the other end of this pipe to be opened.
      path = Path.join(System.tmp_dir!(), "pythonx-#{System.unique_integer([:positive])}")
      {_, 0} = System.cmd("mkfifo", [path])
      on_exit(fn -> File.rm(path) end)
      {_, globals} = Pythonx.eval(code, %{"f" => fn -> 1 end, "path" => path})
      capture_log(fn -> assert Application.stop(:pythonx) == :ok end)
      # Ends when the thread has opened it.
      {_, 0} = System.cmd("sh", ["-c", ": > \"$0\"", path])
      seen = Task.async(fn -> wait_until(fn -> Pythonx.decode(globals["errors"]) |> length() == 2 end) end)
      assert Task.await(seen, patience())
      {:ok, _started} = Application.ensure_all_started(:pythonx)

      assert eval!("ended.wait()\nerrors", globals) ==
               List.duplicate("the :pythonx application needs to be started before Python can call Elixir", 2)
    end

    test "what is awaited is cancelled, and forgotten" do
      code = """
      import asyncio, pythonx
      seen = []
      async def f():
          pythonx.send(test, 'on')
          try:
              await asyncio.sleep(60)
          except BaseException as error:
              seen.append(type(error).__name__)
              raise
      """

      {_, %{"f" => f, "seen" => seen}} = Pythonx.eval(code, %{"test" => self()})
      task = Task.async(fn -> catch_exit(f |> Pythonx.call() |> Pythonx.await()) end)
      assert_receive "on"
      capture_log(fn -> Application.stop(:pythonx) end)
      assert {:shutdown, _call} = Task.await(task, patience())
      {:ok, _started} = Application.ensure_all_started(:pythonx)
      wait_until(fn -> Pythonx.decode(seen) == ["CancelledError"] end)
      wait_until(fn -> eval!("import pythonx._loop as l\n(l._pending, l._outcomes)") == {%{}, %{}} end)
    end
  end

  test "a VM without a process for the function says so, and keeps the calls of others" do
    vm = start_vm!([~c"+P", ~c"1024"])

    assert value(vm, """
           # It says itself that it has too many.
           Logger.configure(level: :none)
           {:ok, _started} = Application.ensure_all_started(:pythonx)
           test = self()
           code = "def plain():\\n  return f()\\nasync def main():\\n  return await f.aio()"
           {nil, globals} = Pythonx.eval(code, %{"f" => fn -> 7 end})

           attempt = fn code ->
             try do
               code |> Pythonx.eval(globals) |> elem(0) |> Pythonx.decode()
             rescue
               error -> error.__struct__
             end
           end

           waiting = Task.async(fn ->
             f = fn -> send(test, {:in, self()}); receive do: (:go -> 7) end
             "f()" |> Pythonx.eval(%{"f" => f}) |> elem(0) |> Pythonx.decode()
           end)

           handler = receive do: ({:in, handler} -> handler)
           attempt.("await main()")

           fill = fn fill, pids ->
             try do
               fill.(fill, [spawn(fn -> Process.sleep(:infinity) end) | pids])
             rescue
               SystemLimitError -> pids
             end
           end

           # The VM logs each process that it cannot start.
           :ok = :logger.set_primary_config(:level, :none)
           pids = fill.(fill, [])
           refused = {attempt.("plain()"), attempt.("await main()")}
           Enum.each(pids, &Process.exit(&1, :kill))
           send(handler, :go)
           {refused, Task.await(waiting, 60_000), attempt.("plain()"), attempt.("await main()")}
           """) == {{SystemLimitError, SystemLimitError}, 7, 7, 7}
  end

  test "more calls at once than there may be threads, of functions that evaluate in other processes, end" do
    assert value(start_vm!(), """
           {:ok, _started} = Application.ensure_all_started(:pythonx)
           test = self()

           f = fn ->
             send(test, {:in, self()})
             receive do: (:go -> :ok)
             Task.await(Task.async(fn -> Pythonx.decode(elem(Pythonx.eval("1 + 1", %{}), 0)) end), :infinity)
           end

           tasks = for _ <- 1..2100, do: Task.async(fn -> Pythonx.decode(elem(Pythonx.eval("f()", %{"f" => f}), 0)) end)
           handlers = for _ <- 1..2100, do: receive do: ({:in, handler} -> handler)
           Enum.each(handlers, &send(&1, :go))
           tasks |> Task.await_many(100_000) |> Enum.frequencies()
           """) == %{2 => 2100}
  end

  describe "in a copy that os.fork() made" do
    # The evaluation gives what the copy wrote, and the status with which it ended.
    defp forked(child, globals) do
      code = """
      import asyncio, os, sys, warnings
      warnings.simplefilter('ignore', DeprecationWarning)
      read, write = os.pipe()
      def report(error):
          os.write(write, f'{type(error).__name__}: {error}'.encode())
      #{child}
      os.close(write)
      status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
      (os.read(read, 10000).decode(), status)
      """

      eval!(code, globals)
    end

    @nobody " in a copy of this process that os.fork() made: neither Elixir nor any other thread runs in it"

    for {what, attempt, refusal} <- [
          {"a call", "f()", "call Elixir"},
          {"a message", "__import__('pythonx').send(p, 1)", "send to Elixir"},
          {"a tagged message", "__import__('pythonx').send_tagged_object(p, 'a', 1)", "send to Elixir"}
        ] do
      test "#{what} is refused at once" do
        child = """
        pid = os.fork()
        if pid == 0:
            try:
                #{unquote(attempt)}
            except RuntimeError as error:
                report(error)
            os._exit(3)
        """

        assert forked(child, %{"f" => fn -> 1 end, "p" => self()}) ==
                 {"RuntimeError: cannot #{unquote(refusal)}" <> @nobody, 3}
      end
    end

    for {what, body, written, status} <- [
          {"that calls Elixir", "await f.aio()", "RuntimeError: cannot call Elixir" <> @nobody, 1},
          {"that awaits", "await future", "RuntimeError: cannot await" <> @nobody, 1},
          {"that exits", "sys.exit(7)", "", 7},
          {"that raises", "1 / 0", "ZeroDivisionError: division by zero", 1},
          {"that runs a loop of its own", "os.write(write, str(asyncio.run(own())).encode())", "9", 0},
          {"that returns", "pass", "", 0}
        ] do
      test "a coroutine #{what} ends the copy" do
        child = """
        async def own():
            return 9
        async def fork(loop):
            future = loop.create_future()
            await asyncio.sleep(0)
            pid = os.fork()
            if pid == 0:
                os.dup2(write, 2)
                #{unquote(body)}
            return pid
        pid = f(fork)
        """

        fork = fn fork ->
          code = "import asyncio\nasync def main():\n  return await fork(asyncio.get_running_loop())"
          {_, %{"main" => main}} = Pythonx.eval(code, %{"fork" => fork})
          main |> Pythonx.call() |> Pythonx.await(decode: true)
        end

        assert {written, unquote(status)} = forked(child, %{"f" => fork})
        assert written |> String.trim() |> String.split("\n") |> List.last() == unquote(written)
        assert eval!("import asyncio\nawait asyncio.sleep(0.001, 'fine')") == "fine"
      end
    end

    test "an await is refused" do
      code = """
      import asyncio, os, warnings
      warnings.simplefilter('ignore', DeprecationWarning)
      read, write = os.pipe()
      pid = os.fork()
      if pid == 0:
          os.dup2(write, 2)
      os.close(write)
      status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) if pid else None
      await asyncio.sleep(0, (os.read(read, 10000).decode() if pid else None, status))
      """

      {written, 1} = eval!(code)
      assert written |> String.trim() |> String.split("\n") |> List.last() =~ "RuntimeError: cannot await" <> @nobody
    end
  end
end
