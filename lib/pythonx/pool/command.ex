defmodule Pythonx.Pool.Command do
  # The command line and the environment of a worker: the launcher, which runs the program beside the bridge (c_src/worker).
  @moduledoc false

  alias Pythonx.Host.Native

  # Each of these libraries would start as many threads as there are cores, in each worker.
  @thread_variables ~w(OMP_NUM_THREADS OPENBLAS_NUM_THREADS MKL_NUM_THREADS BLIS_NUM_THREADS NUMEXPR_NUM_THREADS
                       VECLIB_MAXIMUM_THREADS RAYON_NUM_THREADS POLARS_MAX_THREADS)

  @type t :: %{program: String.t(), args: [String.t()], env: [{charlist(), charlist() | false}]}

  @doc "The command for a worker with these options of the pool, which the program is."
  @spec build(map(), Path.t()) :: t()
  def build(options, program) do
    echo = if options.stderr == :inherit, do: "1", else: "0"
    args = ["#{options.nice}", "#{options.stderr_limit}", echo, program]
    %{program: launcher(), args: args, env: env(options)}
  end

  defp launcher do
    path = :pythonx |> Application.app_dir("priv") |> Native.path(:launcher)
    if File.exists?(path), do: path, else: raise("the program #{path} is missing, which mix compile builds")
  end

  # The one that is there for large structures reserves a gigabyte at a time, which the limit counts as used. A free-threaded
  # Python has no other, but one may tell it not to.
  defp allocator(%{max_memory: nil}), do: %{}
  defp allocator(_options), do: %{"PYTHONMALLOC" => "default", "MIMALLOC_ARENA_RESERVE" => "0"}

  # What would make its Python another than this VM means it to be.
  defp env(options) do
    own = %{"PYTHONX_INIT_STATE" => nil}
    threads = for name <- @thread_variables, System.get_env(name) == nil, into: %{}, do: {name, "#{options.threads}"}

    for {name, value} <- threads |> Map.merge(own) |> Map.merge(allocator(options)) |> Map.merge(options.env) do
      {String.to_charlist(name), if(value, do: String.to_charlist(value), else: false)}
    end
  end
end
