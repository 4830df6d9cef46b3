defmodule Pythonx.Module.Names do
  @moduledoc false

  # Names of Python's as Elixir can have them. Nearly every name can be a function's in Elixir, some only by way of
  # `def unquote(name)(...)`; called as `Mod.end(x)` or, with capitals, as `Mod."Foo"(x)`.

  # Elixir refuses to define these, in some arity.
  @impossible ~w(unquote module_info __info__ when __struct__ __python__)a

  # What cannot stand for itself after `def`, or would mean something else there.
  @reserved ~w(and or not in when fn do end catch rescue after else nil true false unquote unquote_splicing quote
               __MODULE__ __DIR__ __ENV__ __CALLER__ __STACKTRACE__ __block__ __aliases__ super)a

  @doc """
  The names of functions, by those of Python's. A capitalised name is written small, unless that is taken.

      iex> Pythonx.Module.Names.functions(["mean", "N", "unquote", "end"])
      %{"N" => :n, "end" => :end, "mean" => :mean, "unquote" => :unquote_}
  """
  @spec functions([String.t()]) :: %{String.t() => atom()}
  def functions(names) do
    {plain, capital} = Enum.split_with(names, &(Macro.classify_atom(String.to_atom(&1)) != :alias and not capital?(&1)))
    taken = Map.new(plain, &{&1, possible(String.to_atom(&1))})

    Enum.reduce(capital, taken, fn name, taken ->
      small = name |> Macro.underscore() |> String.replace("/", "_") |> String.to_atom() |> possible()
      free? = small not in Map.values(taken) and Macro.classify_atom(small) == :identifier
      Map.put(taken, name, if(free?, do: small, else: String.to_atom(name)))
    end)
  end

  defp capital?(name), do: name =~ ~r/^\p{Lu}/u
  defp possible(name) when name in @impossible, do: :"#{name}_"
  defp possible(name), do: name

  @doc """
  Whether a name can stand after `def` as it is.
  """
  @spec plain?(atom()) :: boolean()
  def plain?(name), do: name not in @reserved and Macro.classify_atom(name) == :identifier

  @doc """
  Variables for parameters, each another one.

      iex> Pythonx.Module.Names.variables(["X", "x", "end", "_private", "self"])
      [:x, :x_, :end_, :private, :self]
  """
  @spec variables([String.t()], [atom()]) :: [atom()]
  def variables(names, taken \\ []) do
    {variables, _taken} =
      Enum.map_reduce(names, taken, fn name, taken ->
        variable = name |> variable() |> distinct(taken)
        {variable, [variable | taken]}
      end)

    variables
  end

  defp variable(name) do
    small = name |> String.trim_leading("_") |> Macro.underscore() |> String.replace("/", "_")
    atom = String.to_atom(if small == "", do: "arg", else: small)

    cond do
      atom in @reserved -> :"#{atom}_"
      Macro.classify_atom(atom) == :identifier and not String.ends_with?(small, ["?", "!"]) -> atom
      true -> :arg
    end
  end

  defp distinct(variable, taken), do: if(variable in taken, do: distinct(:"#{variable}_", taken), else: variable)

  @doc """
  The modules of classes within a module, by their names.

      iex> Pythonx.Module.Names.classes(["NormalDist", "date", "Date"], Own)
      %{"Date" => Own.Date, "NormalDist" => Own.NormalDist, "date" => Own.Date_}
  """
  @spec classes([String.t()], module()) :: %{String.t() => module()}
  def classes(names, parent) do
    {capital, others} = Enum.split_with(names, &(Macro.camelize(&1) == &1))

    Enum.reduce(capital ++ others, %{}, fn name, modules ->
      Map.put(modules, name, free_module(parent, Macro.camelize(name), Map.values(modules)))
    end)
  end

  defp free_module(parent, name, taken) do
    name = if name =~ ~r/^[A-Z]\w*$/, do: name, else: "Class" <> String.replace(name, ~r/[^A-Za-z0-9_]/, "")
    module = Module.concat(parent, name)
    if module in taken, do: free_module(parent, name <> "_", taken), else: module
  end
end
