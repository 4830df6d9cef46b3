defmodule Pythonx.Pool.Reference do
  # References by which a worker names what lives in it, and by which it is told of functions that live here. They belong to nodes
  # that there are none of, so nothing else can be meant, and they keep nothing alive: see `Pythonx.Pool.Worker` for who does.
  #
  # A reference of a worker holds the number of the worker, that of the thing, which is never used again, and its kind.
  @moduledoc false

  @worker "pythonx@worker"
  @function "pythonx@function"

  @kinds %{0 => :resource, 1 => :reference, 2 => :job}

  @type serial :: non_neg_integer()

  @doc "What a reference stands for; `nil` for those of real nodes."
  @spec read(reference()) ::
          {:resource | :reference | :job, creation :: serial(), serial()} | {:function, serial()} | nil
  def read(reference) when node(reference) == :pythonx@worker do
    case :erlang.term_to_binary(reference) do
      <<131, 90, 3::16, 119, 14, @worker, creation::32, low::32, high::32, kind::32>> when is_map_key(@kinds, kind) ->
        {Map.fetch!(@kinds, kind), creation, high * 0x1_0000_0000 + low}

      _other ->
        nil
    end
  end

  def read(reference) when node(reference) == :pythonx@function do
    case :erlang.term_to_binary(reference) do
      <<131, 90, 3::16, 119, 16, @function, _creation::32, low::32, high::32, 0::32>> ->
        {:function, high * 0x1_0000_0000 + low}

      _other ->
        nil
    end
  end

  def read(_reference), do: nil

  @doc "The reference of a job of a worker."
  @spec job(serial(), serial()) :: reference()
  def job(creation, id), do: build(@worker, creation, id, 2)

  @doc "The reference that stands for a function."
  @spec function(serial()) :: reference()
  def function(number), do: build(@function, 1, number, 0)

  defp build(node, creation, number, kind) do
    low = rem(number, 0x1_0000_0000)
    high = div(number, 0x1_0000_0000)

    :erlang.binary_to_term(
      <<131, 90, 3::16, 119, byte_size(node), node::binary, creation::32, low::32, high::32, kind::32>>
    )
  end
end
