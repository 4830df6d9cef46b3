# Three jobs in four places: which kind of parallelism helps which kind of work. `make bench-parallel`.
#
#     one       one after another, in the Python of this VM
#     threads   as many Elixir processes at once, in the Python of this VM
#     pool      a Pythonx.Pool with a worker for each core
#     nodes     as many nodes on this machine, by Pythonx.remote_eval/4
#
# The pool for what sleeps has as many workers as there are sleepers at a time in it. Each is measured a few times, by
# turns, and the best counts. ROUNDS=n says how often.
Logger.configure(level: :error)

defmodule Parallel do
  alias Pythonx.Pool

  @rounds String.to_integer(System.get_env("ROUNDS", "5"))
  @cores 2

  @python "total = 0\nfor n in range(6_000_000): total += n * n\ntotal"
  # Large operations, for which numpy lets the lock go.
  @numpy "import numpy as np\na = np.arange(2_000_000, dtype=float)\nfor _ in range(20): b = np.sin(a)\nfloat(b[1])"
  @sleep "import time\ntime.sleep(0.05)"

  def run do
    Pythonx.uv_init(:numpy)
    {:ok, pool} = Pool.start_link(size: @cores)
    {:ok, wide} = Pool.start_link(size: 10)
    nodes = start_nodes()
    wait_until_idle([pool, wide])
    here = fn code -> Pythonx.eval(code, %{}) end
    in_pool = fn pool -> fn code -> Pool.eval(pool, code, %{}) end end

    places = fn pool ->
      [
        {"one", fn code, count -> Enum.each(1..count, fn _ -> here.(code) end) end},
        {"threads", at_once(fn code, _n -> here.(code) end)},
        {"pool", at_once(fn code, _n -> in_pool.(pool).(code) end)},
        {"nodes", at_once(fn code, n -> Pythonx.remote_eval(Enum.at(nodes, rem(n, @cores)), code, %{}) end)}
      ]
    end

    header()
    row("#{@cores} times pure Python", @python, @cores, places.(pool))
    row("#{@cores} times numpy", @numpy, @cores, places.(pool))
    row("100 requests that sleep 50 ms", @sleep, 100, places.(wide))
    overhead(pool)
  end

  defp at_once(fun) do
    fn code, count -> 1..count |> Enum.map(&Task.async(fn -> fun.(code, &1) end)) |> Task.await_many(:infinity) end
  end

  defp row(name, code, count, places) do
    samples = for _ <- 1..@rounds, {place, fun} <- places, do: {place, timed(fn -> fun.(code, count) end)}

    best =
      Enum.group_by(samples, &elem(&1, 0), &elem(&1, 1)) |> Map.new(fn {place, times} -> {place, Enum.min(times)} end)

    columns =
      for {place, _fun} <- places do
        String.pad_leading("#{round(best[place] / 1000)} ms (#{Float.round(best["one"] / best[place], 2)})", 18)
      end

    IO.puts(String.pad_trailing(name, 32) <> Enum.join(columns))
  end

  defp header do
    IO.puts("best of #{@rounds}; in brackets how many times as fast as one after another")
    IO.puts(String.pad_trailing("", 32) <> Enum.map_join(~w(one threads pool nodes), &String.pad_leading(&1, 18)))
  end

  # What an evaluation of nothing costs, in microseconds.
  defp overhead(pool) do
    here = per_call(fn -> Pythonx.eval("1", %{}) end)
    there = per_call(fn -> Pool.eval(pool, "1", %{}) end)
    leased = Pool.run(pool, fn worker -> per_call(fn -> Pool.eval(worker, "1", %{}) end) end)
    IO.puts("\neval(\"1\"): here #{here} us, in a pool #{there} us, in a worker that is checked out #{leased} us")
    binary = :binary.copy("x", 100_000_000)
    there = timed(fn -> Pool.eval(pool, "len(b)", %{"b" => binary}) end)
    IO.puts("a binary of 100 MB to a pool: #{div(there, 1000)} ms")
  end

  defp per_call(fun) do
    rounds = for _ <- 1..(5 * @rounds), do: timed(fn -> Enum.each(1..200, fn _ -> fun.() end) end) / 200
    Float.round(Enum.min(rounds), 1)
  end

  defp timed(fun), do: fun |> :timer.tc() |> elem(0)

  defp wait_until_idle(pools) do
    if Enum.any?(pools, &(Pool.info(&1).starting > 0)), do: Process.sleep(50) && wait_until_idle(pools)
  end

  defp start_nodes do
    epmd = System.find_executable("epmd") || Path.wildcard("#{:code.root_dir()}/erts-*/bin/epmd") |> hd()
    {_output, 0} = System.cmd(epmd, ["-daemon"])
    {:ok, _pid} = :net_kernel.start(:"bench_#{System.pid()}@127.0.0.1", %{name_domain: :longnames})
    for n <- 1..@cores, do: start_node(n)
  end

  defp start_node(n) do
    paths = Enum.flat_map(:code.get_path(), &[~c"-pa", &1])
    cookie = [~c"-setcookie", Atom.to_charlist(Node.get_cookie())]
    env = for {name, value} <- Pythonx.install_env(), do: {to_charlist(name), to_charlist(value)}
    options = %{name: ~c"bench_#{System.pid()}_#{n}", host: ~c"127.0.0.1", longnames: true, env: env}
    {:ok, _peer, node} = :peer.start_link(Map.merge(options, %{connection: :standard_io, args: cookie ++ paths}))
    {:ok, _apps} = :erpc.call(node, Application, :ensure_all_started, [:pythonx])
    node
  end
end

Parallel.run()
