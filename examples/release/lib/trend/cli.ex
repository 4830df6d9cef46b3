defmodule Trend.CLI do
  @moduledoc """
  The command of the release: reads points from standard input, one in a line, and prints the line through them.

      $ printf '0 1\\n1 3\\n2 5\\n' | bin/trend eval 'Trend.CLI.main()'
      y = 2.0 x + 1.0, residual 0.0 of 3 points

  """

  @spec main() :: :ok
  def main do
    {:ok, _started} = Application.ensure_all_started(:trend)
    points = :stdio |> IO.stream(:line) |> Enum.map(&point!/1)
    line = Trend.fit(points)
    IO.puts("y = #{line.slope} x + #{line.intercept}, residual #{line.residual} of #{length(points)} points")
  end

  defp point!(text) do
    [x, y] = text |> String.split() |> Enum.map(&number!/1)
    {x, y}
  end

  defp number!(text) do
    {number, ""} = Float.parse(text)
    number
  end
end
