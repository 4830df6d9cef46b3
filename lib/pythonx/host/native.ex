defmodule Pythonx.Host.Native do
  # The loader and the launcher, which know no Python. `mix compile` takes those of this platform from `priv/native`, where
  # `make wheels` has put them for all, and compiles them into `priv` itself where there are none or the sources are others.
  # What is compiled comes first: it is only there where the others do not fit.
  @moduledoc false

  alias Pythonx.Host.Platform

  @files [loader: "pythonx_loader.so", launcher: "pythonx_launcher"]
  @sums "sources.sha256"

  @type part :: :loader | :launcher

  @doc "The parts, in the order in which they are built."
  @spec parts() :: [part()]
  def parts, do: Keyword.keys(@files)

  @doc "The name of the file of a part."
  @spec file(part()) :: String.t()
  def file(part), do: Keyword.fetch!(@files, part)

  @doc "Where a part is, below the folder `priv`, or would be if it were compiled."
  @spec path(Path.t(), part()) :: String.t()
  def path(priv, part) do
    compiled = Path.join(priv, file(part))
    prebuilt = prebuilt(priv, part)
    if prebuilt && not File.exists?(compiled) && File.exists?(prebuilt), do: prebuilt, else: compiled
  end

  defp prebuilt(priv, part) do
    if platform = Platform.current(), do: Path.join([prebuilt_dir(priv, platform), file(part)])
  end

  @doc "The folder of what was built in advance for a platform."
  @spec prebuilt_dir(Path.t(), Platform.t()) :: String.t()
  def prebuilt_dir(priv, platform), do: Path.join([priv, "native", platform])

  @doc "Whether both parts were built in advance for a platform, of sources that have these hashes."
  @spec prebuilt?(Path.t(), Platform.t() | nil, [{part(), String.t()}]) :: boolean()
  def prebuilt?(_priv, nil, _hashes), do: false

  def prebuilt?(priv, platform, hashes) do
    dir = prebuilt_dir(priv, platform)
    sums = for {part, hash} <- hashes, into: "", do: "#{hash}  #{part}\n"
    File.read(Path.join(dir, @sums)) == {:ok, sums} and Enum.all?(parts(), &File.regular?(Path.join(dir, file(&1))))
  end
end
