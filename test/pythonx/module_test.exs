defmodule Pythonx.ModuleTest do
  use Pythonx.CompileCase, async: false

  alias Pythonx.Module.Names

  doctest Pythonx.Module.Names

  @moduletag :tmp_dir

  defmodule Statistics do
    use Pythonx.Module, module: "statistics", only: [:mean, :quantiles, "NormalDist"]
  end

  defmodule Shapes do
    use Pythonx.Module, ~PY'''
    import datetime
    from collections.abc import Iterator
    from dataclasses import dataclass, field
    from typing import Literal, Optional, TypedDict

    @dataclass
    class Point:
        "A point."
        x: float
        y: float = 0.0
        tags: list[str] = field(default_factory=list)

        def norm(self) -> float:
            return (self.x ** 2 + self.y ** 2) ** 0.5

    class Size(TypedDict):
        width: int
        height: int

    class Stack:
        "A stack."
        def __init__(self, *items, limit: int = 10) -> None:
            self.items, self.limit = list(items), limit
        def push(self, item, /, times: int = 1) -> "Stack":
            self.items += [item] * times
            return self
        @property
        def top(self):
            return self.items[-1]
        @classmethod
        def of(cls, items: list) -> "Stack":
            return cls(*items)
        @staticmethod
        def kind() -> str:
            return "stack"
        def end(self): return self.items[0]
        def __len__(self): return len(self.items)
        def _secret(self): pass

    def add(a: int, b: int = 1, *, times: int = 1) -> int:
        """Adds two numbers.

        >>> add(1)
        2
        """
        return (a + b) * times
    def mirror(point: Point) -> Point:
        return Point(point.y, point.x, point.tags)
    def corners(size: Size) -> list[Point]:
        return [Point(0, 0), Point(size["width"], size["height"])]
    def double(size: Size) -> Size:
        return {key: 2 * value for key, value in size.items()}
    def count(n: int) -> Iterator[int]:
        yield from range(n)
    def days(first: datetime.date, n: int) -> Iterator[datetime.date]:
        for i in range(n):
            yield first + datetime.timedelta(days=i)
    async def ticks(n):
        for i in range(n):
            yield i
    def tomorrow(day: datetime.date) -> datetime.date:
        return day + datetime.timedelta(days=1)
    def year(day): return day.year, datetime.date(day.year, 1, 1)
    async def later(value: str, again: Optional[int] = None) -> str:
        return value * (again or 1)
    def size(data: bytes, more: bytes = b"", encoding: Literal["hex", "raw"] = "raw") -> int:
        assert isinstance(data, bytes) and isinstance(more, bytes)
        return len(data + more)
    def join(first: str, *rest: str, sep: str = "-") -> str:
        return sep.join([first, *rest])
    def middle(a, b=2, *rest, c=3): return [a, b, list(rest), c]
    def only(a, b=2, c=object(), /): return [a, b]
    def anything(**options): return options
    def needs(*, key): return key
    def maybe(flag: bool) -> Optional[Stack]:
        return Stack(1) if flag else None
    def pairs() -> dict[str, list[Stack]]: return {"a": [Stack(1)]}
    def fail(): raise ValueError("no")
    def _private(): pass
    class Broken(ValueError): pass
    '''
  end

  # As in guides/modules.md.
  defmodule Shop do
    use Pythonx.Module, ~PY"""
    from dataclasses import dataclass

    @dataclass
    class Item:
        name: str
        price: float = 1.0

    class Basket:
        def __init__(self, *items: Item): self.items = list(items)
        def add(self, item: Item) -> "Basket":
            self.items.append(item)
            return self
        @property
        def total(self) -> float: return sum(item.price for item in self.items)
        def dearest(self) -> Item: return max(self.items, key=lambda item: item.price)
    """
  end

  defmodule Odd do
    use Pythonx.Module, ~PY"""
    def N(X, end=1, **kw): return [X, end, kw]
    def Abs(x): return 1
    def abs(x): return 2
    def fn(): return "fn"
    def end(): return "end"
    def unquote(x): return x
    def quote(do): return do
    def max(a, b=0): return "own max"
    def module_info(): return "own"
    def größe(ä, __class__=3): return ä
    def self(opts, opts_=1): return opts
    """
  end

  describe "functions" do
    test "take what is required as arguments, and the rest as keywords" do
      assert Statistics.mean([1, 2, 3, 4]) == 2.5
      assert Statistics.quantiles([1, 2, 3, 4, 5], n: 2) == [3.0]
      assert Shapes.add(1) == 2
      assert Shapes.add(1, b: 2, times: 3) == 9
      assert Shapes.needs(key: 1) == 1
      assert Shapes.anything(class: 1, end: 2) == %{"class" => 1, "end" => 2}
      assert Shapes.anything() == %{}

      assert Statistics.__info__(:functions) |> Keyword.take([:mean, :quantiles, :median]) == [
               mean: 1,
               quantiles: 1,
               quantiles: 2
             ]
    end

    test "take further arguments as a list" do
      assert Shapes.join("a", ["b", "c"], sep: "+") == "a+b+c"
      assert Shapes.join("a", []) == "a"
      assert Shapes.middle(1, []) == [1, 2, [], 3]
      assert Shapes.middle(1, [], b: 5) == [1, 5, [], 3]
      assert Shapes.middle(1, [9], c: 4) == [1, 2, [9], 4]
      assert Shapes.middle(1, [9], b: 5) == [1, 5, [9], 3]

      assert raised(fn -> Shapes.join("a", "b") end).message ==
               ~s|expected the last argument of join to be the list of its further arguments, got: "b"|
    end

    test "take what Python wants by its place" do
      assert Shapes.only(1) == [1, 2]
      assert Shapes.only(1, b: 4) == [1, 4]
      assert Shapes.only(1, c: 4) == [1, 2]
      assert Shapes.only(1, b: 3, c: 4) == [1, 3]
    end

    test "refuse other keywords" do
      assert raised(fn -> Shapes.add(1, c: 2) end) == %ArgumentError{
               message: "add does not take the keyword :c, but :b, :times"
             }

      assert raised(fn -> apply(Shapes, :needs, [[]]) end) == %ArgumentError{message: "needs needs the keyword :key"}

      assert raised(fn -> Shapes.add(1, %{b: 2}) end).message ==
               "expected the keywords of add to be a keyword list, got: %{b: 2}"
    end

    test "raise what Python raises" do
      assert %Pythonx.Error{lines: lines} = raised(fn -> Shapes.fail() end)
      assert List.last(lines) == "ValueError: no\n"
      # The line is that of this file.
      [line] = for {text, line} <- Enum.with_index(File.stream!(__ENV__.file), 1), text =~ ~r/^    def fail/, do: line
      assert Enum.join(lines) =~ ~s|File "test/pythonx/module_test.exs", line #{line}, in fail|
    end

    test "return what their hints say" do
      assert Shapes.tomorrow(~D[2024-02-28]) == ~D[2024-02-29]
      assert {2024, %Pythonx.Object{}} = Shapes.year(~D[2024-02-28])
      assert Shapes.size(<<255, 0>>) == 2
      assert Shapes.size(<<255, 0>>, more: <<254>>, encoding: "hex") == 3
      assert Shapes.later("ab") == "ab"
      assert Shapes.later("ab", again: 2) == "abab"
      assert Enum.to_list(Shapes.count(3)) == [0, 1, 2]
      assert Enum.to_list(Shapes.days(~D[2024-02-28], 2)) == [~D[2024-02-28], ~D[2024-02-29]]
      assert 5 |> Shapes.ticks() |> Enum.take(2) == [0, 1]
      assert Shapes.double(%{width: 1, height: 2}) == %{width: 2, height: 4}
    end

    test "of other names are there as well" do
      assert Odd.n("x", end: 1, more: 2) == ["x", 1, %{"more" => 2}]
      assert Odd.abs(1) == 2
      assert apply(Odd, :Abs, [1]) == 1
      assert Odd.fn() == "fn"
      assert Odd.unquote_(1) == 1
      assert Odd.quote(1) == 1
      assert Odd.max(1) == "own max"
      assert Odd.module_info_() == "own"
      assert Odd.größe(1, __class__: 2) == 1
      assert Odd.self(1) == 1
      refute function_exported?(Shapes, :_private, 0)
      assert Names.plain?(:mean)
    end
  end

  test "options say how results without a hint are decoded, and how long a call may take", %{tmp_dir: dir} do
    text =
      "import datetime, time\\ndef day(): return datetime.date(2024, 1, 31)\\ndef wait(s): time.sleep(s)\\ndef f(): pass"

    {[{module, _}], []} = compile(~s|use Pythonx.Module, text: "#{text}", types: :rich, timeout: 50, except: [:f]|, dir)
    assert module.day() == ~D[2024-01-31]
    assert %Pythonx.TimeoutError{timeout: 50} = raised(fn -> module.wait(60) end)
    refute function_exported?(module, :f, 0)
  end

  describe "classes" do
    test "are structs around an object" do
      alias Shapes.Stack
      assert %Stack{} = stack = Stack.new([1, 2], limit: 3)
      assert %Stack{} = Stack.push(stack, 5, times: 2)
      assert {Stack.top(stack), Stack.end(stack), Stack.kind()} == {5, 1, "stack"}
      assert %Stack{object: object} = Stack.of([1])
      # They are what they hold, wherever they go, and a method takes the object itself.
      assert eval!("len(s), len(l[0])", %{"s" => stack, "l" => [stack]}) == {4, 4}
      assert Stack.top(object) == 1
      assert Shapes.maybe(false) == nil
      assert %Stack{} = Shapes.maybe(true)
      assert %{"a" => [%Stack{}]} = Shapes.pairs()
      refute function_exported?(Stack, :_secret, 1)
      assert 1.5 == [mu: 1.5] |> Statistics.NormalDist.new() |> Statistics.NormalDist.mean()
      refute Code.ensure_loaded?(Shapes.Broken)
    end

    test "work with each other, as in the guide" do
      alias Shop.{Basket, Item}
      basket = Basket.new([%Item{name: "bread", price: 2.5}])
      assert basket |> Basket.add(%Item{name: "milk"}) |> Basket.total() == 3.5
      assert Basket.dearest(basket) == %Item{name: "bread", price: 2.5}
    end

    test "are structs of their fields where they are dataclasses" do
      alias Shapes.Point
      assert Shapes.mirror(%Point{x: 1.0, y: 2.0}) == %Point{x: 2.0, y: 1.0, tags: []}
      assert Shapes.mirror(%Point{x: 1, tags: ["a"]}) == %Point{x: 0.0, y: 1, tags: ["a"]}
      assert Point.norm(%Point{x: 3.0, y: 4.0}) == 5.0
      assert Shapes.corners(%{width: 1, height: 2}) == [%Point{x: 0, y: 0, tags: []}, %Point{x: 1, y: 2, tags: []}]
      assert_raise ArgumentError, ~r/the following keys must also be given .* \[:x\]/, fn -> struct!(Point, y: 1) end
    end
  end

  test "a text that is compiled again takes the place of the old", %{tmp_dir: dir} do
    body =
      &"use Pythonx.Module, text: \"class C:\\n  def m(self): return #{&1}\\ndef f(): return #{&1}\", as: \"again\""

    {_modules, _warnings} = compile(body.(1), dir, "Again")
    stack = apply(Again.C, :new, [])
    assert {apply(Again, :f, []), apply(Again.C, :m, [stack])} == {1, 1}
    {_modules, _warnings} = compile(body.(2), dir, "Again")
    assert {apply(Again, :f, []), apply(Again.C, :m, [stack])} == {2, 2}
  end

  test "a file outside of priv is compiled in, and recompiled when it changes", %{tmp_dir: dir} do
    file = Path.join(dir, "outside.py")
    File.write!(file, "def where(): return __file__")
    {[{module, binary}], []} = compile("use Pythonx.Module, file: #{inspect(file)}", dir)
    File.rm!(file)
    assert module.where() == Path.relative_to_cwd(file)
    {:ok, {_module, [attributes: attributes]}} = :beam_lib.chunks(binary, [:attributes])
    assert attributes[:external_resource] == [file]
  end

  test "a file in priv/python is imported from there, as a module of its package", %{tmp_dir: dir} do
    app = :"own_app_#{System.unique_integer([:positive])}"
    project = Path.join(dir, to_string(app))
    for folder <- ["ebin", "priv/python/own_pack"], do: File.mkdir_p!(Path.join(project, folder))

    File.write!(Path.join(project, "mix.exs"), """
    defmodule OwnApp#{System.unique_integer([:positive])} do
      use Mix.Project
      def project, do: [app: #{inspect(app)}, version: "0.1.0"]
    end
    """)

    File.write!(Path.join(project, "priv/python/own_pack/__init__.py"), "factor = 3")
    file = Path.join(project, "priv/python/own_pack/inner.py")
    File.write!(file, "from . import factor\ndef scale(x): return factor * x")
    File.write!(Path.join(project, "priv/python/statistics.py"), "def mine(): return 1")
    Code.prepend_path(Path.join(project, "ebin"))
    on_exit(fn -> Code.delete_path(Path.join(project, "ebin")) end)

    {inner, shadowed} =
      Mix.Project.in_project(app, project, fn _module ->
        {[{inner, _}], []} = compile(~s|use Pythonx.Module, file: "priv/python/own_pack/inner.py"|, dir)
        {[{shadowed, _}], []} = compile(~s|use Pythonx.Module, file: "priv/python/statistics.py"|, dir)
        {inner, shadowed}
      end)

    assert inner.scale(2) == 6
    assert eval!("import sys; sys.modules['own_pack.inner'].__file__") == file

    # The file is found after the standard library.
    assert raised(fn -> shadowed.mine() end).message =~
             ~r"^the Python module statistics is .*/statistics.py, not #{project}/priv/python/statistics.py: two modules cannot have one name, so the file needs another$"

    # In development, a changed file counts before the next call.
    Pythonx.Reloader.enable()
    on_exit(&Pythonx.Reloader.disable/0)
    File.write!(file, "from . import factor\ndef scale(x): return factor * x + 1")
    assert inner.scale(2) == 7
  end
end
