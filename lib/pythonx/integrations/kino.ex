defmodule Pythonx.Integrations.Kino do
  # What Livebook shows of objects. Gives way to kino_pythonx: two modules of one name would fight, and a release with both is
  # refused.
  @moduledoc false

  alias Pythonx.Integrations.KinoPythonx

  @compile {:no_warn_undefined, [Kino.HTML, Kino.Image, Kino.Inspect, Kino.Markdown, Kino.Text]}

  # The first that is there is shown.
  @shown ["text/html", "image/svg+xml", "image/png", "image/jpeg", "image/gif", "text/markdown", "text/latex"]

  @kino_pythonx KinoPythonx.present?()

  @doc """
  Whether objects are shown by what Pythonx has for that itself.
  """
  @spec renders?() :: boolean()
  def renders?, do: not @kino_pythonx

  @doc false
  # Called by Mix: that package may come and go.
  @spec __mix_recompile__?() :: boolean()
  def __mix_recompile__?, do: KinoPythonx.present?() != @kino_pythonx

  @doc """
  What Kino shows of an object, as a term of Kino's.
  """
  @spec show(Pythonx.Object.t()) :: struct()
  def show(object) do
    if Pythonx.NIF.local_object?(object) do
      bundle = Pythonx.display(object)
      mime = Enum.find(@shown, "text/plain", &is_binary(bundle[&1]))
      kino(mime, bundle[mime])
    else
      Kino.Inspect.new(object)
    end
  rescue
    # An object that cannot be shown that way says why in its place.
    _error in [Pythonx.Error, ArgumentError] -> Kino.Inspect.new(object)
  end

  defp kino("text/html", html), do: Kino.HTML.new(html)
  defp kino("image/" <> _type = mime, data), do: Kino.Image.new(data, mime)
  defp kino("text/markdown", text), do: Kino.Markdown.new(text)
  # Livebook's Markdown has formulas between dollars, as those of Python mostly are already.
  defp kino("text/latex", "$" <> _rest = text), do: Kino.Markdown.new(text)
  defp kino("text/latex", text), do: Kino.Markdown.new("$$\n" <> text <> "\n$$")
  defp kino("text/plain", text), do: Kino.Text.new(text)
end

unless Pythonx.Integrations.KinoPythonx.present?() do
  defmodule Kino.Render.Pythonx.Object do
    @moduledoc false
    use Pythonx.Integrations.Implementation, protocol: Kino.Render, for: Pythonx.Object

    @spec to_livebook(Pythonx.Object.t()) :: term()
    def to_livebook(object), do: object |> Pythonx.Integrations.Kino.show() |> Kino.Render.to_livebook()
  end
end

defmodule Kino.Render.Pythonx.Table do
  # In Livebook, a table is shown as one.
  @moduledoc false
  use Pythonx.Integrations.Implementation, protocol: Kino.Render, for: Pythonx.Table

  @compile {:no_warn_undefined, Kino.DataTable}

  @spec to_livebook(Pythonx.Table.t()) :: map()
  def to_livebook(%Pythonx.Table{} = table) do
    table |> Kino.DataTable.new(name: "Pythonx.Table") |> Kino.Render.to_livebook()
  end
end
