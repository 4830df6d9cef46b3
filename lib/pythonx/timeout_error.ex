defmodule Pythonx.TimeoutError do
  @moduledoc """
  Python code did not end within the `:timeout` of its call. It has been interrupted.

  Fields:

    * `:timeout` - the time that was given, in milliseconds
  """

  defexception [:timeout]

  @type t :: %__MODULE__{timeout: non_neg_integer()}

  @impl true
  def message(%__MODULE__{timeout: timeout}) do
    "the Python code did not end within #{timeout} ms and was interrupted"
  end
end
