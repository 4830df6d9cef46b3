defmodule Pythonx.Integrations.Explorer do
  # Between data frames of Explorer and tables, by Arrow's IPC format. Explorer is no dependency: it is called where it is.
  @moduledoc false

  alias Pythonx.Table

  @doc """
  See `Pythonx.Table.from_explorer/1`.
  """
  @spec to_table(struct()) :: Table.t()
  def to_table(frame) do
    :dump_ipc_stream |> explorer!([frame]) |> ipc("read_ipc_stream") |> Table.from_object()
  end

  @doc """
  See `Pythonx.Table.to_explorer/1`.
  """
  @spec from_table(Table.t()) :: struct()
  def from_table(table) do
    explorer!(:load_ipc_stream, [table |> ipc("write_ipc_stream") |> Pythonx.decode()])
  end

  defp ipc(argument, function) do
    opts = %{decode: false, binaries: :bytes, timeout: :infinity}
    Pythonx.Calls.run(:internal, {argument}, ["pythonx._tables", function], opts)
  end

  defp explorer!(function, arguments) do
    if not Code.ensure_loaded?(Explorer.DataFrame), do: raise("Explorer is not loaded")

    case apply(Explorer.DataFrame, function, arguments) do
      {:ok, result} -> result
      {:error, error} -> raise error
    end
  end
end
