defmodule Pythonx.Pool.Failures do
  # The workers of a pool that could not start, or did nothing before they ended: how many there were of late, which is
  # either too many, or makes the next attempt wait.
  @moduledoc false

  @first_delay_ms 100
  @last_delay_ms 5000

  @enforce_keys [:most, :seconds]
  defstruct [:most, :seconds, times: []]

  @type t :: %__MODULE__{most: non_neg_integer(), seconds: pos_integer(), times: [integer()]}

  @doc "None yet. More than `most` within `seconds` are too many."
  @spec new(non_neg_integer(), pos_integer()) :: t()
  def new(most, seconds), do: %__MODULE__{most: most, seconds: seconds}

  @doc "Counts one of now, and forgets those of long ago."
  @spec count(t()) :: t()
  def count(failures) do
    now = System.monotonic_time(:second)
    %{failures | times: [now | Enum.filter(failures.times, &(&1 > now - failures.seconds))]}
  end

  @doc "Whether there were too many."
  @spec too_many?(t()) :: boolean()
  def too_many?(failures), do: length(failures.times) > failures.most

  @doc "How long the next attempt waits, in milliseconds. Each failure makes it longer."
  @spec delay(t()) :: pos_integer()
  def delay(failures), do: min(@first_delay_ms * 2 ** min(length(failures.times), 10), @last_delay_ms)
end
