defmodule Pythonx.Pool.FramesTest do
  # What a worker may write on its connection that is no message of a worker, and that nobody but its caller notices.
  # Nodes that get a name meanwhile have other processes.
  use Pythonx.Case, async: false

  alias Pythonx.Pool
  alias Pythonx.Pool.{CrashError, Exchange, Frame, Reference, Remote}

  @moduletag :capture_log

  setup_all do
    %{pool: start_supervised!({Pool, size: 1, kill_after: 300, max_restarts: 1000, init: "import os, time"})}
  end

  # Python writes these bytes to the connection and waits.
  @write "os.write(4, frames)\ntime.sleep(600)"

  defp frame(kind, id \\ 0, payload), do: kind |> Frame.from_worker(id, payload) |> IO.iodata_to_binary()
  defp crash(pool, bytes), do: raised(fn -> Pool.eval(pool, @write, %{"frames" => bytes}) end)

  # That the pool serves again after a crash, hence by a new worker.
  defp served(pool), do: assert(Pool.eval(pool, "1", %{}) == {1, %{}})

  defp external(term), do: :erlang.term_to_binary(term)
  defp message(count, bytes), do: frame(:send, [<<count::32>>, bytes])

  test "forged messages end the worker, and the next one is there", %{pool: pool} do
    stranger = spawn(fn -> Process.sleep(:infinity) end)
    mine = external({self(), "text"})
    compressed = :erlang.term_to_binary({self(), String.duplicate("x", 10_000_000)}, compressed: 9)
    janitor = Process.whereis(Pythonx.Janitor)

    forged = [
      {"a damaged term", message(0, binary_part(mine, 0, 10))},
      {"a damaged term", message(0, <<131, 105, 0xFFFFFFFF::32, 106>>)},
      {"a damaged term", message(0, <<131, 255>>)},
      {"a damaged term", message(0, "")},
      {"a damaged term", message(0, external([self() | 1]))},
      {"a damaged term", message(0, external({self(), Map.put(MapSet.new(), :map, Reference.function(5))}))},
      {"a damaged term", message(0, external({self(), Reference.function(5)}))},
      {"a damaged term", message(1, external({self(), [{Reference.job(1, 1), String.duplicate("x", 100)}]}))},
      {"a compressed term", message(0, compressed)},
      {"a term with bytes behind it", message(0, mine <> "x")},
      {"a function", message(0, external({self(), fn -> :ran end}))},
      {"a function", message(0, external({self(), &System.halt/0}))},
      {"objects that it does not have", message(0xFFFFFFFF, external({self(), Reference.job(1, 1)}))},
      {"objects that it does not have", message(1, external({self(), String.duplicate("x", 100)}))},
      {"a message to a process that it was not given", message(0, external({stranger, 1}))},
      {"a message about a job that it was not given", frame(:reply, 100_000, [<<0::32>>, external({:ok, 1})])},
      {"a damaged message", frame(:reply, 1, "no")},
      {"a damaged message", frame(:send, "no")},
      {"a damaged message", frame(:monitor, external({1, 2}))},
      {"a damaged message", frame(:dropped, external(:all))},
      {"output for a device that it was not given",
       message(0, external({janitor, {:pythonx_output, {:stranger, node()}, "stolen"}}))},
      {"output for a device that it was not given", message(0, external({janitor, :stop}))},
      {"a message out of its time", frame(:ready, external(1))},
      {"a message out of its time", frame(:failed, "no")},
      {"half a message", <<1_000_000::32, 4, 0::32, "half">>}
    ]

    for {what, bytes} <- forged do
      error = crash(pool, bytes)
      assert {what, %CrashError{reason: {:forged, what}}} = {what, error}
      assert Exception.message(error) =~ "the worker was killed, as it sent its pool #{what}"
      served(pool)
    end

    refute_received "text"
  end

  test "what is no message ends the worker", %{pool: pool} do
    whole = frame(:reply, 0, "")
    other = binary_part(whole, 0, 4) <> "\x63" <> binary_part(whole, 5, byte_size(whole) - 5)

    for bytes <- [<<0::32>>, <<0xFFFFFFFF::32>>, <<20::32, 99, 0::32>>, other] do
      assert %CrashError{reason: :protocol} = crash(pool, bytes <> "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx")
      served(pool)
    end
  end

  # A request whose reply Python forges, as it is given its number.
  defp forge(pool, count, reply) do
    {:ok, worker, lease, manager} = GenServer.call(pool, {:checkout, nil, :infinity, false})
    tag = System.unique_integer([:positive])
    frames = message(count, external({self(), {tag, reply}}))
    how = {true, false, [], []}
    arguments = [@write, "<string>", 1, {["frames"], [frames]}, how, self(), self(), nil]
    prepared = {tag, Exchange.prepare({:submit_values, self(), [tag | arguments]})}
    Remote.request_prepared({worker, manager}, {:held, lease}, :submit, prepared, :infinity)
  end

  test "terms that are no replies end the worker", %{pool: pool} do
    for reply <- [
          {:ok, [struct!(Pythonx.Object)], %{}, false},
          {:ok, %Pythonx.Object{resource: make_ref()}, %{}, false},
          {:ok, %Pythonx.Object{resource: Reference.job(1, 1)}, %{}, false},
          {:ok, {%Pool.Object{}, Map.put(MapSet.new(), :map, 5)}, %{}, false}
        ] do
      error = raised(fn -> forge(pool, 0, reply) end)
      assert %CrashError{reason: {:forged, "a damaged term"}} = error
      served(pool)
    end
  end

  test "a forged handle is one to nothing", %{pool: pool} do
    object = %Pool.Object{worker: self(), id: 7, type: "list", reference: Reference.job(1, 1)}
    assert {:ok, {:ok, %Pool.Object{worker: nil} = handle, %{}, false}} = forge(pool, 0, {:ok, object, %{}, false})
    error = raised(fn -> Pool.eval(pool, "x", %{"x" => handle}) end)
    assert Exception.message(error) =~ "lives in a worker of a pool, and only there it can be used"
    assert %ArgumentError{} = raised(fn -> Pythonx.decode(handle) end)
  end

  test "functions come back with what they hold", %{pool: _pool} do
    pool = start_supervised!({Pool, size: 1}, id: :functions)
    reference = make_ref()
    assert {function, _} = Pool.eval(pool, "f", %{"f" => fn -> reference end})
    assert function.() == reference
  end

  test "all workers of a pool together make no more new atoms than Python in one VM" do
    pool = start_supervised!({Pool, size: 1, max_uses: 1, init: "import pythonx"}, id: :atoms)
    code = "[pythonx.Atom(f'pool atom {n} {i}') for i in range(6000)]"
    assert {atoms, _} = Pool.eval(pool, code, %{"n" => 1})
    assert length(atoms) == 6000
    before = :erlang.system_info(:atom_count)

    for n <- 2..3 do
      error = raised(fn -> Pool.eval(pool, code, %{"n" => n}) end)

      assert Exception.message(error) =~
               ~r/^the workers of a pool have made 10000 new atoms, which is the limit, because atoms are never freed: "pool atom #{n} \d+"$/
    end

    assert {^atoms, _} = Pool.eval(pool, code, %{"n" => 1})
    assert {[:ok], _} = Pool.eval(pool, "[pythonx.Atom('ok')]", %{})
    assert :erlang.system_info(:atom_count) - before < 1000
  end
end
