defmodule Pythonx.Module do
  @moduledoc ~S'''
  Python functions as functions of an Elixir module.

      defmodule MyApp.Stats do
        use Pythonx.Module, file: "priv/python/stats.py"
      end

  defines a function for each public function of the Python file, and a module for each class:

      MyApp.Stats.mean([1, 2, 3])
      MyApp.Stats.quantiles([1, 2, 3], n: 10)

  Names, arities, types and documentation are those of the file: `h MyApp.Stats.mean` shows the docstring, a wrong number of
  arguments is a warning of the compiler, and the specs are made of the hints. The file is read when the module is compiled,
  and nothing of it is run. It is imported when a function is called for the first time. Python has to be started then, as by
  `Pythonx.uv_init/2`.

  The guide [Elixir modules from Python](modules.md) goes through all of it: what becomes of parameters, hints, classes and
  names.

  ## Where the Python code is

    * `:file` - the path of a file, relative to the project. One in `priv/python` is imported from there, in a release too.
      What any other file holds is put into the compiled module

    * `:module` - the name of a module that can be imported and has Python source, such as `"statistics"`. For other
      installed modules there is `mix pythonx.gen`

    * a text, which is best written with the sigil `~PY`:

          defmodule MyApp.Greeting do
            use Pythonx.Module, ~PY"""
            def greet(name: str, *, polite: bool = False) -> str:
                "Says hello."
                return f"Good day, {name}" if polite else f"Hello {name}"
            """
          end

      With other options beside it, it is the option `:text`

  ## Options

    * `:only`, `:except` - the Python names of functions and classes to define, or not to

    * `:as` - the name of the Python module that is made of a text or a file outside of `priv/python`. Defaults to the
      name of the Elixir module, as in `my_app_greeting`

    * `:target` - the name of a `Pythonx.Pool`, whose workers run the functions

    * `:isolated` - with `true`, or a list of options for `Pythonx.Pool.start_link/1`, the module has a pool of its own, which
      begins with the first call

    * `:types` - how results are decoded that have no hint, see `Pythonx.decode/2`. Defaults to `:basic`

    * `:timeout` - how long a call may take, in milliseconds, or `:infinity`. Defaults to `:infinity`

    * `:otp_app` - the application whose `priv/python` the file is in. Defaults to that of the Mix project
  '''

  alias Pythonx.Calls.Options
  alias Pythonx.Module.{Generator, Source, Writer}

  @options [:file, :module, :text, :only, :except, :as, :target, :isolated, :types, :timeout, :otp_app]

  @doc false
  defmacro __using__(opts) do
    opts = opts |> with_text() |> evaluate(__CALLER__)
    {description, python, resources} = read!(opts, __CALLER__)
    description = select!(description, opts, __CALLER__)
    generated = Generator.generate(description, __CALLER__.module, python)
    resources = for path <- resources, do: quote(do: @external_resource(unquote(path)))
    doc = quote(do: if(Module.get_attribute(__MODULE__, :moduledoc) == nil, do: @moduledoc(unquote(generated.doc))))

    quote do
      unquote_splicing(resources)
      unquote(doc)
      unquote(Writer.quoted(generated))
    end
  end

  ## Options

  # The sigil is not expanded: its text is what is meant, and it would run.
  defp with_text({sigil, _meta, [{:<<>>, meta, [text]}, _modifiers]}) when sigil in [:sigil_PY, :sigil_S] do
    [text: {text, first_line(meta)}]
  end

  defp with_text(opts) when is_list(opts) do
    Enum.map(opts, fn
      {:text, {sigil, _meta, [{:<<>>, meta, [text]}, _modifiers]}} when sigil in [:sigil_PY, :sigil_S] ->
        {:text, {text, first_line(meta)}}

      other ->
        other
    end)
  end

  defp with_text(other), do: [text: other]

  # The content of a heredoc begins on the line after its delimiter.
  defp first_line(meta), do: (meta[:line] || 1) + if(meta[:indentation], do: 1, else: 0)

  defp evaluate(opts, env) do
    opts = Enum.map(opts, fn {key, value} -> {key, value |> expand(env) |> value!(env)} end)

    case Enum.find(opts, fn {key, _value} -> key not in @options end) do
      nil -> :ok
      {key, _value} -> fail!(env, "unknown option #{inspect(key)}, expected one of #{inspect(@options)}")
    end

    for option <- [:types, :timeout], Keyword.has_key?(opts, option), do: Options.check!(option, opts[option])
    opts
  end

  defp expand(ast, env), do: Macro.prewalk(ast, &Macro.expand(&1, %{env | function: {:__python__, 0}}))

  defp value!({text, line}, _env) when is_binary(text) and is_integer(line), do: {text, line}

  defp value!(ast, env) do
    {value, _binding} = Code.eval_quoted(ast, [], env)
    value
  end

  ## Reading

  defp read!(opts, env) do
    case Keyword.take(opts, [:file, :module, :text]) do
      [file: file] when is_binary(file) ->
        read_file!(file, opts, env)

      [module: name] when is_binary(name) ->
        read_module!(name, opts, env)

      [text: {text, line}] ->
        read_text!(text, Path.relative_to_cwd(env.file), line, opts, env)

      [text: text] when is_binary(text) ->
        read_text!(text, Path.relative_to_cwd(env.file), env.line, opts, env)

      _none_or_more ->
        fail!(env, "expected one of the options :file, :module and :text, or a text, got: #{inspect(opts)}")
    end
  end

  defp read_file!(file, opts, env) do
    path = Path.expand(file)

    source =
      case File.read(path) do
        {:ok, source} -> source
        {:error, reason} -> fail!(env, "#{file} cannot be read: #{:file.format_error(reason)}")
      end

    case in_priv(path) do
      nil ->
        {description, python} = of_text!(source, Path.relative_to_cwd(path), 1, opts, env)
        {description, python, [path]}

      inner ->
        name = inner |> Path.rootname() |> String.replace("/", ".") |> String.replace_suffix(".__init__", "")
        description = described!(Source.text(source, name, Path.relative_to_cwd(path)), env)

        app =
          opts[:otp_app] || Mix.Project.config()[:app] ||
            fail!(env, "expected the option :otp_app, as there is no Mix project")

        python = python(opts, env, 0, {:folder, app, "priv/python", inner}, name)
        {description, python, [path]}
    end
  end

  # Without Mix there is no application whose folder it could be.
  defp in_priv(path) do
    root = Path.expand("priv/python") <> "/"
    if String.starts_with?(path, root) and mix?(), do: String.replace_prefix(path, root, "")
  end

  defp mix?, do: Process.whereis(Mix.ProjectStack) != nil and Mix.Project.get() != nil

  defp read_module!(name, opts, env) do
    description = described!(Source.module(name), env)
    {description, python(opts, env, 0, :installed, name), List.wrap(description["file"])}
  end

  defp read_text!(text, file, line, opts, env) do
    {description, python} = of_text!(text, file, line, opts, env)
    {description, python, []}
  end

  defp of_text!(text, file, line, opts, env) do
    name = opts[:as] || env.module |> Macro.underscore() |> String.replace("/", "_")
    # As many lines before it as in the file, for the lines of errors.
    description = described!(Source.text(String.duplicate("\n", line - 1) <> text, name, file), env)
    <<version::56, _rest::binary>> = :crypto.hash(:sha256, text)
    {description, python(opts, env, version, {:text, file, line, text}, name)}
  end

  defp described!({:ok, description}, _env), do: description
  defp described!({:error, reason}, env), do: fail!(env, reason)

  @doc false
  # What a module says of its Python side to `Pythonx.Module.Call`.
  @spec python(keyword(), Macro.Env.t() | %{module: module()}, non_neg_integer(), term(), String.t()) :: map()
  def python(opts, env, version, from, name) do
    %{
      owner: env.module,
      version: version,
      from: from,
      module: name,
      target: target!(opts[:target], opts[:isolated] || false, env),
      types: opts[:types] || :basic,
      timeout: opts[:timeout] || :infinity,
      options: options(opts[:timeout] || :infinity)
    }
  end

  # Made here once, and not in each call: see `Pythonx.Calls`. Arguments may be dates, whatever the result is.
  defp options(timeout) do
    plain = %{decode: true, binaries: :str, types: :basic, rich_arguments: true, timeout: timeout}
    %{basic: plain, rich: %{plain | types: :rich}, object: %{plain | decode: false}}
  end

  defp target!(nil, false, _env), do: nil
  defp target!(nil, true, env), do: {:isolated, Module.concat(env.module, Pool), []}
  defp target!(nil, options, env) when is_list(options), do: {:isolated, Module.concat(env.module, Pool), options}
  defp target!(pool, false, _env), do: pool
  defp target!(_pool, _isolated, env), do: fail!(env, "expected either :target or :isolated, got both")

  ## Choosing

  defp select!(description, opts, env) do
    for option <- [:only, :except], not (opts |> Keyword.get(option, []) |> names?()) do
      fail!(env, "expected #{inspect(option)} to be a list of names, got: #{inspect(opts[option])}")
    end

    {only, except} = {names(opts[:only]), names(opts[:except] || [])}
    all = for part <- ["functions", "classes"], item <- description[part], do: item["name"]

    for name <- (only || []) ++ except, name not in all do
      why = for [^name, why] <- description["skipped"], do: ", it #{why}"
      fail!(env, "#{description["name"]} has no public function or class #{name}#{why}")
    end

    keep? = fn item -> (only == nil or item["name"] in only) and item["name"] not in except end
    Map.merge(description, Map.new(["functions", "classes"], &{&1, Enum.filter(description[&1], keep?)}))
  end

  defp names?(names), do: is_list(names) and Enum.all?(names, &(is_atom(&1) or is_binary(&1)))
  defp names(nil), do: nil
  defp names(names), do: Enum.map(names, &to_string/1)

  @spec fail!(%{file: String.t(), line: pos_integer()}, String.t()) :: no_return()
  defp fail!(env, reason), do: raise(CompileError, file: env.file, line: env.line, description: reason)
end
