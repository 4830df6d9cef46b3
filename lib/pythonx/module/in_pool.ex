defmodule Pythonx.Module.InPool do
  @moduledoc false

  # The same calls, in a worker of a pool: `target: MyPool`, or a pool of the module's own that begins with the first call.
  # What has to be done to find a function is done there, by priv/python/pythonx/_modules.py.

  alias Pythonx.Module.Shape
  alias Pythonx.Pool

  @batch 64

  @doc "Calls a function of the module."
  @spec call(map(), String.t(), list(), keyword() | map(), map()) :: term()
  def call(python, name, args, opts, plan) do
    {args, opts, encoded} = encode_bytes(args, opts, plan)
    perform(python, "pythonx._modules.call", [source(python), name, unwrap(args), unwrap(opts), encoded], plan)
  end

  @doc "Calls a method of an object that lives in a worker, or of the struct of a dataclass."
  @spec method(map(), term(), String.t(), list(), keyword() | map(), map()) :: term()
  def method(python, self, name, args, opts, plan) do
    {args, opts, encoded} = encode_bytes(args, opts, plan)
    perform(python, "pythonx._modules.call_method", [unwrap(self), name, unwrap(args), unwrap(opts), encoded], plan)
  end

  @doc "Reads a property."
  @spec property(map(), term(), String.t(), map()) :: term()
  def property(python, self, name, plan), do: perform(python, "builtins.getattr", [unwrap(self), name], plan)

  defp perform(python, function, args, %{kind: :coroutine} = plan) do
    pool = pool(python)
    code = "await function(*args)"
    {function, _globals} = Pool.eval!(pool, "import pythonx._modules\n#{function}", %{}, decode: false)
    options = [binaries: :str, timeout: python.timeout]
    {result, _globals} = Pool.eval!(pool, code, %{"function" => function, "args" => args}, options)
    shape(plan, result, python)
  end

  defp perform(python, function, args, %{kind: kind} = plan) when kind in [:generator, :async_generator] do
    pool = pool(python)
    {_how, shape} = Map.get(plan, :returns, {:basic, nil})
    {_how, element} = if match?({:stream, _plan}, shape), do: elem(shape, 1), else: {:basic, nil}
    pool |> stream(function, args, python) |> Stream.map(&Shape.form(element, &1, python))
  end

  defp perform(python, function, args, plan) do
    shape(plan, Pool.call!(pool(python), function, args, [], timeout: python.timeout), python)
  end

  defp shape(plan, result, python) do
    {_how, shape} = Map.get(plan, :returns, {:basic, nil})
    Shape.form(shape, result, python)
  end

  defp stream(pool, function, args, python) do
    Stream.resource(
      fn -> {Pool.call!(pool, function, args, [], decode: false, timeout: python.timeout), true} end,
      fn
        {_iterator, false} = state ->
          {:halt, state}

        {iterator, true} ->
          {elements, more?} =
            Pool.call!(pool, "pythonx._modules.take", [iterator, @batch], [], timeout: python.timeout)

          {elements, {iterator, more?}}
      end,
      fn _state -> :ok end
    )
  end

  # A worker knows nothing of this VM's application folders but what is told.
  defp source(%{from: :installed, module: name}), do: ["installed", name]
  defp source(%{from: {:folder, app, path, _file}, module: name}), do: ["folder", name, Application.app_dir(app, path)]

  defp source(%{from: {:text, file, line, source}, id: {owner, hash}, module: name}) do
    ["text", name, file, line, source, inspect(owner), hash]
  end

  # Structs around objects are nothing that a worker knows.
  defp unwrap(%{__struct__: _module, object: %Pool.Object{} = object}), do: object
  defp unwrap(list) when is_list(list), do: Enum.map(list, &unwrap/1)
  defp unwrap({key, value}), do: {key, unwrap(value)}
  defp unwrap(other), do: other

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
