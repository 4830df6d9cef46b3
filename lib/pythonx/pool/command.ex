defmodule Pythonx.Pool.Command do
  # The command line and the environment of a worker: the launcher, which runs the program beside the bridge (c_src/worker).
  @moduledoc false

  alias Pythonx.Host.Native
  alias Pythonx.Pool.Sandbox

  # Each of these libraries would start as many threads as there are cores, in each worker.
  @thread_variables ~w(OMP_NUM_THREADS OPENBLAS_NUM_THREADS MKL_NUM_THREADS BLIS_NUM_THREADS NUMEXPR_NUM_THREADS
                       VECLIB_MAXIMUM_THREADS RAYON_NUM_THREADS POLARS_MAX_THREADS)

  @type t :: %{program: String.t(), args: [String.t()], env: [{charlist(), charlist() | false}]}

  @doc "The command for a worker with these options of the pool."
  @spec build(map(), Pythonx.Boot.plan()) :: t()
  def build(options, plan) do
    echo = if options.stderr == :inherit, do: "1", else: "0"
    env = env(options)
    args = ["#{options.nice}", "#{options.stderr_limit}", echo] ++ sandbox(options, plan, env) ++ [plan.program]
    %{program: launcher(), args: args, env: env}
  end

  defp sandbox(%{sandbox: nil}, _plan, _env), do: []

  defp sandbox(options, plan, env) do
    own = [Path.dirname(plan.bridge), Application.app_dir(:pythonx, "priv") | plan.reads ++ plan.folders]
    folders = Sandbox.python_folders(plan.libpython, plan.root, plan.executable, own)
    names = for {name, value} <- env, value != false, do: to_string(name)
    Sandbox.arguments(options.sandbox, %{read: folders, exec: [], forks: false}, names)
  end

  defp launcher do
    path = :pythonx |> Application.app_dir("priv") |> Native.path(:launcher)
    if File.exists?(path), do: path, else: raise("the program #{path} is missing, which mix compile builds")
  end

  # The one that is there for large structures reserves a gigabyte at a time, which the limit counts as used. A free-threaded
  # Python has no other, but one may tell it not to.
  defp allocator(options) do
    if options.max_memory || Sandbox.limits_memory?(options.sandbox),
      do: %{"PYTHONMALLOC" => "default", "MIMALLOC_ARENA_RESERVE" => "0"},
      else: %{}
  end

  # What would make its Python another than this VM means it to be.
  defp env(options) do
    own = %{"PYTHONX_INIT_STATE" => nil}
    threads = for name <- @thread_variables, System.get_env(name) == nil, into: %{}, do: {name, "#{options.threads}"}

    own = own |> Map.merge(allocator(options)) |> Map.merge(Sandbox.variables(options.sandbox))

    for {name, value} <- threads |> Map.merge(own) |> Map.merge(options.env) do
      {String.to_charlist(name), if(value, do: String.to_charlist(value), else: false)}
    end
  end
end
