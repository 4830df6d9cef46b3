defmodule Pythonx.Boot.Bridge do
  # Finds the library of `Pythonx.NIF` that fits the Python in use, or builds it, once.
  #
  # pybind11 binds the bridge to one minor version of Python and to its kind (with or without the GIL), which the tag names:
  # cp313, cp314t. A library is found by a name: the tag and a hash, of whatever it was compiled from or, if it came as a wheel,
  # of its content. It is looked for in priv/bridge (a release, or `mix pythonx.build`), then in the user's cache. If it is in
  # neither, it is installed into the cache from a wheel that priv/bridge.lock pins, and compiled where there is none for these
  # sources or it cannot be had. PYTHONX_NATIVE forces one or the other.
  #
  # Who installs or compiles holds the lock of the tag in the cache, and renames the library into place when it is whole: whoever sees
  # it may load it, and a build that is killed leaves nothing that looks like one.
  @moduledoc false

  alias Pythonx.Boot.Bridge.{Choice, Compiler, Headers, Store, Wheels}
  alias Pythonx.Boot.Python
  alias Pythonx.Host.{Cache, Lock, Platform}

  # What pybind11 3.1 supports, from where its `PyConfig` does what boot needs.
  @minors 10..15

  @source_dir Path.expand("../../../c_src/bridge", __DIR__)
  @source_hash Compiler.bridge_hash(@source_dir)

  @type tag :: String.t()

  @type option ::
          {:cache_dir, String.t()}
          | {:priv_dir, String.t()}
          | {:source_dir, String.t()}
          | {:uv, String.t() | nil}
          | {:tell_ms, pos_integer()}
          | {:lock, String.t() | nil}
          | {:platform, Platform.t() | nil}

  @doc false
  # Called by Mix: the sources are not known to it, and a release has the hash of them but not the sources.
  @spec __mix_recompile__?() :: boolean()
  def __mix_recompile__?, do: Compiler.bridge_hash(@source_dir) != @source_hash

  @doc """
  The tag for a `Py_GetVersion` text. Raises a `RuntimeError` for a Python that Pythonx cannot embed.
  """
  @spec tag(String.t()) :: tag()
  def tag(version) when is_binary(version) do
    with :error <- find_tag(version) do
      raise "Pythonx needs CPython 3.#{@minors.first} to 3.#{@minors.last}, this Python is: #{version}"
    end
  end

  defp find_tag(version) do
    with [_, minor] <- Regex.run(~r/\A3\.(\d+)\.\d/, version),
         true <- String.to_integer(minor) in @minors,
         false <- version =~ ~r/pypy|graal/i do
      "cp3#{minor}" <> if(version =~ "free-threading build", do: "t", else: "")
    else
      _ -> :error
    end
  end

  @doc "A tag in words, such as `CPython 3.13` or `CPython 3.14 (free-threading)`."
  @spec describe(tag()) :: String.t()
  def describe("cp3" <> rest) do
    {minor, kind} = Integer.parse(rest)
    "CPython 3.#{minor}" <> if(kind == "t", do: " (free-threading)", else: "")
  end

  @doc """
  Returns the path, without its extension, of the bridge for `tag`, for `:erlang.load_nif/2`. Installs or compiles it if there
  is none, and says so on standard error before.

  `python` is an executable of that Python, which knows where its headers are.
  Raises a `RuntimeError` that tells what is missing.

  ## Options

    * `:uv` - the uv to install the pybind11 headers with, before pip of `python` is tried. By default the one that
      `Pythonx.Uv.find_uv/1` finds

    * `:cache_dir`, `:priv_dir`, `:source_dir` - where built libraries and sources are, for tests

    * `:lock` - the file that pins the wheels, or `nil` for none. By default `priv/bridge.lock`, for our own sources

    * `:platform` - another system than this one, for `prebuild!/2`

    * `:tell_ms` - how often to say that it still compiles, for tests. Defaults to 10 seconds

  """
  @spec ensure!(tag(), String.t(), [option()]) :: String.t()
  def ensure!(tag, python, opts \\ []) do
    opts = defaults(opts)
    dirs = [opts[:priv_dir], Store.dir(opts[:cache_dir])]

    with nil <- find(dirs, tag, known_hash(opts[:source_dir]), opts) do
      source_hash = source_hash(opts[:source_dir])
      find(dirs, tag, source_hash, opts) || make!(tag, python, Store.dir(opts[:cache_dir]), source_hash, opts)
    end
  end

  @doc "The same for the Python that `python` is, which is asked for its tag."
  @spec ensure_for!(String.t()) :: String.t()
  def ensure_for!(python) do
    {tag, _probe} = probe!(python)
    ensure!(tag, python)
  end

  @doc "Whether the bridge for a Python can be had without its headers: it is there, or a wheel of it is pinned."
  @spec needs_no_headers?(Python.t(), [option()]) :: boolean()
  def needs_no_headers?(%Python{} = python, opts \\ []) do
    opts = defaults(opts)
    hash = known_hash(opts[:source_dir])

    case python |> version_text() |> find_tag() do
      :error ->
        false

      tag ->
        match?({:ok, _wheel}, wheel(tag, hash, opts)) or
          find([opts[:priv_dir], Store.dir(opts[:cache_dir])], tag, hash, opts) != nil
    end
  end

  defp find(dirs, tag, source_hash, opts) do
    names = names(tag, source_hash, opts)
    path = Enum.find(for(dir <- dirs, name <- names, do: Path.join(dir, name)), &library?/1)
    if path && Path.dirname(path) != opts[:priv_dir], do: Cache.check_owner!(opts[:cache_dir], path <> ".so")
    path
  end

  # What there may be. For another platform nothing can be compiled here.
  defp names(tag, source_hash, opts) do
    compiled = if opts[:choice] != :wheel and opts[:platform] == nil, do: [compiled_name(tag, source_hash)], else: []

    case wheel(tag, source_hash, opts) do
      {:ok, wheel} -> compiled ++ [Wheels.name(wheel, tag)]
      _none -> compiled
    end
  end

  defp wheel(tag, source_hash, opts),
    do: Wheels.fetch(opts[:wheels], tag, opts[:platform] || Platform.current(), source_hash)

  @doc """
  Puts the bridge for a Python into `priv/bridge`, if it is not there yet. Returns its tag and its path.
  """
  @spec prebuild!(String.t(), [option()]) :: {tag(), String.t()}
  def prebuild!(python, opts \\ []) do
    opts = defaults(opts)
    {tag, _probe} = probe!(python)
    source_hash = source_hash(opts[:source_dir])
    Cache.mkdir!(opts[:priv_dir])

    path =
      find([opts[:priv_dir]], tag, source_hash, opts) || copy_cached!(tag, source_hash, opts) ||
        make!(tag, python, opts[:priv_dir], source_hash, opts)

    {tag, path <> ".so"}
  end

  defp copy_cached!(tag, source_hash, opts) do
    if cached = find([Store.dir(opts[:cache_dir])], tag, source_hash, opts) do
      path = Path.join(opts[:priv_dir], Path.basename(cached))

      for extension <- [".worker", ".so"],
          {:ok, content} <- [File.read(cached <> extension)],
          do: Cache.write_atomically!(path <> extension, content, 0o755)

      path
    end
  end

  @doc "The environment variables for c_src/bridge/Makefile, to build the bridge for a Python by hand."
  @spec make_env!(String.t(), [option()]) :: [{String.t(), String.t()}]
  def make_env!(python, opts \\ []) do
    opts = defaults(opts)
    {_tag, probe} = probe!(python)
    Store.prepare!(opts[:cache_dir], opts[:cache_dir])
    includes!(probe, python, fn -> :ok end, opts) |> Compiler.make_env()
  end

  defp defaults(opts) do
    source_dir = Keyword.get(opts, :source_dir, @source_dir)

    choice = Choice.get!()

    opts =
      [cache_dir: Cache.base_dir(), priv_dir: Path.join(priv_dir(), "bridge"), uv: nil, tell_ms: 10_000, platform: nil]
      |> Keyword.merge(
        source_dir: source_dir,
        lock: if(source_dir == @source_dir, do: Path.join(priv_dir(), "bridge.lock"))
      )
      |> then(&Keyword.validate!(opts, &1))
      |> Map.new()

    Map.merge(opts, %{choice: choice, wheels: if(choice != :compile, do: Wheels.read_lock!(opts.lock))})
  end

  defp priv_dir, do: Application.app_dir(:pythonx, "priv")

  # The version of the compiler is not part of it: the machine that runs a release has none.
  defp compiled_name(tag, source_hash) do
    platform = [:erlang.system_info(:system_architecture), :erlang.system_info(:nif_version)]
    hash = :crypto.hash(:sha256, :erlang.term_to_binary({source_hash, Headers.pybind11_version(), tag, platform}))
    "#{tag}-#{hash |> binary_part(0, 8) |> Base.encode16(case: :lower)}"
  end

  # Reading the sources would take a good part of a start. Mix compiles this module again when they have changed.
  defp known_hash(dir), do: if(dir == @source_dir, do: @source_hash, else: Compiler.bridge_hash(dir))

  # What is built has the hash of what is there. A release has no sources.
  defp source_hash(dir) do
    if dir == @source_dir and not File.dir?(dir), do: @source_hash, else: Compiler.bridge_hash(dir)
  end

  defp library?(path), do: File.regular?(path <> ".so")

  # Under the lock in the cache for priv as well, which a release copies as it is.
  defp make!(tag, python, dir, source_hash, opts) do
    cache = Store.dir(opts[:cache_dir])
    Store.prepare!(opts[:cache_dir], cache)
    waiting = fn -> say("waiting for another process that compiles or installs the bridge for #{describe(tag)}") end

    Lock.with_lock(
      Path.join(cache, "#{tag}.lock"),
      fn -> find([dir], tag, source_hash, opts) || make_locked!(tag, python, dir, source_hash, opts) end,
      on_wait: waiting
    )
  end

  defp make_locked!(tag, python, dir, source_hash, opts) do
    with {:ok, wheel} <- wheel(tag, source_hash, opts),
         path = Path.join(dir, Wheels.name(wheel, tag)),
         say("installing #{wheel.file}, which connects Elixir with #{describe(tag)}"),
         :ok <- Wheels.install(wheel, path <> ".so", python, opts[:platform], opts[:uv]) do
      Store.prune(dir, tag)
      path
    else
      {:error, reason} -> compile!(tag, python, Path.join(dir, compiled_name(tag, source_hash)), reason, opts)
      nil -> compile!(tag, python, Path.join(dir, compiled_name(tag, source_hash)), nil, opts)
    end
  end

  defp compile!(tag, _python, _path, no_wheel, %{choice: choice, platform: platform})
       when choice == :wheel or platform != nil do
    reason = no_wheel || "there is no priv/bridge.lock, which make wheels writes, to say which wheels there are"

    if platform,
      do:
        raise(
          "Pythonx has no bridge for #{describe(tag)} yet, and none for #{platform} can be compiled here, but #{reason}"
        ),
      else: raise("Pythonx has no bridge for #{describe(tag)} yet, and PYTHONX_NATIVE is wheel, but #{reason}")
  end

  defp compile!(tag, python, path, no_wheel, opts) do
    includes = naming_both_ways(no_wheel, fn -> requirements!(tag, python, no_wheel, opts) end)
    telling(tag, opts[:tell_ms], fn -> Compiler.compile!(opts[:source_dir], path <> ".so", includes, tag) end)
    Store.prune(Path.dirname(path), tag)
    path
  end

  defp requirements!(tag, python, no_wheel, opts) do
    if Compiler.sources(opts[:source_dir]) == [], do: raise(no_sources(tag))
    {python_tag, probe} = probe!(python)
    check_tag!(tag, python_tag, python)
    _programs = Compiler.programs!(tag)
    includes!(probe, python, fn -> say(announcement(tag, no_wheel)) end, opts)
  end

  defp naming_both_ways(nil, fun), do: fun.()

  defp naming_both_ways(no_wheel, fun) do
    fun.()
  rescue
    error in RuntimeError ->
      both = "#{error.message}. It comes as a wheel too, which needs none of this, but #{no_wheel}. #{wheel_hint()}"
      reraise %{error | message: both}, __STACKTRACE__
  end

  defp wheel_hint, do: "PYTHONX_NATIVE_FIND_LINKS can name a folder that has it"

  defp announcement(tag, no_wheel) do
    reason = if no_wheel, do: ", as #{no_wheel}", else: ""

    "compiling the C++ code that connects Elixir with #{describe(tag)}#{reason}. That is done once and takes a minute or " <>
      "two on a small machine"
  end

  # Who waits sees that it goes on. The process that says so ends with the one that compiles, however that ends.
  defp telling(tag, interval, fun) do
    compiler = self()
    teller = spawn(fn -> tell(tag, interval, Process.monitor(compiler), System.monotonic_time(:second)) end)

    try do
      fun.()
    after
      monitor = Process.monitor(teller)
      send(teller, :done)

      receive do
        {:DOWN, ^monitor, :process, ^teller, _reason} -> :ok
      end
    end
  end

  defp tell(tag, interval, monitor, started) do
    receive do
      :done -> :ok
      {:DOWN, ^monitor, :process, _compiler, _reason} -> :ok
    after
      interval ->
        say("still compiling for #{describe(tag)}, for #{System.monotonic_time(:second) - started} seconds now")
        tell(tag, interval, monitor, started)
    end
  end

  defp probe!(python) do
    case Python.probe(python) do
      {:ok, probe} -> {tag(version_text(probe)), probe}
      {:error, reason} -> raise reason
    end
  end

  # As Py_GetVersion says it.
  defp version_text(probe) do
    kind = if probe.free_threaded, do: " free-threading build", else: ""
    implementation = if probe.implementation == "cpython", do: "", else: " [#{probe.implementation}]"
    probe.version <> kind <> implementation
  end

  # First what costs nothing: nobody waits for a download to learn that Python.h is missing.
  defp includes!(probe, python, announce, opts) do
    includes = %{python: Headers.python!(probe), erlang: Headers.erlang!()}
    announce.()
    lock = Path.join(opts[:cache_dir], "pybind11.lock")
    pybind11 = Lock.with_lock(lock, fn -> Headers.pybind11!(opts[:cache_dir], python, opts[:uv]) end)
    Map.put(includes, :pybind11, pybind11)
  end

  defp check_tag!(tag, tag, _python), do: :ok

  defp check_tag!(tag, other, python) do
    raise "the libpython is #{describe(tag)}, but #{python} is #{describe(other)}"
  end

  defp no_sources(tag) do
    "this release has no bridge for #{describe(tag)} in priv/bridge, and not the sources to compile it. " <>
      "Run mix pythonx.build for that Python before mix release"
  end

  # Standard error, as the standard output of a script is its user's.
  defp say(text), do: IO.puts(:stderr, "Pythonx: #{text}")
end
