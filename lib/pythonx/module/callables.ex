defmodule Pythonx.Module.Callables do
  @moduledoc false
  def forget, do: :ok
end
