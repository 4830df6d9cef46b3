defmodule Pythonx.ServerTest do
  use Pythonx.Case, async: false

  import ExUnit.CaptureLog

  alias Pythonx.Server

  doctest Pythonx.Server

  @code """
  import pythonx
  class Counter:
      def __init__(self, start=0, test=None):
          self.count, self.test = start, test
          if start < 0: raise ValueError('negative')
      def add(self, n=1):
          self.count += n
          return self.count
      def fail(self):
          self.count += 100
          raise KeyError('broken')
      def sleep(self):
          import time
          time.sleep(60)
      def handle_info(self, message):
          if message == 'fail': raise RuntimeError('no such message')
          pythonx.send(self.test, (pythonx.Atom('info'), message))
      def terminate(self, reason):
          pythonx.send(self.test, (pythonx.Atom('terminated'), reason))
  """

  defp start(opts \\ []) do
    start_supervised!({Server, Keyword.merge([code: @code, class: "Counter", kwargs: [test: self()]], opts)})
  end

  test "keeps its state between calls" do
    server = start(args: [5])
    assert Server.call(server, :add) == 6
    assert Server.call(server, "add", [10]) == 16
    assert Server.call(server, :add, [], n: 4) == 20
    assert %Pythonx.Object{} = Server.call(server, :add, [], [], decode: false)
    assert Server.cast(server, :add, [100]) == :ok
    assert Server.call(server, :add, [0]) == 121
  end

  test "an exception in a call is raised in the caller, and the state is kept" do
    server = start()
    error = assert_raise Pythonx.Error, fn -> Server.call(server, :fail) end
    assert List.last(error.lines) == "KeyError: 'broken'\n"
    assert Server.call(server, :add) == 101
    error = assert_raise Pythonx.Error, fn -> Server.call(server, :missing) end
    assert List.last(error.lines) == "AttributeError: 'Counter' object has no attribute 'missing'\n"
    assert_raise Protocol.UndefinedError, fn -> Server.call(server, :add, [make_ref()]) end
    assert Server.call(server, :add) == 102
  end

  test "an exception in a cast or a message is logged, and the server goes on" do
    server = start()

    log =
      capture_log(fn ->
        Server.cast(server, :fail)
        send(server, "fail")
        assert Server.call(server, :add) == 101
      end)

    assert log =~ "Pythonx.Server #{inspect(server)}, fail: ** (Pythonx.Error) Python exception raised"
    assert log =~ "KeyError: 'broken'"
    assert log =~ "handle_info: ** (Pythonx.Error)"
  end

  test "a call that takes too long is stopped, and the server goes on" do
    await_main_thread()
    server = start()
    assert_raise Pythonx.TimeoutError, fn -> Server.call(server, :sleep, [], [], timeout: 50) end
    assert Server.call(server, :add) == 1
    refute_received _anything
  end

  test "the time of a call is that of its caller: while others are served it counts, and then the method is not called" do
    server = start()
    test = self()

    f = fn ->
      send(test, {:serving, self()})
      receive(do: (:go -> nil))
    end

    busy = Task.async(fn -> Server.call(server, :add, [Pythonx.call(add_later(), [f])]) end)
    assert_receive {:serving, handler}
    error = assert_raise Pythonx.TimeoutError, fn -> Server.call(server, :add, [100], [], timeout: 20) end
    assert error.timeout == 20
    send(handler, :go)
    assert Task.await(busy, patience()) == 1
    assert Server.call(server, :add) == 2
    refute_received _anything
  end

  # A number that takes its time to be added.
  defp add_later do
    code =
      "class Later:\n  def __init__(self, f): self.f = f\n  def __radd__(self, other):\n    self.f()\n    return other + 1"

    {nil, globals} = Pythonx.eval(code, %{})
    globals["Later"]
  end

  test "other messages go to handle_info" do
    server = start()
    send(server, %{"k" => [1, :two]})
    assert_receive {:info, %{"k" => [1, "two"]}}
  end

  test "terminate runs when the server is stopped" do
    server = start()
    assert Server.call(server, :add) == 1
    stop_supervised!(Server)
    assert_receive {:terminated, ":shutdown"}
    refute Process.alive?(server)
  end

  test "serves modules and objects, which need not have any of the methods" do
    server = start_supervised!({Server, module: "math"})
    send(server, :ignored)
    assert Server.call(server, :sqrt, [16]) == 4.0
    {list, _} = Pythonx.eval("[3, 1, 2]", %{})
    {:ok, server} = Server.start_link(object: list, name: :pythonx_server_test)
    assert Server.call(:pythonx_server_test, :sort) == nil
    assert Pythonx.decode(list) == [1, 2, 3]
    GenServer.stop(server)
    {:ok, server} = Server.start_link(module: "collections", class: :Counter, args: ["aab"])
    assert Server.call(server, :most_common, [1]) == [{"a", 2}]
    GenServer.stop(server)
  end

  test "does not start when the class raises, or is not there" do
    Process.flag(:trap_exit, true)
    assert {:error, {%Pythonx.Error{} = error, _stack}} = Server.start_link(code: @code, class: "Counter", args: [-1])
    assert List.last(error.lines) == "ValueError: negative\n"
    assert {:error, {error, _stack}} = Server.start_link(code: @code, class: "Missing")
    assert error == %ArgumentError{message: "the code defines no Missing"}
    assert {:error, {%Pythonx.Error{}, _stack}} = Server.start_link(module: "math", class: "Missing")
  end

  test "checks its options" do
    message = "expected exactly one of the options :module, :code and :object"
    assert_raise ArgumentError, message, fn -> Server.start_link([]) end
    assert_raise ArgumentError, message, fn -> Server.start_link(module: "a", code: "b") end
    message = "expected the option :class, the name of what the code defines"
    assert_raise ArgumentError, message, fn -> Server.start_link(code: "b") end
    assert_raise ArgumentError, ~r/^unknown keys \[:foo\]/, fn -> Server.start_link(module: "a", foo: 1) end
  end

  test "calls are served by one thread of Python's" do
    code = "import threading\nclass Who:\n  def am_i(self): return threading.get_ident()"
    {:ok, server} = Server.start_link(code: code, class: "Who")

    threads =
      1..20 |> Enum.map(fn _ -> Task.async(fn -> Server.call(server, :am_i) end) end) |> Task.await_many(patience())

    assert [_one] = Enum.uniq(threads)
    GenServer.stop(server)
  end
end
