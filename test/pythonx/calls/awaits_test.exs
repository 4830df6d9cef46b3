defmodule Pythonx.Calls.AwaitsTest do
  use Pythonx.Case, async: false

  import ExUnit.CaptureIO
  import Pythonx, only: [sigil_PY: 2]

  defp globals(code, globals \\ %{}), do: code |> Pythonx.eval(globals) |> elem(1)
  defp coroutine(code, globals \\ %{}), do: globals(code, globals)["f"] |> Pythonx.call()
  defp last_line(fun), do: List.last(assert_raise(Pythonx.Error, fun).lines)

  @forever """
  import asyncio, pythonx
  async def f():
      try:
          pythonx.send(test, pythonx.Atom('started'))
          await asyncio.sleep(60)
      except asyncio.CancelledError:
          pythonx.send(test, pythonx.Atom('cancelled'))
          raise
  """

  describe "await" do
    test "gives the result of a coroutine, a task or a future" do
      code = "import asyncio\nasync def f():\n  await asyncio.sleep(0.001)\n  return {'a': 1}"
      assert Pythonx.decode(Pythonx.await(coroutine(code))) == %{"a" => 1}
      assert Pythonx.await(coroutine(code), decode: true) == %{"a" => 1}

      code = "import asyncio\nasync def f():\n  return asyncio.get_running_loop().create_future()"
      future = Pythonx.await(coroutine(code))
      task = Task.async(fn -> Pythonx.await(future, decode: true) end)
      %{"loop" => loop} = globals("import pythonx._loop\nloop = pythonx._loop.get_loop()")
      Pythonx.eval("loop.call_soon_threadsafe(future.set_result, 7)", %{"loop" => loop, "future" => future})
      assert Task.await(task, patience()) == 7
    end

    test "raises what the coroutine raises, with its frames only" do
      error = assert_raise Pythonx.Error, fn -> Pythonx.await(coroutine("async def f():\n  return 1 / 0")) end

      assert [
               "Traceback (most recent call last):\n",
               "  File \"<string>\", line 2, in f\n" <> _,
               "ZeroDivisionError: division by zero\n"
             ] = error.lines

      assert last_line(fn -> Pythonx.await(Pythonx.encode!(1)) end) ==
               "TypeError: object int can't be used in 'await' expression\n"
    end

    test "of a thousand processes shares the loop" do
      %{"f" => f} = globals("import asyncio\nasync def f(n):\n  await asyncio.sleep(0.05)\n  return n")
      tasks = for n <- 1..1000, do: Task.async(fn -> f |> Pythonx.call([n]) |> Pythonx.await(decode: true) end)
      assert Task.await_many(tasks, patience()) == Enum.to_list(1..1000)
    end

    test "is cancelled when its time is over, and nothing comes late" do
      coroutine = coroutine(@forever, %{"test" => self()})
      error = assert_raise Pythonx.TimeoutError, fn -> Pythonx.await(coroutine, timeout: 50) end
      assert error.timeout == 50
      assert_receive :started
      assert_receive :cancelled
      refute_received _anything
    end

    test "whose time is over before Python has begun is given up at once, and forgotten" do
      # The object is one that Python takes its time to look at.
      code =
        "class Slow(type):\n  def __getattribute__(cls, name):\n    f()\n    return type.__getattribute__(cls, name)"

      test = self()

      f = fn ->
        send(test, {:asked, self()})
        receive do: (:go -> nil)
      end

      %{"o" => object} = globals(code <> "\nclass C(metaclass=Slow): pass\no = C()", %{"f" => f})
      assert_raise Pythonx.TimeoutError, fn -> Pythonx.await(object, timeout: 50) end
      assert_receive {:asked, _handler}
      wait_until(fn -> :sys.get_state(Pythonx.Calls.Awaits) == %{} end)
      wait_until(fn -> Pythonx.running() == [] end)
      assert eval!("import pythonx._loop as l\n(l._pending, l._outcomes)") == {%{}, %{}}
      refute_received _anything
    end

    test "leaves nothing behind" do
      for code <- ["async def f():\n  return 1", "async def f():\n  1 / 0"] do
        coroutine = coroutine(code)

        try do
          Pythonx.await(coroutine)
        rescue
          Pythonx.Error -> :raised
        end
      end

      wait_until(fn -> :sys.get_state(Pythonx.Calls.Awaits) == %{} end)
      wait_until(fn -> eval!("import pythonx._loop as l\n(l._pending, l._outcomes)") == {%{}, %{}} end)
      refute_received _anything
    end

    test "is cancelled when its caller dies" do
      coroutine = coroutine(@forever, %{"test" => self()})
      pid = spawn(fn -> Pythonx.await(coroutine) end)
      assert_receive :started
      Process.exit(pid, :kill)
      assert_receive :cancelled
      wait_until(fn -> :sys.get_state(Pythonx.Calls.Awaits) == %{} end)
    end

    test "is interrupted by interrupt/1" do
      test = self()
      coroutine = coroutine(@forever, %{"test" => test})
      pid = spawn(fn -> send(test, {:line, last_line(fn -> Pythonx.await(coroutine) end)}) end)
      assert_receive :started
      assert Pythonx.interrupt(pid)
      assert_receive :cancelled
      assert_receive {:line, "KeyboardInterrupt\n"}
    end

    test "that Python cancels is a CancelledError" do
      code = "import asyncio\nasync def f():\n  asyncio.current_task().cancel()\n  await asyncio.sleep(60)"
      assert last_line(fn -> Pythonx.await(coroutine(code)) end) =~ "CancelledError"
    end

    test "prints to the device of who called the coroutine's start" do
      code = "async def f():\n  print('from the loop')"
      assert capture_io(fn -> Pythonx.await(coroutine(code)) end) == "from the loop\n"
    end
  end

  describe "at the top level" do
    test "of an evaluation, await and async for work" do
      code = """
      import asyncio
      async def count(n):
          for i in range(n):
              await asyncio.sleep(0)
              yield i
      seen = []
      async for i in count(3):
          seen.append(i)
      async with asyncio.Lock():
          pass
      await asyncio.sleep(0, seen + [x async for x in count(2)])
      """

      assert eval!(code) == [0, 1, 2, 0, 1]
    end

    test "a coroutine that is not awaited is a result like any other" do
      {result, _} = Pythonx.eval("async def f(): return 5\nf()", %{})
      assert Pythonx.type(result) == "coroutine"
      assert Pythonx.await(result, decode: true) == 5
    end

    test "of ~PY, await works" do
      x = 20

      result = ~PY"""
      import asyncio
      await asyncio.sleep(0, x + 1)
      """

      assert Pythonx.decode(result) == 21
      _ = asyncio
    end

    test "errors have the user's frame first" do
      error = assert_raise Pythonx.Error, fn -> Pythonx.eval("import asyncio\nawait asyncio.sleep(0)\n1 / 0", %{}) end
      assert Enum.at(error.lines, 1) =~ ~s(File "<string>", line 3, in <module>)
      assert [_traceback, _frame, "ZeroDivisionError: division by zero\n"] = error.lines
    end

    test "context variables of the evaluation hold" do
      code = """
      import asyncio, contextvars
      v = contextvars.ContextVar('v')
      v.set('outer')
      async def f():
          await asyncio.sleep(0)
          return v.get()
      """

      %{"f" => f, "v" => v} = globals(code)
      assert eval!("await f()", %{"f" => f}) == "outer"
      assert f |> Pythonx.call() |> Pythonx.await(decode: true) == "outer"
      assert eval!("v.get()", %{"v" => v}) == "outer"
    end

    test "keeps the context variables that it sets for the next evaluation" do
      code =
        "import asyncio, contextvars\nv = contextvars.ContextVar('v', default='default')\nw = contextvars.ContextVar('w')"

      variables = Map.take(globals(code), ["v", "w", "asyncio"])
      Pythonx.eval("v.set('first')\nawait asyncio.sleep(0)\nw.set([v.get()])\nv.set('second')", variables)
      assert eval!("(v.get(), w.get())", variables) == {"second", ["first"]}
      assert eval!("await asyncio.sleep(0)\nv.get()", variables) == "second"
      assert Pythonx.call_method(variables["v"], :get, [], [], decode: true) == "second"
      # Another process has another thread, or comes before or after on this one, as ever.
      assert eval!("(await asyncio.sleep(0, v.get()))", variables) == "second"
    end

    @tag skip: Pythonx.Case.python_minor() < 11 && "a task of Python 3.10 cannot run in a given context"
    test "may reset in ordinary code what was set beside an await, and the other way round" do
      {nil, variables} =
        Pythonx.eval("import asyncio, contextvars\nv = contextvars.ContextVar('v', default=0)\nt = v.set(1)", %{})

      assert eval!(
               "await asyncio.sleep(0)\nv.reset(t)\nt = v.set(2)\nawait asyncio.sleep(0)\nv.reset(t)\nv.get()",
               variables
             ) == 0

      assert eval!("t = v.set(3)\nawait asyncio.sleep(0)\nv.reset(t)\nv.get()", variables) == 0
    end

    test "inside of a Context of the user's changes that one only" do
      code = """
      import contextvars
      v = contextvars.ContextVar('v', default='outer')
      context = contextvars.copy_context()
      context.run(f, v)
      (v.get(), context[v])
      """

      f = fn v -> Pythonx.eval("import asyncio\nv.set('inner')\nawait asyncio.sleep(0)", %{"v" => v}) && nil end
      assert eval!(code, %{"f" => f}) == {"outer", "inner"}
    end

    test "that is interrupted leaves its context usable" do
      variables = globals("import asyncio, contextvars\nv = contextvars.ContextVar('v', default='default')")
      code = "v.set('kept')\ntry:\n  await asyncio.sleep(60)\nfinally:\n  v.set('late')"
      assert_raise Pythonx.TimeoutError, fn -> Pythonx.eval(code, variables, timeout: 50) end
      # This process has its thread again.
      wait_until(fn -> Pythonx.running() == [] end)
      assert capture_io(fn -> Pythonx.eval("await asyncio.sleep(0)\nprint('printed')", variables) end) == "printed\n"
      assert eval!("v.set('next')\nawait asyncio.sleep(0)\nv.get()", variables) == "next"
      assert eval!("v.get()", variables) == "next"
    end

    test "is cancelled with the evaluation, on every kind of thread" do
      code = @forever <> "await f()"
      test = self()
      pids = for _ <- 1..3, do: spawn(fn -> Pythonx.eval(code, %{"test" => test}) end)
      for _ <- pids, do: assert_receive(:started)
      Enum.each(pids, &Process.exit(&1, :kill))
      for _ <- pids, do: assert_receive(:cancelled)
      wait_until(fn -> Pythonx.running() == [] end)
      assert_raise Pythonx.TimeoutError, fn -> Pythonx.eval(code, %{"test" => test}, timeout: 50) end
      assert_receive :cancelled
    end
  end

  describe "async generators" do
    @counting """
    import asyncio, pythonx
    async def f():
        try:
            n = 0
            while True:
                await asyncio.sleep(0)
                yield n
                n += 1
        finally:
            pythonx.send(test, pythonx.Atom('closed'))
    """

    test "are streams, and closed when they are left" do
      assert Enum.take(coroutine(@counting, %{"test" => self()}), 5) == [0, 1, 2, 3, 4]
      assert_receive :closed
    end

    test "raise what they raise in its place, with the user's frames only" do
      test = self()
      code = "async def f():\n  yield 1\n  yield 2\n  raise KeyError('three')"
      error = assert_raise Pythonx.Error, fn -> Enum.each(coroutine(code), &send(test, {:seen, &1})) end

      assert error.lines == [
               "Traceback (most recent call last):\n",
               "  File \"<string>\", line 4, in f\n",
               "KeyError: 'three'\n"
             ]

      assert_received {:seen, 1}
      assert_received {:seen, 2}
    end
  end

  describe "Elixir functions" do
    test "are awaitable, and leave the loop free meanwhile" do
      test = self()

      f = fn n ->
        send(test, {:waiting, n, self()})
        receive do: (:go -> n * 10)
      end

      task =
        Task.async(fn ->
          eval!("import asyncio\nawait asyncio.gather(*[f.aio(n) for n in range(100)])", %{"f" => f})
        end)

      handlers = for n <- 0..99, do: elem(assert_receive({:waiting, ^n, _pid}), 2)
      handlers |> Enum.reverse() |> Enum.each(&send(&1, :go))
      assert Task.await(task, patience()) == Enum.map(0..99, &(&1 * 10))
    end

    test "raise in the coroutine, and through it" do
      f = fn -> raise ArgumentError, "no good" end
      code = "import pythonx\ntry:\n  await f.aio()\nexcept pythonx.ElixirError as e:\n  r = e.message\nr"
      assert eval!(code, %{"f" => f}) == "no good"
      assert_raise ArgumentError, "no good", fn -> eval!("await f.aio()", %{"f" => f}) end
      assert last_line(fn -> eval!("await f.aio(1)", %{"f" => f}) end) =~ "TypeError: the Elixir function takes 0"
      assert last_line(fn -> eval!("await f.aio()", %{"f" => fn -> eval!("1 / 0") end}) end) =~ "ZeroDivisionError"
      assert catch_exit(eval!("await f.aio()", %{"f" => fn -> Process.exit(self(), :kill) end})) == :killed
    end

    test "are ended when the coroutine is cancelled" do
      test = self()

      f = fn ->
        send(test, {:handler, self()})
        Process.sleep(:infinity)
      end

      code =
        "import asyncio\ntry:\n  await asyncio.wait_for(f.aio(), 0.05)\nexcept asyncio.TimeoutError:\n  r = 'late'\nr"

      assert eval!(code, %{"f" => f}) == "late"
      assert_received {:handler, handler}
      wait_until(fn -> not Process.alive?(handler) end)
    end

    # Each of these would wait for the loop, which waits for the function.
    for {how, awaits} <- [
          {"an await at the top level", quote(do: &Pythonx.Calls.AwaitsTest.await_at_top_level/0)},
          {"Pythonx.await/2", quote(do: &Pythonx.Calls.AwaitsTest.await_coroutine/0)},
          {"a task of its own", quote(do: &Pythonx.Calls.AwaitsTest.await_in_task/0)},
          {"a function in a function", quote(do: &Pythonx.Calls.AwaitsTest.await_below/0)}
        ] do
      test "by their plain call in a coroutine refuse #{how}, with the way out" do
        code = "async def main():\n  return f()\nawait main()"

        assert last_line(fn -> eval!(code, %{"f" => unquote(awaits)}) end) ==
                 "RuntimeError: cannot await here: the event loop waits for the Elixir function that this is part of. " <>
                   "In coroutines call it as `await f.aio(...)`\n"

        assert eval!("async def main():\n  return await f.aio()\nawait main()", %{"f" => unquote(awaits)}) == 7
      end
    end

    test "by their plain call in a coroutine hold up awaits of others, which then go on" do
      test = self()

      f = fn ->
        send(test, {:handler, self()})
        receive do: (:go -> 1)
      end

      blocking = Task.async(fn -> eval!("async def main():\n  return f()\nawait main()", %{"f" => f}) end)
      assert_receive {:handler, handler}

      other =
        Task.async(fn ->
          eval!("import asyncio, pythonx\npythonx.send(test, 'other')\nawait asyncio.sleep(0, 2)", %{"test" => test})
        end)

      assert_receive "other"
      # What the other asks about itself has been answered before the function ends.
      wait_until(fn -> length(Pythonx.running()) == 2 and suspects() == 0 end)
      send(handler, :go)
      assert Task.await(blocking, patience()) == 1
      assert Task.await(other, patience()) == 2
    end

    defp suspects, do: eval!("import pythonx._loop\nlen(pythonx._loop._suspects)")

    def await_at_top_level, do: eval!("import asyncio\nawait asyncio.sleep(0, 7)")
    def await_coroutine, do: Pythonx.await(coroutine("async def f():\n  return 7"), decode: true)

    def await_in_task do
      Task.async(fn ->
        try do
          await_at_top_level()
        rescue
          error -> error
        end
      end)
      |> Task.await(patience())
      |> case do
        7 -> 7
        error -> raise error
      end
    end

    def await_below, do: eval!("f()", %{"f" => &await_at_top_level/0})

    test "outside of a coroutine have no loop to be awaited on" do
      assert last_line(fn -> eval!("f.aio()", %{"f" => fn -> 1 end}) end) == "RuntimeError: no running event loop\n"
    end
  end
end
