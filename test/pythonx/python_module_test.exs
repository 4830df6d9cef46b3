defmodule Pythonx.PythonModuleTest do
  use Pythonx.Case, async: false

  describe "pythonx.send_tagged_object" do
    test "sends a tag and a handle, from the evaluation and from its threads" do
      {nil, globals} =
        Pythonx.eval("import pythonx\npythonx.send_tagged_object(pid, 'tag', [1, 2]); pass", %{"pid" => self()})

      assert_receive {:tag, %Pythonx.Object{} = object}
      assert Pythonx.decode(object) == [1, 2]

      code = """
      import threading
      t = threading.Thread(target=pythonx.send_tagged_object, kwargs=dict(pid=pid, tag='żółw', object='x'))
      t.start()
      t.join()
      """

      Pythonx.eval(code, globals)
      assert_receive {:żółw, object}
      assert Pythonx.decode(object) == "x"
    end

    test "the handle owns a reference of its own" do
      code = """
      import pythonx
      for i in range(1000): pythonx.send_tagged_object(pid, 'item', [i])
      """

      Pythonx.eval(code, %{"pid" => self()})

      for i <- 0..999 do
        assert_receive {:item, object}
        assert Pythonx.decode(object) == [i]
      end
    end

    test "takes an object that programs have raised the count of, as they once had to" do
      code = """
      import ctypes, pythonx
      for i in range(100):
          item = [i]
          ctypes.pythonapi.Py_IncRef(ctypes.py_object(item))
          pythonx.send_tagged_object(pid, 'item', item)
      """

      Pythonx.eval(code, %{"pid" => self()})

      for i <- 0..99 do
        assert_receive {:item, object}
        assert eval!("item.append(0); item", %{"item" => object}) == [i, 0]
      end
    end

    test "the object lives as long as Elixir has it, and no longer" do
      test = self()

      holder =
        spawn_link(fn ->
          receive do
            {:thing, object} ->
              send(test, :has_it)
              receive do: (:use -> send(test, {:used, Pythonx.getattr(object, "name")}))
              receive do: (:let_go -> :ok)
          end
        end)

      code = """
      import pythonx, weakref
      class Thing: name = 'thing'
      thing = Thing()
      pythonx.send_tagged_object(holder, 'thing', thing)
      alive = weakref.ref(thing)
      del thing, Thing
      """

      {_result, %{"alive" => alive}} = Pythonx.eval(code, %{"holder" => holder})
      assert_receive :has_it
      there? = fn -> eval!("import gc; gc.collect(); alive() is not None", %{"alive" => alive}) end
      assert there?.()
      send(holder, :use)
      assert_receive {:used, name}
      assert Pythonx.decode(name) == "thing"

      send(holder, :let_go)
      wait_until(fn -> not there?.() end)
    end

    test "reference counts return to what they were" do
      {object, _} = Pythonx.eval("object()", %{})
      count = fn -> eval!("import sys; sys.getrefcount(o)", %{"o" => object}) end
      before = count.()

      Pythonx.eval("import pythonx\nfor _ in range(1000): pythonx.send_tagged_object(pid, 'o', o)", %{
        "o" => object,
        "pid" => self()
      })

      for _ <- 1..1000, do: assert_receive({:o, _})

      wait_until(fn ->
        :erlang.garbage_collect()
        collect_free_threaded()
        count.() == before
      end)
    end

    test "to a process that is gone sends nothing" do
      {pid, ref} = spawn_monitor(fn -> :ok end)
      assert_receive {:DOWN, ^ref, :process, ^pid, _}
      assert eval!("import pythonx; pythonx.send_tagged_object(pid, 'x', 1)", %{"pid" => pid}) == nil
    end

    test "refuses what is no PID and no tag" do
      for {code, message} <- [
            {"pythonx.send_tagged_object(1, 'x', 1)", "AttributeError"},
            {"pythonx.send_tagged_object(pid, b'x', 1)", "AttributeError"},
            {"pythonx.send_tagged_object(pid, 'x' * 256, 1)", "ValueError: a tag has at most 255 characters"}
          ] do
        assert_raise Pythonx.Error, ~r/#{message}/, fn ->
          Pythonx.eval("import pythonx\n" <> code, %{"pid" => self()})
        end
      end

      tag = "ż" |> String.duplicate(255) |> String.to_atom()
      Pythonx.eval("import pythonx\npythonx.send_tagged_object(pid, 'ż' * 255, 1)", %{"pid" => self()})
      assert_receive {^tag, %Pythonx.Object{}}
    end
  end

  describe "new atoms" do
    # On a node of their own, whose atoms nobody else needs.
    test "are limited in number, those of tags together with those of pythonx.Atom" do
      {_peer, node} = Pythonx.Peers.start!()
      {object, holder} = Pythonx.Peers.hold!(node, node, "1")
      before = :erpc.call(node, :erlang, :system_info, [:atom_count])

      tags = "for n in range(20000): pythonx.send_tagged_object(pid, f'tag {n}', None)"
      atoms = "for n in range(6000): pythonx.Atom(f'atom {n}')"

      assert {:ok, _atoms} = eval_on(node, atoms, %{"pid" => holder})
      assert {:error, line} = eval_on(node, tags, %{"pid" => holder})

      assert line =~
               ~r/^ValueError: Python code has made 10000 new atoms, which is the limit, because atoms are never freed: 'tag \d+'$/

      assert {:error, ^line} = eval_on(node, tags, %{"pid" => holder})
      assert {:error, "ValueError: " <> _} = eval_on(node, "pythonx.Atom('another')", %{})
      assert :erpc.call(node, :erlang, :system_info, [:atom_count]) - before <= 10_100

      # What there is costs nothing.
      known = "for n in range(100): pythonx.send_tagged_object(pid, 'tag 1', pythonx.Atom('ok'))"
      assert {:ok, _nothing} = eval_on(node, known, %{"pid" => holder})
      Pythonx.ObjectTracker.identity(object)
    end
  end

  # There, as the process may be known to that node only. Errors by their last line.
  defp eval_on(node, code, globals) do
    {:ok, :erpc.call(node, Pythonx, :eval, ["import pythonx\n" <> code, globals])}
  rescue
    error in ErlangError ->
      {:exception, %Pythonx.Error{lines: lines}, _stacktrace} = error.original
      {:error, String.trim_trailing(List.last(lines))}
  end

  describe "pythonx.PID" do
    test "is an Elixir process, equal to itself" do
      {pid, _} = Pythonx.eval("pid", %{"pid" => self()})
      assert inspect(pid) == "#Pythonx.Object<\n  <pythonx.PID>\n>"
      assert Pythonx.decode(pid) == self()
      other = spawn(fn -> :ok end)

      assert eval!("(a == b, a == c, len({a, b, c}))", %{"a" => self(), "b" => self(), "c" => other}) ==
               {true, false, 2}
    end

    test "cannot be made up, changed or pickled" do
      for code <- ["pythonx.PID()", "pythonx.PID(b'x' * 8)", "pid.anything = 1", "import pickle; pickle.dumps(pid)"] do
        assert_raise Pythonx.Error, ~r/TypeError|AttributeError/, fn ->
          Pythonx.eval("import pythonx\n" <> code, %{"pid" => self()})
        end
      end
    end
  end

  test "help(pythonx) reads well" do
    text = eval!("import pydoc, pythonx\npydoc.plain(pydoc.render_doc(pythonx))")
    assert text =~ "send_tagged_object(pid"
    assert text =~ "class PID"
  end

  describe "a repr" do
    test "that is longer than anybody reads is cut, with a note of its length" do
      {object, _} = Pythonx.eval("'x' * 100_000", %{})
      text = Pythonx.Object.repr_text(object)
      assert text == "'" <> String.duplicate("x", 65_535) <> "... (the first 65536 of 100002 characters)"
    end

    test "that hangs does not hang the one who inspects" do
      Application.put_env(:pythonx, :inspect_timeout, 50)
      on_exit(fn -> Application.delete_env(:pythonx, :inspect_timeout) end)
      {object, _} = Pythonx.eval("class A:\n  def __repr__(self):\n    while True: pass\nA()", %{})
      assert inspect(object) == "#Pythonx.Object<\n  (no repr within 50 ms)\n>"
      assert eval!("1") == 1
    end
  end
end
