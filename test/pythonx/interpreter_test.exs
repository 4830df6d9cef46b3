defmodule Pythonx.InterpreterTest do
  use ExUnit.Case, async: false
  use Pythonx.Case

  alias Pythonx.Interpreter

  {minor, _globals} = Pythonx.eval("import sys; sys.version_info[1]", %{})

  if Pythonx.decode(minor) < 12 do
    test "an older Python has none, and says so" do
      error = assert_raise RuntimeError, fn -> Interpreter.create() end

      assert error.message ==
               "interpreters with a GIL of their own need Python 3.12 or later. " <>
                 "Use Pythonx.eval/3, or Pythonx.Pool for work in parallel"
    end
  else
    import ExUnit.CaptureLog

    doctest Pythonx.Interpreter

    setup context do
      if context[:no_interpreter] do
        :ok
      else
        interpreter = Interpreter.create()
        on_exit(fn -> Interpreter.close(interpreter) end)
        %{i: interpreter}
      end
    end

    defp value!(interpreter, code, globals \\ %{}, opts \\ []) do
      {result, _globals} = Interpreter.eval(interpreter, code, globals, opts)
      Pythonx.decode(result)
    end

    defp object!(interpreter, code) do
      {object, _globals} = Interpreter.eval(interpreter, code, %{})
      object
    end

    # The last line of the Python exception that a function raises.
    defp last_line(fun) do
      assert_raise(Pythonx.Error, fun).lines
      |> List.last()
      |> String.trim_trailing()
      |> String.split("\n")
      |> List.last()
    end

    # Runs code in a process of its own, and waits until it has come to `started()`.
    defp start_running(interpreter, code, fun \\ &Function.identity/1) do
      device = start_device()

      task =
        Task.async(fn ->
          try do
            Interpreter.eval(interpreter, "print('started')\n" <> code, %{}, stdout_device: device)
          rescue
            error -> fun.(error)
          end
        end)

      assert_receive {:device, :out, "started\n"}
      task
    end

    # Threads of the process by the names that the bridge gives them.
    defp threads() do
      for task <- File.ls!("/proc/self/task"),
          {:ok, "python_inter" <> _rest = name} <- [File.read("/proc/self/task/#{task}/comm")],
          do: String.trim(name)
    end

    # How many interpreters are open, and how many handles of any there are. Other processes hold none meanwhile that they
    # will let go of.
    defp stats() do
      collect_processes()
      Pythonx.NIF.interpreter_stats()
    end

    describe "create/1" do
      @describetag :no_interpreter

      test "counts names, and takes one" do
        [a, b, c] = for opts <- [[], [], [name: "Żółw \"1\""]], do: Interpreter.create(opts)
        assert "interpreter-" <> number = a.name
        assert b.name == "interpreter-#{String.to_integer(number) + 1}"
        assert inspect(c) == ~S'#Pythonx.Interpreter<"Żółw \"1\"">'
        Enum.each([a, b, c], &Interpreter.close/1)
        # A name is free again once its interpreter is closed.
        assert Interpreter.create(name: "Żółw \"1\"").name == c.name
      end

      test "refuses what is no name, no owner or no option" do
        for {opts, text} <- [
              {[name: ""], ~S'expected :name to be a string that is not empty, got: ""'},
              {[name: :a], "expected :name to be a string that is not empty, got: :a"},
              {[name: "a\0b"], ~S'expected :name to be a string that is not empty, got: <<97, 0, 98>>'},
              {[owner: :me], "expected :owner to be a process of this node or nil, got: :me"},
              {[size: 1], "unknown keys [:size] in [size: 1], the allowed keys are: [:name, :owner]"}
            ] do
          assert assert_raise(ArgumentError, fn -> Interpreter.create(opts) end).message == text
        end

        {dead, monitor} = spawn_monitor(fn -> :ok end)
        assert_receive {:DOWN, ^monitor, :process, ^dead, _reason}
        error = assert_raise ArgumentError, fn -> Interpreter.create(owner: dead) end
        assert error.message == "expected :owner to be a process that is alive, got: #{inspect(dead)}"
      end
    end

    describe "eval/4" do
      test "gives one of the names that have the same text, as instances of a subclass may", %{i: i} do
        code = """
        class Name(str):
            def __hash__(self): return 1
            def __eq__(self, other): return self is other
        globals()[Name("x")] = 1
        x = 2
        """

        assert {nil, %{"x" => _one}} = Interpreter.eval(i, code, %{})
      end

      test "gives the last expression and the globals", %{i: i} do
        assert {nil, %{"x" => x, "y" => y}} = Interpreter.eval(i, "y = [x]", %{"x" => 1})
        assert {Pythonx.decode(x), Pythonx.decode(y)} == {1, [1]}
        assert {result, globals} = Interpreter.eval(i, "None", %{})
        assert {Pythonx.decode(result), globals} == {nil, %{}}
        assert Interpreter.eval(i, "# nothing", %{}) == {nil, %{}}
        # Handles go in again as the objects they are.
        assert value!(i, "x is y[0], y", %{"x" => x, "y" => y}) == {true, [1]}
        assert value!(i, "x[0]['a'] is y", %{"x" => [%{"a" => y}], "y" => y}, binaries: :str)
      end

      test "has a namespace for each evaluation, and modules for each interpreter", %{i: i} do
        Interpreter.eval(i, "import sys; sys.mine = 1; x = 1", %{})
        assert value!(i, "import sys; sys.mine") == 1
        assert last_line(fn -> Interpreter.eval(i, "x", %{}) end) == "NameError: name 'x' is not defined"
        assert value!(i, "import __main__; y = 2; __main__.y, __name__") == {2, "__main__"}
        refute eval!("import sys; hasattr(sys, 'mine')")
        # A function keeps the namespace that it was defined in.
        f = object!(i, "z = 7\ndef f(): return z\nf")
        assert value!(i, "z = 8\nf()", %{"f" => f}) == 7
      end

      test "pickles what the code defines", %{i: i} do
        assert value!(i, "import pickle\nclass A:\n  x = 5\npickle.loads(pickle.dumps(A())).x") == 5
      end

      test "raises what Python raises, with handles of the interpreter", %{i: i} do
        error = assert_raise Pythonx.Error, fn -> Interpreter.eval(i, "def f():\n  1/0\nf()", %{}) end

        assert Enum.join(error.lines) == """
               Traceback (most recent call last):
                 File "<string>", line 3, in <module>
                 File "<string>", line 2, in f
               ZeroDivisionError: division by zero
               """

        assert value!(i, "t is ZeroDivisionError and v.__traceback__ is tb", %{
                 "t" => error.type,
                 "v" => error.value,
                 "tb" => error.traceback
               })

        error = assert_raise Pythonx.Error, fn -> Interpreter.eval(i, "x = (", %{}) end
        assert hd(error.lines) == "  File \"<string>\", line 1\n"
        assert List.last(error.lines) == "SyntaxError: '(' was never closed\n"

        for {code, line} <- [
              {"await f()", "SyntaxError: 'await' outside function"},
              {"import sys; sys.exit(3)", "SystemExit: 3"},
              {"raise KeyboardInterrupt", "KeyboardInterrupt"},
              {"class E(Exception):\n  def __str__(self): raise ValueError\nraise E", "E: <exception str() failed>"}
            ] do
          assert last_line(fn -> Interpreter.eval(i, code, %{}) end) =~ line
        end
      end

      test "prints to the caller's devices, in order, before it returns", %{i: i} do
        device = start_device(:out)
        opts = [stdout_device: device, stderr_device: start_device(:err)]

        code = """
        import sys, threading
        print("a"); print("ż", end="")
        sys.stderr.write("e\\n")
        sys.stdout.write("\\udcff\\0\\n")
        t = threading.Thread(target=print, args=("thread",)); t.start(); t.join()
        """

        Interpreter.eval(i, code, %{}, opts)
        for text <- ["a\n", "ż", "\\udcff\0\n", "thread\n"], do: assert_receive({:device, :out, ^text})
        assert_receive {:device, :err, "e\n"}

        # A thread prints to the evaluation that started it.
        code =
          "import threading\ngo = threading.Event()\nt = threading.Thread(target=lambda: (go.wait(), print('late')))\nt.start()"

        {_none, globals} = Interpreter.eval(i, code, %{}, opts)
        Interpreter.eval(i, "go.set(); t.join()", Map.take(globals, ["go", "t"]), stdout_device: start_device(:other))
        assert_receive {:device, :out, "late"}
        assert_receive {:device, :out, "\n"}
        import ExUnit.CaptureIO
        assert capture_io(fn -> Interpreter.eval(i, "print('group leader')", %{}) end) == "group leader\n"
      end

      test "refuses options and names as Pythonx.eval/3 does", %{i: i} do
        assert_raise ArgumentError, ~r/unknown keys \[:foo\]/, fn -> Interpreter.eval(i, "1", %{}, foo: 1) end
        assert_raise ArgumentError, ~r/globals keys to be strings/, fn -> Interpreter.eval(i, "1", %{x: 1}) end
        assert_raise ArgumentError, ~r/expected :timeout/, fn -> Interpreter.eval(i, "1", %{}, timeout: -1) end
      end
    end

    describe "data" do
      test "goes in and comes out as it does elsewhere", %{i: i} do
        terms = [
          [0, -1, 2 ** 64, -(10 ** 5000), 1.5, nil, true, "text", "", <<255, 0>>, :atom, :żółw],
          {1, {2, []}, %{"k" => %{1 => [%{}]}}},
          MapSet.new([1, "a", {2}]),
          for(n <- 1..50, into: %{}, do: {"key#{n}", [n, n / 2]}),
          Enum.to_list(1..100_000),
          String.duplicate("ż", 100_000),
          :binary.copy(<<200>>, 2_000_000)
        ]

        for term <- terms do
          main = Pythonx.decode(Pythonx.encode!(term))
          assert value!(i, "x", %{"x" => term}) == main
        end

        assert value!(i, "[float('nan'), float('inf'), x]", %{"x" => "ż"}, binaries: :str) == [:nan, :infinity, "ż"]
        deep = Enum.reduce(1..100_000, [], fn _n, acc -> [acc] end)
        assert value!(i, "x", %{"x" => deep}) == deep
      end

      test "outlives the interpreter", %{i: i} do
        binaries = value!(i, "['a' * 10_000, b'b' * 10_000, {'c' * 600: 'ż' * 10_000}]")
        Interpreter.close(i)
        wide = String.duplicate("ż", 10_000)

        assert binaries == [
                 String.duplicate("a", 10_000),
                 String.duplicate("b", 10_000),
                 %{String.duplicate("c", 600) => wide}
               ]
      end

      test "with objects in it comes out with handles of the interpreter", %{i: i} do
        assert [1, %Pythonx.Object{} = object] = value!(i, "[1, object]")
        assert value!(i, "x is object", %{"x" => object})
        assert %Pythonx.Object{} = object = Pythonx.decode(object!(i, "len"))
        assert Interpreter.call(i, object, [[1, 2]], [], decode: true) == 2
      end

      test "that is none is refused with its place", %{i: i} do
        name = inspect(i.name)
        ref = make_ref()
        fun = fn -> 1 end

        for {term, path} <- [
              {self(), ~S'["x"]'},
              {fun, ~S'["x"]'},
              {ref, ~S'["x"]'},
              {~D[2024-01-31], ~S'["x"]'},
              {<<1::3>>, ~S'["x"]'},
              {[1 | 2], ~S'["x"]'}
            ],
            {wrap, inner} <- [{& &1, ""}, {&[0, %{"k" => {&1}}], ~S'[1]["k"][0]'}] do
          error = assert_raise ArgumentError, fn -> Interpreter.eval(i, "x", %{"x" => wrap.(term)}) end

          assert error.message ==
                   "#{path}#{inner}: the interpreter #{name} takes plain data only, got: #{inspect(term)}"
        end

        assert last_line(fn -> Interpreter.eval(i, "x", %{"x" => %{%{} => 1}}) end) =~
                 "unhashable type: 'dict'"

        assert last_line(fn -> Interpreter.eval(i, "x", %{"x" => <<255>>}, binaries: :str) end) =~ "UnicodeDecodeError"
      end

      test "that Elixir cannot hold is refused as elsewhere", %{i: i} do
        error = assert_raise ArgumentError, fn -> Pythonx.decode(object!(i, "x = []; x.append(x); x")) end
        assert error.message == "[0]: cannot decode a list that contains itself"
        assert_raise ArgumentError, ~r/are the same in Elixir/, fn -> value!(i, "{'a': 1, b'a': 2}") end
        assert_raise Pythonx.Error, ~r/UnicodeEncodeError/, fn -> value!(i, "'\\udcff'") end
      end
    end

    describe "call/5" do
      test "takes arguments and options as Pythonx.call/4 does", %{i: i} do
        f = object!(i, "lambda *args, **kwargs: (args, kwargs)")
        assert Interpreter.call(i, f, ["a", [nil]], [k: 1], decode: true) == {{"a", [nil]}, %{"k" => 1}}
        assert Interpreter.call(i, f, [f], %{"k" => "b"}) |> inspect() =~ "(<function <lambda> at "
        assert Interpreter.call(i, object!(i, "type"), ["a"], [], binaries: :bytes) |> inspect() =~ "<class 'bytes'>"

        assert last_line(fn -> Interpreter.call(i, f, [], [], []) && Interpreter.call(i, object!(i, "1"), []) end) =~
                 "not callable"

        assert_raise ArgumentError, ~r/expected :decode to be a boolean/, fn ->
          Interpreter.call(i, f, [], [], decode: 1)
        end

        assert_raise ArgumentError, ~r/expected kwargs to be/, fn -> Interpreter.call(i, f, [], [1]) end

        error = assert_raise ArgumentError, fn -> Interpreter.call(i, f, [1, [self()]]) end
        assert error.message =~ "[1][0]: the interpreter #{inspect(i.name)} takes plain data only, got: #PID<"
      end
    end

    describe "objects" do
      test "are decoded, shown and printed in their interpreter", %{i: i} do
        object = object!(i, "import pathlib; pathlib.PurePosixPath('/usr')")
        assert inspect(object) == "#Pythonx.Object<\n  [interpreter: #{i.name}]\n  PurePosixPath('/usr')\n>"
        assert "#{object}" == "/usr"
        assert Pythonx.decode(object) == object
        # In whichever process.
        assert Task.await(Task.async(fn -> "#{object}" end), 60_000) == "/usr"
        long = inspect(object!(i, "'a' * 100_000"))
        assert long =~ "... (the first 65536 of 100002 characters)"
        assert inspect(object!(i, "class A:\n  def __repr__(self): 1/0\nA()")) =~ "Inspect.Error"
        assert inspect(object!(i, "class A:\n  def __repr__(self): return '\\udcff'\nA()")) =~ "\\udcff"
      end

      test "of one interpreter are refused by another, by name", %{i: i} do
        other = Interpreter.create(name: "the other")
        object = object!(i, "len")
        name = inspect(i.name)
        hint = "What Pythonx.decode/1 makes of it can, if that is plain data"

        text =
          "the object belongs to the interpreter #{name} and cannot be used in the interpreter \"the other\". #{hint}"

        assert assert_raise(ArgumentError, fn -> Interpreter.call(other, object) end).message == text

        assert assert_raise(ArgumentError, fn -> Interpreter.eval(other, "x", %{"x" => object}) end).message ==
                 ~S'["x"]: ' <> text

        error = assert_raise ArgumentError, fn -> Interpreter.eval(other, "x", %{"x" => [%{"k" => object}]}) end
        assert error.message == ~S'["x"][0]["k"]: ' <> text
        identity = object!(other, "lambda x: x")

        assert assert_raise(ArgumentError, fn -> Interpreter.call(other, identity, [{object}]) end).message ==
                 "[0][0]: " <> text

        Interpreter.close(other)
      end

      test "of the main interpreter are refused, by name", %{i: i} do
        {object, _globals} = Pythonx.eval("[1]", %{})
        name = inspect(i.name)
        hint = "What Pythonx.decode/1 makes of it can, if that is plain data"
        text = "the object belongs to the main interpreter and cannot be used in the interpreter #{name}. #{hint}"
        assert assert_raise(ArgumentError, fn -> Interpreter.call(i, object) end).message == text
        error = assert_raise ArgumentError, fn -> Interpreter.eval(i, "x", %{"x" => {object}}) end
        assert error.message == ~S'["x"][0]: ' <> text
        # One that is no object any more.
        assert_raise ArgumentError, ~r/expected a resource reference/, fn ->
          Interpreter.eval(i, "x", %{"x" => %Pythonx.Object{resource: make_ref()}})
        end
      end

      test "are refused by the main interpreter, by name", %{i: i} do
        object = object!(i, "[1]")
        {list, _globals} = Pythonx.eval("[1]", %{})
        {identity, _globals} = Pythonx.eval("lambda *x: x", %{})
        hint = "What Pythonx.decode/1 makes of it can, if that is plain data"

        text =
          "the object belongs to the interpreter #{inspect(i.name)} and cannot be used in the main interpreter. #{hint}"

        for {fun, path} <- [
              {fn -> Pythonx.eval("x", %{"x" => object}) end, ""},
              {fn -> Pythonx.eval("x", %{"x" => [1, %{"a" => object}]}) end, ~S'[1]["a"]: '},
              {fn -> Pythonx.encode!(object) end, ""},
              {fn -> Pythonx.encode!(object, binaries: :str) end, ""},
              {fn -> Pythonx.encode!({object}) end, "[0]: "},
              {fn -> Pythonx.encode!(MapSet.new([object])) end, ~r/^\[member #Pythonx.Object/},
              {fn -> Pythonx.call(object) end, ""},
              {fn -> Pythonx.call(identity, [object]) end, "[1][0]: "},
              {fn -> Pythonx.call_method(object, :copy) end, ""},
              {fn -> Pythonx.getattr(object, :append) end, ""},
              {fn -> Pythonx.setattr(object, :a, 1) end, ""},
              {fn -> Pythonx.setattr(list, :a, object) end, "[1]: "},
              {fn -> Pythonx.getitem(object, 0) end, ""},
              {fn -> Pythonx.setitem(object, 0, 1) end, ""},
              {fn -> object[0] end, ""},
              {fn -> Enum.to_list(object) end, ""},
              {fn -> Enum.to_list(Pythonx.stream(object)) end, ""},
              {fn -> Pythonx.type(object) end, ""},
              {fn -> Pythonx.help(object) end, ""},
              {fn -> Pythonx.await(object) end, ""}
            ] do
          error = assert_raise ArgumentError, fun
          if is_binary(path), do: assert(error.message == path <> text), else: assert(error.message =~ path)
        end

        # An Elixir function that Python calls returns one.
        assert_raise ArgumentError, ~r/cannot be used in the main interpreter/, fn ->
          Pythonx.eval("f()", %{"f" => fn -> object end})
        end
      end

      test "are freed on the thread of their interpreter when their handles are collected", %{i: i} do
        code = """
        import sys, threading
        sys.freed = []
        class A:
            def __del__(self): sys.freed.append(threading.get_ident())
        """

        {nil, %{"A" => class}} = Interpreter.eval(i, code, %{})
        {_open, before} = Pythonx.NIF.interpreter_stats()
        Task.await(Task.async(fn -> Interpreter.eval(i, "A()", %{"A" => class}) && :ok end), 60_000)
        wait_until(fn -> value!(i, "import sys, threading; sys.freed == [threading.get_ident()]") end)
        wait_until(fn -> :erlang.garbage_collect() && elem(Pythonx.NIF.interpreter_stats(), 1) <= before end)
      end
    end

    describe "an import" do
      test "of what cannot be loaded says so and what to do, and harms nobody", %{i: i} do
        text =
          "the interpreter #{inspect(i.name)} has a GIL of its own and cannot load numpy._core._multiarray_umath, " <>
            "an extension module that does not support this. Use Pythonx.eval, or Pythonx.Pool for several processes"

        assert last_line(fn -> Interpreter.eval(i, "import numpy", %{}) end) == text
        # The main interpreter can import it, before and after.
        assert eval!("import numpy; float(numpy.ones(3).sum())") == 3.0
        assert last_line(fn -> Interpreter.eval(i, "import numpy", %{}) end) == text
        assert value!(i, "try:\n  import numpy\nexcept ImportError as e: r = type(e).__name__\nr") == "ImportError"
      end

      test "of most of the standard library works", %{i: i} do
        modules = ~w(json datetime decimal ssl sqlite3 asyncio socket multiprocessing hashlib pickle csv re
                     concurrent.futures subprocess array struct zlib uuid random statistics heapq xml.etree.ElementTree)
        for module <- modules, do: assert({nil, _globals} = Interpreter.eval(i, "import #{module}", %{}))
        assert value!(i, "import json; json.loads(json.dumps({'a': [1, None]}))") == %{"a" => [1, nil]}
        assert value!(i, "import asyncio\nasync def f():\n  await asyncio.sleep(0)\n  return 5\nasyncio.run(f())") == 5
        assert value!(i, "import subprocess; subprocess.run(['echo', 'a'], capture_output=True).stdout") == "a\n"
        assert value!(i, "import sys; sys.path") |> Enum.uniq() == eval!("import sys; sys.path") |> Enum.uniq()

        assert value!(i, "import sys; [sys.prefix, sys.executable]") ==
                 eval!("import sys; [sys.prefix, sys.executable]")
      end

      test "of pythonx gives a package that says what is missing", %{i: i} do
        line =
          "ImportError: pythonx.send is not available in the interpreter #{inspect(i.name)}: only the main " <>
            "interpreter, which Pythonx.eval uses, can call Elixir and send messages"

        for code <- ["import pythonx; pythonx.send", "from pythonx import send"] do
          assert last_line(fn -> Interpreter.eval(i, code, %{}) end) == line
        end

        assert value!(i, "import pythonx; hasattr(pythonx, 'nothing')") == false
      end

      test "does not allow daemon threads, fork and signal handlers", %{i: i} do
        daemon = "import threading; threading.Thread(target=print, daemon=True).start()"
        assert last_line(fn -> Interpreter.eval(i, daemon, %{}) end) =~ "daemon threads are disabled"
        assert last_line(fn -> Interpreter.eval(i, "import os; os.fork()", %{}) end) =~ "fork not supported"
        handler = "import signal; signal.signal(signal.SIGUSR1, print)"
        assert last_line(fn -> Interpreter.eval(i, handler, %{}) end) =~ "ValueError: signal only works in main thread"
      end
    end

    test "recursion without end is an exception", %{i: i} do
      assert last_line(fn -> Interpreter.eval(i, "def f(): f()\nf()", %{}) end) =~ "RecursionError"

      assert last_line(fn -> Interpreter.eval(i, "import json; json.loads('[' * 1_000_000)", %{}) end) =~
               "RecursionError"
    end

    describe "time" do
      test "that is over interrupts the code; the interpreter serves again, the mailbox is clean", %{i: i} do
        swallow = "for _ in range(2):\n  try:\n    while True: pass\n  except BaseException: pass"

        for code <- ["while True: pass", swallow, "while True:\n  try:\n    1\n  except Exception: pass"] do
          error = assert_raise Pythonx.TimeoutError, fn -> Interpreter.eval(i, code, %{}, timeout: 50) end
          assert error.timeout == 50
          assert value!(i, "sum(range(1000))") == 499_500
          refute_received _anything
        end
      end

      test "is over for one that waits in line, too", %{i: i} do
        task = start_running(i, "while True: pass", fn _error -> :interrupted end)
        assert_raise Pythonx.TimeoutError, fn -> Interpreter.eval(i, "1", %{}, timeout: 20) end
        assert Pythonx.interrupt(task.pid)
        assert Task.await(task, 60_000) == :interrupted
        assert value!(i, "1") == 1
        refute_received _anything
      end

      test "that is over late hits no innocent evaluation", %{i: i} do
        for n <- 1..200 do
          try do
            Interpreter.eval(i, "for _ in range(3000): pass", %{}, timeout: rem(n, 3))
          rescue
            Pythonx.TimeoutError -> :ok
          end

          assert value!(i, "sum(range(200))") == 19_900
        end
      end

      # Nearly all of this code is at places where interrupts are put off, for up to some seconds on a busy machine.
      @tag timeout: 300_000
      test "that is over in an import leaves the import system usable", %{i: i} do
        code =
          "import sys\nwhile True:\n  for name in ['json', 'json.decoder', 'json.scanner', 'csv']: sys.modules.pop(name, None)\n  import json, csv"

        for n <- 1..8 do
          assert_raise Pythonx.TimeoutError, fn -> Interpreter.eval(i, code, %{}, timeout: 3 * n) end
          assert value!(i, "import json, csv; json.loads('[1]')", %{}, timeout: 10_000) == [1]
        end
      end

      test "of a call is over", %{i: i} do
        f = object!(i, "def f():\n  while True: pass\nf")
        assert_raise Pythonx.TimeoutError, fn -> Interpreter.call(i, f, [], [], timeout: 20) end
        assert value!(i, "1") == 1
      end
    end

    describe "what runs" do
      test "is interrupted when its caller dies, and what waits never starts", %{i: i} do
        runner = start_running(i, "while True: pass")
        Process.unlink(runner.pid)
        waiting = spawn(fn -> Interpreter.eval(i, "import sys; sys.was_here = True", %{}) end)
        Process.exit(waiting, :kill)
        Process.exit(runner.pid, :kill)
        assert value!(i, "import sys; hasattr(sys, 'was_here')") == false
      end

      test "is listed and stopped by Pythonx.interrupt/1", %{i: i} do
        task = start_running(i, "while True: pass", &List.last(&1.lines))
        assert [%{interpreter: name, code: "print('started')"}] = running(task.pid)
        assert name == i.name
        assert Pythonx.interrupt(task.pid)
        assert Task.await(task, 60_000) == "KeyboardInterrupt\n"
        wait_until(fn -> Pythonx.running() == [] end)
        refute Pythonx.interrupt(self())
      end
    end

    describe "close/1" do
      test "outlives what is raised while files are flushed, SystemExit too", %{i: i} do
        code = """
        import io, sys
        sys.unraisablehook = lambda _: None
        class Raw(io.RawIOBase):
            def writable(self): return True
            def write(self, data): raise SystemExit(3)
        file = io.BufferedWriter(Raw())
        file.write(b"x"); pass
        """

        {nil, _globals} = Interpreter.eval(i, code, %{})
        assert Interpreter.close(i) == :ok
      end

      test "kills the handles, by name; closing again is fine", %{i: i} do
        object = object!(i, "[1, 2]")
        assert Interpreter.close(i) == :ok
        assert Interpreter.close(i) == :ok
        name = inspect(i.name)

        for fun <- [fn -> Pythonx.decode(object) end, fn -> "#{object}" end] do
          assert assert_raise(ArgumentError, fun).message == "the interpreter #{name} is closed, its objects are gone"
        end

        for fun <- [fn -> Interpreter.eval(i, "1", %{}) end, fn -> Interpreter.call(i, object) end] do
          assert assert_raise(ArgumentError, fun).message == "the interpreter #{name} is closed"
        end

        assert inspect(object) == "#Pythonx.Object<\n  [interpreter: #{i.name}, closed]\n>"
        assert_raise ArgumentError, ~r/belongs to the interpreter #{name}/, fn -> Pythonx.encode!(object) end
      end

      test "interrupts what runs and refuses what waits", %{i: i} do
        runner = start_running(i, "while True: pass", & &1)
        waiting = Task.async(fn -> assert_raise ArgumentError, fn -> Interpreter.eval(i, "1", %{}) end end)
        wait_until(fn -> match?({:status, :waiting}, Process.info(waiting.pid, :status)) end)
        assert Interpreter.close(i) == :ok
        name = inspect(i.name)
        assert %RuntimeError{message: message} = Task.await(runner, 60_000)
        assert message == "the interpreter #{name} was closed while this ran"
        assert Task.await(waiting, 60_000).message == "the interpreter #{name} is closed"
      end

      @tag :tmp_dir
      test "runs finalizers and atexit handlers, and ends threads", %{i: i, tmp_dir: dir} do
        code = """
        import atexit, threading, time, _thread
        from concurrent.futures import ThreadPoolExecutor
        def note(text):
            with open(path, "a") as file: file.write(text)
        class A:
            def __del__(self): note("finalizer,")
        a = A()
        atexit.register(note, "atexit,")
        def forever():
            while True: time.sleep(0.01)
        threading.Thread(target=forever).start()
        _thread.start_new_thread(forever, ())
        executor = ThreadPoolExecutor(2)
        executor.submit(pow, 2, 3).result()
        file = open(path + "2", "w")
        file.write("flushed")
        """

        path = Path.join(dir, "notes")
        Interpreter.eval(i, code, %{"path" => path}, binaries: :str)
        assert capture_log(fn -> Interpreter.close(i) end) == ""
        assert path |> File.read!() |> String.split(",", trim: true) |> Enum.sort() == ["atexit", "finalizer"]
        assert File.read!(path <> "2") == "flushed"
        wait_until(fn -> threads() == [] end)
      end

      # CPython cannot fork any more where an interpreter was left behind, so this is not for a VM with other tests.
      @tag :abandons_interpreter
      test "leaves a thread that cannot be stopped behind, and says so", %{i: i} do
        Interpreter.eval(i, "import threading, time\nthreading.Thread(target=time.sleep, args=(4,)).start()", %{})
        log = capture_log(fn -> assert Interpreter.close(i) == :ok end)
        assert log =~ "the interpreter #{inspect(i.name)} is closed, but threads of its code go on"
        assert eval!("1") == 1
      end
    end

    describe "an interpreter is closed" do
      @describetag :no_interpreter

      test "when its owner dies" do
        test = self()

        {owner, monitor} =
          spawn_monitor(fn ->
            send(test, {:interpreter, Interpreter.create()})
            receive do: (:stop -> :ok)
          end)

        assert_receive {:interpreter, i}
        object = object!(i, "1")
        send(owner, :stop)
        assert_receive {:DOWN, ^monitor, :process, ^owner, _reason}
        wait_until(fn -> inspect(object) =~ "closed" end)
      end

      test "not when a process dies that made it for another" do
        test = self()
        i = Task.await(Task.async(fn -> Interpreter.create(owner: test) end), 10_000)
        j = Task.await(Task.async(fn -> Interpreter.create(owner: nil) end), 10_000)
        assert {value!(i, "1"), value!(j, "2")} == {1, 2}
        Enum.each([i, j], &Interpreter.close/1)
      end

      test "when nothing refers to it, and not before" do
        wait_until(fn -> elem(stats(), 0) == 0 end)
        {0, handles} = stats()
        owner = self()
        # The handle alone keeps it open.
        object = Task.await(Task.async(fn -> object!(Interpreter.create(owner: owner), "[1, 2]") end), 10_000)
        :erlang.garbage_collect()
        assert Pythonx.decode(object) == [1, 2]
        # Fewer when handles of earlier tests are collected meanwhile.
        assert {1, with_object} = stats()
        assert with_object in 1..(handles + 1)
        refute inspect(object) =~ "closed"
        wait_until(fn -> match?({0, left} when left <= handles, stats()) end)
        wait_until(fn -> threads() == [] end)
      end
    end

    describe "many" do
      @describetag :no_interpreter
      @describetag timeout: 300_000

      test "in a row leave threads and handles where they were" do
        wait_until(fn -> elem(stats(), 0) == 0 end)
        {0, handles} = stats()

        for n <- 1..100 do
          i = Interpreter.create()
          assert value!(i, "import json; json.dumps([x])", %{"x" => n}) == "[#{n}]"
          assert Interpreter.close(i) == :ok
        end

        # Fewer handles when those of earlier tests are collected meanwhile.
        wait_until(fn -> match?({0, left} when left <= handles, stats()) end)
        wait_until(fn -> threads() == [] end)
      end

      test "at once, made and closed by many processes" do
        1..4
        |> Enum.map(fn n ->
          Task.async(fn ->
            for m <- 1..10 do
              i = Interpreter.create()
              assert value!(i, "sum(range(x))", %{"x" => m * n}) == div(m * n * (m * n - 1), 2)
              assert last_line(fn -> Interpreter.eval(i, "1/0", %{}) end) == "ZeroDivisionError: division by zero"
              Interpreter.close(i)
            end
          end)
        end)
        |> Task.await_many(120_000)

        assert eval!("1") == 1
      end

      test "work at the same time, which one lock would not allow" do
        # Each waits in a C call that keeps the lock, for the other to come there: neither would with a common one. What is
        # imported is imported before, as a free-threaded Python stops all others for that, which such a call does not let it.
        prepare = """
        import builtins, ctypes
        builtins.read = ctypes.PyDLL(None).read
        builtins.write = ctypes.PyDLL(None).write
        builtins.buffer = ctypes.create_string_buffer(1)
        """

        code = "write(out, b'x', 1)\nread(inp, buffer, 1)"

        if value!(Interpreter.create(), "import sys; sys.version_info[1]") >= 13 do
          [a, b, c, d] = eval!("import os; [*os.pipe(), *os.pipe()]")

          interpreters = for _ <- 1..2, do: Interpreter.create()
          for i <- interpreters, do: Interpreter.eval(i, prepare <> code, %{"inp" => a, "out" => b})

          tasks =
            for {i, {inp, out}} <- Enum.zip(interpreters, [{a, d}, {c, b}]) do
              Task.async(fn -> value!(i, code, %{"inp" => inp, "out" => out}, timeout: 10_000) end)
            end

          assert Task.await_many(tasks, 30_000) == [1, 1]
        end
      end
    end

    describe "the VM" do
      @describetag :no_interpreter
      @describetag :tmp_dir

      test "halts with live interpreters, which run their atexit handlers", %{tmp_dir: dir} do
        code = """
        :ok = Pythonx.maybe_init_from_env() |> then(fn _ -> :ok end)
        alias Pythonx.Interpreter
        i = Interpreter.create()
        Interpreter.eval(i, "f = open(p, 'w'); f.write('flushed'); import atexit; atexit.register(print, 'atexit')", %{"p" => #{inspect(Path.join(dir, "file"))}})
        for code <- ["while True: pass", "import time; time.sleep(60)"] do
          j = Interpreter.create(owner: nil)
          spawn(fn -> Interpreter.eval(j, code, %{}) end)
        end
        IO.puts("halting")
        System.halt(3)
        """

        paths = ["-pa", Path.join(Application.app_dir(:pythonx), "ebin")]
        program = "Application.ensure_all_started(:pythonx)\n" <> code
        env = Map.to_list(Pythonx.install_env())

        assert {output, 3} =
                 System.cmd(System.find_executable("elixir"), paths ++ ["-e", program],
                   env: env,
                   stderr_to_stdout: true
                 )

        assert output == "halting\natexit\n"
        assert File.read!(Path.join(dir, "file")) == "flushed"
      end
    end
  end
end
