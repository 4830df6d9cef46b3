defmodule Pythonx.Uv.Target do
  # The platforms that uv is released for, named as its archives are, and the one that we run on.
  @moduledoc false

  @type t :: String.t()

  # The tag of the wheel that holds the same program.
  @wheel_tags %{
    "aarch64-apple-darwin" => "macosx_11_0_arm64",
    "aarch64-pc-windows-msvc" => "win_arm64",
    "aarch64-unknown-linux-gnu" => "manylinux_2_28_aarch64",
    "aarch64-unknown-linux-musl" => "musllinux_1_1_aarch64",
    "arm-unknown-linux-musleabihf" => "linux_armv6l",
    "armv7-unknown-linux-gnueabihf" => "manylinux_2_17_armv7l",
    "armv7-unknown-linux-musleabihf" => "musllinux_1_1_armv7l",
    "i686-pc-windows-msvc" => "win32",
    "i686-unknown-linux-gnu" => "manylinux_2_17_i686",
    "i686-unknown-linux-musl" => "musllinux_1_1_i686",
    "powerpc64-unknown-linux-gnu" => "manylinux_2_17_ppc64",
    "powerpc64le-unknown-linux-gnu" => "manylinux_2_17_ppc64le",
    "riscv64gc-unknown-linux-gnu" => "manylinux_2_31_riscv64",
    "s390x-unknown-linux-gnu" => "manylinux_2_17_s390x",
    "x86_64-apple-darwin" => "macosx_10_12_x86_64",
    "x86_64-pc-windows-msvc" => "win_amd64",
    "x86_64-unknown-linux-gnu" => "manylinux_2_17_x86_64",
    "x86_64-unknown-linux-musl" => "musllinux_1_1_x86_64"
  }

  @doc "The target of this machine. Raises a `RuntimeError` when uv is not released for it."
  @spec current!() :: t()
  def current! do
    architecture = List.to_string(:erlang.system_info(:system_architecture))

    from_architecture(architecture, :os.type(), :erlang.system_info(:wordsize)) ||
      raise "uv is not available for architecture: #{architecture}"
  end

  @doc "The target for what the Erlang runtime says of its machine, `nil` if there is none."
  @spec from_architecture(String.t(), {atom(), atom()}, pos_integer()) :: t() | nil
  def from_architecture(_architecture, {:win32, _name}, 8), do: "x86_64-pc-windows-msvc"
  def from_architecture(_architecture, {:win32, _name}, 4), do: "i686-pc-windows-msvc"

  def from_architecture(architecture, {:unix, :darwin}, _wordsize) do
    case String.split(architecture, "-") do
      [arch | _rest] when arch in ["arm", "aarch64"] -> "aarch64-apple-darwin"
      ["x86_64" | _rest] -> "x86_64-apple-darwin"
      _other -> nil
    end
  end

  def from_architecture(architecture, {:unix, :linux}, _wordsize) do
    parts = String.split(architecture, "-")
    target = "#{uv_arch(hd(parts))}-unknown-linux-#{List.last(parts)}"
    target = Map.get(%{"arm-unknown-linux-gnueabihf" => "arm-unknown-linux-musleabihf"}, target, target)
    if Map.has_key?(@wheel_tags, target), do: target
  end

  def from_architecture(_architecture, _os, _wordsize), do: nil

  # uv names the instruction sets more exactly than the Erlang runtime.
  defp uv_arch("riscv64"), do: "riscv64gc"
  defp uv_arch("ppc64"), do: "powerpc64"
  defp uv_arch("ppc64le"), do: "powerpc64le"
  defp uv_arch(arch) when arch in ["i386", "i486", "i586"], do: "i686"
  defp uv_arch(arch), do: arch

  @doc "The name of the archive that is released for a target."
  @spec archive_name(t()) :: String.t()
  def archive_name(target), do: "uv-#{target}#{if target =~ "windows", do: ".zip", else: ".tar.gz"}"

  @doc "The platform tag of the wheel for a target."
  @spec wheel_tag(t()) :: String.t()
  def wheel_tag(target), do: Map.fetch!(@wheel_tags, target)
end
