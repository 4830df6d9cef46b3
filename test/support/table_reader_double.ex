# A double: the protocol of this name in the package `table`, as far as Pythonx needs it.
defprotocol Table.Reader do
  @moduledoc false

  @spec init(term()) :: {:columns | :rows, map(), Enumerable.t()} | :none
  def init(tabular)
end
