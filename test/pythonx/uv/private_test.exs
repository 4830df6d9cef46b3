defmodule Pythonx.Uv.PrivateTest do
  # Environments in the priv of the application, as the compile-time configuration makes them for releases. The
  # application is a copy of this one, or the tests would fill our own priv.
  use Pythonx.UvCase, async: false

  alias Pythonx.Host.Native
  alias Pythonx.Uv

  setup context do
    # The managed Pythons of the user, with the second name by which uv calls them.
    pythons = Path.join(context.tmp_dir, "pythons")
    fake_python!(Path.join(pythons, "cpython-3.13.0-fake"))
    File.ln_s!(Path.join(pythons, "cpython-3.13.0-fake"), Path.join(pythons, "cpython-3.13-fake"))
    System.put_env("UV_PYTHON_INSTALL_DIR", pythons)

    application = copy_application!(Path.join(context.tmp_dir, "build/lib/pythonx"))

    find =
      ~S|for path in "$UV_PYTHON_INSTALL_DIR"/*/bin/python3.13; do [ -e "$path" ] && echo "$path" && exit; done; exit 2|

    program = Path.join(application, "priv/uv/python/cpython-3.13.0-fake/bin/python3.13")
    fake_uv!(context.log, find: find, python: program, sync: "ln -s lib .venv/lib64")
    %{application: application, uv: Path.join(application, "priv/uv"), vm: start_vm_of!(application)}
  end

  defp copy_application!(folder) do
    File.mkdir_p!(Path.join(folder, "priv"))
    File.cp_r!(Application.app_dir(:pythonx, "ebin"), Path.join(folder, "ebin"))

    loader = :pythonx |> Application.app_dir("priv") |> Native.path(:loader)
    File.cp!(loader, Path.join([folder, "priv", Path.basename(loader)]))
    folder
  end

  defp start_vm_of!(application) do
    vm = start_stubbed_vm!()
    true = :peer.call(vm, :code, :replace_path, [:pythonx, String.to_charlist(Path.join(application, "ebin"))])
    vm
  end

  defp fetch(vm, toml \\ toml()), do: call_in(vm, Uv, :fetch, [toml, true])
  defp init(vm, toml \\ toml()), do: call_in(vm, Uv, :init, [toml, true])
  defp boots(vm), do: :peer.call(vm, Pythonx, :boots, [])

  # As `mix release` copies it: what links lead to.
  defp release!(context, name) do
    folder = Path.join(context.tmp_dir, name)
    File.mkdir_p!(Path.dirname(folder))
    File.cp_r!(context.application, folder, dereference_symlinks: true)
    folder
  end

  test "holds all that is needed, once, and no link out of it", context do
    assert fetch(context.vm) == :ok
    assert File.ls!(Path.join(context.uv, "python")) == ["cpython-3.13.0-fake"]
    venv = Path.join(context.uv, "project/.venv")
    assert File.read_link!(Path.join(venv, "bin/python")) == "../../../python/cpython-3.13.0-fake/bin/python3.13"
    assert File.ls!(venv) |> Enum.sort() == ["bin", "lib", "pyvenv.cfg"]
    assert File.ls!(Path.join(venv, "bin")) |> Enum.sort() == ["python", "python3"]
    assert File.read_link!(Path.join(venv, "bin/python3")) == "python"
    assert File.read!(Path.join(venv, "pyvenv.cfg")) =~ "home = #{context.uv}/python/cpython-3.13.0-fake/bin\n"

    pth = Path.join(context.uv, "python/cpython-3.13.0-fake/lib/python3.13/site-packages/pythonx.pth")
    line = pth |> File.read!() |> String.trim()
    assert Path.expand(line, Path.dirname(pth)) == Path.join(venv, "lib/python3.13/site-packages")
  end

  test "nothing is run when it is there; another project, or another Python, replaces it", context do
    assert fetch(context.vm) == :ok
    log = calls(context.log)
    assert fetch(context.vm) == :ok
    assert calls(context.log) == log

    assert fetch(context.vm, toml("other")) == :ok
    assert length(calls(context.log, "sync")) == 2
    assert File.read!(Path.join(context.uv, "project/pyproject.toml")) == toml("other")
    assert File.ls!(Path.join(context.uv, "python")) == ["cpython-3.13.0-fake"]
  end

  test "starts after being moved, with nothing else there, and so do programs that Python starts", context do
    assert fetch(context.vm) == :ok
    moved = release!(context, "moved ż/lib/pythonx-0.4.11")
    File.rm_rf!(Path.join(context.tmp_dir, "build"))
    File.rm_rf!(Path.join(context.tmp_dir, "pythons"))
    System.put_env(%{"PYTHONX_UV" => "/nowhere/uv", "PYTHONX_CACHE_DIR" => Path.join(context.tmp_dir, "empty")})

    vm = start_vm_of!(moved)
    root = Path.join(moved, "priv/uv/python/cpython-3.13.0-fake")
    project = Path.join(moved, "priv/uv/project")
    assert call_in(vm, Uv, :init_from_priv, [toml()]) == :ok

    assert boots(vm) == [
             {Path.join(root, "lib/libpython3.13.so"), root, Path.join(project, ".venv/bin/python"),
              [sys_paths: [Path.join(project, ".venv/lib/python3.13/site-packages")]]}
           ]

    assert File.read!(Path.join(project, ".venv/pyvenv.cfg")) =~ "home = #{root}/bin\n"
    refute File.exists?(Path.join(context.tmp_dir, "empty"))

    # Handed on as after uv_init, and not in the way of restarting the application.
    assert call_in(vm, Uv, :install_paths, []) == [root, project]
    assert %{"PYTHONX_INIT_STATE" => _state} = call_in(vm, Uv, :install_env, [])
    assert call_in(vm, Uv, :init_from_priv, [toml()]) == :ok
    assert length(boots(vm)) == 1
  end

  test "where it cannot be written, the base Python stands in", context do
    assert fetch(context.vm) == :ok
    moved = release!(context, "read-only/lib/pythonx-0.4.11")
    venv = Path.join(moved, "priv/uv/project/.venv")

    vm = start_vm_of!(moved)

    without_writing(venv, fn ->
      assert [root, _project] = init(vm)
      assert [{_libpython, ^root, executable, [sys_paths: [packages]]}] = boots(vm)
      assert executable == Path.join(root, "bin/python3.13")
      assert packages == Path.join(venv, "lib/python3.13/site-packages")
    end)
  end

  test "an application that was compiled for another project says so", context do
    assert fetch(context.vm) == :ok

    assert init(context.vm, toml("other")) == %RuntimeError{
             message:
               "the environment at #{context.uv}/project was made for another pyproject.toml or other options. " <>
                 "It is made when Pythonx is compiled: run mix deps.compile pythonx --force"
           }
  end
end
