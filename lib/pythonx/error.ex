defmodule Pythonx.Error do
  @moduledoc """
  A Python exception.

  Fields:

    * `:lines` - the formatted exception, a list of strings as Python's `traceback.format_exception` makes them:
      each ends in a newline and may hold more of them

    * `:type` - the exception class, a `Pythonx.Object`

    * `:value` - the exception itself, a `Pythonx.Object`

    * `:traceback` - the traceback, a `Pythonx.Object`; it holds `None` for an exception that was raised outside of
      any Python code
  """

  defexception [:lines, :type, :value, :traceback]

  @type t :: %__MODULE__{
          lines: [String.t()],
          type: Pythonx.Object.t(),
          value: Pythonx.Object.t(),
          traceback: Pythonx.Object.t()
        }

  @doc """
  The exception's class and message on one line, for a log. What is longer than `max` characters is cut, and ends in `…`.

  Python is not asked: the text is in the exception's `:lines`.

      iex> try do
      ...>   Pythonx.eval("int('five')", %{})
      ...> rescue
      ...>   error in Pythonx.Error -> Pythonx.Error.summary(error)
      ...> end
      "ValueError: invalid literal for int() with base 10: 'five'"
  """
  @spec summary(t(), pos_integer()) :: String.t()
  def summary(%__MODULE__{lines: lines}, max \\ 200) do
    text = lines |> List.wrap() |> headline() |> String.split("\n", parts: 2) |> hd()
    if String.length(text) > max, do: String.slice(text, 0, max - 1) <> "…", else: text
  end

  # Python writes the frames, each with two spaces at least before it, then class and message, then what belongs to these:
  # notes, or the members of a group, whose lines begin with a bar. Before all that come the exceptions that led to this one.
  defp headline(lines) do
    lines
    |> Enum.reverse()
    |> Enum.take_while(&(not (&1 =~ ~r/^\s*(\+ Exception Group )?Traceback \(most recent call last\):/)))
    |> Enum.reverse()
    |> Enum.map(&String.replace(&1, ~r/^  \| /, ""))
    |> Enum.find(List.last(lines) || "", &(&1 =~ ~r/^\S/))
  end

  @doc """
  The exit status that Python would end with, when the exception is a `SystemExit`; `nil` for any other.

  Without a code, as by `sys.exit()`, that is 0, and 1 where the code is no integer.

      iex> try do
      ...>   Pythonx.eval("import sys; sys.exit(3)", %{})
      ...> rescue
      ...>   error in Pythonx.Error -> Pythonx.Error.exit_code(error)
      ...> end
      3
  """
  @spec exit_code(t()) :: integer() | nil
  def exit_code(%__MODULE__{value: %Pythonx.Object{} = value}) do
    code = """
    if not isinstance(error, SystemExit): code = None
    elif error.code is None: code = 0
    else: code = error.code if isinstance(error.code, int) else 1
    code
    """

    {code, _globals} = Pythonx.eval(code, %{"error" => value})
    Pythonx.decode(code)
  end

  def exit_code(%__MODULE__{}), do: nil

  @impl true
  def message(%__MODULE__{lines: lines}) do
    IO.iodata_to_binary(["Python exception raised\n\n" | Enum.map(lines || [], &["        ", &1])])
  end
end
