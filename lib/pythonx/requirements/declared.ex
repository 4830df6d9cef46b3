defmodule Pythonx.Requirements.Declared do
  # What applications and modules say that they need of Python, and who they are.
  @moduledoc false

  @keys [:dependencies, :requires_python, :isolated]

  @enforce_keys [:owner, :dependencies, :requires_python]
  defstruct @enforce_keys ++ [isolated: false]

  @typedoc """
    * `owner` - an application, or a module with `use Pythonx.Requirements`
    * `requires_python` - a specifier such as `>=3.10`, or `nil`
    * `isolated` - whether the owner has a Python of its own; the options of its pool, or `false`
  """
  @type t :: %__MODULE__{
          owner: atom(),
          dependencies: [String.t()],
          requires_python: String.t() | nil,
          isolated: false | keyword()
        }

  @doc "All of the loaded applications and modules, sorted."
  @spec all() :: [t()]
  def all do
    Enum.each(Application.loaded_applications(), &load_modules(elem(&1, 0)))
    of_applications = for {app, _description, _version} <- Application.loaded_applications(), do: of_application(app)
    of_modules = for {module, _file} <- :code.all_loaded(), do: of_loaded_module(module)

    (of_applications ++ of_modules)
    |> Enum.reject(&is_nil/1)
    |> Enum.sort_by(& &1.owner)
  end

  # A module says what it needs once it is loaded, and many are only when they are called. Applications that do not know
  # Pythonx have none that say something.
  defp load_modules(app) do
    known = (Application.spec(app, :applications) || []) ++ (Application.spec(app, :optional_applications) || [])
    if :pythonx in known, do: app |> Application.spec(:modules) |> Enum.each(&Code.ensure_loaded/1)
  end

  @doc "What one application or module asks for. Raises an `ArgumentError` when it says nothing."
  @spec fetch!(atom()) :: t()
  def fetch!(owner) do
    if module?(owner), do: fetch_module!(owner), else: fetch_application!(owner)
  end

  defp module?(owner), do: owner |> Atom.to_string() |> String.starts_with?("Elixir.")

  defp fetch_module!(module) do
    Code.ensure_loaded(module)

    of_loaded_module(module) ||
      raise ArgumentError, "#{inspect(module)} says nothing of Python: it does not use Pythonx.Requirements"
  end

  defp fetch_application!(app) do
    with {:error, reason} <- Application.load(app), false <- match?({:already_loaded, _app}, reason) do
      raise ArgumentError, "there is no application #{inspect(app)}"
    end

    of_application(app) ||
      raise ArgumentError,
            "the application #{inspect(app)} says nothing of Python: its mix.exs has no " <>
              "env: [python: [dependencies: [...]]] in application/0"
  end

  # Other programs may have a key of this name, for a path or a version.
  defp of_application(app) do
    env = Application.get_env(app, :python)

    if is_list(env) and Keyword.keyword?(env) and Enum.any?(@keys, &Keyword.has_key?(env, &1)) do
      new!(app, Keyword.take(env, @keys))
    end
  end

  defp of_loaded_module(module) do
    if function_exported?(module, :__pythonx_requirements__, 0), do: new!(module, module.__pythonx_requirements__())
  end

  @doc "Checks what an owner says. Raises an `ArgumentError`."
  @spec new!(atom(), keyword()) :: t()
  def new!(owner, opts) do
    with [key | _] <- Keyword.keys(opts) -- @keys do
      raise ArgumentError,
            "unknown key #{inspect(key)} in the Python requirements of #{inspect(owner)}, the keys are: #{inspect(@keys)}"
    end

    %__MODULE__{
      owner: owner,
      dependencies: dependencies!(owner, Keyword.get(opts, :dependencies, [])),
      requires_python: requires_python!(owner, opts[:requires_python]),
      isolated: isolated!(owner, Keyword.get_lazy(configured(), owner, fn -> Keyword.get(opts, :isolated, false) end))
    }
  end

  # An application may give a library a Python of its own that does not ask for one: `config :pythonx, :isolated, [:name]`.
  defp configured do
    for each <- Application.get_env(:pythonx, :isolated, []), do: if(is_atom(each), do: {each, true}, else: each)
  end

  defp dependencies!(owner, dependencies) do
    valid? = is_list(dependencies) and Enum.all?(dependencies, &(text?(&1) and String.trim(&1) != ""))
    unless valid?, do: refuse!(owner, :dependencies, "a list of texts such as \"jinja2>=3.1\"", dependencies)
    Enum.map(dependencies, &String.trim/1)
  end

  defp requires_python!(_owner, nil), do: nil

  defp requires_python!(owner, text) do
    if text?(text) and match?({:ok, [_ | _]}, Pythonx.Requirements.Version.clauses(text)),
      do: text,
      else: refuse!(owner, :requires_python, "a text such as \">=3.10\"", text)
  end

  defp isolated!(_owner, false), do: false
  defp isolated!(_owner, true), do: [size: 1]
  defp isolated!(owner, opts), do: if(Keyword.keyword?(opts), do: opts, else: refuse_isolated!(owner, opts))
  defp refuse_isolated!(owner, value), do: refuse!(owner, :isolated, "a boolean or options of a Pythonx.Pool", value)

  # Ends up in a line of a file.
  defp text?(value), do: is_binary(value) and String.valid?(value) and not (value =~ ~r/[\x00-\x1f\x7f]/)

  @spec refuse!(atom(), atom(), String.t(), term()) :: no_return()
  defp refuse!(owner, key, expected, value) do
    raise ArgumentError,
          "expected #{inspect(key)} in the Python requirements of #{inspect(owner)} to be #{expected}, " <>
            "got: #{inspect(value)}"
  end
end
