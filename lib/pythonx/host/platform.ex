defmodule Pythonx.Host.Platform do
  # The systems for which `make wheels` builds the native parts in advance, by the names that scripts/wheels/build.py gives
  # them: a family of C libraries, as wheels name it, and the processor. On any other system, everything is compiled.
  @moduledoc false

  @uv_names %{
    "manylinux_x86_64" => "x86_64-manylinux_2_17",
    "manylinux_aarch64" => "aarch64-manylinux_2_17",
    "musllinux_x86_64" => "x86_64-unknown-linux-musl",
    "musllinux_aarch64" => "aarch64-unknown-linux-musl",
    "macosx_x86_64" => "x86_64-apple-darwin",
    "macosx_arm64" => "aarch64-apple-darwin"
  }

  @type t :: String.t()

  @doc "All names, sorted."
  @spec names() :: [t()]
  def names, do: @uv_names |> Map.keys() |> Enum.sort()

  @doc "The one that this VM runs on, `nil` if it is none of them."
  @spec current() :: t() | nil
  def current, do: from_architecture(architecture(), :os.type())

  @doc "What the Erlang runtime says of its machine."
  @spec architecture() :: String.t()
  def architecture, do: List.to_string(:erlang.system_info(:system_architecture))

  @doc "The one for what the Erlang runtime says of its machine, such as `x86_64-pc-linux-gnu`, and of its system."
  @spec from_architecture(String.t(), {atom(), atom()}) :: t() | nil
  def from_architecture(architecture, os) do
    parts = String.split(architecture, "-")
    known("#{family(os, List.last(parts))}_#{processor(os, hd(parts))}")
  end

  defp family({:unix, :linux}, "gnu"), do: "manylinux"
  defp family({:unix, :linux}, "musl"), do: "musllinux"
  defp family({:unix, :darwin}, _release), do: "macosx"
  defp family(_os, _libc), do: "unknown"

  defp processor(_os, name) when name in ["x86_64", "amd64"], do: "x86_64"
  defp processor({:unix, :darwin}, name) when name in ["arm", "arm64", "aarch64"], do: "arm64"
  defp processor(_os, name), do: name

  @doc "The one of a platform tag of wheels, which also says how old the system may be, such as `manylinux_2_17_x86_64`."
  @spec from_tag(String.t()) :: t() | nil
  def from_tag(tag), do: tag |> String.replace(~r/_\d+_\d+_/, "_", global: false) |> known()

  defp known(name), do: if(Map.has_key?(@uv_names, name), do: name)

  @doc "What uv calls it."
  @spec uv_name(t()) :: String.t()
  def uv_name(platform), do: Map.fetch!(@uv_names, platform)
end
