defmodule Pythonx.MultiprocessingTest do
  use Pythonx.Case, async: false

  defp message(fun), do: Exception.message(raised(fun))

  # Processes other than the one that looks after shared resources, which stays.
  defp children do
    {list, 0} = System.cmd("ps", ["-A", "-o", "ppid,args"])
    own = System.pid()

    for line <- String.split(list, "\n"),
        [^own, args] <- [String.split(String.trim(line), " ", parts: 2)],
        args =~ "multiprocessing" and not (args =~ "resource_tracker" or args =~ "forkserver"),
        do: args
  end

  for {kind, before} <- [{"cloudpickle", ""}, {"no cloudpickle", "import sys\nsys.modules['cloudpickle'] = None\n"}] do
    describe "with #{kind}" do
      @before before

      setup do
        on_exit(fn -> eval!("import sys\nsys.modules.pop('cloudpickle', None)\n0") end)
        eval!(@before <> "0")
        :ok
      end

      test "a pool runs functions of the evaluation, with what they use, and classes come back as what they are" do
        code = """
        import dataclasses, enum, functools, math
        from collections import namedtuple
        from multiprocessing import Pool
        factor = 3
        Pair = namedtuple("Pair", "a b")
        class Color(enum.Enum):
            RED = 1
        @dataclasses.dataclass
        class Point:
            x: int
            color: Color = Color.RED
            class Inner: pass
            def moved(self): return Point(self.x + helper(1))
        @functools.lru_cache
        def helper(n): return n * factor
        class Sub(Point):
            __slots__ = ()
        def work(point):
            assert isinstance(point, Point)
            return point.moved(), Sub(math.floor(2.5)), Pair(point, Color.RED), Point.Inner
        with Pool(1) as pool:
            (a, b, c, d), = pool.map(work, [Point(1)])
        [type(a) is Point and a.x == 4, type(b) is Sub and b.x == 2, type(c) is Pair and c.b is Color.RED, d is Point.Inner]
        """

        assert eval!(code) == [true, true, true, true]
      end

      test "a pool runs functions and takes objects of earlier evaluations" do
        {_, g} = Pythonx.eval("n = 5\nclass C:\n  k = 2\ndef f(c): return c.k * n\nc = C()", %{})
        code = "from multiprocessing import Pool\nwith Pool(1) as p: r = p.map(f, [c, c])\nr"
        assert eval!(code, Map.take(g, ["f", "c"])) == [10, 10]
        # Evaluations that give the same names to different things.
        {_, other} = Pythonx.eval("n = 7\nclass C:\n  k = 3\ndef f(c): return c.k * n\nc = C()", %{})

        code = """
        from multiprocessing import Pool
        with Pool(1) as p: r = [p.apply(f, (c,)), p.apply(g, (d,)), type(p.apply(copy, (d,))) is type(d), p.apply(f, (c,))]
        r
        """

        {copy, _} = Pythonx.eval("import copy\ncopy.copy", %{})
        globals = %{"f" => g["f"], "c" => g["c"], "g" => other["f"], "d" => other["c"], "copy" => copy}
        assert eval!(code, globals) == [10, 21, true, 10]
      end

      test "a pool sees globals as they are when the task is given" do
        code = """
        from multiprocessing import Pool
        n = 1
        def f(x): return x + n
        with Pool(1) as p:
            r = p.map(f, [1])
            n = 10
            r += p.map(f, [1])
        r
        """

        assert eval!(code) == [2, 11]
      end

      test "initializers, lambdas, closures and methods run" do
        code = """
        from multiprocessing import Pool
        state = {}
        def init(n): state["n"] = n
        def read(_): return 0
        def adder(k): return lambda x: x + k
        class C:
            def __init__(self, n): self.n = n
            def add(self, x): return self.n + x
        with Pool(1, initializer=init, initargs=(1,)) as p:
            r = [p.map(adder(2), [1]), p.map(C(3).add, [1]), list(p.imap(read, [1])), p.starmap(pow, [(2, 3)])]
        r
        """

        assert eval!(code) == [[3], [4], [0], [8]]
      end

      test "executors, processes, their subclasses and queues work" do
        code = """
        import multiprocessing as mp
        from concurrent.futures import ProcessPoolExecutor
        class Job:
            def __init__(self, n): self.n = n
        class Worker(mp.Process):
            def __init__(self, queue, job):
                super().__init__()
                self.queue, self.job = queue, job
            def run(self): self.queue.put(done(self.job))
        def done(job): return Job(job.n * 2)
        queue = mp.Queue()
        worker = Worker(queue, Job(2))
        worker.start()
        first = queue.get()
        worker.join()
        process = mp.Process(target=lambda: queue.put(Job(5)))
        process.start()
        second = queue.get()
        process.join()
        with ProcessPoolExecutor(1) as executor:
            third = executor.submit(done, Job(3)).result()
        [type(j) is Job and j.n for j in (first, second, third)] + [worker.exitcode, process.exitcode]
        """

        assert eval!(code) == [4, 5, 6, 0, 0]
      end

      test "the contexts of forkserver and spawn work" do
        code = """
        import multiprocessing as mp
        def f(x): return x * n
        n = 3
        results = []
        for method in ("forkserver", "spawn"):
            with mp.get_context(method).Pool(1) as pool: results += pool.map(f, [1])
        results
        """

        assert eval!(code) == [3, 3]
      end

      test "what a function raises is raised, also an exception of the evaluation" do
        code = """
        from multiprocessing import Pool
        class Wrong(Exception): pass
        def f(x): raise Wrong(x)
        with Pool(1) as p:
            try: p.map(f, [1])
            except Wrong as error: r = error.args
        r
        """

        assert eval!(code) == {1}
      end

      test "what cannot be sent is an error that says why" do
        for {define, says} <- [
              {"import threading\nlock = threading.Lock()\ndef f(x): return lock",
               "cannot pickle '_thread.lock' object"},
              {"def f(x): return call(x)", "pythonx.Function"}
            ] do
          code = "from multiprocessing import Pool\n#{define}\nwith Pool(1) as p: p.map(f, [1])"
          assert message(fn -> eval!(code, %{"call" => fn x -> x end}) end) =~ says
          code = "from multiprocessing import Process\n#{define}\nProcess(target=f, args=(1,)).start()"
          assert message(fn -> eval!(code, %{"call" => fn x -> x end}) end) =~ says

          code =
            "from concurrent.futures import ProcessPoolExecutor\n#{define}\nwith ProcessPoolExecutor(1) as e: e.submit(f, 1).result()"

          assert message(fn -> eval!(code, %{"call" => fn x -> x end}) end) =~ says
        end

        assert children() == []
      end
    end
  end

  test "without cloudpickle, the error names what cannot be sent, and what would help" do
    on_exit(fn -> eval!("import sys\nsys.modules.pop('cloudpickle', None)\n0") end)
    eval!("import sys\nsys.modules['cloudpickle'] = None\n0")

    code =
      "import threading\nfrom multiprocessing import Process\nlock = threading.Lock()\ndef f(): return lock\nProcess(target=f).start()"

    assert message(fn -> eval!(code) end) =~
             "cannot send function f to another process: it uses the global 'lock', and of that TypeError: cannot pickle '_thread.lock' object"

    code =
      "from multiprocessing import Process\ndef make():\n  class Local: pass\n  return Local\nProcess(target=print, args=(make(),)).start()"

    assert message(fn -> eval!(code) end) =~ "cannot send class make.<locals>.Local to another process"
    assert message(fn -> eval!(code) end) =~ "add cloudpickle to the dependencies"
  end

  describe "a pool whose workers cannot work ends with an error:" do
    @says "the workers of this multiprocessing pool cannot work: one has ended with exit code 1"
    # The child says on its standard error why it ends.
    @quiet "import os\ndef quiet(): os.dup2(os.open(os.devnull, os.O_WRONLY), 2)\n"

    test "an initializer that raises" do
      code =
        @quiet <>
          "from multiprocessing import Pool\ndef init(): quiet(); 1/0\nwith Pool(2, initializer=init) as p: p.map(abs, [1, 2])"

      assert message(fn -> eval!(code) end) =~ @says
      assert children() == []
    end

    test "what the worker cannot load, with every way to wait for it" do
      for wait <- [
            "p.map(f, [1])",
            "p.apply(f, (1,))",
            "list(p.imap(f, [1, 2]))",
            "list(p.imap_unordered(f, [1, 2]))",
            "p.map_async(f, [1]).get()"
          ] do
        code = """
        import sys, types
        from multiprocessing import Pool
        module = sys.modules["only_here"] = types.ModuleType("only_here")
        exec("def f(x): return x", module.__dict__)
        f = module.f
        try:
            with Pool(1, initializer=quiet) as p:
                #{wait}
        finally:
            del sys.modules["only_here"]
        """

        assert message(fn -> eval!(@quiet <> code) end) =~ @says
      end

      assert children() == []
    end

    test "and refuses what comes later" do
      code = """
      from multiprocessing import Pool
      def init(): quiet(); 1/0
      errors = []
      with Pool(1, initializer=init) as p:
          for _ in range(2):
              try: p.apply(abs, (1,))
              except RuntimeError as error: errors.append(str(error)[:11])
          p.close()
          p.join()
      errors
      """

      assert eval!(@quiet <> code) == ["the workers", "the workers"]
    end

    test "a result that cannot be loaded" do
      code = """
      from multiprocessing import Pool
      class Wrong(Exception):
          def __init__(self, a, b): super().__init__(a)
      def f(x): raise Wrong(x, x)
      with Pool(1) as p:
          try: p.map(f, [1])
          except TypeError as error: r = [str(error)]
          r += p.map(abs, [-1])
      r
      """

      assert [message, 1] = eval!(code)
      assert message =~ "missing 1 required positional argument: 'b'"
    end

    test "one whose workers end as they should goes on" do
      code =
        "from multiprocessing import Pool\nwith Pool(1, maxtasksperchild=1) as p: r = p.map(abs, [-1, -2, -3], chunksize=1)\nr"

      assert eval!(code) == [1, 2, 3]
    end
  end
end
