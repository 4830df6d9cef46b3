defmodule Pythonx.ModuleTest do
  use Pythonx.Case, async: false

  defmodule Statistics do
    use Pythonx.Module, module: "statistics"
  end

  defmodule Shapes do
    use Pythonx.Module, ~PY'''
    """Shapes."""
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
        def __secret(self): pass

    def add(a: int, b: int = 1, *, times: int = 1) -> int:
        "Adds.\n\n>>> add(1)\n2"
        return (a + b) * times
    def mirror(point: Point) -> Point:
        return Point(point.y, point.x, point.tags)
    def corners(size: Size) -> list[Point]:
        return [Point(0, 0), Point(size["width"], size["height"])]
    def double(size: Size) -> Size:
        return {key: 2 * value for key, value in size.items()}
    def count(n: int) -> Iterator[int]:
        yield from range(n)
    def days(first: datetime.date, n: int):
        for i in range(n):
            yield first + datetime.timedelta(days=i)
    def tomorrow(day: datetime.date) -> datetime.date:
        return day + datetime.timedelta(days=1)
    async def later(value: str, again: Optional[int] = None) -> str:
        return value * (again or 1)
    def size(data: bytes, encoding: Literal["hex", "raw"] = "raw") -> int:
        assert isinstance(data, bytes)
        return len(data)
    def join(first: str, *rest: str, sep: str = "-") -> str:
        return sep.join([first, *rest])
    def middle(a, b=2, *rest, c=3): return [a, b, list(rest), c]
    def only(a, b=2, c=object(), /): return [a, b]
    def anything(**options): return options
    def needs(*, key): return key
    def N(X, end=1, **kw): return X
    def fn(): return "fn"
    def max(a, b=0): return "own max"
    def maybe(flag: bool) -> Optional[Stack]:
        return Stack(1) if flag else None
    def _private(): pass
    class Broken(ValueError): pass
    '''
  end

  test "functions have the names, arities and documentation of Python's" do
    assert Statistics.mean([1, 2, 3, 4]) == 2.5
    assert Statistics.quantiles([1, 2, 3, 4, 5], n: 2) == [3.0]
    assert Shapes.add(1) == 2
    assert Shapes.add(1, b: 2, times: 3) == 9
    assert {:docs_v1, _, :elixir, _, _, _, _} = docs = docs(Shapes)

    assert doc(docs, :add, 2) ==
             "`my_app.add(a, b=1, *, times=1)`"
             |> String.replace("my_app", "pythonx_module_test_shapes")
             |> Kernel.<>("\n\nAdds.\n\n    >>> add(1)\n    2")
  end

  test "all of it" do
    assert Shapes.join("a", ["b", "c"], sep: "+") == "a+b+c"
    assert Shapes.join("a", []) == "a"
    assert Shapes.middle(1, []) == [1, 2, [], 3]
    assert Shapes.middle(1, [], b: 5) == [1, 5, [], 3]
    assert Shapes.middle(1, [9], c: 4) == [1, 2, [9], 4]
    assert Shapes.middle(1, [9], b: 5) == [1, 5, [9], 3]
    assert Shapes.only(1) == [1, 2]
    assert Shapes.only(1, b: 4) == [1, 4]
    assert Shapes.only(1, c: 4) == [1, 2]
    assert Shapes.anything(class: 1, end: 2) == %{"class" => 1, "end" => 2}
    assert Shapes.needs(key: 1) == 1
    assert Shapes.n("x", end: 1, more: 2) == "x"
    assert Shapes.fn() == "fn"
    assert Shapes.max(1) == "own max"
    refute function_exported?(Shapes, :_private, 0)
    assert Shapes.size(<<255, 0>>) == 2
    assert Shapes.tomorrow(~D[2024-02-28]) == ~D[2024-02-29]
    assert Shapes.later("ab") == "ab"
    assert Shapes.later("ab", again: 2) == "abab"
    assert Enum.to_list(Shapes.count(3)) == [0, 1, 2]
    assert [%Pythonx.Object{}, _] = Enum.to_list(Shapes.days(~D[2024-02-28], 2))
  end

  test "classes" do
    alias Shapes.{Point, Stack}
    assert Shapes.mirror(%Point{x: 1.0, y: 2.0}) == %Point{x: 2.0, y: 1.0, tags: []}
    assert Point.norm(%Point{x: 3.0, y: 4.0}) == 5.0
    assert Shapes.corners(%{width: 1, height: 2}) == [%Point{x: 0, y: 0, tags: []}, %Point{x: 1, y: 2, tags: []}]
    assert Shapes.double(%{width: 1, height: 2}) == %{width: 2, height: 4}
    assert %Stack{} = stack = Stack.new([1, 2], limit: 3)
    assert %Stack{} = Stack.push(stack, 5, times: 2)
    assert Stack.top(stack) == 5
    assert Stack.end(stack) == 1
    assert Stack.kind() == "stack"
    assert %Stack{} = Stack.of([1])
    assert Shapes.maybe(false) == nil
    assert %Stack{object: object} = Shapes.maybe(true)
    assert eval!("len(s)", %{"s" => %Stack{object: object}}) == 1
    assert %Statistics.NormalDist{} = dist = Statistics.NormalDist.new(mu: 1.5)
    assert Statistics.NormalDist.mean(dist) == 1.5
  end

  defp docs(module) do
    {:module, ^module, binary, _} = {:module, module, elem(:code.get_object_code(module) || {0, nil, 0}, 1), nil}
    if binary, do: nil
    Code.fetch_docs(module)
  end

  defp doc({:docs_v1, _, _, _, _, _, docs}, name, arity) do
    Enum.find_value(docs, fn
      {{:function, n, a}, _, _, %{"en" => text}, _} -> if {n, a} == {name, arity}, do: text
      _ -> nil
    end)
  end
end
