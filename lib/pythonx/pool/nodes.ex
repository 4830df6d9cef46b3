defmodule Pythonx.Pool.Nodes do
  # Where the workers of a pool are: the environment is made on each node of the option `:nodes`, and a worker started on the
  # one that has the fewest.
  @moduledoc false

  alias Pythonx.Pool.{Sandbox, Worker}

  @type name :: :local | node()

  @doc "Makes the environment on a node, and says what a worker is started with. Output of uv goes to whoever starts the pool."
  @spec prepare!(name(), {String.t(), boolean(), keyword()}) :: Pythonx.Boot.plan()
  def prepare!(:local, {toml, private?, opts}), do: Pythonx.Uv.prepare(toml, private?, opts)

  def prepare!(node, {toml, private?, opts}), do: call!(node, Pythonx.Uv, :prepare, [toml, private?, opts])

  @doc "What the kernel of a node holds of a sandbox."
  @spec examine!(name(), Sandbox.t() | nil) :: Sandbox.report() | nil
  def examine!(:local, sandbox), do: Sandbox.examine!(sandbox)
  def examine!(_node, nil), do: nil
  def examine!(node, sandbox), do: call!(node, Sandbox, :examine!, [sandbox])

  defp call!(node, module, function, arguments) do
    :erpc.call(node, module, function, arguments)
  rescue
    error in ErlangError ->
      case error.original do
        {:erpc, :noconnection} ->
          raise "the node #{inspect(node)} of the option :nodes cannot be reached"

        {:exception, %{__exception__: true} = reason, _stack} ->
          raise RuntimeError, "on the node #{inspect(node)}: #{Exception.message(reason)}"

        {:exception, :undef, [{^module, _, _, _} | _]} ->
          raise "the node #{inspect(node)} of the option :nodes does not have Pythonx"

        _other ->
          reraise error, __STACKTRACE__
      end
  end

  @doc "The node for the next worker, given those that the present ones are on."
  @spec choose([name()], [name()]) :: name()
  def choose([node], _present), do: node

  def choose(nodes, present) do
    up = Enum.filter(nodes, &(&1 in [:local | Node.list()]))
    Enum.min_by(if(up == [], do: nodes, else: up), fn node -> Enum.count(present, &(&1 == node)) end)
  end

  @doc "Starts a worker of the calling process, or says why not."
  @spec start_worker(name(), map(), Pythonx.Boot.plan()) :: {:ok, pid()} | {:error, String.t()}
  def start_worker(node, options, plan) do
    case start(node, [self(), options, plan]) do
      {:ok, pid} -> {:ok, pid}
      {:error, reason} -> {:error, "could not start a worker on #{node}: #{describe(reason)}"}
    end
  end

  defp start(:local, arguments), do: apply(Worker, :start, arguments)

  defp start(node, arguments) do
    :erpc.call(node, Worker, :start, arguments, 10_000)
  catch
    kind, reason -> {:error, {kind, reason}}
  end

  defp describe({%{__exception__: true} = error, _stack}), do: Exception.message(error)
  defp describe(reason), do: inspect(reason)
end
