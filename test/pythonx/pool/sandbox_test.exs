defmodule Pythonx.Pool.SandboxTest do
  use ExUnit.Case, async: true

  import Pythonx.Case, only: [wait_until: 1]

  alias Pythonx.Pool.{Options, Sandbox}

  @moduletag timeout: 300_000

  @escapes Path.expand("../../python/sandbox_escapes.py", __DIR__)

  describe "the option" do
    test "is off by default" do
      assert Options.validate!([]).sandbox == nil
      assert Sandbox.arguments(nil, %{read: [], exec: [], forks: false}, []) == []
    end

    test ":strict is the list with nothing in it" do
      assert Options.validate!(sandbox: :strict).sandbox == Options.validate!(sandbox: []).sandbox
    end

    test "names a value that is wrong" do
      for {given, message} <- [
            {:loose, "expected :sandbox to be :strict or a keyword list, got: :loose"},
            {[1], "expected :sandbox to be :strict or a keyword list, got: [1]"},
            {[raed: ["/a"]],
             "expected :sandbox to be a list of :read, :write, :connect, :listen, :exec, :env, :processes, :files, " <>
               ":file_size, :cpu_time, :memory, :best_effort, got: [raed: [\"/a\"]]"},
            {[read: "/a"], ~s(expected :read of :sandbox to be a list of absolute paths, got: "/a")},
            {[read: ["a"]], ~s(expected :read of :sandbox to be a list of absolute paths, got: ["a"])},
            {[write: ["/a\0"]], "expected :write of :sandbox to be a list of absolute paths, got: [<<47, 97, 0>>]"},
            {[exec: true], "expected :exec of :sandbox to be false or a list of absolute paths, got: true"},
            {[connect: 443], "expected :connect of :sandbox to be false or a list of ports from 1 to 65535, got: 443"},
            {[listen: [0]], "expected :listen of :sandbox to be false or a list of ports from 1 to 65535, got: [0]"},
            {[env: ["A=1"]], ~s(expected :env of :sandbox to be :clean, :inherit or a list of names, got: ["A=1"])},
            {[processes: -1], "expected :processes of :sandbox to be a non-negative integer, got: -1"},
            {[files: 3], "expected :files of :sandbox to be from 16 to 65535, got: 3"},
            {[file_size: nil], "expected :file_size of :sandbox to be a number of bytes or :infinity, got: nil"},
            {[cpu_time: 0], "expected :cpu_time of :sandbox to be a number of seconds or :infinity, got: 0"},
            {[memory: 1.5], "expected :memory of :sandbox to be a number of bytes or :infinity, got: 1.5"},
            {[best_effort: 1], "expected :best_effort of :sandbox to be a boolean, got: 1"}
          ] do
        assert_raise ArgumentError, message, fn -> Options.validate!(sandbox: given) end
      end
    end

    test "what the launcher says of the kernel is understood, and what lacks on one of several nodes lacks" do
      whole = Sandbox.parse("landlock 7\nholds files\nholds signals\n")
      assert whole == %{landlock: 7, holds: [:files, :signals], lacks: %{}}
      old = Sandbox.parse("landlock 4\nholds files\nlacks signals: that needs another\n")
      assert old == %{landlock: 4, holds: [:files], lacks: %{signals: "that needs another"}}
      assert Sandbox.merge([whole, old]) == old
      assert Sandbox.merge([nil, nil]) == nil
    end
  end

  describe "the kernel" do
    @describetag :sandbox
    setup do
      folder = Path.join(System.tmp_dir!(), "sbx#{System.unique_integer([:positive])}")
      File.mkdir_p!(Path.join(folder, "empty"))
      on_exit(fn -> File.rm_rf!(folder) end)
      secret = Path.join(folder, "secret")
      File.write!(secret, "secret")
      %{folder: folder, secret: secret}
    end

    test "keeps every attempt to get out of :strict from it, as an ordinary exception", %{
      folder: folder,
      secret: secret
    } do
      keeps_all(folder, secret, fn outside ->
        {lines, _said, status} = python(:strict, [@escapes, json(outside)], held: secret)
        assert status == 0
        String.split(lines, "\n", trim: true)
      end)
    end

    test "does so for the workers of a pool", %{folder: folder, secret: secret} do
      {:ok, pool} = Pythonx.Pool.start_link(size: 1, sandbox: :strict)
      code = "names = {'OUTSIDE': outside, '__name__': 'escapes'}\nexec(source, names)\nnames['LINES']"

      keeps_all(folder, secret, fn outside ->
        globals = %{"source" => File.read!(@escapes), "outside" => outside}
        {lines, _globals} = Pythonx.Pool.eval(pool, code, globals, binaries: :str)
        lines
      end)

      assert {2, %{}} = Pythonx.Pool.eval(pool, "1 + 1", %{})
    end

    defp keeps_all(folder, secret, attempt) do
      library = hd(Path.wildcard(Path.join(environment().site_packages, "numpy/__init__.py")))
      before = File.read!(library)
      victim = Port.open({:spawn_executable, System.find_executable("sleep")}, [:exit_status, args: ["1000"]])
      {:os_pid, victim_pid} = Port.info(victim, :os_pid)
      {:ok, listener} = :gen_tcp.listen(0, ip: {127, 0, 0, 1})
      {:ok, port} = :inet.port(listener)
      unix = Path.join(folder, "unix")
      abstract = Path.basename(folder)
      {:ok, _listener} = :gen_tcp.listen(0, ifaddr: {:local, unix})
      {:ok, _listener} = :gen_tcp.listen(0, ifaddr: {:local, <<0, abstract::binary>>})

      lines =
        attempt.(%{
          "secret" => secret,
          "folder" => folder,
          "library" => library,
          "victim" => victim_pid,
          "vm" => String.to_integer(System.pid()),
          "port" => port,
          "unix" => unix,
          "abstract" => abstract,
          "held" => 9
        })

      results = for line <- lines, do: line |> String.split("\t") |> List.to_tuple()
      assert for({name, "nothing" <> _ = result} <- results, do: {name, result}) == []
      assert length(results) >= 170

      ordinary = ~w(PermissionError OSError FileNotFoundError MemoryError RuntimeError ValueError gaierror)
      assert for({name, result} <- results, hd(String.split(result)) not in ordinary, do: {name, result}) == []

      # And nothing has happened.
      assert File.read!(secret) == "secret"
      assert File.stat!(secret).mode == 0o100644
      assert Enum.sort(File.ls!(folder)) == ~w(empty secret unix)
      assert File.read!(library) == before
      assert Port.info(victim, :os_pid) == {:os_pid, victim_pid}
      assert :gen_tcp.accept(listener, 0) == {:error, :timeout}
      Port.close(victim)
      System.cmd("kill", ["-9", "#{victim_pid}"])
    end

    @tag :arrow
    test "lets numpy, pandas and polars work" do
      code = """
      import asyncio, os, sqlite3, ssl, tempfile, threading, zoneinfo
      import numpy as np, pandas as pd, polars as pl, pyarrow as pa, duckdb
      assert np.allclose(np.linalg.inv(np.eye(100) * 2), np.eye(100) / 2)
      frame = pd.DataFrame({"a": range(1000)})
      frame.to_parquet("a.parquet"); frame.to_csv("a.csv")
      assert pd.read_parquet("a.parquet").a.sum() == 499500 == pd.read_csv("a.csv").a.sum()
      assert pl.scan_parquet("a.parquet").select(pl.col("a").sum()).collect().item() == 499500
      assert duckdb.sql("select sum(a) from 'a.parquet'").fetchall() == [(499500,)]
      assert pa.table({"a": [1]}).num_rows == 1
      connection = sqlite3.connect("a.db"); connection.execute("create table t(a)"); connection.commit()
      asyncio.run(asyncio.sleep(0))
      zoneinfo.ZoneInfo("Europe/Berlin"); ssl.create_default_context()
      threads = [threading.Thread(target=lambda: np.ones((300, 300)) @ np.ones((300, 300))) for _ in range(4)]
      for thread in threads: thread.start()
      for thread in threads: thread.join()
      with tempfile.TemporaryDirectory() as folder:
          open(os.path.join(folder, "x"), "w").close()
      os.write(4, b"all")
      """

      assert {"all", _said, 0} = python(:strict, ["-c", code])
    end

    test "gives what the options name, and no more", %{folder: folder, secret: secret} do
      {:ok, listener} = :gen_tcp.listen(0, ip: {127, 0, 0, 1})
      {:ok, other} = :gen_tcp.listen(0, ip: {127, 0, 0, 1})
      {:ok, port} = :inet.port(listener)
      {:ok, closed} = :inet.port(other)
      {:ok, free} = :gen_tcp.listen(0, ip: {127, 0, 0, 1})
      {:ok, mine} = :inet.port(free)
      :gen_tcp.close(free)
      writable = Path.join(folder, "writable")
      File.mkdir!(writable)

      code = """
      import os, socket, subprocess, sys
      said = []
      def say(function):
          try: said.append(str(function()))
          except Exception as error: said.append(type(error).__name__)
      say(lambda: open(#{inspect(secret)}).read())
      say(lambda: open(#{inspect(secret)}, "a"))
      say(lambda: open(#{inspect(writable)} + "/new", "w").write("new"))
      say(lambda: bool(socket.create_connection(("127.0.0.1", #{port}))))
      say(lambda: socket.create_connection(("127.0.0.1", #{closed})))
      say(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
      say(lambda: bool(socket.create_server(("127.0.0.1", #{mine}))))
      say(lambda: socket.create_server(("127.0.0.1", #{closed})))
      say(lambda: socket.socket(socket.AF_UNIX))
      say(lambda: subprocess.run(["/bin/echo", "hello"], capture_output=True).stdout.decode().strip())
      say(lambda: subprocess.run(["/bin/cat", #{inspect(secret)}]))
      program = os.memfd_create("program", os.MFD_CLOEXEC | 8)
      os.write(program, open("/lib64/ld-linux-x86-64.so.2" if os.path.exists("/lib64/ld-linux-x86-64.so.2") else sys.executable, "rb").read())
      say(lambda: subprocess.run([f"/proc/self/fd/{program}"], pass_fds=[program]))
      say(lambda: os.environ["MINE"])
      say(lambda: os.environ["NOT_MINE"])
      say(lambda: len(os.listdir(os.environ["TMPDIR"])))
      os.write(4, " ".join(said).encode())
      """

      options = [
        read: [secret],
        write: [writable],
        connect: [port],
        listen: [mine],
        exec: ["/bin/echo"],
        env: ["MINE"],
        processes: 10,
        # Those of root are not counted.
        best_effort: true
      ]

      env = [{~c"MINE", ~c"mine"}, {~c"NOT_MINE", ~c"x"}]
      {text, _said, 0} = python(options, ["-c", code], env: env)

      assert String.split(text) ==
               ~w(secret PermissionError 3 True PermissionError PermissionError True PermissionError PermissionError hello
                  PermissionError PermissionError mine KeyError 0)

      assert File.read!(Path.join(writable, "new")) == "new"
      assert {"x", _said, 0} = python([env: :inherit], ["-c", environment_value()], env: env)
    end

    defp environment_value, do: ~s|import os; os.write(4, os.environ["NOT_MINE"].encode())|

    test "ends what uses more time than it may" do
      assert {"", said, status} = python([cpu_time: 1], ["-c", "while True: pass"])
      assert {said, status} == {said, 128 + 24}
    end

    test "holds with all earlier versions of Landlock what they know" do
      code = "import os\ntry: open('/etc/passwd')\nexcept PermissionError: os.write(4, b'refused')"

      for version <- 1..6 do
        older = ["-landlock=#{version}"]
        holds = fn options -> System.cmd(launcher(), ["-holds" | arguments(options) ++ older]) end
        {text, status} = holds.(connect: [443])
        %{landlock: ^version, holds: held, lacks: lacks} = Sandbox.parse(text)
        assert :files in held and :system_calls in held

        assert Enum.sort(Map.keys(lacks)) ==
                 if(version < 4, do: [:ports], else: []) ++ if(version < 6, do: [:signals], else: [])

        assert status == if(lacks == %{}, do: 0, else: 1)

        assert {"refused", _said, 0} = python([best_effort: true], ["-c", code], more: older)

        if version < 6 do
          assert {"", said, 127} = python(:strict, ["-c", code], more: older)
          assert said =~ "lacks signals: that needs Linux 6.12 with Landlock, version 6\n"
        end
      end

      {text, 1} = System.cmd(launcher(), ["-holds" | arguments(:strict) ++ ["-landlock=0"]])
      assert text =~ "lacks files: that needs Linux 5.13 with Landlock\n"
    end

    test "says what cannot be allowed" do
      assert {"", said, 127} = python([write: ["/nonexistent/folder"]], ["-c", "pass"])
      assert said =~ "the sandbox cannot allow /nonexistent/folder: No such file or directory"
    end

    test "a worker's folder for temporary files goes with it, also after SIGKILL of either" do
      code = """
      import os, signal, sys
      os.makedirs("/".join(["deep"] * 200)); open("file", "w").close(); os.symlink("/", "link")
      os.mkdir("closed"); open("closed/file", "w").close(); os.mkdir("hidden", 0)
      os.write(4, os.getcwd().encode() + b"\\n" + str(os.getppid()).encode() + b"\\n")
      if sys.argv[1] == "kill": os.kill(os.getpid(), signal.SIGKILL)
      if sys.argv[1] == "wait": os.read(3, 1)
      """

      for how <- ~w(end kill) do
        {text, _said, _status} = python(:strict, ["-c", code, how])
        [folder, _launcher] = String.split(text)
        assert folder =~ "pythonx-sandbox-"
        refute File.exists?(folder)
      end

      # When the VM is gone, which shows by the end of the connection.
      port = open(:strict, ["-c", code, "wait"], [])
      assert_receive {^port, {:data, text}}
      [folder, _launcher] = String.split(text)
      assert File.dir?(folder)
      Port.close(port)
      wait_until(fn -> not File.exists?(folder) end)

      # What a launcher could not remove, the next one does.
      port = open(:strict, ["-c", code, "wait"], [])
      assert_receive {^port, {:data, text}}
      [folder, launcher] = String.split(text)
      assert File.dir?(folder)
      {_output, 0} = System.cmd("kill", ["-9", launcher])
      assert_receive {^port, {:exit_status, _status}}
      wait_until(fn -> match?({_text, _said, 0}, python(:strict, ["-c", "pass"])) and not File.exists?(folder) end)
    end
  end

  describe "a pool" do
    @describetag :sandbox
    test "has workers in a sandbox, tells what holds, and its caller gets Python's exception" do
      {:ok, pool} = Pythonx.Pool.start_link(size: 1, sandbox: :strict)
      assert {6, %{}} = Pythonx.Pool.eval(pool, "sum([1, 2, 3])", %{})

      for code <- ["open('/etc/passwd')", "import socket\nsocket.socket()", "import os\nos.kill(os.getppid(), 9)"] do
        error = assert_raise Pythonx.Error, fn -> Pythonx.Pool.eval(pool, code, %{}) end
        assert Exception.message(error) =~ "PermissionError"
      end

      assert %{landlock: version, holds: holds, lacks: lacks} = Pythonx.Pool.info(pool).sandbox
      assert {version >= 6, lacks} == {true, %{}}
      assert Enum.sort(holds) == [:files, :ports, :processes, :signals, :system_calls]
    end

    @tag :arrow
    test "has packages, files of its own, memory up to its limits, and crashes as others do" do
      {:ok, pool} = Pythonx.Pool.start_link(size: 1, sandbox: :strict, max_memory: 8_000_000_000)

      code =
        "import numpy as np, pandas as pd, polars as pl\npl.from_pandas(pd.DataFrame({'a': np.arange(10)}))['a'].sum()"

      assert {45, %{}} = Pythonx.Pool.eval(pool, code, %{})

      code = "import os, tempfile\nwith tempfile.NamedTemporaryFile() as file: folder = os.path.dirname(file.name)"
      {nil, %{"folder" => folder}} = Pythonx.Pool.eval(pool, code, %{}, globals: ["folder"])
      assert File.dir?(folder)

      assert_raise Pythonx.Error, ~r/MemoryError/, fn -> Pythonx.Pool.eval(pool, "bytearray(6_000_000_000)", %{}) end

      error =
        assert_raise Pythonx.Pool.CrashError, fn ->
          Pythonx.Pool.eval(pool, "import ctypes; ctypes.string_at(0)", %{})
        end

      assert error.reason == {:signal, "SIGSEGV"}
      wait_until(fn -> not File.exists?(folder) end)
      assert {2, %{}} = Pythonx.Pool.eval(pool, "1 + 1", %{})
    end

    test "does not start where a folder that it is to write is not there" do
      Process.flag(:trap_exit, true)
      assert {:error, {error, _stack}} = Pythonx.Pool.start_link(size: 1, sandbox: [write: ["/nonexistent"]])
      assert Exception.message(error) =~ "the sandbox cannot allow /nonexistent: No such file or directory"
    end

    test "without one tells nothing of it" do
      {:ok, pool} = Pythonx.Pool.start_link(size: 1)
      assert Pythonx.Pool.info(pool).sandbox == nil
    end
  end

  ## A launcher with the Python of this suite behind it

  defp environment do
    [root, project] = Pythonx.install_paths()
    [packages] = Path.wildcard(Path.join(project, ".venv/lib/python3*/site-packages"), match_dot: true)
    %{root: root, project: project, executable: Path.join(project, ".venv/bin/python"), site_packages: packages}
  end

  defp arguments(options) do
    %{root: root, executable: executable} = environment()
    [libpython | _] = Pythonx.FreshVM.python()
    read = Sandbox.python_folders(libpython, root, executable, [Path.dirname(@escapes)])
    Sandbox.arguments(Sandbox.validate!(options), %{read: read, exec: [], forks: false}, [])
  end

  defp launcher, do: Pythonx.Host.Native.path(Application.app_dir(:pythonx, "priv"), :launcher)

  defp open(options, python_arguments, opts) do
    command =
      [launcher(), "0", "100000", "0"] ++
        arguments(options) ++ Keyword.get(opts, :more, []) ++ [environment().executable | python_arguments]

    # With one more descriptor, if one is to be held.
    script = if opts[:held], do: ~s(exec 9<"$0"; exec "$@"), else: ~s(exec "$@")
    args = ["-c", script, opts[:held] || "sh" | command]
    Port.open({:spawn_executable, "/bin/sh"}, [:binary, :exit_status, args: args, env: Keyword.get(opts, :env, [])])
  end

  # What came on its connection, what was printed (with more behind it), and the exit status of the launcher.
  defp python(options, python_arguments, opts \\ []) do
    {bytes, status} = options |> open(python_arguments, opts) |> collect("")
    [text, said] = :binary.split(bytes, <<255, 255, 255, 255>>)
    {text, said, status}
  end

  defp collect(port, bytes) do
    receive do
      {^port, {:data, more}} -> collect(port, bytes <> more)
      {^port, {:exit_status, status}} -> {bytes, status}
    after
      120_000 -> flunk("the launcher does not end, so far: #{inspect(bytes)}")
    end
  end

  defp json(map), do: "{" <> Enum.map_join(map, ", ", fn {key, value} -> ~s("#{key}": #{inspect(value)}) end) <> "}"
end
