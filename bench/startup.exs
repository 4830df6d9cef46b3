# Where the time goes from `Pythonx.uv_init/2` to the first result in a fresh VM, when the environment and the bridge are in
# the cache: `make bench-startup`. Beside it, what `python -c pass` takes in that environment.
#
# Each round starts a VM that does nothing else, for the totals; one in which the calls of the steps are traced, after the
# modules have been loaded, for their shares; and Python. ROUNDS=n changes how many there are. Shown are the median and the
# best of all rounds, in milliseconds.

defmodule Pythonx.Bench.Startup do
  @rounds String.to_integer(System.get_env("ROUNDS", "11"))
  @target_ms 150

  # Indented ones are parts of those above.
  @steps [
    {"  find the environment", {Pythonx.Uv.Fetch, :run!, 1}},
    {"  read what to start from", {Pythonx.Uv.Environment, :load!, 1}},
    {"  settle it where it is", {Pythonx.Uv.Environment, :settle, 2}},
    {"  open libpython", {Pythonx.NIF.Loader, :open, 1}},
    {"  find the bridge", {Pythonx.Boot.Bridge, :ensure!, 2}},
    {"  load the bridge", {Pythonx.NIF, :load, 1}},
    {"  start Python", {Pythonx.NIF, :nif_init, 4}}
  ]

  def main do
    # Fills the cache.
    Pythonx.uv_init(:minimal)
    {result, _globals} = Pythonx.eval("import sys; sys.version.split()[0]", %{})
    python = Pythonx.install_paths() |> List.last() |> Path.join(".venv/bin/python")
    rounds = for _round <- 1..@rounds, do: Map.merge(in_fresh_vms(), %{python: run_python(python)})
    IO.puts("CPython #{Pythonx.decode(result)}, #{@rounds} rounds, milliseconds\n")
    print(rounds)
  end

  defp run_python(python), do: fn -> {_, 0} = System.cmd(python, ["-c", "pass"]) end |> :timer.tc() |> elem(0)

  defp in_fresh_vms, do: Map.merge(in_fresh_vm(for {_name, call} <- @steps, do: call), in_fresh_vm([]))

  defp in_fresh_vm(calls) do
    ebin = Path.join(Application.app_dir(:pythonx), "ebin")
    script = Path.join(__DIR__, "startup/fresh_vm.exs")
    {output, 0} = System.cmd("elixir", ["-pa", ebin, script], env: [{"PYTHONX_BENCH_CALLS", inspect(calls)}])
    output |> String.trim() |> Base.decode64!() |> :erlang.binary_to_term()
  end

  defp print(rounds) do
    row("", ["median", "best"])
    row("start the application", figures(rounds, & &1.application))
    row("load the modules (traced VM only)", figures(rounds, & &1.modules))
    row("uv_init", figures(rounds, & &1.uv_init))
    for {name, call} <- @steps, do: row(name, figures(rounds, &Map.fetch!(&1, call)))
    row("the first evaluation", figures(rounds, & &1.eval))
    row("both", both = figures(rounds, &(&1.uv_init + &1.eval)))
    row("python -c pass", python = figures(rounds, & &1.python))
    row("beyond python -c pass", [beyond | _best] = Enum.zip_with(both, python, &Kernel.-/2))

    IO.puts(
      "\ntarget: at most #{@target_ms} beyond python -c pass: #{if beyond <= @target_ms, do: "met", else: "missed"}"
    )
  end

  defp figures(rounds, fun) do
    sorted = rounds |> Enum.map(fun) |> Enum.sort()
    for us <- [Enum.at(sorted, div(length(sorted), 2)), hd(sorted)], do: us / 1000
  end

  defp row(name, cells), do: IO.puts(String.pad_trailing(name, 34) <> Enum.map_join(cells, &cell/1))

  defp cell(number) when is_float(number), do: cell(:erlang.float_to_binary(number, decimals: 1))
  defp cell(text), do: String.pad_leading(text, 9)
end

Pythonx.Bench.Startup.main()
