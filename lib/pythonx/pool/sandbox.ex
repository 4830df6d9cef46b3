defmodule Pythonx.Pool.Sandbox do
  # The option `:sandbox` of a pool: what it may say, and what the launcher is told then, which has the kernel hold it
  # (c_src/launcher/sandbox.h). What a worker needs to run at all is given by who knows which program it is (`t:needs/0`).
  @moduledoc false

  alias Pythonx.Host.{Native, Program}
  alias Pythonx.Uv.Paths

  @defaults [
    read: [],
    write: [],
    connect: false,
    listen: false,
    exec: false,
    env: :clean,
    processes: 0,
    files: 256,
    file_size: 1_073_741_824,
    cpu_time: :infinity,
    memory: 4_294_967_296,
    best_effort: false
  ]

  # A descriptor of the number `:files` is made, so there must not be too many.
  @most_files 65_535
  @least_files 16

  # What libraries read of a system, and nothing in it is secret. What is not there is passed over. Of /etc/ssl not all: it has
  # private keys, too.
  @system ~w(/lib /lib32 /lib64 /usr/lib /usr/lib32 /usr/lib64 /usr/local/lib /usr/local/lib64 /nix/store /gnu/store
             /etc/ld.so.cache /etc/localtime /etc/timezone /etc/locale.alias /usr/share/zoneinfo /usr/share/locale /usr/share/i18n
             /etc/ssl/certs /etc/ssl/openssl.cnf /etc/ssl/cert.pem /etc/pki/tls/certs /etc/pki/tls/cert.pem
             /etc/pki/ca-trust/extracted /etc/ca-certificates/extracted /usr/share/ca-certificates
             /usr/local/share/ca-certificates /etc/crypto-policies /etc/resolv.conf /etc/hosts /etc/host.conf /etc/gai.conf
             /etc/nsswitch.conf /etc/services /etc/protocols /etc/mime.types /etc/fonts /usr/share/fonts
             /sys/devices/system/cpu /sys/devices/system/node /sys/fs/cgroup /sys/kernel/mm/transparent_hugepage)

  # Who may run a program may run the one that the kernel finds its libraries with.
  @linkers ~w(/lib/ld-* /lib64/ld-* /lib/*/ld-* /usr/lib/ld-* /usr/lib64/ld-* /usr/lib/*/ld-*)

  # What a clean environment has beside what the pool sets: nothing in it is secret.
  @kept ~w(PATH LANG LANGUAGE LC_ALL LC_COLLATE LC_CTYPE LC_MESSAGES LC_MONETARY LC_NUMERIC LC_TIME TZ)

  @type t :: %{
          read: [Path.t()],
          write: [Path.t()],
          connect: [:inet.port_number()] | false,
          listen: [:inet.port_number()] | false,
          exec: [Path.t()] | false,
          env: :clean | :inherit | [String.t()],
          processes: non_neg_integer(),
          files: pos_integer(),
          file_size: non_neg_integer() | :infinity,
          cpu_time: pos_integer() | :infinity,
          memory: pos_integer() | :infinity,
          best_effort: boolean()
        }

  @typedoc "What a worker cannot do without: files and folders to read, programs to run, and whether it starts processes."
  @type needs :: %{read: [Path.t()], exec: [Path.t()], forks: boolean()}

  @typedoc "As `Pythonx.Pool.info/1` tells it."
  @type report :: %{landlock: non_neg_integer(), holds: [atom()], lacks: %{atom() => String.t()}}

  ## The option

  @doc "Checks the option, and fills in the defaults. Raises an `ArgumentError` that names what is wrong."
  @spec validate!(term()) :: t() | nil
  def validate!(nil), do: nil
  def validate!(:strict), do: Map.new(@defaults)

  def validate!(given) do
    unless Keyword.keyword?(given), do: refuse!(":sandbox", ":strict or a keyword list", given)

    case Keyword.keys(given) -- Keyword.keys(@defaults) do
      [] -> :ok
      unknown -> refuse!(":sandbox", "a list of #{keys()}", Keyword.take(given, unknown))
    end

    @defaults
    |> Keyword.merge(given)
    |> Map.new()
    |> check_paths!()
    |> check_ports!()
    |> check_limits!()
    |> check_rest!()
  end

  defp keys, do: @defaults |> Keyword.keys() |> Enum.map_join(", ", &inspect/1)

  defp check_paths!(options) do
    options
    |> check!(:read, &paths?/1, "a list of absolute paths")
    |> check!(:write, &paths?/1, "a list of absolute paths")
    |> check!(:exec, &(&1 == false or paths?(&1)), "false or a list of absolute paths")
  end

  defp check_ports!(options) do
    Enum.reduce([:connect, :listen], options, fn key, options ->
      check!(options, key, &(&1 == false or ports?(&1)), "false or a list of ports from 1 to 65535")
    end)
  end

  defp check_limits!(options) do
    options
    |> check!(:processes, &natural?/1, "a non-negative integer")
    |> check!(:files, &(is_integer(&1) and &1 in @least_files..@most_files), "from #{@least_files} to #{@most_files}")
    |> check!(:file_size, &(&1 == :infinity or natural?(&1)), "a number of bytes or :infinity")
    |> check!(:cpu_time, &(&1 == :infinity or positive?(&1)), "a number of seconds or :infinity")
    |> check!(:memory, &(&1 == :infinity or positive?(&1)), "a number of bytes or :infinity")
  end

  defp check_rest!(options) do
    options
    |> check!(:env, &(&1 in [:clean, :inherit] or names?(&1)), ":clean, :inherit or a list of names")
    |> check!(:best_effort, &is_boolean/1, "a boolean")
  end

  defp paths?(value), do: is_list(value) and Enum.all?(value, &(text?(&1) and Path.type(&1) == :absolute))
  defp ports?(value), do: is_list(value) and Enum.all?(value, &(is_integer(&1) and &1 in 1..65_535))

  defp names?(value),
    do: is_list(value) and Enum.all?(value, &(text?(&1) and &1 != "" and not String.contains?(&1, "=")))

  defp text?(value), do: is_binary(value) and not String.contains?(value, <<0>>)
  defp natural?(value), do: is_integer(value) and value >= 0
  defp positive?(value), do: is_integer(value) and value > 0

  defp check!(options, key, valid?, expected) do
    value = options[key]
    if valid?.(value), do: options, else: refuse!("#{inspect(key)} of :sandbox", expected, value)
  end

  defp refuse!(what, expected, value) do
    raise ArgumentError, "expected #{what} to be #{expected}, got: #{inspect(value)}"
  end

  ## The launcher

  @doc "The arguments of the launcher for a worker that needs this, and has these environment variables set by the pool."
  @spec arguments(t() | nil, needs(), [String.t()]) :: [String.t()]
  def arguments(nil, _needs, _variables), do: []

  def arguments(options, needs, variables) do
    exec = (options.exec || []) ++ needs.exec
    processes = if needs.forks, do: [], else: ["-processes=#{options.processes}"]

    ["-sandbox", "-temporary=#{System.tmp_dir!()}"] ++
      processes ++
      limits(options) ++
      environment(options, variables) ++
      named("read", resolved(@system ++ needs.read ++ options.read)) ++
      named("write", options.write) ++
      named("exec", resolved(if(exec == [], do: [], else: exec ++ Enum.flat_map(@linkers, &Path.wildcard/1)))) ++
      named("connect", options.connect || []) ++
      named("listen", options.listen || []) ++
      best_effort(options)
  end

  defp limits(options) do
    for key <- [:files, :file_size, :cpu_time, :memory], options[key] != :infinity, do: "-#{key}=#{options[key]}"
  end

  defp environment(%{env: :inherit}, _variables), do: ["-keep"]
  defp environment(%{env: :clean}, variables), do: named("keep", Enum.uniq(@kept ++ variables))
  defp environment(%{env: names}, variables), do: named("keep", Enum.uniq(@kept ++ variables ++ names))

  defp best_effort(%{best_effort: true}), do: ["-best_effort"]
  defp best_effort(_options), do: []

  defp named(name, values), do: for(value <- values, do: "-#{name}=#{value}")

  # Rules are about files, not about names: where a name is a link, what it leads to counts.
  defp resolved(paths), do: paths |> Enum.map(&Path.expand/1) |> Enum.uniq()

  @doc "Variables that the pool sets because of the sandbox."
  @spec variables(t() | nil) :: %{String.t() => String.t()}
  # Names are looked up over TCP: a port of UDP is one that the kernel does not hold.
  def variables(%{connect: [_ | _]}), do: %{"RES_OPTIONS" => "use-vc"}
  def variables(_options), do: %{}

  @doc "Whether there is a limit on memory."
  @spec limits_memory?(t() | nil) :: boolean()
  def limits_memory?(nil), do: false
  def limits_memory?(options), do: options.memory != :infinity

  @doc """
  What a Python reads: its library, its installation, its environment, and more paths.

  Of an installation in a folder that it shares with others, what belongs to Pythons.
  """
  @spec python_folders(Path.t(), Path.t(), Path.t(), [Path.t()]) :: [Path.t()]
  def python_folders(libpython, root, executable, more) do
    paths = installation(root) ++ environment_of(executable) ++ [Path.dirname(libpython) | more]
    Enum.uniq(paths ++ Enum.map(paths, &Paths.real_path/1))
  end

  defp installation(root) when root in ["/", "/usr", "/usr/local"] do
    for folder <- ~w(bin lib lib64 include), do: Path.join(root, folder)
  end

  defp installation(root), do: [root]

  # A virtual environment, with its pyvenv.cfg; else the folder of the program.
  defp environment_of(executable) do
    folder = executable |> Path.dirname() |> Path.dirname()
    if File.exists?(Path.join(folder, "pyvenv.cfg")), do: [folder], else: [Path.dirname(executable)]
  end

  ## What holds

  @doc """
  What the kernel of this node holds of it; `nil` without a sandbox. Raises a `RuntimeError` when that is not all, unless
  `best_effort: true` is among the options.
  """
  @spec examine!(t() | nil) :: report() | nil
  def examine!(nil), do: nil

  def examine!(options) do
    launcher = :pythonx |> Application.app_dir("priv") |> Native.path(:launcher)

    case Program.run(launcher, ["-holds" | arguments(options, %{read: [], exec: [], forks: false}, [])]) do
      {:ok, text, 0} -> parse(text)
      {:ok, text, _status} -> raise "the sandbox of a pool cannot be had here: " <> lacking(text)
      {:error, reason} -> raise "the launcher of workers cannot be run: #{reason}"
    end
  end

  defp lacking(text) do
    %{lacks: lacks} = parse(text)
    sentences = for {what, why} <- Enum.sort(lacks), do: "no hold on #{what}, #{why}"
    Enum.join(sentences, "; ") <> ". With best_effort: true the rest holds on Linux"
  end

  @doc "Understands what the launcher says."
  @spec parse(String.t()) :: report()
  def parse(text) do
    for line <- String.split(text, "\n", trim: true), reduce: %{landlock: 0, holds: [], lacks: %{}} do
      report -> line |> String.split([" ", ": "], parts: 3) |> add(report)
    end
  end

  defp add(["landlock", version], report), do: %{report | landlock: String.to_integer(version)}
  defp add(["holds", what], report), do: %{report | holds: report.holds ++ [aspect(what)]}
  defp add(["lacks", what, why], report), do: put_in(report.lacks[aspect(what)], why)

  defp aspect("files"), do: :files
  defp aspect("ports"), do: :ports
  defp aspect("signals"), do: :signals
  defp aspect("system_calls"), do: :system_calls
  defp aspect("processes"), do: :processes
  defp aspect("everything"), do: :everything

  @doc "What holds on all of several nodes."
  @spec merge([report() | nil]) :: report() | nil
  def merge([report]), do: report
  def merge([nil | _reports]), do: nil

  def merge(reports) do
    lacks = Enum.reduce(reports, %{}, &Map.merge(&2, &1.lacks))
    landlock = reports |> Enum.map(& &1.landlock) |> Enum.min()
    %{landlock: landlock, holds: hd(reports).holds -- Map.keys(lacks), lacks: lacks}
  end
end
