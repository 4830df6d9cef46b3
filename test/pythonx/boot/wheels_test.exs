defmodule Pythonx.Boot.WheelsTest do
  # Not async: the tests set environment variables, and standard error is captured.
  use ExUnit.Case, async: false

  import ExUnit.CaptureIO
  import Pythonx.{NativeCase, WheelCase}

  alias Pythonx.Boot.Bridge
  alias Pythonx.Boot.Bridge.{Store, Wheels}
  alias Pythonx.Boot.Python
  alias Pythonx.Host.Platform

  @moduletag :tmp_dir
  # What is tested is which wheel is taken, on the systems that have any.
  @moduletag skip: Platform.current() == nil

  @tags %{
    "manylinux_x86_64" => "manylinux_2_17_x86_64",
    "manylinux_aarch64" => "manylinux_2_17_aarch64",
    "musllinux_x86_64" => "musllinux_1_2_x86_64",
    "musllinux_aarch64" => "musllinux_1_2_aarch64",
    "macosx_arm64" => "macosx_11_0_arm64",
    "macosx_x86_64" => "macosx_11_0_x86_64"
  }
  @variables ~w(PYTHONX_NATIVE PYTHONX_NATIVE_FIND_LINKS CXX UV_DEFAULT_INDEX UV_INDEX UV_INDEX_URL UV_EXTRA_INDEX_URL UV_HTTP_RETRIES
                UV_FIND_LINKS UV_NO_INDEX UV_OFFLINE UV_CACHE_DIR XDG_CONFIG_HOME)

  setup %{tmp_dir: dir} do
    saved = for name <- @variables, do: {name, System.get_env(name)}
    on_exit(fn -> System.put_env(saved) end)
    for name <- @variables -- ["CXX"], do: System.delete_env(name)

    dir = Path.expand(Path.join(dir, "zażółć {a} b'[c]"))
    source_dir = Path.join(dir, "source")
    File.mkdir_p!(source_dir)
    # Compiled, it is another library than those of the wheels, in no time.
    File.write!(Path.join(source_dir, "Makefile"), "bridge.so:\n\tprintf compiled > $@\n")
    File.write!(Path.join(source_dir, "sample.cpp"), "")

    # In place of the real headers.
    pybind11 = Path.join(dir, "cache/pybind11-3.1.0/include/pybind11")
    File.mkdir_p!(pybind11)
    File.write!(Path.join(pybind11, "pybind11.h"), "")

    lock = Path.join(dir, "bridge.lock")
    tag = Bridge.tag(ask_python!("sys.version"))
    links = Path.join(dir, "links")

    opts = [
      source_dir: source_dir,
      cache_dir: Path.join(dir, "cache"),
      priv_dir: Path.join(dir, "priv/bridge"),
      lock: lock
    ]

    %{dir: dir, opts: opts, tag: tag, links: links, wheel: wheel!(links, full_tag(tag), "the library")}
  end

  # cp313-cp313-manylinux_2_17_x86_64
  defp full_tag(tag, platform_tag \\ @tags[Platform.current()]) do
    "#{String.trim_trailing(tag, "t")}-#{tag}-#{platform_tag}"
  end

  defp pin!(opts, wheels), do: lock!(opts[:lock], opts[:source_dir], wheels)

  # What it returns or raises, and what it prints.
  defp ensure(tag, opts, python \\ python!()) do
    test = self()

    printed =
      capture_io(:stderr, fn ->
        try do
          send(test, {:result, Bridge.ensure!(tag, python, opts)})
        rescue
          error in RuntimeError -> send(test, {:result, {:error, error.message}})
        end
      end)

    assert_received {:result, result}
    {result, printed}
  end

  defp content(path), do: File.read!(path <> ".so")

  # All files but the locks and the headers.
  defp left_behind(opts) do
    for folder <- [opts[:cache_dir], opts[:priv_dir]],
        path <- files(folder),
        Path.extname(path) != ".lock",
        not (path =~ "pybind11"),
        do: Path.basename(path)
  end

  defp files(folder) do
    case File.ls(folder) do
      {:ok, names} -> Enum.flat_map(names, &files(Path.join(folder, &1)))
      {:error, :enotdir} -> [folder]
      {:error, :enoent} -> []
    end
  end

  defp in_words(tag), do: Bridge.describe(tag)

  defp installing(wheel, tag),
    do: "Pythonx: installing #{Path.basename(wheel.file)}, which connects Elixir with #{in_words(tag)}\n"

  # A wheel, or else why not, where nothing else will do. The reason is all that is not said in each case.
  defp forced(tag, opts, python \\ python!()) do
    System.put_env("PYTHONX_NATIVE", "wheel")
    {result, _printed} = ensure(tag, opts, python)
    assert {:error, message} = result
    prefix = "Pythonx has no bridge for #{in_words(tag)} yet, and PYTHONX_NATIVE is wheel, but "
    assert String.starts_with?(message, prefix)
    assert left_behind(opts) == []
    String.replace_prefix(message, prefix, "")
  end

  describe "a wheel in a folder" do
    setup %{opts: opts, links: links, wheel: wheel} do
      System.put_env("PYTHONX_NATIVE_FIND_LINKS", links)
      pin!(opts, [wheel])
      :ok
    end

    test "is installed once, and says so in one line", %{opts: opts, tag: tag, wheel: wheel, links: links} do
      # Neither that Python nor uv is needed.
      {path, printed} = ensure(tag, opts ++ [uv: "/no/uv"], "/no/python")
      assert content(path) == "the library"
      assert printed == installing(wheel, tag)
      assert left_behind(opts) == [Path.basename(path) <> ".so"]
      assert Path.dirname(path) == Store.dir(opts[:cache_dir])

      File.rm_rf!(links)
      assert ensure(tag, opts, "/no/python") == {path, ""}
    end

    test "brings the program of the workers, which is pinned too", %{opts: opts, tag: tag, links: links} do
      wheel = wheel!(links, full_tag(tag), "the library", "the worker")
      pin!(opts, [%{wheel | worker_sha256: String.duplicate("0", 64)}])
      assert forced(tag, opts) =~ "is not the one that priv/bridge.lock pins"
      assert left_behind(opts) == []

      pin!(opts, [wheel])
      {path, _printed} = ensure(tag, opts)
      assert File.read!(Bridge.Compiler.worker_path(path <> ".so")) == "the worker"
      assert left_behind(opts) |> Enum.sort() == [Path.basename(path) <> ".so", Path.basename(path) <> ".worker"]
    end

    test "is found in the folder that the configuration names", %{opts: opts, tag: tag, links: links} do
      System.delete_env("PYTHONX_NATIVE_FIND_LINKS")
      Application.put_env(:pythonx, :native, find_links: links)
      on_exit(fn -> Application.delete_env(:pythonx, :native) end)
      {path, _printed} = ensure(tag, opts)
      assert content(path) == "the library"

      Application.put_env(:pythonx, :native, find_links: 5)

      assert_raise ArgumentError, ~r/expected config :pythonx, :native to be \[find_links: "a folder"\], got: /, fn ->
        ensure(tag, Keyword.put(opts, :cache_dir, opts[:cache_dir] <> "2"))
      end
    end

    test "gives way to what is in priv, and to what was compiled before", %{opts: opts, tag: tag} do
      System.put_env("PYTHONX_NATIVE", "compile")
      {compiled, printed} = ensure(tag, opts)
      assert content(compiled) == "compiled"
      assert printed =~ "Pythonx: compiling the C++ code that connects Elixir with #{in_words(tag)}. That is done once"

      System.delete_env("PYTHONX_NATIVE")
      assert ensure(tag, opts) == {compiled, ""}

      System.put_env("PYTHONX_NATIVE", "wheel")
      assert {^tag, prebuilt} = capture(fn -> Bridge.prebuild!(python!(), opts) end)
      assert Path.dirname(prebuilt) == opts[:priv_dir]
      assert File.read!(prebuilt) == "the library"

      # Now there is one of each.
      assert ensure(tag, opts) == {Path.rootname(prebuilt, ".so"), ""}
      System.put_env("PYTHONX_NATIVE", "compile")
      assert ensure(tag, opts) == {compiled, ""}
      System.delete_env("PYTHONX_NATIVE")
      assert ensure(tag, opts) == {Path.rootname(prebuilt, ".so"), ""}
    end

    test "is put into priv for another platform, whose C library need not be that of this machine", %{
      opts: opts,
      tag: tag,
      links: links
    } do
      other = hd(["musllinux_x86_64", "macosx_arm64"] -- [Platform.current()])
      wheel = wheel!(links, full_tag(tag, @tags[other]), "another library")
      pin!(opts, [wheel])
      assert {^tag, path} = capture(fn -> Bridge.prebuild!(python!(), opts ++ [platform: other]) end)
      assert File.read!(path) == "another library"
      # Not for this one.
      System.put_env("PYTHONX_NATIVE", "wheel")
      assert {{:error, message}, ""} = ensure(tag, opts)
      assert message =~ "priv/bridge.lock pins no wheel for #{in_words(tag)} on #{Platform.current()}"

      missing = if other == "macosx_arm64", do: "macosx_x86_64", else: "musllinux_aarch64"
      System.delete_env("PYTHONX_NATIVE")

      assert_raise RuntimeError,
                   "Pythonx has no bridge for #{in_words(tag)} yet, and none for #{missing} can be compiled here, but " <>
                     "priv/bridge.lock pins no wheel for #{in_words(tag)} on #{missing}",
                   fn -> Bridge.prebuild!(python!(), opts ++ [platform: missing]) end
    end

    test "is not taken when one byte of it differs", %{opts: opts, tag: tag, wheel: wheel} do
      damage!(wheel)
      reason = "#{wheel.file} is not the wheel that priv/bridge.lock pins, its SHA-256 differs"
      assert forced(tag, opts) == reason

      System.delete_env("PYTHONX_NATIVE")
      {path, printed} = ensure(tag, opts)
      assert content(path) == "compiled"

      assert printed ==
               installing(wheel, tag) <>
                 "Pythonx: compiling the C++ code that connects Elixir with #{in_words(tag)}, as #{reason}. That is done " <>
                 "once and takes a minute or two on a small machine\n"
    end

    test "is not taken when the library in it is not the one that is pinned", %{opts: opts, tag: tag, wheel: wheel} do
      pin!(opts, [%{wheel | library_sha256: String.duplicate("0", 64)}])

      assert forced(tag, opts) ==
               "the library in #{Path.basename(wheel.file)} is not the one that priv/bridge.lock pins, its SHA-256 differs"
    end

    test "is not taken without being pinned", %{opts: opts, tag: tag} do
      File.rm!(opts[:lock])

      assert forced(tag, opts) ==
               "there is no priv/bridge.lock, which make wheels writes, to say which wheels there are"
    end

    test "is not taken where the system's C library is too old", %{opts: opts, tag: tag, links: links} do
      if Platform.current() =~ "manylinux" do
        platform_tag = String.replace(@tags[Platform.current()], "_2_17_", "_2_99_")
        wheel = wheel!(links, full_tag(tag, platform_tag), "of tomorrow")
        pin!(opts, [wheel])

        assert [_, _there] =
                 Regex.run(~r/\A(.*) needs glibc 2\.99 or later, and this system has (2\.\d+)\z/, forced(tag, opts),
                   capture: :all_but_first
                 )
      end
    end

    test "is not taken for one of another C library", %{opts: opts, tag: tag, links: links, wheel: wheel} do
      other = if Platform.current() =~ "musl", do: "manylinux_2_17_x86_64", else: "musllinux_1_2_x86_64"
      musl = wheel!(links, full_tag(tag, other), "of another C library")
      pin!(opts, [wheel, musl])
      File.rm!(wheel.file)
      name = Path.basename(wheel.file)
      assert forced(tag, opts) == "the folder #{links} of PYTHONX_NATIVE_FIND_LINKS has no #{name}"

      # Nor under the name of the right one.
      File.rename!(musl.file, wheel.file)
      assert forced(tag, opts) == "#{wheel.file} is not the wheel that priv/bridge.lock pins, its SHA-256 differs"

      pin!(opts, [musl])
      assert forced(tag, opts) == "priv/bridge.lock pins no wheel for #{in_words(tag)} on #{Platform.current()}"
    end

    test "is not taken for another Python", %{opts: opts} do
      assert forced("cp399", opts) == "priv/bridge.lock pins no wheel for CPython 3.99 on #{Platform.current()}"
    end

    test "is not taken for other sources, which are compiled, and that is said", %{opts: opts, tag: tag} do
      File.write!(Path.join(opts[:source_dir], "sample.cpp"), "// changed\n")
      reason = "the wheels that priv/bridge.lock pins are of other sources than these"
      assert forced(tag, opts) == reason

      System.delete_env("PYTHONX_NATIVE")
      {path, printed} = ensure(tag, opts)
      assert content(path) == "compiled"

      assert printed =~
               "Pythonx: compiling the C++ code that connects Elixir with #{in_words(tag)}, as #{reason}. That is done once"
    end

    test "and no folder", %{opts: opts, tag: tag, links: links, wheel: wheel} do
      File.rm_rf!(links)
      assert forced(tag, opts) == "the folder #{links} of PYTHONX_NATIVE_FIND_LINKS has no #{Path.basename(wheel.file)}"
    end

    test "that is not there, nor a compiler: one message that names both ways", %{
      opts: opts,
      tag: tag,
      links: links,
      wheel: wheel
    } do
      File.rm_rf!(links)
      System.put_env("CXX", "no-such-compiler")
      {{:error, message}, printed} = ensure(tag, opts)
      assert printed == installing(wheel, tag)

      assert message =~
               ~r/\APythonx has no bridge for #{Regex.escape(in_words(tag))} yet, and cannot compile it: a C\+\+ compiler not found\. Install what is missing, for example with: /

      assert String.ends_with?(
               message,
               "It comes as a wheel too, which needs none of this, but the folder #{links} of PYTHONX_NATIVE_FIND_LINKS has no " <>
                 "#{Path.basename(wheel.file)}. PYTHONX_NATIVE_FIND_LINKS can name a folder that has it"
             )

      assert left_behind(opts) == []
    end

    test "two VMs at once install once", %{opts: opts, tag: tag} do
      vms = for _ <- 1..2, do: start_vm!()
      tasks = for vm <- vms, do: Task.async(fn -> :peer.call(vm, Bridge, :ensure!, [tag, python!(), opts], 60_000) end)
      assert [path, path] = Task.await_many(tasks, 60_000)
      assert left_behind(opts) == [Path.basename(path) <> ".so"]
    end
  end

  describe "a wheel from an index" do
    # The cache of uv must not have what another test has put there.
    setup %{dir: dir, opts: opts, wheel: wheel} do
      System.put_env("UV_CACHE_DIR", Path.join(dir, "uv cache"))
      System.put_env("UV_HTTP_RETRIES", "0")
      pin!(opts, [wheel])
      :ok
    end

    test "is installed by uv, wherever its settings say", %{opts: opts, dir: dir, tag: tag, wheel: wheel} do
      System.put_env("UV_DEFAULT_INDEX", index!(Path.join(dir, "simple"), [wheel]))
      {path, printed} = ensure(tag, opts)
      assert printed == installing(wheel, tag)
      assert content(path) == "the library"
      assert left_behind(opts) == [Path.basename(path) <> ".so"]
    end

    test "is installed from the index of the user's configuration, not from that of a project around the cache",
         context do
      %{opts: opts, dir: dir, tag: tag, wheel: wheel} = context
      File.write!(Path.join(dir, "uv.toml"), ~s([[index]]\nurl = "http://127.0.0.1:1/simple"\ndefault = true\n))
      index = index!(Path.join(dir, "simple"), [wheel])
      File.mkdir_p!(Path.join(dir, "config/uv"))
      File.write!(Path.join(dir, "config/uv/uv.toml"), ~s([[index]]\nurl = "#{index}"\ndefault = true\n))
      System.put_env("XDG_CONFIG_HOME", Path.join(dir, "config"))
      {path, _printed} = ensure(tag, opts)
      assert content(path) == "the library"
    end

    test "is not taken when it is another, by one byte or more, though uv be told not to look", %{
      opts: opts,
      dir: dir,
      tag: tag,
      wheel: wheel
    } do
      System.put_env("UV_NO_VERIFY_HASHES", "1")
      on_exit(fn -> System.delete_env("UV_NO_VERIFY_HASHES") end)
      name = Path.basename(wheel.file)

      damage!(wheel)
      System.put_env("UV_DEFAULT_INDEX", index!(Path.join(dir, "damaged"), [wheel]))
      assert forced(tag, opts) =~ ~r/\Auv could not install #{Regex.escape(name)}: [^\n]+\z/

      forged = wheel!(Path.join(dir, "elsewhere"), full_tag(tag), "a forged library")
      System.put_env("UV_DEFAULT_INDEX", index!(Path.join(dir, "forged"), [forged]))

      assert forced(tag, opts) ==
               "uv could not install #{name}: what uv was given is not what priv/bridge.lock pins, its SHA-256 differs"
    end

    test "is not taken from an index that cannot be reached", %{opts: opts, tag: tag, wheel: wheel} do
      System.put_env("UV_DEFAULT_INDEX", "http://127.0.0.1:1/simple")

      assert forced(tag, opts) =~
               ~r"\Auv could not install #{Regex.escape(Path.basename(wheel.file))}: http://127.0.0.1:1/simple/pythonx-native/ cannot be fetched, [^\n]*Connection refused[^\n]*\z"
    end

    test "is not there", %{opts: opts, dir: dir, tag: tag, wheel: wheel} do
      other = wheel!(dir, full_tag(tag, "win_amd64"), "of another system")
      System.put_env("UV_DEFAULT_INDEX", index!(Path.join(dir, "simple"), [other]))

      assert forced(tag, opts) =~
               ~r/\Auv could not install #{Regex.escape(Path.basename(wheel.file))}: [^\n]*platform[^\n]*\z/
    end

    test "needs a uv", %{opts: opts, tag: tag, wheel: wheel} do
      assert forced(tag, opts ++ [uv: "/no/uv"]) ==
               "uv could not be had to install #{Path.basename(wheel.file)}: no such file or directory"
    end
  end

  describe "a Python without headers" do
    test "needs none where there is a wheel", %{opts: opts, tag: tag, wheel: wheel} do
      {:ok, python} = Python.probe(python!())
      python = %{python | headers: nil}
      refute Bridge.needs_no_headers?(python, opts)
      pin!(opts, [wheel])
      assert Bridge.needs_no_headers?(python, opts)
      System.put_env("PYTHONX_NATIVE", "compile")
      refute Bridge.needs_no_headers?(python, opts)
      refute Bridge.needs_no_headers?(%{python | version: "3.99.0"}, opts)

      # Or where it is compiled already.
      {path, _printed} = ensure(tag, opts)
      assert content(path) == "compiled"
      assert Bridge.needs_no_headers?(python, opts)
    end
  end

  test "PYTHONX_NATIVE is checked", %{opts: opts, tag: tag} do
    System.put_env("PYTHONX_NATIVE", "wheels")

    assert_raise ArgumentError, ~s(expected PYTHONX_NATIVE to be compile or wheel, got: "wheels"), fn ->
      ensure(tag, opts)
    end
  end

  test "a lock that is none is an error that names it", %{opts: opts, tag: tag} do
    File.write!(opts[:lock], "<<<<<<< HEAD\n")

    assert ensure(tag, opts) ==
             {{:error, "#{opts[:lock]} is not what make wheels writes: delete it, or run make wheels again"}, ""}
  end

  test "the lock of make wheels is read" do
    lock = Path.join(System.tmp_dir!(), "bridge.lock.#{System.unique_integer([:positive])}")
    on_exit(fn -> File.rm(lock) end)

    code = """
    import sys; sys.path.insert(0, "scripts/wheels")
    import pathlib, build, wheel
    file = pathlib.Path("LICENSE")
    made = [wheel.Wheel(file, f"cp31{n}-cp31{n}{t}-{p.tag}", "0" * 64) for p in build.PLATFORMS for n, t in ((3, ""), (4, "t"))]
    wheel.write_lock(pathlib.Path(sys.argv[1]), "0.4.11", build.bridge_hash(build.SOURCES / "bridge"), made)
    """

    {"", 0} = System.cmd(python!(), ["-B", "-c", code, lock])
    assert %{sources: sources, wheels: wheels} = Wheels.read_lock!(lock)
    assert sources == Bridge.Compiler.bridge_hash("c_src/bridge")

    assert Enum.sort(Map.keys(wheels)) ==
             Enum.sort(for tag <- ["cp313", "cp314t"], name <- Platform.names(), do: {tag, name})

    assert wheels[{"cp314t", "macosx_arm64"}].file == "pythonx_native-0.4.11-cp314-cp314t-macosx_11_0_arm64.whl"
  end

  defp capture(fun) do
    test = self()
    capture_io(:stderr, fn -> send(test, {:captured, fun.()}) end)
    assert_received {:captured, result}
    result
  end
end
