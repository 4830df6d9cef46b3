defmodule Pythonx.Requirements.Isolated do
  # Owners with a Python of their own: a pool for each, started when it is first wanted. And the functions of a pool for
  # owners that share the Python of this VM, so that both are called alike.
  @moduledoc false

  alias Pythonx.Requirements.{Declared, Lock, Merged, Release, Running, Version}

  @supervisor Pythonx.Requirements.Pools

  @doc "The name of the pool of an owner."
  @spec name(atom()) :: atom()
  def name(owner), do: Module.concat(Pythonx.Requirements.Pool, owner)

  @doc "Starts the pool of an owner unless it runs. Raises a `RuntimeError` when it cannot be started."
  @spec ensure!(Declared.t()) :: :ok
  def ensure!(%{owner: owner} = declared) do
    unless Process.whereis(name(owner)), do: start!(declared)
    :ok
  end

  defp start!(declared) do
    # All that takes time is done here, where it stops nobody else: the supervisor waits for the start of each pool.
    opts = options!(declared)

    case DynamicSupervisor.start_child(@supervisor, {Pythonx.Pool, opts}) do
      {:ok, _pid} -> :ok
      {:error, {:already_started, _pid}} -> :ok
      {:error, reason} -> raise "the Python of #{inspect(declared.owner)} cannot be started: #{describe(reason)}"
    end
  catch
    :exit, {:noproc, _call} ->
      raise "the :pythonx application needs to be started before calling Pythonx.ensure_ready!/1"
  end

  defp describe({%{__exception__: true} = error, _stacktrace}), do: Exception.message(error)
  defp describe(%{__exception__: true} = error), do: Exception.message(error)
  defp describe(reason), do: inspect(reason)

  defp options!(%{owner: owner, isolated: own} = declared) do
    {uv, own} = Keyword.pop(own, :uv, [])
    toml = Merged.toml!([declared])

    if built = Release.read(owner) do
      [name: name(owner), pyproject: built.toml, uv: [private: Release.folder(owner)] ++ built.opts] ++ own
    else
      # The lock of the project is that of what is shared.
      uv = if uv[:lock], do: Lock.put!(uv, toml), else: uv
      uv = Keyword.put_new_lazy(uv, :python, fn -> python(declared) end)
      Pythonx.Requirements.explained([declared], fn -> Pythonx.Uv.prepare(toml, false, uv) end)
      [name: name(owner), pyproject: toml, uv: uv] ++ own
    end
  end

  # The version that runs in this VM, where it will do: the native part for it is there.
  defp python(%{requires_python: wanted}) do
    with true <- Pythonx.initialized?() and Process.whereis(Pythonx.Supervisor) != nil,
         %{"version" => version} <- Running.describe(),
         true <- wanted == nil or Version.match?(version, wanted) == true do
      version |> String.split(".") |> Enum.take(2) |> Enum.join(".")
    else
      _another -> nil
    end
  end

  ## The functions of a pool, in the Python of this VM

  @doc "As `Pythonx.Pool.eval/4`."
  @spec eval_here(String.t(), map(), keyword()) :: {term(), map()}
  def eval_here(code, globals, opts) do
    {wanted, opts} = Keyword.pop(opts, :globals, [])
    {decode?, opts} = Keyword.pop(opts, :decode, true)
    {result, defined} = Pythonx.eval(code, globals, Keyword.delete(opts, :queue_timeout))
    defined = if wanted == :all, do: defined, else: Map.take(defined, wanted)
    {result && value(result, decode?), Map.new(defined, fn {name, object} -> {name, value(object, decode?)} end)}
  end

  # What has no counterpart stays an object, as in a pool.
  defp value(object, false), do: object
  defp value(object, true), do: Running.decode_or_keep(object)

  @resolve """
  import builtins, importlib

  def resolve(path):
      names = path.split(".")
      if len(names) == 1:
          return getattr(builtins, path)
      value, rest = importlib.import_module(names[0]), names[1:]
      name = names[0]
      for each in rest:
          name += "." + each
          if not hasattr(value, each):
              importlib.import_module(name)
          value = getattr(value, each)
      return value

  resolve(path)
  """

  @doc "As `Pythonx.Pool.call/5`."
  @spec call_here(String.t(), list(), keyword() | map(), keyword()) :: term()
  def call_here(function, args, kwargs, opts) do
    {decode?, opts} = Keyword.pop(opts, :decode, true)
    {callable, _globals} = Pythonx.eval(@resolve, %{"path" => function}, binaries: :str)
    Pythonx.call(callable, args, kwargs, Keyword.drop(opts, [:queue_timeout]) ++ [decode: decode?])
  end
end
