defmodule Pythonx.NIF.ReloadTest do
  # The modules of the native libraries are loaded again, as `r Pythonx.NIF`, code reloaders and upgrades do, in VMs of their
  # own. The libraries go on, with the threads that run in them.
  use Pythonx.Case, async: true

  import Pythonx.NativeCase

  alias Pythonx.FreshVM
  alias Pythonx.Host.Native
  alias Pythonx.NIF.Loader

  @moduletag :tmp_dir

  @gate """
  import sys, threading, types
  gate = sys.modules["gate"] = types.ModuleType("gate")
  gate.begun, gate.event = threading.Semaphore(0), threading.Event()
  """

  # Three evaluations have begun, and wait until the gate opens; `kept` is a handle, `view` a binary over memory of Python's.
  @begin """
  [kept, answer, numbers] = for code <- ["[1, 2]", "lambda x: x + 1", "bytearray(b'abc')"], do: elem(Pythonx.eval(code, %{}), 0)
  code = "import gate; gate.begun.release(); gate.event.wait(); 'answered'"
  waiting = for _ <- 1..3, do: Task.async(fn -> code |> Pythonx.eval(%{}) |> elem(0) |> Pythonx.decode() end)
  Pythonx.eval("import gate\nfor _ in range(3): gate.begun.acquire()", %{})
  """

  @finish """
  IO.inspect(length(Pythonx.running()), label: "running")
  Pythonx.eval("import gate; gate.event.set()", %{})
  IO.inspect(Task.await_many(waiting, :infinity), label: "waiting")
  IO.inspect(Pythonx.decode(kept), label: "kept")
  {result, _globals} = Pythonx.eval("answer(len(numbers))", %{"answer" => answer, "numbers" => numbers})
  IO.inspect(Pythonx.decode(result), label: "new")
  System.halt(0)
  """

  @went_on """
  running: 3
  waiting: ["answered", "answered", "answered"]
  kept: [1, 2]
  new: 4
  """

  defp run(reload), do: FreshVM.run(FreshVM.python(), @gate, @begin <> reload <> @finish)

  describe "the bridge" do
    test "goes on when its module is loaded again, and the old code is purged" do
      reload = """
      IO.inspect(:code.load_file(Pythonx.NIF))
      IO.inspect(Pythonx.decode(kept))
      IO.inspect(:code.purge(Pythonx.NIF))
      for pid <- Process.list(), do: :erlang.garbage_collect(pid)
      """

      # False: no process had to be ended. Those that wait for a reply do not in the code of that module.
      assert run(reload) == {"{:module, Pythonx.NIF}\n[1, 2]\nfalse\n" <> @went_on, 0}
    end

    test "goes on when its module is loaded twice again" do
      reload = """
      for _ <- 1..2 do
        :code.purge(Pythonx.NIF)
        IO.inspect(:code.load_file(Pythonx.NIF))
        IO.inspect(Pythonx.encode!([kept]) |> Pythonx.decode())
      end
      """

      again = "{:module, Pythonx.NIF}\n[[1, 2]]\n"
      assert run(reload) == {again <> again <> @went_on, 0}
    end

    test "goes on when its module is deleted and loaded again" do
      reload = """
      IO.inspect(:code.delete(Pythonx.NIF))
      IO.inspect(Pythonx.decode(kept))
      """

      assert run(reload) == {"true\n[1, 2]\n" <> @went_on, 0}
    end

    test "goes on when its module is deleted, purged and loaded again, twice, with the handles of before" do
      reload = """
      for _ <- 1..2 do
        :code.delete(Pythonx.NIF)
        :code.purge(Pythonx.NIF)
        for pid <- Process.list(), do: :erlang.garbage_collect(pid)
        IO.inspect(Pythonx.encode!([kept]) |> Pythonx.decode())
      end

      :code.load_file(Pythonx.NIF)
      """

      assert run(reload) == {"[[1, 2]]\n[[1, 2]]\n" <> @went_on, 0}
    end

    test "frees handles of before, and ends evaluations whose process dies" do
      reload = """
      {_threads, handles} = Pythonx.NIF.stats()
      {pid, monitor} = spawn_monitor(fn -> Pythonx.eval("import gate\ngate.begun.release()\nwhile True: pass", %{}) end)
      Pythonx.eval("import gate\ngate.begun.acquire()", %{})
      {holder, held} = spawn_monitor(fn -> {object, _} = Pythonx.eval("[]", %{}); receive(do: (:end -> object)) end)
      :code.delete(Pythonx.NIF)
      :code.purge(Pythonx.NIF)
      Process.exit(pid, :kill)
      send(holder, :end)
      for monitor <- [monitor, held], do: receive(do: ({:DOWN, ^monitor, _, _, _} -> :ok))

      wait = fn wait ->
        {_threads, now} = Pythonx.NIF.stats()
        if length(Pythonx.running()) == 3 and now <= handles, do: :ok, else: wait.(wait)
      end

      IO.inspect(wait.(wait))
      """

      {output, 0} = run(reload)
      # The logger may write in between.
      for line <- String.split(":ok\n" <> @went_on, "\n", trim: true), do: assert(output =~ line)
    end

    test "of another file is refused, and the one in use goes on", %{tmp_dir: dir} do
      copy = Path.join(dir, "another")

      reload = """
      key = {Pythonx.NIF.Library, Pythonx.NIF}
      {path, identity} = :persistent_term.get(key)
      File.cp!(path <> ".so", #{inspect(copy)} <> ".so")
      :persistent_term.put(key, {#{inspect(copy)}, identity})
      IO.inspect(:code.load_file(Pythonx.NIF))
      """

      {output, 0} = run(reload)

      assert output =~
               "Pythonx.NIF cannot be loaded again: its library, #{copy}.so, is in use and stays so, but the file is another " <>
                 "one now, or gone. The module that is loaded goes on. Restart the VM to use the new file"

      assert output =~ "{:error, :on_load_failure}\n"
      # The logger writes in between.
      for line <- String.split(@went_on, "\n", trim: true), do: assert(output =~ line)
    end

    test "calls Python's handlers at the end once, whichever versions of the module are there" do
      reload = """
      :code.load_file(Pythonx.NIF)
      Pythonx.eval("import atexit; atexit.register(print, 'the end')", %{})
      """

      {output, 0} = run(reload)
      assert output |> String.split("the end") |> length() == 2
    end
  end

  describe "the loader" do
    setup %{tmp_dir: dir} do
      # The application, with a library that a test may replace.
      app = Path.join(dir, "pythonx")
      for sub <- ["ebin", "priv"], do: File.mkdir_p!(Path.join(app, sub))
      File.cp_r!(Application.app_dir(:pythonx, "ebin"), Path.join(app, "ebin"))
      library = Path.join(app, "priv/pythonx_loader.so")
      File.cp!(:pythonx |> Application.app_dir("priv") |> Native.path(:loader), library)
      vm = start_vm!()
      true = :peer.call(vm, :code, :add_patha, [app |> Path.join("ebin") |> String.to_charlist()])
      {:ok, _started} = :peer.call(vm, :application, :ensure_all_started, [:elixir])

      [first, second] =
        for version <- ["3.13.0", "3.12.0"] do
          path = Path.join(dir, version <> ".so")
          shared_library!(path, ~s|const char *Py_GetVersion(void) { return "#{version}"; }|)
        end

      {:ok, "3.13.0"} = :peer.call(vm, Loader, :open, [first])
      %{vm: vm, library: library, first: first, second: second, lock: Path.join(dir, "lock")}
    end

    # What the loader gives before and after `reload`, in one process of that VM.
    defp around(vm, lock, reload) do
      code = """
      alias Pythonx.NIF.Loader
      {:ok, handle} = Loader.lock_file(lock)
      me = self()

      {holder, monitor} =
        spawn_monitor(fn ->
          notifier = Loader.gc_notifier(me, :collected)
          send(me, :made)
          receive do: (:end -> notifier)
        end)

      receive do: (:made -> :ok)
      reloaded = (fn -> #{reload} end).()
      busy = Loader.lock_file(lock)
      :ok = Loader.unlock_file(handle)
      {free, _handle} = Loader.lock_file(lock)
      send(holder, :end)
      receive do: ({:DOWN, ^monitor, _, _, _} -> :ok)
      {reloaded, busy, free, receive(do: (:collected -> :collected))}
      """

      {result, _bindings} = :peer.call(vm, Code, :eval_string, [code, [lock: lock]], 60_000)
      result
    end

    for {name, reload} <- [
          {"again", ":code.load_file(Loader); :done"},
          {"again, and the old code is purged", ":code.load_file(Loader); :code.purge(Loader); :done"},
          {"twice again", "for _ <- 1..2, do: (:code.purge(Loader); :code.load_file(Loader)); :done"},
          {"after it was deleted and purged",
           ":code.delete(Loader); :code.purge(Loader); :code.load_file(Loader); :done"},
          {"by the next call, after it was deleted and purged", ":code.delete(Loader); :code.purge(Loader); :done"}
        ] do
      test "goes on when its module is loaded #{name}", %{vm: vm, first: first, second: second, lock: lock} do
        assert around(vm, lock, unquote(reload)) == {:done, :busy, :ok, :collected}
        assert :peer.call(vm, Loader, :open, [second]) == {:error, "another libpython is already loaded, #{first}"}
        assert :peer.call(vm, Loader, :open, [first]) == {:ok, "3.13.0"}
      end
    end

    test "of another file is refused, and the one in use goes on", context do
      %{vm: vm, first: first, second: second, library: library} = context
      File.cp!(library, library <> ".new")
      File.rename!(library <> ".new", library)
      # The code server logs that, too.
      :ok = :peer.call(vm, :logger, :set_primary_config, [:level, :none])

      assert around(vm, context.lock, ":code.load_file(Loader)") == {{:error, :on_load_failure}, :busy, :ok, :collected}
      assert :peer.call(vm, Loader, :open, [second]) == {:error, "another libpython is already loaded, #{first}"}
    end
  end
end
