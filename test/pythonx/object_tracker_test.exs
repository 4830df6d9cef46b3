defmodule Pythonx.ObjectTrackerTest do
  use Pythonx.Case

  import ExUnit.CaptureLog
  import Pythonx.Peers

  alias Pythonx.ObjectTracker

  setup_all do
    {_peer, owner} = start!()
    {:ok, owner: owner}
  end

  setup %{owner: owner} do
    on_exit(fn -> wait_until(fn -> nothing_left?(owner) end) end)
  end

  defp nothing_left?(owner) do
    handles(owner) == 0 and counts(owner) == %{held: 0, kept: 0} and ObjectTracker.counts() == %{held: 0, kept: 0}
  end

  defp remote!(node, code, globals \\ %{}) do
    {result, _globals} = Pythonx.remote_eval(node, code, globals)
    result
  end

  # An object that no tracker knows of, as a message brings it. A process on its node holds it meanwhile.
  defp untracked!(node, code), do: hold!(node, node, code)

  defp tracker(node), do: :erpc.call(node, Process, :whereis, [ObjectTracker])

  defp kill_tracker!(node) do
    tracker = tracker(node)
    capture_log(fn -> Process.exit(tracker, :kill) end)
    wait_until(fn -> tracker(node) not in [nil, tracker] end)
  end

  defp message_queue_len(pid) do
    {:message_queue_len, length} = :erpc.call(node(pid), Process, :info, [pid, :message_queue_len])
    length
  end

  defp alive?(pid), do: :erpc.call(node(pid), Process, :alive?, [pid])

  describe "track_remote_object/1" do
    test "leaves local objects alone" do
      object = Pythonx.encode!(1)
      assert ObjectTracker.track_remote_object(object) == {:noop, object}
    end

    test "has the owner keep an object until the last copy on this node is collected", %{owner: owner} do
      in_process(fn ->
        {object, keeper} = untracked!(owner, "[1]")
        assert object.remote_info == nil
        assert {:ok, tracked, marker} = ObjectTracker.track_remote_object(object)
        assert tracked.resource == object.resource
        assert node(tracked.remote_info) == node()
        assert node(marker) == owner
        assert alive?(marker)
        assert ObjectTracker.track_remote_object(tracked) == {:noop, tracked}

        # The same object again is one more handle.
        assert {:ok, again, ^marker} = ObjectTracker.track_remote_object(object)
        assert counts(owner) == %{held: 0, kept: 2}
        assert again.resource == tracked.resource

        send(keeper, :let_go)
        in_process(fn -> assert inspect(again) =~ "[1]" end)
        assert inspect(tracked) =~ "[1]"
      end)

      wait_until(fn -> nothing_left?(owner) end)
    end

    test "tracks an object again that another node had tracked", %{owner: owner} do
      {_peer, other} = start!(python: false)
      {object, holder} = hold!(other, owner, "[1]")
      assert node(object.remote_info) == other
      assert {:ok, tracked, _marker} = ObjectTracker.track_remote_object(object)
      assert node(tracked.remote_info) == node()
      send(holder, :let_go)
      wait_until(fn -> counts(owner).kept == 1 end)
      assert inspect(tracked) =~ "[1]"
    end

    test "raises for an object that its owner has collected", %{owner: owner} do
      {object, keeper} = untracked!(owner, "[1]")
      send(keeper, :let_go)
      wait_until(fn -> handles(owner) == 0 end)

      assert_raise ArgumentError, ~r/\Adecode failed, expected a resource reference, got: #Ref<[\d.]+>\z/, fn ->
        ObjectTracker.track_remote_object(object)
      end
    end

    test "exits when the owner is gone or has no tracker" do
      {peer, owner} = start!()
      {object, _keeper} = untracked!(owner, "[1]")
      :ok = :peer.call(peer, :application, :stop, [:pythonx])
      assert catch_exit(ObjectTracker.track_remote_object(object)) == :noproc
      kill!(peer)
      assert catch_exit(ObjectTracker.track_remote_object(object)) == :noconnection
      wait_until(fn -> ObjectTracker.counts().held == 0 end)
    end

    test "needs a tracker on this node" do
      {_peer, node} = start!(app: false)
      error = catch_exit(:erpc.call(node, ObjectTracker, :whereis!, []))
      assert error == {:exception, {:noproc, {ObjectTracker, :whereis!, []}}}
    end

    test "leaves nothing behind when processes that track are killed", %{owner: owner} do
      for _ <- 1..300 do
        {pid, monitor} =
          spawn_monitor(fn -> Stream.repeatedly(fn -> remote!(owner, "a = 1; b = 2; [a]") end) |> Stream.run() end)

        :timer.kill_after(:rand.uniform(4), pid)
        assert_receive {:DOWN, ^monitor, :process, ^pid, :killed}
      end

      wait_until(fn -> nothing_left?(owner) end)
    end
  end

  describe "the marker" do
    test "is one while anything is kept, and another one the next time", %{owner: owner} do
      {first, _keeper} = untracked!(owner, "1")
      {second, _keeper} = untracked!(owner, "2")

      a =
        in_process(fn ->
          {:ok, one, a} = ObjectTracker.track_remote_object(first)
          {:ok, two, b} = ObjectTracker.track_remote_object(second)
          assert a == b
          assert alive?(a)
          {a, [one, two]}
        end)

      wait_until(fn -> not alive?(a) end)

      {:ok, tracked, c} = ObjectTracker.track_remote_object(first)
      assert c != a
      assert alive?(c)
      ObjectTracker.identity(tracked)
    end
  end

  describe "a tracker" do
    test "takes no notice of what it does not know", %{owner: owner} do
      tracker = tracker(owner)
      send(tracker, {:untrack, make_ref(), self()})
      send(tracker, {:untrack, self(), [1, 2]})
      send(tracker, {:local_gc, self(), make_ref()})
      send(tracker, {:tracked, node(), 1, nil, []})
      send(tracker, {:DOWN, make_ref(), :process, self(), :normal})
      send(tracker, {:nodeup, :unknown@nohost, %{}})
      send(tracker, :anything)
      object = remote!(owner, "1")
      assert inspect(object) =~ "1"
      assert tracker(owner) == tracker
    end

    test "that crashes on the owner loses nothing", %{owner: owner} do
      in_process(fn ->
        object = remote!(owner, "[1]")
        {:ok, _again, marker} = ObjectTracker.track_remote_object(%{object | remote_info: nil})
        kill_tracker!(owner)
        assert alive?(marker)
        :erpc.call(owner, :erlang, :garbage_collect, [])
        other = remote!(owner, "x.append(2)\nx", %{"x" => object})
        assert inspect(object) =~ "[1, 2]"
        assert inspect(other) =~ "[1, 2]"
        kill_tracker!(owner)
      end)

      wait_until(fn -> nothing_left?(owner) end)
    end

    test "that crashes with messages unread loses nothing", %{owner: owner} do
      for node <- [owner, node()] do
        tracker = tracker(node)

        in_process(fn ->
          object = remote!(owner, "[1]")
          :sys.suspend(tracker)
          [object]
        end)

        wait_until(fn -> ObjectTracker.counts().held == 0 and message_queue_len(tracker) > 0 end)
        assert counts(owner).kept == 1
        kill_tracker!(node)
        wait_until(fn -> nothing_left?(owner) end)
      end
    end

    test "that crashes on the holder loses nothing", %{owner: owner} do
      in_process(fn ->
        object = remote!(owner, "[1]")
        kill_tracker!(node())
        assert inspect(object) =~ "[1]"
        assert counts(owner).kept == 1
        kill_tracker!(node())
      end)

      wait_until(fn -> nothing_left?(owner) end)
    end
  end

  describe "a connection" do
    test "that breaks and can be made again loses nothing", %{owner: owner} do
      in_process(fn ->
        kept = remote!(owner, "[1]")

        for _ <- 1..5 do
          in_process(fn ->
            dropped = remote!(owner, "[2]")
            true = Node.disconnect(owner)
            ObjectTracker.identity(dropped)
          end)

          assert inspect(kept) =~ "[1]"
        end

        wait_until(fn -> counts(owner).kept == 1 and handles(owner) == 1 end)
        assert inspect(kept) =~ "[1]"
      end)
    end

    test "that breaks while everything is dropped loses nothing", %{owner: owner} do
      for _ <- 1..5 do
        in_process(fn ->
          dropped = remote!(owner, "[2]")
          true = Node.disconnect(owner)
          [dropped]
        end)

        wait_until(fn -> nothing_left?(owner) end)
      end
    end

    test "that breaks for long: the owner drops everything, and what is gone says so" do
      {peer, owner} = start!(hidden: true)
      object = remote!(owner, "[1]")
      cookie = Node.get_cookie()

      capture_log(fn ->
        :erlang.set_cookie(owner, :another)
        :peer.call(peer, :erlang, :set_cookie, [node(), :yet_another])
        true = Node.disconnect(owner)
        wait_until(fn -> :peer.call(peer, ObjectTracker, :counts, []) == %{held: 0, kept: 0} end)
        wait_until(fn -> match?({_threads, 0}, :peer.call(peer, Pythonx.NIF, :stats, [])) end)
        assert inspect(object) =~ "{:erpc, :noconnection}"
      end)

      :erlang.set_cookie(owner, cookie)
      :peer.call(peer, :erlang, :set_cookie, [node(), cookie])
      true = Node.connect(owner)
      stale = ~r/decode failed, expected a resource reference, got: #Ref<[\d.]+>/
      assert inspect(object) =~ stale
      assert_raise ArgumentError, stale, fn -> remote!(owner, "x", %{"x" => object}) end
      assert_raise ArgumentError, stale, fn -> Pythonx.copy_remote_object(object) end

      assert inspect(remote!(owner, "[2]")) =~ "[2]"
    end

    test "that comes back: what the owner still has is kept for this node again" do
      {peer, owner} = start!()
      {object, keeper} = untracked!(owner, "[1]")
      {:ok, object, _marker} = ObjectTracker.track_remote_object(object)
      cookie = Node.get_cookie()

      capture_log(fn ->
        :erlang.set_cookie(owner, :another)
        :peer.call(peer, :erlang, :set_cookie, [node(), :yet_another])
        true = Node.disconnect(owner)
        wait_until(fn -> :peer.call(peer, ObjectTracker, :counts, []) == %{held: 0, kept: 0} end)
      end)

      :erlang.set_cookie(owner, cookie)
      :peer.call(peer, :erlang, :set_cookie, [node(), cookie])
      true = Node.connect(owner)
      wait_until(fn -> counts(owner) == %{held: 0, kept: 1} end)
      send(keeper, :let_go)
      wait_until(fn -> not alive?(keeper) end)
      assert inspect(object) =~ "[1]"
    end
  end

  describe "a node" do
    test "that dies as a holder has nothing kept for it any more", %{owner: owner} do
      {peer, holder} = start!(python: false)
      {_object, _pid} = hold!(holder, owner, "[1]")
      assert counts(owner) == %{held: 0, kept: 1}
      kill!(peer)
      wait_until(fn -> counts(owner) == %{held: 0, kept: 0} and handles(owner) == 0 end)
    end

    test "whose application stops as a holder has nothing kept for it any more", %{owner: owner} do
      {peer, holder} = start!(python: false)
      {_object, pid} = hold!(holder, owner, "[1]")
      :ok = :peer.call(peer, :application, :stop, [:pythonx])
      wait_until(fn -> counts(owner) == %{held: 0, kept: 0} and handles(owner) == 0 end)
      send(pid, :let_go)
    end

    test "whose application is stopped and started again goes on, without what it kept for others" do
      {peer, owner} = start!()
      object = remote!(owner, "[1]")
      :ok = :peer.call(peer, :application, :stop, [:pythonx])
      wait_until(fn -> handles(owner) == 0 end)
      :ok = :peer.call(peer, :application, :start, [:pythonx])
      assert inspect(remote!(owner, "[2]")) =~ "[2]"
      assert inspect(object) =~ "decode failed, expected a resource reference"
    end

    test "that dies as an owner and comes back under its name says that its objects are gone" do
      name = :peer.random_name()
      {peer, owner} = start!(name: name)
      object = remote!(owner, "[1]")
      kill!(peer)
      assert inspect(object) =~ "{:erpc, :noconnection}"

      {_peer, ^owner} = start!(name: name)
      stale = ~r/decode failed, expected a resource reference, got: #Ref<[\d.]+>/
      assert inspect(object) =~ stale
      assert_raise ArgumentError, stale, fn -> Pythonx.copy_remote_object(object) end
      assert inspect(remote!(owner, "[2]")) =~ "[2]"
    end
  end
end
