defmodule Pythonx.Uv.TargetTest do
  use ExUnit.Case, async: true

  alias Pythonx.Uv.{Checksums, Options, Target}

  test "the platforms that uv is released for" do
    for {architecture, os, target} <- [
          {"x86_64-pc-linux-gnu", {:unix, :linux}, "x86_64-unknown-linux-gnu"},
          {"x86_64-alpine-linux-musl", {:unix, :linux}, "x86_64-unknown-linux-musl"},
          {"aarch64-unknown-linux-gnu", {:unix, :linux}, "aarch64-unknown-linux-gnu"},
          {"i686-pc-linux-gnu", {:unix, :linux}, "i686-unknown-linux-gnu"},
          {"arm-unknown-linux-gnueabihf", {:unix, :linux}, "arm-unknown-linux-musleabihf"},
          {"armv7-unknown-linux-gnueabihf", {:unix, :linux}, "armv7-unknown-linux-gnueabihf"},
          {"powerpc64le-unknown-linux-gnu", {:unix, :linux}, "powerpc64le-unknown-linux-gnu"},
          {"riscv64-unknown-linux-gnu", {:unix, :linux}, "riscv64gc-unknown-linux-gnu"},
          {"s390x-ibm-linux-gnu", {:unix, :linux}, "s390x-unknown-linux-gnu"},
          {"aarch64-apple-darwin23.6.0", {:unix, :darwin}, "aarch64-apple-darwin"},
          {"arm-apple-darwin", {:unix, :darwin}, "aarch64-apple-darwin"},
          {"x86_64-apple-darwin22.1.0", {:unix, :darwin}, "x86_64-apple-darwin"},
          {"win32", {:win32, :nt}, "x86_64-pc-windows-msvc"},
          {"sparc64-unknown-linux-gnu", {:unix, :linux}, nil},
          {"x86_64-unknown-freebsd14.0", {:unix, :freebsd}, nil}
        ] do
      assert {architecture, Target.from_architecture(architecture, os, 8)} == {architecture, target}
    end

    assert Target.from_architecture("win32", {:win32, :nt}, 4) == "i686-pc-windows-msvc"
  end

  test "this machine is one of them" do
    assert Target.current!() =~ "-"
  end

  test "archives" do
    assert Target.archive_name("x86_64-apple-darwin") == "uv-x86_64-apple-darwin.tar.gz"
    assert Target.archive_name("x86_64-pc-windows-msvc") == "uv-x86_64-pc-windows-msvc.zip"
  end

  test "the checksum of what is downloaded by default is known for this machine" do
    assert Checksums.wheel(Options.default_uv_version(), Target.current!()) =~ ~r/\A[0-9a-f]{64}\z/

    assert Checksums.archive("0.0.1", Target.current!()) == nil
    assert Checksums.wheel("0.0.1", Target.current!()) == nil
  end
end
