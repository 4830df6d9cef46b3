# What interpreters of Pythonx.Interpreter give and cost: the figures of guides/interpreters.md.
#
#     mix run bench/interpreters.exs
#
# Each job is some 0.5 s of pure Python. One job alone is compared with two at the same time, in the main interpreter and in
# interpreters of their own; the best of ten rounds each, in turns.

unless Pythonx.NIF.initialized?(), do: Pythonx.uv_init(:minimal)

defmodule Interpreters do
  alias Pythonx.Interpreter

  @job "total = 0\nfor n in range(6_000_000): total += n * n % 7\ntotal"
  @rounds 10

  def run do
    [a, b] = for _ <- 1..2, do: Interpreter.create()
    main = fn -> Pythonx.eval(@job, %{}) end
    in_a = fn -> Interpreter.eval(a, @job, %{}) end
    in_b = fn -> Interpreter.eval(b, @job, %{}) end

    [one, main_two, own_one, own_two] = best([[main], [main, main], [in_a], [in_a, in_b]])
    IO.puts("one job in the main interpreter:         #{ms(one)}")
    IO.puts("two at once in the main interpreter:     #{ms(main_two)}  #{speed_up(one, main_two)}")
    IO.puts("one job in an interpreter of its own:    #{ms(own_one)}")
    IO.puts("two at once in interpreters of their own: #{ms(own_two)}  #{speed_up(own_one, own_two)}")
    overhead(a)
    Enum.each([a, b], &Interpreter.close/1)
    life()
  end

  defp best(cases) do
    rounds = for _ <- 1..@rounds, do: Enum.map(cases, &time/1)
    rounds |> Enum.zip_with(&Enum.min/1)
  end

  defp time(funs) do
    {us, _} = :timer.tc(fn -> funs |> Enum.map(&Task.async/1) |> Task.await_many(:infinity) end)
    us
  end

  defp overhead(interpreter) do
    [main, own] =
      best_of(fn -> Pythonx.eval("1", %{}) end, fn -> Interpreter.eval(interpreter, "1", %{}) end, 2000)

    IO.puts("eval of \"1\": #{us(main)} in the main interpreter, #{us(own)} in another")
  end

  defp best_of(main, own, count) do
    rounds =
      for _ <- 1..@rounds do
        for fun <- [main, own], do: time([fn -> for(_ <- 1..count, do: fun.()) end]) / count
      end

    rounds |> Enum.zip_with(&Enum.min/1)
  end

  defp life do
    before = resident()
    {create, list} = :timer.tc(fn -> for _ <- 1..20, do: Interpreter.create() end)
    grown = (resident() - before) / 20
    {close, _} = :timer.tc(fn -> Enum.each(list, &Interpreter.close/1) end)

    IO.puts("create: #{ms(create / 20)}, close: #{ms(close / 20)}, memory of each: #{Float.round(grown / 1024, 1)} MB")
    before = resident()
    for _ <- 1..100, do: Interpreter.close(Interpreter.create())
    IO.puts("memory that is lost with each that is closed: #{Float.round((resident() - before) / 100 / 1024, 2)} MB")
  end

  # In KiB.
  defp resident do
    [_all, kib] = Regex.run(~r/VmRSS:\s+(\d+) kB/, File.read!("/proc/self/status"))
    String.to_integer(kib)
  end

  defp ms(us), do: "#{Float.round(us / 1000, 1)} ms"
  defp us(us), do: "#{Float.round(us / 1, 1)} us"
  defp speed_up(one, two), do: "#{Float.round(2 * one / two, 2)} times the work of one"
end

Interpreters.run()
