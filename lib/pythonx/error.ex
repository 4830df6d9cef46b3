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

  @impl true
  def message(%__MODULE__{lines: lines}) do
    IO.iodata_to_binary(["Python exception raised\n\n" | Enum.map(lines || [], &["        ", &1])])
  end
end
