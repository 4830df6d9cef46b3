defmodule Pythonx.BufferTest do
  use Pythonx.Case, async: false

  doctest Pythonx.Buffer

  # Long enough not to be copied for its size.
  @size 100_000

  defp object(code, globals \\ %{}) do
    {result, _globals} = Pythonx.eval("import numpy as np\n" <> code, globals)
    result
  end

  defp buffer(code, opts \\ []), do: Pythonx.buffer(object(code), opts)

  defp refused(code) do
    assert_raise(ArgumentError, fn -> buffer(code) end).message
  end

  # Memory of the VM's binaries outside of processes, once everything that is no longer used was collected.
  defp binary_memory do
    collect_processes()
    :erlang.memory(:binary)
  end

  defp handles, do: Pythonx.NIF.stats() |> elem(1)

  # In steps that nothing which runs by itself in the VM reaches.
  defp settled_memory, do: settled(fn -> div(binary_memory(), 500_000) end) * 500_000

  describe "memoryview/1" do
    test "is a read-only view of the same bytes" do
      for size <- [0, 1, 63, 64, 65, @size] do
        binary = :binary.copy(<<0, 255, "ż">>, size) |> binary_part(0, size)
        view = Pythonx.memoryview(binary)

        assert eval!("(type(v).__name__, v.readonly, v.format, v.nbytes, v == b, bytes(v))", %{
                 "v" => view,
                 "b" => binary
               }) ==
                 {"memoryview", true, "B", size, true, binary}
      end

      error = assert_raise Pythonx.Error, fn -> eval!("v[0] = 1", %{"v" => Pythonx.memoryview("abc")}) end
      assert List.last(error.lines) == "TypeError: cannot modify read-only memory\n"
    end

    test "is no copy" do
      before = settled_memory()
      binary = :binary.copy(<<7>>, 10_000_000)
      view = Pythonx.memoryview(binary)
      wait_until(fn -> abs(binary_memory() - before - 10_000_000) < 1_000_000 end)
      part = binary |> binary_part(1000, 5_000_000) |> Pythonx.memoryview()

      code = """
      import ctypes
      whole, part = (np.frombuffer(v, dtype='u1').ctypes.data for v in (view, part))
      part - whole
      """

      assert eval!("import numpy as np\n" <> code, %{"view" => view, "part" => part}) == 1000
    end

    test "keeps the binary while Python has anything of it, and no longer" do
      before = settled_memory()
      held = settled(&handles/0)

      holder =
        in_process(fn ->
          view = <<7>> |> :binary.copy(10_000_000) |> Pythonx.memoryview()
          object("np.frombuffer(view, dtype='u1')[1000:2000]", %{"view" => view})
        end)

      assert binary_memory() - before > 9_000_000
      assert eval!("(int(a.sum()), len(a))", %{"a" => send_back(holder)}) == {7000, 1000}
      stop(holder)
      # The namespace of the latest evaluation lives until the next.
      eval!("None")
      collect_free_threaded()
      wait_until(fn -> binary_memory() - before < 1_000_000 end)
      wait_until(fn -> handles() <= held end)
    end

    test "a binary that is appended to keeps what the view sees" do
      start = :binary.copy("ab", 50_000) <> "c"
      view = Pythonx.memoryview(start)
      longer = start <> :binary.copy("x", 200_000)
      assert byte_size(longer) == 300_001
      assert eval!("(len(v), bytes(v[-3:]))", %{"v" => view}) == {100_001, "abc"}
    end

    test "a binary that begins inside of a byte" do
      <<_bit::1, binary::binary-size(1000), _rest::7>> = :binary.copy(<<0b01010101>>, 1001)
      assert is_binary(binary)
      assert eval!("bytes(v)", %{"v" => Pythonx.memoryview(binary)}) == binary
    end

    test "libraries take it, on any thread" do
      binary = :crypto.strong_rand_bytes(@size)

      code = """
      import hashlib, io, threading, zlib

      results = []

      def work():
          data = io.BytesIO()
          data.write(view)
          results.append((hashlib.sha256(view).hexdigest(), data.getvalue() == bytes(view), zlib.crc32(view)))

      threads = [threading.Thread(target=work) for _ in range(4)]
      for t in threads:
          t.start()
      del view
      for t in threads:
          t.join()
      results
      """

      code = String.replace(code, "del view\n", "")
      hash = :crypto.hash(:sha256, binary) |> Base.encode16(case: :lower)

      assert eval!(code, %{"view" => Pythonx.memoryview(binary)}) ==
               List.duplicate({hash, true, :erlang.crc32(binary)}, 4)
    end

    test "refuses bitstrings by name" do
      assert_raise ArgumentError, "expected a binary, got a bitstring of 3 bits: <<1::size(3)>>", fn ->
        Pythonx.memoryview(<<1::3>>)
      end

      assert_raise FunctionClauseError, fn -> apply(Pythonx, :memoryview, [:atom]) end
    end

    test "comes back out without a copy" do
      binary = :crypto.strong_rand_bytes(@size)
      buffer = binary |> Pythonx.memoryview() |> Pythonx.buffer()
      assert %Pythonx.Buffer{data: ^binary, readonly: true, copied: false, type: {:u, 8}, shape: {@size}} = buffer
    end
  end

  describe "buffer/2 types" do
    for {dtype, type, format, values, expected} <- [
          {"i1", {:s, 8}, "b", "[-1, 2]", <<-1, 2>>},
          {"u1", {:u, 8}, "B", "[255, 2]", <<255, 2>>},
          {"i2", {:s, 16}, "<h", "[-1, 2]", <<-1::16-native, 2::16-native>>},
          {"u2", {:u, 16}, "<H", "[65535]", <<65_535::16>>},
          {"i4", {:s, 32}, "<i", "[-5]", <<-5::32-native>>},
          {"u4", {:u, 32}, "<I", "[5]", <<5::32-native>>},
          {"i8", {:s, 64}, "<q", "[-5]", <<-5::64-native>>},
          {"u8", {:u, 64}, "<Q", "[5]", <<5::64-native>>},
          {"f2", {:f, 16}, "<e", "[1.5]", <<1.5::float-16-native>>},
          {"f4", {:f, 32}, "<f", "[1.5]", <<1.5::float-32-native>>},
          {"f8", {:f, 64}, "<d", "[1.5]", <<1.5::float-64-native>>},
          {"c8", {:c, 64}, "<Zf", "[1.5+2j]", <<1.5::float-32-native, 2.0::float-32-native>>},
          {"c16", {:c, 128}, "<Zd", "[1.5+2j]", <<1.5::float-64-native, 2.0::float-64-native>>},
          {"?", {:bool, 8}, "?", "[True, False]", <<1, 0>>},
          {"M8[ns]", {:datetime, 64}, "<M8[ns]", "['1970-01-02']", <<86_400_000_000_000::64-native>>},
          {"M8[D]", {:datetime, 64}, "<M8[D]", "['1970-01-03']", <<2::64-native>>},
          {"m8[s]", {:timedelta, 64}, "<m8[s]", "[-3]", <<-3::64-native>>}
        ] do
      test "numpy's #{dtype}" do
        code = "np.array(#{unquote(values)}, dtype='#{unquote(dtype)}')"

        for swapped <- [code, "#{code}.astype(np.dtype('#{unquote(dtype)}').newbyteorder('>'))"] do
          assert %{type: unquote(type), format: unquote(format), data: unquote(expected), copied: true} =
                   buffer(swapped)
        end
      end
    end

    test "bfloat16 and float8 of ml_dtypes" do
      code = fn type -> "import ml_dtypes\nnp.array([1.5, -2.0], dtype=ml_dtypes.#{type})" end

      assert %{type: {:bf, 16}, format: "bfloat16", data: <<0x3FC0::16-native, 0xC000::16-native>>} =
               buffer(code.("bfloat16"))

      assert %{type: {:f, 8}, format: "float8_e5m2", data: <<0x3E, 0xC0>>} = buffer(code.("float8_e5m2"))
      assert %{type: {:f8_e4m3fn, 8}, data: <<0x3C, 0xC0>>} = buffer(code.("float8_e4m3fn"))
      assert refused(code.("int4")) =~ "elements of the type int4"
    end

    test "of the standard library" do
      assert %{type: {:u, 8}, shape: {3}, data: "abc", readonly: true} = buffer("b'abc'")
      assert %{type: {:u, 8}, data: "abc", readonly: false} = buffer("bytearray(b'abc')")
      assert %{type: {:s, 64}, data: <<1::64-native, 2::64-native>>} = buffer("import array; array.array('q', [1, 2])")
      assert %{type: {:s, 64}} = buffer("import array; array.array('l', [1])")
      assert %{type: {:u, 8}, data: "ab"} = buffer("import ctypes; (ctypes.c_char * 2)(b'a', b'b')")
      assert %{type: {:f, 32}, shape: {2, 3}} = buffer("import ctypes; ((ctypes.c_float * 3) * 2)()")

      assert %{type: {:u, 16}, data: <<258::16-native>>, copied: true} =
               buffer("import ctypes; (ctypes.c_uint16.__ctype_be__ * 1)(258)")
    end

    test "what has no counterpart is refused by name" do
      why = "there is no counterpart in Elixir for elements of the type "

      for {code, message} <- [
            {"[1]", "a list: it has neither the buffer protocol, nor the array interface, nor DLPack"},
            {"np.array([object()])", "a numpy.ndarray: #{why}object"},
            {"np.array(['a'])", "a numpy.ndarray: #{why}<U1"},
            {"np.array([b'ab'])", "a numpy.ndarray: #{why}|S2"},
            {"np.zeros(2, dtype=[('a', 'i4'), ('b', 'f8')])", "a numpy.ndarray: #{why}[('a', '<i4'), ('b', '<f8')]"},
            {"np.ma.array([1], mask=[True])",
             "a numpy.ma.MaskedArray: its mask would be lost; call its method filled() first"},
            {"import array; array.array('w' if 'w' in array.typecodes else 'u', 'a')", "an array.array: #{why}w"},
            {"np.ndarray", "a type: it has neither the buffer protocol, nor the array interface, nor DLPack"},
            {"class S:\n  def to_numpy(self): pass\nS()",
             "a S: it has neither the buffer protocol, nor the array interface, nor DLPack; call its method to_numpy() first"}
          ] do
        assert refused(code) == "cannot make a buffer of " <> message
      end

      assert refused("import ctypes\nclass P(ctypes.Structure):\n  _fields_ = [('a', ctypes.c_int)]\n(P * 2)()") =~
               "#{why}T{<i:a:}"
    end
  end

  describe "buffer/2 shapes" do
    test "contiguous arrays are taken as they lie, with strides in bytes" do
      code = "np.arange(6, dtype='i2').reshape(2, 3)"
      data = for i <- 0..5, into: "", do: <<i::16-native>>
      assert %{shape: {2, 3}, strides: {6, 2}, data: ^data} = buffer(code)
      assert %{shape: {3, 2}, strides: {2, 6}, data: ^data} = buffer(code <> ".T")
      turned = for i <- [0, 3, 1, 4, 2, 5], into: "", do: <<i::16-native>>
      assert %{shape: {3, 2}, strides: {4, 2}, data: ^turned} = buffer(code <> ".T", order: :c)
    end

    test "others become so, in one copy" do
      for {expression, item} <- [
            {"[::-1]", 1},
            {"[:, ::2]", 2},
            {"[1:, 1:]", 4},
            {"[::2, ::-1]", 8},
            {"[:, 1]", 16},
            {".transpose(2, 0, 1)", 8}
          ] do
        dtype = %{1 => "i1", 2 => "i2", 4 => "f4", 8 => "f8", 16 => "c16"}[item]
        globals = %{"expression" => expression, "dtype" => dtype}
        code = "a = np.arange(4 * 5 * 6).reshape(4, 5, 6).astype(dtype.decode())"
        {array, _} = Pythonx.eval("import numpy as np\n#{code}\na#{expression}", globals)
        buffer = Pythonx.buffer(array, copy: false)
        assert buffer.copied
        assert buffer.data == eval!("a.tobytes()", %{"a" => array})
        assert buffer.shape == eval!("a.shape", %{"a" => array})
        assert buffer.strides == eval!("a.copy('C').strides", %{"a" => array})
      end
    end

    test "no dimension, no element, one element" do
      assert %{shape: {}, strides: {}, data: <<5::64-native>>} = buffer("np.array(5)")
      assert %{shape: {}, type: {:f, 32}} = buffer("np.float32(1)")
      assert %{shape: {0, 3}, data: ""} = buffer("np.zeros((0, 3))")
      assert %{shape: {2, 0}, data: ""} = buffer("np.zeros((2, 0))[::-1]")
      assert %{shape: {1, 1}, data: <<7>>} = buffer("np.full((1, 1), 7, 'u1')")
      assert %{shape: {3}, strides: {1}, data: <<1, 1, 1>>} = buffer("np.broadcast_to(np.uint8(1), 3)")
    end
  end

  describe "buffer/2 copies" do
    test "what Python can change, so that Elixir's binary never does" do
      array = object("np.zeros(#{@size}, 'u1')")
      buffer = Pythonx.buffer(array)
      assert %{readonly: false, copied: true} = buffer
      Pythonx.eval("a[:] = 1", %{"a" => array})
      assert buffer.data == :binary.copy(<<0>>, @size)
    end

    test "a read-only view of what Python can change" do
      for code <- [
            "a = np.zeros(#{@size}); b = a[:]; b.flags.writeable = False; b",
            "a = np.zeros(#{@size}); a.flags.writeable = False; a",
            "np.broadcast_to(np.zeros(#{@size}), (2, #{@size}))",
            "memoryview(bytearray(#{@size})).toreadonly()",
            "np.asarray(memoryview(bytearray(#{@size})).toreadonly())"
          ] do
        assert %{readonly: true, copied: true} = buffer(code)
      end
    end

    @tag :tmp_dir
    test "a mapped file, which others may write to or cut off", %{tmp_dir: dir} do
      path = Path.join(dir, "data")
      File.write!(path, :binary.copy("a", @size))

      open =
        "import mmap\nwith open(#{inspect(path)}, 'rb') as f: m = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)\n"

      for code <- ["m", "memoryview(m)[8:]", "np.frombuffer(m)", "np.memmap(#{inspect(path)}, 'u1', 'r')"] do
        assert %{readonly: true, copied: true} = buffer = buffer(open <> code)
        File.write!(path, "b", [:read, :write])
        assert <<"a", _rest::binary>> = if(byte_size(buffer.data) == @size, do: buffer.data, else: "a")
        File.write!(path, "a", [:read, :write])
        assert %{copied: false} = open |> Kernel.<>(code) |> object() |> Pythonx.buffer(copy: false)
      end
    end

    test "nothing that cannot change" do
      for code <- [
            "bytes(#{@size})",
            "memoryview(bytes(#{@size}))[8:]",
            "np.frombuffer(bytes(#{@size}))",
            "np.frombuffer(bytes(#{@size})).reshape(-1, 10)[2:]"
          ] do
        assert %{readonly: true, copied: false} = buffer(code)
      end

      assert %{copied: true} = buffer("bytes(511)")
      assert %{copied: false} = buffer("bytes(512)")
    end

    test "nothing that is one piece, with copy: false" do
      array = object("np.zeros(#{@size}, 'u1')")
      buffer = Pythonx.buffer(array, copy: false)
      assert %{readonly: false, copied: false} = buffer
      Pythonx.eval("a[:] = 1", %{"a" => array})
      assert buffer.data == :binary.copy(<<1>>, @size)
    end
  end

  describe "buffer/2 locks" do
    test "the exporter until the binary is collected, then gives all back" do
      array = object("bytearray(#{@size})")
      held = settled(&handles/0)

      resize = fn ->
        eval!("try:\n  a.append(1)\n  r = 'resized'\nexcept BufferError as e:\n  r = str(e)\nr", %{"a" => array})
      end

      holder = in_process(fn -> Pythonx.buffer(array, copy: false) end)
      assert resize.() == "Existing exports of data: object cannot be re-sized"
      <<first, _rest::binary>> = send_back(holder).data
      assert first == 0
      stop(holder)

      wait_until(fn ->
        :erlang.garbage_collect()
        resize.() == "resized"
      end)

      wait_until(fn -> handles() <= held end)
    end

    test "nothing that it copied" do
      array = object("bytearray(#{@size})")
      buffer = Pythonx.buffer(array)
      assert eval!("a.append(1); len(a)", %{"a" => array}) == @size + 1
      assert byte_size(buffer.data) == @size
    end

    test "and a part of the binary keeps the whole" do
      array = object("bytearray(b'ab' * #{@size})")
      held = settled(&handles/0)
      # Since OTP 27 the VM copies one of up to 64 bytes.
      part = binary_part(Pythonx.buffer(array, copy: false).data, 1000, 100)

      # What is let go of has gone by then.
      wait_until(fn ->
        :erlang.garbage_collect()
        handles() <= held + 1
      end)

      error = assert_raise Pythonx.Error, fn -> eval!("a.clear()", %{"a" => array}) end
      assert List.last(error.lines) == "BufferError: Existing exports of data: object cannot be re-sized\n"
      assert part == String.duplicate("ab", 50)
    end
  end

  describe "buffer/2 by the array interface" do
    @class """
    class Exporter:
        def __init__(self, array, **changes):
            self.array = array
            self.__array_interface__ = {**array.__array_interface__, **changes}
    """

    test "of an address" do
      assert %{shape: {2, 3}, type: {:f, 64}, strides: {24, 8}} = buffer(@class <> "Exporter(np.zeros((2, 3)))")

      assert %{shape: {3, 2}, data: data} =
               buffer(@class <> "Exporter(np.arange(6, dtype='>i4').reshape(2, 3).T)", order: :c)

      assert data == for(i <- [0, 3, 1, 4, 2, 5], into: "", do: <<i::32-native>>)
      assert %{type: {:datetime, 64}, format: "<M8[us]"} = buffer(@class <> "Exporter(np.zeros(3, 'M8[us]'))")

      shared = buffer(@class <> "Exporter(np.arange(#{@size}, dtype='u1'))", copy: false)
      collect_processes()
      eval!("import gc; gc.collect()")
      assert %{copied: false, data: <<0, 1, 2, 3, _rest::binary>>} = shared
    end

    test "of a buffer, with an offset" do
      code = @class <> "Exporter(np.zeros((2, 2), 'u1'), data=b'abcdefg', offset=2)"
      assert %{data: "cdef", readonly: true, shape: {2, 2}} = buffer(code)

      assert refused(@class <> "Exporter(np.zeros((2, 2), 'u1'), data=b'abc')") ==
               "cannot make a buffer of an Exporter: its array interface goes past the memory that it names"

      assert refused(@class <> "Exporter(np.zeros((2, 2), 'u1'), strides=(-2, 1), data=b'abcd')") =~
               "goes past the memory"
    end

    test "refuses what has no counterpart, and passes on what Python raises" do
      assert refused(@class <> "Exporter(np.array([object()]))") =~ "elements of the type |O"
      assert refused(@class <> "Exporter(np.array([1]), mask=np.array([1]))") =~ "its mask would be lost"
      code = "class Broken:\n  @property\n  def __array_interface__(self): raise OSError('no')\nBroken()"
      assert_raise Pythonx.Error, ~r/OSError: no/, fn -> buffer(code) end
    end
  end

  describe "buffer/2 by DLPack" do
    @class """
    class Tensor:
        def __init__(self, array, device=(1, 0), versions=True):
            self.array, self.device, self.versions = array, device, versions

        def __dlpack_device__(self):
            return self.device

        def __dlpack__(self, **options):
            if options and not self.versions:
                raise TypeError("unexpected keyword argument")
            return self.array.__dlpack__(**options)
    """

    test "of either version" do
      for versions <- ["True", "False"] do
        code = fn array -> @class <> "Tensor(#{array}, versions=#{versions})" end
        assert %{type: {:f, 32}, shape: {2, 3}, strides: {12, 4}} = buffer(code.("np.zeros((2, 3), 'f4')"))
        assert %{type: {:bool, 8}, data: <<1, 0>>} = buffer(code.("np.array([True, False])"))
        assert %{type: {:c, 64}} = buffer(code.("np.zeros(2, 'c8')"))
        assert %{type: {:f, 16}, shape: {}} = buffer(code.("np.array(1.5, 'f2')"))
        assert %{data: <<2, 1, 0>>, copied: true} = buffer(code.("np.arange(3, dtype='u1')[::-1]"), copy: false)
        assert %{copied: true, readonly: false} = buffer(code.("np.zeros(#{@size})"))
      end
    end

    test "the tensor lives as long as the binary" do
      held = settled(&handles/0)

      code =
        @class <>
          "import weakref\narray = np.arange(#{@size}, dtype='u1')\nalive = weakref.ref(array)\ntensor = Tensor(array)\ndel array"

      {nil, globals} = Pythonx.eval("import numpy as np\n" <> code, %{})
      alive = globals["alive"]
      holder = in_process(fn -> Pythonx.buffer(globals["tensor"], copy: false) end)
      Pythonx.eval("del tensor.array", %{"tensor" => globals["tensor"]})
      assert %{copied: false, data: <<0, 1, 2, 3, _rest::binary>>} = send_back(holder)
      assert eval!("alive() is not None", %{"alive" => alive})
      stop(holder)

      wait_until(fn ->
        :erlang.garbage_collect()
        eval!("alive() is None", %{"alive" => alive})
      end)

      assert map_size(globals) > 0
      wait_until(fn -> handles() <= held + map_size(globals) end)
    end

    test "read-only tensors of a version that says so" do
      code = @class <> "Tensor(np.frombuffer(bytes(#{@size})))"

      if eval!("import numpy as np; tuple(map(int, np.__version__.split('.')[:2])) >= (2, 1)") do
        assert %{readonly: true, copied: false} = buffer(code)
      end
    end

    test "refuses the memory of devices by name" do
      assert refused(@class <> "Tensor(np.zeros(2), device=(2, 0))") ==
               "cannot make a buffer of a Tensor: its memory is that of CUDA; copy it to the CPU first"

      assert refused(@class <> "Tensor(np.zeros(2), device=(99, 0))") =~ "a device of kind 99"
    end
  end

  describe "buffer/2 arguments" do
    test "are checked" do
      object = object("b''")

      for {opts, message} <- [
            {[copy: 1], "expected :copy to be a boolean, got: 1"},
            {[order: :f], "expected :order to be :memory or :c, got: :f"},
            {[timeout: -1], "expected :timeout to be a non-negative integer or :infinity, got: -1"}
          ] do
        assert_raise ArgumentError, message, fn -> Pythonx.buffer(object, opts) end
      end

      assert_raise ArgumentError, ~r/unknown keys \[:foo\]/, fn -> Pythonx.buffer(object, foo: 1) end
      assert_raise FunctionClauseError, fn -> apply(Pythonx, :buffer, [1]) end
    end

    test "the order that a consumer asks for is the one it gets, or it gets none" do
      # Twelve bytes, as three rows of four in the order of Fortran, in that of C, and with gaps.
      code = """
      import ctypes, _pythonx
      STRIDES, C, FORTRAN, ANY = 0x18, 0x38, 0x58, 0x98

      def asks(shape, strides):
          exporter = _pythonx.memory(memoryview(bytes(24)), 0, "B", 1, shape, strides, True).obj
          return [asks_for(exporter, flags) for flags in (0, STRIDES, C, FORTRAN, ANY)]

      def asks_for(exporter, flags):
          view = (ctypes.c_byte * 128)()
          try:
              ctypes.pythonapi.PyObject_GetBuffer(ctypes.py_object(exporter), view, flags)
          except BufferError:
              return False
          ctypes.pythonapi.PyBuffer_Release(view)
          return True

      [asks((3, 4), (1, 3)), asks((3, 4), (4, 1)), asks((3, 4), (8, 2))]
      """

      assert eval!(code) == [
               [false, true, false, true, true],
               [true, true, true, false, true],
               [false, true, false, false, false]
             ]
    end

    test "what Python raises is raised" do
      code = "m = memoryview(b'abc'); m.release(); m"
      error = assert_raise Pythonx.Error, fn -> buffer(code) end
      assert List.last(error.lines) == "ValueError: operation forbidden on released memoryview object\n"
    end

    test "an array that says it is larger than all memory there is" do
      for size <- [Integer.pow(2, 62), Integer.pow(2, 50)] do
        error = assert_raise Pythonx.Error, fn -> buffer("np.broadcast_to(np.int8(1), (#{size},))") end
        assert List.last(error.lines) == "MemoryError: unable to allocate #{size} bytes for a copy\n"
      end

      assert %{shape: {0, _}, data: ""} = buffer("np.broadcast_to(np.int8(1), (0, 2**50))")
    end
  end

  describe "memory" do
    test "a hundred exports of 10 MB come back whole" do
      bytes = object("bytes(10_000_000)")
      array = object("np.zeros(10_000_000, 'u1')")
      before = {settled(&handles/0), settled_memory()}

      in_process(fn ->
        for _ <- 1..100 do
          {Pythonx.buffer(bytes), Pythonx.decode(bytes), Pythonx.buffer(array, copy: false)}
        end
      end)
      |> stop()

      wait_until(fn -> handles() <= elem(before, 0) end)
      wait_until(fn -> abs(binary_memory() - elem(before, 1)) < 1_000_000 end)

      # What earlier tests had dropped may have been among the handles before.
      wait_until(fn ->
        eval!("import sys; (sys.getrefcount(b), sys.getrefcount(a))", %{"a" => array, "b" => bytes}) ==
          eval!("import sys; c = bytes(100); (sys.getrefcount(c) + 1, sys.getrefcount(c) + 1)")
      end)
    end
  end

  # A process that makes a value, keeps it, and ends when it is stopped.
  defp in_process(fun) do
    test = self()

    pid =
      spawn_link(fn ->
        value = fun.()
        send(test, {:made, self()})
        keep(value)
      end)

    assert_receive {:made, ^pid}
    pid
  end

  defp keep(value) do
    receive do
      {:send_to, pid} ->
        send(pid, {:value, value})
        keep(value)

      :stop ->
        value
    end
  end

  defp send_back(holder) do
    send(holder, {:send_to, self()})
    assert_receive {:value, value}
    value
  end

  defp stop(holder) do
    monitor = Process.monitor(holder)
    send(holder, :stop)
    assert_receive {:DOWN, ^monitor, :process, ^holder, :normal}
  end
end
