defmodule Pythonx.Pool.Atoms do
  # The atoms that the workers of each pool have made in this VM, where they are never freed. Those of a pool are counted over
  # all lives of its workers; see `Pythonx.Pool.External`. It is on every node, as a caller may be on another than its pool.
  @moduledoc false

  use GenServer

  alias Pythonx.Pool.External

  # As Python's own limit, in c_src/bridge/conversion/atom.cpp.
  @limit 10_000

  @spec start_link(term()) :: GenServer.on_start()
  def start_link(_opts), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)

  @doc """
  Makes the atoms of these names for a pool. Either all or none: a name for which there is no room any more is returned
  then. `:error` if one of them cannot be an atom.
  """
  @spec make(GenServer.server(), External.names()) :: :ok | {:full, String.t()} | :error
  def make(pool, names) do
    names = Map.keys(names)

    cond do
      not Enum.all?(names, &valid?/1) -> :error
      length(names) > @limit -> {:full, hd(names)}
      true -> GenServer.call(__MODULE__, {:make, key(pool), names}, :infinity)
    end
  end

  @doc "How many there may be of a pool."
  @spec limit() :: pos_integer()
  def limit, do: @limit

  defp valid?(name), do: String.valid?(name) and length(String.codepoints(name)) <= 255

  # A pool that is started again under its name is the same one.
  defp key(pool) when is_pid(pool) do
    case node(pool) == node() && Process.info(pool, :registered_name) do
      {:registered_name, name} -> name
      _none -> pool
    end
  end

  defp key({name, node}) when node == node(), do: name
  defp key(pool), do: pool

  @impl true
  def init(nil), do: {:ok, %{}}

  # Others may have made some of them meanwhile.
  @impl true
  def handle_call({:make, pool, names}, _from, counts) do
    new = Enum.reject(names, &External.atom?/1)
    count = Map.get(counts, pool, 0) + length(new)

    if count > @limit or nearly_full?(length(new)) do
      {:reply, {:full, List.first(new) || List.first(names)}, counts}
    else
      Enum.each(new, &String.to_atom/1)
      {:reply, :ok, Map.put(counts, pool, count)}
    end
  end

  # Many pools, each with its own, must not fill the table either.
  defp nearly_full?(new) do
    4 * (:erlang.system_info(:atom_count) + new) > 3 * :erlang.system_info(:atom_limit)
  end
end
