defmodule Pythonx.Conversion do
  @moduledoc false

  # Both ways between terms and objects, for whatever needs one or the other: who does it, and where. See
  # c_src/bridge/conversion for the walks.

  alias Pythonx.Calls.Deadline
  alias Pythonx.Conversion.{Native, Types}
  alias Pythonx.Interpreter
  alias Pythonx.NIF
  alias Pythonx.Object
  alias Pythonx.Telemetry

  @doc """
  Encodes a term of any type, a struct by its implementation of `Pythonx.Encoder`. Options have been checked.
  """
  @spec encode(term(), Native.opts()) :: Object.t()
  def encode(%struct{} = term, opts) when struct != MapSet do
    if opts[:types] == :rich and Pythonx.Encoder.impl_for(term) == nil do
      Native.encode(term, opts)
    else
      term |> by_protocol(opts) |> Native.checked(term)
    end
  end

  def encode(term, opts), do: Native.encode(term, opts)

  defp by_protocol(term, opts) do
    Pythonx.Encoder.encode(term, Native.encoder(opts))
  rescue
    error in Protocol.UndefinedError -> reraise Native.with_hint(error, term), __STACKTRACE__
  end

  @doc """
  Decodes an object; see `Pythonx.decode/2`.
  """
  @spec decode(Object.t(), :basic | :rich, Deadline.t()) :: term()
  def decode(object, :basic, :infinity), do: Telemetry.operation(:decode, fn -> decode_here(object) end)
  def decode(object, :rich, timeout), do: Telemetry.operation(:decode, fn -> Types.decode(object, timeout) end)

  def decode(object, :basic, timeout) do
    object = NIF.local!(object)
    Telemetry.operation(:decode, fn -> decode_on_thread(object, timeout) end)
  end

  defp decode_here(%Pythonx.Pool.Object{} = object), do: decode_on_thread(NIF.local!(object), :infinity)

  defp decode_here(object) do
    case NIF.unobserved(NIF.nif_decode(object)) do
      {:ok, term} -> term
      :unchanged -> object
      :needs_thread -> decode_on_thread(object, :infinity)
      {:argument_error, message} -> raise ArgumentError, message
      {:error, :not_initialized} -> NIF.not_initialized!()
      :error -> decode_elsewhere(object)
    end
  end

  defp decode_elsewhere(object) do
    if Interpreter.owns?(object), do: Interpreter.perform("decode", object), else: NIF.local!(object)
  end

  defp decode_on_thread(object, timeout) do
    case NIF.call("decode", {object}, timeout) do
      :unchanged -> object
      term -> term
    end
  end
end
