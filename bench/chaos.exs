# A pool among crashes: jobs that end their worker in every way there is, callers that die, workers that are killed from
# outside, and good jobs among them. Every good job must be answered right and have run once, and when the pool is gone,
# nothing of it may be left: no process, zombie, port, descriptor, file or memory.
#
#     make chaos                     ten minutes of all of it at random
#     CHAOS_SECONDS=60 make chaos    one
#     CHAOS_EACH=100 make chaos      a hundred crashes of each kind, kind by kind, while others run a thousand good jobs; then
#                                    it counts what was left after each kind
Logger.configure(level: :emergency)

defmodule Chaos do
  alias Pythonx.Pool
  alias Pythonx.Pool.CrashError

  @clients 6
  @good_in_ten 7

  @crashes %{
    segfault: {"import ctypes; ctypes.string_at(0)", {:signal, "SIGSEGV"}},
    exit: {"os._exit(3)", {:exit_status, 3}},
    abort: {"os.abort()", {:signal, "SIGABRT"}},
    # As the system does when its memory is full.
    killed: {"import signal; os.kill(os.getpid(), signal.SIGKILL)", {:signal, "SIGKILL"}},
    endless_call: {"sum(range(10**12))", {:timeout, 50}},
    endless_except: {"while True:\n  try:\n    while True: pass\n  except BaseException: pass", {:timeout, 50}},
    in_reply:
      {"import threading\nthreading.Timer(0.02, os._exit, (4,)).start()\n[str(n) for n in range(10**7)]",
       {:exit_status, 4}},
    # Python may be told of it, or C code find none.
    memory_filled: {"x = []\nwhile True: x.append(bytearray(10**6))", :memory}
  }

  @others [:memory, :timeout, :dead_caller, :shot_worker, :object]

  def run(seconds) do
    log = Path.join(System.tmp_dir!(), "pythonx-chaos-#{System.pid()}")
    File.write!(log, "")
    round(log, System.monotonic_time(:second) + 3)
    settle(fn -> system_processes() end)
    before = level()
    File.write!(log, "")
    {counts, crashes} = round(log, System.monotonic_time(:second) + seconds)
    ran = log |> File.read!() |> String.split("\n", trim: true)
    File.rm!(log)
    report(counts, crashes)
    check(length(ran) == counts.good and ran == Enum.uniq(ran), "good jobs have run #{length(ran)} times")
    settle(fn -> compare(before, level()) end)
    IO.puts("level before and after: #{inspect(before)}, #{inspect(level())}")
  end

  # All crashes of a kind are those of one client, each as soon as the last was told. The good jobs are done by three others,
  # until there were enough of them and the crashes are over.
  def each(count, good) do
    log = Path.join(System.tmp_dir!(), "pythonx-chaos-#{System.pid()}")
    in_a_row(:exit, 5, 0, log)
    settle(fn -> system_processes() end)
    before = level()

    for kind <- Map.keys(@crashes) do
      {time, {ran, died}} = :timer.tc(fn -> in_a_row(kind, count, good, log) end)
      check(died >= count or kind == :memory_filled, "#{count} workers have died of #{kind}: #{died}")
      settle(fn -> compare(before, level()) end)
      line = "#{count} times #{kind}: #{died} workers died, #{ran} good jobs right and once"
      IO.puts("#{line}, #{div(time, 1_000_000)} s, left: #{inspect(level())}")
    end

    IO.puts("before: #{inspect(before)}")
  end

  defp in_a_row(kind, count, good, log) do
    File.write!(log, "")
    pool = start_pool()
    bad = Task.async(fn -> for n <- 1..count, do: crash(kind, pool, n) end)
    clients = for n <- 1..3, do: Task.async(fn -> good_jobs(pool, log, n, 0, div(good, 3) + 1, bad) end)
    done = clients |> Task.await_many(:infinity) |> Enum.sum()
    Task.await(bad, :infinity)
    info = Pool.info(pool)
    check(info.queued == 0 and info.busy == 0, "nothing waits and nothing runs")
    GenServer.stop(pool)
    ran = log |> File.read!() |> String.split("\n", trim: true)
    File.rm!(log)
    check(length(ran) == done and ran == Enum.uniq(ran), "#{done} good jobs have run #{length(ran)} times")
    {done, info.crashes}
  end

  # A timeout may find Python before the endless code has begun: then the worker lives on, and it is not counted.
  defp crash(kind, pool, n) do
    with :alive <- act(kind, pool, nil, nil), do: crash(kind, pool, n)
  end

  defp good_jobs(pool, log, n, job, least, bad) do
    if job < least or Process.alive?(bad.pid) do
      act(:good, pool, log, "#{n}-#{job}")
      good_jobs(pool, log, n, job + 1, least, bad)
    else
      job
    end
  end

  defp start_pool do
    {:ok, pool} =
      Pool.start_link(
        size: 3,
        spares: 1,
        init: "import os, time",
        template: :minimal,
        max_memory: 300_000_000,
        kill_after: 200
      )

    pool
  end

  defp round(log, deadline) do
    pool = start_pool()

    counts =
      for(n <- 1..@clients, do: Task.async(fn -> client(pool, log, n, 0, deadline, %{good: 0}) end))
      |> Task.await_many(:infinity)
      |> Enum.reduce(&Map.merge(&1, &2, fn _kind, a, b -> a + b end))

    info = Pool.info(pool)
    check(info.queued == 0 and info.busy == 0, "nothing waits and nothing runs")
    GenServer.stop(pool)
    {counts, info.crashes}
  end

  defp client(pool, log, n, job, deadline, counts) do
    if System.monotonic_time(:second) < deadline do
      kind = if :rand.uniform(10) <= @good_in_ten, do: :good, else: Enum.random(Map.keys(@crashes) ++ @others)
      act(kind, pool, log, "#{n}-#{job}")

      receive do
        message -> raise "client #{n} got #{inspect(message)} after #{kind}"
      after
        0 -> client(pool, log, n, job + 1, deadline, Map.update(counts, kind, 1, &(&1 + 1)))
      end
    else
      counts
    end
  end

  defp act(:good, pool, log, id) do
    x = :rand.uniform(1_000_000)
    code = "with open(log, 'a') as file: file.write(id + '\\n')\ntime.sleep(0.002)\n(x * x, id)"
    {{y, ^id}, _} = Pool.eval(pool, code, %{"x" => x, "id" => id, "log" => log}, binaries: :str)
    ^y = x * x
  end

  defp act(:memory, pool, _log, _id) do
    %Pythonx.Error{} = raised(fn -> Pool.eval(pool, "bytearray(10**10)", %{}) end)
  end

  defp act(:timeout, pool, _log, _id) do
    error = raised(fn -> Pool.eval(pool, "while True: time.sleep(0.001)", %{}, timeout: 20) end)
    # On a machine with too much to do, the worker may not have come to answer.
    true = match?(%Pythonx.TimeoutError{}, error) or match?(%CrashError{reason: {:timeout, 20}}, error)
  end

  defp act(:dead_caller, pool, _log, _id) do
    {pid, monitor} = spawn_monitor(fn -> Pool.eval(pool, "while True: time.sleep(0.001)", %{}) end)
    Process.sleep(:rand.uniform(50))
    Process.exit(pid, :kill)
    receive do: ({:DOWN, ^monitor, :process, ^pid, _reason} -> :ok)
  end

  # Only who is at work: the pool takes a worker that dies without any for one that cannot live.
  defp act(:shot_worker, pool, _log, _id) do
    Pool.run(pool, fn worker ->
      {os_pid, _} = Pool.eval(worker, "os.getpid()", %{})
      System.cmd("kill", ["-9", "#{os_pid}"])
    end)
  end

  defp act(:object, pool, _log, _id) do
    Pool.run(pool, fn worker ->
      {object, _} = Pool.eval(worker, "[object() for _ in range(3)]", %{}, decode: false)
      3 = Pool.call(worker, "len", [object])
    end)
  end

  defp act(:memory_filled, pool, _log, _id) do
    {code, _reason} = @crashes.memory_filled
    error = raised(fn -> Pool.eval(pool, code, %{}) end)
    true = match?(%CrashError{}, error) or List.last(error.lines) =~ "MemoryError"
    :crashed
  end

  defp act(kind, pool, _log, _id) do
    {code, reason} = Map.fetch!(@crashes, kind)
    timeout = if match?({:timeout, _}, reason), do: elem(reason, 1), else: :infinity
    error = raised(fn -> Pool.eval(pool, code, %{}, timeout: timeout) end)
    # The interrupt may come before the code has begun, or where it catches nothing.
    true = match?(%CrashError{reason: ^reason}, error) or match?(%Pythonx.TimeoutError{timeout: ^timeout}, error)
    if match?(%CrashError{}, error), do: :crashed, else: :alive
  end

  defp raised(fun) do
    raise "nothing was raised, but returned: #{inspect(fun.(), limit: 5)}"
  rescue
    error -> error
  end

  ## What is there

  defp level do
    Enum.each(Process.list(), &:erlang.garbage_collect/1)

    %{
      ports: length(Port.list()),
      processes: length(Process.list()),
      descriptors: length(File.ls!("/proc/self/fd")),
      system_processes: length(system_processes()),
      # A core or a crash dump would be here.
      files: length(File.ls!(".")),
      megabytes: div(:erlang.memory(:total), 1_048_576)
    }
  end

  # Workers of this project's folder, their launchers, what they have started, and zombies that are this VM's to reap, or that
  # of one of these. What is left to process 1 is not.
  defp system_processes do
    processes =
      for "/proc/" <> pid = dir <- Path.wildcard("/proc/[0-9]*"),
          {:ok, stat} <- [File.read(dir <> "/stat")],
          [state, parent | _] = stat |> String.split(") ") |> List.last() |> String.split(" "),
          command = dir |> Path.join("cmdline") |> File.read() |> elem_or(""),
          do: %{pid: pid, zombie: state == "Z", parent: parent, command: command}

    workers = for %{command: text, pid: pid} <- processes, text =~ "pythonx_worker" and text =~ File.cwd!(), do: pid

    setup =
      for %{parent: parent, command: text, pid: pid} <- processes, parent == System.pid(), text =~ "setup", do: pid

    parents = [System.pid() | setup ++ workers]
    workers ++ for %{zombie: true, parent: parent, pid: pid} <- processes, parent in parents, do: pid
  end

  defp elem_or({:ok, text}, _default), do: text
  defp elem_or({:error, _reason}, default), do: default

  defp compare(before, now) do
    Enum.flat_map(before, fn {what, count} ->
      slack = %{megabytes: 20, processes: 2, descriptors: 1}
      if now[what] > count + Map.get(slack, what, 0), do: [{what, count, now[what]}], else: []
    end)
  end

  defp settle(differences, tries \\ 100) do
    case differences.() do
      [] -> :ok
      some when tries == 0 -> raise "left behind (what, before, now): #{inspect(some)}"
      _some -> Process.sleep(100) && settle(differences, tries - 1)
    end
  end

  defp report(counts, crashes) do
    for {kind, count} <- Enum.sort(counts), do: IO.puts("#{kind}: #{count}")
    IO.puts("total: #{counts |> Map.values() |> Enum.sum()}, workers that died: #{crashes}")
  end

  defp check(true, _what), do: :ok
  defp check(false, what), do: raise("not so: #{what}")
end

case System.get_env("CHAOS_EACH") do
  nil -> "CHAOS_SECONDS" |> System.get_env("600") |> String.to_integer() |> Chaos.run()
  each -> each |> String.to_integer() |> Chaos.each(1000)
end
