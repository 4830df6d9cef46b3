defmodule Pythonx.Host.OSTest do
  use ExUnit.Case, async: true

  alias Pythonx.Host.OS

  test "tells how much memory this process uses, in either way" do
    for os <- [:linux, :macos, :unix] do
      assert {:ok, before} = OS.memory(os)
      assert before > 10_000_000
    end

    assert OS.memory(:windows) == {:error, "this system does not tell it"}
  end

  test "tells whose process this is, in either way" do
    {output, 0} = System.cmd("id", ["-u"])
    uid = output |> String.trim() |> String.to_integer()
    assert OS.own_uid(:linux) == uid
    assert OS.own_uid(:macos) == uid
    assert OS.own_uid(:windows) == 0
  end

  test "takes names that differ in case or composition for one where the file system does" do
    assert OS.comparable("/Users/Zoë/Projects", :macos) == OS.comparable("/users/zoe\u0308/PROJECTS", :macos)
    refute OS.comparable("/Users/a", :macos) == OS.comparable("/Users/b", :macos)
    refute OS.comparable("/home/A", :linux) == OS.comparable("/home/a", :linux)
  end

  test "only macOS and Linux run it, and Windows is told where to" do
    assert OS.unsupported(:windows) ==
             "Pythonx does not run on Windows itself: use it in WSL2, the Windows Subsystem for Linux, which `wsl --install` sets up"

    for os <- [:linux, :macos, :unix], do: assert(OS.unsupported(os) == nil)
  end

  test "a Python can be copied on Linux only" do
    assert OS.copied_python_name(:linux) == {:ok, "linux"}
    assert {:error, "a Python of the system can be copied on Linux only" <> _} = OS.copied_python_name(:macos)
  end

  @tag :tmp_dir
  test "finds the library of a Python by the name that the system gives it", %{tmp_dir: dir} do
    files = ~w(lib/libpython3.so lib/libpython3.13.so lib/libpython3.13.so.1.0 lib/libpython3.13.dylib python313.dll)
    for file <- files, path = Path.join(dir, file), do: File.mkdir_p!(Path.dirname(path)) && File.touch!(path)

    found = fn os ->
      dir |> Path.join(OS.libpython_pattern(os)) |> Path.wildcard() |> Enum.map(&Path.relative_to(&1, dir))
    end

    assert found.(:linux) == ["lib/libpython3.13.so"]
    assert found.(:macos) == ["lib/libpython3.13.dylib"]
    assert found.(:windows) == ["python313.dll"]
  end

  test "no two files of ours differ in case only, nor two modules" do
    files =
      for folder <- ~w(lib c_src priv/python test guides scripts uv_templates),
          do: Path.wildcard("#{folder}/**/*", match_dot: true)

    {:ok, modules} = :application.get_key(:pythonx, :modules)

    for names <- [List.flatten(files), Enum.map(modules, &inspect/1)] do
      assert names |> Enum.frequencies_by(&String.downcase/1) |> Enum.filter(fn {_name, count} -> count > 1 end) == []
    end
  end

  test "no other module asks for the system" do
    asking = for path <- Path.wildcard("lib/**/*.ex"), File.read!(path) =~ ~r{:os\.type|/proc/}, do: path
    # What is asked for a name of the system, for wheels and for uv; a script for a Python of Linux.
    assert asking -- ~w(lib/pythonx/host/platform.ex lib/pythonx/uv/target.ex lib/pythonx/uv/system_copy.ex) ==
             ["lib/pythonx/host/os.ex"]
  end

  test "nor does another file of C or C++" do
    asking =
      for path <- Path.wildcard("c_src/**/*.{c,h,cpp,hpp}"),
          File.read!(path) =~ ~r/__APPLE__|__linux__|__GLIBC__/,
          do: path

    # The loader is one file of C by itself.
    assert asking -- ["c_src/loader/loader.c"] ==
             ~w(c_src/bridge/vm/system.cpp c_src/bridge/vm/system.hpp c_src/launcher/family.c c_src/launcher/sandbox.h)
  end
end
