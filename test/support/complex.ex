defmodule Pythonx.Case.Complex do
  @moduledoc false

  # A struct with an implementation of the protocol. It is here because those in a test come too late: by then the
  # protocol has been consolidated.

  defstruct [:re, :im]
end

defimpl Pythonx.Encoder, for: Pythonx.Case.Complex do
  def encode(complex, _encoder) do
    {result, %{}} = Pythonx.eval("complex(re, im)", %{"re" => complex.re, "im" => complex.im})
    result
  end
end
