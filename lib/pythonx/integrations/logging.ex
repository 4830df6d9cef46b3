defmodule Pythonx.Integrations.Logging do
  @moduledoc false

  # Takes the records of Python's logging, see priv/python/pythonx/_logging.py, and gives them to Logger.

  use GenServer

  require Logger

  alias Pythonx.Calls
  alias Pythonx.Calls.Deadline
  alias Pythonx.Calls.Options
  alias Pythonx.Telemetry

  @levels [debug: 10, info: 20, warning: 30, error: 40, critical: 50]

  @doc """
  Makes Python log to Logger; see `Pythonx.attach_logger/1`.
  """
  @spec attach(keyword()) :: :ok
  def attach(opts) do
    opts = Options.validate!(opts, [:timeout, level: :info, logger: nil])
    Telemetry.operation(:attach_logger, fn -> change(opts) end)
    :ok
  end

  defp change(opts) do
    if opts.level == :none do
      Calls.internal("pythonx._logging", "detach", {}, Deadline.new(opts.timeout))
    else
      Calls.internal("pythonx._logging", "attach", {opts.logger, number!(opts.level)}, Deadline.new(opts.timeout))
    end
  end

  defp number!(level) do
    @levels[level] ||
      raise ArgumentError,
            "expected :level to be one of #{inspect(Keyword.keys(@levels) ++ [:none])}, got: #{inspect(level)}"
  end

  @spec start_link(term()) :: GenServer.on_start()
  def start_link(_opts), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)

  @impl true
  def init(nil), do: {:ok, nil}

  @impl true
  def handle_info({:pythonx_log, number, text, logger, {file, line, function}, process}, state) do
    metadata = [file: String.to_charlist(file), line: line, python_function: function, python_logger: logger]
    metadata = if process, do: [{:pid, process} | metadata], else: metadata
    Logger.log(level(number), text, metadata)
    {:noreply, state}
  end

  def handle_info(_unknown, state), do: {:noreply, state}

  # Levels in between count as the one below them.
  defp level(number) do
    @levels |> Enum.reverse() |> Enum.find_value(:debug, fn {name, least} -> if number >= least, do: name end)
  end
end
