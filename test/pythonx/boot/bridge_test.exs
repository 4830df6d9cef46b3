defmodule Pythonx.Boot.BridgeTest do
  # Not async: some tests set environment variables, and standard error is captured.
  use ExUnit.Case, async: false

  import ExUnit.CaptureIO
  import Pythonx.NativeCase

  alias Pythonx.Boot.Bridge

  @moduletag :tmp_dir

  # A NIF library that compiles in no time, and only if the headers of Python, pybind11 and Erlang are found.
  @source """
  #include <Python.h>
  #include <erl_nif.h>
  #include <pybind11/pybind11.h>
  static ERL_NIF_TERM minor(ErlNifEnv *env, int, const ERL_NIF_TERM[]) { return enif_make_int(env, PY_MINOR_VERSION); }
  static ErlNifFunc functions[] = {{"minor", 0, minor, 0}};
  ERL_NIF_INIT(Elixir.Pythonx.Boot.BridgeTest.Sample, functions, nullptr, nullptr, nullptr, nullptr)
  """

  defmodule Sample do
    def load(path), do: :erlang.load_nif(String.to_charlist(path), 0)
    def minor, do: :erlang.nif_error(:not_loaded)
  end

  # Characters that shells, make and wildcards trip over.
  setup %{tmp_dir: dir} do
    dir = Path.join(dir, "zażółć {a} $b'[c]")
    source_dir = Path.join(dir, "source")
    cache_dir = Path.join(dir, "cache")
    # In place of the real headers, which take seconds to compile.
    pybind11 = Path.join(cache_dir, "pybind11-3.1.0/include/pybind11")
    for folder <- [source_dir, pybind11], do: File.mkdir_p!(folder)
    File.write!(Path.join(pybind11, "pybind11.h"), "")
    File.cp!("c_src/bridge/Makefile", Path.join(source_dir, "Makefile"))
    File.write!(Path.join(source_dir, "sample.cpp"), @source)
    opts = [source_dir: source_dir, cache_dir: cache_dir, priv_dir: Path.join(dir, "priv/bridge")]
    %{dir: dir, opts: opts, tag: Bridge.tag(ask_python!("sys.version"))}
  end

  # Everything that a build leaves, but for the locks.
  defp left_behind(opts) do
    for folder <- [opts[:cache_dir], opts[:priv_dir]],
        path <- Path.wildcard(wildcard(folder) <> "/**", match_dot: true),
        File.regular?(path) and Path.extname(path) != ".lock" and not (path =~ "pybind11"),
        do: Path.basename(path)
  end

  # The folder as a pattern that matches itself only.
  defp wildcard(path), do: String.replace(path, ~r/[\[\]{}?*\\]/, "\\\\\\0")

  defp announcement(tag) do
    "Pythonx: compiling the C++ code that connects Elixir with #{Bridge.describe(tag)}. That is done once and takes a " <>
      "minute or two on a small machine\n"
  end

  # Sends this process what is written to standard error, as it is written.
  defp with_stderr(fun) do
    test = self()
    before = Process.whereis(:standard_error)
    device = spawn_link(fn -> forward_output(test) end)
    Process.unregister(:standard_error)
    Process.register(device, :standard_error)

    try do
      fun.()
    after
      Process.unregister(:standard_error)
      Process.register(before, :standard_error)
    end
  end

  defp forward_output(test) do
    receive do
      {:io_request, from, reference, {:put_chars, :unicode, text}} ->
        send(test, {:said, IO.chardata_to_string(text)})
        send(from, {:io_reply, reference, :ok})
        forward_output(test)
    end
  end

  defp put_env(name, value) do
    before = System.get_env(name)
    System.put_env(name, value)
    on_exit(fn -> if before, do: System.put_env(name, before), else: System.delete_env(name) end)
  end

  # A Python as far as Pythonx.Boot.Python asks.
  defp fake_python!(dir, fields) do
    File.mkdir_p!(dir)
    answer = Path.join(dir, "answer")

    [implementation: "cpython", version: "3.12.4", executable: "/usr/bin/python3.12", prefix: "/usr", os: "debian"]
    |> Keyword.merge(fields)
    |> Enum.map(fn {key, value} -> "#{key}=#{value}\0" end)
    |> then(&File.write!(answer, &1))

    script!(Path.join(dir, "python"), ~s|exec cat "$(dirname "$0")/answer"\n|)
  end

  describe "tag/1" do
    test "names the minor version" do
      assert Bridge.tag("3.10.13 (main, Jan  1 2024, 00:00:00) [GCC 12.2.0]") == "cp310"
      assert Bridge.tag("3.13.0 (main, May  9 2026, 07:36:57) [GCC 12.2.0]") == "cp313"
      assert Bridge.tag("3.14.0rc2+ (heads/3.14:0123456, Aug 14 2025) [Clang 20.1.4 ]") == "cp314"
    end

    test "marks free-threading builds" do
      assert Bridge.tag("3.13.5 experimental free-threading build (main, Jun 26 2025) [Clang 20]") == "cp313t"
      assert Bridge.tag("3.14.0 free-threading build (main, Oct 10 2025) [Clang 20]") == "cp314t"
    end

    test "refuses what cannot be embedded" do
      for version <- [
            "3.9.18 (main) [GCC]",
            "3.16.0 (main) [GCC]",
            "2.7.18 (default)",
            "4.0.0",
            "3.10.14 [PyPy 7.3.17]",
            ""
          ] do
        assert_raise RuntimeError, "Pythonx needs CPython 3.10 to 3.15, this Python is: #{version}", fn ->
          Bridge.tag(version)
        end
      end
    end
  end

  describe "ensure!/3" do
    test "compiles once, says so in one line, and gives what load_nif takes", %{opts: opts, tag: tag} do
      test = self()

      printed = capture_io(:stderr, fn -> send(test, Bridge.ensure!(tag, python!(), opts)) end)
      assert_received path when is_binary(path)
      assert printed == announcement(tag)
      assert left_behind(opts) == [Path.basename(path) <> ".so"]

      # Found again, without asking Python.
      assert capture_io(:stderr, fn -> send(test, Bridge.ensure!(tag, "/no/python", opts)) end) == ""
      assert_received ^path

      assert Sample.load(path) == :ok
      assert Sample.minor() == ask_python!("sys.version_info[1]") |> String.to_integer()
    end

    test "says that it goes on for as long as it compiles, into priv too", %{opts: opts, dir: dir, tag: tag} do
      # Compiles until somebody has been told twice.
      go = Path.join(dir, "go")
      cxx = script!(Path.join(dir, "cxx"), ~s|while [ ! -e "#{shell(go)}" ]; do sleep 0.02; done; exec c++ "$@"\n|)
      put_env("CXX", Path.expand(cxx))
      python = python!()

      with_stderr(fn ->
        task = Task.async(fn -> Bridge.prebuild!(python, [tell_ms: 20] ++ opts) end)
        assert_receive {:said, text}, 60_000
        assert text == announcement(tag)

        for _ <- 1..2 do
          assert_receive {:said, text}, 60_000

          assert text =~
                   ~r/\APythonx: still compiling for #{Regex.escape(Bridge.describe(tag))}, for \d+ seconds now\n\z/
        end

        File.write!(go, "")
        assert {^tag, _library} = Task.await(task, 60_000)
      end)
    end

    test "is found under another name when the sources change", %{opts: opts, tag: tag} do
      capture_io(:stderr, fn ->
        first = Bridge.ensure!(tag, python!(), opts)
        File.write!(Path.join(opts[:source_dir], "sample.cpp"), @source <> "// changed\n")
        second = Bridge.ensure!(tag, python!(), opts)
        assert first != second

        assert Enum.sort(left_behind(opts)) ==
                 Enum.sort([Path.basename(first) <> ".so", Path.basename(second) <> ".so"])
      end)
    end

    test "prefers what mix pythonx.build made", %{opts: opts, tag: tag} do
      test = self()
      assert capture_io(:stderr, fn -> send(test, Bridge.prebuild!(python!(), opts)) end) == announcement(tag)
      assert_received {^tag, library}
      assert Path.dirname(library) == opts[:priv_dir]
      opts = Keyword.put(opts, :cache_dir, "/no/cache")

      assert capture_io(:stderr, fn -> assert Bridge.ensure!(tag, "/no/python", opts) <> ".so" == library end) == ""
    end

    test "two VMs at once compile once", %{opts: opts, dir: dir, tag: tag} do
      # Compiles slowly: it waits for a file.
      go = Path.join(dir, "go")
      log = Path.join(dir, "log")

      cxx =
        script!(
          Path.join(dir, "cxx"),
          ~s|echo run >> "#{shell(log)}"; while [ ! -e "#{shell(go)}" ]; do sleep 0.02; done; exec c++ "$@"\n|
        )

      vms = for _ <- 1..2, do: start_vm!()
      for vm <- vms, do: :peer.call(vm, :os, :putenv, [~c"CXX", String.to_charlist(Path.expand(cxx))])

      tasks = for vm <- vms, do: Task.async(fn -> :peer.call(vm, Bridge, :ensure!, [tag, python!(), opts], 60_000) end)
      wait_for(fn -> File.exists?(log) end)
      File.write!(go, "")
      [path, path] = Task.await_many(tasks, 60_000)

      assert left_behind(opts) == [Path.basename(path) <> ".so"]
      # One run to compile and one to link.
      assert File.read!(log) == "run\nrun\n"
    end

    test "a VM that is killed while it compiles leaves nothing that is taken for a library, and no compiler", %{
      opts: opts,
      dir: dir,
      tag: tag
    } do
      started = Path.join(dir, "started")
      cxx = script!(Path.join(dir, "cxx"), ~s|echo $$ > "#{shell(started)}"; exec sleep 60\n|)
      vm = start_vm!()
      :peer.call(vm, :os, :putenv, [~c"CXX", String.to_charlist(Path.expand(cxx))])
      spawn(fn -> :peer.call(vm, Bridge, :ensure!, [tag, python!(), opts], 60_000) end)
      wait_for(fn -> match?({:ok, "" <> _}, File.read(started)) and File.read!(started) =~ "\n" end)
      kill_vm!(vm)
      wait_for(fn -> not File.exists?("/proc/#{String.trim(File.read!(started))}") end)

      refute Enum.any?(File.ls!(Bridge.Store.dir(opts[:cache_dir])), &String.ends_with?(&1, ".so"))

      capture_io(:stderr, fn -> send(self(), Bridge.ensure!(tag, python!(), opts)) end)
      assert_received path when is_binary(path)
      assert left_behind(opts) == [Path.basename(path) <> ".so"]
    end

    test "removes old libraries of the same tag", %{opts: opts, tag: tag} do
      folder = Bridge.Store.dir(opts[:cache_dir])
      File.mkdir_p!(folder)

      for day <- 1..9 do
        old = Path.join(folder, "#{tag}-000000000000000#{day}.so")
        File.touch!(old, {{2020, 1, day}, {0, 0, 0}})
      end

      other = Path.join(folder, "cp39-0000000000000001.so")
      File.touch!(other, {{2020, 1, 1}, {0, 0, 0}})

      capture_io(:stderr, fn -> send(self(), Bridge.ensure!(tag, python!(), opts)) end)
      assert_received path when is_binary(path)

      kept = for day <- 3..9, do: "#{tag}-000000000000000#{day}.so"
      assert Enum.sort(left_behind(opts)) == Enum.sort([Path.basename(path) <> ".so", Path.basename(other) | kept])
    end
  end

  describe "errors of ensure!/3" do
    defp fails(opts, tag, python \\ python!()) do
      test = self()
      printed = capture_io(:stderr, fn -> send(test, catch_error(Bridge.ensure!(tag, python, opts))) end)
      assert_received %RuntimeError{message: message}
      {message, printed}
    end

    test "source that does not compile: the end of the output and where all of it is", %{opts: opts, tag: tag} do
      File.write!(Path.join(opts[:source_dir], "sample.cpp"), "int broken( {\n")
      {message, _printed} = fails(opts, tag)

      assert [log] = left_behind(opts)
      log = Path.join(Bridge.Store.dir(opts[:cache_dir]), log)

      assert message =~
               "compiling the bridge for #{Bridge.describe(tag)} failed, the whole output is in #{log}. Its end:\n\n"

      assert message =~ "sample.cpp:1:"
      assert File.read!(log) =~ "sample.cpp:1:"
    end

    test "no compiler", %{opts: opts, tag: tag} do
      put_env("CXX", "no-such-compiler")
      {message, _printed} = fails(opts, tag)

      assert message =~
               "Pythonx has no bridge for #{Bridge.describe(tag)} yet, and cannot compile it: a C++ compiler not found. " <>
                 "Install what is missing, for example with: "

      assert message =~ "mix pythonx.build prebuilds the bridge into priv, for a release"
      assert left_behind(opts) == []
    end

    test "a full disk", %{opts: opts, dir: dir, tag: tag} do
      put_env(
        "CXX",
        script!(Path.join(dir, "cxx"), "echo 'fatal: No space left on device'; exit 1\n") |> Path.expand()
      )

      {message, _printed} = fails(opts, tag)
      folder = Bridge.Store.dir(opts[:cache_dir])
      assert message == "compiling the bridge for #{Bridge.describe(tag)} failed: the disk of #{folder} is full"
      assert left_behind(opts) == []
    end

    test "no Python.h, of the system's Python and of another", %{opts: opts, dir: dir} do
      system = fake_python!(Path.join(dir, "debian"), [])

      assert fails(opts, "cp312", system) ==
               {"Pythonx has no bridge for CPython 3.12.4 yet and cannot compile it: /usr/bin/python3.12 has no Python.h. " <>
                  "Install it, for example with: apt-get install python3.12-dev. " <>
                  "PYTHONX_PYTHON_INCLUDE can name the folder where it is", ""}

      fedora = fake_python!(Path.join(dir, "fedora"), os: "fedora")
      assert elem(fails(opts, "cp312", fedora), 0) =~ "dnf install python3.12-devel"

      other = fake_python!(Path.join(dir, "other"), prefix: "/opt/python", executable: "/opt/python/bin/python")
      assert elem(fails(opts, "cp312", other), 0) =~ "Use one that has it, such as a Python that uv installs."
      assert left_behind(opts) == []
    end

    test "PYTHONX_PYTHON_INCLUDE stands in for missing headers", %{opts: opts, dir: dir, tag: tag} do
      put_env("PYTHONX_PYTHON_INCLUDE", ask_python!("sysconfig.get_path('include')"))
      version = ask_python!("'.'.join(map(str, sys.version_info[:3]))")
      python = fake_python!(dir, version: version, free_threaded: if(String.ends_with?(tag, "t"), do: "t", else: ""))
      capture_io(:stderr, fn -> assert Bridge.ensure!(tag, python, opts) =~ tag end)
    end

    test "a Python of another version than the libpython", %{opts: opts, dir: dir} do
      python = fake_python!(dir, free_threaded: "t")

      assert fails(opts, "cp313", python) ==
               {"the libpython is CPython 3.13, but #{python} is CPython 3.12 (free-threading)", ""}
    end

    test "a Python that does not run", %{opts: opts} do
      assert {message, ""} = fails(opts, "cp313", "/no/python")
      assert message =~ "/no/python"
      assert message =~ "no such file or directory"
    end

    test "a release without a library and without sources", %{opts: opts, dir: dir, tag: tag} do
      assert fails(Keyword.put(opts, :source_dir, Path.join(dir, "nothing")), tag) ==
               {"this release has no bridge for #{Bridge.describe(tag)} in priv/bridge, and not the sources to compile it. " <>
                  "Run mix pythonx.build for that Python before mix release", ""}
    end

    test "pybind11 that cannot be had: what both installers say", %{opts: opts, dir: dir} do
      File.rm_rf!(Path.join(opts[:cache_dir], "pybind11-3.1.0"))
      uv = script!(Path.join(dir, "uv"), "echo 'the network is down' >&2; exit 2\n")
      python = fake_python!(dir, version: "3.12.4", headers: dir)
      # Answers what it is once, and has no pip.
      File.write!(
        python,
        ~s|#!/bin/sh\ncase "$*" in *pip*) echo 'No module named pip'; exit 1;; esac\n| <>
          ~s|exec cat "$(dirname "$0")/answer"\n|
      )

      assert {message, _printed} = fails(opts ++ [uv: uv], "cp312", python)

      assert message ==
               "the headers of pybind11 3.1.0 could not be installed.\n\n" <>
                 "By uv: #{uv} ended with status 2: the network is down\n\n" <>
                 "By pip: #{python} ended with status 1: No module named pip\n\n" <>
                 "PYTHONX_PYBIND11_INCLUDE can name the include folder of a pybind11 that is there already"

      assert left_behind(opts) == []
    end

    test "a cache where there is no place for a folder", %{opts: opts, dir: dir, tag: tag} do
      file = Path.join(dir, "file")
      File.write!(file, "")
      {message, ""} = fails(Keyword.put(opts, :cache_dir, file), tag)
      assert message =~ "could not create the folder #{file}/bridge/"
      assert message =~ "PYTHONX_CACHE_DIR"
    end

    # Only root can give files away.
    @tag skip: match?({"0\n", 0}, System.cmd("id", ["-u"])) == false
    test "a cache that belongs to another user", %{opts: opts, tag: tag} do
      File.chown!(opts[:cache_dir], 12_345)

      message =
        "the cache cannot be trusted: #{opts[:cache_dir]} belongs to the user with the id 12345, this is 0. " <>
          "Set PYTHONX_CACHE_DIR to a folder of your own"

      assert fails(opts, tag) == {message, ""}
      File.chown!(opts[:cache_dir], 0)
      capture_io(:stderr, fn -> send(self(), Bridge.ensure!(tag, python!(), opts)) end)
      assert_received path when is_binary(path)

      # A library that someone else put there is not loaded either.
      File.chown!(path <> ".so", 12_345)
      assert {message, ""} = fails(opts, tag)
      assert message =~ "the cache cannot be trusted: #{path}.so belongs to the user with the id 12345"
    end
  end

  describe "the pybind11 headers" do
    # From PyPI, or the cache of uv.
    test "are installed at the pinned version by uv", %{dir: dir} do
      cache = Path.join(dir, "fresh")
      include = Bridge.Headers.pybind11!(cache, python!(), nil)
      assert File.read!(Path.join(include, "pybind11/detail/common.h")) =~ "#define PYBIND11_VERSION_MINOR 1\n"
      assert File.ls!(cache) == ["pybind11-3.1.0"]
      # Found again, without an installer.
      assert Bridge.Headers.pybind11!(cache, "/no/python", "/no/uv") == include
    end

    # Debian keeps pip in another package than Python.
    @tag skip: match?({_output, 0}, System.cmd(python!(), ~w(-m pip --version), stderr_to_stdout: true)) == false
    test "are installed by pip where uv fails, and leaves half of them", %{dir: dir} do
      cache = Path.join(dir, "fresh")
      # uv pip install --no-config --python PYTHON --target FOLDER ...
      uv = script!(Path.join(dir, "uv"), ~s|mkdir -p "$7/pybind11/include/pybind11"; exit 1\n|)
      include = Bridge.Headers.pybind11!(cache, python!(), uv)
      assert File.read!(Path.join(include, "pybind11/detail/common.h")) =~ "#define PYBIND11_VERSION_MINOR 1\n"
    end

    test "are those of PYTHONX_PYBIND11_INCLUDE, whose version must be there", %{dir: dir} do
      put_env("PYTHONX_PYBIND11_INCLUDE", dir)
      assert Bridge.Headers.pybind11!("/no/cache", "/no/python", nil) == dir

      assert_raise RuntimeError,
                   "PYTHONX_PYBIND11_INCLUDE is #{dir}, which has no pybind11/detail/common.h with a version",
                   fn ->
                     Bridge.Headers.pybind11_version()
                   end
    end
  end

  describe "mix pythonx.build" do
    test "says which Python it did not find" do
      assert_raise Mix.Error, "there is no Python executable /no/python", fn ->
        Mix.Tasks.Pythonx.Build.run(["--python", "/no/python"])
      end

      assert_raise Mix.Error, "unexpected arguments: 3.12. Name Pythons with --python", fn ->
        Mix.Tasks.Pythonx.Build.run(["3.12"])
      end
    end

    test "says which platforms there are, and for which of them the loader is missing" do
      assert_raise Mix.Error,
                   "there is no platform win_amd64, only macosx_arm64, macosx_x86_64, manylinux_aarch64, manylinux_x86_64, " <>
                     "musllinux_aarch64, musllinux_x86_64",
                   fn -> Mix.Tasks.Pythonx.Build.run(["--platform", "win_amd64"]) end

      priv = Application.app_dir(:pythonx, "priv")
      missing = Enum.find(Pythonx.Host.Platform.names(), &(not File.exists?(Path.join([priv, "native", &1]))))

      if missing && missing != Pythonx.Host.Platform.current() do
        assert_raise Mix.Error,
                     "priv/native has no loader for #{missing}. It comes with the package, and in a checkout from make wheels",
                     fn -> Mix.Tasks.Pythonx.Build.run(["--platform", missing]) end
      end
    end

    test "prints the variables of the Makefile" do
      printed = capture_io(fn -> Mix.Tasks.Pythonx.Build.run(["--make-env", "--python", python!()]) end)
      include = ask_python!("sysconfig.get_path('include')")
      assert printed =~ "PYTHON_INCLUDE='#{include}' PYBIND11_INCLUDE='"
      assert printed =~ "ERL_INCLUDE='"
    end
  end

  # In double quotes of a shell.
  defp shell(path), do: path |> Path.expand() |> String.replace("$", "\\$")

  # For what another OS process does, of which no message tells.
  defp wait_for(fun, tries \\ 500) do
    cond do
      fun.() -> :ok
      tries == 0 -> flunk("waited in vain")
      true -> Process.sleep(20) && wait_for(fun, tries - 1)
    end
  end
end
