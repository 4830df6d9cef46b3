defmodule Pythonx.Requirements.Running do
  # The Python that runs, as it describes itself. Needs the application, as all evaluation does.
  @moduledoc false

  alias Pythonx.Host.OS
  alias Pythonx.Uv.Paths

  @doc "Its version, folders and packages; keys are those of `priv/python/pythonx/_environment.py`."
  @spec describe() :: map()
  def describe, do: ask("describe()", %{})

  @doc "The names of the packages of which something is imported."
  @spec imported() :: [String.t()]
  def imported, do: ask("imported()", %{})

  @doc "Puts the packages of another environment on its path, before its own or after them."
  @spec add!(Path.t(), boolean()) :: :ok
  def add!(site_packages, first?), do: ask("add(folder, first)", %{"folder" => site_packages, "first" => first?}) || :ok

  @doc "Sets variables of os.environ; `nil` removes one."
  @spec update_environ!(%{String.t() => String.t() | nil}) :: :ok
  def update_environ!(variables), do: ask("update_environ(variables)", %{"variables" => variables}) || :ok

  defp ask(call, globals) do
    code = "from pythonx import _environment\n_environment.#{call}"
    {result, _globals} = Pythonx.eval(code, globals, binaries: :str)
    Pythonx.decode(result)
  end

  @doc "The value of an object, or the object where Elixir has no counterpart for it."
  @spec decode_or_keep(Pythonx.Object.t()) :: term()
  def decode_or_keep(object) do
    {itself, _globals} = Pythonx.eval("lambda value: value", %{})
    Pythonx.call(itself, [object], [], decode: true)
  end

  @doc "The program of its base installation, for making another environment of the same Python."
  @spec program(map()) :: Path.t()
  def program(%{"base_prefix" => prefix, "version" => version}) do
    [major, minor | _] = String.split(version, ".")
    Path.join(Paths.home(prefix), OS.python_program("python#{major}.#{minor}", OS.current()))
  end
end
