# A double: what Pythonx needs of Kino, with the names and shapes that Kino has. Kino itself is no dependency.
defprotocol Kino.Render do
  @moduledoc false
  @fallback_to_any true
  @spec to_livebook(term()) :: term()
  def to_livebook(value)
end

defmodule Kino.Text do
  @moduledoc false
  defstruct [:content, :terminal]
  def new(content, opts \\ []), do: %__MODULE__{content: content, terminal: Keyword.get(opts, :terminal, false)}
end

for module <- [Kino.HTML, Kino.Markdown, Kino.Inspect] do
  defmodule module do
    @moduledoc false
    defstruct [:content]
    def new(content), do: %__MODULE__{content: content}
  end
end

defmodule Kino.Image do
  @moduledoc false
  defstruct [:content, :type]
  def new(content, type) when is_binary(content), do: %__MODULE__{content: content, type: type}
end

defimpl Kino.Render, for: Any do
  def to_livebook(value), do: {:shown, value}
end
