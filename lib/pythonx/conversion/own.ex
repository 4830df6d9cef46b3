defmodule Pythonx.Conversion.Own do
  @moduledoc false

  # Built-in types for which somebody has an implementation of `Pythonx.Encoder` of their own. The native walk, which does
  # not ask the protocol about these types, leaves their terms to it then; see `Pythonx.Conversion.Native`.
  #
  # An own implementation is a module of the same name that was loaded in the place of ours: from another folder of the code
  # path, or at any time, as in a notebook. Nobody is told of that. But ours have a function that others have not, and calls of
  # functions that return a constant take nanoseconds, so each walk asks all of them.

  import Bitwise

  # The bits are those of `Own` in c_src/bridge/conversion/encode.hpp.
  @modules [
    Pythonx.Encoder.Atom,
    Pythonx.Encoder.BitString,
    Pythonx.Encoder.Float,
    Pythonx.Encoder.Function,
    Pythonx.Encoder.Integer,
    Pythonx.Encoder.List,
    Pythonx.Encoder.Map,
    Pythonx.Encoder.MapSet,
    Pythonx.Encoder.PID,
    Pythonx.Encoder.Tuple
  ]

  @type types :: non_neg_integer()

  @doc "The types with an implementation that is not ours, as a set of bits."
  @spec types() :: types()
  def types do
    unquote_splicing(for module <- @modules, do: quote(do: unquote(module).__ours__()))
    0
  rescue
    UndefinedFunctionError -> look()
  end

  defp look do
    for {module, index} <- Enum.with_index(@modules),
        not (Code.ensure_loaded?(module) and function_exported?(module, :__ours__, 0)),
        reduce: 0 do
      types -> types ||| 1 <<< index
    end
  end

  @doc "Whether a term is of one of these types."
  @spec member?(types(), term()) :: boolean()
  def member?(0, _term), do: false
  def member?(types, term), do: (types >>> index(term) &&& 1) == 1

  defp index(term) when is_atom(term), do: 0
  defp index(term) when is_bitstring(term), do: 1
  defp index(term) when is_float(term), do: 2
  defp index(term) when is_function(term), do: 3
  defp index(term) when is_integer(term), do: 4
  defp index(term) when is_list(term), do: 5
  defp index(%MapSet{}), do: 7
  defp index(%_struct{}), do: 63
  defp index(term) when is_map(term), do: 6
  defp index(term) when is_pid(term), do: 8
  defp index(term) when is_tuple(term), do: 9
  defp index(_other), do: 63
end
