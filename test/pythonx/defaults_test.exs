defmodule Pythonx.DefaultsTest do
  # What an application configures is the whole VM's, so this runs in one of its own.
  use ExUnit.Case, async: true

  alias Pythonx.FreshVM

  @elixir ~S'''
  :logger.set_primary_config(:level, :none)
  :ok = Application.stop(:pythonx)
  Application.put_env(:pythonx, :defaults, binaries: :str, types: :rich)
  :ok = Application.start(:pythonx)
  day = ~D[2024-02-29]
  {kinds, _} = Pythonx.eval("type(x[0]).__name__, type(x[1]).__name__", %{"x" => [day, "a"]})
  {kind, _} = Pythonx.eval("type(x).__name__", %{"x" => "a"}, binaries: :bytes)
  {date, _} = Pythonx.eval("import datetime; datetime.date", %{})

  IO.inspect([
    Pythonx.decode(kinds),
    Pythonx.decode(kind),
    Pythonx.type(Pythonx.encode!(day)),
    Pythonx.type(Pythonx.encode!("a")),
    Pythonx.decode(Pythonx.encode!(day)),
    Pythonx.call(date, [2024, 2, 29], [], decode: true),
    Pythonx.run!("type(x).__name__", %{"x" => "a"})
  ])

  :ok = Application.stop(:pythonx)
  Application.put_env(:pythonx, :defaults, types: :all)
  {:error, error} = Application.start(:pythonx)
  IO.puts(inspect(error) =~ "expected :types to be :basic or :rich, got: :all")
  System.halt(0)
  '''

  test "of an application hold wherever a call does not say, and are checked when it starts" do
    assert {output, 0} = FreshVM.run(FreshVM.python(), "", @elixir)

    assert output == """
           [
             {"date", "str"},
             "bytes",
             "datetime.date",
             "str",
             ~D[2024-02-29],
             ~D[2024-02-29],
             "str"
           ]
           true
           """
  end

  test "are of two options" do
    message = "expected `config :pythonx, :defaults` to be a keyword list of :binaries and :types, got: [timeout: 1]"
    assert_raise ArgumentError, message, fn -> Pythonx.Calls.Options.configure!(timeout: 1) end
  end
end
