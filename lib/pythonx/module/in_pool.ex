defmodule Pythonx.Module.InPool do
  @moduledoc false

  # The same calls, in a worker of a pool: `target: MyPool`, or a pool of the module's own that begins with the first call.
  # What has to be done to find a function is done there, by priv/python/pythonx/_modules.py.

  alias Pythonx.Conversion
  alias Pythonx.Module.{Call, Shape}
  alias Pythonx.Pool

  @batch 64
  @packed "$pythonx"

  @doc "Calls a function of the module."
  @spec call(map(), String.t(), list(), keyword() | map(), map()) :: term()
  def call(python, name, args, opts, plan) do
    {args, opts, encoded} = encode_bytes(args, opts, plan)
    perform(python, "call", [source(python), name, pack(args), pack(opts), encoded], plan)
  end

  @doc "Calls a method of an object that lives in a worker, or of the struct of a dataclass."
  @spec method(map(), term(), String.t(), list(), keyword() | map(), map()) :: term()
  def method(python, self, name, args, opts, plan) do
    {args, opts, encoded} = encode_bytes(args, opts, plan)
    perform(python, "call_method", [source(python), pack(self), name, pack(args), pack(opts), encoded], plan)
  end

  @doc "Reads a property."
  @spec property(map(), term(), String.t(), map()) :: term()
  def property(python, self, name, plan), do: perform(python, "get", [source(python), pack(self), name], plan)

  defp perform(python, function, args, %{kind: :coroutine} = plan) do
    pool = pool(python)
    options = [binaries: :str, timeout: python.timeout]

    code =
      "import pythonx._modules as m\nresult = await m.#{function}(*args, False)\nm.as_rich(result) if rich else result"

    {result, _globals} = Pool.eval!(pool, code, %{"args" => args, "rich" => rich?(plan, python)}, options)
    shape(plan, result, python)
  end

  defp perform(python, function, args, %{kind: kind} = plan) when kind in [:generator, :async_generator] do
    {how, shape} = elements(Map.get(plan, :returns))
    elements = python |> pool() |> stream(function, args, how == :rich, python)
    if shape, do: Stream.map(elements, &Shape.form(shape, &1, python)), else: elements
  end

  defp perform(python, function, args, plan) do
    shape(plan, run(pool(python), function, args ++ [rich?(plan, python)], python), python)
  end

  defp run(pool, function, args, python, opts \\ []) do
    Pool.call!(pool, "pythonx._modules." <> function, args, [], [timeout: python.timeout] ++ opts)
  end

  defp rich?(%{returns: {how, _shape}}, _python), do: how == :rich
  defp rich?(_plan, python), do: python.types == :rich

  defp elements({_how, {:stream, plan}}), do: plan
  defp elements(_unknown), do: {:basic, nil}

  defp shape(%{returns: {_how, shape}}, result, python), do: Shape.form(shape, result, python)
  defp shape(_plan, result, _python), do: result

  defp stream(pool, function, args, rich?, python) do
    Stream.resource(
      fn -> {run(pool, function, args ++ [false], python, decode: false), true} end,
      fn
        {_iterator, false} = state ->
          {:halt, state}

        {iterator, true} ->
          {elements, more?} = run(pool, "take", [iterator, @batch, rich?], python)
          {elements, {iterator, more?}}
      end,
      fn _state -> :ok end
    )
  end

  # A worker knows nothing of this VM's application folders but what is told.
  defp source(%{from: :installed, module: name}), do: ["installed", name]
  defp source(%{from: {:folder, app, path, _file}, module: name}), do: ["folder", name, Application.app_dir(app, path)]

  defp source(%{from: {:text, file, line, source}, owner: owner, version: version, module: name}) do
    ["text", name, file, line, source, inspect(owner), version]
  end

  # A worker may not have the modules of structs: what they stand for is described, see `_unpack` in _modules.py.
  defp pack(%{__struct__: _module, object: %Pool.Object{} = object}), do: object
  defp pack(%Pool.Object{} = object), do: object
  defp pack(%MapSet{} = set), do: set

  defp pack(%module{} = struct) do
    cond do
      description = Conversion.Types.describe(struct) ->
        %{@packed => Tuple.to_list(description)}

      data = data(module) ->
        %{@packed => ["data", elem(data, 0), data |> elem(1) |> Call.fields(struct) |> Map.new() |> pack()]}

      true ->
        struct
    end
  end

  defp pack(list) when is_list(list), do: Enum.map(list, &pack/1)
  defp pack(%{} = map), do: Map.new(map, fn {key, value} -> {key, pack(value)} end)
  defp pack(tuple) when is_tuple(tuple), do: tuple |> Tuple.to_list() |> Enum.map(&pack/1) |> List.to_tuple()
  defp pack(other), do: other

  defp data(module),
    do: (Code.ensure_loaded?(module) and function_exported?(module, :__python__, 1)) && module.__python__(:data)

  # All binaries are text on their way.
  defp encode_bytes(args, opts, plan) do
    opts = Map.new(opts, fn {key, value} -> {to_string(key), value} end)

    Enum.reduce(Map.get(plan, :bytes, []), {args, opts, []}, fn
      place, {args, opts, encoded} when is_integer(place) ->
        if is_binary(Enum.at(args, place)),
          do: {List.update_at(args, place, &Base.encode64/1), opts, [place | encoded]},
          else: {args, opts, encoded}

      key, {args, opts, encoded} ->
        case opts do
          %{^key => value} when is_binary(value) -> {args, %{opts | key => Base.encode64(value)}, [key | encoded]}
          _other -> {args, opts, encoded}
        end
    end)
  end

  @doc "The pool of a module, which a module that says `isolated: true` starts with its first call."
  @spec pool(map()) :: Pool.t()
  def pool(%{target: {:isolated, name, options}}) do
    if Process.whereis(name), do: name, else: start!(name, options)
  end

  def pool(%{target: pool}), do: pool

  defp start!(name, options) do
    case DynamicSupervisor.start_child(Pythonx.Module.Pools, {Pool, Keyword.put(options, :name, name)}) do
      {:ok, _pid} -> name
      {:error, {:already_started, _pid}} -> name
      {:error, reason} -> raise "the pool of #{inspect(name)} did not start: #{Exception.format_exit(reason)}"
    end
  end
end
