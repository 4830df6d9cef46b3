defmodule Pythonx.Reloader do
  @moduledoc ~S'''
  Loads Python files again that have changed, before the next call.

  In a Mix project it is on in the environment `:dev`, for `priv/python` of the project and of its dependencies, unless
  `config :pythonx, reload: false` says otherwise (`reload: true` has it on everywhere). In a notebook or a script,
  `enable/1` names the folders:

      iex> dir = Path.join(System.tmp_dir!(), "pythonx-reloader-doc")
      iex> File.mkdir_p!(dir)
      iex> File.write!(Path.join(dir, "greeting.py"), "def greet(name): return 'Hello ' + name")
      iex> Pythonx.Reloader.enable([dir])
      iex> greeting = Pythonx.import_module("greeting")
      iex> Pythonx.call_method(greeting, :greet, ["Ada"], [], decode: true)
      "Hello Ada"
      iex> File.write!(Path.join(dir, "greeting.py"), "def greet(name): return 'Good evening, ' + name")
      iex> Pythonx.call_method(greeting, :greet, ["Ada"], [], decode: true)
      "Good evening, Ada"
      iex> Pythonx.Reloader.disable()
      :ok

  `Pythonx.eval/3`, `Pythonx.call/4` and its siblings, and the functions of a `Pythonx.Module`, look whether a file that has
  been imported from one of the folders has changed. The files themselves are looked at, so each call costs some
  microseconds more.

  ## What happens to what is there

  The new version of the file runs in a namespace of its own, which begins as a copy of the one that is there. Then the
  module is given it in one step, and stays the same module.

    * A call that runs ends with the code it began with, the functions that it calls by name included.

    * A class stays the same class, with the new methods, which the instances that there are have too.

    * What other files in the folders have by `from ... import` is the new one.

    * A function that was taken out of the module before, as an object in Elixir or in a data structure of Python's, is the
      one of its version.

    * Functions and classes that the file does not define any more are gone. Other names stay.

  The workers of a `Pythonx.Pool`, and interpreters of `Pythonx.Interpreter`, go on with what they have imported.

  A new version that raises changes nothing: the module goes on as it was, and a warning in the log says why. It is tried
  again when the file changes again.
  '''

  require Logger

  alias Pythonx.{Files, NIF}

  @key __MODULE__

  @doc """
  Watches the folders that Python imports own files from, and these, from which it can import then too.

      iex> Pythonx.Reloader.enable()
      iex> Pythonx.Reloader.enabled?()
      true
      iex> Pythonx.Reloader.disable()
      :ok
  """
  @spec enable([Path.t()]) :: :ok
  def enable(folders \\ []) when is_list(folders) do
    folders |> Enum.map(&Files.expand!/1) |> Files.add!()

    # What is imported later is known from its loader.
    if NIF.initialized?(), do: NIF.call("call_internal", {"pythonx._reload", "watch", {Files.folders()}})

    :persistent_term.put(@key, true)
  end

  @doc """
  Watches nothing any more. What has been imported stays.
  """
  @spec disable() :: :ok
  def disable do
    :persistent_term.erase(@key)
    :ok
  end

  @doc """
  Whether changed files are loaded again.

      iex> Pythonx.Reloader.enabled?()
      false
  """
  @spec enabled?() :: boolean()
  def enabled?, do: :persistent_term.get(@key, false)

  @doc """
  Loads again what has changed, now. Returns the names of these modules, each with the reason if it could not be.

      iex> Pythonx.Reloader.reload()
      []
  """
  @spec reload() :: [{String.t(), :ok | {:error, String.t()}}]
  def reload do
    changed = "call_internal" |> NIF.call({"pythonx._reload", "check", {}}) |> Pythonx.decode()
    if changed != [], do: Pythonx.Module.Callables.forget()

    for {name, failure} <- changed do
      if failure,
        do: Logger.warning("the Python module #{name} was not loaded again, and goes on as it was:\n#{failure}")

      {name, if(failure, do: {:error, failure}, else: :ok)}
    end
  end

  @doc false
  @spec check() :: :ok
  def check do
    if enabled?() and NIF.initialized?(), do: reload()
    :ok
  end

  @doc false
  # When the application starts: what the configuration says, else whether this is a project that is worked on.
  @spec start() :: :ok
  def start do
    wanted =
      case Application.get_env(:pythonx, :reload) do
        nil -> in_development?()
        wanted when is_boolean(wanted) -> wanted
        other -> raise ArgumentError, "expected reload of config :pythonx to be a boolean, got: #{inspect(other)}"
      end

    if wanted and Files.folders() != [], do: enable(), else: :ok
  end

  # A release has no Mix, and a script may have it without a project.
  defp in_development? do
    Process.whereis(Mix.ProjectStack) != nil and Mix.env() == :dev and Mix.Project.get() != nil
  end
end
