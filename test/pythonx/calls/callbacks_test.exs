defmodule Pythonx.Calls.CallbacksTest do
  use Pythonx.Case, async: false

  import ExUnit.CaptureIO

  defp last_line(fun), do: List.last(assert_raise(Pythonx.Error, fun).lines)

  describe "an Elixir function" do
    test "is a Python callable" do
      assert eval!("sorted(xs, key=f)", %{"xs" => [1, 3, 2], "f" => fn x -> -x end}) == [3, 2, 1]
      assert eval!("f()", %{"f" => fn -> :done end}) == "done"

      assert eval!("f(1, 'a', [2.5], {'k': None}, (b'x',))", %{"f" => fn a, b, c, d, e -> {a, b, c, d, e} end}) ==
               {1, "a", [2.5], %{"k" => nil}, {"x"}}
    end

    test "is encoded wherever it stands in a term, and by the protocol" do
      assert eval!("fs['double'][0](4)", %{"fs" => %{double: [&(&1 * 2)]}}) == 8
      assert Pythonx.call(Pythonx.encode!(&(&1 + 1)), [1], [], decode: true) == 2
      assert Pythonx.call(Pythonx.Encoder.encode(&(&1 + 1), &Pythonx.Encoder.encode/2), [1], [], decode: true) == 2
      map = Pythonx.import_module("builtins") |> Pythonx.getattr(:map)
      assert eval!("list(m)", %{"m" => Pythonx.call(map, [&String.upcase/1, ["a"]])}) == ["A"]
    end

    test "gets objects that have no counterpart as handles, and returns them by identity" do
      test = self()

      keep = fn object ->
        send(test, {:got, object})
        object
      end

      assert eval!("o = object()\nf(o) is o", %{"f" => keep})
      assert_received {:got, %Pythonx.Object{}}
    end

    test "returns what the protocol encodes, with binaries as the evaluation has them" do
      assert eval!("f()", %{"f" => fn -> MapSet.new([1]) end}) == MapSet.new([1])
      assert eval!("type(f()).__name__", %{"f" => fn -> "x" end}) == "bytes"
      assert eval!("type(f()).__name__", %{"f" => fn -> "x" end}, binaries: :str) == "str"
      assert eval!("type(f()[0]).__name__", %{"f" => fn -> ["x"] end}, binaries: :str) == "str"
    end

    test "decodes to itself" do
      f = fn x -> x end
      assert Pythonx.decode(Pythonx.encode!(f)) == f
      assert eval!("[f]", %{"f" => f}) == [f]
      assert repr(f) =~ ~r/^<pythonx.Function #Fun<Elixir.Pythonx.Calls.CallbacksTest.\d+.\d+>>$/
    end

    test "of the wrong arity is a TypeError" do
      assert last_line(fn -> eval!("f(1, 2)", %{"f" => fn x -> x end}) end) ==
               "TypeError: the Elixir function takes 1 positional argument, but 2 were given\n"

      assert last_line(fn -> eval!("f(1)", %{"f" => fn -> 1 end}) end) ==
               "TypeError: the Elixir function takes 0 positional arguments, but 1 was given\n"

      assert last_line(fn -> eval!("f(x=1)", %{"f" => fn x -> x end}) end) ==
               "TypeError: an Elixir function takes no keyword arguments\n"
    end

    test "cannot be pickled, made or changed" do
      assert last_line(fn -> eval!("import pickle; pickle.dumps(f)", %{"f" => fn -> 1 end}) end) ==
               "TypeError: cannot pickle 'pythonx.Function' object\n"

      assert last_line(fn -> eval!("import pythonx; pythonx.Function()") end) ==
               "TypeError: cannot create 'pythonx.Function' instances\n"

      assert eval!("import copy; copy.deepcopy(f) is f", %{"f" => fn -> 1 end})
    end

    test "gets maps and sets of any size, whichever thread calls it" do
      code = """
      import threading
      def work(): results.append(f({i: i for i in range(n)}, set(range(n))))
      results = []
      work()
      thread = threading.Thread(target=work)
      thread.start()
      thread.join()
      results
      """

      for n <- [32, 128, 129, 5000] do
        f = fn map, set -> map == Map.new(0..(n - 1), &{&1, &1}) and set == MapSet.new(0..(n - 1)) end
        assert eval!(code, %{"f" => f, "n" => n}) == [true, true]
      end
    end

    test "is not called with a map in which keys would meet, wherever they stand" do
      for {first, last} <- [{0, 1}, {0, 150}, {148, 149}, {0, 4999}] do
        code = "d = {str(i): i for i in range(last)}\nd[str(first).encode()] = 1\nf(d)"
        f = fn _map -> flunk("called") end

        assert last_line(fn -> eval!(code, %{"f" => f, "first" => first, "last" => last}) end) ==
                 "ValueError: [0]: cannot decode a dict whose keys '#{first}' and b'#{first}' are the same in Elixir\n"
      end
    end

    test "that cannot decode its arguments is not called" do
      assert last_line(fn -> eval!("x = []; x.append(x); f(x)", %{"f" => fn _ -> flunk("called") end}) end) ==
               "ValueError: [0][0]: cannot decode a list that contains itself\n"
    end
  end

  describe "the handler" do
    test "has the caller and the callers of that in $callers, and the evaluation's group leader" do
      f = fn -> {self(), Process.get(:"$callers"), Process.group_leader()} end
      test = self()

      {task, {handler, callers, leader}, own} =
        Task.await(Task.async(fn -> {self(), eval!("f()", %{"f" => f}), Process.group_leader()} end), patience())

      assert callers == [task, test]
      assert leader == own
      refute handler in [task, test]
    end

    test "prints where the evaluation does, in order" do
      code = "print('python')\nprint('more', end=' ')\nf()\nprint('python')"
      f = fn -> IO.puts("elixir") end
      assert capture_io(fn -> Pythonx.eval(code, %{"f" => f}) end) == "python\nmore elixir\npython\n"
    end

    test "is stopped with the application's process, which answers for it" do
      f = fn -> Process.exit(self(), :kill) end
      assert catch_exit(eval!("f()", %{"f" => f})) == :killed

      assert eval!("import pythonx\ntry: f()\nexcept pythonx.ElixirError as e: r = str(e)\nr", %{"f" => f}) ==
               "(exit) :killed"
    end
  end

  describe "an exception of Elixir's" do
    test "is an ElixirError whatever bytes its message has" do
      f = fn -> raise "bad \xff\0 text" end
      code = "try: f()\nexcept Exception as e: r = [type(e).__name__, e.message]\nr"
      assert eval!(code, %{"f" => f}) == ["ElixirError", "bad \\xff\0 text"]
      assert_raise RuntimeError, "bad \xff\0 text", fn -> eval!("f()", %{"f" => f}) end
    end

    test "is an ElixirError in Python, with class, message and stack" do
      f = fn -> raise ArgumentError, "no good" end

      code = """
      import pythonx
      try:
          f()
      except Exception as error:
          result = (type(error) is pythonx.ElixirError, str(error), error.class_name, error.message, error.stacktrace)
      result
      """

      assert {true, "(ArgumentError) no good", "ArgumentError", "no good", stack} = eval!(code, %{"f" => f})
      assert stack =~ "test/pythonx/calls/callbacks_test.exs:"
    end

    test "that Python lets pass reaches the caller as it was, with its stack" do
      f = fn -> raise ArgumentError, "no good" end

      {error, stack} =
        try do
          eval!("def g(): return f()\ng()", %{"f" => f})
        rescue
          error -> {error, __STACKTRACE__}
        end

      assert error == %ArgumentError{message: "no good"}
      assert Enum.any?(stack, fn {module, _, _, location} -> module == __MODULE__ and location[:line] end)

      assert catch_throw(eval!("f()", %{"f" => fn -> throw({:ball, 1}) end})) == {:ball, 1}
      assert catch_exit(eval!("f()", %{"f" => fn -> exit({:shutdown, 1}) end})) == {:shutdown, 1}
      assert catch_exit(eval!("f()", %{"f" => fn -> exit(:normal) end})) == :normal
      assert_raise UndefinedFunctionError, fn -> eval!("f()", %{"f" => Function.capture(NoSuchModule, :f, 0)}) end
      assert_raise Protocol.UndefinedError, fn -> eval!("f()", %{"f" => fn -> make_ref() end}) end
      assert_raise ArithmeticError, fn -> Pythonx.call(Pythonx.encode!(fn x -> 1 / x end), [0]) end
    end

    test "that Python wraps is a Python error with both stacks" do
      f = fn -> raise ArgumentError, "no good" end
      code = "try:\n  f()\nexcept Exception as e:\n  raise ValueError('wrapped') from e"
      error = assert_raise Pythonx.Error, fn -> eval!(code, %{"f" => f}) end
      text = Enum.join(error.lines)
      assert text =~ "pythonx._errors.ElixirError: (ArgumentError) no good\n"

      # Python 3.10 has no notes.
      if eval!("hasattr(Exception, 'add_note')") do
        assert text =~ "no good\nElixir stacktrace:\n"
        assert text =~ "callbacks_test.exs"
      end

      assert text =~ "The above exception was the direct cause of the following exception:"
      assert List.last(error.lines) == "ValueError: wrapped\n"
    end
  end

  describe "a Python exception" do
    test "keeps its type on its way through Elixir" do
      f = fn -> eval!("{}['missing']") end
      assert eval!("try:\n  f()\nexcept KeyError as e:\n  r = e.args\nr", %{"f" => f}) == {"missing"}

      error = assert_raise Pythonx.Error, fn -> eval!("f()", %{"f" => f}) end
      assert List.last(error.lines) == "KeyError: 'missing'\n"
      assert Enum.count(error.lines, &(&1 =~ "<string>")) == 2
    end

    test "may go up and down many times" do
      down = fn down, n -> if n == 0, do: eval!("1 / 0"), else: eval!("f(f, n)", %{"f" => down, "n" => n - 1}) end
      assert last_line(fn -> down.(down, 10) end) == "ZeroDivisionError: division by zero\n"
      raising = fn down, n -> if n == 0, do: raise("up"), else: eval!("f(f, n)", %{"f" => down, "n" => n - 1}) end
      assert_raise RuntimeError, "up", fn -> raising.(raising, 10) end
    end
  end

  describe "nesting" do
    test "fifty deep runs on one thread" do
      code = "import threading\nids.seen.append(threading.get_ident())\nf(f, ids, n)"

      down = fn down, ids, n ->
        if n == 0, do: :bottom, else: eval!(code, %{"f" => down, "ids" => ids, "n" => n - 1})
      end

      {ids, _} = Pythonx.eval("import types; types.SimpleNamespace(seen=[])", %{})
      assert Task.await(Task.async(fn -> down.(down, ids, 50) end), patience()) == "bottom"
      seen = Pythonx.getattr(ids, :seen, decode: true)
      assert length(seen) == 50
      assert [_one] = Enum.uniq(seen)
    end

    test "without end is an error" do
      down = fn down -> eval!("f(f)", %{"f" => down}) end
      assert last_line(fn -> down.(down) end) =~ "RecursionError"
      assert eval!("1") == 1
    end

    test "what Python ties to the thread is there in the evaluations of the function" do
      f = fn db -> eval!("db.execute('select 42').fetchone()[0]", %{"db" => db}) end
      assert eval!("import sqlite3\nf(sqlite3.connect(':memory:'))", %{"f" => f}) == 42
    end

    test "evaluations of other processes that the function starts have threads of their own" do
      f = fn -> 1..4 |> Enum.map(&Task.async(fn -> eval!("x * 2", %{"x" => &1}) end)) |> Task.await_many(patience()) end
      assert eval!("f()", %{"f" => f}) == [2, 4, 6, 8]
    end

    test "from many processes at once" do
      down = fn down, n -> if n == 0, do: 0, else: eval!("1 + f(f, n)", %{"f" => down, "n" => n - 1}) end
      tasks = for _ <- 1..8, do: Task.async(fn -> down.(down, 20) end)
      assert Task.await_many(tasks, patience()) == List.duplicate(20, 8)
    end
  end

  describe "a thousand at once" do
    test "are answered each with its own value" do
      test = self()

      f = fn x ->
        send(test, {:waiting, self()})
        receive do: (:go -> x)
      end

      tasks = for n <- 1..1000, do: Task.async(fn -> eval!("f(n)", %{"f" => f, "n" => n}) end)
      handlers = for _ <- 1..1000, do: elem(assert_receive({:waiting, _pid}), 1)
      handlers |> Enum.shuffle() |> Enum.each(&send(&1, :go))
      assert Task.await_many(tasks, patience()) == Enum.to_list(1..1000)
    end
  end

  describe "threads of Python" do
    test "may call it" do
      code = """
      import threading
      results = []
      threads = [threading.Thread(target=lambda n=n: results.append(f(n))) for n in range(10)]
      for t in threads: t.start()
      for t in threads: t.join()
      sorted(results)
      """

      f = fn x -> eval!("x + 100", %{"x" => x}) end
      assert eval!(code, %{"f" => f}) == Enum.to_list(100..109)
    end

    test "of an executor may call it" do
      code =
        "from concurrent.futures import ThreadPoolExecutor\nwith ThreadPoolExecutor(4) as e: r = list(e.map(f, range(8)))\nr"

      assert eval!(code, %{"f" => &(&1 * &1)}) == Enum.map(0..7, &(&1 * &1))
    end
  end

  describe "cancelling" do
    # A function that tells the test it has begun, and never returns.
    defp endless(test) do
      fn ->
        send(test, {:handler, self()})
        Process.sleep(:infinity)
      end
    end

    for {where, setup} <- [{"the main thread", ""}, {"another thread", "import threading"}] do
      test "the death of the caller frees #{where} and ends the handler" do
        test = self()
        # With the main thread taken, the caller is served by another.
        blocker =
          if unquote(setup) != "" do
            pid = spawn(fn -> eval!("f()", %{"f" => endless(test)}) end)
            assert_receive {:handler, handler}
            {pid, handler}
          end

        caller = spawn(fn -> eval!("f()", %{"f" => endless(test)}) end)
        assert_receive {:handler, handler}
        monitor = Process.monitor(handler)
        Process.exit(caller, :kill)
        assert_receive {:DOWN, ^monitor, :process, ^handler, :killed}
        with {pid, _handler} <- blocker, do: Process.exit(pid, :kill)
        wait_until(fn -> Pythonx.running() == [] end)
        assert eval!("1 + 1") == 2
      end
    end

    for {who, code} <- [
          {"a thread of Python's",
           "import threading\nthreading.Thread(target=f, daemon=True).start()\nwhile True: g()"},
          {"a coroutine",
           "import asyncio\nasync def main():\n  task = asyncio.ensure_future(f.aio())\n  task.add_done_callback(lambda t: t.exception())\n  await asyncio.sleep(60)\nawait main()"}
        ] do
      @tag :capture_log
      test "the death of the caller ends a handler that #{who} called" do
        test = self()
        globals = %{"f" => endless(test), "g" => fn -> Process.sleep(5) end}
        err = start_device(:err)
        caller = spawn(fn -> Pythonx.eval(unquote(code), globals, stderr_device: err) end)
        assert_receive {:handler, handler}
        monitor = Process.monitor(handler)
        Process.exit(caller, :kill)
        assert_receive {:DOWN, ^monitor, :process, ^handler, :killed}
        wait_until(fn -> :sys.get_state(Pythonx.Calls.Callbacks) == %{handlers: %{}, calls: %{}, monitors: %{}} end)
      end
    end

    test "a handler does not begin to live on when its caller has died already" do
      test = self()

      # The code goes on for a while after its caller is gone, and only then calls.
      code = """
      import threading
      def late():
          try:
              g()
          finally:
              f()
      thread = threading.Thread(target=late, daemon=True)
      thread.start()
      while thread.is_alive(): thread.join(0.01)
      """

      g = fn ->
        send(test, {:first, self()})
        Process.sleep(:infinity)
      end

      code = "try:\n" <> indent(code) <> "finally:\n  thread.join()"
      err = start_device(:err)
      caller = spawn(fn -> Pythonx.eval(code, %{"f" => endless(test), "g" => g}, stderr_device: err) end)
      assert_receive {:first, _handler}
      Process.exit(caller, :kill)
      wait_until(fn -> Pythonx.running() == [] end)
      wait_until(fn -> :sys.get_state(Pythonx.Calls.Callbacks) == %{handlers: %{}, calls: %{}, monitors: %{}} end)
    end

    defp indent(code), do: code |> String.split("\n") |> Enum.map_join(&("  " <> &1 <> "\n"))

    test "the end of the caller lets a thread of Python's go on" do
      test = self()

      f = fn ->
        send(test, {:handler, self()})
        receive do: (:go -> send(test, :done))
        nil
      end

      code = "import threading\nthreading.Thread(target=lambda: (f(), f()), daemon=True).start()"
      {_pid, monitor} = spawn_monitor(fn -> Pythonx.eval(code, %{"f" => f}) end)
      assert_receive {:DOWN, ^monitor, :process, _pid, :normal}

      for _ <- 1..2 do
        assert_receive {:handler, handler}
        send(handler, :go)
        assert_receive :done
      end
    end

    test "a timeout while the function runs" do
      assert_raise Pythonx.TimeoutError, fn -> eval!("f()", %{"f" => endless(self())}, timeout: 50) end
      assert_received {:handler, handler}
      wait_until(fn -> not Process.alive?(handler) end)
      wait_until(fn -> Pythonx.running() == [] end)
    end

    test "interrupts what runs in an evaluation of the function too" do
      test = self()

      f = fn ->
        send(test, :inside)
        eval!("import time\nwhile True: time.sleep(0.01)")
      end

      caller = spawn(fn -> eval!("f()", %{"f" => f}) end)
      assert_receive :inside
      wait_until(fn -> length(Pythonx.running()) == 2 end)
      Process.exit(caller, :kill)
      wait_until(fn -> Pythonx.running() == [] end)
    end

    test "interrupt/1 raises in the code that waits" do
      test = self()
      f = endless(test)
      pid = spawn(fn -> send(test, {:line, last_line(fn -> eval!("f()", %{"f" => f}) end)}) end)
      assert_receive {:handler, _handler}
      assert [%{code: "f()"}] = running(pid)
      assert Pythonx.interrupt(pid)
      assert_receive {:line, "KeyboardInterrupt\n"}
      refute Pythonx.interrupt(pid)
    end

    test "an evaluation of the function that is interrupted is an error there, and goes on outside" do
      test = self()

      f = fn ->
        send(test, {:handler, self()})
        eval!("import time; time.sleep(60)")
      end

      await_main_thread()

      task = Task.async(fn -> eval!("try:\n  f()\nexcept KeyboardInterrupt:\n  r = 'inner'\nr", %{"f" => f}) end)
      assert_receive {:handler, handler}
      wait_until(fn -> Pythonx.interrupt(handler) end)
      assert Task.await(task, patience()) == "inner"
    end
  end

  describe "in Python" do
    test "send, self and whereis" do
      assert eval!("import pythonx; pythonx.self()") == self()
      Pythonx.eval("import pythonx; pythonx.send(pythonx.self(), {'a': [1, pythonx.self()]})", %{})
      pid = self()
      assert_received %{"a" => [1, ^pid]}

      Pythonx.eval("pythonx.send(to, object())", %{"to" => self(), "pythonx" => Pythonx.import_module("pythonx")})
      assert_received %Pythonx.Object{}

      Process.register(self(), :callback_test)
      Process.register(spawn_link(fn -> Process.sleep(:infinity) end), __MODULE__.Server)
      assert eval!("import pythonx; pythonx.whereis('callback_test')") == self()
      assert eval!("import pythonx; pythonx.whereis(pythonx.Atom('callback_test'))") == self()
      assert eval!("import pythonx; pythonx.whereis(name)", %{"name" => "x"}, binaries: :str) == nil

      assert eval!("import pythonx; pythonx.whereis('Pythonx.Calls.CallbacksTest.Server')") ==
               Process.whereis(__MODULE__.Server)

      assert last_line(fn -> eval!("import pythonx; pythonx.whereis(1)") end) ==
               "TypeError: expected a name to be a str or a pythonx.Atom, got: int\n"

      assert last_line(fn -> eval!("import pythonx; pythonx.send(1, 2)") end) ==
               "TypeError: expected a pythonx.PID, got: int\n"

      assert last_line(fn -> eval!("import pythonx; x = []; x.append(x); pythonx.send(pythonx.self(), x)") end) ==
               "ValueError: [0]: cannot decode a list that contains itself\n"

      refute_received _anything
    end

    test "a thread's self is the process that evaluates" do
      code =
        "import pythonx, threading\nr = []\nt = threading.Thread(target=lambda: r.append(pythonx.self()))\nt.start(); t.join()\nr"

      assert eval!(code) == [self()]
    end

    test "atoms are made by name, and only so many" do
      assert eval!("import pythonx; {pythonx.Atom('ok'): [pythonx.Atom('nil'), pythonx.Atom('Elixir.Pythonx')]}") ==
               %{:ok => [nil, Pythonx]}

      assert eval!("import pythonx; pythonx.Atom('é')") == :é

      assert eval!(
               "import pythonx; a = pythonx.Atom('ok'); (a == pythonx.Atom('ok'), a == 'ok', hash(a) == hash(pythonx.Atom('ok')), str(a), repr(a))"
             ) ==
               {true, false, true, "ok", "pythonx.Atom('ok')"}

      assert eval!(
               "import pythonx, pickle, copy; a = pythonx.Atom('ok'); pickle.loads(pickle.dumps(a)) == copy.copy(a) == a"
             )

      assert last_line(fn -> eval!("import pythonx; pythonx.Atom(b'ok')") end) ==
               "TypeError: expected the name of an atom to be a str, got: bytes\n"

      assert last_line(fn -> eval!("import pythonx; pythonx.Atom('x' * 256)") end) ==
               "ValueError: an atom has at most 255 characters\n"
    end
  end
end
