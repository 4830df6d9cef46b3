defmodule Pythonx.Integrations.Implementation do
  # An implementation of a protocol where the protocol or the struct belongs to a package that is no dependency of ours: it
  # may be compiled before or after us, or not at all. `defimpl` needs the protocol to be there already, and warns where the
  # struct is not.
  #
  # Elixir finds the implementations of a protocol by the attribute `__impl__` in modules under the protocol's name. So a
  # module with the name that `defimpl` would give it counts wherever that package is, before consolidation and in it.
  # Without the package nobody calls it.
  #
  #     defmodule FLAME.Trackable.Pythonx.Object do
  #       use Pythonx.Integrations.Implementation, protocol: FLAME.Trackable, for: Pythonx.Object
  #
  @moduledoc false

  @spec __using__(keyword()) :: Macro.t()
  defmacro __using__(protocol: protocol, for: target) do
    quote do
      Module.register_attribute(__MODULE__, :__impl__, persist: true)
      @__impl__ [protocol: unquote(protocol), for: unquote(target)]

      @compile {:no_warn_undefined, unquote(protocol)}

      @doc false
      @spec __impl__(:for | :protocol | :target) :: module()
      def __impl__(:for), do: unquote(target)
      def __impl__(:protocol), do: unquote(protocol)
      def __impl__(:target), do: __MODULE__
    end
  end
end
