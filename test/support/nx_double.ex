# A double: what Pythonx needs of Nx, with the names and shapes that Nx has. Nx itself is no dependency.
defmodule Nx.Tensor do
  @moduledoc false
  defstruct [:data, :type, :shape, names: [], vectorized_axes: []]
end

defmodule Nx do
  @moduledoc false

  def from_binary(data, {_kind, bits} = type, opts) when is_binary(data) do
    shape = {div(bit_size(data), bits)}
    %Nx.Tensor{data: {opts[:backend], data}, type: type, shape: shape, names: [nil]}
  end

  def reshape(tensor, shape) do
    true = Tuple.product(tensor.shape) == Tuple.product(shape)
    true = shape |> Tuple.to_list() |> Enum.all?(&(&1 > 0))
    %{tensor | shape: shape, names: List.duplicate(nil, tuple_size(shape))}
  end

  def devectorize(tensor) do
    sizes = Keyword.values(tensor.vectorized_axes)
    %{tensor | shape: List.to_tuple(sizes ++ Tuple.to_list(tensor.shape)), vectorized_axes: []}
  end

  def to_binary(%{data: {_backend, data}}), do: data
  def type(tensor), do: tensor.type
  def shape(tensor), do: tensor.shape
end
