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
    {referenced, defined, _kept, _annotated, _deleted} = NIF.scan_globals(code)
    %{referenced: MapSet.new(referenced), defined: MapSet.new(defined)}
  end

  @doc """
  What the sigil needs to know: `:inputs`, the names of `scan_globals/1` that are read and those that annotations read;
  `:outputs`, those that are defined and those that are deleted; `:kept`, the outputs that a run of the code may leave
  untouched.
  """
  @spec scan(String.t()) :: %{inputs: [String.t()], outputs: [String.t()], kept: [String.t()]}
  def scan(code) when is_binary(code) do
    {referenced, defined, kept, annotated, deleted} = NIF.scan_globals(code)
    %{inputs: referenced ++ annotated, outputs: Enum.uniq(defined ++ deleted), kept: kept}
  end
end
