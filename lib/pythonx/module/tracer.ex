defmodule Pythonx.Module.Tracer do
  @moduledoc """
  Has the compiler check the keywords of calls to Python functions.

  That a function has no such name or arity, the compiler says by itself. Which keywords a function takes, only its module
  knows. With this tracer, a keyword list that is written out in a call is compared with it, and there is a warning at the
  line of the call:

      # mix.exs
      def project do
        [
          elixirc_options: [tracers: [Pythonx.Module.Tracer]],
          ...
        ]
      end

  For `MyApp.Stats.quantiles(data, m: 10)`, it says

      warning: statistics.quantiles does not take the keyword :m, but :n, :method

  and for a function that is called without a keyword it needs, it says that. Without the tracer the same text is an
  `ArgumentError` when the call is made.

  It looks at what has been compiled, so it needs the modules of the calls to have debug information, as they have by default.
  """

  alias Pythonx.Module.Arguments

  @doc false
  @spec trace(tuple(), Macro.Env.t()) :: :ok
  def trace({:on_module, binary, _ignored}, env) do
    for {{name, arity}, _kind, _meta, clauses} <- definitions(binary), {_meta, _args, _guards, body} <- clauses do
      Macro.prewalk(body, fn node ->
        check(node, {name, arity}, env)
        node
      end)
    end

    :ok
  end

  def trace(_event, _env), do: :ok

  defp definitions(binary) do
    with {:ok, {module, [debug_info: {:debug_info_v1, backend, data}]}} <- :beam_lib.chunks(binary, [:debug_info]),
         {:ok, %{definitions: definitions}} <- backend.debug_info(:elixir_v1, module, data, []) do
      definitions
    else
      _without -> []
    end
  end

  defp check({{:., _, [module, function]}, meta, [_ | _] = args}, within, env)
       when is_atom(module) and is_atom(function) do
    opts = List.last(args)

    with true <- literal?(opts),
         {takes, needs, title} <- keywords(module, {function, length(args)}) do
      keys = Keyword.keys(opts)
      for key <- keys, key not in takes, do: warn(Arguments.unknown(key, takes, title), meta, within, env)
      for key <- needs -- keys, do: warn("#{title} needs the keyword #{inspect(key)}", meta, within, env)
    end
  end

  defp check(_node, _within, _env), do: :ok

  defp literal?(opts), do: is_list(opts) and Enum.all?(opts, &match?({key, _value} when is_atom(key), &1))

  # The module may be one that is being compiled: then it is waited for.
  defp keywords(module, function) do
    with "Elixir." <> _name <- Atom.to_string(module),
         {:module, module} <- Code.ensure_compiled(module),
         true <- function_exported?(module, :__python__, 1) do
      Map.get(module.__python__(:keywords), function)
    else
      _other -> nil
    end
  end

  defp warn(message, meta, {name, arity}, env) do
    IO.warn(message, file: env.file, line: meta[:line] || env.line, module: env.module, function: {name, arity})
  end
end
