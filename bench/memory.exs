# Memory over a million evaluations: `make bench-memory`. Prints the resident memory of the process after some of them.
# Flat is what it should be after the first ten thousand: nothing may pile up in the compile cache, in the state of
# evaluations or in the handles of what they returned.

Pythonx.uv_init(:minimal)

defmodule Memory do
  def resident_kb do
    "/proc/self/status"
    |> File.read!()
    |> then(&Regex.run(~r/VmRSS:\s+(\d+) kB/, &1))
    |> Enum.at(1)
    |> String.to_integer()
  end

  def report(what) do
    :erlang.garbage_collect()
    Pythonx.eval("import gc; gc.collect(); pass", %{})
    {threads, handles} = Pythonx.NIF.stats()
    IO.puts("#{String.pad_trailing(what, 40)} #{resident_kb()} kB, #{threads} threads, #{handles} handles")
  end

  def run(from, to, fun) do
    Enum.each((from + 1)..to, fun)
  end
end

code = "x = [n, str(n)]\ny = {'k': x}\nlen(y)"
one = fn n -> Pythonx.eval(code, %{"n" => n}) end

for [from, to] <- Enum.chunk_every([0, 10_000, 100_000, 500_000, 1_000_000], 2, 1, :discard) do
  {us, _} = :timer.tc(fn -> Memory.run(from, to, one) end)
  Memory.report("#{to} evaluations")
  if to == 1_000_000, do: IO.puts("  (#{Float.round(us / (to - from), 2)} us each)")
end

for [from, to] <- Enum.chunk_every([0, 10_000, 100_000], 2, 1, :discard) do
  Memory.run(from, to, fn n -> Pythonx.eval("value_#{n} = #{n}", %{}) end)
  Memory.report("#{to} distinct sources")
end
