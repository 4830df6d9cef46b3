# A double: the struct of the package decimal, as far as Pythonx needs it. Decimal itself is no dependency.
defmodule Decimal do
  @moduledoc false
  defstruct sign: 1, coef: 0, exp: 0
end
