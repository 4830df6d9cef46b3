defmodule Pythonx.Module.Types do
  @moduledoc false

  # Hints of Python's (see priv/python/pythonx/_hints.py) as Elixir's types, and as what is done with a result.
  #
  # A result is decoded in one walk, with rich types where its hint has any, and then shaped: objects become the structs of
  # their classes, streams, tensors and tables, maps become structs.

  @typedoc "A hint: a list that begins with the name of what it is."
  @type hint :: [term()]

  @typedoc "What is known of the module: its own module in Elixir, and its classes."
  @type context :: %{
          classes: %{String.t() => %{module: module(), kind: String.t(), fields: list()}},
          self: String.t() | nil
        }

  @typedoc "How a result is decoded, and shaped after that."
  @type plan :: {:basic | :rich, shape()}
  @type shape :: nil | atom() | tuple()

  @rich ~w(date datetime time timedelta decimal uuid path range complex)

  ## Types

  @doc "The type of an argument or of a result, as code."
  @spec spec(hint(), :in | :out, context()) :: Macro.t()
  def spec(["int"], _way, _context), do: quote(do: integer())
  def spec(["float"], :in, _context), do: quote(do: number())
  def spec(["float"], :out, _context), do: quote(do: float())
  def spec(["bool"], _way, _context), do: quote(do: boolean())
  def spec(["str"], _way, _context), do: quote(do: String.t())
  def spec(["bytes"], _way, _context), do: quote(do: binary())
  def spec(["none"], _way, _context), do: nil
  def spec(["date"], _way, _context), do: quote(do: Date.t())
  def spec(["datetime"], _way, _context), do: quote(do: DateTime.t() | NaiveDateTime.t())
  def spec(["time"], _way, _context), do: quote(do: Time.t())
  def spec(["range"], _way, _context), do: quote(do: Range.t())
  def spec([name], _way, _context) when name in ["decimal", "timedelta"], do: quote(do: struct())
  def spec([name], _way, _context) when name in ["uuid", "path"], do: quote(do: String.t())
  def spec(["complex"], :out, _context), do: quote(do: {float(), float()})
  def spec(["callable"], :in, _context), do: quote(do: fun() | Pythonx.Object.t())
  def spec(["callable"], :out, _context), do: quote(do: Pythonx.Object.t())
  def spec(["array"], :in, _context), do: quote(do: struct() | list() | number())

  def spec(["array"], :out, _context),
    do: if(Code.ensure_loaded?(Nx), do: quote(do: Nx.Tensor.t()), else: quote(do: Pythonx.Object.t()))

  def spec(["table"], :in, _context), do: quote(do: Pythonx.Table.t() | Pythonx.Object.t())
  def spec(["table"], :out, _context), do: quote(do: Pythonx.Table.t())
  def spec(["list", inner], way, context), do: [spec(inner, way, context)]
  def spec(["iterable", _inner], :in, _context), do: quote(do: Enumerable.t())
  def spec(["iterator", _inner], _way, _context), do: quote(do: Enumerable.t())
  def spec(["awaitable", inner], :out, context), do: spec(inner, :out, context)
  def spec(["tuple", items], way, context), do: {:{}, [], Enum.map(items, &spec(&1, way, context))}
  def spec(["tuple_of", _inner], _way, _context), do: quote(do: tuple())

  def spec(["dict", key, value], way, context) do
    quote(do: %{optional(unquote(spec(key, way, context))) => unquote(spec(value, way, context))})
  end

  def spec(["set", inner], way, context), do: quote(do: MapSet.t(unquote(spec(inner, way, context))))

  def spec(["union", parts], way, context) do
    parts |> Enum.map(&spec(&1, way, context)) |> unite()
  end

  def spec(["literal", values], _way, _context) do
    values |> Enum.map(&if(is_binary(&1), do: quote(do: String.t()), else: &1)) |> unite()
  end

  def spec(["self"], way, %{self: name} = context) when is_binary(name), do: spec(["class", name], way, context)

  def spec(["class", name], way, context) do
    case context.classes[name] do
      %{kind: kind, module: module} when kind in ["class", "dataclass"] ->
        own = quote(do: unquote(module).t())
        if way == :in, do: unite([own, quote(do: Pythonx.Object.t())]), else: own

      %{kind: "typed_dict", fields: fields} ->
        {:%{}, [], Enum.map(fields, &field_spec(&1, way, context))}

      %{kind: "named_tuple"} ->
        quote(do: tuple())

      _enum_or_unknown ->
        quote(do: term())
    end
  end

  def spec(_unknown, _way, _context), do: quote(do: term())

  defp field_spec(field, way, context) do
    requirement = if field["required"], do: :required, else: :optional
    # A type that holds itself has no end.
    context = %{context | classes: Map.reject(context.classes, fn {_name, class} -> class.kind == "typed_dict" end)}
    {{requirement, [], [String.to_atom(field["name"])]}, spec(field["hint"], way, context)}
  end

  defp unite(types) do
    types |> Enum.uniq() |> Enum.reverse() |> Enum.reduce(fn type, rest -> {:|, [], [type, rest]} end)
  end

  ## Results

  @doc "How a result with this hint is decoded and shaped."
  @spec plan(hint(), context()) :: plan()
  def plan([name], _context) when name in @rich, do: {:rich, nil}
  def plan([name], _context) when name in ["array", "table"], do: {:basic, String.to_atom(name)}
  def plan(["list", inner], context), do: within(:list, plan(inner, context))
  def plan(["tuple_of", inner], context), do: within(:tuple_of, plan(inner, context))
  def plan(["set", inner], context), do: within(:set, plan(inner, context))

  def plan(["iterator", inner], context), do: {:basic, {:stream, plan(inner, context)}}

  def plan(["tuple", items], context) do
    plans = Enum.map(items, &plan(&1, context))
    {widest(plans), shaped(plans) && {:tuple, Enum.map(plans, &elem(&1, 1))}}
  end

  def plan(["dict", key, value], context) do
    plans = [plan(key, context), plan(value, context)]
    {widest(plans), shaped(plans) && List.to_tuple([:map | Enum.map(plans, &elem(&1, 1))])}
  end

  def plan(["union", parts], context) do
    plans = Enum.map(parts, &plan(&1, context))

    case for({_how, shape} when shape != nil <- plans, do: shape) do
      [] -> {widest(plans), nil}
      [shape] -> {widest(plans), shape}
      shapes -> {widest(plans), {:any_of, shapes}}
    end
  end

  def plan(["self"], %{self: name} = context) when is_binary(name), do: plan(["class", name], context)

  def plan(["class", name], context) do
    case context.classes[name] do
      %{kind: "class", module: module} -> {:basic, {:class, module}}
      %{kind: "dataclass", module: module, fields: fields} -> of_fields({:data, module}, fields, name, context)
      %{kind: "typed_dict", fields: fields} -> of_fields({:keys}, fields, name, context)
      %{kind: "enum"} -> {:rich, nil}
      _other -> {:basic, nil}
    end
  end

  def plan(_plain_or_unknown, _context), do: {:basic, nil}

  # A dataclass is a map with rich types only.
  defp of_fields(shape, fields, name, context) do
    context = %{context | classes: Map.delete(context.classes, name)}
    plans = for field <- fields, do: {field["name"], plan(field["hint"], context)}
    how = if tuple_size(shape) == 2, do: :rich, else: widest(Enum.map(plans, &elem(&1, 1)))
    fields = for {field, {_how, shape}} <- plans, do: {field, String.to_atom(field), shape}
    {how, Tuple.insert_at(shape, tuple_size(shape), fields)}
  end

  defp within(_kind, {how, nil}), do: {how, nil}
  defp within(kind, {how, shape}), do: {how, {kind, shape}}

  defp widest(plans), do: if(Enum.any?(plans, &match?({:rich, _shape}, &1)), do: :rich, else: :basic)
  defp shaped(plans), do: Enum.any?(plans, fn {_how, shape} -> shape != nil end)

  @doc "Whether an argument with this hint has to be `bytes`."
  @spec bytes?(hint()) :: boolean()
  def bytes?(["bytes"]), do: true
  def bytes?(["union", parts]), do: ["bytes"] in parts and ["str"] not in parts and ["path"] not in parts
  def bytes?(_other), do: false
end
