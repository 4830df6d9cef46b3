defmodule Pythonx.Pool.TelemetryTest do
  use Pythonx.Case, async: false

  alias Pythonx.Pool
  alias Pythonx.Pool.CrashError

  @moduletag :capture_log

  setup do
    define_telemetry()
  end

  test "tells of the line, of checkouts, runs, crashes and workers" do
    pool = start_supervised!({Pool, size: 1, kill_after: 300, max_uses: 2})
    test = self()
    assert_received {:event, [:pythonx, :pool, :worker, :start], %{}, %{pool: ^pool, os_pid: os_pid}}

    Pool.run(pool, fn worker ->
      assert_received {:event, [:pythonx, :pool, :checkout], %{duration: _}, %{pool: ^pool}}
      spawn(fn -> Pool.eval(pool, "2", %{}) end)
      assert_receive {:event, [:pythonx, :pool, :queue], %{length: 1}, %{pool: ^pool}}
      Pool.eval(worker, "1", %{})
      metadata = %{pool: pool, process: test, job: :eval}
      assert_received {:event, [:pythonx, :pool, :run, :start], %{system_time: _}, ^metadata}
      assert_received {:event, [:pythonx, :pool, :run, :stop], %{duration: _}, stopped}
      assert Map.take(stopped, Map.keys(metadata)) == metadata
    end)

    assert_receive {:event, [:pythonx, :pool, :worker, :stop], %{uses: 2}, %{os_pid: ^os_pid}}
    assert %CrashError{} = raised(fn -> Pool.eval(pool, "import os; os.abort()", %{}) end)
    assert_receive {:event, [:pythonx, :pool, :crash], %{uses: 0}, %{pool: ^pool, reason: {:signal, "SIGABRT"}}}

    assert_received {:event, [:pythonx, :pool, :run, :exception], %{duration: _},
                     %{pool: ^pool, kind: :error, reason: %CrashError{}}}
  end
end
