defmodule Pythonx.LeftoversTest do
  # What code does to the interpreter under everybody's feet, each time in a VM of its own.
  use Pythonx.Case, async: false

  alias Pythonx.Peers

  setup do
    {peer, _node} = Peers.start!()
    %{peer: peer}
  end

  defp at(peer, code, globals \\ %{}), do: :peer.call(peer, Pythonx.Case, :eval!, [code, globals], 60_000)

  defp message(peer, code) do
    at(peer, code)
    flunk("nothing was raised")
  catch
    # An exception at the other node.
    :error, {:exception, error, _stack} -> Exception.message(error)
    :error, %{__struct__: Pythonx.Error} = error -> Exception.message(error)
    kind, reason -> flunk(inspect({kind, reason}))
  end

  # What evaluations and the other operations need of Python, the first use of most of it included.
  defp works(peer) do
    unique = System.unique_integer([:positive])
    assert at(peer, "#{unique} + 1") == unique + 1
    assert at(peer, "def f(): return #{unique}\nclass C: pass\nf()") == unique

    assert at(peer, "import colorsys, json, pythonx, sys\nprint('', end='')\n[json.dumps([1]), pythonx.whereis('x')]") ==
             ["[1]", nil]

    assert at(peer, "async def f(): return 5\nawait f()") == 5

    assert at(
             peer,
             "import threading\nr = []\nt = threading.Thread(target=r.append, args=(1,))\nt.start()\nt.join()\nr"
           ) == [1]

    assert at(peer, "import inspect\ndef f(): pass\ninspect.getsource(f)") == "def f(): pass\n"
    assert at(peer, "import pickle\nclass C: n = 3\npickle.loads(pickle.dumps(C())).n") == 3
    assert message(peer, "undefined_#{unique}") =~ "NameError: name 'undefined_#{unique}' is not defined"
    assert message(peer, "1 +") =~ "SyntaxError: invalid syntax"
    operations(peer)
  end

  defp operations(peer) do
    assert :peer.call(peer, Pythonx.LeftoversProbe, :operations, [], 60_000) == [3, ~D[2020-01-02], 4, [1, 2], ["x"]]
  end

  @again "import sys\nfor name in list(sys.modules):\n  if name.split('.')[0] in ('pythonx', '_pythonx'): del sys.modules[name]"

  describe "evaluations go on when code" do
    for {what, code} <- [
          {"removes the package", @again},
          {"removes modules that Python itself uses",
           "import sys\nfor name in ('__main__', 'sys', 'builtins', 'asyncio', 'linecache', 'traceback', 'threading', 'inspect', 'warnings', 'io', '_thread', '_imp', 'codecs', 'contextvars', 'pickle', '_frozen_importlib', 'importlib'): sys.modules.pop(name, None)"},
          {"removes all modules", "import sys\nsys.modules.clear()"},
          {"puts nonsense in the places of modules",
           "import sys\nfor name in ('pythonx._compile', 'pythonx._loop', 'pythonx._types'): sys.modules[name] = None"},
          {"sets sys.modules", "import sys\nsys.modules = {}"},
          {"deletes builtins",
           "import builtins\nfor name in ('print', 'compile', 'isinstance', 'len', '__build_class__', '__import__'): delattr(builtins, name)"},
          {"empties sys.meta_path", "import sys\nsys.meta_path.clear()"},
          {"empties sys.path_hooks",
           "import sys\nsys.path_hooks.clear()\nsys.path_importer_cache.clear()\ntry: import nothing_at_all\nexcept ImportError: pass"},
          {"sets what finds modules", "import sys\nsys.meta_path, sys.path_hooks, sys.path = None, (), None"},
          {"deletes what finds modules", "import sys\ndel sys.meta_path, sys.path_hooks, sys.path, sys.modules"},
          {"empties sys.path", "import sys\nsys.path.clear()"},
          {"lowers the recursion limit", "import sys\nsys.setrecursionlimit(40)"}
        ] do
      test what, %{peer: peer} do
        at(peer, unquote(code) <> "\nNone")
        works(peer)
        # And again, with everything loaded.
        at(peer, unquote(code) <> "\nNone")
        works(peer)
      end
    end

    test "reloads modules", %{peer: peer} do
      code = """
      import builtins, importlib, sys, threading
      import pythonx
      before = pythonx.ElixirError, sys.modules["pythonx._compile"]
      for name in ("pythonx", "pythonx._main", "pythonx._streams", "pythonx._compile", "sys", "builtins", "threading"):
          importlib.reload(importlib.import_module(name))
      before == (pythonx.ElixirError, sys.modules["pythonx._compile"])
      """

      assert at(peer, code)
      works(peer)
    end

    test "replaces __import__", %{peer: peer} do
      code = """
      import builtins
      def refuse(*args, **kwargs): raise ImportError("refused")
      builtins.__import__ = refuse
      import json
      """

      assert message(peer, code) =~ "ImportError: refused"
      works(peer)
      # While it is so for another evaluation.
      assert :peer.call(peer, Pythonx.LeftoversProbe, :while_imports_fail, [], 60_000) == [
               2,
               5,
               5,
               "NameError: name 'undefined' is not defined\n",
               true
             ]

      works(peer)
    end

    test "replaces other builtins", %{peer: peer} do
      code = """
      import builtins
      def refuse(*args, **kwargs): raise RuntimeError("refused")
      for name in "print open compile exec eval isinstance len getattr hasattr repr type".split():
          setattr(builtins, name, refuse)
      1
      """

      assert at(peer, code) == 1
      assert at(peer, "1 + 1") == 2
      assert at(peer, "class C: n = 5\nC().n") == 5
      assert message(peer, "undefined") =~ "NameError: name 'undefined' is not defined"
      assert message(peer, "print(1)") =~ "RuntimeError: refused"
      # Another evaluation may put them back.
      restore = "import builtins, pythonx\nbuiltins.__dict__.update(pythonx.__builtins__)\nNone"
      at(peer, restore)
      works(peer)
    end
  end

  describe "an evaluation ends" do
    test "its trace and profile functions", %{peer: peer} do
      code =
        "import sys\ncalls = []\nsys.settrace(lambda *args: calls.append(args))\nsys.setprofile(lambda *args: calls.append(args))\n"

      assert at(peer, code <> "def f(): pass\nf()\nlen(calls) > 0")
      assert message(peer, code <> "1/0") =~ "ZeroDivisionError"
      assert at(peer, "import sys\n[sys.gettrace(), sys.getprofile()]") == [nil, nil]
    end

    test "its switch interval, and a recursion limit that is low, not one that is high", %{peer: peer} do
      code = "import sys\n(sys.getswitchinterval(), sys.getrecursionlimit())"
      {interval, limit} = at(peer, code)
      at(peer, "import sys\nsys.setswitchinterval(50)\nsys.setrecursionlimit(60)\nNone")
      assert at(peer, code) == {interval, limit}
      at(peer, "import sys\nsys.setrecursionlimit(#{limit + 500})\nNone")
      assert at(peer, code) == {interval, limit + 500}
    end

    test "the same again, after others that have left nothing", %{peer: peer} do
      for _ <- 1..3,
          code <- [
            "import sys\nsys.meta_path.clear()",
            "import sys\nsys.path[:] = []",
            "import sys\nsys.__dict__['path_hooks'] = []",
            "import sys\ndel sys.__dict__['modules']",
            "import builtins\nbuiltins.__dict__['__import__'] = None",
            "import builtins\ndel builtins.__dict__['__import__']",
            "import sys\nsys.__dict__['stdout'] = None"
          ] do
        assert at(peer, code <> "\n1") == 1
        assert at(peer, "1") == 1
        assert at(peer, "import sys\nsys.modules.pop('colorsys', None)\nimport colorsys\nprint(end='')\n2") == 2
      end
    end

    test "none of what an evaluation around it has set", %{peer: peer} do
      assert :peer.call(peer, Pythonx.LeftoversProbe, :nested, [], 60_000) == [true, true]
    end
  end
end
