defmodule Pythonx.RunTest do
  use Pythonx.Case, async: true

  alias Pythonx.Error

  @day ~D[2024-02-29]

  describe "run/3" do
    test "strings are str and types rich, both ways" do
      assert Pythonx.run("type(x).__name__", %{"x" => "a"}) == {:ok, "str"}
      assert Pythonx.run("type(x).__name__, x", %{"x" => @day}) == {:ok, {"date", @day}}
      assert Pythonx.run("type(x).__name__", %{"x" => "a"}, binaries: :bytes) == {:ok, "bytes"}
      assert {:ok, %Pythonx.Object{}} = Pythonx.run("import datetime; datetime.date(2024, 2, 29)", %{}, types: :basic)
      assert Pythonx.run("x = 1") == {:ok, nil}
    end

    test "returns what goes wrong" do
      assert {:error, %Error{lines: lines}} = Pythonx.run("1 / 0")
      assert List.last(lines) == "ZeroDivisionError: division by zero\n"
      assert {:error, %Error{} = error} = Pythonx.run("x = (")
      assert Error.summary(error) == "SyntaxError: '(' was never closed"
      assert {:error, %Pythonx.TimeoutError{timeout: 20}} = Pythonx.run("while True: pass", %{}, timeout: 20)
      assert {:error, %Protocol.UndefinedError{value: value}} = Pythonx.run("x", %{"x" => make_ref()})
      assert is_reference(value)

      assert {:error, %ArgumentError{message: message}} = Pythonx.run("x = []; x.append(x); x")
      assert message == "[0]: cannot decode a list that contains itself"

      assert {:error, %RuntimeError{message: "from Elixir"}} =
               Pythonx.run("f()", %{"f" => fn -> raise "from Elixir" end})
    end

    test "raises for options that are not right" do
      for {opts, message} <- [
            {[return: :list], "expected :return to be one of [:value, :object, :buffer, :table, :tensor], got: :list"},
            {[timeout: -1], "expected :timeout to be a non-negative integer or :infinity, got: -1"},
            {[types: :all], "expected :types to be :basic or :rich, got: :all"}
          ] do
        assert_raise ArgumentError, message, fn -> Pythonx.run("1", %{}, opts) end
        assert_raise ArgumentError, message, fn -> Pythonx.run!("1", %{}, opts) end
      end

      assert_raise ArgumentError, ~r/^unknown keys \[:retrun\]/, fn -> Pythonx.run("1", %{}, retrun: :object) end
      assert_raise ArgumentError, "expected globals keys to be strings, got: :x", fn -> Pythonx.run!("x", %{x: 1}) end
    end

    test "return:" do
      assert {:ok, %Pythonx.Object{} = object} = Pythonx.run("[1]", %{}, return: :object)
      assert Pythonx.decode(object) == [1]
      assert Pythonx.run!("bytearray(b'abc')", %{}, return: :buffer).data == "abc"
      assert Pythonx.run!("x = 1", %{}, return: :object) == nil
      assert {:error, %Error{}} = Pythonx.run("1", %{}, return: :table)
    end

    @tag :arrow
    test "return: :table" do
      table = Pythonx.run!("import pyarrow; pyarrow.table({'a': [1, 2]})", %{}, return: :table)
      assert Pythonx.Table.to_columns(table) == %{"a" => [1, 2]}
    end
  end

  test "run!/3 raises" do
    assert Pythonx.run!("1 + 1") == 2
    assert_raise Error, ~r/division by zero/, fn -> Pythonx.run!("1 / 0") end
    assert_raise Pythonx.TimeoutError, fn -> Pythonx.run!("while True: pass", %{}, timeout: 20) end
  end

  describe "an error for a struct that has a counterpart" do
    @hint "cannot encode this value, but with the option types: :rich it becomes one of Python's own"

    test "names the option" do
      assert %Protocol.UndefinedError{description: @hint} = raised(fn -> Pythonx.encode!(@day) end)
      error = raised(fn -> Pythonx.encode!([1, %{"day" => @day}]) end)
      assert error.description == ~s([1]["day"]: #{@hint})
      error = raised(fn -> Pythonx.eval("x", %{"x" => [1..2]}) end)
      assert error.description == ~s(["x"][0]: #{@hint})
    end

    test "and for others there is nothing to name" do
      assert raised(fn -> Pythonx.encode!(%URI{}) end).description in [nil, ""]
    end
  end

  describe "Pythonx.Error.summary/2" do
    test "of exceptions of every form" do
      for {code, summary} <- [
            {"raise ValueError('bad')", "ValueError: bad"},
            {"raise KeyError('a')", "KeyError: 'a'"},
            {"raise ValueError", "ValueError"},
            {"raise ValueError('first\\nsecond')", "ValueError: first"},
            {"try:\n  1 / 0\nexcept ZeroDivisionError as e:\n  raise RuntimeError('later') from e",
             "RuntimeError: later"},
            {"class Own(Exception): pass\nraise Own('x')", "Own: x"},
            {"import json; json.loads('{')",
             "json.decoder.JSONDecodeError: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"},
            {"1 +", "SyntaxError: invalid syntax"}
          ] do
        {:error, error} = Pythonx.run(code)
        assert Error.summary(error) == summary
      end
    end

    test "of one with notes, and of a group" do
      if python_minor() >= 11 do
        {:error, error} = Pythonx.run("e = ValueError('bad')\ne.add_note('Hint: try again')\nraise e")
        assert Error.summary(error) == "ValueError: bad"
        {:error, error} = Pythonx.run("raise ExceptionGroup('several', [ValueError('a'), KeyError('b')])")
        assert Error.summary(error) == "ExceptionGroup: several (2 sub-exceptions)"
      end
    end

    test "is cut" do
      {:error, error} = Pythonx.run("raise ValueError('ä' * 1000)")
      assert Error.summary(error) == "ValueError: " <> String.duplicate("ä", 187) <> "…"
      assert Error.summary(error, 15) == "ValueError: ää…"
      assert Error.summary(%Error{lines: nil}) == ""
    end
  end

  test "Pythonx.Error.exit_code/1" do
    for {code, status} <- [
          {"import sys; sys.exit(3)", 3},
          {"import sys; sys.exit()", 0},
          {"raise SystemExit", 0},
          {"raise SystemExit(0)", 0},
          {"raise SystemExit('with a message')", 1},
          {"class Exit(SystemExit): pass\nraise Exit(4)", 4},
          {"1 / 0", nil},
          {"raise KeyboardInterrupt", nil}
        ] do
      {:error, error} = Pythonx.run(code)
      assert {code, Error.exit_code(error)} == {code, status}
    end
  end

  describe "the modifiers of ~PY" do
    defp compiled(code, bindings) do
      {result, _} = Code.eval_string("import Pythonx\n" <> code, bindings)
      Pythonx.decode(result)
    end

    test "make binaries str and structs Python's own" do
      assert compiled(~S|~PY"type(x).__name__"|, x: "a") == "bytes"
      assert compiled(~S|~PY"type(x).__name__"s|, x: "a") == "str"
      assert compiled(~S|~PY"type(x).__name__"r|, x: @day) == "date"
      assert compiled(~S|~PY"type(x).__name__, type(y).__name__"sr|, x: @day, y: "a") == {"date", "str"}
    end

    test "others are refused" do
      for code <- [~S|~PY"1"x|, ~S|~PY"1"ss|], do: assert_raise(FunctionClauseError, fn -> compiled(code, []) end)
    end

    test "are set for a module by use Pythonx" do
      [{module, _beam}] =
        Code.compile_string("""
        defmodule Pythonx.RunTest.Rich do
          use Pythonx, binaries: :str, types: :rich
          def types(x, y), do: ~PY"type(x).__name__, type(y).__name__"
        end
        """)

      assert module.types(@day, "a") |> Pythonx.decode() == {"date", "str"}
    after
      :code.purge(Pythonx.RunTest.Rich)
      :code.delete(Pythonx.RunTest.Rich)
    end

    test "use Pythonx checks its options" do
      assert_raise ArgumentError, "expected :binaries to be :bytes or :str, got: :text", fn ->
        Code.eval_string("use Pythonx, binaries: :text")
      end

      message = "expected `use Pythonx` to have the options :binaries and :types, got: [timeout: 1]"

      assert_raise ArgumentError, message, fn ->
        Code.eval_string("use Pythonx, timeout: 1")
      end
    end
  end
end
