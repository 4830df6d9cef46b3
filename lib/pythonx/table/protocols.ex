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

defmodule Table.Reader.Pythonx.Table do
  # What `defimpl Table.Reader, for: Pythonx.Table` would compile to, written by hand, as in integrations/flame.ex: the
  # package `table` is no dependency of ours, and may be compiled before or after us, or not at all.
  #
  # Columns are read when and as far as somebody asks for their values.
  @moduledoc false

  Module.register_attribute(__MODULE__, :__impl__, persist: true)
  @__impl__ [protocol: Table.Reader, for: Pythonx.Table]

  @spec init(Pythonx.Table.t()) :: {:columns, map(), [Pythonx.Table.Column.t()]}
  def init(%Pythonx.Table{} = table) do
    columns = for {_name, index} <- Enum.with_index(table.names), do: %Pythonx.Table.Column{table: table, index: index}
    {:columns, %{columns: table.names, count: table.row_count}, columns}
  end

  @doc false
  @spec __impl__(:for | :protocol | :target) :: module()
  def __impl__(:for), do: Pythonx.Table
  def __impl__(:protocol), do: Table.Reader
  def __impl__(:target), do: __MODULE__
end

defmodule Kino.Render.Pythonx.Table do
  # The same for `Kino.Render`: in Livebook, a table is shown as one.
  @moduledoc false

  Module.register_attribute(__MODULE__, :__impl__, persist: true)
  @__impl__ [protocol: Kino.Render, for: Pythonx.Table]

  @compile {:no_warn_undefined, [Kino.DataTable, Kino.Render]}

  @spec to_livebook(Pythonx.Table.t()) :: map()
  def to_livebook(%Pythonx.Table{} = table) do
    table |> Kino.DataTable.new(name: "Pythonx.Table") |> Kino.Render.to_livebook()
  end

  @doc false
  @spec __impl__(:for | :protocol | :target) :: module()
  def __impl__(:for), do: Pythonx.Table
  def __impl__(:protocol), do: Kino.Render
  def __impl__(:target), do: __MODULE__
end
