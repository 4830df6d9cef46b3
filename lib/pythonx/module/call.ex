defmodule Pythonx.Module.Call do
  @moduledoc false

  # What the functions of modules do. `python` is what a module says of itself (see `Pythonx.Module.Generator`), the plan is
  # that of `Pythonx.Module.Arguments` with `kind` and `returns` beside it.

  alias Pythonx.Calls
  alias Pythonx.Module.{Arguments, Callables, InPool, Shape}
  alias Pythonx.{NIF, Object, Reloader}

  @type python :: map()

  @doc "Calls a function of the module."
  @spec call(python(), String.t(), list(), keyword() | map(), map()) :: term()
  # Most functions, most of the time: nothing is to be arranged, and the result is what it decodes to.
  def call(%{target: nil} = python, name, args, [], %{quick: how}) do
    Reloader.check()
    function = Callables.fetch(python, name)
    Calls.observed(:call, {NIF.local!(function), args, []}, [], Map.fetch!(python.options, how))
  end

  def call(%{target: nil} = python, name, args, opts, %{quick: how} = plan) when not is_map_key(plan, :ordered) do
    Reloader.check()
    function = Callables.fetch(python, name)
    {args, opts} = Arguments.build(args, opts, plan, name)
    {names, values} = Calls.keywords!(opts)
    Calls.observed(:call, {NIF.local!(function), args, values}, names, Map.fetch!(python.options, how))
  end

  def call(%{target: nil} = python, name, args, opts, plan) do
    Reloader.check()
    function = Callables.fetch(python, name)
    {args, opts} = Arguments.build(args, opts, plan, name)
    {args, opts} = encode_bytes(args, opts, plan)
    run(:call, function, args, [], opts, python, plan)
  end

  def call(python, name, args, opts, plan) do
    {args, opts} = Arguments.build(args, opts, plan, name)
    InPool.call(python, name, args, opts, plan)
  end

  @doc "Calls a method of an object, or of a struct around one."
  @spec method(python(), term(), String.t(), list(), keyword() | map(), map()) :: term()
  def method(%{target: nil} = python, self, name, args, [], %{quick: how}) do
    Calls.perform(:call_method, {NIF.local!(object(self)), args, []}, [name], Map.fetch!(python.options, how))
  end

  def method(%{target: nil} = python, self, name, args, opts, plan) do
    {args, opts} = Arguments.build(args, opts, plan, name)
    {args, opts} = encode_bytes(args, opts, plan)
    run(:call_method, object(self), args, [name], opts, python, plan)
  end

  def method(python, self, name, args, opts, plan) do
    {args, opts} = Arguments.build(args, opts, plan, name)
    InPool.method(python, self, name, args, opts, plan)
  end

  @doc "Reads a property of an object."
  @spec property(python(), term(), String.t(), map()) :: term()
  def property(%{target: nil} = python, self, name, plan) do
    {how, shape} = Map.get(plan, :returns, {:basic, nil})
    operands = {NIF.local!(object(self))}
    Shape.form(shape, Calls.perform(:getattr, operands, [name], options(python, plan, how)), python)
  end

  def property(python, self, name, plan), do: InPool.property(python, self, name, plan)

  @doc "The object for the struct of a dataclass."
  @spec build(python(), struct()) :: Object.t()
  def build(python, %module{} = struct) do
    {name, fields} = module.__python__(:data)
    Calls.call(Callables.fetch(python, name), [], fields(fields, struct), options(python, %{}, nil))
  end

  @doc "What a dataclass is made of, without the defaults that are left to Python."
  @spec fields([{atom(), boolean()}], struct()) :: keyword()
  def fields(fields, struct) do
    for {field, omit?} <- fields,
        {:ok, value} <- [Map.fetch(struct, field)],
        not (omit? and value == nil),
        do: {field, value}
  end

  defp object(%Object{} = object), do: object
  defp object(%{__struct__: _module, object: %Object{} = object}), do: object
  # The struct of a dataclass.
  defp object(other), do: Pythonx.encode!(other, binaries: :str, types: :rich)

  defp run(operation, subject, args, names, opts, python, plan) do
    {keys, values} = Calls.keywords!(opts)
    {how, shape} = Map.get(plan, :returns, {:basic, nil})
    operands = {NIF.local!(subject), args, values}

    case plan do
      %{kind: kind} -> finish_kind(kind, operation, operands, names ++ keys, python, plan, {how, shape})
      _function -> finish(operation, operands, names ++ keys, python, plan, how, shape)
    end
  end

  defp finish(operation, operands, names, python, plan, how, shape) do
    Shape.form(shape, Calls.perform(operation, operands, names, options(python, plan, how)), python)
  end

  defp finish_kind(:coroutine, operation, operands, names, python, plan, {how, shape}) do
    awaitable = Calls.perform(operation, operands, names, options(python, plan, nil))
    Shape.form(shape, awaited(awaitable, effective(python, plan, how), python), python)
  end

  defp finish_kind(kind, operation, operands, names, python, plan, {how, shape})
       when kind in [:generator, :async_generator] do
    iterator = Calls.perform(operation, operands, names, options(python, plan, nil))
    # A hint `Iterator[int]` says what the elements are.
    elements = if match?({:stream, _plan}, shape), do: elem(shape, 1), else: {how, nil}
    Shape.form({:stream, elements}, iterator, python)
  end

  defp awaited(awaitable, :rich, python) do
    awaitable |> Pythonx.await(timeout: python.timeout) |> Pythonx.decode(types: :rich, timeout: python.timeout)
  end

  defp awaited(awaitable, :basic, python), do: Pythonx.await(awaitable, decode: true, timeout: python.timeout)

  # Nothing is decoded where `how` is nil.
  defp options(python, _plan, nil), do: python.options.object
  defp options(python, plan, how), do: Map.fetch!(python.options, effective(python, plan, how))

  # A result that no hint tells of is decoded as the module says.
  defp effective(_python, %{returns: _known}, how), do: how
  defp effective(python, _plan, _how), do: python.types

  defp encode_bytes(args, opts, %{bytes: places}) do
    Enum.reduce(places, {args, opts}, fn
      place, {args, opts} when is_integer(place) -> {List.update_at(args, place, &bytes/1), opts}
      key, {args, opts} -> {args, Keyword.replace_lazy(opts, key, &bytes/1)}
    end)
  end

  defp encode_bytes(args, opts, _plan), do: {args, opts}

  defp bytes(binary) when is_binary(binary), do: Pythonx.encode!(binary)
  defp bytes(other), do: other
end
