defmodule Pythonx.Uv.BinaryTest do
  use Pythonx.UvCase, async: false

  import ExUnit.CaptureLog

  alias Pythonx.Uv
  alias Pythonx.Uv.{Checksums, Download, Target}

  setup context do
    bin = limit_path!(context.tmp_dir)
    %{bin: bin, cached: Path.join(context.cache, "uv/#{Uv.default_uv_version()}/bin/uv")}
  end

  defp program!(path, says \\ "uv #{Uv.default_uv_version()}") do
    File.mkdir_p!(Path.dirname(path))
    script!(path, "echo '#{says}'")
  end

  describe "what is there" do
    test "in this order: the option, PYTHONX_UV, the PATH, the cache", context do
      [option, variable] = for name <- ["option", "variable"], do: program!(Path.join(context.tmp_dir, name))
      on_path = program!(Path.join(context.bin, "uv"))
      program!(context.cached)
      System.put_env("PYTHONX_UV", variable)

      assert Uv.find_uv(uv: option) == {:ok, option}
      assert Uv.find_uv() == {:ok, variable}
      System.put_env("PYTHONX_UV", "")
      assert Uv.find_uv() == {:ok, on_path}
      File.rm!(on_path)
      assert Uv.find_uv() == {:ok, context.cached}
    end

    test "what is named but not there is an error, not a reason to look further", context do
      program!(context.cached)

      assert Uv.find_uv(uv: "/nowhere/uv") ==
               {:error, "/nowhere/uv, which the option :uv names as uv, does not exist or is not executable"}

      file = Path.join(context.tmp_dir, "not executable")
      File.write!(file, "")
      System.put_env("PYTHONX_UV", file)

      assert Uv.find_uv() ==
               {:error,
                "#{file}, which the environment variable PYTHONX_UV names as uv, does not exist or is not executable"}
    end

    test "what is named must be a uv, and new enough", context do
      program!(context.cached)
      path = Path.join(context.tmp_dir, "named")

      for {content, reason} <- [
            {"echo nonsense", "is not one: it does not answer to --version as uv does"},
            {"exit 1", "is not one: it does not answer to --version as uv does"},
            {"echo uv 0.4.30", "is uv 0.4.30: Pythonx needs 0.5.0 or later"}
          ] do
        script!(path, content)
        assert Uv.find_uv(uv: path) == {:error, "#{path}, which the option :uv names as uv, #{reason}"}
      end
    end

    test "one on the PATH must run, be new enough, and of the version that is asked for", context do
      program!(context.cached)
      on_path = Path.join(context.bin, "uv")

      for {says, fits?} <- [
            {"uv 0.4.30", false},
            {"uv 0.5.0", true},
            {"uv 0.9.1 (abc 2025-11-01)", true},
            {"nonsense", false}
          ] do
        program!(on_path, says)
        assert {says, Uv.find_uv()} == {says, {:ok, if(fits?, do: on_path, else: context.cached)}}
      end

      script!(on_path, "echo 'uv 0.9.1'; exit 127")
      assert Uv.find_uv() == {:ok, context.cached}

      program!(on_path, "uv 0.9.1")
      assert Uv.find_uv(uv_version: "0.9.1") == {:ok, on_path}
      assert Uv.find_uv(uv_version: Uv.default_uv_version()) == {:ok, context.cached}
    end
  end

  describe "a download" do
    # A version whose sum we do not know, so that the published one counts.
    @version "9.9.9"

    defp archive(entries) do
      path = Path.join(System.tmp_dir!(), "pythonx-#{System.unique_integer([:positive])}.tar.gz")
      files = for {name, content} <- entries, do: {String.to_charlist(name), content}
      :ok = :erl_tar.create(path, files, [:compressed])
      content = File.read!(path)
      File.rm!(path)
      content
    end

    defp sum(content), do: Base.encode16(:crypto.hash(:sha256, content), case: :lower)

    defp url(mirror, version \\ @version), do: "#{mirror}/#{version}/#{Target.archive_name(Target.current!())}"

    defp mirror!(answers) do
      mirror = serve!(answers)
      System.put_env("PYTHONX_UV_MIRROR", mirror <> "/")
      mirror
    end

    defp find, do: quietly(fn -> Uv.find_uv(uv_version: @version) end)

    defp nothing_left?(context),
      do: Path.wildcard(Path.join(context.cache, "**/{uv,.tmp-*}"), match_dot: true) |> Enum.all?(&File.dir?/1)

    test "is checked against the published sum, and happens once", context do
      program = "#!/bin/sh\necho 'uv 9.9.9'\n"
      archive = archive([{"uv-x/README", "no"}, {"uv-x/uvx", "no"}, {"uv-x/uv", program}])
      mirror = mirror!([ok(archive), ok("#{sum(archive)} *uv.tar.gz\n")])

      {{:ok, path}, log} = with_log(fn -> find() end)
      assert log =~ "Downloading uv archive from #{url(mirror)}"
      assert path == Path.join(context.cache, "uv/9.9.9/bin/uv")
      assert File.read!(path) == program
      assert System.cmd(path, []) == {"uv 9.9.9\n", 0}
      assert find() == {:ok, path}
      assert_received {:request, "GET /9.9.9/uv-" <> _archive}
      assert_received {:request, "GET /9.9.9/uv-" <> _sum}
      refute_received {:request, _third}
    end

    test "that is not what was published", context do
      archive = archive([{"uv", "forged"}])
      mirror = mirror!([ok(archive), ok(sum("genuine"))])

      assert find() ==
               {:error,
                "what was downloaded from #{url(mirror)} is not uv: " <>
                  "its SHA-256 checksum is #{sum(archive)}, expected #{sum("genuine")}"}

      assert nothing_left?(context)
    end

    test "of a version whose sum we know has to be the genuine one, whatever the server publishes", context do
      archive = archive([{"uv", "forged"}])
      mirror = mirror!([ok(archive)])
      genuine = Checksums.archive("0.13.0", Target.current!())
      assert {:error, text} = quietly(fn -> Uv.find_uv(uv_version: "0.13.0") end)

      assert text ==
               "what was downloaded from #{url(mirror, "0.13.0")} is not uv: its SHA-256 checksum is #{sum(archive)}, expected #{genuine}"

      assert nothing_left?(context)
    end

    test "that fails in other ways can be tried again", context do
      mirror = mirror!([status("404 Not Found")])
      assert find() == {:error, "failed to fetch #{url(mirror)}, error: {:status, 404}"}

      mirror = mirror!([fn _ -> "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\ntruncated" end])
      assert {:error, text} = find()
      assert text =~ "failed to fetch #{url(mirror)}, error: "

      mirror = mirror!([ok("archive"), ok("<html>")])
      assert find() == {:error, "#{url(mirror)}.sha256 does not hold a SHA-256 checksum"}

      mirror = mirror!([ok("archive"), ok(sum("archive"))])
      assert {:error, text} = find()
      assert text =~ "the archive at #{url(mirror)} cannot be extracted: "

      archive = archive([{"other", ""}])
      mirror = mirror!([ok(archive), ok(sum(archive))])
      assert find() == {:error, "the archive at #{url(mirror)} does not contain uv"}

      assert nothing_left?(context)
      archive = archive([{"uv", "program"}])
      mirror!([ok(archive), ok(sum(archive))])
      assert {:ok, path} = find()
      assert File.read!(path) == "program"
    end

    test "that nobody answers is what fetch reports", context do
      System.put_env("PYTHONX_UV_MIRROR", "http://127.0.0.1:1")

      {error, output} =
        with_output(fn -> assert_raise RuntimeError, fn -> Uv.fetch(toml(), false, uv_version: @version) end end)

      assert output == """
             Downloading uv #{@version}
             There is no uv on this machine. Install it, or name one with the option :uv or the variable PYTHONX_UV
             """

      assert error.message =~ "failed to fetch #{url("http://127.0.0.1:1")}, error: {:failed_connect, "
      assert File.ls!(context.projects) == []
    end

    test "cannot be written", context do
      archive = archive([{"uv", "program"}])
      mirror!([ok(archive), ok(sum(archive))])
      File.mkdir_p!(Path.join(context.cache, "uv"))
      File.write!(Path.join(context.cache, "uv/9.9.9"), "in the way")

      assert find() ==
               {:error,
                "could not create the folder #{context.cache}/uv/9.9.9/bin: not a directory. " <>
                  "Set PYTHONX_CACHE_DIR to a folder that can be written"}
    end
  end

  test "the wheel on PyPI that holds the same program" do
    sum = String.duplicate("0a", 32)

    page = """
    <a href="https://files/uv-0.8.50-py3-none-macosx_11_0_arm64.whl#sha256=#{sum}">no</a>
    <a href="https://files/uv-0.8.5-py3-none-win_amd64.whl#sha256=#{sum}">no</a>
    <a href="https://files/uv-0.8.5-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl#sha256=#{sum}" data-x>yes</a>
    <a href="https://files/uv-0.8.5-py3-none-manylinux_2_17_armv7l.manylinux2014_armv7l.musllinux_1_1_armv7l.whl#sha256=#{sum}">musl</a>
    <a href="https://files/uv-0.8.5-py3-none-manylinux_2_17_armv7l.manylinux2014_armv7l.whl#sha256=#{sum}">glibc</a>
    """

    assert Download.find_wheel(page, "0.8.5", "x86_64-unknown-linux-gnu") ==
             {"https://files/uv-0.8.5-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", sum}

    assert Download.find_wheel(page, "0.8.5", "armv7-unknown-linux-gnueabihf") ==
             {"https://files/uv-0.8.5-py3-none-manylinux_2_17_armv7l.manylinux2014_armv7l.whl", sum}

    assert Download.find_wheel(page, "0.8.5", "armv7-unknown-linux-musleabihf") ==
             {"https://files/uv-0.8.5-py3-none-manylinux_2_17_armv7l.manylinux2014_armv7l.musllinux_1_1_armv7l.whl",
              sum}

    assert Download.find_wheel(page, "0.8.5", "aarch64-apple-darwin") == nil
  end
end
