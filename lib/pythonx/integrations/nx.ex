defmodule Pythonx.Integrations.Nx do
  @moduledoc false

  # Between tensors of Nx and arrays of Python. Nx is no dependency of ours and may be compiled before or after us, or
  # not at all: nothing here needs it until it is called.

  alias Pythonx.NIF
  alias Pythonx.Object

  @compile {:no_warn_undefined, Nx}

  @libraries [:numpy, :torch, :jax, :tensorflow]

  @doc """
  See `Pythonx.to_nx/2`.
  """
  @spec to_nx(Object.t(), keyword()) :: struct()
  def to_nx(object, opts) do
    ensure_nx!("to_nx/2")
    {backend, opts} = Keyword.split(opts, [:backend])
    opts = Keyword.validate!(opts, copy: true, timeout: :infinity)
    buffer = Pythonx.Buffer.export(object, [order: :c] ++ opts)
    type = nx_type!(buffer)
    if 0 in Tuple.to_list(buffer.shape), do: refuse_empty!(buffer.shape)
    buffer.data |> Nx.from_binary(type, backend) |> Nx.reshape(buffer.shape)
  end

  defp nx_type!(%{type: {:bool, 8}}), do: {:u, 8}

  defp nx_type!(%{type: {kind, 64}, format: format}) when kind in [:datetime, :timedelta] do
    raise ArgumentError,
          "cannot make a tensor of elements of the type #{format}: Nx has no type for them; " <>
            "convert them in Python first, as with .astype('int64')"
  end

  defp nx_type!(%{type: type}), do: type

  defp refuse_empty!(shape) do
    raise ArgumentError, "cannot make a tensor of the shape #{inspect(shape)}: Nx has no tensors without elements"
  end

  @doc """
  See `Pythonx.from_nx/2`.
  """
  @spec from_nx(struct(), keyword()) :: Object.t()
  def from_nx(tensor, opts) do
    ensure_nx!("from_nx/2")
    opts = Keyword.validate!(opts, as: :numpy)

    if opts[:as] not in @libraries do
      expected = Enum.map_join(@libraries, ", ", &inspect/1)
      raise ArgumentError, "expected :as to be one of #{expected}, got: #{inspect(opts[:as])}"
    end

    make(tensor, opts[:as])
  end

  defp make(tensor, library) do
    tensor = Nx.devectorize(tensor)
    {kind, bits} = Nx.type(tensor)
    if bits < 8, do: refuse_type!({kind, bits})
    view = tensor |> Nx.to_binary() |> NIF.memoryview()
    arguments = {view, Atom.to_string(kind), bits, Nx.shape(tensor), library}
    NIF.call("call_internal", {"pythonx._tensors", "make", arguments})
  end

  defp refuse_type!(type) do
    raise ArgumentError,
          "cannot encode a tensor of the type #{inspect(type)}: arrays in Python have none so small; " <>
            "cast it first, as with Nx.as_type(tensor, {:u, 8})"
  end

  defp ensure_nx!(function) do
    Code.ensure_loaded?(Nx) || raise "Pythonx.#{function} needs the package :nx, which is not there"
  end

  @doc """
  The numpy array for a tensor that is encoded.
  """
  @spec encode(struct(), module()) :: Object.t()
  def encode(tensor, protocol) do
    make(tensor, :numpy)
  rescue
    error in Pythonx.Error ->
      case Regex.run(~r/^ModuleNotFoundError: .*\b(numpy|ml_dtypes)\b/, List.last(error.lines)) do
        [_all, package] ->
          description = "a tensor becomes an array of numpy, which needs the Python package #{package}"
          reraise Protocol.UndefinedError, [protocol: protocol, value: tensor, description: description], __STACKTRACE__

        nil ->
          reraise error, __STACKTRACE__
      end
  end
end

defmodule Pythonx.Encoder.Nx.Tensor do
  # What `defimpl Pythonx.Encoder, for: Nx.Tensor` would compile to, written by hand: `defimpl` warns where the struct
  # is not there. Without Nx nobody calls it.
  @moduledoc false

  Module.register_attribute(__MODULE__, :__impl__, persist: true)
  @__impl__ [protocol: Pythonx.Encoder, for: Nx.Tensor]

  @spec encode(struct(), Pythonx.encoder()) :: Pythonx.Object.t()
  def encode(tensor, _encoder), do: Pythonx.Integrations.Nx.encode(tensor, Pythonx.Encoder)

  @doc false
  @spec __impl__(:for | :protocol | :target) :: module()
  def __impl__(:for), do: Nx.Tensor
  def __impl__(:protocol), do: Pythonx.Encoder
  def __impl__(:target), do: __MODULE__
end
