defmodule Pythonx.Pool.Command do
  # The command line and the environment of a worker: the launcher, which runs a VM, which loads the same code as this one.
  @moduledoc false

  alias Pythonx.Host.{Cache, Native}
  alias Pythonx.Pool.Sandbox
  alias Pythonx.Uv.{Environment, Project}

  # Each of these libraries would start as many threads as there are cores, in each worker.
  @thread_variables ~w(OMP_NUM_THREADS OPENBLAS_NUM_THREADS MKL_NUM_THREADS BLIS_NUM_THREADS NUMEXPR_NUM_THREADS
                       VECLIB_MAXIMUM_THREADS RAYON_NUM_THREADS POLARS_MAX_THREADS)

  # Python runs on threads of its own: one scheduler of each kind is enough. None spins while it waits, as there are
  # more workers than cores.
  @vm_flags ~w(+S 1:1 +SDcpu 1:1 +SDio 2 +A 1 +sbwt none +sbwtdcpu none +sbwtdio none +sss 128)

  # A name makes this VM's process identifiers foreign ones there, where they would else be taken for the worker's own.
  # With these flags the VM has the name, and neither listens nor connects: no epmd, no port, no use for the cookie.
  @nameless ~w(-dist_listen false -start_epmd false -setcookie none -kernel dist_auto_connect never)

  @type t :: %{program: String.t(), args: [String.t()], env: [{charlist(), charlist() | false}]}

  @doc "The command for a worker with these options of the pool, in an environment."
  @spec build(map(), {String.t(), boolean(), keyword()}) :: t()
  def build(options, environment) do
    echo = if options.stderr == :inherit, do: "1", else: "0"
    env = env(options)
    launcher = ["#{options.nice}", "#{options.stderr_limit}", echo] ++ sandbox(options, environment, env)
    %{program: launcher(), args: launcher ++ [erlexec() | vm_args()], env: env}
  end

  defp sandbox(%{sandbox: nil}, _environment, _env), do: []

  # The VM needs itself: its programs, which it starts as processes, and all modules.
  defp sandbox(options, {toml, private?, opts}, env) do
    project = Project.new(toml, private?, Pythonx.Uv.Options.validate!(opts))
    python = Environment.load!(project)
    vm = [to_string(:code.root_dir()), to_string(:code.lib_dir(:elixir)), Application.app_dir(:pythonx, "priv")]
    own = [Cache.base_dir() |> Path.join("bridge"), project.dir, python.site_packages | Pythonx.Files.folders()]
    folders = Sandbox.python_folders(python.libpython, python.python_root, python.executable, own ++ vm ++ code_paths())
    needs = %{read: folders, exec: [erts_bin(), "/bin/sh"], forks: true}
    names = for {name, value} <- env, value != false, do: to_string(name)
    Sandbox.arguments(options.sandbox, needs, ~w(PYTHONX_CACHE_DIR UV_PYTHON_INSTALL_DIR) ++ names)
  end

  defp launcher do
    path = :pythonx |> Application.app_dir("priv") |> Native.path(:launcher)
    if File.exists?(path), do: path, else: raise("the program #{path} is missing, which mix compile builds")
  end

  defp vm_args do
    name = "pythonx_worker_#{System.unique_integer([:positive])}@localhost"

    @vm_flags ++
      code_mapping() ++
      ["-sname", name | @nameless] ++
      ~w(-noinput -mode interactive) ++
      boot() ++ ["-pa" | Enum.reverse(code_paths())] ++ ~w(-s Elixir.Pythonx.Pool.Child)
  end

  # How often the VM maps its own code is no matter of taste: where an emulator runs its processor, as in an image for another
  # one, a VM that maps it twice hangs. No function tells.
  defp code_mapping do
    flags = for name <- ~w(ERL_AFLAGS ERL_FLAGS ERL_ZFLAGS ELIXIR_ERL_OPTIONS), do: System.get_env(name, "")
    if Enum.any?(flags, &(&1 =~ ~r/\+JMsingle\s+true/)), do: ~w(+JMsingle true), else: []
  end

  # OTP's own folders are known to every VM. Of two modules of one name the same one counts there as here; `-pa` puts each
  # folder before the last.
  defp code_paths do
    otp = Path.join(:code.root_dir(), "lib") <> "/"

    for path <- :code.get_path(), path = to_string(path), path != ".", not otp?(path, otp), do: Path.expand(path)
  end

  # In a release everything is in one folder.
  defp otp?(path, otp), do: release_boot() == nil and String.starts_with?(path, otp)

  defp boot do
    case release_boot() do
      nil -> ["-boot", "no_dot_erlang"]
      boot -> ["-boot", boot, "-boot_var", "RELEASE_LIB", Path.join(:code.root_dir(), "lib")]
    end
  end

  # A release has no boot file under the name by which a VM would find it.
  defp release_boot do
    with {:ok, [[boot] | _]} <- :init.get_argument(:boot),
         start_clean = boot |> to_string() |> Path.dirname() |> Path.join("start_clean"),
         true <- File.exists?(start_clean <> ".boot") and boot_var?() do
      start_clean
    else
      _ -> nil
    end
  end

  defp boot_var?, do: :init.get_argument(:boot_var) != :error

  defp erts_bin do
    erts = "erts-#{:erlang.system_info(:version)}"
    candidates = [Path.join([:code.root_dir(), erts, "bin"]), System.get_env("BINDIR", "")]

    Enum.find(candidates, &File.exists?(Path.join(&1, "erlexec"))) ||
      raise "a pool needs the program erlexec of Erlang, which is in none of #{Enum.join(candidates, ", ")}"
  end

  defp erlexec, do: Path.join(erts_bin(), "erlexec")

  # The one that is there for large structures reserves a gigabyte at a time, which the limit counts as used. A free-threaded
  # Python has no other, but one may tell it not to.
  defp allocator(options) do
    if options.max_memory || Sandbox.limits_memory?(options.sandbox),
      do: %{"PYTHONMALLOC" => "default", "MIMALLOC_ARENA_RESERVE" => "0"},
      else: %{}
  end

  # What the script `erl` would set, and what would make the worker's VM or its Python other than this one means them to be.
  defp env(options) do
    vm = %{
      "ROOTDIR" => to_string(:code.root_dir()),
      "BINDIR" => erts_bin(),
      "EMU" => "beam",
      "PROGNAME" => "erl",
      "ERL_CRASH_DUMP_BYTES" => "0",
      "ERL_FLAGS" => nil,
      "ERL_AFLAGS" => nil,
      "ERL_ZFLAGS" => nil,
      "PYTHONX_INIT_STATE" => nil
    }

    threads = for name <- @thread_variables, System.get_env(name) == nil, into: %{}, do: {name, "#{options.threads}"}

    own = vm |> Map.merge(allocator(options)) |> Map.merge(Sandbox.variables(options.sandbox))

    for {name, value} <- threads |> Map.merge(own) |> Map.merge(options.env) do
      {String.to_charlist(name), if(value, do: String.to_charlist(value), else: false)}
    end
  end
end
