defmodule Pythonx.GreenletTest do
  # Greenlets change the stack of a thread, so that evaluations on top of others end in any order.
  use Pythonx.Case, async: false

  @moduletag :greenlet
  @moduletag :capture_log

  # A hub prints what ends a greenlet, which is what some of these tests are about.
  setup_all do
    code = "from gevent.hub import Hub\nold = Hub.NOT_ERROR\nHub.NOT_ERROR += (KeyboardInterrupt,)"
    {nil, %{"old" => old}} = Pythonx.eval(code, %{})
    on_exit(fn -> Pythonx.eval("from gevent.hub import Hub\nHub.NOT_ERROR = old", %{"old" => old}) end)
  end

  defp in_process(fun), do: fun |> Task.async() |> Task.await(60_000)

  # Runs `fun` on Python's main thread, and on another.
  defp on_both_threads(fun) do
    await_main_thread()
    in_process(fn -> fun.(:main) end)
    test = self()

    held = fn ->
      send(test, :held)
      Process.sleep(:infinity)
    end

    holder = spawn(fn -> Pythonx.eval("f()", %{"f" => held}) end)
    assert_receive :held, 10_000
    in_process(fn -> fun.(:other) end)
    Process.exit(holder, :kill)
    at_rest()
  end

  defp at_rest, do: wait_until(fn -> Pythonx.running() == [] end, 20_000)

  # Leaves the evaluation in the middle for the greenlet's parent.
  defp leaving, do: fn x -> eval!("import greenlet\ngreenlet.getcurrent().parent.switch()\nx", %{"x" => x}) end

  defp codes, do: Pythonx.running() |> Enum.map(& &1.code) |> Enum.sort()

  test "evaluations in gevent's greenlets end in any order" do
    code =
      "import gevent\ntasks = [gevent.spawn(f, i) for i in range(3)]\ngevent.joinall(tasks)\n[t.value for t in tasks]"

    f = fn x -> Pythonx.eval("import gevent; gevent.sleep(0.001)", %{}) && x end
    tasks = for _ <- 1..6, do: Task.async(fn -> for _ <- 1..50, do: eval!(code, %{"f" => f}) end)
    for results <- Task.await_many(tasks, 120_000), do: assert(results == List.duplicate([0, 1, 2], 50))
    at_rest()
  end

  test "the first to begin may end first: running/0 shows those that have not" do
    test = self()
    look = fn -> tap(nil, fn nil -> send(test, {:running, codes()}) end) end

    code = """
    from greenlet import greenlet
    a, b = greenlet(f), greenlet(f)
    a.switch("a"); b.switch("b"); look()
    results = [a.switch()]; look()
    results.append(b.switch()); look()
    results
    """

    for _ <- 1..100 do
      assert in_process(fn -> eval!(code, %{"f" => leaving(), "look" => look}) end) == ["a", "b"]
      outer = "from greenlet import greenlet"
      assert_received {:running, [^outer, "import greenlet", "import greenlet"]}
      assert_received {:running, [^outer, "import greenlet"]}
      assert_received {:running, [^outer]}
    end
  end

  test "an evaluation that was left goes on in a later one of its process" do
    in_process(fn ->
      {_, globals} = Pythonx.eval("from greenlet import greenlet\ng = greenlet(f)\ng.switch(7)", %{"f" => leaving()})
      assert codes() == ["import greenlet"]
      assert eval!("1 + 1") == 2
      assert eval!("g.switch()", globals) == 7
      assert codes() == []
    end)
  end

  test "calls of a later evaluation's end with it" do
    in_process(fn ->
      f = fn -> eval!("import greenlet\ngreenlet.getcurrent().parent.switch()") && Process.sleep(:infinity) end
      {_, globals} = Pythonx.eval("from greenlet import greenlet\ng = greenlet(f)\ng.switch(); None", %{"f" => f})
      assert_raise Pythonx.TimeoutError, fn -> Pythonx.eval("g.switch()", globals, timeout: 100) end
      at_rest()
      assert eval!("1 + 1") == 2
    end)
  end

  describe "a timeout" do
    test "ends code that waits in gevent, on every thread" do
      on_both_threads(fn _thread ->
        for code <- ["gevent.sleep(600)", "gevent.event.Event().wait(600)", "gevent.spawn(gevent.sleep, 600).join()"] do
          code = "import gevent, gevent.event\n" <> code
          assert_raise Pythonx.TimeoutError, fn -> Pythonx.eval(code, %{}, timeout: 50) end
          wait_until(fn -> self() not in Enum.map(Pythonx.running(), & &1.process) end, 20_000)
          assert eval!("gevent.sleep(0.001)\n5", eval_globals()) == 5
        end
      end)
    end

    defp eval_globals, do: Pythonx.eval("import gevent", %{}) |> elem(1)

    test "of an inner evaluation leaves the others alone" do
      on_both_threads(fn _thread ->
        {ended, _} = Pythonx.eval("[]", %{})

        f = fn
          1 -> raised(fn -> Pythonx.eval("import gevent\ngevent.sleep(600)", %{}, timeout: 50) end).__struct__
          x -> eval!("import gevent\nwhile not ended: gevent.sleep(0.001)\nx", %{"x" => x, "ended" => ended})
        end

        code = """
        import gevent
        tasks = [gevent.spawn(f, i) for i in range(3)]
        first = tasks[1].get()
        ended.append(1)
        gevent.joinall(tasks)
        [tasks[0].value, first, tasks[2].value]
        """

        assert eval!(code, %{"f" => f, "ended" => ended}) == [0, "Elixir.Pythonx.TimeoutError", 2]
      end)
    end

    test "of an inner evaluation that computes leaves the others alone" do
      on_both_threads(fn _thread ->
        f = fn
          1 -> raised(fn -> Pythonx.eval("while True: pass", %{}, timeout: 50) end).__struct__
          x -> eval!("import gevent\nfor _ in range(50): gevent.sleep(0.001)\nx", %{"x" => x})
        end

        code =
          "import gevent\ntasks = [gevent.spawn(f, i) for i in range(3)]\ngevent.joinall(tasks)\n[t.value for t in tasks]"

        assert eval!(code, %{"f" => f}) == [0, "Elixir.Pythonx.TimeoutError", 2]
      end)
    end

    test "of the outer evaluation ends the inner ones" do
      on_both_threads(fn _thread ->
        test = self()

        f = fn x ->
          send(test, {:begun, x})
          Pythonx.eval("import gevent; gevent.sleep(600)", %{})
        end

        code = "import gevent\ngevent.joinall([gevent.spawn(f, i) for i in range(3)])"
        assert_raise Pythonx.TimeoutError, fn -> Pythonx.eval(code, %{"f" => f}, timeout: 300) end
        wait_until(fn -> "import gevent; gevent.sleep(600)" not in codes() end, 20_000)
        assert eval!("1 + 1") == 2
      end)
    end

    test "strikes an evaluation that was left, once nothing runs on its thread" do
      in_process(fn ->
        test = self()

        f = fn ->
          code = "import greenlet\ntry: greenlet.getcurrent().parent.switch()\nfinally: pythonx.send(pid, 'ended')"

          try do
            Pythonx.eval("import pythonx\n" <> code, %{"pid" => test}, timeout: 300)
          rescue
            Pythonx.TimeoutError -> nil
          end
        end

        {_, globals} = Pythonx.eval("from greenlet import greenlet\ng = greenlet(f)\ng.switch(); None", %{"f" => f})
        assert_receive "ended", 20_000
        at_rest()
        assert eval!("g.dead", globals)
      end)
    end
  end

  test "what is printed in a greenlet goes to the device of its evaluation" do
    code = "from greenlet import greenlet\ngreenlet(print).switch(text)"

    1..8
    |> Task.async_stream(
      fn n ->
        device = start_device(n)
        for i <- 1..20, do: Pythonx.eval(code, %{"text" => "#{n}:#{i}"}, stdout_device: device)

        for i <- 1..20 do
          text = "b'#{n}:#{i}'\n"
          assert_receive {:device, ^n, ^text}, 10_000
        end

        refute_received {:device, _, _}
      end,
      timeout: 60_000
    )
    |> Stream.run()
  end

  test "the process of a greenlet is that of its evaluation" do
    tasks =
      for _ <- 1..8 do
        Task.async(fn ->
          code = "import pythonx\nfrom greenlet import greenlet\ngreenlet(pythonx.self).switch()"
          for _ <- 1..20, do: assert(eval!(code) == self())
        end)
      end

    Task.await_many(tasks, 60_000)
  end

  test "threads with greenlets end with all that is left in them" do
    code = "import gevent\ntasks = [gevent.spawn(f, i) for i in range(3)]\ngevent.joinall(tasks)"
    f = fn _ -> Pythonx.eval("import gevent; gevent.sleep(600)", %{}) end

    for _ <- 1..10 do
      pids = for _ <- 1..3, do: spawn(fn -> Pythonx.eval(code, %{"f" => f}) end)
      wait_until(fn -> Enum.count(codes(), &(&1 == "import gevent; gevent.sleep(600)")) == 9 end, 20_000)
      Enum.each(pids, &Process.exit(&1, :kill))
      at_rest()
    end
  end
end
