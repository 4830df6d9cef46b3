defmodule Pythonx.Integrations.NxTest do
  # With a double of Nx, test/support/nx_double.ex.
  use Pythonx.Case, async: false

  defp tensor(data, type, shape, fields \\ []) do
    struct!(%Nx.Tensor{data: {nil, data}, type: type, shape: shape}, fields)
  end

  defp object(code, globals \\ %{}) do
    {result, _globals} = Pythonx.eval("import numpy as np\n" <> code, globals)
    result
  end

  @types [
    {{:u, 8}, "uint8", <<1, 2, 3, 4, 5, 6>>},
    {{:u, 16}, "uint16", for(i <- 1..6, into: "", do: <<i::16-native>>)},
    {{:u, 32}, "uint32", for(i <- 1..6, into: "", do: <<i::32-native>>)},
    {{:u, 64}, "uint64", for(i <- 1..6, into: "", do: <<i::64-native>>)},
    {{:s, 8}, "int8", <<1, 2, 3, -4, -5, -6>>},
    {{:s, 16}, "int16", for(i <- 1..6, into: "", do: <<-i::16-native>>)},
    {{:s, 32}, "int32", for(i <- 1..6, into: "", do: <<-i::32-native>>)},
    {{:s, 64}, "int64", for(i <- 1..6, into: "", do: <<-i::64-native>>)},
    {{:f, 16}, "float16", for(i <- 1..6, into: "", do: <<i * 0.5::float-16-native>>)},
    {{:f, 32}, "float32", for(i <- 1..6, into: "", do: <<i * 0.5::float-32-native>>)},
    {{:f, 64}, "float64", for(i <- 1..6, into: "", do: <<i * 0.5::float-64-native>>)},
    {{:c, 64}, "complex64", for(i <- 1..6, into: "", do: <<i * 0.5::float-32-native, -1.0::float-32-native>>)},
    {{:c, 128}, "complex128", for(i <- 1..6, into: "", do: <<i * 0.5::float-64-native, -1.0::float-64-native>>)},
    {{:bf, 16}, "bfloat16", :binary.copy(<<0x3FC0::16-native>>, 6)},
    {{:f, 8}, "float8_e5m2", :binary.copy(<<0x3E>>, 6)},
    {{:f8_e4m3fn, 8}, "float8_e4m3fn", :binary.copy(<<0x3C>>, 6)}
  ]

  describe "every type" do
    for {type, name, data} <- @types do
      test "of Nx, #{name}, goes both ways" do
        tensor = tensor(unquote(data), unquote(type), {2, 3})
        array = Pythonx.from_nx(tensor)
        code = "(a.dtype.name, a.shape, a.flags.writeable, a.tobytes())"
        assert eval!(code, %{"a" => array}) == {unquote(name), {2, 3}, false, unquote(data)}
        assert %Nx.Tensor{data: {nil, unquote(data)}, type: unquote(type), shape: {2, 3}} = Pythonx.to_nx(array)
      end
    end

    test "values are the same on both sides" do
      assert eval!("[x.tolist() for x in [a, b, c]]", %{
               "a" => tensor(<<1.5::float-16-native>>, {:f, 16}, {1}),
               "b" => tensor(<<-7::32-native, 8::32-native>>, {:s, 32}, {2, 1}),
               "c" => tensor(<<0x3FC0::16-native>>, {:bf, 16}, {})
             }) == [[1.5], [[-7], [8]], 1.5]
    end

    test "of less than a byte is refused" do
      message =
        "cannot encode a tensor of the type {:u, 4}: arrays in Python have none so small; " <>
          "cast it first, as with Nx.as_type(tensor, {:u, 8})"

      assert_raise ArgumentError, message, fn -> Pythonx.from_nx(tensor(<<1>>, {:u, 4}, {2})) end
      assert_raise ArgumentError, "[1]: " <> message, fn -> Pythonx.encode!([1, tensor(<<1>>, {:u, 4}, {2})]) end
    end
  end

  describe "encoding" do
    test "makes arrays of numpy, nested ones too" do
      tensor = tensor(<<1, 2>>, {:u, 8}, {2})
      assert repr(tensor) == "array([1, 2], dtype=uint8)"
      assert repr(%{"t" => [tensor]}) == "{b't': [array([1, 2], dtype=uint8)]}"
      assert Pythonx.call(object("np.sum"), [tensor]) |> Pythonx.to_nx() |> Map.fetch!(:data) == {nil, <<3::64-native>>}
    end

    test "does not copy" do
      data = :binary.copy(<<1>>, 1_000_000)
      address = "a.ctypes.data"
      array = tensor(data, {:u, 8}, {1000, 1000})
      assert eval!(address, %{"a" => array}) == eval!(address, %{"a" => Pythonx.from_nx(array)})
    end

    test "the implementation is found among compiled modules" do
      ebin = :pythonx |> Application.app_dir("ebin") |> to_charlist()
      assert Nx.Tensor in Protocol.extract_impls(Pythonx.Encoder, [ebin])
      implementation = Pythonx.Encoder.impl_for(tensor(<<1>>, {:u, 8}, {}))
      assert implementation.__impl__(:for) == Nx.Tensor
      assert implementation.__impl__(:protocol) == Pythonx.Encoder
      assert implementation.__impl__(:target) == implementation
    end
  end

  describe "shapes" do
    test "a scalar" do
      assert %Nx.Tensor{shape: {}, type: {:f, 64}, data: {nil, <<1.5::float-64-native>>}} =
               Pythonx.to_nx(object("np.float64(1.5)"))

      assert %Nx.Tensor{shape: {}, type: {:s, 64}} = Pythonx.to_nx(object("np.array(7)"))
      assert repr(tensor(<<7>>, {:u, 8}, {})) == "array(7, dtype=uint8)"
    end

    test "Fortran order, negative and wide strides" do
      expected = fn list -> for i <- list, into: "", do: <<i::16-native>> end
      start = "np.arange(6, dtype='i2').reshape(2, 3)"

      for {code, shape, elements} <- [
            {".T", {3, 2}, [0, 3, 1, 4, 2, 5]},
            {"[::-1, ::-1]", {2, 3}, [5, 4, 3, 2, 1, 0]},
            {"[:, ::2]", {2, 2}, [0, 2, 3, 5]},
            {".astype('>i2')", {2, 3}, [0, 1, 2, 3, 4, 5]},
            {".copy(order='F')", {2, 3}, [0, 1, 2, 3, 4, 5]}
          ] do
        data = expected.(elements)
        assert %Nx.Tensor{shape: ^shape, type: {:s, 16}, data: {nil, ^data}} = Pythonx.to_nx(object(start <> code))
      end
    end

    test "no elements, which Nx has not" do
      assert_raise ArgumentError,
                   "cannot make a tensor of the shape {0, 3}: Nx has no tensors without elements",
                   fn -> Pythonx.to_nx(object("np.zeros((0, 3))")) end
    end

    test "vectorized axes come first" do
      tensor = tensor(<<1, 2, 3, 4, 5, 6>>, {:u, 8}, {3}, vectorized_axes: [rows: 2])
      assert eval!("a.tolist()", %{"a" => tensor}) == [[1, 2, 3], [4, 5, 6]]
    end
  end

  describe "to_nx/2" do
    test "takes bools as u8 and refuses dates" do
      assert %Nx.Tensor{type: {:u, 8}, data: {nil, <<1, 0>>}} = Pythonx.to_nx(object("np.array([True, False])"))

      assert_raise ArgumentError,
                   "cannot make a tensor of elements of the type <M8[s]: Nx has no type for them; " <>
                     "convert them in Python first, as with .astype('int64')",
                   fn -> Pythonx.to_nx(object("np.zeros(2, 'M8[s]')")) end
    end

    test "copies what Python can change, unless told otherwise" do
      array = object("np.zeros(1000, 'u1')")
      [copy, shared] = for opts <- [[], [copy: false]], do: Pythonx.to_nx(array, opts)
      Pythonx.eval("a[:] = 1", %{"a" => array})
      assert copy.data == {nil, :binary.copy(<<0>>, 1000)}
      assert shared.data == {nil, :binary.copy(<<1>>, 1000)}
    end

    test "passes the backend on, and checks the other options" do
      array = object("np.zeros(2)")
      assert %Nx.Tensor{data: {Some.Backend, _data}} = Pythonx.to_nx(array, backend: Some.Backend)
      assert_raise ArgumentError, ~r/unknown keys \[:order\]/, fn -> Pythonx.to_nx(array, order: :c) end
    end
  end

  describe "from_nx/2" do
    # A double: torch, as far as Pythonx needs it. The real one is a gigabyte.
    @torch """
    import sys, types
    import numpy as np

    torch = types.ModuleType("torch")
    torch.float32 = np.dtype("f4")

    def frombuffer(memory, dtype):
        array = np.frombuffer(memory, dtype)
        assert array.flags.writeable
        return array

    torch.frombuffer = frombuffer
    sys.modules["torch"] = torch
    """

    test "as a tensor of torch, with memory of its own" do
      Pythonx.eval(@torch, %{})
      data = <<1.5::float-32-native, 2.5::float-32-native>>
      object = Pythonx.from_nx(tensor(data, {:f, 32}, {2, 1}), as: :torch)
      assert eval!("t[0] = 9; t.tolist()", %{"t" => object}) == [[9.0], [2.5]]
      assert data == <<1.5::float-32-native, 2.5::float-32-native>>
    after
      Pythonx.eval("import sys; sys.modules.pop('torch', None)", %{})
    end

    test "says what is missing" do
      tensor = tensor(<<1>>, {:u, 8}, {1})
      assert_raise Pythonx.Error, ~r/No module named 'jax'/, fn -> Pythonx.from_nx(tensor, as: :jax) end

      assert_raise ArgumentError, "expected :as to be one of :numpy, :torch, :jax, :tensorflow, got: :cupy", fn ->
        Pythonx.from_nx(tensor, as: :cupy)
      end

      code = "import sys; kept = sys.modules.pop('ml_dtypes', None); sys.modules['ml_dtypes'] = None; kept"
      {kept, _globals} = Pythonx.eval(code, %{})

      try do
        error = assert_raise Protocol.UndefinedError, fn -> Pythonx.encode!(tensor(<<1, 2>>, {:bf, 16}, {1})) end
        assert error.description == "a tensor becomes an array of numpy, which needs the Python package ml_dtypes"
      after
        Pythonx.eval("import sys; sys.modules.pop('ml_dtypes')\nif kept: sys.modules['ml_dtypes'] = kept", %{
          "kept" => kept
        })
      end
    end
  end
end
