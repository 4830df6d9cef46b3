defmodule Pythonx.Nodes.RemoteTest do
  use Pythonx.Case

  import ExUnit.CaptureIO
  import ExUnit.CaptureLog
  import Pythonx.Peers

  alias Pythonx.Peers.Boxed

  setup_all do
    {_peer, visible} = start!()
    {_peer, hidden} = start!(hidden: true)
    {:ok, visible: visible, hidden: hidden}
  end

  setup context do
    node = context[context[:on] || :visible]
    on_exit(fn -> wait_until(fn -> idle?(node) end) end)
    {:ok, node: node}
  end

  # Nothing runs, and nothing is left.
  defp idle?(node) do
    :erpc.call(node, Pythonx.NIF, :running, []) == [] and handles(node) == 0 and
      counts(node) == %{held: 0, kept: 0} and Pythonx.ObjectTracker.counts() == %{held: 0, kept: 0}
  end

  defp remote!(node, code, globals \\ %{}, opts \\ []) do
    {result, _globals} = Pythonx.remote_eval(node, code, globals, opts)
    result
  end

  # The namespace of the evaluation that makes it goes when the next one takes its place as __main__.
  defp make_and_use_loud!(node) do
    loud =
      remote!(node, """
      import builtins
      class Loud:
          def __del__(self):
              builtins.deleted += 1
      Loud()
      """)

    assert copied!(remote!(node, "type(x).__name__", %{"x" => loud})) == "Loud"
    assert copied!(remote!(node, "import builtins; builtins.deleted")) == 0
  end

  defp copied!(object), do: object |> Pythonx.copy_remote_object() |> Pythonx.decode()

  for kind <- [:visible, :hidden] do
    describe "a #{kind} node" do
      @describetag on: kind

      test "evaluates and gives remote objects back", %{node: node} do
        {result, globals} = Pythonx.remote_eval(node, "y = [x, 2]\nstr(y)", %{"x" => 1})

        assert node(result.resource) == node
        assert node(result.remote_info) == node()
        assert inspect(result) == "#Pythonx.Object<\n  [node: #{node}]\n  '[1, 2]'\n>"
        assert copied!(result) == "[1, 2]"
        assert globals |> Map.keys() |> Enum.sort() == ["x", "y"]
        assert copied!(globals["y"]) == [1, 2]
      end

      test "uses its own objects as they are", %{node: node} do
        list = remote!(node, "[1]")
        same = remote!(node, "x is y[0] is z['k'][0]", %{"x" => list, "y" => {list}, "z" => %{k: [list]}})
        assert copied!(same) == true
        remote!(node, "x.append(2)", %{"x" => list})
        assert copied!(list) == [1, 2]
      end

      test "runs finalizers not later than two evaluations after the last copy was collected", %{node: node} do
        remote!(node, "import builtins; builtins.deleted = 0")

        make_and_use_loud!(node)
        :erlang.garbage_collect()
        # Without a GIL, what belongs to a namespace goes when Python collects.
        remote!(node, "import gc, sysconfig\nif sysconfig.get_config_var('Py_GIL_DISABLED'): gc.collect()\n1")
        assert copied!(remote!(node, "import builtins; builtins.deleted")) == 1
      end

      test "gives everything back when 10,000 handles are dropped at once", %{node: node} do
        :ok = :erpc.call(node, :sys, :statistics, [Pythonx.ObjectTracker, true])

        in_process(fn ->
          code = "for i in range(10_000): globals()[f'v{i}'] = object()\ndel i"
          {nil, globals} = Pythonx.remote_eval(node, code, %{})
          assert map_size(globals) == 10_000
          assert counts(node) == %{held: 0, kept: 10_000}
          assert copied!(remote!(node, "type(x).__name__", %{"x" => globals["v0"]})) == "object"
        end)

        wait_until(fn -> counts(node).kept == 0 and handles(node) == 0 end, 2000)
        {:ok, statistics} = :erpc.call(node, :sys, :statistics, [Pythonx.ObjectTracker, :get])
        assert statistics[:messages_in] < 100
        :ok = :erpc.call(node, :sys, :statistics, [Pythonx.ObjectTracker, false])
      end
    end
  end

  describe "values" do
    test "are encoded on the node, with the options of eval/3", %{node: node} do
      value = %{"k" => {1, nil, [2.5, :atom]}}
      assert copied!(remote!(node, "repr(x)", %{"x" => value})) == "{b'k': (1, None, [2.5, 'atom'])}"
      assert copied!(remote!(node, "repr(x)", %{"x" => value}, binaries: :str)) == "{'k': (1, None, [2.5, 'atom'])}"
    end

    test "that are objects of other nodes are copied, at any depth", %{node: node, hidden: hidden} do
      ours = Pythonx.encode!([1])
      theirs = remote!(hidden, "[2]")
      key = remote!(hidden, "'key'")
      globals = %{"a" => ours, "b" => %{key => theirs}, "c" => [theirs, {ours, MapSet.new([key])}]}
      assert copied!(remote!(node, "repr([a, b, c])", globals)) == "[[1], {'key': [2]}, [[2], ([1], {'key'})]]"
    end

    test "that are structs are encoded by their implementation, with copies of what they hold", %{node: node} do
      boxed = %Boxed{value: [Pythonx.encode!([1]), %Boxed{value: "text"}]}
      assert copied!(remote!(node, "repr(x)", %{"x" => {boxed}})) == "([[1], b'text'],)"
      assert copied!(remote!(node, "repr(x)", %{"x" => {boxed}}, binaries: :str)) == "([[1], 'text'],)"
    end

    test "the result of a statement is nil", %{node: node} do
      assert {nil, %{"x" => x}} = Pythonx.remote_eval(node, "x = 1", %{})
      assert copied!(x) == 1
      assert Pythonx.remote_eval(node, "", %{}) == {nil, %{}}
    end

    test "from this node itself are plain local objects" do
      list = Pythonx.encode!([1])
      {result, %{"x" => x}} = Pythonx.remote_eval(node(), "x.append(2)\nx", %{"x" => list})
      assert %Pythonx.Object{remote_info: nil} = result
      assert Pythonx.decode(x) == [1, 2]
      assert Pythonx.decode(list) == [1, 2]
    end

    test "that are remote objects are refused where only local ones will do", %{node: node} do
      object = remote!(node, "1")
      error = assert_raise Protocol.UndefinedError, fn -> Pythonx.encode!([object]) end

      assert Exception.message(error) =~
               "remote objects cannot be encoded implicitly, call Pythonx.copy_remote_object/1 first " <>
                 "to get a local copy of the object"

      message = ~r/^decode failed, expected a resource reference, got: #Ref<[\d.]+>$/
      assert_raise ArgumentError, message, fn -> Pythonx.decode(object) end
    end
  end

  describe "errors" do
    test "of Python keep lines, type, value and traceback", %{node: node} do
      error = assert_raise Pythonx.Error, fn -> remote!(node, "def f():\n    1/0\nf()") end

      assert Exception.message(error) =~ "Python exception raised\n\n        Traceback (most recent call last):\n"
      assert List.last(error.lines) == "ZeroDivisionError: division by zero\n"
      for object <- [error.type, error.value, error.traceback], do: assert(node(object.remote_info) == node())

      facts = remote!(node, "v.args[0], t.__name__", %{"v" => error.value, "t" => error.type})
      assert copied!(facts) == {"division by zero", "ZeroDivisionError"}
      lines = remote!(node, "tb.tb_lineno, tb.tb_next.tb_lineno", %{"tb" => error.traceback})
      assert copied!(lines) == {3, 2}
    end

    test "of Elixir are raised here, with the stacks of both sides", %{node: node} do
      foreign = :erpc.call(node, Process, :whereis, [:init])

      message =
        "decode failed, expected a local pid, but got a remote one. " <>
          "NIFs can only send messages to local PIDs and remote PIDs cannot be decoded"

      assert_raise ArgumentError, message, fn -> remote!(node, "x", %{"x" => self()}) end
      assert_raise ArgumentError, ~s([0]["k"]: ) <> message, fn -> remote!(node, "x", %{"x" => [%{"k" => self()}]}) end
      assert_raise ArgumentError, ~s([0]["k"]: ) <> message, fn -> Pythonx.encode!([%{"k" => foreign}]) end

      stacktrace =
        try do
          remote!(node, "x", %{"x" => make_ref()})
          flunk("nothing was raised")
        rescue
          error in Protocol.UndefinedError ->
            assert error.protocol == Pythonx.Encoder
            __STACKTRACE__
        end

      modules = Enum.map(stacktrace, &elem(&1, 0))
      assert Pythonx.Encoder in modules
      assert __MODULE__ in modules
    end

    test "in the arguments are found before anything is sent" do
      message = "unknown keys [:foo] in [foo: 1], the allowed keys are: [:stdout_device, :stderr_device]"
      assert_raise ArgumentError, message, fn -> Pythonx.remote_eval(:nowhere@nohost, "1", %{}, foo: 1) end

      message = "expected globals keys to be strings, got: :a"
      assert_raise ArgumentError, message, fn -> Pythonx.remote_eval(:nowhere@nohost, "1", %{a: 1}) end
      assert_raise FunctionClauseError, fn -> apply(Pythonx, :remote_eval, [node(), ~c"1", %{}]) end
    end

    test "a time limit is kept by the node", %{node: node} do
      assert_raise Pythonx.TimeoutError, fn -> remote!(node, "while True: pass", %{}, timeout: 50) end
      assert copied!(remote!(node, "1")) == 1
    end

    test "exits and throws of what runs on the node are exits here", %{node: node} do
      boxed = %Boxed{value: :gone, how: :exit}
      assert catch_exit(remote!(node, "x", %{"x" => boxed})) == :gone

      capture_log(fn ->
        boxed = %Boxed{value: :gone, how: :throw}
        assert {{:nocatch, :gone}, _stacktrace} = catch_exit(remote!(node, "x", %{"x" => boxed}))
      end)
    end

    test "a node that cannot be reached" do
      capture_log(fn ->
        assert catch_exit(Pythonx.remote_eval(:"nobody@127.0.0.1", "1", %{})) == :noconnection
      end)
    end

    test "a node without Python, and one without the application" do
      {_peer, bare} = start!(python: false)
      message = "Python interpreter has not been initialized"
      assert_raise RuntimeError, message, fn -> Pythonx.remote_eval(bare, "1", %{}) end

      {_peer, stopped} = start!(app: false)
      message = "the :pythonx application needs to be started before calling Pythonx.eval/3"
      assert_raise RuntimeError, message, fn -> Pythonx.remote_eval(stopped, "1", %{}) end
    end
  end

  describe "a caller without Python of its own" do
    test "evaluates on nodes that have one, and may look at the results", %{node: node} do
      {_peer, bare} = start!(python: false)
      shown = remote_eval_from(bare, node, "[1]", {Kernel, :inspect})
      assert shown == "#Pythonx.Object<\n  [node: #{node}]\n  [1]\n>"

      copy = {Pythonx, :copy_remote_object}
      error = assert_raise ErlangError, fn -> remote_eval_from(bare, node, "[1]", copy) end
      assert {:exception, %RuntimeError{message: "Python interpreter has not been initialized"}, _} = error.original
    end

    test "needs the application, and is told so before anything runs", %{node: node} do
      {_peer, stopped} = start!(app: false)
      args = [node, "import builtins; builtins.ran = True", %{}]
      error = assert_raise ErlangError, fn -> :erpc.call(stopped, Pythonx, :remote_eval, args) end
      message = "the :pythonx application needs to be started before calling Pythonx.remote_eval/4"
      assert {:exception, %RuntimeError{message: ^message}, _} = error.original
      assert copied!(remote!(node, "import builtins; hasattr(builtins, 'ran')")) == false
    end
  end

  describe "what ends early" do
    test "a node that dies: the caller gets an error within a second and keeps nothing" do
      {peer, node} = start!()
      device = start_device()

      task =
        Task.async(fn ->
          object = remote!(node, "1")
          code = "print('running', flush=True)\nimport time\ntime.sleep(60)"
          reason = catch_exit(remote!(node, code, %{"x" => object}, stdout_device: device))
          {reason, System.monotonic_time(:millisecond)}
        end)

      assert_receive {:device, :out, "running\n"}, 5000
      killed = System.monotonic_time(:millisecond)
      kill!(peer)

      assert {:noconnection, ended} = Task.await(task)
      assert ended - killed < 1000
      wait_until(fn -> Pythonx.ObjectTracker.counts() == %{held: 0, kept: 0} end)
    end

    test "a caller that dies, of whatever: Python is interrupted, no process is left", %{node: node} do
      processes = length(:erpc.call(node, Process, :list, []))

      for reason <- [:kill, :shutdown] do
        device = start_device()
        code = "print('running', flush=True)\nimport time\ntime.sleep(60)"
        caller = spawn(fn -> remote!(node, code, %{}, stdout_device: device) end)
        assert_receive {:device, :out, "running\n"}, 5000
        Process.exit(caller, reason)
        wait_until(fn -> :erpc.call(node, Pythonx.NIF, :running, []) == [] end, 1000)
      end

      wait_until(fn -> length(:erpc.call(node, Process, :list, [])) <= processes end)
    end

    test "a calling node that dies: the same", %{node: node} do
      {peer, calling} = start!()
      code = "import time\nwhile True: time.sleep(0.01)"
      :erpc.cast(calling, Pythonx, :remote_eval, [node, "x", %{"x" => 1}])
      :erpc.cast(calling, Pythonx, :remote_eval, [node, code, %{}])
      wait_until(fn -> :erpc.call(node, Pythonx.NIF, :running, []) != [] end)
      kill!(peer)
      wait_until(fn -> idle?(node) end, 1000)
    end
  end

  describe "output" do
    test "goes to the caller's devices, all of it before the result", %{node: node} do
      for _ <- 1..20 do
        out = capture_io(fn -> remote!(node, "print('out')\nprint('x' * 1_000_000)") end)
        assert out == "out\n" <> String.duplicate("x", 1_000_000) <> "\n"
      end
    end

    test "of standard error goes to the caller's standard error", %{node: node} do
      assert capture_io(:stderr, fn -> remote!(node, "import sys; sys.stderr.write('oh')") end) == "oh"
    end

    test "goes to devices that the caller names, also by a name that is known here only", %{node: node} do
      Process.register(start_device(:named), :pythonx_remote_test_device)
      remote!(node, "print('hi')", %{}, stdout_device: :pythonx_remote_test_device)
      assert_receive {:device, :named, "hi\n"}

      message = "expected :stdout_device to be a device, but no process is registered as :nobody_at_all"
      assert_raise ArgumentError, message, fn -> remote!(node, "1", %{}, stdout_device: :nobody_at_all) end
    end

    test "of threads that outlive the evaluation still goes there", %{node: node} do
      code = """
      import threading
      go = threading.Event()
      def late():
          go.wait()
          print("late")
      threading.Thread(target=late).start()
      go
      """

      go = remote!(node, code, %{}, stdout_device: start_device())
      remote!(node, "print('other')\ngo.set()", %{"go" => go}, stdout_device: start_device(:other))
      assert_receive {:device, :out, "late"}, 2000
      assert_receive {:device, :other, "other\n"}
      refute_received {:device, :other, _}
    end

    test "of threads goes nowhere when the caller's node is gone, and does no harm", %{node: node} do
      {peer, calling} = start!()

      code = """
      import builtins, threading
      builtins.go = threading.Event()
      def late():
          builtins.go.wait()
          print("late")
          builtins.go.clear()
      builtins.thread = threading.Thread(target=late)
      builtins.thread.start()
      """

      :erpc.call(calling, Pythonx, :remote_eval, [node, code, %{}, [stdout_device: {:user, calling}]])
      kill!(peer)
      remote!(node, "import builtins; builtins.go.set(); builtins.thread.join(); del builtins.thread, builtins.go")
      assert copied!(remote!(node, "1")) == 1
    end
  end

  describe "copy_remote_object/1" do
    test "gives a local object back as it is" do
      object = Pythonx.encode!(1)
      assert Pythonx.copy_remote_object(object) == object
    end

    test "copies what cloudpickle can, lambdas and classes of evaluated code too", %{node: node} do
      function = Pythonx.copy_remote_object(remote!(node, "y = 2\nlambda x: x + y"))
      assert function.remote_info == nil
      assert eval!("f(40)", %{"f" => function}) == 42

      instance = remote!(node, "class Q:\n    z = 3\nQ()")
      remote!(node, "1")
      assert eval!("q.z", %{"q" => Pythonx.copy_remote_object(instance)}) == 3
    end

    test "copies large data", %{node: node} do
      data = Pythonx.copy_remote_object(remote!(node, "b'x' * 50_000_000"))
      assert byte_size(Pythonx.decode(data)) == 50_000_000
    end

    test "says what to install when plain pickle fails", %{node: node} do
      without_cloudpickle(node, fn ->
        error = assert_raise ArgumentError, fn -> Pythonx.copy_remote_object(remote!(node, "lambda: 1")) end

        assert error.message =~
                 ~r/\A#{Regex.escape("""
                 failed to serialize the given object using the built-in pickle module. The pickle module does not support all object types, for extended pickling support add the following package:

                     cloudpickle==3.1.2

                 Original error: Python exception raised

                 """)}        .*PicklingError: .*\n\n\z/s

        assert copied!(remote!(node, "[1]")) == [1]
      end)
    end

    test "says that another module failed", %{node: node} do
      error = assert_raise RuntimeError, fn -> Pythonx.copy_remote_object(remote!(node, "(x for x in [])")) end

      prefix =
        "failed to serialize the given object using the cloudpickle module.\n\nOriginal error: Python exception raised\n\n"

      assert String.starts_with?(error.message, prefix)
      assert String.ends_with?(error.message, "TypeError: cannot pickle 'generator' object\n\n")
    end

    test "says what else went wrong", %{node: node} do
      swap = "import pythonx._pickling as p; p.saved = p.pickler; p.pickler = lambda: 1/0"
      remote!(node, swap)
      error = assert_raise RuntimeError, fn -> Pythonx.copy_remote_object(remote!(node, "1")) end
      remote!(node, "import pythonx._pickling as p; p.pickler = p.saved; del p.saved")

      prefix = "failed to serialize the given object, got Python exception: Python exception raised\n\n"
      assert String.starts_with?(error.message, prefix)
      assert String.ends_with?(error.message, "ZeroDivisionError: division by zero\n\n")
    end

    test "raises what loading raises", %{node: node} do
      without_cloudpickle(node, fn ->
        instance = remote!(node, "class Q: pass\nQ()")
        error = assert_raise Pythonx.Error, fn -> Pythonx.copy_remote_object(instance) end
        assert List.last(error.lines) =~ ~r/\AAttributeError: .*'Q'/
        assert error.value.remote_info == nil
      end)
    end

    test "says that the object is no more", %{node: node} do
      stale = %{remote!(node, "1") | remote_info: nil}
      :erlang.garbage_collect()
      wait_until(fn -> handles(node) == 0 end)

      message = ~r/\Adecode failed, expected a resource reference, got: #Ref<[\d.]+>\z/
      assert_raise ArgumentError, message, fn -> Pythonx.copy_remote_object(stale) end
      assert_raise ArgumentError, message, fn -> remote!(node, "x", %{"x" => [stale]}) end
      assert inspect(stale) =~ "#Inspect.Error<"
    end

    test "says that the node is gone" do
      {peer, node} = start!()
      object = remote!(node, "1")
      kill!(peer)
      error = assert_raise ErlangError, fn -> Pythonx.copy_remote_object(object) end
      assert error.original == {:erpc, :noconnection}
      assert inspect(object) =~ "{:erpc, :noconnection}"
      assert_raise Inspect.Error, fn -> inspect(object, safe: false) end
    end
  end

  defp without_cloudpickle(node, fun) do
    remote!(node, "import sys; saved = sys.modules.pop('cloudpickle', None); sys.modules['cloudpickle'] = None")
    fun.()
  after
    remote!(node, "import sys; del sys.modules['cloudpickle']")
  end
end
