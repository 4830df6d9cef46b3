defmodule Pythonx.AST do
  @moduledoc false

  # The global names that Python code reads and leaves. Python's own parser finds them, and the rules are beside it, in
  # priv/python/pythonx/_globals.py.

  alias Pythonx.NIF

  @type scan :: %{referenced: MapSet.t(String.t()), defined: MapSet.t(String.t())}

  @doc """
  The names that `code` reads before it defines them, and those that it defines.

  Names of Python's builtins are not read from the global scope. `from m import *` defines the name `*`.

  Raises `Pythonx.Error` with a `SyntaxError` when the code does not parse.
  """
  @spec scan_globals(String.t()) :: scan()
  def scan_globals(code) when is_binary(code) do
    {referenced, defined, _kept} = NIF.scan_globals(code)
    %{referenced: MapSet.new(referenced), defined: MapSet.new(defined)}
  end

  @doc """
  The names of `scan_globals/1` as sorted lists, and those defined names that a run of the code may leave untouched.
  """
  @spec scan(String.t()) :: {referenced :: [String.t()], defined :: [String.t()], kept :: [String.t()]}
  def scan(code) when is_binary(code), do: NIF.scan_globals(code)
end
