defmodule Pythonx.Pool.Resource do
  # Something of a worker's memory that is no Python object: a call that waits for its answer, a table that is being made.
  @moduledoc false

  @enforce_keys [:worker, :pool, :reference, :marker]
  defstruct @enforce_keys

  @type t :: %__MODULE__{worker: pid(), pool: pid(), reference: reference(), marker: reference() | nil}
end
