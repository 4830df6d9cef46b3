defmodule Pythonx.Module.Callables do
  @moduledoc false

  # The Python functions behind the functions of modules. Looking one up takes an import and an attribute, as much as a
  # call: so each is kept, until a file is loaded again. A persistent term is read without a copy, and written but once.
  #
  # A handle keeps its object, and Python is never finalised: what is kept stays good.

  alias Pythonx.Files
  alias Pythonx.NIF

  @type python :: map()

  @doc """
  The function, class or attribute of this name in a module.
  """
  @spec fetch(python(), String.t()) :: Pythonx.Object.t()
  def fetch(%{version: version} = python, name) do
    key = {__MODULE__, python.owner, name}

    case :persistent_term.get(key, nil) do
      {^version, object} -> object
      _none_or_of_another_text -> load(python, name, key)
    end
  end

  @doc """
  Has everything looked up again.
  """
  @spec forget() :: :ok
  def forget do
    for {{__MODULE__, _owner, _name} = key, _object} <- :persistent_term.get(), do: :persistent_term.erase(key)
    :ok
  end

  defp load(python, name, key) do
    object = name |> String.split(".") |> Enum.reduce(module(python), &Pythonx.getattr(&2, &1))
    :persistent_term.put(key, {python.version, object})
    object
  end

  @doc """
  The module, imported or made.
  """
  @spec module(python()) :: Pythonx.Object.t()
  def module(%{from: :installed, module: name}), do: Pythonx.import_module(name)

  def module(%{from: {:folder, app, path, file}, module: name}) do
    folder = Application.app_dir(app, path)
    Files.add!([folder])
    module = Pythonx.import_module(name)
    expected = Path.join(folder, file)

    case NIF.call("call_internal", {"pythonx._modules", "file_of", {module}}) |> Pythonx.decode() do
      ^expected ->
        module

      other ->
        raise "the Python module #{name} is #{other || "one without a file"}, not #{expected}: two modules cannot have one " <>
                "name, so the file needs another"
    end
  end

  def module(%{from: {:text, file, line, source}, owner: owner, version: version, module: name}) do
    NIF.call("call_internal", {"pythonx._modules", "define", {name, file, line, source, inspect(owner), version}})
  end
end
