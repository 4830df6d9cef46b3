defimpl Pythonx.Encoder, for: Pythonx.Table do
  def encode(table, encoder), do: Pythonx.Encoder.encode(table.object, encoder)
end

defimpl Inspect, for: Pythonx.Table do
  import Inspect.Algebra

  def inspect(table, opts) do
    rows = if table.row_count == 1, do: "1 row", else: "#{table.row_count} rows"
    columns = for column <- Pythonx.Table.columns(table), do: {:column, column}
    container_doc("#Pythonx.Table<", [rows | columns], ">", opts, &show/2, separator: ",", break: :flex)
  end

  defp show({:column, {name, type}}, opts), do: concat([label(name), ": ", to_doc(type, %{opts | limit: :infinity})])
  defp show(rows, _opts), do: rows

  defp label(name), do: if(name =~ ~r/\A[a-zA-Z_]\w*\z/, do: name, else: Kernel.inspect(name))
end
