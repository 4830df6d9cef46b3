defmodule Pythonx.SessionTest do
  use Pythonx.Case, async: true

  import ExUnit.CaptureIO

  alias Pythonx.Session

  doctest Pythonx.Session

  setup do
    %{session: start_supervised!(Session)}
  end

  describe "names" do
    test "stay, functions see what is defined later, and nothing is sent back", %{session: session} do
      assert Session.eval(session, "def double(): return 2 * n") == nil
      assert Session.run!(session, "n = 4\ndouble()") == 8
      assert Session.run!(session, "n = 5\ndouble()") == 10
      assert Session.run!(session, "del n") == nil
      assert {:error, %Pythonx.Error{} = error} = Session.run(session, "double()")
      assert Pythonx.Error.summary(error) == "NameError: name 'n' is not defined"
    end

    test "are the session's own", %{session: session} do
      other = start_supervised!(Session, id: :other)
      Session.eval(session, "mine = 1")
      assert {:error, _name_error} = Session.run(other, "mine")
      assert {:error, _name_error} = Pythonx.run("mine")
    end

    test "are those of __main__ while it evaluates: classes can be pickled from one evaluation to the next", context do
      Session.eval(context.session, "import pickle\nclass Point:\n  x = 3\ndata = pickle.dumps(Point())")
      eval!("1 + 1")
      assert Session.run!(context.session, "pickle.loads(data).x") == 3
      assert Session.run!(context.session, "import sys; sys.modules['__main__'].Point is Point") == true
    end

    test "are kept by what an error has defined before it", %{session: session} do
      assert {:error, error} = Session.run(session, "before = 1\n1 / 0\nafter = 2")
      assert Pythonx.Error.summary(error) == "ZeroDivisionError: division by zero"
      assert Session.run!(session, "before, 'after' in globals()") == {1, false}
    end

    test "go with the session", %{session: session} do
      code = "import weakref\nclass Item: pass\nitem = Item()\nweakref.ref(item)"
      reference = Session.eval(session, code)
      stop_supervised!(Session)
      gone? = fn -> eval!("import gc; gc.collect(); reference() is None", %{"reference" => reference}) end
      wait_until(fn -> collect_processes() && gone?.() end)
    end
  end

  describe "options" do
    test "are those of the session where a call has none" do
      session = start_supervised!({Session, globals: %{"text" => "a"}, binaries: :str, types: :rich}, id: :rich)
      assert Session.run!(session, "text") == "a"
      type = "type(day).__name__, type(name).__name__"
      globals = %{"day" => ~D[2024-01-31], "name" => "Ada"}
      assert session |> Session.eval(type, globals) |> Pythonx.decode() == {"date", "str"}
      globals = %{"day" => nil, "name" => "Ada"}
      assert session |> Session.eval(type, globals, binaries: :bytes) |> Pythonx.decode() == {"NoneType", "bytes"}
    end

    test "that are not right raise, and the session is not asked", %{session: session} do
      message = "expected :binaries to be :bytes or :str, got: :text"
      assert_raise ArgumentError, message, fn -> Session.start_link(binaries: :text) end
      assert_raise ArgumentError, message, fn -> Session.eval(session, "1", %{}, binaries: :text) end
      assert_raise ArgumentError, message, fn -> Session.run(session, "1", %{}, binaries: :text) end

      message = "expected :init to be Python code, got: :math"
      assert_raise ArgumentError, message, fn -> Session.start_link(init: :math) end
      message = "expected :globals to be a map, got: [a: 1]"
      assert_raise ArgumentError, message, fn -> Session.start_link(globals: [a: 1]) end
      message = "expected :return to be one of [:value, :object, :buffer, :table, :tensor], got: :list"
      assert_raise ArgumentError, message, fn -> Session.run(session, "1", %{}, return: :list) end
    end

    test "timeout: the session goes on with its names", %{session: session} do
      Session.eval(session, "n = 1")
      assert {:error, %Pythonx.TimeoutError{timeout: 50}} = Session.run(session, "while True: pass", %{}, timeout: 50)
      assert Session.run!(session, "n") == 1
    end

    test "return:", %{session: session} do
      assert {:ok, %Pythonx.Object{} = object} = Session.run(session, "[1, 2]", %{}, return: :object)
      assert Session.run!(session, "items[1]", %{"items" => object}) == 2
    end
  end

  test "output goes where the caller's goes", %{session: session} do
    assert capture_io(fn -> Session.eval(session, "print('hello')") end) == "hello\n"
    assert capture_io(fn -> Session.run(session, "print('again')") end) == "again\n"
  end

  test "is interrupted as a process that evaluates", %{session: session} do
    test = self()
    f = fn -> send(test, :begun) end
    task = Task.async(fn -> Session.run(session, "f()\nwhile True: pass", %{"f" => f}) end)
    assert_receive :begun
    wait_until(fn -> Pythonx.interrupt(session) end)
    assert {:error, error} = Task.await(task, 60_000)
    # A second interrupt may strike while the exception is put into words.
    assert "KeyboardInterrupt" <> _ = Pythonx.Error.summary(error)
    assert Session.run!(session, "1") == 1
  end

  test "code that fails at the start keeps it from starting" do
    Process.flag(:trap_exit, true)
    assert {:error, {%Pythonx.Error{} = error, _stack}} = Session.start_link(init: "import no_such_module")
    assert Pythonx.Error.summary(error) == "ModuleNotFoundError: No module named 'no_such_module'"
  end

  test "context variables and threads are those of its process", %{session: session} do
    Session.eval(
      session,
      "import contextvars, threading\nv = contextvars.ContextVar('v')\nv.set(7)\nt = threading.get_ident()"
    )

    assert Session.run!(session, "v.get(), threading.get_ident() == t") == {7, true}
  end
end
