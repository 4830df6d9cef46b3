defmodule Pythonx.ReleaseOfObjectsTest do
  # Whole-VM state: what runs, and the log.
  use ExUnit.Case, async: false
  use Pythonx.Case

  import ExUnit.CaptureLog

  defp run(code), do: Pythonx.eval(code, %{})

  # An object whose finalizer waits until it is let go, or is interrupted, in a process of its own that has ended.
  defp leave_behind(finalizer) do
    {pid, monitor} =
      spawn_monitor(fn ->
        run("""
        import sys, threading
        if not hasattr(sys, "releases"): sys.releases = {"go": threading.Event(), "seen": []}
        class Left:
          def __del__(self):
            #{finalizer}
        Left()
        """)
      end)

    assert_receive {:DOWN, ^monitor, :process, ^pid, :normal}, 30_000
  end

  defp seen, do: eval!("import sys; [str(item) for item in sys.releases['seen']]", %{}) |> Enum.map(&to_string/1)

  defp running_release do
    Enum.find(Pythonx.running(), &(&1.process == Process.whereis(Pythonx.Janitor)))
  end

  setup do
    on_exit(fn ->
      eval!("import sys\nif hasattr(sys, 'releases'): sys.releases['go'].set(); del sys.releases\n0")
      wait_until(fn -> running_release() == nil end)
    end)
  end

  test "a finalizer that does not return is shown, reported and interrupted, and holds up nobody" do
    log =
      capture_log(fn ->
        leave_behind("""
        try:
              while not sys.releases["go"].wait(0.01): pass
            except KeyboardInterrupt:
              sys.releases["seen"].append("interrupted")
        """)

        wait_until(&running_release/0)
        for n <- 1..200, do: assert(eval!("n + 1", %{"n" => n}) == n + 1)
        assert %{code: "release of an object of type Left", main_thread: false} = running_release()
        reported = fn -> :sys.get_state(Pythonx.Calls.Watch).stuck > 0 end
        wait_until(reported)
        # What comes after it is dropped all the same.
        leave_behind(~s|sys.releases["seen"].append("another")|)
        wait_until(fn -> seen() == ["another"] end)
        assert Pythonx.interrupt(Process.whereis(Pythonx.Janitor))
        wait_until(fn -> seen() == ["another", "interrupted"] end)
        wait_until(fn -> not reported.() end)
      end)

    assert log =~ ~r/a finalizer of Python goes on after \d+ ms, its thread is set aside until it ends: release of an/
    assert log =~ "Pythonx.interrupt(Process.whereis(Pythonx.Janitor)) interrupts it"
    assert log =~ ~r/a finalizer of Python ended after \d+ ms: release of an object of type Left/
  end

  test "callbacks of weak references and finally blocks of generators are nobody's else either" do
    {pid, monitor} =
      spawn_monitor(fn ->
        run("""
        import sys, threading, weakref
        sys.releases = {"go": threading.Event(), "seen": []}
        class Plain: pass
        plain = Plain()
        def gone(_, releases=sys.releases): releases["go"].wait(); releases["seen"].append("callback")
        sys.reference = weakref.ref(plain, gone)
        def generate(releases=sys.releases):
          try: yield 1
          finally: releases["go"].wait(); releases["seen"].append("finally")
        generator = generate(); next(generator)
        held = [[plain], {"held": (generator,)}]
        del plain, generator
        globals().pop("held")
        """)
      end)

    assert_receive {:DOWN, ^monitor, :process, ^pid, :normal}, 30_000
    wait_until(&running_release/0)
    for _ <- 1..50, do: assert(eval!("1") == 1)
    assert seen() == []
    eval!("import sys; sys.releases['go'].set(); 0")
    wait_until(fn -> Enum.sort(seen()) == ["callback", "finally"] end)
    eval!("import sys; del sys.reference; 0")
  end

  test "finalizers run while other processes evaluate all the time, and drop objects of all kinds" do
    busy =
      spawn_link(fn ->
        Stream.repeatedly(fn -> run("[object(), 1j, 'text', [1], {1, 2}, {}, b'', (1, 2.5), set]") end) |> Stream.run()
      end)

    for n <- 1..20 do
      leave_behind(~s|sys.releases["seen"].append(#{n})|)
      wait_until(fn -> List.last(seen()) == "#{n}" end)
    end

    Process.unlink(busy)
    Process.exit(busy, :kill)
  end

  test "objects of many kinds that are dropped at once all go" do
    {before, _} = Pythonx.eval("import gc, weakref\nclass Kept: pass\ncounts = []\nKept", %{})

    task =
      Task.async(fn ->
        {list, _} =
          Pythonx.eval(
            """
            objects = []
            for i in range(20_000):
              objects += [object(), kept(), complex(i, 1), [kept()], str(i)]
            objects
            """,
            %{"kept" => before}
          )

        length(Pythonx.decode(list))
      end)

    assert Task.await(task, 60_000) == 100_000
    count = "import gc; sum(type(o) is kept for o in gc.get_objects())"
    wait_until(fn -> eval!(count, %{"kept" => before}) == 0 end)
  end

  test "names of an earlier evaluation are not finalized by the next one" do
    parent = self()

    spawn_link(fn ->
      # The object is a global only, and nobody has a handle of it once this has returned.
      run("""
      import sys, threading
      sys.releases = {"go": threading.Event(), "seen": []}
      class Left:
        def __del__(self, releases=sys.releases): releases["go"].wait(); releases["seen"].append("left")
      sys.left = Left
      1
      """)

      run("import sys; kept = sys.left(); 1")
      :erlang.garbage_collect()
      send(parent, {:next, eval!("2")})
      send(parent, {:next, eval!("3")})
    end)

    assert_receive {:next, 2}
    assert_receive {:next, 3}
    eval!("import sys; sys.releases['go'].set(); del sys.left; 0")
    wait_until(fn -> seen() == ["left"] end)
  end

  test "large containers are dropped whole, however they are nested" do
    eval!("""
    import sys
    sys.count = [0]
    class Counted:
      def __del__(self, count=sys.count): count[0] += 1
    sys.counted = Counted
    0
    """)

    for code <- [
          "[Counted() for _ in range(30_000)]",
          "tuple(Counted() for _ in range(30_000))",
          "{n: Counted() for n in range(30_000)}",
          "{Counted() for _ in range(30_000)}",
          "[(), {'a': [[Counted() for _ in range(300)] for _ in range(100)]}]",
          "({1: {2: tuple([Counted() for _ in range(30_000)])}},)",
          "[[shared] * 100 for shared in [Counted() for _ in range(30_000)]]"
        ] do
      {pid, monitor} = spawn_monitor(fn -> run("import sys\nCounted = sys.counted\n" <> code) end)
      assert_receive {:DOWN, ^monitor, :process, ^pid, :normal}, 30_000
      wait_until(fn -> eval!("import sys; sys.count[0]") == 30_000 end, 30_000)
      eval!("import sys; sys.count[0] = 0; 0")
    end

    eval!("import sys; del sys.counted, sys.count; 0")
  end

  test "a container that somebody finds while it is emptied stays a container" do
    code = """
    import gc, sys
    class Finder:
      def __del__(self, found=sys.found):
        for item in gc.get_objects():
          if type(item) is tuple and len(item) == 50_001: found.append(item)
    tuple([Finder()] + [[] for _ in range(50_000)])
    """

    eval!("import sys; sys.found = []; 0")
    {pid, monitor} = spawn_monitor(fn -> run(code) end)
    assert_receive {:DOWN, ^monitor, :process, ^pid, :normal}, 30_000
    wait_until(fn -> running_release() == nil and eval!("import sys; len(sys.found)") > 0 end, 30_000)

    assert eval!("import sys; sorted({type(item).__name__ for item in sys.found[0]})") in [
             ["NoneType"],
             ["NoneType", "list"]
           ]

    eval!("import sys; del sys.found; 0")
  end

  test "releases go on when the application is stopped, and where all is in order afterwards" do
    log = capture_log(fn -> leave_behind(~s|sys.releases["seen"].append("one")|) end)
    wait_until(fn -> seen() == ["one"] end)
    refute log =~ "finalizer"
  end
end
