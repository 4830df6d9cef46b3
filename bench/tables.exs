# What tables cost: 10,000,000 rows of five columns from polars to Elixir and back, beside what pandas and polars themselves
# take to make Python lists of the same data.
#
#     mix run bench/tables.exs [rows]
#
# Each work runs five times in a process of its own, and the best counts.

defmodule Pythonx.Bench.Tables do
  alias Pythonx.Table

  @types [{"i", {:s, 64}}, {"f", {:f, 64}}, {"g", {:f, 64}}, {"k", {:s, 32}}, {"d", {:s, 64}}]

  def run(rows) do
    frame = frame(rows)
    table = Pythonx.table(frame)
    columns = Table.to_columns(table, as: :binaries)
    IO.puts("#{rows} rows, #{length(table.names)} columns: #{inspect(table)}\n")

    row("polars to Pythonx.Table", time(fn -> Pythonx.table(frame) end))
    row("raw values of all columns, as binaries", time(fn -> Table.to_columns(table, as: :binaries) end))
    row("binaries to Pythonx.Table", time(fn -> Table.new(columns, types: @types) end))
    built = Table.new(columns, types: @types)
    row("Pythonx.Table to polars", time(fn -> eval("pl.DataFrame(t)", %{"t" => built}) end))
    row("all four: there and back", time(fn -> there_and_back(frame) end))

    lists = time(fn -> Table.to_columns(table) end)
    row("columns as Elixir lists", lists)
    row("rows as Elixir maps, of a tenth of them", time(fn -> Table.to_rows(Table.slice(table, 0, div(rows, 10))) end))

    pandas = eval("f.to_pandas()", %{"f" => frame})
    python = time_python("f.to_dict('list')", pandas)
    row("pandas' to_dict('list')", python)
    row("polars' to_dict(as_series=False)", time_python("f.to_dict(as_series=False)", frame))

    row(
      "pandas' to_dict('records'), of a tenth of them",
      time_python("f.to_dict('records')", eval("f.head(len(f) // 10)", %{"f" => pandas}))
    )

    IO.puts("\nElixir lists : pandas' to_dict('list') = #{Float.round(lists / python, 2)}")
  end

  defp there_and_back(frame) do
    columns = frame |> Pythonx.table() |> Table.to_columns(as: :binaries)
    eval("pl.DataFrame(t)", %{"t" => Table.new(columns, types: @types)})
  end

  defp frame(rows) do
    eval(
      """
      r = np.random.default_rng(1)
      pl.DataFrame({
          "i": np.arange(n), "f": r.random(n), "g": r.random(n), "k": r.integers(0, 100, n, dtype=np.int32),
          "d": r.integers(0, 2**60, n),
      })
      """,
      %{"n" => rows}
    )
  end

  defp eval(code, globals) do
    {result, _globals} = Pythonx.eval("import numpy as np, polars as pl\n" <> code, globals)
    result
  end

  defp time(fun), do: best(fn -> fun |> :timer.tc() |> elem(0) end)

  # Without the time of the evaluation around it.
  defp time_python(expression, frame) do
    code = "import time\nstart = time.perf_counter()\nresult = #{expression}\n(time.perf_counter() - start) * 1e6"
    best(fn -> code |> eval(%{"f" => frame}) |> Pythonx.decode() end)
  end

  defp best(measure) do
    Enum.min(
      for _ <- 1..5 do
        {pid, ref} = spawn_monitor(fn -> exit({:took, measure.()}) end)

        receive do
          {:DOWN, ^ref, :process, ^pid, {:took, us}} -> us
          {:DOWN, ^ref, :process, ^pid, reason} -> exit(reason)
        end
      end
    )
  end

  defp row(name, us) do
    IO.puts(
      String.pad_trailing(name, 48) <> String.pad_leading(:erlang.float_to_binary(us / 1000, decimals: 3), 12) <> " ms"
    )
  end
end

Pythonx.uv_init(:data_science, python: System.get_env("PYTHONX_TEST_PYTHON"))
{version, _globals} = Pythonx.eval("import sys; sys.version", %{})
IO.puts("CPython #{Pythonx.decode(version)}, OTP #{System.otp_release()}, Elixir #{System.version()}")

rows = System.argv() |> List.first("10_000_000") |> String.replace("_", "") |> String.to_integer()
Pythonx.Bench.Tables.run(rows)
