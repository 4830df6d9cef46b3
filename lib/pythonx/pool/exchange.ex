defmodule Pythonx.Pool.Exchange do
  # What is replaced in terms on their way to a worker and back: objects of the worker by the references that it knows them by, and
  # functions of this VM by numbers.
  @moduledoc false

  alias Pythonx.Pool.{External, Handles, Object, Reference, Resource, Terms, Worker}

  @typedoc "Where a term comes from. The functions are those of the worker's process, or asked for."
  @type origin :: %{
          worker: pid(),
          pool: pid(),
          creation: pos_integer(),
          functions: %{non_neg_integer() => function()} | :ask
        }

  @typedoc "A term for a worker: its bytes, what is in them, the worker that it belongs to if any, and the functions in it."
  @type prepared :: {[binary()], External.content(), pid() | nil, [{non_neg_integer(), function()}]}

  @doc "A term as a worker is to get it."
  @spec prepare(term()) :: prepared()
  def prepare(term) do
    pieces = :erlang.term_to_iovec(term)
    content = External.content(pieces)

    if External.any?(content, :objects) or External.any?(content, :functions) do
      {term, {worker, functions}} = Terms.map_reduce(term, {nil, []}, &replace/2)
      pieces = :erlang.term_to_iovec(term)
      {pieces, External.content(pieces), worker, functions}
    else
      {pieces, content, nil, []}
    end
  end

  defp replace(%Object{reference: nil} = object, _acc) do
    raise ArgumentError, "#{inspect(object)} lives in a worker of a pool, and only there it can be used"
  end

  defp replace(%Object{worker: worker, reference: reference}, {other, functions}) do
    {%Pythonx.Object{resource: reference}, {same!(worker, other), functions}}
  end

  defp replace(%Resource{worker: worker, reference: reference}, {other, functions}) do
    {reference, {same!(worker, other), functions}}
  end

  defp replace(%Pythonx.Object{}, _acc) do
    raise ArgumentError,
          "a Pythonx.Object belongs to the Python of this VM and cannot be used in a worker of a pool. Decode it, or " <>
            "evaluate in the pool what it was made by"
  end

  defp replace(function, {worker, functions}) when is_function(function) do
    number = System.unique_integer([:positive])
    {Reference.function(number), {worker, [{number, function} | functions]}}
  end

  defp replace(_other, _acc), do: :walk

  defp same!(worker, other) when other in [nil, worker], do: worker
  defp same!(_worker, _other), do: raise_elsewhere!()

  @doc "Raises the error for objects that do not meet."
  @spec raise_elsewhere!() :: no_return()
  def raise_elsewhere! do
    raise ArgumentError,
          "the objects are in different workers, and each can be used in its own only. Evaluations of one " <>
            "Pythonx.Pool.run/3 have the same worker"
  end

  @doc "A term as somebody here is to get it. From here on the garbage collector of this node decides how long the objects live."
  @spec adopt(term(), non_neg_integer(), origin()) :: {:ok, term()} | :error
  def adopt(term, count, origin) do
    with {:ok, functions} <- functions(term, origin),
         {term, ^count} <- Terms.map_reduce(term, 0, &adopt_one(&1, &2, %{origin | functions: functions})) do
      {:ok, term}
    else
      _forged -> :error
    end
  rescue
    # A struct that is none, such as a set without its map.
    _damaged in [ArgumentError, BadMapError, FunctionClauseError, Protocol.UndefinedError, KeyError] -> :error
  end

  # Those that the worker's process has are asked for once.
  defp functions(term, %{functions: :ask, worker: worker}) do
    {_term, numbers} =
      Terms.map_reduce(term, [], fn
        reference, numbers when is_reference(reference) ->
          with {:function, number} <- Reference.read(reference), do: {reference, [number | numbers]}, else: (_ -> :walk)

        _other, _numbers ->
          :walk
      end)

    if numbers == [], do: {:ok, %{}}, else: Worker.functions(worker, Enum.uniq(numbers))
  end

  defp functions(_term, %{functions: functions}), do: {:ok, functions}

  defp adopt_one(%Pythonx.Object{resource: reference, remote_info: type}, count, origin) when is_reference(reference) do
    number = number!(reference, origin)
    type = if is_binary(type), do: type, else: "object"

    object = %Object{
      worker: origin.worker,
      pool: origin.pool,
      id: number,
      reference: reference,
      marker: Handles.marker(origin.worker, number),
      type: type
    }

    {object, count + 1}
  end

  defp adopt_one(%Pythonx.Object{}, _count, _origin), do: raise(ArgumentError, "forged")
  defp adopt_one(%Object{} = object, count, _origin), do: {dead(object), count}
  defp adopt_one(%Resource{}, _count, _origin), do: raise(ArgumentError, "forged")

  defp adopt_one(reference, count, %{creation: creation} = origin) when is_reference(reference) do
    case Reference.read(reference) do
      {:resource, ^creation, number} ->
        marker = Handles.marker(origin.worker, number)
        {%Resource{worker: origin.worker, pool: origin.pool, reference: reference, marker: marker}, count + 1}

      {:resource, _creation, _number} ->
        raise ArgumentError, "forged"

      {:function, number} ->
        {Map.fetch!(origin.functions, number), count}

      _real_or_of_python ->
        :walk
    end
  end

  defp adopt_one(_other, _count, _origin), do: :walk

  defp number!(reference, %{creation: creation}) do
    case Reference.read(reference) do
      {:resource, ^creation, number} -> number
      _other -> raise ArgumentError, "forged"
    end
  end

  # One that a term has brought along is a handle to nothing.
  defp dead(object) do
    id = if is_integer(object.id), do: object.id, else: 0
    %Object{worker: nil, id: id, type: if(is_binary(object.type), do: object.type, else: "object")}
  end
end
