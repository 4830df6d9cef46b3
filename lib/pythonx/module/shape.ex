defmodule Pythonx.Module.Shape do
  @moduledoc false

  # What is made of a decoded result: see `Pythonx.Module.Types`. A hint may be wrong, so what does not fit stays as it is.

  alias Pythonx.Object

  @doc "The result in the shape that its hint says."
  @spec form(Pythonx.Module.Types.shape(), term(), map()) :: term()
  def form(nil, value, _python), do: value
  def form({:class, module}, %Object{} = object, _python), do: struct(module, object: object)
  def form({:class, module}, %Pythonx.Pool.Object{} = object, _python), do: struct(module, object: object)
  def form(:table, %Object{} = object, python), do: Pythonx.table(object, timeout: python.timeout)

  # Arrays of text and of objects have no counterpart.
  def form(:array, %Object{} = object, _python) do
    if Code.ensure_loaded?(Nx), do: Pythonx.to_nx(object), else: object
  rescue
    _error in ArgumentError -> object
  end

  def form({:stream, {how, shape}}, %Object{} = iterator, python) do
    elements =
      if how == :rich do
        iterator
        |> Pythonx.stream(decode: false, timeout: python.timeout)
        |> Stream.map(&Pythonx.decode(&1, types: :rich))
      else
        Pythonx.stream(iterator, timeout: python.timeout)
      end

    if shape, do: Stream.map(elements, &form(shape, &1, python)), else: elements
  end

  def form({:data, module, fields}, %{} = map, python) when not is_struct(map) do
    if Enum.all?(fields, fn {key, _field, _shape} -> is_map_key(map, key) end) do
      struct(module, for({key, field, shape} <- fields, do: {field, form(shape, Map.fetch!(map, key), python)}))
    else
      map
    end
  end

  def form({:keys, fields}, %{} = map, python) when not is_struct(map) do
    Enum.reduce(fields, map, fn {key, field, shape}, map ->
      case map do
        %{^key => value} -> map |> Map.delete(key) |> Map.put(field, form(shape, value, python))
        _missing -> map
      end
    end)
  end

  def form({:list, shape}, list, python) when is_list(list), do: Enum.map(list, &form(shape, &1, python))

  def form({:tuple_of, shape}, tuple, python) when is_tuple(tuple) do
    tuple |> Tuple.to_list() |> Enum.map(&form(shape, &1, python)) |> List.to_tuple()
  end

  def form({:tuple, shapes}, tuple, python) when tuple_size(tuple) == length(shapes) do
    shapes
    |> Enum.zip(Tuple.to_list(tuple))
    |> Enum.map(fn {shape, value} -> form(shape, value, python) end)
    |> List.to_tuple()
  end

  def form({:map, key_shape, value_shape}, %{} = map, python) when not is_struct(map) do
    Map.new(map, fn {key, value} -> {form(key_shape, key, python), form(value_shape, value, python)} end)
  end

  def form({:set, shape}, %MapSet{} = set, python), do: MapSet.new(set, &form(shape, &1, python))

  # The first that makes something of it.
  def form({:any_of, shapes}, value, python) do
    Enum.find_value(shapes, value, fn shape ->
      shaped = form(shape, value, python)
      if shaped != value, do: shaped
    end)
  end

  def form(_shape, value, _python), do: value
end
