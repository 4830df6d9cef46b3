defmodule Pythonx.Object.Display do
  @moduledoc false

  # Representations of objects, see priv/python/pythonx/_display.py.

  alias Pythonx.Calls
  alias Pythonx.Calls.{Deadline, Options}
  alias Pythonx.NIF
  alias Pythonx.Object
  alias Pythonx.Telemetry

  @doc """
  See `Pythonx.display/2`.
  """
  @spec display(Object.t(), keyword()) :: %{String.t() => term()}
  def display(object, opts) do
    opts = Options.validate!(opts, [:timeout])
    arguments = {NIF.local!(object)}
    deadline = Deadline.new(opts.timeout)
    Telemetry.operation(:display, fn -> Calls.internal("pythonx._display", "display", arguments, deadline) end)
  end
end
