defmodule Pythonx.Host.LockTest do
  use ExUnit.Case, async: true

  import Pythonx.NativeCase

  alias Pythonx.Host.Lock

  @moduletag :tmp_dir

  setup %{tmp_dir: dir}, do: %{path: Path.join(dir, "a folder/zamknięte.lock")}

  test "returns what the function returns and makes the folder", %{path: path} do
    assert Lock.with_lock(path, fn -> {:done, 1} end) == {:done, 1}
    assert File.regular?(path)
  end

  test "one after the other, with one call of :on_wait", %{path: path} do
    holder = hold_lock(path)
    test = self()

    waiter =
      Task.async(fn ->
        Lock.with_lock(path, fn -> send(test, :second) end, on_wait: fn -> send(test, :waiting) end)
      end)

    assert_receive :waiting, 5000
    refute_received :second
    send(holder, :leave)
    assert Task.await(waiter) == :second
    refute_received :waiting
  end

  test ":on_wait is not called when the lock is free", %{path: path} do
    assert Lock.with_lock(path, fn -> :free end, on_wait: fn -> flunk("waited") end) == :free
  end

  test "is free after an exception, a throw and an exit", %{path: path} do
    assert_raise RuntimeError, "inside", fn -> Lock.with_lock(path, fn -> raise "inside" end) end
    assert catch_throw(Lock.with_lock(path, fn -> throw(:inside) end)) == :inside
    assert catch_exit(Lock.with_lock(path, fn -> exit(:inside) end)) == :inside
    assert Lock.with_lock(path, fn -> :free end, timeout: 0) == :free
  end

  test "is free when the process that holds it is killed", %{path: path} do
    holder = hold_lock(path)
    Process.exit(holder, :kill)
    assert Lock.with_lock(path, fn -> :free end, timeout: 5000) == :free
  end

  test "says which lock it waited for when the time is over", %{path: path} do
    hold_lock(path)

    assert_raise RuntimeError, "could not lock #{path}: it is still held by another process after 60 ms", fn ->
      Lock.with_lock(path, fn -> flunk("two holders") end, timeout: 60)
    end
  end

  test "keeps other VMs out, until theirs is killed", %{path: path} do
    vm = start_vm!()
    :peer.call(vm, Pythonx.NativeCase, :hold_lock, [path])
    assert Pythonx.NIF.Loader.lock_file(path) == :busy
    kill_vm!(vm)
    assert Lock.with_lock(path, fn -> :free end, timeout: 5000) == :free
  end

  test "a lock file that was deleted does not keep a lock from those who come later", %{path: path} do
    hold_lock(path)
    File.rm!(path)
    assert Lock.with_lock(path, fn -> :free end, timeout: 0) == :free
  end

  test "says why a file cannot be locked", %{tmp_dir: dir} do
    file = Path.join(dir, "file")
    File.write!(file, "")
    under_file = Path.join(file, "a.lock")

    error = assert_raise RuntimeError, fn -> Lock.with_lock(under_file, fn -> flunk("locked") end) end
    assert error.message =~ "could not create the folder #{file}: "

    message = "could not lock #{dir}: Is a directory. Set PYTHONX_CACHE_DIR to a folder that can be written"

    assert_raise RuntimeError, message, fn ->
      Lock.with_lock(dir, fn -> flunk("locked") end)
    end
  end
end
