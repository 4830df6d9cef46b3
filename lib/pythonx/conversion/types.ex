defmodule Pythonx.Conversion.Types do
  @moduledoc false

  # `types: :rich`, both ways: the structs of Elixir that Python has a type for. See priv/python/pythonx/_types.py and
  # c_src/bridge/conversion/decode_rich.cpp.

  alias Pythonx.Calls.Deadline
  alias Pythonx.NIF
  alias Pythonx.Object

  @durations Code.ensure_loaded?(Duration)

  # An object that makes new ones each time it is looked at would be decoded for ever.
  @most_rounds 10

  @doc """
  Decodes an object with rich types; see `Pythonx.decode/2`.
  """
  @spec decode(Object.t(), Deadline.t()) :: term()
  def decode(object, timeout \\ :infinity) do
    object = NIF.local!(object)
    if is_struct(object, Pythonx.Pool.Object), do: Pythonx.Decoder.tell(object)
    decode(object, Deadline.new(timeout), [], @most_rounds)
  end

  defp decode(_object, _deadline, _decoded, 0) do
    raise ArgumentError, "cannot decode an object that holds new ones each time it is looked at"
  end

  defp decode(object, deadline, decoded, rounds) do
    case NIF.call("decode_rich", {object, @durations, decimals?(), decoded}, deadline) do
      {:done, term} ->
        term

      :unchanged ->
        object

      {:more, found} ->
        terms = for {nested, function} <- found, do: {nested, function.(nested)}
        decode(object, deadline, terms ++ decoded, rounds - 1)
    end
  end

  defp decimals?, do: Code.ensure_loaded?(Decimal)

  @doc """
  The objects for structs that `describe/1` knows.
  """
  @spec build([tuple()], Deadline.t()) :: [Object.t()]
  def build(descriptions, deadline) do
    Pythonx.Calls.internal("pythonx._types", "build", {descriptions}, deadline)
  end

  @doc """
  Whether there is a counterpart with `types: :rich` for a struct of this kind.
  """
  @spec known?(term()) :: boolean()
  def known?(%struct{}), do: struct in [Date, Time, NaiveDateTime, DateTime, Range, Decimal, Duration]
  def known?(_other), do: false

  @doc """
  What Python needs to make an object for a struct; `nil` for any other term.
  """
  @spec describe(term()) :: tuple() | nil
  def describe(%Date{} = date), do: List.to_tuple([:date | date_fields(date)])
  def describe(%Time{} = time), do: List.to_tuple([:time | time_fields(time)])
  def describe(%NaiveDateTime{} = time), do: List.to_tuple([:naive | date_fields(time) ++ time_fields(time)])

  def describe(%DateTime{} = time) do
    fields = List.to_tuple(date_fields(time) ++ time_fields(time))
    {:datetime, fields, time.time_zone, time.zone_abbr, time.utc_offset + time.std_offset}
  end

  def describe(first..last//step) do
    {:range, first, if(step > 0, do: last + 1, else: last - 1), step}
  end

  def describe(%{__struct__: Decimal, sign: sign, coef: coef, exp: exp}) do
    digits = if is_integer(coef), do: Integer.to_string(coef), else: Atom.to_string(coef)
    {:decimal, sign < 0, digits, exp}
  end

  def describe(%{__struct__: Duration, year: 0, month: 0} = duration) do
    {microseconds, _precision} = duration.microsecond
    seconds = duration.hour * 3600 + duration.minute * 60 + duration.second
    {:timedelta, duration.week * 7 + duration.day, seconds, microseconds}
  end

  def describe(%{__struct__: Duration} = duration) do
    raise ArgumentError,
          "cannot encode a duration with years or months as a Python timedelta, got: #{inspect(duration)}"
  end

  def describe(_other), do: nil

  defp date_fields(%{calendar: Calendar.ISO} = date), do: [date.year, date.month, date.day]
  defp date_fields(date), do: refuse_calendar!(date)

  defp time_fields(%{calendar: Calendar.ISO} = time) do
    {microsecond, _precision} = time.microsecond
    [time.hour, time.minute, time.second, microsecond]
  end

  defp time_fields(time), do: refuse_calendar!(time)

  defp refuse_calendar!(date) do
    raise ArgumentError, "cannot encode a date of #{inspect(date.calendar)}: Python knows the calendar of ISO only"
  end
end
