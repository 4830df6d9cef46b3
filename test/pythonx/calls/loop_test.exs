defmodule Pythonx.Calls.LoopTest do
  # The one event loop, and code that would end it for all others. None of these may leave a later await without an answer.
  use Pythonx.Case, async: false

  import ExUnit.CaptureIO

  setup_all do
    # Loaded before anything is done to it.
    Pythonx.eval("import asyncio, ctypes, threading", %{})
    :ok
  end

  # What becomes of an evaluation, in a process of its own.
  defp outcome(code, globals \\ %{}) do
    fn ->
      try do
        eval!(code, globals)
      rescue
        error in Pythonx.Error -> List.last(error.lines)
      end
    end
    |> Task.async()
    |> Task.await(patience())
  end

  defp awaited(code, globals \\ %{}) do
    fn ->
      {_, %{"main" => main}} = Pythonx.eval(code, globals)

      try do
        main |> Pythonx.call() |> Pythonx.await(decode: true)
      rescue
        error in Pythonx.Error -> List.last(error.lines)
      end
    end
    |> Task.async()
    |> Task.await(patience())
  end

  # One of another process, which has begun and waits for `go`; its task gives what it awaited.
  defp start_stranger do
    test = self()

    code = """
    import asyncio, pythonx
    async def main():
        future = asyncio.get_running_loop().create_future()
        pythonx.send_tagged_object(test, 'future', future)
        return await future
    try:
        result = await main()
    except asyncio.CancelledError:
        result = 'cancelled'
    result
    """

    task = Task.async(fn -> outcome(code, %{"test" => test}) end)
    assert_receive {:future, future}
    {task, future}
  end

  defp let_go({task, future}) do
    Pythonx.eval("future.get_loop().call_soon_threadsafe(future.set_result, 'unharmed')", %{"future" => future})
    Task.await(task, patience())
  end

  defp assert_loop do
    assert outcome("import asyncio\nawait asyncio.sleep(0.001, 'fine')") == "fine"
    assert awaited("import asyncio\nasync def main():\n  return await asyncio.sleep(0.001, 'fine')") == "fine"
  end

  defp loop_of_all, do: eval!("import asyncio\nasync def f(): return id(asyncio.get_running_loop())\nawait f()")

  # An exception for the loop's thread, from another one.
  @strike """
  import asyncio, ctypes, threading
  async def ident():
      return threading.get_ident()
  def strike(number, exception):
      ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(number), ctypes.py_object(exception))
  """

  describe "code that exits" do
    for {what, raise, line} <- [
          {"sys.exit()", "sys.exit(3)", "SystemExit: 3\n"},
          {"SystemExit", "raise SystemExit", "SystemExit\n"},
          {"KeyboardInterrupt", "raise KeyboardInterrupt", "KeyboardInterrupt\n"},
          {"GeneratorExit", "raise GeneratorExit('x')", "GeneratorExit: x\n"},
          {"an exception of its own class", "raise type('Odd', (BaseException,), {})('x')", "Odd: x\n"}
        ] do
      test "by #{what} in a coroutine gives that to who awaits, and to nobody else" do
        stranger = start_stranger()
        loop = loop_of_all()
        code = "import sys\nasync def main():\n  #{unquote(raise)}\n"
        assert outcome(code <> "await main()") == unquote(line)
        assert awaited(code) == unquote(line)
        assert_loop()
        assert loop_of_all() == loop
        assert let_go(stranger) == "unharmed"
      end
    end

    test "has a traceback that begins with the user's code" do
      code = "import sys\nasync def main():\n  sys.exit(3)\n"
      {_, %{"main" => main}} = Pythonx.eval(code, %{})
      error = assert_raise Pythonx.Error, fn -> main |> Pythonx.call() |> Pythonx.await() end
      assert [_traceback, "  File \"<string>\", line 3, in main\n" <> _, "SystemExit: 3\n"] = error.lines
      error = assert_raise Pythonx.Error, fn -> Pythonx.eval(code <> "await main()", %{}) end
      assert Enum.at(error.lines, 1) =~ ~s(File "<string>", line 4, in <module>)
    end

    test "in a task that somebody awaits is an exception like others" do
      code = """
      import asyncio, sys
      async def exits():
          await asyncio.sleep(0)
          sys.exit(3)
      async def main():
          try:
              await asyncio.create_task(exits())
          except SystemExit as error:
              return error.code
      """

      assert outcome(code <> "await main()") == 3
      assert awaited(code) == 3
      assert_loop()
    end

    test "in a task that nobody awaits ends the awaits of its evaluation, and no others" do
      stranger = start_stranger()

      code = """
      import asyncio, sys
      async def exits():
          sys.exit(3)
      async def main():
          task = asyncio.create_task(exits())
          await asyncio.sleep(60)
      """

      assert outcome(code <> "await main()") == "SystemExit: 3\n"
      assert awaited(code) == "SystemExit: 3\n"
      assert_loop()
      assert let_go(stranger) == "unharmed"
    end

    for {what, schedule} <- [
          {"call_soon", "loop.call_soon(sys.exit, 3)"},
          {"call_later", "loop.call_later(0.001, sys.exit, 3)"},
          {"call_soon_threadsafe", "threading.Thread(target=loop.call_soon_threadsafe, args=(sys.exit, 3)).start()"},
          {"add_done_callback", "asyncio.create_task(asyncio.sleep(0)).add_done_callback(lambda _: sys.exit(3))"},
          {"an exception handler", "loop.set_exception_handler(lambda *_: sys.exit(3)); loop.call_soon(lambda: 1 / 0)"}
        ] do
      test "in a callback of #{what} ends the awaits of its evaluation, and no others" do
        stranger = start_stranger()

        code = """
        import asyncio, sys, threading
        async def main():
            loop = asyncio.get_running_loop()
            #{unquote(schedule)}
            try:
                await asyncio.sleep(60)
            finally:
                loop.set_exception_handler(None)
        """

        assert outcome(code <> "await main()") == "SystemExit: 3\n"
        assert awaited(code) == "SystemExit: 3\n"
        assert_loop()
        assert let_go(stranger) == "unharmed"
      end
    end

    test "in the finalizer of an async generator harms nobody" do
      stranger = start_stranger()

      code = """
      import asyncio, sys
      async def generator():
          try:
              yield 1
          finally:
              await asyncio.sleep(0)
              sys.exit(3)
      async def main():
          async for x in generator():
              break
          await asyncio.sleep(0.01)
          return x
      """

      capture_io(:stderr, fn ->
        assert outcome(code <> "await main()") == 1
        assert_loop()
        eval!("import gc\ngc.collect()")
      end)

      assert let_go(stranger) == "unharmed"
    end

    @tag skip: Pythonx.Case.python_minor() < 11 && "from Python 3.11 on"
    test "in a task group, or below a timeout, ends the group" do
      code = """
      import asyncio, sys
      async def exits():
          sys.exit(3)
      async def main():
          async with asyncio.timeout(60):
              async with asyncio.TaskGroup() as group:
                  group.create_task(asyncio.sleep(60))
                  group.create_task(exits())
      """

      assert outcome(code <> "await main()") == "SystemExit: 3\n"
      assert awaited(code) == "SystemExit: 3\n"
      assert_loop()
    end

    @tag skip: Pythonx.Case.python_minor() < 12 && "from Python 3.12 on"
    test "in an eager task is raised where the task is created" do
      code = """
      import asyncio, sys
      async def exits():
          sys.exit(3)
      async def main():
          asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
          try:
              await asyncio.create_task(exits())
          except SystemExit as error:
              return error.code
      # Nobody has the task to ask it for its exception, which asyncio says once it is freed.
      import logging
      logging.getLogger("asyncio").addFilter(lambda record: "never retrieved" not in record.getMessage())
      """

      assert outcome(code <> "await main()") == 3
      assert awaited(code) == 3
      # The factory is of who sets it.
      assert outcome("import asyncio\nasync def f(): return asyncio.get_running_loop().get_task_factory()\nawait f()") ==
               nil

      eval!("import logging\nlogging.getLogger('asyncio').filters.clear()\n0")
      assert_loop()
    end

    test "in an executor's function gives that to who awaits" do
      code = "import asyncio, sys\nasync def main():\n  await asyncio.to_thread(sys.exit, 3)\n"
      assert outcome(code <> "await main()") == "SystemExit: 3\n"
      assert_loop()
    end

    test "in an async generator that is a stream ends the stream" do
      {_, %{"f" => f}} = Pythonx.eval("import sys\nasync def f():\n  yield 1\n  sys.exit(3)", %{})
      error = assert_raise Pythonx.Error, fn -> f |> Pythonx.call() |> Enum.each(& &1) end
      assert List.last(error.lines) == "SystemExit: 3\n"
      assert_loop()
    end
  end

  describe "the loop is everybody's" do
    for {what, code, line} <- [
          {"stopped", "loop.stop()",
           "RuntimeError: cannot stop the event loop: all evaluations share it. To end an await, end its coroutine\n"},
          {"closed", "loop.close()", "RuntimeError: cannot close the event loop: all evaluations share it\n"},
          {"run", "loop.run_forever()",
           "RuntimeError: cannot run the event loop: it runs already, for all evaluations. Use `await`\n"},
          {"run for a coroutine", "loop.run_until_complete(loop.create_future())",
           "RuntimeError: cannot run the event loop: it runs already, for all evaluations. Use `await`\n"},
          {"run by asyncio.run()", "asyncio.run(main())",
           "RuntimeError: asyncio.run() cannot be called from a running event loop\n"},
          {"given other methods", "loop.call_soon = None",
           "AttributeError: cannot change 'call_soon' of the event loop: all evaluations share it\n"},
          {"given another class's methods", "type(loop)._run_once = None",
           "AttributeError: cannot change '_run_once' of the event loop: all evaluations share it\n"},
          {"robbed of its methods", "del type(loop).call_soon",
           "AttributeError: cannot change 'call_soon' of the event loop: all evaluations share it\n"},
          {"robbed of its executor", "await loop.shutdown_default_executor()",
           "RuntimeError: cannot shut down the executor of the event loop: all evaluations share it\n"},
          {"robbed of its generators", "await loop.shutdown_asyncgens()",
           "RuntimeError: cannot shut down the asynchronous generators of the event loop: all evaluations share it\n"}
        ] do
      test "and is not #{what}" do
        stranger = start_stranger()

        code = """
        import asyncio, warnings
        warnings.simplefilter('ignore', RuntimeWarning)
        async def main():
            loop = asyncio.get_running_loop()
            #{unquote(code)}
            await asyncio.sleep(0.001)
        """

        assert outcome(code <> "await main()") == unquote(line)
        assert awaited(code) == unquote(line)
        assert_loop()
        assert let_go(stranger) == "unharmed"
      end
    end

    test "and is not stopped, closed or run from another thread" do
      stranger = start_stranger()

      code = """
      import asyncio, threading
      async def main():
          return asyncio.get_running_loop()
      loop = await main()
      errors = []
      def attempt(function):
          try:
              function()
          except RuntimeError as error:
              errors.append(str(error)[:21])
      for function in (loop.stop, loop.close, loop.run_forever):
          thread = threading.Thread(target=attempt, args=(function,))
          thread.start()
          thread.join()
      errors
      """

      assert outcome(code) == ["cannot stop the event", "cannot close the even", "cannot run the event "]
      assert_loop()
      assert let_go(stranger) == "unharmed"
    end

    test "and goes on where its parts are used all the same" do
      stranger = start_stranger()

      code = """
      import asyncio
      async def main():
          loop = asyncio.get_running_loop()
          asyncio.SelectorEventLoop.stop(loop)
          await asyncio.sleep(0.001)
          loop._stopping = True
          await asyncio.sleep(0.001)
          return 'went on'
      """

      assert outcome(code <> "await main()") == "went on"
      assert_loop()
      assert let_go(stranger) == "unharmed"
    end

    test "and does not ask what asyncio has become" do
      # In an interpreter of its own, for what is replaced is replaced for good.
      code = """
      import asyncio, selectors, socket, threading
      def broken(*args, **kwargs):
          raise LookupError('replaced')
      class Policy(asyncio.DefaultEventLoopPolicy):
          get_event_loop = new_event_loop = set_event_loop = broken
      names = ['new_event_loop', 'set_event_loop', 'get_event_loop', 'get_running_loop', 'isfuture', 'iscoroutine', 'Task',
               'SelectorEventLoop', 'CancelledError', 'current_task', 'all_tasks']
      kept = {name: getattr(asyncio, name) for name in names}
      methods = {name: getattr(asyncio.BaseEventLoop, name) for name in
                 ['run_forever', '_run_once', 'call_soon', 'call_later', 'call_at', 'create_task', 'create_future']}
      event, lock, pair = threading.Event, threading.Lock, socket.socketpair
      sleep = asyncio.sleep
      policy = asyncio.get_event_loop_policy()
      asyncio.set_event_loop_policy(Policy())
      for name in names:
          setattr(asyncio, name, broken)
      for name in methods:
          setattr(asyncio.BaseEventLoop, name, broken)
      threading.Event = threading.Lock = socket.socketpair = broken
      async def main():
          return await sleep(0.001, 'fine')
      try:
          result = f(main())
      finally:
          threading.Event, threading.Lock, socket.socketpair = event, lock, pair
          asyncio.set_event_loop_policy(policy)
          for name in names:
              setattr(asyncio, name, kept[name])
          for name in methods:
              setattr(asyncio.BaseEventLoop, name, methods[name])
      result
      """

      assert outcome(code, %{"f" => &Pythonx.await(&1, decode: true)}) == "fine"
      assert_loop()
    end

    test "and keeps no executor that somebody has shut down" do
      code = """
      import asyncio, concurrent.futures
      async def main():
          with concurrent.futures.ThreadPoolExecutor(1) as executor:
              asyncio.get_running_loop().set_default_executor(executor)
              await asyncio.to_thread(len, '')
          return await asyncio.to_thread(len, 'four')
      await main()
      """

      assert outcome(code) == 4
      assert outcome("import asyncio\nawait asyncio.to_thread(len, 'four')") == 4
    end

    test "and asks nobody else's task factory" do
      code = """
      import asyncio
      async def main():
          asyncio.get_running_loop().set_task_factory(lambda *args, **kwargs: 1 / 0)
          await asyncio.gather(asyncio.sleep(0), asyncio.sleep(0))
      await main()
      """

      assert outcome(code) == "ZeroDivisionError: division by zero\n"
      assert outcome("import asyncio\nawait asyncio.gather(asyncio.sleep(0, 1), asyncio.sleep(0, 2))") == [1, 2]
      assert_loop()
    end
  end

  describe "a loop that is struck all the same" do
    for exception <- ["SystemExit", "KeyboardInterrupt", "ValueError", "MemoryError"] do
      test "by #{exception} for its thread ends what is awaited, and serves the next await" do
        {task, _future} = start_stranger()

        test = self()
        code = "import asyncio, pythonx\nasync def main():\n  pythonx.send(t, 'on')\n  await asyncio.sleep(60)"
        awaits = Task.async(fn -> awaited(code, %{"t" => test}) end)
        assert_receive "on"
        # Within the coroutine of the top level this would be an exception of its own.
        number = outcome(@strike <> "await ident()")
        assert outcome(@strike <> "strike(number, #{unquote(exception)})\n'sent'", %{"number" => number}) == "sent"

        line =
          "RuntimeError: the event loop was struck by #{unquote(exception)}, which ended everything that was awaited on it\n"

        assert Task.await(awaits, patience()) == line
        assert Task.await(task, patience()) == line
        assert_loop()
      end
    end

    test "while nothing is awaited serves the next await" do
      number = outcome(@strike <> "await ident()")

      for _ <- 1..20, exception <- ["SystemExit", "KeyboardInterrupt"] do
        assert outcome(@strike <> "strike(number, #{exception})\n'sent'", %{"number" => number}) == "sent"
        assert_loop()
      end
    end

    for {what, code} <- [
          {"whose selector is closed", "loop._selector.close()"},
          {"whose descriptors are closed", "os.close(loop._selector.fileno())"},
          {"whose run is broken", "loop.__dict__['_run_once'] = lambda: 1 / 0"},
          {"that is robbed of its callbacks", "loop._ready = None"},
          {"that believes that it is closed", "loop._closed = loop._stopping = True"}
        ] do
      test "#{what} is replaced" do
        {task, _future} = start_stranger()
        loop = loop_of_all()

        capture_io(:stderr, fn ->
          code =
            "import asyncio, os\nasync def main():\n  loop = asyncio.get_running_loop()\n  #{unquote(code)}\n  await asyncio.sleep(60)\nawait main()"

          assert outcome(code) =~ ~r/^RuntimeError: the event loop was struck by \w+/
          assert Task.await(task, patience()) =~ ~r/^RuntimeError: the event loop was struck by \w+/
          assert_loop()
          assert loop_of_all() != loop
          eval!("import gc\ngc.collect()")
        end)
      end
    end

    test "ends the Elixir functions that its coroutines await" do
      test = self()

      f = fn ->
        send(test, {:handler, self()})
        Process.sleep(:infinity)
      end

      capture_io(:stderr, fn ->
        code =
          "import asyncio\nasync def main():\n  asyncio.get_running_loop().call_later(0.05, asyncio.get_running_loop()._selector.close)\n  await f.aio()\nawait main()"

        assert outcome(code, %{"f" => f}) =~ "RuntimeError: the event loop was struck by"
        assert_receive {:handler, handler}
        wait_until(fn -> not Process.alive?(handler) end)
        assert_loop()
      end)
    end

    test "has its awaitables refused by the next" do
      {task, future} = start_stranger()

      capture_io(:stderr, fn ->
        assert outcome(
                 "import asyncio\nasync def main():\n  asyncio.get_running_loop()._selector.close()\n  await asyncio.sleep(60)\nawait main()"
               ) =~ "RuntimeError"

        Task.await(task, patience())
        error = assert_raise Pythonx.Error, fn -> Pythonx.await(future) end
        assert List.last(error.lines) =~ "attached to a different loop"
        assert_loop()
      end)
    end
  end
end
