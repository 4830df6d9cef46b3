defmodule Pythonx.Host.PlatformTest do
  use ExUnit.Case, async: true

  alias Pythonx.Host.{Native, Platform}

  test "is known by what the Erlang runtime says" do
    for {architecture, os, name} <- [
          {"x86_64-pc-linux-gnu", :linux, "manylinux_x86_64"},
          {"x86_64-unknown-linux-gnu", :linux, "manylinux_x86_64"},
          {"aarch64-unknown-linux-gnu", :linux, "manylinux_aarch64"},
          {"x86_64-pc-linux-musl", :linux, "musllinux_x86_64"},
          {"x86_64-alpine-linux-musl", :linux, "musllinux_x86_64"},
          {"aarch64-unknown-linux-musl", :linux, "musllinux_aarch64"},
          {"aarch64-apple-darwin24.6.0", :darwin, "macosx_arm64"},
          {"arm-apple-darwin21.1.0", :darwin, "macosx_arm64"},
          {"x86_64-apple-darwin23.0.0", :darwin, "macosx_x86_64"},
          {"riscv64-unknown-linux-gnu", :linux, nil},
          {"armv7l-unknown-linux-gnueabihf", :linux, nil},
          {"i686-pc-linux-gnu", :linux, nil},
          {"amd64-portbld-freebsd14.1", :freebsd, nil},
          {"win32", :nt, nil}
        ] do
      assert {architecture, Platform.from_architecture(architecture, {:unix, os})} == {architecture, name}
    end
  end

  test "is known by the platform tag of a wheel" do
    assert Platform.from_tag("manylinux_2_17_x86_64") == "manylinux_x86_64"
    assert Platform.from_tag("musllinux_1_2_aarch64") == "musllinux_aarch64"
    assert Platform.from_tag("macosx_11_0_arm64") == "macosx_arm64"
    assert Platform.from_tag("win_amd64") == nil
    assert Platform.from_tag("any") == nil
  end

  @tag :tmp_dir
  test "what is compiled comes before what was built in advance", %{tmp_dir: priv} do
    compiled = Path.join(priv, "pythonx_loader.so")
    assert Native.path(priv, :loader) == compiled

    if platform = Platform.current() do
      prebuilt = Path.join([priv, "native", platform, "pythonx_loader.so"])
      File.mkdir_p!(Path.dirname(prebuilt))
      File.write!(prebuilt, "")
      assert Native.path(priv, :loader) == prebuilt
      File.write!(compiled, "")
      assert Native.path(priv, :loader) == compiled
    end
  end
end
