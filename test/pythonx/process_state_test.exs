defmodule Pythonx.ProcessStateTest do
  # What code leaves behind is seen by its own process's next evaluation, and by no other's.
  use Pythonx.Case, async: false

  @moduletag :capture_log

  # There are only so many threads for processes to have to themselves: those of earlier tests go first.
  setup do
    wait_until(fn -> threads() < 50 end)
    :ok
  end

  defp threads, do: Pythonx.NIF.stats() |> elem(0)

  # Returns when the process has ended.
  defp in_process_that_ends(fun) do
    {pid, monitor} = spawn_monitor(fn -> exit({:result, fun.()}) end)
    assert_receive {:DOWN, ^monitor, :process, ^pid, reason}, 60_000
    assert {:result, result} = reason
    result
  end

  # The globals of code that leaves something where it runs: making a threading.local does.
  defp globals_of(code, globals \\ %{}), do: in_process_that_ends(fn -> code |> Pythonx.eval(globals) |> elem(1) end)

  # Runs `fun` while Python's main thread is free, and while another process has it.
  defp on_both_threads(fun) do
    await_main_thread()
    fun.(:main)
    holder = hold_main_thread()
    fun.(:other)
    Process.exit(holder, :kill)
    wait_until(fn -> Pythonx.running() == [] end, 20_000)
  end

  defp hold_main_thread do
    await_main_thread()
    test = self()
    holder = spawn(fn -> Pythonx.eval("f()", %{"f" => fn -> send(test, :held) && Process.sleep(:infinity) end}) end)
    assert_receive :held, 20_000
    holder
  end

  defp main?, do: eval!("import threading\nthreading.current_thread() is threading.main_thread()")

  # What is left, what then looks for it, and what a process that never heard of it must see.
  defp leavings do
    shared =
      globals_of(
        """
        import contextvars, threading
        user, local = contextvars.ContextVar("user", default="nobody"), threading.local()
        def tracer(frame, event, arg): return None
        """,
        %{}
      )

    [
      {"a context variable", "user.set('alice')", "user.get()", "nobody"},
      {"a threading.local", "local.x = 'secret'", "getattr(local, 'x', None)", nil},
      {"the decimal context", "import decimal\ndecimal.getcontext().prec = 3",
       "import decimal\nstr(decimal.Decimal(1) / 3)", "0." <> String.duplicate("3", 28)},
      {"numpy's error state", "import numpy as np\nnp.seterr(divide='raise')",
       "import numpy as np\nnp.geterr()['divide']", "warn"},
      {"a trace function", "import sys\nsys.settrace(tracer)", "import sys\nsys.gettrace() is None", true},
      {"a profile function", "import sys\nsys.setprofile(tracer)", "import sys\nsys.getprofile() is None", true},
      {"a running event loop", "import asyncio\nasyncio._set_running_loop(asyncio.new_event_loop())",
       "import asyncio\nasyncio._get_running_loop() is None", true},
      {"hooks of asynchronous generators", "import sys\nsys.set_asyncgen_hooks(firstiter=tracer, finalizer=tracer)",
       "import sys\nlist(sys.get_asyncgen_hooks())", [nil, nil]},
      {"the tracking of coroutines", "import sys\nsys.set_coroutine_origin_tracking_depth(5)",
       "import sys\nsys.get_coroutine_origin_tracking_depth()", 0},
      {"a signal mask", "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGWINCH])",
       "import signal\nsignal.SIGWINCH in signal.pthread_sigmask(signal.SIG_BLOCK, [])", false}
    ]
    |> Enum.map(fn {what, leave, look, fresh} -> {what, leave <> "\nNone", look, fresh, shared} end)
  end

  describe "what a process that has ended has left" do
    test "is not there for the next, on every thread" do
      leavings = leavings()

      on_both_threads(fn thread ->
        for {what, leave, look, fresh, shared} <- leavings do
          assert in_process_that_ends(fn -> {eval!(leave, shared), main?()} end) == {nil, thread == :main}, what
          seen = in_process_that_ends(fn -> {main?(), eval!(look, shared)} end)
          assert seen == {thread == :main, fresh}, "#{what} on #{thread}: #{inspect(seen)}"
        end
      end)
    end

    test "is there for itself" do
      on_both_threads(fn _thread ->
        # Trace and profile functions end with the evaluation that has set them.
        for {what, leave, look, fresh, shared} <- leavings(), what not in ["a trace function", "a profile function"] do
          in_process_that_ends(fn ->
            eval!(leave, shared)
            assert eval!(look, shared) != fresh, what
          end)
        end
      end)
    end

    test "is dropped: context variables, and what threads keep" do
      globals =
        globals_of(
          """
          import contextvars, threading, weakref
          variable, local = contextvars.ContextVar("v"), threading.local()
          class Value: pass
          """,
          %{}
        )

      on_both_threads(fn _thread ->
        for set <- ["variable.set(value); None", "local.x = value"] do
          ref =
            in_process_that_ends(fn ->
              {ref, _} = Pythonx.eval("value = Value()\n#{set}\nref = weakref.ref(value)\ndel value\nref", globals)
              assert eval!("ref() is not None", %{"ref" => ref})
              ref
            end)

          wait_until(fn -> eval!("import gc\ngc.collect()\nref() is None", %{"ref" => ref}) end, 20_000)
        end
      end)
    end

    # Nobody can take that from Python's main thread.
    test "in variables of C libraries goes with the thread" do
      dir = Path.join(System.tmp_dir!(), "pythonx_test_#{System.unique_integer([:positive])}")
      on_exit(fn -> File.rm_rf!(dir) end)

      library =
        Pythonx.NativeCase.shared_library!(
          Path.join(dir, "libstate.so"),
          "__thread int state = 7; int *get(void) { return &state; }"
        )

      globals =
        globals_of(
          """
          import ctypes
          get = ctypes.PyDLL(path.decode()).get
          get.restype = ctypes.POINTER(ctypes.c_int)
          """,
          %{"path" => library}
        )

      holder = hold_main_thread()

      for _ <- 1..10 do
        in_process_that_ends(fn ->
          assert eval!("get()[0]", globals) == 7
          eval!("get()[0] = 8\nNone", globals)
          assert eval!("get()[0]", globals) == 8
        end)
      end

      Process.exit(holder, :kill)
    end

    test "that was nothing: its thread serves the next" do
      holder = hold_main_thread()
      code = "import threading\nthreading.get_native_id()"
      threads = for _ <- 1..300, do: in_process_that_ends(fn -> eval!(code) end)
      Process.exit(holder, :kill)
      assert length(Enum.uniq(threads)) < 100
    end

    test "threads are renewed without a trace" do
      holder = hold_main_thread()
      globals = globals_of("import threading\nlocal = threading.local()")
      code = "before = getattr(local, 'x', None)\nlocal.x = n\nbefore"

      results =
        1..500
        |> Task.async_stream(fn n -> eval!(code, Map.put(globals, "n", n)) end, max_concurrency: 8, timeout: 60_000)
        |> Enum.map(fn {:ok, before} -> before end)

      assert Enum.all?(results, &is_nil/1)
      Process.exit(holder, :kill)
      wait_until(fn -> threads() < 100 end)
    end
  end

  describe "a living process" do
    test "has its thread for its own, whatever else is evaluated" do
      stop = :atomics.new(1, [])

      load =
        for _ <- 1..6 do
          Task.async(fn ->
            Stream.repeatedly(fn -> Task.await(Task.async(fn -> eval!("sum(range(3000))") end), 60_000) end)
            |> Enum.find(fn _ -> :atomics.get(stop, 1) == 1 end)
          end)
        end

      results =
        1..12
        |> Enum.map(fn n ->
          Task.async(fn ->
            {_, globals} =
              Pythonx.eval(
                """
                import asyncio, sqlite3, threading
                db, local, loop = sqlite3.connect(":memory:"), threading.local(), asyncio.new_event_loop()
                db.execute("create table t (x)")
                local.x = n
                asyncio.set_event_loop(loop)
                """,
                %{"n" => n}
              )

            for i <- 1..50 do
              code = """
              db.execute("insert into t values (?)", (i,))
              (local.x, asyncio.get_event_loop_policy().get_event_loop() is loop, threading.get_ident(), db.execute("select count(*) from t").fetchone()[0])
              """

              {^n, true, thread, ^i} = eval!(code, Map.put(globals, "i", i))
              thread
            end
            |> Enum.uniq()
          end)
        end)
        |> Task.await_many(120_000)

      :atomics.put(stop, 1, 1)
      Task.await_many(load, 60_000)
      for threads <- results, do: assert(length(threads) == 1)
    end

    test "does not lose it while it is away" do
      test = self()

      pids =
        for n <- 1..100 do
          spawn_link(fn ->
            {_, globals} = Pythonx.eval("import threading\nlocal = threading.local()\nlocal.x = n", %{"n" => n})
            send(test, {:ready, n})
            receive do: (:look -> send(test, {:seen, n, eval!("local.x", globals)}))
          end)
        end

      for n <- 1..100, do: assert_receive({:ready, ^n}, 60_000)
      1..200 |> Task.async_stream(fn _ -> eval!("1") end, max_concurrency: 20) |> Stream.run()
      Enum.each(pids, &send(&1, :look))
      for n <- 1..100, do: assert_receive({:seen, ^n, ^n}, 60_000)
    end

    test "one of more than there are threads to give away has its context variables, and sees no other's state" do
      test = self()

      globals = globals_of("import contextvars, threading\nv = contextvars.ContextVar('v')\nlocal = threading.local()")

      pids =
        for n <- 1..400 do
          spawn_link(fn ->
            nil = eval!("v.set(n)\nlocal.x = n\nNone", Map.put(globals, "n", n))
            send(test, {:ready, n})
            receive do: (:look -> send(test, {:seen, n, eval!("[v.get(), getattr(local, 'x', None)]", globals)}))
          end)
        end

      for n <- 1..400, do: assert_receive({:ready, ^n}, 60_000)
      Enum.each(pids, &send(&1, :look))

      found =
        for n <- 1..400 do
          assert_receive {:seen, ^n, [^n, local]}, 60_000
          assert local in [n, nil]
          local
        end

      assert Enum.count(found, & &1) >= 200
    end

    test "has its context variables on another thread too, where its own is still busy" do
      globals =
        globals_of(
          "import contextvars, threading\nv = contextvars.ContextVar('v')\ngo, begun = threading.Event(), threading.Event()",
          %{}
        )

      on_both_threads(fn _thread ->
        in_process_that_ends(fn ->
          eval!("go.clear(); begun.clear(); v.set(1); None", globals)

          stubborn = """
          v.set(2)
          begun.set()
          while not go.is_set():
              try: go.wait(0.01)
              except BaseException: pass
          v.set(3)
          """

          assert_raise Pythonx.TimeoutError, fn ->
            Pythonx.eval(stubborn, globals, timeout: 50)
          end

          eval!("begun.wait(20)", globals)
          assert eval!("v.get()", globals) == 2
          assert eval!("v.set(5)\nv.get()", globals) == 5
          eval!("go.set()", globals)
          wait_until(fn -> Pythonx.running() |> Enum.all?(&(&1.process != self())) end, 20_000)
          # What was given up has no say any more.
          assert eval!("v.get()", globals) == 5
        end)
      end)
    end

    test "sees what an Elixir function of its own has set, which sees what it has" do
      globals = globals_of("import contextvars, threading\nv = contextvars.ContextVar('v')\nlocal = threading.local()")

      f = fn -> eval!("seen = [v.get(), local.x]\nv.set('inner')\nlocal.x = 'inner'\nseen", globals) end

      on_both_threads(fn _thread ->
        in_process_that_ends(fn ->
          code = "v.set('outer')\nlocal.x = 'outer'\nseen = f()\n[seen, v.get(), local.x]"
          assert eval!(code, Map.put(globals, "f", f)) == [["outer", "outer"], "inner", "inner"]
          assert eval!("[v.get(), local.x]", globals) == ["inner", "inner"]
        end)
      end)
    end

    test "takes its context variables through await" do
      globals = globals_of("import asyncio, contextvars\nv = contextvars.ContextVar('v', default=0)")

      on_both_threads(fn _thread ->
        in_process_that_ends(fn ->
          assert eval!("v.set(1)\nawait asyncio.sleep(0)\nv.get()", globals) == 1
          assert eval!("await asyncio.sleep(0)\nv.get()", globals) == 1
          {coroutine, _} = Pythonx.eval("async def f(): return v.get()\nf()", globals)
          assert Pythonx.await(coroutine, decode: true) == 1
          assert_raise Pythonx.TimeoutError, fn -> Pythonx.eval("await asyncio.sleep(600)", globals, timeout: 50) end
          wait_until(fn -> Pythonx.running() |> Enum.all?(&(&1.process != self())) end, 20_000)
          assert eval!("v.get()", globals) == 1
        end)

        assert in_process_that_ends(fn -> eval!("await asyncio.sleep(0)\nv.get()", globals) end) == 0
      end)
    end

    test "a server keeps what its code sets" do
      code = """
      import contextvars, threading
      v, local = contextvars.ContextVar("v", default=0), threading.local()
      class Counter:
          def set(self):
              v.set(7)
              local.x = 8
          def get(self): return [v.get(), getattr(local, "x", 0)]
      """

      {:ok, server} = Pythonx.Server.start_link(code: code, class: "Counter")
      {:ok, other} = Pythonx.Server.start_link(code: code, class: "Counter")
      Pythonx.Server.call(server, :set)
      for _ <- 1..20, do: in_process_that_ends(fn -> eval!("1") end)
      assert Pythonx.Server.call(server, :get) == [7, 8]
      assert Pythonx.Server.call(other, :get) == [0, 0]
    end
  end

  describe "the jobs of a pool" do
    test "begin with what the initial code has set, and see nothing of those of other processes" do
      init =
        "import contextvars, decimal, threading\nv = contextvars.ContextVar('v')\nlocal = threading.local()\ndecimal.getcontext().prec = 5"

      {:ok, pool} = Pythonx.Pool.start_link(size: 1, init: init)

      look = "[str(decimal.Decimal(1) / 3), v.get(None), getattr(local, 'x', None)]"

      for _ <- 1..20 do
        in_process_that_ends(fn ->
          assert {["0.33333", nil, nil], _} = Pythonx.Pool.eval(pool, look, %{})
          Pythonx.Pool.eval(pool, "v.set(1)\nlocal.x = 2\ndecimal.getcontext().prec = 3\nNone", %{})
          # What a process has left is its own, as in the VM.
          assert {["0.333", 1, 2], _} = Pythonx.Pool.eval(pool, look, %{})
        end)
      end
    end
  end

  @tag :large
  @tag timeout: 300_000
  test "more calls at once than there are threads, each waiting for Elixir code that evaluates in another process, end" do
    f = fn x -> Task.await(Task.async(fn -> eval!("x + 1", %{"x" => x}) end), 240_000) end
    tasks = for n <- 1..2100, do: Task.async(fn -> eval!("f(n)", %{"f" => f, "n" => n}) end)
    assert Task.await_many(tasks, 240_000) == Enum.to_list(2..2101)
  end
end
