defmodule Pythonx.Buffer do
  @moduledoc """
  The memory of a Python array, as `Pythonx.buffer/2` returns it.

    * `:data` - a binary with the elements

    * `:shape` - the length of each axis, a tuple; `{}` for a single element

    * `:strides` - the distance between neighbours on each axis in bytes, a tuple as long as `:shape`. Usually that of
      C order, in which the last axis is the fastest; the other way round for an array in Fortran order

    * `:type` - kind and size in bits of an element: `{:s, bits}` and `{:u, bits}` for integers, `{:f, bits}` and
      `{:bf, 16}` for floats, `{:c, bits}` for complex numbers, `{:bool, 8}`, and `{:datetime, 64}` or
      `{:timedelta, 64}`, which are integers in the unit that `:format` tells. `{:f, 8}` is `float8_e5m2`, and
      `{:f8_e4m3fn, 8}` what its name says

    * `:format` - the same as Python's `struct` module writes it, such as `"<d"`; for dates as numpy does,
      `"<M8[ns]"`; otherwise by name, `"bfloat16"`

    * `:readonly` - whether Python could not change the memory through the object

    * `:copied` - whether `:data` is a copy. Otherwise it is the memory of the Python object

  Numbers are in the byte order of the machine, whatever they were in Python. A binary pattern reads them:

      iex> {array, _} = Pythonx.eval("import array; array.array('d', [1.5, 2.5])", %{})
      iex> %Pythonx.Buffer{data: data, type: {:f, 64}} = Pythonx.buffer(array)
      iex> for <<x::float-native-64 <- data>>, do: x
      [1.5, 2.5]
  """

  alias Pythonx.Calls.Deadline
  alias Pythonx.NIF
  alias Pythonx.Calls.Options
  alias Pythonx.Telemetry

  defstruct [:data, :shape, :strides, :type, :format, :readonly, :copied]

  @type element ::
          {:s | :u, 8 | 16 | 32 | 64}
          | {:f, 8 | 16 | 32 | 64}
          | {:bf, 16}
          | {:f8_e4m3fn, 8}
          | {:c, 64 | 128}
          | {:bool, 8}
          | {:datetime | :timedelta, 64}

  @type t :: %__MODULE__{
          data: binary(),
          shape: tuple(),
          strides: tuple(),
          type: element(),
          format: String.t(),
          readonly: boolean(),
          copied: boolean()
        }

  @options [copy: true, order: :memory, timeout: :infinity]

  @kinds Map.new([:s, :u, :f, :bf, :f8_e4m3fn, :c, :bool, :datetime, :timedelta], &{Atom.to_string(&1), &1})

  @doc false
  @spec export(Pythonx.Object.t(), keyword()) :: t()
  def export(object, opts) do
    opts = opts |> Options.validate!(@options) |> check_copy!()
    arguments = {NIF.local!(object), opts.copy, opts.order == :c}

    {data, shape, strides, kind, bits, format, readonly, copied} =
      Telemetry.operation(:buffer, fn -> NIF.call("buffer", arguments, Deadline.new(opts.timeout)) end)

    %__MODULE__{
      data: data,
      shape: shape,
      strides: strides,
      type: {Map.fetch!(@kinds, kind), bits},
      format: format,
      readonly: readonly,
      copied: copied
    }
  end

  defp check_copy!(%{copy: copy} = opts) when is_boolean(copy), do: opts
  defp check_copy!(%{copy: copy}), do: raise(ArgumentError, "expected :copy to be a boolean, got: #{inspect(copy)}")
end
