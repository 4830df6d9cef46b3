defmodule Pythonx.BootTest do
  # Each test boots Python, or fails to, in a VM of its own.
  use ExUnit.Case, async: true

  # What the Python of this suite is made of, as `Pythonx.init/4` wants it.
  setup_all do
    globals = "import os, sys, sysconfig\nlib = sysconfig.get_config_var('INSTSONAME')\n"

    {result, _} =
      Pythonx.eval(
        globals <>
          """
          folders = [os.path.join(sys.base_prefix, "lib"), sysconfig.get_config_var("LIBDIR")]
          multiarch = sysconfig.get_config_var("MULTIARCH")
          folders += [os.path.join(f, multiarch) for f in folders if multiarch]
          path = next(os.path.join(f, lib) for f in folders if os.path.exists(os.path.join(f, lib)))
          [path, sys.base_prefix, sys.executable, "%d.%d" % sys.version_info[:2],
           os.path.basename(os.path.dirname(os.__file__))]
          """,
        %{}
      )

    [library, home, executable, version, stdlib] = Pythonx.decode(result)
    %{library: library, home: home, executable: executable, version: version, stdlib: stdlib}
  end

  defp run(code, opts \\ []) do
    paths = Enum.flat_map([:pythonx], &["-pa", Path.join(Application.app_dir(&1), "ebin")])
    elixir = System.find_executable("elixir")
    System.cmd(elixir, paths ++ ["-e", code], [stderr_to_stdout: true] ++ opts)
  end

  # Reports what `init` raised, then that the VM is alive.
  defp init_code(library, home, executable) do
    """
    try do
      Pythonx.init(#{inspect(library)}, #{inspect(home)}, #{inspect(executable)})
    rescue
      error -> IO.puts(inspect(error.__struct__) <> ": " <> Exception.message(error))
    end
    IO.puts("alive")
    """
  end

  @moduletag :tmp_dir

  test "paths that do not exist are named", c do
    {output, 0} = run(init_code("/no/lib.so", c.home, c.executable))
    assert output == "ArgumentError: the given dynamic library file does not exist: /no/lib.so\nalive\n"

    {output, 0} = run(init_code(c.library, "/no/home", c.executable))
    assert output == "ArgumentError: the given python home directory does not exist: /no/home\nalive\n"
  end

  test "a file that is no library is named with the linker's reason", c do
    path = Path.join(c.tmp_dir, "lib python ż.so")
    File.write!(path, "not a library")
    {output, 0} = run(init_code(path, c.home, c.executable))
    assert output =~ "RuntimeError: failed to open Python dynamic library, path: #{path}, reason: "
    assert output =~ "\nalive\n"
  end

  test "a home without the standard library raises, and the next try may succeed", c do
    code =
      init_code(c.library, c.tmp_dir, c.executable) <>
        """
        Application.ensure_all_started(:pythonx)
        Pythonx.init(#{inspect(c.library)}, #{inspect(c.home)}, #{inspect(c.executable)})
        IO.puts(Pythonx.decode(elem(Pythonx.eval("str(6 * 7)", %{}), 0)))
        """

    {output, 0} = run(code)

    assert output ==
             "RuntimeError: the Python home directory #{c.tmp_dir} does not hold the standard library of Python " <>
               "#{c.version}, #{c.tmp_dir}/lib/#{c.stdlib}/encodings does not exist\nalive\n42\n"
  end

  test "the executable may be a file that is not there, or libpython itself", c do
    for executable <- [Path.join(c.tmp_dir, "no/python"), c.library] do
      code =
        init_code(c.library, c.home, executable) <>
          """
          Application.ensure_all_started(:pythonx)
          IO.inspect(Pythonx.decode(elem(Pythonx.eval("import sys, json\nsys.executable", %{}), 0)))
          """

      {output, 0} = run(code)
      assert String.ends_with?(output, inspect(executable) <> "\n")
    end
  end

  test "a second initialisation raises", c do
    code = """
    init = fn -> Pythonx.init(#{inspect(c.library)}, #{inspect(c.home)}, #{inspect(c.executable)}) end
    :ok = init.()
    #{init_code(c.library, c.home, c.executable)}
    #{init_code(c.library, "/no/home", c.executable)}
    """

    {output, 0} = run(code)

    assert output == """
           RuntimeError: Python interpreter has already been initialized
           alive
           ArgumentError: the given python home directory does not exist: /no/home
           alive
           """
  end

  test "before it, every function says so" do
    code = """
    for fun <- [
          fn -> Pythonx.encode!(1) end,
          fn -> Pythonx.decode(%Pythonx.Object{resource: make_ref()}) end,
          fn -> Pythonx.NIF.object_repr(1) end
        ] do
      try do
        fun.()
      rescue
        error in RuntimeError -> IO.puts(error.message)
      end
    end

    try do
      Pythonx.eval("1", %{})
    rescue
      error in RuntimeError -> IO.puts(error.message)
    end

    Application.ensure_all_started(:pythonx)

    try do
      Pythonx.eval("1", %{})
    rescue
      error in RuntimeError -> IO.puts(error.message)
    end
    """

    {output, 0} = run(code)

    assert String.split(output, "\n", trim: true) ==
             List.duplicate("Python interpreter has not been initialized", 3) ++
               [
                 "the :pythonx application needs to be started before calling Pythonx.eval/3",
                 "Python interpreter has not been initialized"
               ]
  end

  test "a home whose path has spaces and letters of any script works", c do
    home = Path.join(c.tmp_dir, "mój pyton 猫")
    File.mkdir_p!(Path.join(home, "lib"))
    File.ln_s!(Path.join(c.home, "lib/#{c.stdlib}"), Path.join(home, "lib/#{c.stdlib}"))

    code = """
    Application.ensure_all_started(:pythonx)
    :ok = Pythonx.init(#{inspect(c.library)}, #{inspect(home)}, #{inspect(Path.join(c.home, "bin/#{c.stdlib}"))})
    {result, _} = Pythonx.eval("import sys, json; sys.base_prefix", %{})
    IO.puts(Pythonx.decode(result))
    """

    {output, 0} = run(code)
    assert output == home <> "\n"
  end

  test "variables of the user's shell lead nothing astray", c do
    code = """
    Application.ensure_all_started(:pythonx)
    :ok = Pythonx.init(#{inspect(c.library)}, #{inspect(c.home)}, #{inspect(c.executable)})
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import sys; print(sys.prefix)'], capture_output=True, text=True).stdout.strip() == sys.prefix"
    {result, _} = Pythonx.eval(code, %{})
    IO.inspect(Pythonx.decode(result))
    """

    env = [{"PYTHONHOME", c.tmp_dir}, {"PYTHONSTARTUP", "/no/file"}, {"VIRTUAL_ENV", c.tmp_dir}]
    assert {"true\n", 0} = run(code, env: env)
  end

  describe "when the VM ends" do
    test "atexit handlers run, files are flushed, the exit status is kept", c do
      path = Path.join(c.tmp_dir, "kept.txt")

      code = """
      Application.ensure_all_started(:pythonx)
      :ok = Pythonx.init(#{inspect(c.library)}, #{inspect(c.home)}, #{inspect(c.executable)})
      Pythonx.eval("import atexit\\natexit.register(lambda: print('farewell'))\\nf = open(path, 'w')\\nf.write('buffered')", %{"path" => #{inspect(path)}})
      System.halt(3)
      """

      assert {"farewell\n", 3} = run(code)
      assert File.read!(path) == "buffered"
    end

    test "files are flushed beside objects that answer for others, and streams that are broken", c do
      path = Path.join(c.tmp_dir, "kept.txt")

      code = """
      Application.ensure_all_started(:pythonx)
      :ok = Pythonx.init(#{inspect(c.library)}, #{inspect(c.home)}, #{inspect(c.executable)})
      Pythonx.eval(\"\"\"
      import builtins, io
      class Proxy:
          @property
          def __class__(self): raise RuntimeError("working outside of a context")
      builtins.kept = [Proxy(), io.TextIOWrapper(io.BytesIO())]
      kept[1].detach()
      f = open(path, "w")
      f.write("buffered")
      \"\"\", %{"path" => #{inspect(path)}})
      System.halt(3)
      """

      assert {"", 3} = run(code)
      assert File.read!(path) == "buffered"
    end

    # As that of duckdb, which calls Python on a thread that has nothing to do with it.
    test "destructors of static objects are left out, and what C code has printed is flushed", c do
      source = """
      #include <stdio.h>
      #include <stdlib.h>
      void say(void) { printf("from C"); }
      __attribute__((destructor)) static void gone(void) { abort(); }
      """

      library = Pythonx.NativeCase.shared_library!(Path.join(c.tmp_dir, "libgone.so"), source)

      code = """
      Application.ensure_all_started(:pythonx)
      :ok = Pythonx.init(#{inspect(c.library)}, #{inspect(c.home)}, #{inspect(c.executable)})
      Pythonx.eval("import ctypes\nctypes.CDLL(path.decode()).say()", %{"path" => #{inspect(library)}})
      System.halt(3)
      """

      assert {"from C", 3} = run(code)
    end

    test "busy, blocked and daemon threads neither crash nor delay it", c do
      code = """
      Application.ensure_all_started(:pythonx)
      :ok = Pythonx.init(#{inspect(c.library)}, #{inspect(c.home)}, #{inspect(c.executable)})
      Pythonx.eval(\"\"\"
      import threading, time
      started = threading.Semaphore(0)
      def busy():
          started.release()
          while True: pass
      def blocked():
          started.release()
          time.sleep(1000)
      for f in (busy, blocked):
          for daemon in (False, True):
              threading.Thread(target=f, daemon=daemon).start()
      for _ in range(4): started.acquire()
      \"\"\", %{})
      for _ <- 1..3, do: spawn(fn -> Pythonx.eval("while True: pass", %{}) end)
      spawn(fn -> Pythonx.eval("import time; time.sleep(1000)", %{}) end)
      System.stop(4)
      Process.sleep(:infinity)
      """

      assert {_output, 4} = run(code)
    end
  end
end
