defmodule Pythonx.Pool.Object do
  @moduledoc """
  A handle to a Python object in a worker of a `Pythonx.Pool`.

  It is what `Pythonx.Pool.eval/4` and `Pythonx.Pool.call/5` give for what has no counterpart in Elixir, or for
  everything with `decode: false`. The object stays where it is. Passed back to the same pool, inside lists, tuples and
  maps too, it is the identical object, and the evaluation runs in the worker that has it:

      iex> {items, %{}} = Pythonx.Pool.eval(MyPool, "[1, 2]", %{}, decode: false)
      iex> {nil, %{}} = Pythonx.Pool.eval(MyPool, "items.append(3)", %{"items" => items})
      iex> Pythonx.Pool.eval(MyPool, "items", %{"items" => items})
      {[1, 2, 3], %{}}

  The object lives for as long as a handle to it does on the node that got it, or until its worker dies. A worker of
  which there are handles is not replaced when its `:max_uses` are used up, but only when the last of them is gone.

  Fields:

    * `:type` - the name of the object's class, with its module unless it is built in
  """

  defstruct [:worker, :id, :marker, :type]

  @opaque handle :: {pid() | nil, pos_integer(), reference() | nil}
  @type t :: %__MODULE__{worker: pid() | nil, id: pos_integer(), marker: reference() | nil, type: String.t()}

  # Objects are in this table of a worker.
  @table __MODULE__

  @doc false
  @spec new_table() :: atom()
  def new_table do
    :ets.new(@table, [:named_table, :public])
    :ets.insert(@table, {:next_id, 1})
    @table
  end

  # There is one job at a time, so nobody else counts between these two.
  @doc false
  @spec next_id() :: pos_integer()
  def next_id, do: :ets.lookup_element(@table, :next_id, 2)

  @doc false
  @spec advance_ids(pos_integer()) :: true
  def advance_ids(next), do: :ets.insert(@table, {:next_id, next})

  @doc false
  @spec keep(Pythonx.Object.t(), pos_integer()) :: t()
  def keep(object, id) do
    :ets.insert(@table, {id, object})
    %__MODULE__{id: id, type: type(object)}
  end

  # Asked for where memory may have run out.
  defp type(object) do
    Pythonx.type(object)
  rescue
    _error in Pythonx.Error -> "object"
  end

  @doc false
  @spec release([pos_integer()]) :: :ok
  def release(ids), do: Enum.each(ids, &:ets.delete(@table, &1))

  @doc false
  @spec fetch!(t()) :: Pythonx.Object.t()
  def fetch!(%__MODULE__{id: id} = handle) do
    case :ets.whereis(@table) != :undefined and :ets.lookup(@table, id) do
      [{^id, object}] -> object
      _none -> raise ArgumentError, "#{inspect(handle)} lives in a worker of a pool, and only there it can be used"
    end
  end
end

defimpl Pythonx.Encoder, for: Pythonx.Pool.Object do
  def encode(handle, _encoder), do: Pythonx.Pool.Object.fetch!(handle)
end

defimpl Inspect, for: Pythonx.Pool.Object do
  # Python is not asked: the worker may be busy, with code that the very process waits for that inspects.
  def inspect(handle, _opts), do: "#Pythonx.Pool.Object<#{handle.type}, #{handle.id} in #{worker(handle.worker)}>"

  defp worker(nil), do: "its worker"
  defp worker(pid), do: "worker " <> String.slice(Kernel.inspect(pid), 5..-2//1)
end
