defmodule Pythonx.MainModuleTest do
  use Pythonx.Case, async: false

  # The globals of an evaluation, and what a later one makes of some of them.
  defp globals(code, given \\ %{}), do: code |> Pythonx.eval(given) |> elem(1)

  defp last_line(fun), do: fun |> raised() |> Map.fetch!(:lines) |> List.last()

  describe "a class or function of an earlier evaluation is pickled" do
    test "when only an instance was passed on" do
      g = globals("class C:\n  def __init__(self): self.n = 1\nc = C()")
      assert eval!("import pickle\npickle.loads(pickle.dumps(c)).n", Map.take(g, ["c"])) == 1
      assert eval!("import pickle\ntype(pickle.loads(pickle.dumps(other))) is type(other)", %{"other" => g["c"]})
    end

    test "without methods, deep in other objects, in another class, as an exception" do
      g =
        globals("""
        import collections, functools
        class Plain: pass
        class Outer:
            class Inner: pass
        def f(x): return x
        class Failed(Exception): pass
        kept = collections.OrderedDict(a=[(Plain(), Outer.Inner)], b=functools.partial(f, 2))
        """)

      code = """
      import pickle
      again = pickle.loads(pickle.dumps(kept))
      (type(again["a"][0][0]) is type(kept["a"][0][0]), again["a"][0][1] is kept["a"][0][1], again["b"]())
      """

      assert eval!(code, Map.take(g, ["kept"])) == {true, true, 2}
      error = raised(fn -> Pythonx.eval("class Failed(Exception): pass\nraise Failed(7)", %{}) end)
      assert eval!("import pickle\npickle.loads(pickle.dumps(e)).args", %{"e" => error.value}) == {7}
    end

    test "behind what wraps it" do
      g =
        globals("""
        import functools, typing
        @functools.lru_cache
        def cached(): return 1
        def wrapping(f):
            @functools.wraps(f)
            def wrapper(): return f() + 1
            return wrapper
        @wrapping
        def wrapped(): return 2
        NewType = typing.NewType("NewType", int)
        kept = [cached, wrapped, NewType]
        """)

      code = "import pickle\n[a is b for a, b in zip(pickle.loads(pickle.dumps(kept)), kept)]"
      assert eval!(code, Map.take(g, ["kept"])) == [true, true, true]
    end

    test "by a function that was passed on, with what it uses" do
      g = globals("import pickle\nclass C: pass\ndef again(): return type(pickle.loads(pickle.dumps(C()))).__name__")
      assert eval!("f()", %{"f" => g["again"]}) == "C"
      assert Pythonx.call(g["again"], [], [], decode: true) == "C"
    end

    test "by a call from Elixir" do
      g = globals("class C:\n  n = 3\nc = C()")
      pickle = Pythonx.import_module("pickle")
      bytes = Pythonx.call_method(pickle, :dumps, [[g["c"]]])
      # What loads it has nothing that leads to the class.
      assert last_line(fn -> Pythonx.call_method(pickle, :loads, [bytes]) end) =~ "attribute 'C'"
      assert eval!("import pickle\npickle.loads(bytes)[0].n", %{"bytes" => bytes, "c" => g["c"]}) == 3
    end

    test "by a thread, of the evaluation that started it" do
      code = """
      import pickle, threading
      found = []
      def work(): found.append(pickle.loads(pickle.dumps(c)).n)
      thread = threading.Thread(target=work)
      thread.start()
      thread.join()
      found
      """

      g = globals("class C:\n  n = 4\nc = C()")
      assert eval!(code, Map.take(g, ["c"])) == [4]
    end

    test "under its own name before one of an earlier evaluation" do
      g = globals("class C: n = 1\nc = C()")
      code = "import pickle\nclass C: n = 2\n(pickle.loads(pickle.dumps(C())).n, type(c).n)"
      assert eval!(code, Map.take(g, ["c"])) == {2, 1}
    end
  end

  describe "names of a stranger's evaluation" do
    setup do
      test = self()

      stranger =
        spawn_link(fn ->
          {_, g} = Pythonx.eval("import pickle\nclass Secret: key = 1\nsecret = 2\nbytes = pickle.dumps(Secret())", %{})
          send(test, {:globals, g})
          receive do: (:end -> g)
        end)

      assert_receive {:globals, g}, 10_000
      on_exit(fn -> send(stranger, :end) end)
      %{g: g}
    end

    test "are not found", %{g: g} do
      code =
        "import __main__, sys\n[hasattr(m, n) for m in (__main__, sys.modules['__main__']) for n in ('Secret', 'secret')]"

      assert eval!(code) == [false, false, false, false]

      assert last_line(fn -> eval!("import pickle\npickle.loads(bytes)", Map.take(g, ["bytes"])) end) =~
               "attribute 'Secret'"
    end

    test "are not found by code that no evaluation is known of" do
      code = """
      import _thread, __main__
      def look(): found.append((hasattr(__main__, "Secret"), hasattr(__main__, "mine"), "Secret" in vars(__main__)))
      found, mine, lock = [], 1, _thread.allocate_lock()
      lock.acquire()
      _thread.start_new_thread(lambda: (look(), lock.release()), ())
      lock.acquire()
      found
      """

      assert eval!(code) == [{false, true, false}]
      getattr = Pythonx.getattr(Pythonx.import_module("builtins"), :getattr)
      main = Pythonx.getitem(Pythonx.getattr(Pythonx.import_module("sys"), :modules), "__main__")

      assert last_line(fn -> Pythonx.call(getattr, [main, Pythonx.encode!("Secret", binaries: :str)]) end) =~
               "no attribute 'Secret'"

      assert Pythonx.decode(Pythonx.getattr(main, :__name__)) == "__main__"

      assert Pythonx.decode(Pythonx.call(Pythonx.getattr(Pythonx.import_module("builtins"), :dir), [main])) --
               eval!("sorted(globals())") == []
    end

    test "are found in what was passed on", %{g: g} do
      assert eval!("import __main__\n__main__.Secret.key", %{"x" => g["Secret"]}) == 1
      assert eval!("import pickle\npickle.loads(bytes).key", Map.take(g, ["bytes", "Secret"])) == 1
    end
  end

  describe "annotations that are text" do
    @code """
    from __future__ import annotations
    import dataclasses
    @dataclasses.dataclass
    class A: n: int
    class Plain: a: A
    @dataclasses.dataclass
    class B: a: A
    def f(a: A) -> B: pass
    """

    test "are resolved in later evaluations" do
      for name <- ["B", "Plain", "f"] do
        code = "import typing\ntyping.get_type_hints(x)['a'].__name__"
        assert eval!(code, %{"x" => globals(@code)[name]}) == "A"
      end
    end

    test "are resolved though only the class is left of its evaluation" do
      class = from_process(fn -> globals(@code)["Plain"] end)
      eval!("import gc\ngc.collect()\n0")
      assert eval!("import inspect\nrepr(inspect.get_annotations(x, eval_str=True))", %{"x" => class}) =~ "__main__.A"
    end

    test "are resolved with names of the evaluation that asks" do
      g = globals("import dataclasses\nclass P:\n  q: 'Q'")
      assert eval!("import typing\nclass Q: pass\ntyping.get_type_hints(P)['q'] is Q", Map.take(g, ["P"]))
    end

    test "are resolved along a class's bases, of several evaluations" do
      g = globals("class A: pass\nclass Base:\n  a: 'A'")

      code = """
      import typing
      class A: "Another."
      class Sub(Base):
          b: "A"
      hints = typing.get_type_hints(Sub)
      (hints["a"] is A, hints["b"] is A, typing.get_type_hints(Base)["a"] is A)
      """

      assert eval!(code, Map.take(g, ["Base"])) == {false, true, false}
    end

    test "may be those of a dataclass of both" do
      g = globals(@code)

      code = """
      import dataclasses
      @dataclasses.dataclass
      class C(B):
          c: "B | None" = None
      dataclasses.astuple(C(a=B(a=1)))
      """

      assert eval!(code, Map.take(g, ["B"])) == {{1}, nil}
    end
  end

  describe "inspect.getsource" do
    @define """
    import functools, asyncio

    def plain(x):  # a comment
        return x

    @functools.lru_cache
    def decorated():
        def inner(): pass
        return inner

    square = lambda x: x * x

    class A:
        n = 1

    class B:
        class Inner:
            m = 2
        @property
        def p(self):
            return 1
        async def method(self):
            pass
    b = B()
    """

    @sources [
      {"plain", "def plain(x):  # a comment\n    return x\n"},
      {"decorated", "@functools.lru_cache\ndef decorated():\n    def inner(): pass\n    return inner\n"},
      {"decorated()", "    def inner(): pass\n"},
      {"square", "square = lambda x: x * x\n"},
      {"A", "class A:\n    n = 1\n"},
      {"B.Inner", "    class Inner:\n        m = 2\n"},
      {"B.method", "    async def method(self):\n        pass\n"},
      {"b.method", "    async def method(self):\n        pass\n"},
      {"B.p.fget", "    @property\n    def p(self):\n        return 1\n"}
    ]

    test "finds what the evaluation defines" do
      for {what, text} <- @sources, do: assert(eval!(@define <> "import inspect\ninspect.getsource(#{what})") == text)
    end

    test "finds what an earlier evaluation has defined" do
      g = globals(@define)
      for {what, text} <- @sources, do: assert(eval!("import inspect\ninspect.getsource(#{what})", g) == text)
      # The class alone, of which nothing but an instance was passed on.
      assert eval!("import inspect\ninspect.getsource(type(b)).startswith('class B:')", Map.take(g, ["b"]))
      assert eval!("import inspect\ninspect.getsource(A)", Map.take(g, ["A"])) == "class A:\n    n = 1\n"
    end

    test "finds the text of that very code, whoever else has compiled the like" do
      [one, two] = for n <- [1, 2], do: globals("def f(x): return x # #{n}\nclass C: a = 1 # #{n}")

      for {g, n} <- [{one, 1}, {two, 2}] do
        assert eval!("import inspect\ninspect.getsource(f)", g) == "def f(x): return x # #{n}\n"
        assert eval!("import inspect\ninspect.getsource(C)", g) == "class C: a = 1 # #{n}\n"
      end

      code = "class C:\n  def f(self): return 1\nD = C\nclass C: pass"

      assert eval!("import inspect\n(inspect.getsource(D), inspect.getsource(C))", globals(code)) ==
               {"class C:\n  def f(self): return 1\n", "class C: pass\n"}
    end

    test "finds the text of Elixir code's ~PY, also when another has taken its lines" do
      [first, second] =
        for n <- [1, 2] do
          {_, binding} =
            Code.eval_string("import Pythonx\n~PY\"\"\"\ndef f():\n  return #{n}\n\"\"\"\nf", [], file: "some.exs")

          binding[:f]
        end

      assert eval!("import inspect\ninspect.getsource(f)", %{"f" => first}) == "def f():\n  return 1\n"
      assert eval!("import inspect\ninspect.getsource(f)", %{"f" => second}) == "def f():\n  return 2\n"
    end

    test "finds nothing of what has no text" do
      for code <- [
            "exec('def f(): pass')\ninspect.getsource(f)",
            "inspect.getsource(type('C', (), {'__module__': '__main__'}))"
          ] do
        assert last_line(fn -> eval!("import inspect\n" <> code) end) =~ ~r/^OSError: .*source/
      end
    end

    test "works when inspect is imported anew" do
      code =
        "import importlib, inspect, sys\nsys.modules.pop('inspect', None)\nimport inspect\nimportlib.reload(inspect)\ndef f(): pass\ninspect.getsource(f)"

      assert eval!(code) == "def f(): pass\n"
    end

    test "keeps no text of what is gone" do
      # A million evaluations of as many sources would not fit into memory: a few large ones tell.
      before = resident_memory()

      for n <- 1..600 do
        Pythonx.eval("#" <> String.duplicate("x", 1_000_000) <> "\ndef f#{n}(): return #{n}\nclass C: pass", %{})
      end

      :erlang.garbage_collect()
      eval!("import gc\ngc.collect()\n0")
      # What the cache of code keeps: 32 MiB, and the text of it as Python's.
      assert resident_memory() - before < 300_000_000
    end
  end

  test "tracebacks still show no line of the code" do
    code =
      "import inspect, linecache, traceback\ndef f(): 1/0\ntry:\n  f()\nexcept Exception:\n  inspect.getsource(f)\n  text = traceback.format_exc()\ntext"

    assert eval!(code) == """
           Traceback (most recent call last):
             File "<string>", line 4, in <module>
             File "<string>", line 2, in f
           ZeroDivisionError: division by zero
           """
  end

  test "linecache finds the text by the globals of an evaluation" do
    g = globals("x = 1\ndef f(): pass")

    assert eval!("import linecache\nlinecache.getline('<string>', 2, f.__globals__)", Map.take(g, ["f"])) ==
             "def f(): pass\n"

    assert eval!("import linecache\nlinecache.getline('<string>', 1)") == ""
  end

  test "doctest runs the examples of functions of earlier evaluations" do
    g = globals("def f(x):\n  '''\n  >>> f(1)\n  2\n  '''\n  return x + 1")
    assert eval!("import doctest\ntuple(doctest.testmod())[:2]", g) == {0, 1}
  end

  # In a process of its own: its handles go with it.
  defp from_process(fun) do
    test = self()
    {_pid, monitor} = spawn_monitor(fn -> send(test, {:made, fun.()}) end)
    assert_receive {:made, made}, 10_000
    assert_receive {:DOWN, ^monitor, :process, _, :normal}
    made
  end

  test "what a class holds is not asked for attributes, which may run its code" do
    code = """
    class Lazy:
        def __getattr__(self, name): raise RuntimeError(name)
    class D: pass
    class C:
        lazy = Lazy()
        x: 'D'
        @property
        def y(self): return 1
    """

    class = globals(code) |> Map.take(["C"])
    assert eval!("import typing\ntyping.get_type_hints(C)['x'].__name__", class) == "D"
  end

  # From 3.14 on a class has a function that evaluates its annotations, and that has all globals.
  @tag skip: Pythonx.Case.python_minor() >= 14 && "up to Python 3.13"
  test "a class keeps what its annotations name, and nothing else of its evaluation" do
    {class, refs} =
      from_process(fn ->
        {_, g} = Pythonx.eval("class Held: pass\nheld = Held()\nclass C:\n  a: 'Held'", %{})

        {refs, _} =
          Pythonx.eval("import weakref\n[weakref.ref(held), weakref.ref(Held)]", Map.take(g, ["held", "Held"]))

        {g["C"], refs}
      end)

    wait_until(fn -> eval!("import gc\ngc.collect()\nrefs[0]() is None", %{"refs" => refs}) end)
    assert eval!("refs[1]() is not None", %{"refs" => refs})
    assert eval!("C.__name__", %{"C" => class}) == "C"
  end

  test "a class goes when nothing holds it, with what its annotations name" do
    ref =
      from_process(fn ->
        {ref, _} = Pythonx.eval("import weakref\nclass A: pass\nclass C:\n  a: 'A'\nweakref.ref(C)", %{})
        ref
      end)

    wait_until(fn -> eval!("import gc\ngc.collect()\nref() is None", %{"ref" => ref}) end)
  end
end
