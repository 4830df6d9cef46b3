defmodule Pythonx.Module.Arguments do
  @moduledoc false

  # From a list of arguments and a keyword list to what Python is called with. The plan says what a function takes; it is
  # a literal in the generated code, and leaves out what is not so:
  #
  #   * `takes` - the keywords, or `:any`
  #   * `needs` - those among them that have no default
  #   * `rest` - whether the last argument is the list for `*args`
  #   * `ordered` - the optional parameters that cannot always be given by name, in their order, each as
  #     `{name, by_name?, {:value, default} | nil}`
  #   * `bytes` - the arguments that become `bytes`: indices, and names of keywords

  @type plan :: map()

  @doc """
  The positional arguments and the keywords for Python.
  """
  @spec build(list(), keyword() | map(), plan(), String.t()) :: {list(), keyword() | map()}
  def build(args, [], plan, _name) when plan == %{}, do: {args, []}

  def build(args, opts, plan, name) do
    check!(opts, plan, name)
    {args, rest} = if plan[:rest], do: split_rest(args, name), else: {args, []}
    {ordered, opts} = order(plan[:ordered] || [], opts, rest, name)
    {args ++ ordered ++ rest, opts}
  end

  defp split_rest(args, name) do
    {args, [rest]} = Enum.split(args, -1)

    unless is_list(rest) do
      raise ArgumentError,
            "expected the last argument of #{name} to be the list of its further arguments, got: #{inspect(rest)}"
    end

    {args, rest}
  end

  # A map, or a list with strings as names, is what a function of no known signature may be given.
  defp check!(opts, %{takes: :any}, name) do
    unless is_map(opts) or is_list(opts), do: refuse_opts!(opts, name)
  end

  defp check!(opts, plan, name) do
    check_keys!(opts, Map.get(plan, :takes, []), opts, name)

    for key <- Map.get(plan, :needs, []), not Keyword.has_key?(opts, key) do
      raise ArgumentError, "#{name} needs the keyword #{inspect(key)}"
    end
  end

  defp check_keys!([], _takes, _opts, _name), do: :ok

  defp check_keys!([{key, _value} | rest], takes, opts, name) when is_atom(key) do
    if :lists.member(key, takes),
      do: check_keys!(rest, takes, opts, name),
      else: raise(ArgumentError, unknown(key, takes, name))
  end

  defp check_keys!(_other, _takes, opts, name), do: refuse_opts!(opts, name)

  @spec refuse_opts!(term(), String.t()) :: no_return()
  defp refuse_opts!(opts, name) do
    raise ArgumentError, "expected the keywords of #{name} to be a keyword list, got: #{inspect(opts)}"
  end

  @doc """
  The words for a keyword that a function does not take.
  """
  @spec unknown(atom(), [atom()], String.t()) :: String.t()
  def unknown(key, [], name), do: "#{name} takes no keywords, got: #{inspect(key)}"

  def unknown(key, takes, name) do
    "#{name} does not take the keyword #{inspect(key)}, but #{Enum.map_join(takes, ", ", &inspect/1)}"
  end

  # What has to be given by its place: all, if there is a `*args` that is not empty; otherwise those that have no name, up
  # to the last that is given.
  defp order([], opts, _rest, _name), do: {[], opts}

  defp order(ordered, opts, rest, name) do
    placed = if rest == [], do: up_to_last(ordered, opts), else: ordered

    Enum.map_reduce(placed, opts, fn {key, _by_name?, default}, opts ->
      case {Keyword.pop(opts, key, :none), default} do
        {{:none, opts}, {:value, value}} ->
          {value, opts}

        {{:none, _opts}, nil} ->
          raise ArgumentError, "#{name} needs the keyword #{inspect(key)} here, as its default is known to Python only"

        {{value, opts}, _default} ->
          {value, opts}
      end
    end)
  end

  defp up_to_last(ordered, opts) do
    ordered
    |> Enum.reverse()
    |> Enum.drop_while(fn {key, by_name?, _default} -> by_name? or not Keyword.has_key?(opts, key) end)
    |> Enum.reverse()
  end
end
