defmodule Pythonx.Object.Display do
  @moduledoc false

  # Representations of objects, see priv/python/pythonx/_display.py, and what Livebook shows of them.

  alias Pythonx.Calls
  alias Pythonx.Calls.Deadline
  alias Pythonx.NIF
  alias Pythonx.Object
  alias Pythonx.Calls.Options
  alias Pythonx.Telemetry

  @compile {:no_warn_undefined, [Kino.HTML, Kino.Image, Kino.Inspect, Kino.Markdown, Kino.Render, Kino.Text]}

  # The first that is there is shown.
  @shown ["text/html", "image/svg+xml", "image/png", "image/jpeg", "image/gif", "text/markdown", "text/latex"]

  @doc """
  See `Pythonx.display/2`.
  """
  @spec display(Object.t(), keyword()) :: %{String.t() => term()}
  def display(object, opts) do
    opts = Options.validate!(opts, [:timeout])
    arguments = {NIF.local!(object)}
    deadline = Deadline.new(opts.timeout)
    Telemetry.operation(:display, fn -> Calls.internal("pythonx._display", "display", arguments, deadline) end)
  end

  @doc """
  What Kino shows of an object, as a term of Kino's.
  """
  @spec to_kino(Object.t()) :: struct()
  def to_kino(object) do
    if NIF.local_object?(object) do
      bundle = display(object, [])
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

  @kino_pythonx "kino_pythonx"

  @doc """
  Whether the package kino_pythonx is there, which shows objects in its own way.

  Asked while Pythonx is compiled. That package is compiled after this one, so it is looked for where Mix keeps the
  dependencies, of whichever project is compiled.
  """
  @spec kino_pythonx?() :: boolean()
  def kino_pythonx? do
    Code.ensure_loaded?(Mix.Project) and
      (File.dir?(Path.join(Mix.Project.deps_path(), @kino_pythonx)) or
         File.dir?(Path.join([Mix.Project.build_path(), "lib", @kino_pythonx])))
  end
end
