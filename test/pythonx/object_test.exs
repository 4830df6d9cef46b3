defmodule Pythonx.ObjectTest do
  use Pythonx.Case, async: false

  import ExUnit.CaptureIO

  doctest Pythonx.Object

  defp object(code, globals \\ %{}), do: code |> Pythonx.eval(globals) |> elem(0)

  defp python_error(fun) do
    error = assert_raise Pythonx.Error, fun
    List.last(error.lines)
  end

  describe "a result that holds the same many times" do
    test "is decoded once for all" do
      {double, _globals} = Pythonx.eval("def double(x):\n  for _ in range(60): x = [x, x]\n  return x\ndouble", %{})
      depth = fn depth, term -> if is_list(term), do: depth.(depth, hd(term)) + 1, else: 0 end
      # Some answers come back at once, others as messages.
      for _ <- 1..50, do: assert(depth.(depth, Pythonx.call(double, [1], [], decode: true)) == 60)
    end
  end

  describe "call" do
    test "passes positional and named arguments" do
      show = object("lambda *args, **kwargs: (args, kwargs)")
      assert Pythonx.call(show, [], [], decode: true) == {{}, %{}}
      assert Pythonx.call(show, [1, [2.5, nil]], [], decode: true) == {{1, [2.5, nil]}, %{}}
      expected = {{1}, %{"a" => 2, "b" => "x"}}
      assert Pythonx.call(show, [1], [a: 2, b: "x"], decode: true) == expected
      assert Pythonx.call(show, [1], %{"a" => 2, :b => "x"}, decode: true) == expected
      many = Map.new(1..100, &{"name#{&1}", &1})

      assert Pythonx.call(show, Enum.to_list(1..1000), many, decode: true) ==
               {List.to_tuple(Enum.to_list(1..1000)), many}
    end

    test "decodes a dict that a finalizer changes meanwhile" do
      # Up to Python 3.11 the collector may run when the set is read. The dict is large enough for a pause after that.
      code = """
      import gc

      class Cycle:
          def __init__(self, dict):
              self.me = self
              self.dict = dict
          def __del__(self):
              for key in list(self.dict)[100_000:]: del self.dict[key]

      def make():
          result = {0: {1}, **{n: str(n) for n in range(1, 200_000)}}
          gc.collect()
          make.thresholds = gc.get_threshold()
          gc.disable()
          gc.set_threshold(1)
          Cycle(result)
          gc.enable()
          return result
      """

      {nil, %{"make" => make}} = Pythonx.eval(code, %{})
      decoded = Pythonx.call(make, [], [], decode: true)
      eval!("import gc; gc.set_threshold(*make.thresholds); gc.collect()", %{"make" => make})
      assert {zero, rest} = Map.pop(decoded, 0)
      assert zero == MapSet.new([1])
      assert map_size(rest) in [99_999, 199_999]
      assert Enum.all?(rest, fn {key, value} -> value == Integer.to_string(key) end)
    end

    test "passes objects by reference and returns them" do
      identity = object("lambda x: x")
      value = object("object()")
      assert Pythonx.call(identity, [value], [], decode: true) |> is_struct(Pythonx.Object)
      assert eval!("a is b", %{"a" => value, "b" => Pythonx.call(identity, [value])})
    end

    test "makes str of binaries, or bytes when asked to" do
      type = object("lambda x: type(x).__name__")
      assert Pythonx.call(type, ["é"], [], decode: true) == "str"
      assert Pythonx.call(type, ["é"], [], decode: true, binaries: :bytes) == "bytes"

      assert python_error(fn -> Pythonx.call(type, [<<255>>]) end) ==
               "UnicodeDecodeError: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte\n"
    end

    test "encodes structs through the protocol" do
      assert Pythonx.call(object("len"), [MapSet.new([1, 2])], [], decode: true) == 2

      error = assert_raise Protocol.UndefinedError, fn -> Pythonx.call(object("len"), [~D[2024-01-01]]) end
      assert error.protocol == Pythonx.Encoder
      assert error.value == ~D[2024-01-01]
    end

    test "raises what Python raises, with the user's frame first" do
      {nil, globals} = Pythonx.eval("def f(x):\n  return 1 / x", %{})

      error = assert_raise Pythonx.Error, fn -> Pythonx.call(globals["f"], [0]) end

      assert error.lines == [
               "Traceback (most recent call last):\n",
               "  File \"<string>\", line 2, in f\n",
               "ZeroDivisionError: division by zero\n"
             ]

      assert python_error(fn -> Pythonx.call(globals["f"]) end) ==
               "TypeError: f() missing 1 required positional argument: 'x'\n"

      assert python_error(fn -> Pythonx.call(Pythonx.encode!(1)) end) == "TypeError: 'int' object is not callable\n"
    end

    test "refuses what decode/1 refuses" do
      message = "[0]: cannot decode a list that contains itself"
      f = object("lambda: (lambda x: x.append(x) or x)([])")
      assert_raise ArgumentError, message, fn -> Pythonx.call(f, [], [], decode: true) end
    end

    test "refuses wrong arguments" do
      f = object("len")

      message = "expected kwargs to be a keyword list or a map with atoms or strings as keys, got: [1]"
      assert_raise ArgumentError, message, fn -> Pythonx.call(f, [], [1]) end
      message = "expected kwargs to be a keyword list or a map with atoms or strings as keys, got: %{1 => 2}"
      assert_raise ArgumentError, message, fn -> Pythonx.call(f, [], %{1 => 2}) end
      message = "expected a name to be an atom or a string, got: 1"
      assert_raise ArgumentError, message, fn -> Pythonx.call_method(f, 1) end
      message = "expected :decode to be a boolean, got: 1"
      assert_raise ArgumentError, message, fn -> Pythonx.call(f, [[]], [], decode: 1) end
      message = "expected :timeout to be a non-negative integer or :infinity, got: -1"
      assert_raise ArgumentError, message, fn -> Pythonx.call(f, [[]], [], timeout: -1) end
      message = "expected :binaries to be :bytes or :str, got: :text"
      assert_raise ArgumentError, message, fn -> Pythonx.call(f, [[]], [], binaries: :text) end
      assert_raise ArgumentError, ~r/^unknown keys \[:foo\]/, fn -> Pythonx.call(f, [[]], [], foo: 1) end

      message = ~r/^decode failed, expected a resource reference, got: #Ref/
      assert_raise ArgumentError, message, fn -> Pythonx.call(%Pythonx.Object{resource: make_ref()}) end
    end

    test "prints to the caller's devices, before it returns" do
      print = object("print")
      assert capture_io(fn -> Pythonx.call(print, ["hello"], end: "") end) == "hello"

      {nil, globals} = Pythonx.eval("def warn():\n  import sys\n  print('careful', file=sys.stderr)", %{})
      assert capture_io(:stderr, fn -> Pythonx.call(globals["warn"]) end) == "careful\n"
    end

    test "prints of a call that fails are not lost" do
      {nil, globals} = Pythonx.eval("def f():\n  print('before', end='')\n  raise KeyError(1)", %{})
      assert capture_io(fn -> assert_raise Pythonx.Error, fn -> Pythonx.call(globals["f"]) end end) == "before"
    end

    test "is stopped when its time is over" do
      await_main_thread()
      sleep = "time" |> Pythonx.import_module() |> Pythonx.getattr(:sleep)
      error = assert_raise Pythonx.TimeoutError, fn -> Pythonx.call(sleep, [60], [], timeout: 30) end
      assert error.timeout == 30
      wait_until(fn -> Pythonx.running() == [] end)

      refute_received _anything
    end
  end

  describe "attributes, items and methods" do
    test "are read and set" do
      box = object("type('Box', (), {})()")
      assert Pythonx.setattr(box, :name, "Ada") == :ok
      assert Pythonx.setattr(box, "age", 36) == :ok
      assert Pythonx.getattr(box, "name", decode: true) == "Ada"
      assert Pythonx.call_method(box, "__getattribute__", ["age"], [], decode: true) == 36

      assert python_error(fn -> Pythonx.getattr(box, :missing) end) ==
               "AttributeError: 'Box' object has no attribute 'missing'\n"

      list = Pythonx.encode!([1, 2, 3])
      assert Pythonx.setitem(list, 0, nil) == :ok
      assert Pythonx.getitem(list, 0, decode: true) == nil
      assert python_error(fn -> Pythonx.getitem(list, 3) end) == "IndexError: list index out of range\n"
      assert python_error(fn -> Pythonx.setitem(list, 3, 0) end) == "IndexError: list assignment index out of range\n"
    end

    test "a binary key of a dict is the str, or the bytes where there are only these" do
      dict = object("{'a': 1, b'a': 2, b'b': 3}")
      assert Pythonx.getitem(dict, "a", decode: true) == 1
      assert Pythonx.getitem(dict, "a", decode: true, binaries: :bytes) == 2
      assert Pythonx.getitem(dict, "b", decode: true) == 3
      assert Pythonx.setitem(dict, "b", 4) == :ok
      assert Pythonx.setitem(dict, "c", 5) == :ok
      assert repr(dict) == "{'a': 1, b'a': 2, b'b': 4, 'c': 5}"
      assert python_error(fn -> Pythonx.getitem(dict, "d") end) == "KeyError: 'd'\n"

      missing = object("import collections; collections.defaultdict(list)")
      assert Pythonx.getitem(missing, "x", decode: true) == []
      assert repr(missing) == "defaultdict(<class 'list'>, {'x': []})"
    end

    test "are read by Access" do
      nested = object("{'rows': [{'id': 7}], 2: 'two'}")
      assert Pythonx.decode(nested["rows"][0]["id"]) == 7
      assert Pythonx.decode(nested[2]) == "two"
      assert nested["none"] == nil
      assert nested["rows"][1] == nil
      assert get_in(nested, ["rows", 0, "id"]) |> Pythonx.decode() == 7
      assert python_error(fn -> nested[[]] end) =~ "unhashable type: 'list'"

      message = "a Python object is changed in place, use Pythonx.setitem/3"
      assert_raise ArgumentError, message, fn -> put_in(nested["rows"], 1) end
      assert_raise ArgumentError, message, fn -> pop_in(nested["rows"]) end
    end
  end

  describe "import_module" do
    test "gives the module of that name" do
      assert "collections.abc" |> Pythonx.import_module() |> Pythonx.getattr(:__name__, decode: true) ==
               "collections.abc"

      assert :json |> Pythonx.import_module() |> Pythonx.getattr(:__name__, decode: true) == "json"

      assert python_error(fn -> Pythonx.import_module("no_such.module") end) ==
               "ModuleNotFoundError: No module named 'no_such'\n"

      assert python_error(fn -> Pythonx.import_module("json.no_such") end) ==
               "ModuleNotFoundError: No module named 'json.no_such'\n"
    end
  end

  describe "text" do
    test "is Python's str" do
      assert to_string(object("'é\\0'")) == "é\0"
      assert "#{object("[1, None]")}" == "[1, None]"

      assert python_error(fn -> to_string(object("type('A', (), {'__str__': lambda s: 1/0})()")) end) ==
               "ZeroDivisionError: division by zero\n"
    end

    test "type names the class" do
      assert Pythonx.type(Pythonx.encode!(nil)) == "NoneType"
      assert Pythonx.type(object("type('Box', (), {})")) == "type"
      assert Pythonx.type(object("import collections; collections.OrderedDict()")) == "collections.OrderedDict"
    end

    test "help prints the documentation" do
      {nil, globals} = Pythonx.eval("def greet(name):\n  'Say hello.'", %{})

      assert capture_io(fn -> assert Pythonx.help(globals["greet"]) == :ok end) == """
             function greet in module __main__

             greet(name)
                 Say hello.
             """
    end

    test "help is bold where the terminal has it" do
      {nil, globals} = Pythonx.eval("def greet(name):\n  'Say hello.'", %{})
      enabled = Application.get_env(:elixir, :ansi_enabled)
      Application.put_env(:elixir, :ansi_enabled, true)
      on_exit(fn -> Application.put_env(:elixir, :ansi_enabled, enabled) end)
      assert capture_io(fn -> Pythonx.help(globals["greet"]) end) =~ "\e[1mgreet\e[0m(name)\n"
    end
  end
end
