defmodule Pythonx.Calls.Options do
  @moduledoc false

  # The options that functions share: what each is by default, and what it may be. A function names those it takes, and
  # gets a map that has all of them.

  @defaults %{decode: false, binaries: :bytes, types: :basic, timeout: :infinity}

  # What `receive` can wait for, in milliseconds: 49 days.
  @longest 0xFFFF_FFFF

  # What an application has configured is read when it starts: each call of Python asks for it.
  @configurable [:binaries, :types]

  @doc """
  Takes `config :pythonx, :defaults`: what `:binaries` and `:types` are where a call does not say.
  """
  @spec configure!(term()) :: :ok
  def configure!(defaults) do
    expected = "`config :pythonx, :defaults` to be a keyword list of :binaries and :types, got: #{inspect(defaults)}"
    check_defaults!(defaults, expected)
    :persistent_term.put(__MODULE__, Map.new(defaults))
  end

  @doc """
  Raises for defaults that are none, with what was expected, and for values that they cannot have.
  """
  @spec check_defaults!(term(), String.t()) :: :ok
  def check_defaults!(defaults, expected) do
    valid? = Keyword.keyword?(defaults) and Enum.all?(Keyword.keys(defaults), &(&1 in @configurable))
    unless valid?, do: raise(ArgumentError, "expected " <> expected)
    Enum.each(defaults, fn {option, value} -> check!(option, value) end)
  end

  @doc """
  The defaults of the application, over those of a function.
  """
  @spec configured(map()) :: map()
  def configured(defaults) do
    case :persistent_term.get(__MODULE__, nil) do
      none when none in [nil, %{}] -> defaults
      configured -> Map.merge(defaults, configured)
    end
  end

  @doc """
  Whether the application has defaults of its own.
  """
  @spec configured?() :: boolean()
  def configured?, do: :persistent_term.get(__MODULE__, %{}) != %{}

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

  defp with_default(option) when option in @configurable,
    do: {option, @defaults |> Map.take([option]) |> configured() |> Map.fetch!(option)}

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
