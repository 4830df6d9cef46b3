defmodule Pythonx.ModulePoolTest do
  use Pythonx.Case, async: false

  alias Pythonx.Pool

  defmodule Remote do
    use Pythonx.Module,
      target: Pythonx.ModulePoolTest.Pool,
      text: ~PY"""
      import datetime, os
      from collections.abc import Iterator
      from dataclasses import dataclass, field

      @dataclass
      class Stay:
          first: datetime.date
          nights: int = 1
          tags: list[str] = field(default_factory=list)
          def last(self) -> datetime.date: return self.first + datetime.timedelta(days=self.nights)
      def longer(stay: Stay, by: int = 1) -> Stay: return Stay(stay.first, stay.nights + by, stay.tags)
      def days(stays: list[Stay]) -> Iterator[datetime.date]:
          for stay in stays: yield stay.first
      async def soon(day: datetime.date) -> datetime.date: return day
      class Counter:
          def __init__(self, start: int = 0): self.value = start
          def add(self, n: int = 1) -> "Counter":
              self.value += n
              return self
          @property
          def total(self) -> int: return self.value
      def where(): return os.getpid()
      def size(data: bytes) -> int:
          assert isinstance(data, bytes)
          return len(data)
      def shout(text: str, *, mark: str = "!") -> str: return text.upper() + mark
      def total(counter: Counter) -> int: return counter.value
      def numbers(n):
          for i in range(n): yield i
      async def later(x): return x
      """
  end

  defmodule Isolated do
    use Pythonx.Module, module: "statistics", only: [:mean], isolated: [size: 1, boot_timeout: 300_000]
  end

  setup_all do
    start_supervised!({Pool, name: Pythonx.ModulePoolTest.Pool, size: 1, boot_timeout: 300_000})
    :ok
  end

  test "the same functions run in the workers of a pool" do
    [%{os_pid: os_pid}] = Pool.info(Pythonx.ModulePoolTest.Pool).workers
    assert to_string(Remote.where()) == to_string(os_pid)
    refute to_string(Remote.where()) == System.pid()
    assert Remote.shout("ä", mark: "?") == "Ä?"
    assert Remote.size(<<255, 0>>) == 2
    assert 200 |> Remote.numbers() |> Enum.sum() == 19_900
    assert Remote.later(3) == 3
    assert raised(fn -> Remote.shout("a", mrak: "?") end).message == "shout does not take the keyword :mrak, but :mark"
  end

  test "objects stay in the worker" do
    alias Remote.Counter
    assert %Counter{object: %Pool.Object{}} = counter = Counter.new(start: 2)
    assert %Counter{} = Counter.add(counter, n: 3)
    assert Counter.total(counter) == 5
    assert Remote.total(counter) == 5
  end

  test "dates and dataclasses go there and back" do
    alias Remote.Stay
    stay = %Stay{first: ~D[2024-02-28], nights: 2}
    assert Remote.longer(stay, by: 2) == %Stay{first: ~D[2024-02-28], nights: 4, tags: []}
    assert Stay.last(stay) == ~D[2024-03-01]
    assert [stay] |> Remote.days() |> Enum.to_list() == [~D[2024-02-28]]
    assert Remote.soon(~D[2024-02-28]) == ~D[2024-02-28]
  end

  test "a module of its own pool starts it with the first call" do
    assert Process.whereis(Isolated.Pool) == nil
    assert Isolated.mean([1, 2, 3, 4]) == 2.5
    assert %{size: 1} = Pool.info(Isolated.Pool)
    DynamicSupervisor.terminate_child(Pythonx.Module.Pools, Process.whereis(Isolated.Pool))
  end
end
