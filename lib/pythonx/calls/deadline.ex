defmodule Pythonx.Calls.Deadline do
  @moduledoc false

  # When an operation of several steps has to be over. Each step gets what is left of the time; the error names the whole.

  @type t :: timeout() | {integer(), non_neg_integer()}

  @doc """
  The deadline that is `timeout` milliseconds from now; one that is a deadline already stays as it is.
  """
  @spec new(t()) :: t()
  def new(timeout) when is_integer(timeout), do: {System.monotonic_time(:millisecond) + timeout, timeout}
  def new(deadline), do: deadline

  @doc """
  The milliseconds that are left, 0 when it is over.
  """
  @spec left(t()) :: timeout()
  def left({at, _timeout}), do: max(at - System.monotonic_time(:millisecond), 0)
  def left(timeout), do: timeout

  @doc """
  Raises `Pythonx.TimeoutError`, with the time that was given.
  """
  @spec give_up!(t()) :: no_return()
  def give_up!({_at, timeout}), do: give_up!(timeout)
  def give_up!(timeout), do: raise(Pythonx.TimeoutError, timeout: timeout)
end
