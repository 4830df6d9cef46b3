defmodule Pythonx.Pool.FramesTest do
  # What a worker may write on its connection that is no message of a worker, and that nobody but its caller notices.
  use Pythonx.Case, async: true

  alias Pythonx.Pool
  alias Pythonx.Pool.{CrashError, Frame}

  @moduletag :capture_log

  setup_all do
    %{pool: start_supervised!({Pool, size: 1, kill_after: 300, max_restarts: 1000, init: "import os, time"})}
  end

  # Python writes these bytes to the connection and waits.
  @write "os.write(4, frames)\ntime.sleep(600)"

  defp frame(message), do: <<IO.iodata_length(message)::32>> <> IO.iodata_to_binary(message)
  defp crash(pool, bytes), do: raised(fn -> Pool.eval(pool, @write, %{"frames" => bytes}) end)

  # The number of the job that comes next, of a worker that is new and has had one.
  defp fresh(pool) do
    raised(fn -> Pool.eval(pool, "os._exit(1)", %{}) end)
    served(pool)
  end

  # That the pool serves again after a crash, hence by a new worker. The number of the job that comes next.
  defp served(pool) do
    assert Pool.eval(pool, "1", %{}) == {1, %{}}
    2
  end

  defp ok(term), do: :erlang.term_to_binary({:ok, term, %{}})
  defp reply(job, first, count, bytes), do: frame(Frame.from_worker(:reply, job, [<<first::64, count::32>>, bytes]))

  test "forged messages end the worker, and the next one is there", %{pool: pool} do
    compressed = :erlang.term_to_binary({:ok, String.duplicate("x", 10_000_000), %{}}, compressed: 9)
    device = :erlang.term_to_binary(self())
    output = fn device, text -> Frame.from_worker(:output, 0, [<<byte_size(device)::32>>, device, text]) end

    forged = [
      {"a damaged term", &reply(&1, 0, 0, binary_part(ok("text"), 0, 10))},
      {"a damaged term", &reply(&1, 0, 0, <<131, 105, 0xFFFFFFFF::32, 106>>)},
      {"a damaged term", &reply(&1, 0, 0, <<131, 255>>)},
      {"a damaged term", &reply(&1, 0, 0, "")},
      {"a compressed term", &reply(&1, 0, 0, compressed)},
      {"a term with bytes behind it", &reply(&1, 0, 0, ok(1) <> "x")},
      {"objects that it does not have", &reply(&1, 1, 0xFFFFFFFF, ok(1))},
      {"objects that it does not have", &reply(&1, 0, 1, ok(String.duplicate("x", 100)))},
      {"a message about a job that it was not given", &reply(&1 + 1000, 0, 0, ok(1))},
      {"a damaged message", &frame(Frame.from_worker(:reply, &1, "short"))},
      {"a damaged message", fn _ -> frame(Frame.from_worker(:output, 0, <<1000::32>>)) end},
      {"output for a device that it was not given", fn _ -> frame(output.(device, "stolen")) end},
      {"a message out of its time", fn _ -> frame(Frame.from_worker(:ready, 0, :erlang.term_to_binary(1))) end},
      {"a message out of its time", fn _ -> frame(Frame.from_worker(:failed, 0, "no")) end},
      {"half a message", fn _ -> <<1_000_000::32, 4, 0::32, "half">> end}
    ]

    Enum.reduce(forged, fresh(pool), fn {what, message}, job ->
      error = crash(pool, message.(job))
      assert {what, %CrashError{reason: {:forged, what}}} = {what, error}
      assert Exception.message(error) =~ "the worker was killed, as it sent its pool #{what}"
      served(pool)
    end)

    refute_received {:io_request, _, _, _}
  end

  test "what is no message ends the worker", %{pool: pool} do
    for bytes <- [<<0::32>>, <<0xFFFFFFFF::32>>, <<20::32, 99, 0::32>>, frame(["\x63", <<0::32>>, binary_mark()])] do
      assert %CrashError{reason: :protocol} = crash(pool, bytes <> "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx")
      served(pool)
    end
  end

  test "terms that are no outcome end the worker", %{pool: pool} do
    terms = [
      1,
      {:ok, 1, []},
      {:ok, [struct!(Pythonx.Object)], %{}},
      {:ok, {%Pool.Object{}, Map.put(MapSet.new(), :map, 5)}, %{}},
      {:raised, :nothing, 1, []},
      {:raised, :error, 1, [1 | 2]},
      {:raised, :error, 1, [{1, 2}]}
    ]

    Enum.reduce(terms, fresh(pool), fn term, job ->
      error = crash(pool, reply(job, 0, 0, :erlang.term_to_binary(term)))
      assert %CrashError{reason: {:forged, "a damaged term"}} = error
      served(pool)
    end)
  end

  test "a forged handle is one to nothing", %{pool: pool} do
    object = %Pool.Object{worker: self(), id: 7, type: "list"}

    assert {%Pool.Object{worker: nil} = handle, _} =
             Pool.eval(pool, @write, %{"frames" => reply(fresh(pool), 0, 0, ok(object))})

    error = raised(fn -> Pool.eval(pool, "x", %{"x" => handle}) end)
    assert Exception.message(error) =~ "lives in a worker of a pool, and only there it can be used"
    raised(fn -> Pool.eval(pool, "os._exit(1)", %{}) end)
  end

  test "functions come back with what they hold", %{pool: pool} do
    reference = make_ref()
    assert {function, _} = Pool.eval(pool, "f", %{"f" => fn -> reference end})
    assert function.() == reference
  end

  test "all workers of a pool together make no more new atoms than Python in one VM" do
    pool = start_supervised!({Pool, size: 1, max_uses: 1, init: "import pythonx"})
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

  defp binary_mark do
    [_head, "", mark] = Frame.from_worker(:done, 0, "")
    mark
  end
end
