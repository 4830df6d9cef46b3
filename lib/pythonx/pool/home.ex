defmodule Pythonx.Pool.Home do
  # Where an operation belongs: to the Python of this VM, which is `nil`, or to that of a worker.
  #
  # Operations on objects belong where the first of them lives. Others, such as encoding a term or an evaluation, belong to this
  # VM, except while something is encoded for a worker: what an implementation of `Pythonx.Encoder` does then, it does there.
  @moduledoc false

  alias Pythonx.Pool.{Object, Resource}

  @key :"$pythonx_home"
  @lease :"$pythonx_lease"

  @type t :: {worker :: pid(), pool :: pid()} | nil

  @typedoc "For a lease, from a function that the worker has called, or while the worker is started."
  @type access :: {:lease, reference()} | :nested | :boot

  @doc "Where operations of this process belong that no object tells of."
  @spec current() :: t()
  def current, do: Process.get(@key)

  @doc "The home of an operation with these arguments."
  @spec of(tuple()) :: t()
  def of(arguments), do: find(arguments, 0, tuple_size(arguments))

  defp find(_arguments, size, size), do: current()

  defp find(arguments, index, size) do
    case elem(arguments, index) do
      %Object{worker: worker, pool: pool} -> {worker, pool}
      %Resource{worker: worker, pool: pool} -> {worker, pool}
      %Pythonx.Object{} -> nil
      inner when is_tuple(inner) and index < 3 -> find_inside(arguments, index, size, inner, 0)
      _other -> find(arguments, index + 1, size)
    end
  end

  # Each call of Python's asks for it, so nothing is made on the way.
  defp find_inside(arguments, index, size, inner, at) when at == tuple_size(inner), do: find(arguments, index + 1, size)

  defp find_inside(arguments, index, size, inner, at) do
    case elem(inner, at) do
      %Object{worker: worker, pool: pool} -> {worker, pool}
      %Resource{worker: worker, pool: pool} -> {worker, pool}
      %Pythonx.Object{} -> nil
      _other -> find_inside(arguments, index, size, inner, at + 1)
    end
  end

  @doc "Calls a function whose operations belong there."
  @spec at(t(), (-> result)) :: result when result: term()
  def at(home, fun), do: with_value(@key, home, fun)

  @doc "How this process may use a worker without asking the pool for it."
  @spec access(pid()) :: access() | nil
  def access(worker) do
    case Process.get(@lease) do
      {^worker, access} -> access
      _none -> nil
    end
  end

  @doc "Calls a function that may use a worker so."
  @spec with_access(pid(), access(), (-> result)) :: result when result: term()
  def with_access(worker, access, fun), do: with_value(@lease, {worker, access}, fun)

  defp with_value(key, value, fun) do
    before = Process.put(key, value)

    try do
      fun.()
    after
      if before == nil, do: Process.delete(key), else: Process.put(key, before)
    end
  end
end
