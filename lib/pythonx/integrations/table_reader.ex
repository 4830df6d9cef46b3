defmodule Table.Reader.Pythonx.Table do
  # For the package `table`. Columns are read when and as far as somebody asks for their values.
  @moduledoc false
  use Pythonx.Integrations.Implementation, protocol: Table.Reader, for: Pythonx.Table

  @spec init(Pythonx.Table.t()) :: {:columns, map(), [Pythonx.Table.Column.t()]}
  def init(%Pythonx.Table{} = table) do
    columns = for {_name, index} <- Enum.with_index(table.names), do: %Pythonx.Table.Column{table: table, index: index}
    {:columns, %{columns: table.names, count: table.row_count}, columns}
  end
end
