defmodule Pythonx.ReplacedStreamsTest do
  use Pythonx.Case, async: false

  # What the code prints to a device of its own, and what the next evaluation does.
  defp outputs(code, globals \\ %{}) do
    printed = output(fn device -> Pythonx.eval(code, globals, stdout_device: device, stderr_device: device) end)
    code = "import sys\nprint('next')\nprint('error', file=sys.stderr)"
    {printed, output(fn device -> Pythonx.eval(code, %{}, stdout_device: device, stderr_device: device) end)}
  end

  defp output(fun) do
    {:ok, device} = StringIO.open("")

    try do
      fun.(device)
    rescue
      Pythonx.Error -> :ok
    end

    {_input, text} = StringIO.contents(device)
    text
  end

  @next "next\nerror\n"

  test "a stream in place of sys.stdout is flushed and taken away when its evaluation ends" do
    wrapper = "import io, sys\nsys.stdout = io.TextIOWrapper(sys.stdout.buffer, encoding='utf-8')\nprint('ż')"
    assert outputs(wrapper) == {"ż\n", @next}
    assert outputs(wrapper <> "\n1/0") == {"ż\n", @next}
    assert outputs(wrapper <> "\nsys.stdout.close()") == {"ż\n", @next}
    assert outputs("import io, sys\nsys.stderr = sys.stdout = io.StringIO()\nprint('kept')") == {"", @next}
    assert outputs("import sys\nsys.stdout = sys.stderr = open('/dev/null', 'w')\nprint('gone')") == {"", @next}
  end

  test "so are streams that are closed, deleted, None, or put into the dict of the module" do
    for code <- [
          "sys.stdout.close(); sys.stderr.close()",
          "sys.stdout.buffer.close()",
          "del sys.stdout, sys.stderr",
          "sys.stdout = sys.stderr = None\nprint('nowhere')",
          "sys.__dict__['stdout'] = None\nvars(sys).pop('stderr')",
          "class Failing:\n  def flush(self): raise SystemExit\n  write = flush\nsys.stdout = Failing()"
        ] do
      assert outputs("import sys\n" <> code) == {"", @next}
    end
  end

  test "so are methods that are set on the streams" do
    code = "import sys\nold = sys.stdout.write\nsys.stdout.write = lambda text: old(text.upper())\nprint('a')"
    assert outputs(code) == {"A\n", @next}
  end

  test "sys.stdin is the evaluation's own" do
    code = "import io, sys\nsys.stdin = io.StringIO('one\\ntwo\\n')\n[input('? '), sys.stdin.read()]"
    assert eval!(code, %{}, stdout_device: start_device()) == ["one", "two\n"]
    assert List.last(raised(fn -> eval!("input()") end).lines) == "RuntimeError: stdin not supported\n"
  end

  test "a call of a method is an evaluation too" do
    {object, _} = Pythonx.eval("import io, sys\nclass C:\n  def m(self): sys.stdout = io.StringIO()\nC()", %{})
    Pythonx.call_method(object, :m)
    assert outputs("") == {"", @next}
  end

  test "what is asked for the text of an object may redirect it" do
    code = """
    import contextlib, io, sys
    class C:
        def __repr__(self):
            with contextlib.redirect_stdout(io.StringIO()) as text: print("inner")
            sys.stdout = io.StringIO()
            return text.getvalue()
    C()
    """

    {object, _} = Pythonx.eval(code, %{})
    assert inspect(object) =~ "inner"
    assert outputs("") == {"", @next}
  end

  describe "while an evaluation has redirected its output" do
    # It sends itself's pid when it has, and then waits until it is told to go on.
    @redirect """
    import contextlib, io, sys
    with contextlib.redirect_stdout(io.StringIO()) as text:
        started()
        print("mine")
    text.getvalue()
    """

    defp redirecting do
      test = self()

      started = fn ->
        send(test, {:redirected, self()})
        receive do: (:go_on -> nil)
      end

      task = Task.async(fn -> eval!(@redirect, %{"started" => started}) end)
      assert_receive {:redirected, handler}, 10_000
      {task, handler}
    end

    test "others print to their devices" do
      {task, handler} = redirecting()
      assert outputs("print('others')") == {"others\n", @next}
      assert eval!("import sys\ntype(sys.stdout).__name__") == "TextOutput"
      send(handler, :go_on)
      assert Task.await(task, 60_000) == "mine\n"
    end

    test "and is killed, others print to their devices" do
      {task, _handler} = redirecting()
      Task.shutdown(task, :brutal_kill)
      assert outputs("print('others')") == {"others\n", @next}
    end
  end

  test "threads and tasks of the evaluation print where it does" do
    code = """
    import asyncio, contextlib, io, threading
    async def task(): print("task")
    with contextlib.redirect_stdout(io.StringIO()) as text:
        thread = threading.Thread(target=print, args=("thread",))
        thread.start()
        thread.join()
        await asyncio.create_task(task())
    text.getvalue()
    """

    assert eval!(code) == "thread\ntask\n"
  end

  describe "for the evaluation itself" do
    test "the attribute is what it was set to, however often it is read" do
      code = """
      import io, sys
      def count(): return sum(sys.stdout is text for _ in range(10_000))
      text, before = io.StringIO(), sys.stdout
      counts = [count()]
      sys.stdout = text
      counts.append(count())
      from sys import stdout
      sys.stdout = before
      (counts + [count()], stdout is text, getattr(sys, "".join(["std", "out"])) is before, type(sys).__name__)
      """

      assert eval!(code) == {[0, 10_000, 0], true, true, "module"}
    end

    test "a stream may write to the one that it replaces" do
      code = """
      import sys
      class Tee:
          def __init__(self, stream): self.stream, self.text = stream, ""
          def write(self, text):
              self.text += text
              return self.stream.write(text)
          def flush(self): self.stream.flush()
      before = sys.stdout
      sys.stdout = tee = Tee(Tee(before))
      for _ in range(100): print(1)
      before.write("direct\\n")
      assert tee.text == tee.stream.text == "1\\n" * 100
      """

      assert outputs(code) == {String.duplicate("1\n", 100) <> "direct\n", @next}
    end

    test "mock.patch, doctest and warnings find it" do
      code = """
      import doctest, io, sys, unittest.mock, warnings
      with unittest.mock.patch("sys.stdout", new_callable=io.StringIO) as out:
          print("patched")
      with unittest.mock.patch("sys.stderr", new_callable=io.StringIO) as err:
          warnings.warn("warned")
      def f():
          '''
          >>> print("example")
          example
          '''
      (out.getvalue(), "warned" in err.getvalue(), doctest.testmod().failed)
      """

      assert eval!(code) == {"patched\n", true, 0}
    end

    test "a stream that is lost is an error of print" do
      assert List.last(raised(fn -> eval!("import sys\ndel sys.stdout\nprint(1)") end).lines) ==
               "RuntimeError: lost sys.stdout\n"

      assert List.last(raised(fn -> eval!("import sys\ndel sys.stdout\nsys.stdout") end).lines) =~
               "AttributeError: module 'sys' has no attribute 'stdout'"
    end
  end

  @tag :gil
  test "interpreters beside the main one undo it too" do
    if python_minor() >= 12 do
      interpreter = Pythonx.Interpreter.create()

      for code <- [
            "sys.stdout = sys.stderr = None",
            "sys.stdout = io.TextIOWrapper(sys.stdout.buffer); print('x')",
            "sys.stdout.write = id"
          ] do
        Pythonx.Interpreter.eval(interpreter, "import io, sys\n" <> code, %{}, stdout_device: start_device(:first))
      end

      assert_receive {:device, :first, "x\n"}
      Pythonx.Interpreter.eval(interpreter, "print('next')", %{}, stdout_device: start_device(:second))
      assert_receive {:device, :second, "next\n"}
      Pythonx.Interpreter.close(interpreter)
    end
  end
end
