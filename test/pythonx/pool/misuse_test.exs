defmodule Pythonx.Pool.MisuseTest do
  # What people get wrong with pools, and what they are told.
  use Pythonx.Case, async: true

  alias Pythonx.{Peers, Pool}
  alias Pythonx.Pool.CrashError

  @moduletag :capture_log

  setup_all do
    %{pool: start_supervised!({Pool, size: 1})}
  end

  defp start_pool!(opts), do: start_supervised!({Pool, Keyword.merge([size: 1, kill_after: 300], opts)}, id: make_ref())

  defp start_error(opts) do
    Process.flag(:trap_exit, true)
    assert {:error, {%{__exception__: true} = error, _stack}} = Pool.start_link(opts)
    Exception.message(error)
  end

  @deadlock "this would wait for ever: all workers that it could get are held by functions of Pythonx.Pool.run/3 that wait " <>
              "for workers themselves. Such a function evaluates with the worker that it is given"

  describe "waiting for oneself" do
    test "is an error in a function that has the only worker", %{pool: pool} do
      assert_raise RuntimeError, @deadlock, fn -> Pool.run(pool, fn _worker -> Pool.eval(pool, "1", %{}) end) end
      assert_raise RuntimeError, @deadlock, fn -> Pool.run(pool, fn _ -> Pool.run(pool, fn _ -> 1 end) end) end

      Pool.run(pool, fn worker ->
        {object, _} = Pool.eval(worker, "[]", %{}, decode: false)
        assert_raise RuntimeError, @deadlock, fn -> Pool.eval(pool, "x", %{"x" => object}) end
        assert Pool.eval(pool, "1", %{}, queue_timeout: 10) == {:error, :overloaded}
      end)

      assert Pool.eval(pool, "1", %{}) == {1, %{}}
    end

    test "is an error to the last of several who wait for each other" do
      pool = start_pool!(size: 2)
      wait_until(fn -> Pool.info(pool).idle == 2 end)
      results = pool |> Pool.async_stream([1, 2], fn _worker, n -> hold_both(pool, n) end) |> Enum.to_list()
      assert Enum.sort(for {kind, _} <- results, do: kind) == [:error, :ok]
      assert [@deadlock] = for({:error, error} <- results, do: Exception.message(error))
    end

    defp hold_both(pool, n) do
      wait_until(fn -> Pool.info(pool).busy == 2 or Pool.info(pool).queued == 1 or Pool.info(pool).runs > 0 end)
      pool |> Pool.eval("n", %{"n" => n}) |> elem(0)
    end

    test "is none where there is another worker" do
      pool = start_pool!(size: 2)
      assert Pool.run(pool, fn _worker -> Pool.eval(pool, "1", %{}) end) == {1, %{}}
    end
  end

  describe "objects" do
    test "of another pool are refused by name of the reason", %{pool: pool} do
      {object, _} = Pool.eval(pool, "[]", %{}, decode: false)
      other = start_pool!([])
      message = "the object is in a worker of another pool, and can be used in that pool only"
      assert_raise ArgumentError, message, fn -> Pool.eval(other, "x", %{"x" => object}) end
      assert_raise ArgumentError, message, fn -> Pool.call(other, object) end
    end

    test "of a pool that has ended are gone", %{pool: pool} do
      other = start_supervised!({Pool, size: 1}, id: :ended)
      {object, _} = Pool.eval(other, "[]", %{}, decode: false)
      stop_supervised!(:ended)
      error = assert_raise CrashError, fn -> Pool.eval(pool, "x", %{"x" => object}) end
      assert error.reason == :gone
    end
  end

  test "options that no worker could have are refused by value" do
    for {opts, message} <- [
          {[template: "numpy"],
           ~s(expected :template to be one of :data_science, :machine_learning, :minimal, :numpy, got: "numpy")},
          {[env: %{"A=B" => "1"}],
           ~s(expected :env to be names and values without NUL, and names neither empty nor with "=", got: {"A=B", "1"})},
          {[env: %{"A" => "1\0"}],
           ~s(expected :env to be names and values without NUL, and names neither empty nor with "=", got: {"A", <<49, 0>>})},
          {[env: [{"", nil}]],
           ~s(expected :env to be names and values without NUL, and names neither empty nor with "=", got: {"", nil})}
        ] do
      assert_raise ArgumentError, message, fn -> Pool.start_link([size: 1] ++ opts) end
    end
  end

  test "options of a stream are refused before anything runs", %{pool: pool} do
    for {opts, message} <- [
          {[globals: %{a: 1}], "expected :globals to be a map with strings as keys, got: %{a: 1}"},
          {[binaries: :text], "expected :binaries to be :bytes or :str, got: :text"}
        ] do
      assert_raise ArgumentError, message, fn -> Pool.async_stream(pool, [1], "x", opts) end
    end
  end

  test "priority is lowered from what the VM has" do
    {nice, 0} = System.cmd("nice", [])
    expected = min(String.to_integer(String.trim(nice)) + 3, 19)
    assert {^expected, _} = Pool.eval(start_pool!(nice: 3), "import os; os.nice(0)", %{})
  end

  describe "nodes" do
    test "that cannot be reached or have no Pythonx are named" do
      Peers.distribute!()

      assert start_error(size: 1, nodes: [:"nobody@127.0.0.1"]) ==
               ~s(the node :"nobody@127.0.0.1" of the option :nodes cannot be reached)
    end

    test "that are lost take their workers along, and no more" do
      {lost, lost_node} = Peers.start!(python: false)
      {_kept, kept_node} = Peers.start!(python: false)
      pool = start_pool!(nodes: [lost_node, kept_node], size: 4, max_restarts: 1)
      wait_until(fn -> Pool.info(pool).idle == 4 end, 60_000)
      assert Enum.count(Pool.info(pool).workers, &(&1.node == lost_node)) == 2
      Peers.kill!(lost)
      wait_until(fn -> match?(%{idle: 4}, Pool.info(pool)) end, 60_000)
      assert Enum.all?(Pool.info(pool).workers, &(&1.node == kept_node))
      assert pool |> Pool.async_stream(1..8, "x * x") |> Enum.to_list() == for(n <- 1..8, do: {:ok, n * n})
    end
  end
end
