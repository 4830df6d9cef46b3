# A double: what Pythonx calls of Explorer, which is no dependency. A frame is the stream of Arrow's IPC format that Explorer
# would make of it.
defmodule Explorer.DataFrame do
  @moduledoc false

  defstruct [:stream]

  def dump_ipc_stream(frame, opts \\ [])
  def dump_ipc_stream(%__MODULE__{stream: nil}, _opts), do: {:error, RuntimeError.exception("Polars Error: no data")}
  def dump_ipc_stream(%__MODULE__{stream: stream}, _opts), do: {:ok, stream}

  def load_ipc_stream(stream, _opts \\ []) when is_binary(stream), do: {:ok, %__MODULE__{stream: stream}}
end
