defmodule Pythonx.Uv.Download do
  # Fetches the uv program itself, and does not believe in it before its checksum is right.
  #
  # From GitHub, or else from PyPI, which has the same programs in wheels: some networks reach only one of them. PyPI comes
  # first where we bring the sum of the wheel along, but none of the archive. From PYTHONX_UV_MIRROR alone, a URL that has
  # the folders of GitHub's releases under it, when that is set.
  @moduledoc false

  require Logger

  alias Pythonx.Utils
  alias Pythonx.Uv.{Checksums, Target}

  @releases "https://github.com/astral-sh/uv/releases/download"
  @index "https://pypi.org/simple/uv/"

  @doc "The program, as the content of a file. Raises a `RuntimeError` when it cannot be had."
  @spec fetch!(version :: String.t()) :: binary()
  def fetch!(version) do
    target = Target.current!()

    case System.get_env("PYTHONX_UV_MIRROR", "") do
      "" -> from_first!(sources(version, target), version, target)
      mirror -> from_release!(String.trim_trailing(mirror, "/"), version, target)
    end
  end

  defp sources(version, target) do
    github = {"GitHub", &from_release!(@releases, &1, &2)}
    pypi = {"PyPI", &from_pypi!/2}
    known? = Checksums.archive(version, target) != nil or Checksums.wheel(version, target) == nil
    if known?, do: [github, pypi], else: [pypi, github]
  end

  # When both fail, GitHub's failure is the one to report, whichever came first: that is the way that is documented.
  defp from_first!([{name, fetch!}, {other, other_fetch!}], version, target) do
    fetch!.(version, target)
  rescue
    first in RuntimeError ->
      Logger.debug("Trying #{other}, because uv could not be had from #{name}: #{Exception.message(first)}")

      try do
        other_fetch!.(version, target)
      rescue
        second in RuntimeError ->
          Logger.debug("uv could not be had from #{other} either: #{Exception.message(second)}")
          reraise if(name == "GitHub", do: first, else: second), __STACKTRACE__
      end
  end

  defp from_release!(base, version, target) do
    url = "#{base}/#{version}/#{Target.archive_name(target)}"
    Logger.debug("Downloading uv archive from #{url}")
    archive = Utils.fetch_body!(url)

    # The published sum comes from where the archive comes from: it finds what was damaged, not what was forged. Where we
    # bring the sum along, of the wheel for the version that is downloaded by default, it has to be the genuine one.
    verify!(archive, Checksums.archive(version, target) || published_checksum!(url), url)
    extract!(archive, url)
  end

  # As sha256sum prints it: the sum, then the name of the file.
  defp published_checksum!(url) do
    case Utils.fetch_body!(url <> ".sha256") |> String.split() do
      [sum | _name] when byte_size(sum) == 64 -> String.downcase(sum)
      _other -> raise "#{url}.sha256 does not hold a SHA-256 checksum"
    end
  end

  defp from_pypi!(version, target) do
    page = Utils.fetch_body!(@index)
    {url, published} = find_wheel(page, version, target) || raise "PyPI has no uv #{version} for #{target}"
    wheel = Utils.fetch_body!(url)
    verify!(wheel, Checksums.wheel(version, target) || published, url)
    extract!(wheel, url)
  end

  @doc "The URL and the checksum of a wheel in a page of the simple index of PyPI (PEP 503)."
  @spec find_wheel(String.t(), String.t(), Target.t()) :: {String.t(), String.t()} | nil
  def find_wheel(page, version, target) do
    tag = Target.wheel_tag(target)

    links =
      Regex.scan(~r/href="([^"#]*\/uv-#{Regex.escape(version)}-py3-none-([^"#]*)\.whl)#sha256=([0-9a-f]{64})"/, page)

    # One that musl can use as well, and so has more tags, may stand beside the one for this target alone.
    for([_all, url, tags, sum] <- links, tags = String.split(tags, "."), tag in tags, do: {length(tags), {url, sum}})
    |> Enum.min_by(&elem(&1, 0), fn -> {0, nil} end)
    |> elem(1)
  end

  defp verify!(content, expected, url) do
    case Base.encode16(:crypto.hash(:sha256, content), case: :lower) do
      ^expected -> :ok
      sum -> raise "what was downloaded from #{url} is not uv: its SHA-256 checksum is #{sum}, expected #{expected}"
    end
  end

  defp extract!(archive, url) do
    entries = if String.ends_with?(url, ".tar.gz"), do: untar(archive), else: unzip(archive)

    case entries do
      {:ok, [{_name, program} | _rest]} -> program
      {:ok, []} -> raise "the archive at #{url} does not contain uv"
      {:error, reason} -> raise "the archive at #{url} cannot be extracted: #{inspect(reason)}"
    end
  end

  defp untar(archive) do
    with {:ok, entries} <- :erl_tar.extract({:binary, archive}, [:memory, :compressed]) do
      {:ok, Enum.filter(entries, fn {name, _program} -> uv?(name) end)}
    end
  end

  # Some wheels hold a second program beside uv, and nothing else is worth unpacking.
  defp unzip(archive), do: :zip.extract(archive, [:memory, file_filter: fn entry -> uv?(elem(entry, 1)) end])

  defp uv?(name), do: name |> to_string() |> Path.basename() |> Path.rootname() == "uv"
end
