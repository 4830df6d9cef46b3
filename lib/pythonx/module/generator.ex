defmodule Pythonx.Module.Generator do
  @moduledoc false

  # From the description of a Python module (priv/python/pythonx/_signatures.py) to functions and structs, as code: for
  # `use Pythonx.Module` to put in its place, and for `Pythonx.Module.Writer` to write down.

  alias Pythonx.Module.{Documentation, Names, Types}

  @type definition :: %{doc: String.t() | false, specs: [Macro.t()], code: Macro.t()}

  @type class :: %{
          module: module(),
          doc: String.t(),
          head: [Macro.t()],
          functions: [definition()],
          encoder: Macro.t()
        }

  @type t :: %{doc: String.t(), python: Macro.t(), functions: [definition()], classes: [class()]}

  @doc "Everything that a module defines. `python` is what its functions hand to `Pythonx.Module.Call`."
  @spec generate(map(), module(), map()) :: t()
  def generate(description, module, python) do
    modules = description["classes"] |> Enum.map(& &1["name"]) |> Names.classes(module)

    classes =
      for class <- description["classes"], into: %{} do
        {class["name"], %{module: modules[class["name"]], kind: class["kind"], fields: class["fields"]}}
      end

    context = %{classes: classes, self: nil, module: module, types: python.types, qualified: description["name"]}
    names = description["functions"] |> Enum.map(& &1["name"]) |> Names.functions()
    functions = for function <- description["functions"], do: function(function, names[function["name"]], context)

    %{
      doc: Documentation.of_module(description),
      python: python(python, functions),
      functions: Enum.map(functions, &elem(&1, 0)),
      classes:
        for(class <- description["classes"], class["kind"] in ["class", "enum", "dataclass"], do: class(class, context))
    }
  end

  defp python(python, functions) do
    quote do
      @doc false
      def __python__, do: unquote(Macro.escape(python))
      @doc false
      def __python__(:keywords), do: unquote(Macro.escape(keywords(functions)))
    end
  end

  # Of functions that take any keywords, or none, there is nothing to check.
  defp keywords(functions) do
    for {_definition, {key, {takes, _needs, _title} = keywords}} <- functions,
        is_list(takes),
        into: %{},
        do: {key, keywords}
  end

  ## Functions

  defp function(function, name, context) do
    call = fn args, opts, plan ->
      quote(
        do:
          Pythonx.Module.Call.call(__python__(), unquote(function["name"]), unquote(args), unquote(opts), unquote(plan))
      )
    end

    define(function, name, [], "#{context.qualified}.#{function["name"]}", call, context)
  end

  # `before` are the parameters of Elixir's own, such as the object of a method: each a variable and its type.
  defp define(%{"params" => nil} = function, name, before, title, call, context) do
    [args, kwargs] = Names.variables(["args", "kwargs"], Enum.map(before, &elem(&1, 0)))
    plan = plan(function, %{takes: :any}, context)
    parameters = Enum.map(before, &variable(elem(&1, 0))) ++ [variable(args), default(variable(kwargs), [])]
    types = Enum.map(before, &elem(&1, 1)) ++ [quote(do: list()), quote(do: keyword() | map())]
    returns = returned(function, context)
    code = definition(name, parameters, call.(variable(args), variable(kwargs), Macro.escape(plan)))
    doc = Documentation.of_function(function, title)
    {%{doc: doc, specs: specs(name, types, 1, returns), code: code}, {{name, length(types)}, {:any, [], title}}}
  end

  defp define(function, name, before, title, call, context) do
    parts = split(function["params"])
    fixed = Enum.map(parts.required, & &1["name"]) ++ Enum.map(parts.rest, & &1["name"])
    taken = Enum.map(before, &elem(&1, 0))
    variables = Names.variables(fixed, taken ++ [:opts])
    {takes, needs} = keywords_of(parts)
    keywords? = takes != []

    parameters =
      Enum.map(taken ++ variables, &variable/1) ++
        case {keywords?, needs} do
          {false, _needs} -> []
          {true, []} -> [default(variable(:opts), [])]
          {true, _needs} -> [variable(:opts)]
        end

    types =
      Enum.map(before, &elem(&1, 1)) ++
        Enum.map(parts.required, &Types.spec(&1["hint"], :in, context)) ++
        Enum.map(parts.rest, &[Types.spec(&1["hint"], :in, context)]) ++
        if(keywords?, do: [keyword_type(parts, takes, context)], else: [])

    plan = plan(function, parts |> arguments(takes, needs) |> Map.new(), context)
    opts = if keywords?, do: variable(:opts), else: []
    code = definition(name, parameters, call.(Enum.map(variables, &variable/1), opts, Macro.escape(plan)))
    optional = if keywords? and needs == [], do: 1, else: 0

    {
      %{
        doc: Documentation.of_function(function, title),
        specs: specs(name, types, optional, returned(function, context)),
        code: code
      },
      {{name, length(types)}, if(keywords?, do: {takes, needs, title}, else: {:none, [], title})}
    }
  end

  defp split(params) do
    {positional, others} = Enum.split_with(params, &(&1["kind"] in ["positional", "positional_only"]))
    {required, optional} = Enum.split_with(positional, &(&1["default"] == nil))

    %{
      required: required,
      optional: optional,
      rest: Enum.filter(others, &(&1["kind"] == "var_positional")),
      named: Enum.filter(others, &(&1["kind"] == "keyword_only")),
      any?: Enum.any?(others, &(&1["kind"] == "var_keyword"))
    }
  end

  defp keywords_of(parts) do
    named = for param <- parts.optional ++ parts.named, do: key(param)
    needs = for %{"default" => nil} = param <- parts.named, do: key(param)
    {if(parts.any?, do: :any, else: named), needs}
  end

  defp key(param), do: String.to_atom(param["name"])

  defp arguments(parts, takes, needs) do
    positions = for {param, index} <- Enum.with_index(parts.required), Types.bytes?(param["hint"]), do: index
    keys = for param <- parts.optional ++ parts.named, Types.bytes?(param["hint"]), do: key(param)

    [
      takes: takes,
      needs: needs,
      rest: parts.rest != [],
      ordered: ordered(parts),
      bytes: positions ++ keys
    ]
    |> Enum.reject(fn {_key, value} -> value in [[], false] end)
  end

  # A map of any keywords has no order.
  defp ordered(parts) do
    if parts.rest != [] or Enum.any?(parts.optional, &(&1["kind"] == "positional_only")),
      do: for(param <- parts.optional, do: {key(param), param["kind"] == "positional", known(param["default"])}),
      else: []
  end

  defp known(["value", value, _text]), do: {:value, value}
  defp known(["text", _text]), do: nil

  defp plan(function, plan, context) do
    plan
    |> put_unless(:kind, String.to_atom(function["kind"]), :function)
    |> put_unless(:returns, returns(function, context), nil)
    |> put_quick(context)
  end

  # Where nothing is to be done with the arguments, when there are no keywords, nor with the result: how that is decoded.
  defp put_quick(plan, context) do
    case Map.drop(plan, [:takes, :ordered]) do
      plain when plain == %{} -> Map.put(plan, :quick, context.types)
      %{returns: {how, nil}} = returned when map_size(returned) == 1 -> Map.put(plan, :quick, how)
      _other -> plan
    end
  end

  defp put_unless(plan, _key, value, value), do: plan
  defp put_unless(plan, key, value, _default), do: Map.put(plan, key, value)

  defp returns(%{"returns" => ["any"]}, _context), do: nil
  defp returns(%{"returns" => ["iterable", inner], "kind" => "generator"}, c), do: Types.plan(["iterator", inner], c)
  defp returns(%{"returns" => ["awaitable", inner]}, context), do: Types.plan(inner, context)
  defp returns(%{"returns" => hint}, context), do: Types.plan(hint, context)

  defp returned(%{"kind" => kind}, _context) when kind in ["generator", "async_generator"],
    do: quote(do: Enumerable.t())

  defp returned(%{"returns" => hint}, context), do: Types.spec(hint, :out, context)

  defp keyword_type(_parts, :any, _context), do: quote(do: keyword())

  defp keyword_type(parts, _takes, context) do
    for param <- parts.optional ++ parts.named, do: {key(param), Types.spec(param["hint"], :in, context)}
  end

  defp specs(name, types, optional, returns) do
    for dropped <- Enum.uniq([optional, 0]) do
      call = call(name, Enum.drop(types, -dropped))
      quote(do: @spec(unquote({:"::", [], [call, returns]})))
    end
  end

  defp definition(name, parameters, body), do: quote(do: def(unquote(call(name, parameters)), do: unquote(body)))

  # What cannot stand after `def` is put there by a fragment.
  defp call(name, args) do
    if Names.plain?(name), do: {name, [], args}, else: {{:unquote, [], [name]}, [], args}
  end

  defp variable(name), do: {name, [], nil}
  defp default(variable, value), do: {:\\, [], [variable, value]}

  ## Classes

  defp class(class, context) do
    own = context.classes[class["name"]]
    names = class["methods"] |> Enum.map(& &1["name"]) |> Names.functions()
    inner = %{context | self: class["name"]}

    methods =
      for method <- class["methods"], do: method(method, names[method["name"]], class["name"], own.module, inner)

    data? = class["kind"] == "dataclass"
    new = if data?, do: [], else: [constructor(class, if(:new in Map.values(names), do: :new_, else: :new), inner)]
    functions = new ++ methods

    %{
      module: own.module,
      doc: Documentation.of_class(class, context.qualified),
      head: head(class, inner) ++ [facts(class, functions)],
      functions: Enum.map(functions, &elem(&1, 0)),
      encoder: encoder(class, context.module)
    }
  end

  # What the compiler, and calls, ask of a class.
  defp facts(class, functions) do
    quote do
      @doc false
      def __python__(:keywords), do: unquote(Macro.escape(keywords(functions)))
      def __python__(:data), do: unquote(Macro.escape(data(class)))
    end
  end

  # The fields that `__init__` takes. A default that only Python can make is left to it.
  defp data(%{"kind" => "dataclass"} = class) do
    fields =
      for %{"init" => true} = field <- class["fields"],
          do: {key(field), not field["required"] and literal(field["default"]) == nil}

    {class["name"], fields}
  end

  defp data(_class), do: nil

  defp head(%{"kind" => "dataclass"} = class, context) do
    fields = class["fields"]
    enforced = for field <- fields, field["required"] and field["init"], do: key(field)
    values = for field <- fields, do: {key(field), literal(field["default"])}
    types = for field <- fields, do: {key(field), field_type(field, context)}

    [
      quote(do: @enforce_keys(unquote(enforced))),
      quote(do: defstruct(unquote(values))),
      quote(do: @type(t :: %__MODULE__{unquote_splicing(types)}))
    ]
  end

  defp head(_class, _context) do
    [
      quote(do: defstruct([:object])),
      quote(do: @type(t :: %__MODULE__{object: Pythonx.Object.t()}))
    ]
  end

  defp field_type(field, context) do
    type = Types.spec(field["hint"], :out, context)
    if literal(field["default"]) == nil and not field["required"], do: {:|, [], [type, nil]}, else: type
  end

  defp literal(["value", value, _text]), do: value
  defp literal(_none_or_unknown), do: nil

  defp encoder(%{"kind" => "dataclass"}, module) do
    quote do
      def encode(struct, _encoder), do: Pythonx.Module.Call.build(unquote(module).__python__(), struct)
    end
  end

  defp encoder(_class, _module) do
    quote do
      def encode(%{object: object}, encoder), do: Pythonx.Encoder.encode(object, encoder)
    end
  end

  defp constructor(class, name, context) do
    shape = %{
      "name" => class["name"],
      "kind" => "function",
      "params" => class["init"],
      "returns" => if(class["kind"] == "enum", do: ["any"], else: ["class", class["name"]]),
      "doc" => nil
    }

    title = "#{context.qualified}.#{class["name"]}"
    {definition, keywords} = define(shape, name, [], title, to_class(class["name"], nil, context), context)
    {%{definition | doc: "Makes a `#{title}`.\n\n" <> definition.doc}, keywords}
  end

  defp to_class(class, method, context) do
    path = Enum.join([class | List.wrap(method)], ".")

    fn args, opts, plan ->
      quote do
        Pythonx.Module.Call.call(
          unquote(context.module).__python__(),
          unquote(path),
          unquote(args),
          unquote(opts),
          unquote(plan)
        )
      end
    end
  end

  defp method(%{"binding" => binding} = method, name, class, _module, context) when binding in ["class", "static"] do
    title = "#{context.qualified}.#{class}.#{method["name"]}"
    define(method, name, [], title, to_class(class, method["name"], context), context)
  end

  defp method(%{"binding" => "property"} = method, name, class, module, context) do
    plan = plan(method, %{}, context)

    body =
      quote do
        Pythonx.Module.Call.property(
          unquote(context.module).__python__(),
          unquote(variable(:self)),
          unquote(method["name"]),
          unquote(Macro.escape(plan))
        )
      end

    title = "#{context.qualified}.#{class}.#{method["name"]}"
    doc = Documentation.of_property(method, title)
    specs = specs(name, [self_type(module)], 0, Types.spec(method["returns"], :out, context))
    {%{doc: doc, specs: specs, code: definition(name, [variable(:self)], body)}, {{name, 1}, {:none, [], title}}}
  end

  defp method(method, name, class, module, context) do
    call = fn args, opts, plan ->
      quote do
        Pythonx.Module.Call.method(
          unquote(context.module).__python__(),
          unquote(variable(:self)),
          unquote(method["name"]),
          unquote(args),
          unquote(opts),
          unquote(plan)
        )
      end
    end

    title = "#{context.qualified}.#{class}.#{method["name"]}"
    define(method, name, [{:self, self_type(module)}], title, call, context)
  end

  defp self_type(module), do: quote(do: unquote(module).t() | Pythonx.Object.t())
end
