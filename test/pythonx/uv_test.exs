defmodule Pythonx.UvTest do
  use Pythonx.UvCase, async: false

  alias Pythonx.Uv

  @failure "fetching Python and dependencies failed, see standard output for details"

  defp fetch(toml, opts \\ []), do: quietly(fn -> Uv.fetch(toml, false, opts) end)

  # The folder that a project has had since the first version, whatever the versions of uv and of Pythonx.
  defp project_dir(context, toml, python \\ "") do
    id = (toml <> python) |> :erlang.md5() |> Base.encode32(case: :lower, padding: false)
    assert byte_size(id) == 26
    Path.join(context.projects, id)
  end

  defp visible(dir), do: dir |> File.ls!() |> Enum.sort()

  # The other end of a pipe, where the fake uv waits until the test has got as far. Opened by programs with a limit of
  # time: the VM itself cannot give up on it.
  defp fifo!(context) do
    path = Path.join(context.tmp_dir, "fifo")
    {_output, 0} = System.cmd("mkfifo", [path])
    path
  end

  defp let_go(fifo), do: {_output, 0} = System.cmd("timeout", ["10", "sh", "-c", "echo > '#{fifo}'"])

  defp read(fifo) do
    {text, 0} = System.cmd("timeout", ["10", "cat", fifo])
    String.trim(text)
  end

  test "the default version of uv" do
    assert Uv.default_uv_version() == "0.13.8"
  end

  describe "fetch/3" do
    test "makes the environment once; then nothing is run, and uv not even looked for", context do
      fake_uv!(context.log, sync: "echo synced > .venv/lib/python3.13/site-packages/module.py")
      toml = toml() <> "# ż\r\n\ttab"
      assert fetch(toml) == :ok

      dir = project_dir(context, toml)
      assert File.read!(Path.join(dir, "pyproject.toml")) == toml
      assert File.read!(Path.join(dir, ".venv/lib/python3.13/site-packages/module.py")) == "synced\n"
      assert visible(dir) == [".venv", "pyproject.toml", "pythonx.config"]
      assert visible(context.projects) == [Path.basename(dir)]

      assert ["--version", find, venv, sync] = calls(context.log)
      assert find == "python find --no-config --system --no-python-downloads --python-preference managed"
      executable = ask_python!("os.path.realpath(sys.executable)")
      assert venv == "venv --quiet --relocatable --no-config --python #{executable} .venv"
      assert sync == "sync --no-config --python #{executable}"

      System.put_env("PYTHONX_UV", "/nowhere/uv")
      assert fetch(toml) == :ok
      assert length(calls(context.log)) == 4
    end

    test "says which Python it uses, and passes on both outputs of uv as they come", context do
      fifo = fifo!(context)
      fake_uv!(context.log, sync: ~s(printf 'first \\305' >&2; cat '#{fifo}' >/dev/null; printf '\\274\\n\\377 last'))
      test = self()
      device = spawn_link(fn -> forward_output(test) end)

      fetching =
        Task.async(fn ->
          Process.group_leader(self(), device)
          Uv.fetch(toml(), false)
        end)

      version = ask_python!("'.'.join(map(str, sys.version_info[:3]))")
      prefix = ask_python!("os.path.realpath(sys.base_prefix)")
      assert_receive {:output, "Using CPython " <> text}
      assert text == "#{version} at #{prefix}\n"
      # uv waits until this has been seen. The half character waits for its other half.
      assert_receive {:output, "first "}
      let_go(fifo)
      assert_receive {:output, "ż\n\uFFFD last"}
      assert Task.await(fetching, 60_000) == :ok
    end

    defp forward_output(test) do
      receive do
        {:io_request, from, reference, {:put_chars, :unicode, text}} ->
          send(test, {:output, IO.chardata_to_string(text)})
          send(from, {:io_reply, reference, :ok})
          forward_output(test)
      end
    end

    test "leaves no message behind, even where exits are trapped", context do
      fake_uv!(context.log)
      Process.flag(:trap_exit, true)
      assert fetch(toml()) == :ok
      refute_received _any
    end

    test "a failing uv leaves nothing behind, and can be tried again", context do
      fake_uv!(context.log, sync: "echo the reason; exit 3")

      {error, output} = with_output(fn -> assert_raise RuntimeError, fn -> Uv.fetch(toml(), false) end end)
      assert output =~ "the reason\n"
      assert error.message == @failure <> "\n\nthe reason"
      assert visible(context.projects) == []

      fake_uv!(context.log)
      assert fetch(toml()) == :ok
    end

    test "the last lines of a failing uv are in the error, without colours", context do
      lines =
        ~S|i=0; while [ $i -lt 2000 ]; do echo "line ż $i"; i=$((i + 1)); done; printf '\033[31merror\033[0m: no \305'|

      fake_uv!(context.log, sync: lines <> "; exit 1")
      {error, _output} = with_output(fn -> assert_raise RuntimeError, fn -> Uv.fetch(toml(), false) end end)
      expected = Enum.map(1981..1999, &"line ż #{&1}") ++ ["error: no \uFFFD"]
      assert error.message == Enum.join([@failure, "" | expected], "\n")
    end

    test "where uv does not trust a certificate, our own option is named", context do
      advice = "Pythonx: with the option native_tls: true, uv trusts the certificates that this system trusts\n"
      sync = "echo 'error: Failed to fetch'; echo '  cause: invalid peer certificate: UnknownIssuer'; "

      fake_uv!(context.log, sync: sync <> "exit 2")
      {error, output} = with_output(fn -> assert_raise RuntimeError, fn -> Uv.fetch(toml(), false) end end)
      assert String.ends_with?(output, "UnknownIssuer\n" <> advice)
      assert String.ends_with?(error.message <> "\n", "UnknownIssuer\n" <> advice)

      fake_uv!(context.log, sync: sync <> "exit 0")
      {:ok, output} = with_output(fn -> Uv.fetch(toml(), false) end)
      refute output =~ "native_tls"
    end

    test "without any Python, what will do is named", context do
      fake_uv!(context.log, find: "exit 2", venv: "echo no network; exit 2")
      {error, output} = with_output(fn -> assert_raise RuntimeError, fn -> Uv.fetch(toml(), false) end end)
      assert error.message <> "\n" == @failure <> "\n\n" <> output

      assert output ==
               "no network\nPythonx: no Python was found that fits, and uv could not download one. " <>
                 "One of the system will do, with its shared library and headers: on Debian, apt-get install python3-dev\n"
    end

    test "a uv that cannot make the environment, or is killed", context do
      fake_uv!(context.log, venv: "exit 2")
      assert_raise RuntimeError, @failure, fn -> fetch(toml()) end
      fake_uv!(context.log, sync: "kill -9 $$")
      assert_raise RuntimeError, ~r/\A#{@failure}/, fn -> fetch(toml()) end
      assert visible(context.projects) == []
    end

    test ":force makes it anew, and a failure to do so leaves the former one", context do
      fake_uv!(context.log)
      assert fetch(toml()) == :ok
      marker = Path.join(project_dir(context, toml()), "marker")
      File.write!(marker, "")

      fake_uv!(context.log, sync: "exit 1")
      assert_raise RuntimeError, @failure, fn -> fetch(toml(), force: true) end
      assert File.exists?(marker)

      fake_uv!(context.log)
      assert fetch(toml(), force: true) == :ok
      refute File.exists?(marker)
    end

    test "options: what is passed on, and which of them make another environment", context do
      fake_uv!(context.log, sync: "env | grep -E '^UV_(NATIVE_TLS|SYSTEM_CERTS)=' | sort >> '#{context.log}'")
      assert fetch(toml(), python: "3.13", native_tls: true) == :ok
      assert ["--version", find, _venv, _sync | tls] = calls(context.log)
      assert String.ends_with?(find, " --python-preference managed 3.13")
      assert tls == ["UV_NATIVE_TLS=true", "UV_SYSTEM_CERTS=true"]
      assert visible(context.projects) == [Path.basename(project_dir(context, toml(), "3.13"))]

      assert fetch(toml(), python: "3.13", native_tls: false) == :ok
      assert length(calls(context.log, "sync")) == 1
      assert fetch(toml()) == :ok
      assert length(calls(context.log, "sync")) == 2
    end

    test ":lock, as text and as a path, is put beside pyproject.toml and must fit it", context do
      lock = "version = 1\nrevision = 3\n"
      path = Path.join(context.tmp_dir, "uv.lock")
      File.write!(path, lock)
      fake_uv!(context.log, sync: "cp uv.lock uv.lock.seen")
      assert fetch(toml(), lock: lock) == :ok
      assert fetch(toml(), lock: path) == :ok
      assert [sync] = calls(context.log, "sync")
      assert String.ends_with?(sync, " --locked")
      assert [id] = visible(context.projects)
      assert File.read!(Path.join([context.projects, id, "uv.lock.seen"])) == lock
      refute id == Path.basename(project_dir(context, toml()))

      assert_raise ArgumentError, "could not read the lock file /nowhere/uv.lock: no such file or directory", fn ->
        fetch(toml(), lock: "/nowhere/uv.lock")
      end
    end

    test "uv sees nothing of the shell that would change the result, and its Pythons are in the cache", context do
      foreign = ~w(UV_PROJECT_ENVIRONMENT UV_CONFIG_FILE UV_PYTHON UV_FROZEN UV_MANAGED_PYTHON VIRTUAL_ENV PYTHONHOME
                   PYTHONPATH PYTHONSTARTUP CONDA_PREFIX)
      saved = for name <- ["UV_INDEX_URL" | foreign], do: {name, System.get_env(name)}
      on_exit(fn -> System.put_env(saved) end)
      for name <- ["UV_INDEX_URL" | foreign], do: System.put_env(name, "0")

      fake_uv!(context.log, sync: ~s(env >> '#{context.log}'))
      assert fetch(toml()) == :ok

      env =
        for line <- calls(context.log),
            [name, value] <- [String.split(line, "=", parts: 2)],
            into: %{},
            do: {name, value}

      assert Map.take(env, foreign) == %{}
      assert env["UV_INDEX_URL"] == "0"
      assert env["UV_PYTHON_INSTALL_DIR"] == Path.join(context.cache, "uv/python")
      assert [find | _rest] = calls(context.log, "python find")
      assert find =~ "--python-preference managed"

      System.delete_env("UV_MANAGED_PYTHON")
      pythons = Path.join(context.tmp_dir, "pythons")
      System.put_env(%{"UV_PYTHON_INSTALL_DIR" => pythons, "UV_PYTHON_PREFERENCE" => "only-system"})
      fake_uv!(context.log, sync: ~s(env | grep ^UV_PYTHON >> '#{context.log}'))
      assert fetch(toml("other")) == :ok
      assert calls(context.log) |> List.last() == "UV_PYTHON_INSTALL_DIR=#{pythons}"
      assert calls(context.log, "python find") |> List.last() =~ "--python-preference only-system"
    end

    test "an environment that lost its packages, its pyvenv.cfg or its Python is made again", context do
      prefix = Path.join(context.tmp_dir, "prefix")
      program = fake_python!(prefix)
      fake_uv!(context.log, python: program)
      assert fetch(toml()) == :ok
      dir = project_dir(context, toml())

      for {lost, number} <- Enum.with_index([".venv/lib", ".venv/pyvenv.cfg", ".venv/bin/python", ".venv"], 2) do
        File.rm_rf!(Path.join(dir, lost))
        assert fetch(toml()) == :ok
        assert length(calls(context.log, "sync")) == number
        assert File.exists?(Path.join(dir, lost))
      end

      File.rm_rf!(prefix)
      other = fake_python!(Path.join(context.tmp_dir, "other prefix"))
      fake_uv!(context.log, python: other)
      assert fetch(toml()) == :ok
      assert length(calls(context.log, "sync")) == 6

      File.write!(Path.join(dir, "pythonx.config"), "damaged {")
      assert fetch(toml()) == :ok
      assert length(calls(context.log, "sync")) == 6
    end

    test "half an environment is not taken for a whole one", context do
      fake_uv!(context.log)
      dir = project_dir(context, toml())
      File.mkdir_p!(Path.join(dir, ".venv/lib"))
      File.write!(Path.join(dir, "pyproject.toml"), toml())
      assert fetch(toml()) == :ok
      assert length(calls(context.log, "sync")) == 1
    end

    test "files that name the folder name the final one", context do
      sync = ~S"""
      cd .venv/lib/python3.13/site-packages
      mkdir it-1.dist-info
      echo "$OLDPWD/src" > editable.pth
      echo "{\"url\": \"file://$OLDPWD\"}" > it-1.dist-info/direct_url.json
      """

      fake_uv!(context.log, sync: sync)
      assert fetch(toml()) == :ok
      dir = project_dir(context, toml())
      packages = Path.join(dir, ".venv/lib/python3.13/site-packages")
      assert File.read!(Path.join(packages, "editable.pth")) == dir <> "/src\n"
      assert File.read!(Path.join(packages, "it-1.dist-info/direct_url.json")) == ~s({"url": "file://#{dir}"}\n)
    end

    test "in parallel, in two processes and another VM: uv runs once", context do
      fifo = fifo!(context)
      fake_uv!(context.log, sync: "cat '#{fifo}' >/dev/null")
      vm = start_stubbed_vm!()
      test = self()

      # Of the two here, at least one has to wait.
      here = fn ->
        Process.group_leader(self(), spawn_link(fn -> forward_output(test) end))
        Uv.fetch(toml(), false)
      end

      tasks = [Task.async(here), Task.async(here), Task.async(fn -> call_in(vm, Uv, :fetch, [toml(), false]) end)]
      assert_receive {:output, "Waiting for another process that makes the same environment\n"}
      let_go(fifo)
      assert Task.await_many(tasks, 20_000) == [:ok, :ok, :ok]
      assert length(calls(context.log, "sync")) == 1
    end

    test "kill -9 of the VM half-way: the next start makes the environment, and uv does not go on", context do
      fifo = fifo!(context)
      fake_uv!(context.log, sync: "echo $$ > '#{fifo}'; exec sleep 600")
      vm = start_stubbed_vm!()
      Process.flag(:trap_exit, true)
      spawn(fn -> catch_exit(call_in(vm, Uv, :fetch, [toml(), false])) end)

      # Reading waits for uv to be there.
      uv_pid = read(fifo)
      assert [".tmp-" <> _half] = visible(context.projects)
      kill_vm!(vm)
      wait_for_exit!(uv_pid)

      fake_uv!(context.log)
      assert fetch(toml()) == :ok
      assert visible(context.projects) == [Path.basename(project_dir(context, toml()))]
    end

    test "a killed caller: uv ends, and the next one may try", context do
      fifo = fifo!(context)
      fake_uv!(context.log, sync: "echo $$ > '#{fifo}'; exec sleep 600")
      caller = spawn(fn -> fetch(toml()) end)
      uv_pid = read(fifo)
      Process.exit(caller, :kill)
      wait_for_exit!(uv_pid)

      fake_uv!(context.log)
      assert fetch(toml()) == :ok
      assert visible(context.projects) == [Path.basename(project_dir(context, toml()))]
    end

    test "a cache that cannot be made", context do
      fake_uv!(context.log)
      file = Path.join(context.tmp_dir, "file")
      File.write!(file, "")
      System.put_env("PYTHONX_CACHE_DIR", Path.join(file, "cache"))

      assert_raise RuntimeError,
                   "could not create the folder #{file}/cache/uv/projects: not a directory. " <>
                     "Set PYTHONX_CACHE_DIR to a folder that can be written",
                   fn -> fetch(toml()) end

      assert calls(context.log) == []
    end

    # Only root can give files away.
    @tag skip: match?({"0\n", 0}, System.cmd("id", ["-u"])) == false
    test "a cache of another user, before anything in it is run", context do
      fake_uv!(context.log)
      File.mkdir_p!(context.projects)
      File.chown!(context.projects, 12_345)

      assert_raise RuntimeError,
                   "the cache cannot be trusted: #{context.projects} belongs to the user with the id 12345, this is 0. " <>
                     "Set PYTHONX_CACHE_DIR to a folder of your own",
                   fn -> fetch(toml()) end

      assert calls(context.log) == []
    end

    test "a user without a cache folder: what uv downloads is kept in ours", context do
      saved = for name <- ~w(XDG_CACHE_HOME UV_CACHE_DIR), do: {name, System.get_env(name)}
      on_exit(fn -> System.put_env(saved) end)
      System.delete_env("UV_CACHE_DIR")
      fake_uv!(context.log, sync: ~s(env | grep UV_CACHE_DIR >> '#{context.log}'; true))

      System.put_env("XDG_CACHE_HOME", Path.join(context.tmp_dir, "made/later"))
      assert fetch(toml(), force: true) == :ok
      assert calls(context.log, "UV_CACHE_DIR") == []

      file = Path.join(context.tmp_dir, "file")
      File.write!(file, "")
      System.put_env("XDG_CACHE_HOME", Path.join(file, "cannot be made"))
      assert fetch(toml(), force: true) == :ok
      assert calls(context.log, "UV_CACHE_DIR") == ["UV_CACHE_DIR=" <> Path.join(context.cache, "uv/cache")]
    end

    test "wrong options, before anything is done", context do
      fake_uv!(context.log)

      assert_raise ArgumentError,
                   "unknown keys [:foo] in [foo: 1], the allowed keys are: [:force, :uv_version, :native_tls, :python]",
                   fn -> fetch(toml(), foo: 1) end

      assert calls(context.log) == []
      refute File.exists?(context.cache)
    end
  end

  describe "with the real uv" do
    test "an environment in which Python runs, and that has scripts", context do
      minor = ask_python!("sys.version_info[1]")
      package = Path.join(context.tmp_dir, "package")
      write_package!(package)

      toml = """
      [project]
      name = "project"
      version = "0.0.0"
      requires-python = "==3.#{minor}.*"
      dependencies = ["hello"]

      [tool.uv.sources]
      hello = { path = #{inspect(wheel!(package))} }
      """

      System.put_env("PATH", Path.dirname(python!()) <> ":" <> System.get_env("PATH"))
      assert fetch(toml) == :ok
      dir = project_dir(context, toml)

      assert {prefix, 0} =
               System.cmd(Path.join(dir, ".venv/bin/python"), ["-c", "import sys, hello; print(sys.prefix, end='')"])

      assert prefix == Path.join(dir, ".venv")
      assert System.cmd(Path.join(dir, ".venv/bin/hello"), []) == {"hello from #{prefix}\n", 0}
    end

    # Made by hand: building one would need the network.
    defp write_package!(folder) do
      info = Path.join(folder, "hello-1.dist-info")
      File.mkdir_p!(info)
      File.write!(Path.join(folder, "hello.py"), "import sys\ndef main(): print('hello from', sys.prefix)\n")
      File.write!(Path.join(info, "METADATA"), "Metadata-Version: 2.1\nName: hello\nVersion: 1\n")
      File.write!(Path.join(info, "WHEEL"), "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
      File.write!(Path.join(info, "entry_points.txt"), "[console_scripts]\nhello = hello:main\n")
      files = ["hello.py" | for(name <- ~w(METADATA WHEEL entry_points.txt RECORD), do: "hello-1.dist-info/#{name}")]
      File.write!(Path.join(info, "RECORD"), Enum.map(files, &"#{&1},,\n"))
    end

    defp wheel!(folder) do
      path = Path.join(Path.dirname(folder), "hello-1-py3-none-any.whl")
      names = ["hello.py" | for(name <- ~w(METADATA WHEEL entry_points.txt RECORD), do: "hello-1.dist-info/#{name}")]
      files = Enum.map(names, &String.to_charlist/1)
      {:ok, _path} = :zip.create(String.to_charlist(path), files, cwd: String.to_charlist(folder))
      path
    end
  end
end
