defmodule Pythonx.ASTTest do
  use ExUnit.Case, async: true

  alias Pythonx.AST

  # The rules have their tests beside Python's own: test/python/test_globals.py. These are for the way there and back.

  defp assert_scan(code, referenced, defined) do
    assert AST.scan_globals(code) == %{referenced: MapSet.new(referenced), defined: MapSet.new(defined)}
  end

  test "names that are read and names that are left" do
    assert_scan("", [], [])
    assert_scan("p, q = r", ~w(r), ~w(p q))
    assert_scan("def g(a, b=k): return a + h", ~w(h k), ~w(g))
    assert_scan("[(t := u) for u in us]", ~w(us), ~w(t))
    assert_scan("x += 1", ~w(x), ~w(x))
    assert_scan("print(len(__name__))", [], [])
  end

  test "names are text of any script" do
    assert_scan("żółw = 猫", ~w(猫), ~w(żółw))
  end

  test "improvements: names that the code deletes, global names, the place of a loop's iterable" do
    assert_scan("del x", ~w(x), [])
    assert_scan("def f():\n  global g\n  g = 1", [], ~w(f g))
    assert_scan("for x in x: pass", ~w(x), ~w(x))
  end

  test "a star import is the name *" do
    assert_scan("from os import *", [], ~w(*))
  end

  test "scan/1 has the names that a run may leave alone" do
    assert AST.scan("x = 1\nif c: x = y = 2") == %{inputs: ["c"], outputs: ["x", "y"], kept: ["y"]}
    assert AST.scan("def f(a: T): pass\ndel z") == %{inputs: ["z", "T"], outputs: ["f", "z"], kept: []}
  end

  test "a syntax error" do
    error = assert_raise Pythonx.Error, fn -> AST.scan_globals("x = 1\ny = = 2") end

    assert Exception.message(error) =~ ~s(  File "<unknown>", line 2)
    assert Exception.message(error) =~ "SyntaxError: invalid syntax"
    {line, %{}} = Pythonx.eval("value.lineno if traceback is not None else None", Map.from_struct(error) |> stringify())
    assert Pythonx.decode(line) == 2
  end

  test "source that is no text" do
    assert_raise Pythonx.Error, ~r/SyntaxError: source code string cannot contain null bytes/, fn ->
      AST.scan_globals("a\0b")
    end

    assert_raise Pythonx.Error, ~r/SyntaxError/, fn -> AST.scan_globals(<<"x = '", 255, "'">>) end
    assert_scan("# coding: latin-1\n" <> <<233>>, ["é"], [])
  end

  test "something else than a binary" do
    assert_raise FunctionClauseError, fn -> apply(AST, :scan_globals, [~c"x"]) end
    assert_raise FunctionClauseError, fn -> apply(AST, :scan_globals, [nil]) end
  end

  test "source that is nested deeply" do
    assert_raise Pythonx.Error, fn -> AST.scan_globals(String.duplicate("[", 100_000)) end
    sum = "x = " <> Enum.map_join(1..900, "+", fn _index -> "a" end)
    assert_scan(sum, ~w(a), ~w(x))
  end

  defp stringify(map) do
    for {key, value} <- map, key in [:type, :value, :traceback], into: %{}, do: {Atom.to_string(key), value}
  end
end
