# Starts Python in this VM and prints how many microseconds it took, and each of the calls given. See ../startup.exs.

{calls, _binding} = "PYTHONX_BENCH_CALLS" |> System.fetch_env!() |> Code.eval_string()
timed = fn fun -> fun |> :timer.tc() |> elem(0) end

# A trace message for each call and return; what counts are the times of these events.
collect = fn collect, started, taken ->
  receive do
    {:trace_ts, _pid, :call, {module, function, args}, at} ->
      collect.(collect, Map.put(started, {module, function, length(args)}, at), taken)

    {:trace_ts, _pid, :return_from, call, _value, at} ->
      collect.(collect, started, Map.put_new(taken, call, div(at - started[call], 1000)))

    {:done, figures} ->
      Map.merge(taken, figures)
  end
end

tracer = self()

worker =
  spawn_link(fn ->
    receive do: (:go -> :ok)

    figures = %{
      application: timed.(fn -> {:ok, _started} = Application.ensure_all_started(:pythonx) end),
      uv_init: timed.(fn -> Pythonx.uv_init(:minimal) end),
      eval: timed.(fn -> Pythonx.eval("1", %{}) end)
    }

    send(tracer, {:done, figures})
  end)

# Only modules that are loaded can be traced.
:ok = Application.load(:pythonx)

load = fn ->
  if calls != [], do: :ok = :pythonx |> Application.spec(:modules) |> Code.ensure_all_loaded()
end

modules = timed.(load)

if calls != [] do
  for call <- calls, do: 1 = :erlang.trace_pattern(call, [{:_, [], [{:return_trace}]}], [:local])
  :erlang.trace(worker, true, [:call, :monotonic_timestamp])
end

send(worker, :go)
figures = collect.(collect, %{}, %{})
figures = if calls == [], do: figures, else: Map.put(figures, :modules, modules)
figures |> :erlang.term_to_binary() |> Base.encode64() |> IO.puts()
