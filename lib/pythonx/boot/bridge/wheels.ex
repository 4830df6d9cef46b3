defmodule Pythonx.Boot.Bridge.Wheels do
  # The bridge from a wheel of the Python package `pythonx-native`, which is built by `make wheels`.
  #
  # `priv/bridge.lock` pins each of them, by its own hash and by that of the library in it, together with the hash of the
  # sources that they were built from. One that it does not pin is not unpacked, and a library with another hash is not given
  # out. Nothing of a wheel is run, and Python never imports it.
  #
  # It comes from a folder, which needs nothing else, or by uv, from whatever index the user has.
  @moduledoc false

  alias Pythonx.Boot.Bridge.{Choice, Compiler}
  alias Pythonx.Boot.Python
  alias Pythonx.Host.{Cache, Platform, Program}
  alias Pythonx.Uv

  @package "pythonx-native"
  @library "pythonx_native/bridge.so"
  @worker "pythonx_native/worker"

  @enforce_keys [:file, :version, :platform_tag, :sha256, :library_sha256]
  defstruct @enforce_keys ++ [:worker_sha256]

  @type t :: %__MODULE__{
          file: String.t(),
          version: String.t(),
          platform_tag: String.t(),
          sha256: String.t(),
          library_sha256: String.t(),
          worker_sha256: String.t() | nil
        }

  @typedoc "What a lock says: the hash of the sources, and the wheels by the tag of their Python and their platform."
  @type lock :: %{sources: String.t(), wheels: %{{String.t(), Platform.t()} => t()}}

  @doc "Reads a lock, `nil` if there is none. Raises a `RuntimeError` for a file that is none."
  @spec read_lock!(Path.t() | nil) :: lock() | nil
  def read_lock!(nil), do: nil

  def read_lock!(path) do
    case File.read(path) do
      {:ok, text} -> parse(text) || raise "#{path} is not what make wheels writes: delete it, or run make wheels again"
      {:error, _reason} -> nil
    end
  end

  defp parse(text) do
    with [_, sources] <- Regex.run(~r/^# sources: ([0-9a-f]{64})$/m, text),
         [_, version] <- Regex.run(~r/^#{@package}==(\S+)/m, text) do
      lines = Regex.scan(~r/^# wheel: (\w+)-(\w+)-(\w+) ([0-9a-f]{64}) ([0-9a-f]{64})(?: ([0-9a-f]{64}))?$/m, text)
      %{sources: sources, wheels: for([_ | fields] <- lines, into: %{}, do: wheel(version, fields))}
    else
      _other -> nil
    end
  end

  defp wheel(version, [python, abi, platform_tag, sha256, library_sha256 | worker]) do
    file = "pythonx_native-#{version}-#{python}-#{abi}-#{platform_tag}.whl"
    fields = [file: file, version: version, platform_tag: platform_tag, sha256: sha256, library_sha256: library_sha256]
    {{abi, Platform.from_tag(platform_tag)}, struct!(__MODULE__, [worker_sha256: List.first(worker)] ++ fields)}
  end

  @doc "The wheel for a Python and a platform, or why there is none, as the rest of a sentence."
  @spec fetch(lock() | nil, String.t(), Platform.t() | nil, source_hash :: String.t()) ::
          {:ok, t()} | {:error, String.t()} | nil
  def fetch(nil, _tag, _platform, _source_hash), do: nil

  def fetch(lock, tag, platform, source_hash) do
    cond do
      lock.sources != source_hash -> {:error, "the wheels that priv/bridge.lock pins are of other sources than these"}
      platform == nil -> {:error, "there are no wheels for this system, #{Platform.architecture()}"}
      wheel = lock.wheels[{tag, platform}] -> {:ok, wheel}
      true -> {:error, "priv/bridge.lock pins no wheel for #{Pythonx.Boot.Bridge.describe(tag)} on #{platform}"}
    end
  end

  @doc "The name under which the library of a wheel is kept, without its extension."
  @spec name(t(), String.t()) :: String.t()
  def name(wheel, tag), do: "#{tag}-#{binary_part(wheel.library_sha256, 0, 16)}"

  @doc """
  Gets the library of a wheel, which is put in place at `path` when it is whole, after the program of the workers, which lies
  beside it. The error is the rest of a sentence.

  `python` is an executable of that Python. `platform` is another than this one, or `nil`. The caller holds the lock.
  """
  @spec install(t(), Path.t(), String.t(), Platform.t() | nil, uv :: String.t() | nil) :: :ok | {:error, String.t()}
  def install(wheel, path, python, platform, uv) do
    for name <- File.ls!(Path.dirname(path)),
        Cache.temporary?(name, path),
        do: File.rm_rf(Path.join(Path.dirname(path), name))

    temporary = Cache.temporary_beside(path)

    try do
      with :ok <- if(platform, do: :ok, else: check_libc(wheel, python)),
           {:ok, [library | worker]} <- contents(wheel, Choice.find_links!(), temporary, python, platform, uv),
           :ok <- check_library(wheel, library, worker) do
        for program <- worker, do: Cache.write_atomically!(Compiler.worker_path(path), program, 0o755)
        Cache.write_atomically!(path, library, 0o755)
      end
    after
      File.rm_rf(temporary)
    end
  end

  # The dynamic linker would say so too, in words that do not help. A Python that does not run is no hindrance here.
  defp check_libc(wheel, python) do
    with [_, needed] <- Regex.run(~r/\Amanylinux_(\d+_\d+)_/, wheel.platform_tag),
         {:ok, %Python{libc: "glibc " <> version}} <- Python.probe(python),
         [_, there] <- Regex.run(~r/\A(\d+\.\d+)/, version),
         true <- number(there, ".") < number(needed, "_") do
      {:error, "#{wheel.file} needs glibc #{String.replace(needed, "_", ".")} or later, and this system has #{there}"}
    else
      _fits_or_unknown -> :ok
    end
  end

  defp number(version, separator), do: version |> String.split(separator) |> Enum.map(&String.to_integer/1)

  # What a wheel of ours has, first the library.
  defp names(wheel), do: if(wheel.worker_sha256, do: [@library, @worker], else: [@library])

  defp contents(wheel, {place, who}, temporary, python, platform, uv) do
    if place =~ ~r{\A\w+://},
      do: by_uv(wheel, ["--no-index", "--find-links", place], temporary, python, platform, uv),
      else: from_folder(wheel, Path.expand(place), who)
  end

  defp contents(wheel, nil, temporary, python, platform, uv), do: by_uv(wheel, [], temporary, python, platform, uv)

  defp from_folder(wheel, folder, who) do
    path = Path.join(folder, wheel.file)

    with {:ok, content} <- File.read(path),
         {:pinned, true} <- {:pinned, Compiler.sha256(content) == wheel.sha256},
         {:ok, files} <- :zip.unzip(content, [:memory, {:file_list, Enum.map(names(wheel), &String.to_charlist/1)}]),
         {:ok, _contents} = read <- read_all(wheel, &fetch_entry(files, &1)) do
      read
    else
      {:pinned, false} -> {:error, "#{path} is not the wheel that priv/bridge.lock pins, its SHA-256 differs"}
      {:error, :enoent} -> {:error, "the folder #{folder} of #{who} has no #{wheel.file}"}
      {:error, "the wheel " <> _reason} = error -> error
      {:error, reason} -> {:error, "#{path} cannot be read: #{:file.format_error(reason)}"}
    end
  end

  defp fetch_entry(files, name) do
    case List.keyfind(files, String.to_charlist(name), 0) do
      {_name, content} -> {:ok, content}
      nil -> {:error, :enoent}
    end
  end

  defp read_all(wheel, read) do
    Enum.reduce_while(names(wheel), {:ok, []}, fn name, {:ok, before} ->
      case read.(name) do
        {:ok, content} -> {:cont, {:ok, before ++ [content]}}
        {:error, reason} -> {:halt, {:error, "the wheel #{wheel.file} has no #{name}: #{:file.format_error(reason)}"}}
      end
    end)
  end

  # The settings of the user for the index, the network and the cache count, those for other installations do not. The empty
  # uv.toml keeps uv from reading that of a project around the cache.
  defp by_uv(wheel, source, temporary, python, platform, uv) do
    Cache.mkdir!(temporary)
    Cache.write!(Path.join(temporary, "uv.toml"), "")

    Cache.write!(
      Path.join(temporary, "requirements.txt"),
      "#{@package}==#{wheel.version} --hash=sha256:#{wheel.sha256}\n"
    )

    args =
      ["pip", "install", "--python", python, "--target", "target", "-r", "requirements.txt"] ++
        ~w(--no-deps --require-hashes --only-binary :all: --link-mode copy) ++
        source ++ if(platform, do: ["--python-platform", Platform.uv_name(platform)], else: [])

    with {:ok, uv} <- if(uv, do: {:ok, uv}, else: Uv.find_uv()),
         {:ok, _output, 0} <- run(uv, args, temporary) do
      read_all(wheel, &File.read(Path.join([temporary, "target", &1])))
    else
      {:ok, output, _status} -> {:error, "uv could not install #{wheel.file}: #{sentence(output)}"}
      {:error, reason} -> {:error, "uv could not be had to install #{wheel.file}: #{reason}"}
    end
  end

  @foreign ~w(UV_CONSTRAINT UV_OVERRIDE UV_EXCLUDE UV_EXCLUDE_NEWER UV_PYTHON UV_SYSTEM_PYTHON UV_NO_VERIFY_HASHES UV_NO_BINARY
              UV_NO_BINARY_PACKAGE UV_PRERELEASE UV_RESOLUTION UV_TARGET UV_PREFIX UV_CONFIG_FILE UV_PROJECT UV_WORKING_DIR
              UV_WORKING_DIRECTORY UV_BUILD_CONSTRAINT UV_DRY_RUN VIRTUAL_ENV CONDA_PREFIX PYTHONHOME PYTHONPATH)

  # A company's network may have a certificate authority of its own, which the system knows and uv does not. What comes is
  # known by its hash, whoever sends it.
  defp run(uv, args, dir) do
    env = for(name <- @foreign, do: {name, nil}) ++ [{"NO_COLOR", "1"}]

    case Program.run(uv, args, cd: dir, env: env) do
      {:ok, output, status} = failure when status != 0 ->
        trusting = [{"UV_NATIVE_TLS", "true"}, {"UV_SYSTEM_CERTS", "true"} | env]
        if output =~ "certificate", do: Program.run(uv, args, cd: dir, env: trusting), else: failure

      result ->
        result
    end
  end

  # What uv says, which is several lines, as one.
  defp sentence(output) do
    lines =
      output
      |> String.split(["\r\n", "\n"])
      |> Enum.map(&String.replace(&1, ~r/\A[\s×├╰│─▶]*(error:|cause:|Caused by:)?\s*/u, ""))
      |> Enum.reject(&(&1 == "" or &1 =~ ~r/\A(Using|Resolved|Prepared|warning:|hint:)/))

    cond do
      output =~ "Hash mismatch" ->
        "what uv was given is not what priv/bridge.lock pins, its SHA-256 differs"

      url = Regex.run(~r/Failed to fetch:? `?([^\s`]+)/, output) ->
        "#{List.last(url)} cannot be fetched, #{List.last(lines)}"

      output =~ "was not found in the package registry" ->
        "the index of uv does not have it"

      true ->
        lines |> Enum.join(": ") |> String.trim_trailing(".")
    end
  end

  defp check_library(wheel, library, worker) do
    sums = Enum.map([library | worker], &Compiler.sha256/1)

    if sums == [wheel.library_sha256 | List.wrap(wheel.worker_sha256)],
      do: :ok,
      else: {:error, "the library in #{wheel.file} is not the one that priv/bridge.lock pins, its SHA-256 differs"}
  end
end
