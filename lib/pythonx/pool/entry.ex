defmodule Pythonx.Pool.Entry do
  # What a pool knows of a worker. `lease` is who has it, `holder` the process if it has it for a function, `spent` whether
  # the worker must be replaced after that.
  @moduledoc false

  @enforce_keys [:node, :monitor, :since]
  defstruct [
    :node,
    :monitor,
    :os_pid,
    :lease,
    :holder,
    :since,
    status: :starting,
    uses: 0,
    handles: 0,
    spent: false,
    retired: false
  ]

  @type t :: %__MODULE__{
          node: Pythonx.Pool.Nodes.name(),
          monitor: reference(),
          os_pid: non_neg_integer() | nil,
          lease: reference() | nil,
          holder: pid() | nil,
          since: integer(),
          status: :starting | :ready | :stopping | :failed,
          uses: non_neg_integer(),
          handles: non_neg_integer(),
          spent: boolean(),
          retired: boolean()
        }

  @doc "One of a process that was just started, which is monitored from now on."
  @spec new(Pythonx.Pool.Nodes.name(), pid()) :: t()
  def new(node, pid) do
    %__MODULE__{node: node, monitor: Process.monitor(pid), since: System.monotonic_time(:millisecond)}
  end

  @doc "As `Pythonx.Pool.info/1` tells it."
  @spec describe(pid(), t()) :: map()
  def describe(pid, entry) do
    %{
      pid: pid,
      node: node(pid),
      os_pid: entry.os_pid,
      status: status(entry),
      uses: entry.uses,
      handles: entry.handles,
      uptime: System.monotonic_time(:millisecond) - entry.since
    }
  end

  defp status(%{lease: lease}) when lease != nil, do: :busy
  defp status(%{status: :ready, retired: true}), do: :retired
  defp status(%{status: :ready}), do: :idle
  defp status(%{status: status}), do: status
end
