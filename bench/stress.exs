# Everything at once, at random, from many processes: evaluations, callbacks, streams, awaits, timeouts, kills, dropped
# handles, greenlets, exits in tasks, alarms, signal handlers that are reset, and state that is left behind and looked for. At
# the end nothing may run, no answer may be missing, and threads and handles must be back where they were.
#
#     make stress                     ten minutes
#     STRESS_SECONDS=20 make stress   as in CI

unless Pythonx.NIF.initialized?() do
  Pythonx.uv_init("""
  [project]
  name = "stress"
  version = "0.0.0"
  requires-python = "==3.13.*"
  dependencies = ["gevent==26.9.0", "greenlet==3.5.6"]
  """)
end

Logger.configure(level: :error)

defmodule Stress do
  @workers 24

  def run(seconds) do
    # What is made once only, such as the event loop, counts as there from the start.
    for kind <- kinds(), do: act(kind)
    settle(fn -> Pythonx.running() == [] end, "warming up")
    {threads, handles} = level()
    IO.puts("before: #{threads} threads, #{handles} handles, memory: #{memory()} MB")
    deadline = System.monotonic_time(:second) + seconds
    workers = for n <- 1..@workers, do: Task.async(fn -> work(n, deadline, %{}) end)
    counts = workers |> Task.await_many(:infinity) |> Enum.reduce(&Map.merge(&1, &2, fn _kind, a, b -> a + b end))
    settle(fn -> Pythonx.running() == [] end, "nothing runs")

    settle(
      fn -> :sys.get_state(Pythonx.Calls.Callbacks) == %{handlers: %{}, calls: %{}, monitors: %{}} end,
      "no callback is left"
    )

    settle(fn -> :sys.get_state(Pythonx.Calls.Awaits) == %{} end, "nothing is awaited")
    settle(fn -> DynamicSupervisor.count_children(Pythonx.Calls.Producers).active == 0 end, "no iterator is left")
    settle(fn -> elem(level(), 1) <= handles + 50 end, "handles are back at #{handles}")
    settle(fn -> elem(level(), 0) <= threads + 1 end, "threads are back at #{threads}")
    for {kind, count} <- Enum.sort(counts), do: IO.puts("#{kind}: #{count}")
    {threads, handles} = level()
    total = counts |> Map.values() |> Enum.sum()
    IO.puts("total: #{total}; after: #{threads} threads, #{handles} handles, memory: #{memory()} MB")
  end

  defp kinds,
    do:
      ~w(eval call callback nested raise stream iterator await await_timeout await_killed timeout convert kill kill_callback
         drop thread thread_killed greenlets greenlets_timeout own_state left_state exit_in_task alarm handlers_reset)a

  defp work(n, deadline, counts) do
    if System.monotonic_time(:second) < deadline do
      kind = Enum.random(kinds())
      act(kind)
      # Nothing that came late, or for somebody else.
      receive do
        message -> raise "worker #{n} got #{inspect(message)} after #{kind}"
      after
        0 -> work(n, deadline, Map.update(counts, kind, 1, &(&1 + 1)))
      end
    else
      counts
    end
  end

  defp eval!(code, globals, opts \\ []), do: code |> Pythonx.eval(globals, opts) |> elem(0) |> Pythonx.decode()

  defp act(:eval) do
    x = :rand.uniform(1_000_000)
    ^x = eval!("sum([x, 1, -1])", %{"x" => x})
  end

  defp act(:call) do
    x = :rand.uniform(1_000_000)
    ^x = "builtins" |> Pythonx.import_module() |> Pythonx.call_method(:max, [[x, 0]], [], decode: true)
  end

  defp act(:callback) do
    x = :rand.uniform(1_000_000)
    ^x = eval!("f(x)", %{"x" => x, "f" => & &1})
  end

  defp act(:nested) do
    down = fn down, n -> if n == 0, do: 0, else: eval!("1 + f(f, n)", %{"f" => down, "n" => n - 1}) end
    5 = down.(down, 5)
  end

  defp act(:raise) do
    id = :rand.uniform(1_000_000)
    error = catch_error(fn -> eval!("f()", %{"f" => fn -> raise "error #{id}" end}) end)
    ^error = %RuntimeError{message: "error #{id}"}
  end

  defp act(:stream) do
    {numbers, _} = Pythonx.eval("(n for n in range(10**9))", %{})
    n = :rand.uniform(200)
    ^n = numbers |> Enum.take(n) |> length()
  end

  defp act(:iterator) do
    n = :rand.uniform(500)
    ^n = eval!("sum(1 for _ in xs)", %{"xs" => Pythonx.iterator(1..n)})
  end

  defp act(:await) do
    x = :rand.uniform(1_000_000)
    ^x = eval!("import asyncio\nawait asyncio.sleep(0.001, x)", %{"x" => x})
    {_, %{"f" => f}} = Pythonx.eval("import asyncio\nasync def f(x):\n  return await g.aio(x)", %{"g" => & &1})
    ^x = f |> Pythonx.call([x]) |> Pythonx.await(decode: true)
  end

  # The outcome may be there in time or not, and must not be there later.
  defp act(:await_timeout) do
    {_, %{"f" => f}} = Pythonx.eval("import asyncio\nasync def f():\n  await asyncio.sleep(0.002)", %{})
    coroutine = Pythonx.call(f)
    gives_up(fn -> Pythonx.await(coroutine, timeout: :rand.uniform(4)) end)
  end

  defp act(:convert) do
    terms = Enum.to_list(1..10_000)
    gives_up(fn -> ^terms = terms |> Pythonx.encode!(timeout: 1) |> Pythonx.decode(timeout: 1) end)
  end

  # The thread is Python's own: only its handler ends with the caller.
  defp act(:thread_killed) do
    code =
      "import threading\ndef g():\n  try: f()\n  except Exception: pass\n" <>
        "t = threading.Thread(target=g, daemon=True)\nt.start()\nt.join()"

    killed(fn -> eval!(code <> "\nNone", %{"f" => fn -> Process.sleep(:infinity) end}) end)
  end

  defp act(:await_killed), do: killed(fn -> eval!("import asyncio\nawait asyncio.sleep(60)", %{}) end)

  defp act(:timeout) do
    error = catch_error(fn -> eval!("while True: pass", %{}, timeout: :rand.uniform(20)) end)
    Pythonx.TimeoutError = error.__struct__
  end

  defp act(:kill), do: killed(fn -> eval!("import time\nwhile True: time.sleep(0.005)", %{}) end)

  defp act(:kill_callback) do
    f = fn -> eval!("import time\nwhile True: time.sleep(0.005)", %{}) end
    killed(fn -> eval!("f()", %{"f" => f}) end)
  end

  defp act(:greenlets) do
    x = :rand.uniform(1_000_000)
    f = fn n -> eval!("import gevent\ngevent.sleep(0.001 * n)\nx + n", %{"n" => n, "x" => x}) end

    code =
      "import gevent\ntasks = [gevent.spawn(f, n) for n in (3, 1, 2)]\ngevent.joinall(tasks)\n[t.value for t in tasks]"

    expected = [x + 3, x + 1, x + 2]
    ^expected = eval!(code, %{"f" => f})
  end

  # Inner or outer, whichever is first: gevent tells of it on standard error. In a process of its own: gevent raises the
  # interrupt of a greenlet that is left in whatever the thread, which is the process's, evaluates next.
  defp act(:greenlets_timeout) do
    in_process(fn ->
      f = fn _ -> gives_up(fn -> eval!("import gevent\ngevent.sleep(60)", %{}, timeout: :rand.uniform(20)) end) end
      code = "import gevent\ngevent.joinall([gevent.spawn(f, n) for n in range(3)])\nNone"
      gives_up(fn -> eval!(code, %{"f" => f}, timeout: :rand.uniform(40), stderr_device: silent()) end)
    end)
  end

  # What this process has left, or nothing, on the thread and in the context.
  defp act(:own_state) do
    me = inspect(self())

    seen =
      eval!(
        "seen = [v.get(), getattr(local, 'x', None), decimal.getcontext().prec]\n" <> leave(),
        Map.put(state(), "x", me)
      )

    # Its thread may be busy with what it has given up.
    if seen not in [[me, me, 5], [me, nil, 5], [nil, nil, 28]], do: raise("#{me} has found #{inspect(seen)}")
  end

  defp act(:left_state), do: in_process(fn -> act(:own_state) end)

  # Code that exits or ends the loop's run: whoever awaits it is told, and the next await has a loop.
  defp act(:exit_in_task) do
    how =
      Enum.random(["sys.exit(3)", "raise KeyboardInterrupt", "raise SystemExit", "asyncio.get_running_loop().stop()"])

    {_, %{"f" => f}} = Pythonx.eval("import asyncio, sys\nasync def f():\n  await asyncio.sleep(0)\n  " <> how, %{})

    try do
      f |> Pythonx.call([]) |> Pythonx.await(timeout: 5000)
    rescue
      error in [Pythonx.Error, RuntimeError] -> error
    end
  end

  # The timer is one for all: this process's may be another's by the time it is due. It ends whoever has set it, or nobody.
  defp act(:alarm) do
    code = """
    import signal, time
    class Alarm(Exception): pass
    def handler(*_): raise Alarm()
    old = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.002)
        time.sleep(0.02)
    except Alarm: pass
    finally:
        try:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, signal.SIG_IGN)
        except Alarm: pass
    """

    try do
      eval!(code <> "\nNone", %{}, timeout: 20_000)
    rescue
      error in Pythonx.Error -> true = List.last(error.lines) =~ "Alarm"
    end
  end

  # As servers and test runners do: take the handlers, send one signal, give them back or set them to the default.
  defp act(:handlers_reset) do
    code = """
    import signal
    numbers = [signal.SIGINT, signal.SIGUSR2, signal.SIGWINCH, signal.SIGCHLD, signal.SIGPIPE]
    old = {number: signal.signal(number, lambda *_: None) for number in numbers}
    signal.raise_signal(signal.SIGUSR2)
    for number, handler in old.items():
        signal.signal(number, handler if keep else signal.SIG_DFL if number == signal.SIGCHLD else signal.SIG_IGN)
    """

    nil = eval!(code <> "\nNone", %{"keep" => :rand.uniform(2) == 1})
  end

  defp act(:drop), do: for(n <- 1..200, do: Pythonx.encode!([n])) |> length()

  defp act(:thread) do
    code = "import threading\nr = []\nt = threading.Thread(target=lambda: r.append(f(x)))\nt.start(); t.join()\nr[0]"
    7 = eval!(code, %{"f" => & &1, "x" => 7})
  end

  defp leave, do: "v.set(x.decode()); local.x = x.decode(); decimal.getcontext().prec = 5\nseen"

  # Made once, in a process that leaves nothing of its own.
  defp state do
    :persistent_term.get(__MODULE__, nil) ||
      Task.await(
        Task.async(fn ->
          code =
            "import contextvars, decimal, threading\nv = contextvars.ContextVar('v', default=None)\nlocal = threading.local()"

          {_, globals} = Pythonx.eval(code, %{})
          :persistent_term.put(__MODULE__, globals)
          globals
        end)
      )
  end

  # A device that nobody reads.
  defp silent do
    :persistent_term.get({__MODULE__, :silent}, nil) ||
      spawn(&drop_messages/0) |> tap(&:persistent_term.put({__MODULE__, :silent}, &1))
  end

  defp drop_messages do
    receive do
      {:io_request, from, ref, _request} -> send(from, {:io_reply, ref, :ok})
      _other -> :ok
    end

    drop_messages()
  end

  # One that ends with it.
  defp in_process(fun) do
    {pid, monitor} = spawn_monitor(fun)

    receive do
      {:DOWN, ^monitor, :process, ^pid, :normal} -> :ok
      {:DOWN, ^monitor, :process, ^pid, reason} -> raise "it ended with #{inspect(reason)}"
    end
  end

  defp gives_up(fun) do
    fun.()
  rescue
    Pythonx.TimeoutError -> :ok
  end

  defp catch_error(fun) do
    fun.()
    raise "nothing was raised"
  rescue
    error -> error
  end

  defp killed(fun) do
    {pid, monitor} = spawn_monitor(fun)
    Process.sleep(:rand.uniform(10))
    Process.exit(pid, :kill)
    receive do: ({:DOWN, ^monitor, :process, ^pid, _reason} -> :ok)
  end

  # {threads, handles}, with what this node has dropped collected.
  defp level do
    Enum.each(Process.list(), &:erlang.garbage_collect/1)
    eval!("import gc\ngc.collect()", %{})
    Pythonx.NIF.stats()
  end

  defp memory do
    [kilobytes] = Regex.run(~r/VmRSS:\s+(\d+)/, File.read!("/proc/self/status"), capture: :all_but_first)
    div(String.to_integer(kilobytes), 1024)
  end

  # Those that are left, with the processes that they work for.
  defp handlers do
    for {pid, {_id, call, _monitor}} <- :sys.get_state(Pythonx.Calls.Callbacks).handlers do
      info = Process.info(pid, [:current_stacktrace, :dictionary]) || [dictionary: []]
      callers = for caller <- info[:dictionary][:"$callers"] || [], do: {caller, Process.alive?(caller)}
      {pid, callers, Pythonx.NIF.caller_waits?(call), info[:current_stacktrace]}
    end
  end

  defp settle(done?, what, tries \\ 300) do
    cond do
      done?.() ->
        :ok

      tries == 0 ->
        raise "not so within 30 seconds: #{what}; #{inspect({Pythonx.running(), Pythonx.NIF.stats(), handlers()})}"

      true ->
        Process.sleep(100) && settle(done?, what, tries - 1)
    end
  end
end

"STRESS_SECONDS" |> System.get_env("600") |> String.to_integer() |> Stress.run()
