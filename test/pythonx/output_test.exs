defmodule Pythonx.OutputTest do
  use Pythonx.Case, async: false

  import ExUnit.CaptureIO
  import ExUnit.CaptureLog

  # All that the device was sent up to now, as one text. The evaluation has returned, so all of it is here.
  defp received(tag) do
    receive do
      {:device, ^tag, text} -> text <> received(tag)
    after
      0 -> ""
    end
  end

  # The device's own messages to the test process are under way when the evaluation returns: ask it to answer last.
  defp sync(device) do
    ref = make_ref()
    send(device, {:io_request, self(), ref, {:put_chars, :unicode, ""}})
    assert_receive {:io_reply, ^ref, :ok}
    assert_receive {:device, _tag, ""}
  end

  defp output(code, opts \\ []) do
    device = start_device()
    Pythonx.eval(code, opts[:globals] || %{}, stdout_device: device, stderr_device: device)
    sync_collect(device)
  end

  defp sync_collect(device) do
    ref = make_ref()
    send(device, {:io_request, self(), ref, {:put_chars, :unicode, "<end>"}})
    assert_receive {:io_reply, ^ref, :ok}
    collect("")
  end

  defp collect(text) do
    receive do
      {:device, :out, "<end>"} -> text
      {:device, :out, more} -> collect(text <> more)
    after
      1000 -> flunk("no end of the output")
    end
  end

  test "goes to the caller's group leader and to :standard_error" do
    assert capture_io(fn -> Pythonx.eval("print('hello')", %{}) end) == "hello\n"
    assert capture_io(:stderr, fn -> Pythonx.eval("import sys; print('oops', file=sys.stderr)", %{}) end) == "oops\n"
  end

  test "goes to the devices that are given" do
    out = start_device(:out)
    err = start_device(:err)
    code = "import sys\nprint('to out')\nprint('to err', file=sys.stderr)"
    Pythonx.eval(code, %{}, stdout_device: out, stderr_device: err)
    sync(out)
    assert received(:out) == "to out\n"
    assert_receive {:device, :err, "to err\n"}
  end

  test "goes to a device by name and by name and node" do
    device = start_device()
    Process.register(device, :pythonx_test_device)
    Pythonx.eval("print('by name')", %{}, stdout_device: :pythonx_test_device)
    assert_receive {:device, :out, "by name\n"}
    Pythonx.eval("print('by node')", %{}, stdout_device: {:pythonx_test_device, node()})
    assert_receive {:device, :out, "by node\n"}
  end

  test "to a device that is gone or a name that nobody has is dropped" do
    {pid, ref} = spawn_monitor(fn -> :ok end)
    assert_receive {:DOWN, ^ref, :process, ^pid, _}
    assert {nil, %{}} = Pythonx.eval("print('nowhere'); pass", %{}, stdout_device: pid)
    janitor = Process.whereis(Pythonx.Janitor)
    assert {nil, %{}} = Pythonx.eval("print('nowhere'); pass", %{}, stdout_device: {:nobody_at_all, node()})
    assert Process.whereis(Pythonx.Janitor) == janitor
  end

  test "leaves no message with the caller" do
    capture_io(fn -> Pythonx.eval("print('x')", %{}) end)
    refute_received _anything
  end

  test "keeps NUL, surrogates, empty writes and the order of both streams" do
    assert output("print('a\\0b')") == "a\0b\n"
    assert output("print('a\\ud800b')") == "a\\ud800b\n"
    assert output("print('', end='')") == ""
    assert output("import sys\nfor i in range(3):\n  print(i)\n  print(-i, file=sys.stderr)") == "0\n0\n1\n-1\n2\n-2\n"
  end

  test "without a newline arrives when the evaluation ends, also by an exception" do
    assert output("print('no newline', end='')") == "no newline"
    device = start_device()
    code = "print('before', end='')\n1/0"
    assert_raise Pythonx.Error, fn -> Pythonx.eval(code, %{}, stdout_device: device) end
    assert sync_collect(device) == "before"
  end

  test "of one print arrives as one request for each line" do
    device = start_device()
    Pythonx.eval("print('one', 2)\nprint('three')", %{}, stdout_device: device)
    assert_receive {:device, :out, "one 2\n"}
    assert_receive {:device, :out, "three\n"}
  end

  test "all of it arrives before the result, under load" do
    code = "for i in range(n): print(i)"
    expected = Enum.map_join(0..499, &"#{&1}\n")

    1..8
    |> Task.async_stream(fn _ -> output(code, globals: %{"n" => 500}) end, max_concurrency: 8)
    |> Enum.each(fn {:ok, text} -> assert text == expected end)
  end

  test "of threads goes where the evaluation's goes, whatever they run" do
    assert output("""
           import threading
           def f(): print('from a function')
           threads = [threading.Thread(target=f), threading.Thread(target=print, args=('from a builtin',))]
           for t in threads: t.start(); t.join()
           """) == "from a function\nfrom a builtin\n"
  end

  test "goes on when the code has set the context variable that tells where it goes" do
    # No other variable: a decimal context of 5 is the end of the process.
    assert output("""
           import contextvars
           for v in contextvars.copy_context():
               if v.name == 'pythonx_evaluation': v.set(5)
           print('here')
           """) == "here\n"
  end

  test "of a thread's uncaught exception arrives" do
    text =
      output("""
      import threading
      def f(): 1/0
      t = threading.Thread(target=f)
      t.start()
      t.join()
      """)

    assert text =~ "Exception in thread"
    assert text =~ "ZeroDivisionError: division by zero"
  end

  test "of a thread that outlives its evaluation arrives, and a dead device does no harm" do
    device = start_device()

    code = """
    import threading
    go = threading.Event()
    def late():
        go.wait()
        print('late')
    t = threading.Thread(target=late)
    t.start()
    """

    {_thread, globals} = Pythonx.eval(code, %{}, stdout_device: device)
    Pythonx.eval("go.set(); t.join()", globals)
    assert sync_collect(device) == "late\n"

    {_thread, globals} = Pythonx.eval(code, %{}, stdout_device: device)
    Process.unlink(device)
    Process.exit(device, :kill)
    assert eval!("go.set(); t.join(); t.is_alive()", globals) == false
  end

  # Without a GIL, what belongs to a namespace goes when Python collects, which may be in a later evaluation.
  @tag :gil
  test "of a __repr__ that Elixir asks for, and of a finalizer, goes where the latest evaluation's went" do
    device = start_device()

    code = """
    class C:
        def __repr__(self):
            print("shown")
            return "C"
        def __del__(self): print("gone")
    C()
    """

    {object, _globals} = Pythonx.eval(code, %{}, stdout_device: device)
    assert inspect(object) == "#Pythonx.Object<\n  C\n>"
    assert sync_collect(device) =~ ~r/^shown\n$/
    send(self(), object)
    assert_received %Pythonx.Object{}
    :erlang.garbage_collect()
    # Nobody evaluates now: the object is dropped by the thread that does nothing else.
    assert_receive {:device, :out, "gone" <> _newline}
  end

  test "of a function from an earlier evaluation goes to the device of the one that calls it" do
    {nil, globals} = Pythonx.eval("def f(): print('called')", %{})
    assert output("f()", globals: globals) == "called\n"
  end

  test "of a thread that runs an earlier function goes to the device of the one that started it" do
    {nil, globals} = Pythonx.eval("def f(): print('called')", %{})
    code = "import threading\nt = threading.Thread(target=f); t.start(); t.join()"
    assert output(code, globals: globals) == "called\n"
  end

  test "of warnings and logging goes to the stderr device, also from a handler made earlier" do
    assert output("import warnings\nwarnings.warn('careful')") =~ "UserWarning: careful"
    assert output("import logging\nlogging.getLogger('x').warning('logged')") =~ "logged"

    {nil, globals} =
      Pythonx.eval(
        "import logging\nhandler = logging.StreamHandler()\nlogger = logging.getLogger('handled')\nlogger.addHandler(handler)\nlogger.propagate = False",
        %{}
      )

    assert output("logger.warning('by a handler')", globals: globals) == "by a handler\n"
  end

  test "streams answer what libraries ask" do
    assert eval!("import sys; (sys.stdout.isatty(), sys.stdout.writable(), sys.stdout.readable(), sys.stdout.encoding)") ==
             {false, true, false, "utf-8"}

    assert output("import sys; sys.stdout.buffer.write('ż'.encode()); sys.stdout.flush()") == "ż"
    assert output("import sys; sys.stdout.writelines(['a', 'b'])") == "ab"
    assert eval!("import io, sys; isinstance(sys.stdout, io.TextIOBase)")

    assert_raise Pythonx.Error, ~r/io.UnsupportedOperation/, fn ->
      Pythonx.eval("import sys; sys.stdout.fileno()", %{})
    end

    assert_raise Pythonx.Error, ~r/TypeError/, fn -> Pythonx.eval("import sys; sys.stdout.write(b'x')", %{}) end
    capture_io(fn -> assert eval!("import sys; sys.stdout.write('żó')") == 2 end)
  end

  test "progress bars arrive as they are drawn" do
    device = start_device()
    Pythonx.eval("print('10%', end='\\r')\nprint('20%', end='\\r')", %{}, stdout_device: device)
    assert_receive {:device, :out, "10%\r"}
    assert_receive {:device, :out, "20%\r"}
  end

  test "stdin is refused, after the prompt" do
    device = start_device()

    assert_raise Pythonx.Error, ~r/RuntimeError: stdin not supported/, fn ->
      Pythonx.eval("input('name? ')", %{}, stdout_device: device)
    end

    assert sync_collect(device) == "name? "
    assert_raise Pythonx.Error, ~r/stdin not supported/, fn -> Pythonx.eval("import sys; sys.stdin.read()", %{}) end
  end

  test "a message that nobody expects does not stop the janitor" do
    janitor = Process.whereis(Pythonx.Janitor)
    send(janitor, :whatever)
    assert Pythonx.Janitor.ping() == :pong
    assert Process.whereis(Pythonx.Janitor) == janitor
    assert capture_log(fn -> send(janitor, {:pythonx_output, :no_such_name, "x"}) end) == ""
    assert Pythonx.Janitor.ping() == :pong
  end
end
