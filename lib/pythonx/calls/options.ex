defmodule Pythonx.Calls.Options do
  @moduledoc false

  # The options that functions share: what each is by default, and what it may be. A function names those it takes, and
  # gets a map that has all of them.

  @defaults %{decode: false, binaries: :bytes, types: :basic, timeout: :infinity}

  # What `receive` can wait for, in milliseconds: 49 days.
  @longest 0xFFFF_FFFF

  @doc """
  The options as a map, checked. `taken` is a list of names, or of names with defaults of their own.

      iex> Pythonx.Calls.Options.validate!([timeout: 10], [:timeout, binaries: :str])
      %{timeout: 10, binaries: :str}
  """
  @spec validate!(keyword(), [atom() | {atom(), term()}]) :: map()
  def validate!(opts, taken) do
    defaults = for option <- taken, do: with_default(option)
    opts = if opts == [], do: defaults, else: Keyword.validate!(opts, defaults)
    Enum.each(opts, fn {option, value} -> check!(option, value) end)
    Map.new(opts)
  end

  defp with_default({option, default}), do: {option, default}
  defp with_default(option), do: {option, Map.fetch!(@defaults, option)}

  @doc """
  Raises for a value that the option cannot have.
  """
  @spec check!(atom(), term()) :: :ok
  def check!(:decode, value) when is_boolean(value), do: :ok
  def check!(:decode, value), do: refuse!(:decode, "a boolean", value)
  def check!(:binaries, value) when value in [:bytes, :str], do: :ok
  def check!(:binaries, value), do: refuse!(:binaries, ":bytes or :str", value)
  def check!(:types, value) when value in [:basic, :rich], do: :ok
  def check!(:types, value), do: refuse!(:types, ":basic or :rich", value)
  def check!(:order, value) when value in [:memory, :c], do: :ok
  def check!(:order, value), do: refuse!(:order, ":memory or :c", value)
  def check!(:timeout, :infinity), do: :ok
  def check!(:timeout, value) when is_integer(value) and value >= 0 and value <= @longest, do: :ok

  def check!(:timeout, value) when is_integer(value) and value > @longest do
    raise ArgumentError, "expected :timeout to be at most #{@longest}, got: #{value}"
  end

  # A Pythonx.Calls.Deadline, of what this is a part of.
  def check!(:timeout, {at, timeout}) when is_integer(at) and is_integer(timeout), do: :ok
  def check!(:timeout, value), do: refuse!(:timeout, "a non-negative integer or :infinity", value)
  def check!(_of_the_function_itself, _value), do: :ok

  defp refuse!(option, expected, value) do
    raise ArgumentError, "expected #{inspect(option)} to be #{expected}, got: #{inspect(value)}"
  end
end
