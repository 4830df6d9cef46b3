defmodule Pythonx.Integrations.Kino do
  # Gives way to kino_pythonx: two modules of one name would fight, and a release with both is refused.
  @moduledoc false

  @kino_pythonx Pythonx.Object.Display.kino_pythonx?()

  @doc """
  Whether objects are shown by what Pythonx has for that itself.
  """
  @spec renders?() :: boolean()
  def renders?, do: not @kino_pythonx

  @doc false
  # Called by Mix: that package may come and go.
  @spec __mix_recompile__?() :: boolean()
  def __mix_recompile__?, do: Pythonx.Object.Display.kino_pythonx?() != @kino_pythonx
end

unless Pythonx.Object.Display.kino_pythonx?() do
  defmodule Kino.Render.Pythonx.Object do
    # What `defimpl Kino.Render, for: Pythonx.Object` would compile to, written by hand, as in flame.ex: Kino is no
    # dependency. Without it nobody calls this.
    @moduledoc false

    @compile {:no_warn_undefined, Kino.Render}

    Module.register_attribute(__MODULE__, :__impl__, persist: true)
    @__impl__ [protocol: Kino.Render, for: Pythonx.Object]

    @spec to_livebook(Pythonx.Object.t()) :: term()
    def to_livebook(object), do: object |> Pythonx.Object.Display.to_kino() |> Kino.Render.to_livebook()

    @doc false
    @spec __impl__(:for | :protocol | :target) :: module()
    def __impl__(:for), do: Pythonx.Object
    def __impl__(:protocol), do: Kino.Render
    def __impl__(:target), do: __MODULE__
  end
end
