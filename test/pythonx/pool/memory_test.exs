defmodule Pythonx.Pool.MemoryTest do
  # Where the system does not enforce a limit. That it does on Linux is tested in crash_test.exs.
  use ExUnit.Case, async: true

  alias Pythonx.Pool.Memory

  test "a worker that is seen above its limit is ended, with a sentence, and not before" do
    {:ok, uses} = Agent.start_link(fn -> [100, 1099, 1100, 1101] end)
    used = fn -> Agent.get_and_update(uses, &{hd(&1), tl(&1)}) end

    assert Memory.watch({100, 1000}, look_ms: 0, used: used, on_excess: & &1) ==
             "the worker uses 1001 bytes more than when it was ready, :max_memory is 1000"

    assert Agent.get(uses, & &1) == []
  end
end
