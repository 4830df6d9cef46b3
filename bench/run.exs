# What conversions, evaluations and output cost, beside plain C loops that do the same in the same run: `make bench`.
#
# Rounds of ours and of the reference alternate, each in a process of its own, and the best of each counts: whatever else
# the machine does only ever adds. SECONDS=n says how long each work is repeated; arguments choose works by a part of their
# names.

Code.require_file("reference.ex", __DIR__)

defmodule Pythonx.Bench.Own do
  use Pythonx.Module, ~PY"""
  def f(x: int, y: int = 0) -> int:
      return x
  """
end

defmodule Pythonx.Bench do
  alias Pythonx.Bench.Reference

  @seconds String.to_integer(System.get_env("SECONDS", "2"))
  @fewest_rounds 10

  def works do
    text = for i <- 1..200_000, do: "string number #{i}"

    [
      {"1,000,000 integers", :integers, Enum.to_list(1..1_000_000), [], {1.2, 1.2}},
      {"1,000,000 floats", :floats, for(i <- 1..1_000_000, do: i * 1.5), [], {1.2, 1.2}},
      {"200,000 strings (bytes)", :bytes, text, [], {1.0, 1.2}},
      {"200,000 strings (str)", :text, text, [binaries: :str], {1.0, 1.2}},
      {"map of 100,000", :map, for(i <- 1..100_000, into: %{}, do: {"key #{i}", i}), [], {1.0, 1.2}},
      {"20,000 nested rows", :rows, rows(), [], {1.0, 0.8}}
    ]
  end

  defp rows do
    for i <- 1..20_000 do
      %{
        "id" => i,
        "name" => "user #{i}",
        "score" => i * 1.5,
        "active" => rem(i, 2) == 0,
        "tags" => ["a#{i}", "b", "c"],
        "address" => %{"city" => "city #{rem(i, 100)}", "zip" => "#{10_000 + i}"}
      }
    end
  end

  def encode({name, work, term, opts, {target, _decode}}) do
    # A persistent term is not copied on its way to another process.
    :persistent_term.put(__MODULE__, term)

    ours = fn ->
      term = :persistent_term.get(__MODULE__)
      timed(fn -> Pythonx.encode!(term, opts) end)
    end

    reference = fn ->
      term = :persistent_term.get(__MODULE__)
      {us, handle} = timed(fn -> Reference.encode(work, term) end)
      Reference.release(handle)
      {us, :ok}
    end

    # What was freed last, and on which thread, decides up to 15 % of what the next objects cost to allocate. So that both
    # find the same, a round of the reference that is not measured goes before each one that is.
    after_reference = fn fun ->
      fn ->
        reference.()
        fun.()
      end
    end

    compare("encode #{name}", "ms", after_reference.(ours), after_reference.(reference), target)
  end

  def decode({name, work, term, opts, {_encode, target}}) do
    object = Pythonx.encode!(term, opts)
    handle = Reference.encode(work, term)
    ours = fn -> timed(fn -> Pythonx.decode(object) end) end
    reference = fn -> timed(fn -> Reference.decode(work, handle) end) end
    compare("decode #{name}", "ms", ours, reference, target)
    Reference.release(handle)
  end

  def eval do
    count = 2000
    repeat = fn fun -> timed(fn -> Enum.each(1..count, fn _ -> fun.() end) end) end
    ours = fn -> repeat.(fn -> Pythonx.eval("1", %{}) end) end
    reference = fn -> repeat.(&Reference.nothing/0) end
    compare("eval(\"1\", %{}) : empty dirty NIF", "us", ours, reference, 2.0, count)
  end

  def call do
    count = 2000
    {f, _globals} = Pythonx.eval("def f(x):\n    return x\nf", %{})
    repeat = fn fun -> timed(fn -> Enum.each(1..count, fn _ -> fun.() end) end) end
    ours = fn -> repeat.(fn -> Pythonx.call(f, [1], [], decode: true) end) end
    reference = fn -> repeat.(&Reference.nothing/0) end
    compare("call(f, [1]) decoded : empty dirty NIF", "us", ours, reference, 2.0, count)
  end

  # The same function by its name in a module, with hints, beside the call of its object. What they differ by is less than
  # what waking a thread takes: so calls of the two alternate, and the fastest hundredth of each counts.
  def module do
    alias Pythonx.Bench.Own
    f = Own |> apply(:__python__, []) |> Pythonx.Module.Callables.fetch("f")

    alternate("Own.f(1) of a module : call(f, [1])", fn -> Own.f(1) end, fn ->
      Pythonx.call(f, [1], [], decode: true)
    end)

    called = fn -> Pythonx.call(f, [1], [y: 2], decode: true) end
    alternate("Own.f(1, y: 2) : call(f, [1], y: 2)", fn -> Own.f(1, y: 2) end, called)
  end

  defp alternate(name, ours, reference) do
    {ours, reference} = Enum.unzip(for _ <- 1..40_000, do: {nanoseconds(ours), nanoseconds(reference)})
    fast = fn samples -> (samples |> Enum.sort() |> Enum.at(div(length(samples), 100))) / 1000 end
    row(name, "us", fast.(ours), fast.(reference), 1.1)
  end

  defp nanoseconds(fun) do
    started = :erlang.monotonic_time(:nanosecond)
    fun.()
    :erlang.monotonic_time(:nanosecond) - started
  end

  # The loop is Python's, so that what is measured is the way to Elixir and back.
  def callback do
    count = 2000
    code = "def f(g, n):\n    for _ in range(n):\n        g(1)\nf"
    {f, _globals} = Pythonx.eval(code, %{})
    ours = fn -> timed(fn -> Pythonx.call(f, [fn x -> x end, count]) end) end
    reference = fn -> timed(fn -> Enum.each(1..count, fn _ -> Reference.nothing() end) end) end
    # Either 10 us, or three times the round trip, which is from 0.7 to 15 us as the VM's threads are awake or not.
    compare("callback f(1) : empty dirty NIF", "us", ours, reference, "<= 10 us", count)
  end

  # There is nothing to compare it with but the second that it may take.
  def stream do
    ours = fn ->
      {numbers, _globals} = Pythonx.eval("(n for n in range(1_000_000))", %{})
      {us, 1_000_000} = timed(fn -> Enum.count(numbers) end)
      {us, :ok}
    end

    compare("1,000,000 stream elements : one second", "ms", ours, fn -> {1_000_000, :ok} end, 1.0)
  end

  def print do
    lines = 10_000
    device = spawn_link(&swallow/0)
    code = fn body -> "for _ in range(#{lines}):\n    #{body}" end
    run = fn body -> timed(fn -> Pythonx.eval(code.(body), %{}, stdout_device: device) end) end
    measure = fn -> run.("print('a line of text')") end
    compare("print of a line : a loop without", "us", measure, fn -> run.("pass") end, nil, lines)
  end

  defp swallow do
    receive do
      {:io_request, from, ref, _request} -> send(from, {:io_reply, ref, :ok})
      _other -> :ok
    end

    swallow()
  end

  def handles do
    count = 1_000_000
    :erlang.garbage_collect()
    held = held()

    samples =
      for _ <- 1..5 do
        holder = hold_objects(count)
        Reference.watch_gil()
        send(holder, :drop)
        settle(held + count)
        settle(held)
        own = Reference.gil_time()
        handle = Reference.encode(:objects, count)
        {us, :ok} = timed(fn -> Reference.release(handle) end)
        {own, us}
      end

    {ours, reference} = Enum.unzip(samples)
    row("1,000,000 dropped handles, GIL time", "ms", Enum.min(ours), Enum.min(reference), nil)
  end

  # A process that holds as many handles until it is told to drop them.
  defp hold_objects(count) do
    parent = self()

    holder =
      spawn_link(fn ->
        {list, _globals} = Pythonx.eval("[object() for _ in range(n)]", %{"n" => count})
        handles = Pythonx.decode(list)
        send(parent, :holding)

        receive do
          :drop -> length(handles)
        end
      end)

    receive do
      :holding -> holder
    end
  end

  # Arrays of 100 MB against what numpy itself takes to copy them.
  def arrays do
    values = for i <- 1..1_250_000, into: <<>>, do: <<i * 1.0::float-64-native>>
    binary = :binary.copy(values, 10)

    {array, globals} =
      Pythonx.eval("import numpy as np\nfrombuffer = np.frombuffer\nnp.frombuffer(data).copy()", %{
        "data" => Pythonx.memoryview(binary)
      })

    copy = fn -> timed(fn -> Pythonx.call_method(array, :copy) end) end
    view = fn -> timed(fn -> Pythonx.call(globals["frombuffer"], [Pythonx.memoryview(binary)]) end) end
    compare("array in : numpy.copy", "us", view, copy, 0.1)
    shared = fn -> timed(fn -> Pythonx.buffer(array, copy: false) end) end
    compare("array out, copy: false : numpy.copy", "us", shared, copy, 0.1)
    compare("array out, copied : numpy.copy", "us", fn -> timed(fn -> Pythonx.buffer(array) end) end, copy, 1.5)
    turned = Pythonx.getattr(array, :T) |> Pythonx.call_method(:reshape, [5000, 2500]) |> Pythonx.getattr(:T)
    numpy_c = fn -> timed(fn -> Pythonx.call_method(turned, :copy, ["C"]) end) end

    compare(
      "array out, transposed : numpy.copy",
      "us",
      fn -> timed(fn -> Pythonx.buffer(turned, order: :c) end) end,
      numpy_c,
      nil
    )
  end

  # Rows of maps against JSON with the fastest library of Python and the one of OTP.
  def json do
    rows = rows()
    :persistent_term.put(__MODULE__, rows)
    object = Pythonx.encode!(rows, binaries: :str)
    orjson = Pythonx.import_module("orjson")

    ours = fn ->
      rows = :persistent_term.get(__MODULE__)
      timed(fn -> Pythonx.encode!(rows, binaries: :str) end)
    end

    reference = fn ->
      rows = :persistent_term.get(__MODULE__)
      timed(fn -> Pythonx.call_method(orjson, :loads, [:json.encode(rows) |> IO.iodata_to_binary()]) end)
    end

    compare("20,000 rows in : :json and orjson.loads", "ms", ours, reference, 1.0)
    ours = fn -> timed(fn -> Pythonx.decode(object) end) end
    dumps = fn -> Pythonx.call_method(orjson, :dumps, [object], [], decode: true) end
    reference = fn -> timed(fn -> :json.decode(dumps.()) end) end
    compare("20,000 rows out : orjson.dumps and :json", "ms", ours, reference, 1.0)
  end

  # 100 MB without a copy: the median time of one crossing, and by how much a hundred of them that are kept make the
  # process larger.
  def large do
    binary = :binary.copy("x", 100_000_000)
    {bytes, globals} = Pythonx.eval("text = 'x' * 100_000_000\nb'x' * 100_000_000", %{})
    text = globals["text"]
    IO.puts("\n" <> pad({"100 MB without a copy", 42}, :trailing) <> "     time   100 kept   target")

    for {name, target, fun} <- [
          {"memoryview", 100, fn -> Pythonx.memoryview(binary) end},
          {"bytes out", 50, fn -> Pythonx.decode(bytes) end},
          {"str (ASCII) out", 50, fn -> Pythonx.decode(text) end},
          {"buffer out", 50, fn -> Pythonx.buffer(bytes) end}
        ] do
      times = Enum.sort(for _ <- 1..101, do: elem(timed(fun), 0))
      :erlang.garbage_collect()
      before = resident_kb()
      kept = for _ <- 1..100, do: fun.()
      grown = resident_kb() - before
      100 = length(kept)
      columns = ["#{Enum.at(times, 50)} us", "#{grown} kB", "<= #{target} us"]
      padded = for {text, width} <- Enum.zip(columns, [9, 11, 11]), do: pad({text, width}, :leading)
      IO.puts(pad({name, 42}, :trailing) <> Enum.join(padded))
    end
  end

  defp resident_kb do
    [_all, kb] = Regex.run(~r/VmRSS:\s+(\d+) kB/, File.read!("/proc/self/status"))
    String.to_integer(kb)
  end

  # A thousand evaluations that sleep for 0.1 s, first on threads that have to be started, then on those; and how long
  # another process waits for an evaluation meanwhile.
  def sleepers do
    IO.puts(
      "\n" <> pad({"1,000 evaluations of time.sleep(0.1)", 42}, :trailing) <> "    all   eval(\"1\"): median, worst"
    )

    for what <- ["with the start of their threads", "on threads that are there"] do
      sleepers = Task.async(fn -> timed(&sleep_at_once/0) |> elem(0) end)
      times = Enum.sort(answers_until(sleepers, []))
      worst = List.last(times)
      columns = ["#{div(Task.await(sleepers), 1000)} ms", "#{Enum.at(times, div(length(times), 2))} us, #{worst} us"]
      padded = for {text, width} <- Enum.zip(columns, [9, 25]), do: pad({text, width}, :leading)
      IO.puts(pad({what, 40}, :trailing) <> Enum.join(padded))
    end
  end

  defp sleep_at_once do
    1..1000
    |> Enum.map(fn _ -> Task.async(fn -> Pythonx.eval("import time; time.sleep(0.1)", %{}) end) end)
    |> Task.await_many(:infinity)
  end

  defp answers_until(task, times) do
    {us, _} = timed(fn -> Pythonx.eval("1", %{}) end)
    if Process.alive?(task.pid), do: answers_until(task, [us | times]), else: [us | times]
  end

  defp compare(name, unit, ours, reference, target, divisor \\ 1) do
    :erlang.garbage_collect()
    held = held()

    sample = fn fun ->
      us = in_process(fun)
      settle(held)
      us / divisor
    end

    round = fn
      true -> {sample.(ours), sample.(reference)}
      false -> {sample.(reference), sample.(ours)} |> then(fn {other, own} -> {own, other} end)
    end

    # The first round warms up.
    round.(true)
    {ours, reference} = round |> rounds(deadline(), 0, []) |> Enum.unzip()
    row(name, unit, Enum.min(ours), Enum.min(reference), target)
  end

  # One goes first in half of the rounds, the other in the others.
  defp rounds(round, deadline, count, samples) do
    if count < @fewest_rounds or System.monotonic_time(:millisecond) < deadline do
      rounds(round, deadline, count + 1, [round.(rem(count, 2) == 0) | samples])
    else
      samples
    end
  end

  defp deadline, do: System.monotonic_time(:millisecond) + 1000 * @seconds

  defp timed(fun), do: :timer.tc(fun)

  # A heap of its own for each sample, with nothing of the one before.
  defp in_process(fun) do
    {pid, ref} = spawn_monitor(fn -> exit({:took, elem(fun.(), 0)}) end)

    receive do
      {:DOWN, ^ref, :process, ^pid, {:took, us}} -> us
      {:DOWN, ^ref, :process, ^pid, reason} -> exit(reason)
    end
  end

  # Waits until Python has dropped what the processes that ended have held, so that it costs the next sample nothing.
  defp settle(held) do
    if held() > held do
      Process.sleep(1)
      settle(held)
    end
  end

  defp held, do: Pythonx.NIF.stats() |> elem(1)

  def header do
    IO.puts(String.pad_trailing("work", 42) <> "     ours  reference   ratio   target")
  end

  defp row(name, unit, ours, reference, target) do
    scale = if unit == "ms", do: 1000, else: 1

    columns = [
      name,
      number(ours / scale, unit),
      number(reference / scale, unit),
      ratio(ours / reference),
      target(target)
    ]

    widths = [42, 11, 11, 8, 9]
    [first | rest] = Enum.zip(columns, widths)
    IO.puts(Enum.reduce(rest, pad(first, :trailing), &(&2 <> pad(&1, :leading))))
  end

  defp pad({text, width}, :trailing), do: String.pad_trailing(text, width)
  defp pad({text, width}, :leading), do: String.pad_leading(text, width)

  defp number(value, unit), do: "#{:erlang.float_to_binary(value * 1.0, decimals: 2)} #{unit}"
  defp ratio(value), do: :erlang.float_to_binary(value, decimals: 2)
  defp target(nil), do: ""
  defp target(text) when is_binary(text), do: text
  defp target(value), do: "<= #{value}"
