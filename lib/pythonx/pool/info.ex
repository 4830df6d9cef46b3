defmodule Pythonx.Pool.Info do
  # What a pool tells of itself; see `Pythonx.Pool.info/1`.
  @moduledoc false

  @doc "The description of the state of a `Pythonx.Pool.Manager`."
  @spec describe(struct()) :: map()
  def describe(state) do
    workers = for {pid, entry} <- state.workers, do: Pythonx.Pool.Entry.describe(pid, entry)

    Map.merge(state.counts, %{
      size: state.options.size,
      idle: length(state.idle),
      busy: Enum.count(workers, &(&1.status == :busy)),
      starting: Enum.count(workers, &(&1.status == :starting)),
      queued: state.line.length,
      sandbox: state.sandbox,
      workers: Enum.sort_by(workers, & &1.pid)
    })
  end
end
