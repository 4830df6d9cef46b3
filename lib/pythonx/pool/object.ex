defmodule Pythonx.Pool.Object do
  @moduledoc ~S"""
  A handle to a Python object in a worker of a `Pythonx.Pool`.

  It is what `Pythonx.Pool.eval/4` and `Pythonx.Pool.call/5` give for what has no counterpart in Elixir, or for
  everything with `decode: false`. The object stays where it is. Passed back to the same pool, inside lists, tuples and
  maps too, it is the identical object, and the evaluation runs in the worker that has it:

      iex> {items, %{}} = Pythonx.Pool.eval(MyPool, "[1, 2]", %{}, decode: false)
      iex> {nil, %{}} = Pythonx.Pool.eval(MyPool, "items.append(3)", %{"items" => items})
      iex> Pythonx.Pool.eval(MyPool, "items", %{"items" => items})
      {[1, 2, 3], %{}}

  The object lives for as long as a handle to it does on the node that got it, or until its worker dies. A worker of
  which there are handles is not replaced when its `:max_uses` are used up, but only when the last of them is gone.

  Everything that takes a `Pythonx.Object` takes one of these too: `Pythonx.call/4`, `Pythonx.getattr/3`, `object[key]`, streams,
  `Pythonx.table/2` and so on. What they do is done in the worker, when its turn has come.

      iex> {text, %{}} = Pythonx.Pool.eval(MyPool, "'a,b'", %{}, decode: false)
      iex> Pythonx.call_method(text, :split, [","], [], decode: true)
      ["a", "b"]
      iex> "#{text} has #{text[0]} in it"
      "a,b has a in it"

  Fields:

    * `:type` - the name of the object's class, with its module unless it is built in
  """

  @behaviour Access

  defstruct [:worker, :pool, :id, :reference, :marker, :type]

  @type t :: %__MODULE__{
          worker: pid() | nil,
          pool: pid() | nil,
          id: non_neg_integer(),
          reference: reference() | nil,
          marker: reference() | nil,
          type: String.t()
        }

  @doc false
  @impl Access
  defdelegate fetch(object, key), to: Pythonx.Object

  @doc false
  @impl Access
  defdelegate get_and_update(object, key, function), to: Pythonx.Object

  @doc false
  @impl Access
  defdelegate pop(object, key), to: Pythonx.Object
end

defimpl Pythonx.Encoder, for: Pythonx.Pool.Object do
  # In its worker it is itself.
  def encode(%{worker: worker} = handle, _encoder) do
    case Pythonx.Pool.Home.current() do
      {^worker, _pool} -> handle
      _another -> raise ArgumentError, "#{inspect(handle)} lives in a worker of a pool, and only there it can be used"
    end
  end
end

defimpl Enumerable, for: Pythonx.Pool.Object do
  def reduce(object, acc, fun), do: object |> Pythonx.Calls.Streams.stream([]) |> Enumerable.reduce(acc, fun)
  def count(_object), do: {:error, __MODULE__}
  def member?(_object, _element), do: {:error, __MODULE__}
  def slice(_object), do: {:error, __MODULE__}
end

defimpl String.Chars, for: Pythonx.Pool.Object do
  def to_string(object), do: Pythonx.Object.str_text(object)
end

defimpl Inspect, for: Pythonx.Pool.Object do
  # Python is not asked: the worker may be busy, with code that the very process waits for that inspects.
  def inspect(handle, _opts), do: "#Pythonx.Pool.Object<#{handle.type}, #{handle.id} in #{worker(handle.worker)}>"

  defp worker(nil), do: "its worker"
  defp worker(pid), do: "worker " <> String.slice(Kernel.inspect(pid), 5..-2//1)
end
