defmodule Pythonx.Integrations.Kino do
  # What Livebook shows of objects.
  #
  # The package kino_pythonx implements `Kino.Render` for objects as well. Where it is, the implementation is its: a release in
  # which two applications have a module of one name is refused. Whether it is there cannot be known when Pythonx is compiled,
  # which may be before that package, or before it was asked for. So ours is not among the modules of this application: it is
  # loaded into memory when the application or Python starts, if nobody else has one.
  #
  # A protocol that was consolidated only knows of implementations that were on disk then. The module `Announcement` below is
  # there for that: it says that objects have one, whoever it belongs to.
  @moduledoc false

  @compile {:no_warn_undefined, [Kino.HTML, Kino.Image, Kino.Inspect, Kino.Markdown, Kino.Render, Kino.Text]}

  # The first that is there is shown.
  @shown ["text/html", "image/svg+xml", "image/png", "image/jpeg", "image/gif", "text/markdown", "text/latex"]

  @implementation Kino.Render.Pythonx.Object

  # Not `defmodule`: Mix would write it to disk.
  @forms [
    {:attribute, 1, :module, @implementation},
    {:attribute, 1, :export, [__impl__: 1, to_livebook: 1]},
    {:attribute, 1, :__impl__, [protocol: Kino.Render, for: Pythonx.Object]},
    {:function, 1, :__impl__, 1,
     for {key, module} <- [for: Pythonx.Object, protocol: Kino.Render, target: @implementation] do
       {:clause, 1, [{:atom, 1, key}], [], [{:atom, 1, module}]}
     end},
    {:function, 1, :to_livebook, 1,
     [
       {:clause, 1, [{:var, 1, :Object}], [],
        [{:call, 1, {:remote, 1, {:atom, 1, __MODULE__}, {:atom, 1, :to_livebook}}, [{:var, 1, :Object}]}]}
     ]}
  ]
  {:ok, _name, binary} = :compile.forms(@forms, [:deterministic])
  @binary binary

  @doc """
  Implements `Kino.Render` for objects, if Kino is there and nobody else does.
  """
  @spec implement() :: :ok
  def implement do
    if Code.ensure_loaded?(Kino.Render) and not Code.ensure_loaded?(@implementation) do
      {:module, @implementation} = :code.load_binary(@implementation, :code.which(__MODULE__), @binary)
    end

    :ok
  end

  @doc false
  # Called by the implementation.
  @spec to_livebook(Pythonx.Object.t()) :: term()
  def to_livebook(object), do: object |> show() |> Kino.Render.to_livebook()

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
  defp kino("text/plain", text), do: Kino.Text.new(text, terminal: true)
end

defmodule Kino.Render.Pythonx.Announcement do
  # Counts when `Kino.Render` is consolidated, which goes by the attribute in all modules under that name, and then calls
  # `Kino.Render.Pythonx.Object`. This one is never called.
  @moduledoc false

  Module.register_attribute(__MODULE__, :__impl__, persist: true)
  @__impl__ [protocol: Kino.Render, for: Pythonx.Object]
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
