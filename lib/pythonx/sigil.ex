defmodule Pythonx.Sigil do
  @moduledoc false

  # The expansion of ~PY. For `y = x + 1`, where x is an Elixir variable, it is
  #
  #     Pythonx.Sigil.put_location("y = x + 1", "lib/demo.ex", 7)
  #     {result, globals} = Pythonx.eval("y = x + 1", %{"x" => x})
  #     y = Map.get(globals, "y")
  #     result
  #
  # in which `result` and `globals` are hygienic, and x and y are the variables of the code around. Livebook looks for
  # the call of `eval` with two arguments and gives it a third one, which is why the location is not an argument.
  #
  # What runs needs nothing of what the expansion needed: a module compiled here works wherever Python runs.

  alias Pythonx.AST

  @location {__MODULE__, :location}

  # The attribute of a module that has defaults of its own.
  @options :pythonx_options

  # Names that Elixir gives a meaning of its own, even in a variable's place. Python code can use them as it likes, they
  # just have no Elixir variable. The last one stands for what a star import brings, see `Pythonx.AST`.
  @unbindable ~w(_ fn __MODULE__ __DIR__ __ENV__ __CALLER__ __STACKTRACE__ __aliases__ *)

  # Atoms, which variables are named by, have at most this many characters.
  @max_name_length 255

  ## Expansion

  @doc """
  The expansion of `~PY`, given the sigil's content and the environment of its caller.

  Only variables that the caller has are passed in. Every name that the code defines becomes a variable; when the run
  has left it undefined, that is

    * the value from before, when the caller has such a variable and only a branch that was not taken, or a loop that
      was not entered, would have assigned it. For this the variable is read, but never encoded

    * otherwise `nil`, as for names that the code deletes

  Names that cannot be Elixir variables are left alone: `_`, `fn`, `__MODULE__` and its like, and names of more than 255
  characters.
  """
  @spec expand(Macro.t(), charlist(), Macro.Env.t()) :: Macro.t()
  def expand({:<<>>, meta, [code]}, modifiers, %Macro.Env{} = env) when is_binary(code) do
    options = options!(modifiers, env)
    %{inputs: referenced, outputs: defined, kept: kept} = scan!(code)
    [result, globals] = for name <- [:result, :globals], do: hygienic_variable(name)
    inputs = for name <- referenced, variable = existing_variable(name, env), do: {name, variable}

    outputs =
      for name <- defined, bindable?(name) do
        output(name, globals, if(name in kept, do: existing_variable(name, env)))
      end

    quote generated: true do
      unquote_splicing(location(code, meta, env))

      {unquote(result), unquote(globals)} =
        Pythonx.eval(unquote(code), %{unquote_splicing(inputs)}, unquote_splicing(options))

      unquote_splicing(outputs)
      unquote(result)
    end
  end

  ## Options

  @modifiers %{?s => {:binaries, :str}, ?r => {:types, :rich}}

  # None, or the third argument of `eval`: without modifiers and defaults of the module it is the call that Livebook looks for.
  defp options!(modifiers, env) do
    given = for modifier <- modifiers, do: Map.fetch!(@modifiers, modifier)

    case Keyword.merge(module_options(env.module), given) do
      [] -> []
      options -> [options]
    end
  end

  defp module_options(nil), do: []

  defp module_options(module) do
    if Module.open?(module), do: Module.get_attribute(module, @options, []), else: []
  end

  @doc """
  Sets the defaults of a module for the sigils in it; see `Pythonx.sigil_PY/2`.
  """
  @spec configure!(keyword(), Macro.Env.t()) :: :ok
  def configure!(opts, env) do
    expected = "`use Pythonx` to have the options :binaries and :types, got: #{Macro.to_string(opts)}"
    Pythonx.Calls.Options.check_defaults!(opts, expected)
    if env.module == nil and opts != [], do: raise(ArgumentError, "`use Pythonx` has options inside of a module only")
    if env.module, do: Module.put_attribute(env.module, @options, opts)
    :ok
  end

  # Assigns the variable, given the one whose value it is to keep, or nil.
  defp output(name, globals, previous) do
    value =
      if previous do
        quote generated: true, do: Map.get(unquote(globals), unquote(name), unquote(previous))
      else
        quote generated: true, do: Map.get(unquote(globals), unquote(name))
      end

    quote generated: true, do: unquote(variable(String.to_atom(name))) = unquote(value)
  end

  # `generated` keeps the compiler from warning that a variable is not used.
  defp variable(name), do: {name, [generated: true], nil}

  defp hygienic_variable(name) do
    name |> Macro.unique_var(__MODULE__) |> Macro.update_meta(&Keyword.put(&1, :generated, true))
  end

  defp bindable?(name), do: name not in @unbindable and String.length(name) <= @max_name_length

  # Names that are only read make no atoms: what has none has no variable either.
  defp existing_variable(name, env) do
    atom = String.to_existing_atom(name)
    if Macro.Env.has_var?(env, {atom, nil}), do: variable(atom)
  rescue
    ArgumentError -> nil
  end

  ## Python at expansion time

  @not_initialized "using ~PY sigil requires the Python interpreter to be already initialized. " <>
                     "This sigil is designed for dynamic evaluation environments, such as IEx or Livebook. " <>
                     "If that is your case, make sure you initialized the interpreter first, " <>
                     "otherwise use Pythonx.eval/2 instead. For more details see Pythonx.sigil_PY/2 docs"

  defp scan!(code) do
    with {:not_initialized, _message} <- scan(code),
         :ok <- ensure_interpreter!(),
         {:not_initialized, message} <- scan(code) do
      raise message <> "\n\n" <> @not_initialized
    end
  end

  defp scan(code) do
    AST.scan(code)
  rescue
    error in RuntimeError ->
      if error.message =~ "has not been initialized" do
        {:not_initialized, error.message}
      else
        reraise error, __STACKTRACE__
      end
  end

  @doc """
  Starts the application when its configuration or the environment of the VM says which Python it is to start, as while
  a project is being compiled.
  """
  @spec ensure_interpreter!() :: :ok
  def ensure_interpreter!() do
    if Application.get_env(:pythonx, :uv_init) || System.get_env("PYTHONX_INIT_STATE") do
      start_application!()
    end

    :ok
  end

  defp start_application!() do
    with {:error, {app, reason}} <- Application.ensure_all_started(:pythonx) do
      raise "~PY needs Python at compile time, but the application #{inspect(app)}, which is to start it, failed: " <>
              Application.format_error(reason)
    end
  end

  ## Location

  # The file and line of the code's first line, where the sigil has them: Livebook's Python cells and evaluated strings
  # do not. The content of a heredoc starts on the line after its delimiter.
  defp location(code, meta, env) do
    if is_integer(meta[:line]) and env.file != "nofile" do
      file = Path.relative_to_cwd(env.file)
      line = meta[:line] + if(meta[:indentation], do: 1, else: 0)
      [quote(do: unquote(__MODULE__).put_location(unquote(code), unquote(file), unquote(line)))]
    else
      []
    end
  end

  @doc """
  Tells the evaluation of `code` that comes next in this process where the code stands.
  """
  @spec put_location(String.t(), String.t(), pos_integer()) :: :ok
  def put_location(code, file, line) do
    Process.put(@location, {code, file, line})
    :ok
  end

  @doc """
  Takes the location of `code` as `{file, line}`, or `nil` when none was put for it.

  Whatever was put is gone then. An evaluation calls this before anything else, so that a location can neither reach
  another evaluation nor one that is nested in this one.
  """
  @spec take_location(String.t()) :: {String.t(), pos_integer()} | nil
  def take_location(code) do
    case Process.delete(@location) do
      {^code, file, line} -> {file, line}
      _none_or_another -> nil
    end
  end
end
