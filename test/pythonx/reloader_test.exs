defmodule Pythonx.ReloaderTest do
  use Pythonx.Case, async: false

  import ExUnit.CaptureLog

  alias Pythonx.Reloader

  @moduletag :tmp_dir

  setup %{tmp_dir: dir} do
    Reloader.enable([dir])
    on_exit(&Reloader.disable/0)
  end

  # A module of its own for each test, as modules stay.
  defp module!(dir, source) do
    name = "reloaded_#{System.unique_integer([:positive])}"
    write!(dir, name, source)
    {name, Pythonx.import_module(name)}
  end

  defp write!(dir, name, source) do
    # Two versions may have one size and be written within one tick of the clock of the file system.
    n = System.unique_integer([:positive])
    File.write!(Path.join(dir, name <> ".py"), source)
    File.touch!(Path.join(dir, name <> ".py"), 1_700_000_000 + n)
  end

  defp call(module, name, args \\ []), do: Pythonx.call_method(module, name, args, [], decode: true)

  test "a changed file is loaded again before the next call", %{tmp_dir: dir} do
    {name, module} = module!(dir, "def f(): return 1\ndef gone(): return 0\nkept = [1]")
    assert call(module, :f) == 1
    write!(dir, name, "def f(): return 2\ndef added(): return f() + 1")
    assert call(module, :f) == 2
    assert call(module, :added) == 3
    assert Pythonx.getattr(module, :kept, decode: true) == [1]
    assert raised(fn -> call(module, :gone) end).lines |> List.last() =~ "has no attribute 'gone'"
    # It is the same module, for whoever imports it by whatever way.
    assert eval!(
             "import #{name}\nfrom #{name} import f\n(#{name} is m, #{name}.f(), f(), sorted(vars(m)) == dir(m))",
             %{
               "m" => module
             }
           ) == {true, 2, 2, true}
  end

  test "before an evaluation, too", %{tmp_dir: dir} do
    {name, _module} = module!(dir, "value = 1")
    assert eval!("import #{name}; #{name}.value") == 1
    write!(dir, name, "value = 2")
    assert eval!("import #{name}; #{name}.value") == 2
  end

  test "instances get the new methods, and stay instances", %{tmp_dir: dir} do
    {name, module} =
      module!(dir, """
      class Base:
          def who(self): return "base"
      class Shape(Base):
          sides = 3
          def __init__(self, size): self.size = size
          def area(self): return 1
          def old(self): return True
      default = Shape(1)
      """)

    shape = Pythonx.call_method(module, :Shape, [2])
    assert call(shape, :area) == 1

    write!(dir, name, """
    class Base:
        def who(self): return "new base"
    class Shape(Base):
        sides = 4
        def __init__(self, size): self.size = size * 2
        def area(self): return self.size * self.half
        def who(self): return super().who() + "!"
        @property
        def half(self): return self.size / 2
        @classmethod
        def make(cls): return cls(5)
        @staticmethod
        def zero(): return 0
    default = Shape(1)
    """)

    assert call(shape, :area) == 2
    assert call(shape, :who) == "new base!"
    assert Pythonx.getattr(shape, :sides, decode: true) == 4
    assert raised(fn -> call(shape, :old) end).lines |> List.last() =~ "no attribute 'old'"

    assert eval!(
             "isinstance(s, m.Shape), isinstance(m.default, m.Shape), m.Shape.make().size, s.zero(), m.Shape.__mro__[1] is m.Base",
             %{
               "m" => module,
               "s" => shape
             }
           ) == {true, true, 10, 0, true}
  end

  test "what has other slots, or is an enum, takes the place of the old class", %{tmp_dir: dir} do
    {name, module} =
      module!(dir, "import enum\nclass S:\n  __slots__ = ('a',)\nclass E(enum.Enum):\n  A = 1\ns = S()\n")

    old = Pythonx.getattr(module, :s)
    write!(dir, name, "import enum\nclass S:\n  __slots__ = ('a', 'b')\nclass E(enum.Enum):\n  A = 1\n  B = 2\n")
    assert eval!("[e.name for e in m.E]", %{"m" => module}) == ["A", "B"]
    assert eval!("isinstance(s, m.S)", %{"m" => module, "s" => old}) == false
  end

  test "files that import from a changed one have the new", %{tmp_dir: dir} do
    {name, _module} = module!(dir, "def f(): return 'old'\nclass C:\n  def g(self): return 'old'")
    {_other, other} = module!(dir, "from #{name} import f, C\ndef both(): return f(), C().g()")
    assert call(other, :both) == {"old", "old"}
    write!(dir, name, "def f(): return 'new'\nclass C:\n  def g(self): return 'new'")
    assert call(other, :both) == {"new", "new"}
  end

  test "a reload that fails says why and keeps the old", %{tmp_dir: dir} do
    {name, module} = module!(dir, "state = 1\nclass C:\n  def m(self): return 'old'\ndef f(): return state, C().m()")
    write!(dir, name, "state = 2\nclass C:\n  def m(self): return 'new'\ndef f(): return 3\n1 / 0\n")
    log = capture_log(fn -> assert call(module, :f) == {1, "old"} end)
    assert log =~ "the Python module #{name} was not loaded again, and goes on as it was:"
    assert log =~ "line 5, in <module>"
    assert log =~ "ZeroDivisionError: division by zero"
    refute log =~ "_reload.py"
    # It is said once.
    assert capture_log(fn -> assert call(module, :f) == {1, "old"} end) == ""

    write!(dir, name, "def f(:\n")
    assert capture_log(fn -> assert call(module, :f) == {1, "old"} end) =~ "SyntaxError: invalid syntax"

    write!(dir, name, "def f(): return 4\n")
    assert capture_log(fn -> assert call(module, :f) == 4 end) == ""
  end

  test "a file that is gone, or cannot be read for a moment, stays loaded", %{tmp_dir: dir} do
    {name, module} = module!(dir, "def f(): return 1")
    File.rm!(Path.join(dir, name <> ".py"))
    assert call(module, :f) == 1
    write!(dir, name, "def f(): return 2")
    assert call(module, :f) == 2
  end

  test "a call that runs while its module is reloaded ends with the code it began with", %{tmp_dir: dir} do
    {name, module} =
      module!(dir, """
      def slow(wait):
          first = helper()
          wait()
          return first, helper(), [helper() for _ in range(2)]
      def numbers():
          for _ in range(3):
              yield helper()
      def helper(): return "old"
      """)

    test = self()

    wait = fn ->
      send(test, {:waits, self()})
      receive do: (:go -> nil)
    end

    generator = Pythonx.call_method(module, :numbers)
    task = Task.async(fn -> call(module, :slow, [wait]) end)
    assert_receive {:waits, waiting}
    write!(dir, name, "def slow(wait): return 'new'\ndef helper(): return 'new'\n")
    assert call(module, :slow, [nil]) == "new"
    send(waiting, :go)
    assert Task.await(task, :infinity) == {"old", "old", ["old", "old"]}
    assert Enum.to_list(generator) == ["old", "old", "old"]
  end

  test "a module that waits for Elixir while it is loaded again keeps nobody from calling", %{tmp_dir: dir} do
    {name, module} = module!(dir, "ask = None\ndef f(): return 1")
    Pythonx.setattr(module, :ask, fn -> call(module, :f) end)
    write!(dir, name, "answer = ask()\ndef f(): return answer + 1")
    # The function in Elixir calls Python again, where the file is being loaded.
    assert call(module, :f) == 2
  end

  test "modules can be changed from outside, as others", %{tmp_dir: dir} do
    {name, module} = module!(dir, "limit = 1\ndef f(): return limit\ndef __getattr__(name): return name.upper()")
    write!(dir, name, "limit = 2\ndef f(): return limit\ndef __getattr__(name): return name.title()")
    assert call(module, :f) == 2
    Pythonx.setattr(module, :limit, 3)
    assert call(module, :f) == 3
    assert Pythonx.getattr(module, :missing, decode: true) == "Missing"
    eval!("del m.limit\nm.x = 1\n0", %{"m" => module})

    assert eval!("m.limit, m.x, m.__name__, repr(m).startswith('<module')", %{"m" => module}) ==
             {"Limit", 1, name, true}

    assert eval!("import importlib, pickle\npickle.loads(pickle.dumps(m.f)) is importlib.reload(m).f, m.f()", %{
             "m" => module
           })
           |> elem(1) == 2
  end

  test "a thousand reloads leave nothing behind", %{tmp_dir: dir} do
    source = fn n ->
      """
      import functools
      class C:
          data = #{inspect(String.duplicate("x", 1000))} * #{n}
          def m(self): return super().__repr__(), #{n}
      @functools.lru_cache
      def cached(): return #{n}
      def f(): return #{n}, cached(), C().m()[1]
      """
    end

    {name, module} = module!(dir, source.(0))
    instance = Pythonx.call_method(module, :C)

    reload = fn range ->
      for n <- range do
        write!(dir, name, source.(rem(n, 10)))
        assert call(module, :f) == {rem(n, 10), rem(n, 10), rem(n, 10)}
      end

      assert call(instance, :m) |> elem(1) == rem(range.last, 10)
      eval!("import gc\ngc.collect()\nlen(gc.get_objects()), len(m.C.__mro__[1].__subclasses__())", %{"m" => module})
    end

    {objects, classes} = reload.(1..100)
    {later, classes_later} = reload.(101..1000)
    # The rest of the VM is at work too, and lets go of what earlier tests have left.
    assert later - objects < 300
    assert classes_later - classes < 5
  end
end

defmodule Pythonx.ReloaderDocTest do
  use ExUnit.Case, async: false

  doctest Pythonx.Reloader
end
