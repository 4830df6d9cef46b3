defmodule Trend do
  @moduledoc """
  Fits a straight line through points, with numpy.
  """

  import Pythonx

  @type line :: %{slope: float(), intercept: float(), residual: float()}

  @doc """
  The line nearest to the points by least squares, and the root mean square of what it misses them by.

      iex> Trend.fit([{0, 1}, {1, 3}, {2, 5}])
      %{intercept: 1.0, residual: 0.0, slope: 2.0}

  """
  @spec fit([{number(), number()}]) :: line()
  def fit([_, _ | _] = points) do
    # `points` is the variable of Elixir; `slope` and the others become variables here.
    ~PY"""
    import numpy as np

    x, y = np.array(points, dtype=float).T
    matrix = np.stack([x, np.ones_like(x)], axis=1)
    (slope, intercept), *_ = np.linalg.lstsq(matrix, y, rcond=None)
    residual = np.sqrt(np.mean((y - slope * x - intercept) ** 2))
    slope, intercept, residual = (round(float(number), 6) + 0.0 for number in (slope, intercept, residual))
    """

    %{slope: decode(slope), intercept: decode(intercept), residual: decode(residual)}
  end
end