end

Pythonx.uv_init(
  """
  [project]
  name = "pythonx-bench"
  version = "0.0.0"
  requires-python = ">=3.10"
  dependencies = ["numpy>=2.1,<2.4", "orjson>=3.10,<4"]
  """,
  python: System.get_env("PYTHONX_TEST_PYTHON")
)

Pythonx.Bench.Reference.load!()

{version, _globals} = Pythonx.eval("import sys; sys.version", %{})
IO.puts("CPython #{Pythonx.decode(version)}, OTP #{System.otp_release()}, Elixir #{System.version()}\n")
Pythonx.Bench.header()

wanted? = fn name -> System.argv() == [] or Enum.any?(System.argv(), &String.contains?(name, &1)) end

works = Enum.filter(Pythonx.Bench.works(), &wanted?.(elem(&1, 0)))
Enum.each(works, &Pythonx.Bench.encode/1)
Enum.each(works, &Pythonx.Bench.decode/1)
if wanted?.("eval"), do: Pythonx.Bench.eval()
if wanted?.("call"), do: Pythonx.Bench.call()
if wanted?.("module"), do: Pythonx.Bench.module()
if wanted?.("callback"), do: Pythonx.Bench.callback()
if wanted?.("stream"), do: Pythonx.Bench.stream()
if wanted?.("print"), do: Pythonx.Bench.print()
if wanted?.("handles"), do: Pythonx.Bench.handles()
if wanted?.("array"), do: Pythonx.Bench.arrays()
if wanted?.("json"), do: Pythonx.Bench.json()
if wanted?.("large"), do: Pythonx.Bench.large()
if wanted?.("sleepers"), do: Pythonx.Bench.sleepers()
