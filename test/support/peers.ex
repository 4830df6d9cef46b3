defmodule Pythonx.Peers do
  @moduledoc false
  # Nodes of their own operating system process, for tests of what happens between nodes. They are controlled by their
  # standard input and output, so that a test may break the connection between nodes and they stay.

  alias Pythonx.ObjectTracker

  @doc """
  Starts a node. Returns its controlling process, for `:peer`, and its name. It ends with the calling process.

  ## Options

    * `:hidden` - whether the node connects as a hidden one. Defaults to `false`
    * `:name` - the first part of its name. By default one that nobody else has
    * `:python` - whether it starts Python. Defaults to `true`
    * `:app` - whether it starts the `:pythonx` application. Defaults to `true`

  """
  def start!(opts \\ []) do
    distribute!()
    name = opts[:name] || :peer.random_name()
    hidden = if opts[:hidden], do: [~c"-hidden"], else: []
    paths = Enum.flat_map(:code.get_path(), &[~c"-pa", &1])
    cookie = [~c"-setcookie", Atom.to_charlist(Node.get_cookie())]
    # Nodes that come and go, as here, look like a network that breaks, against which :global would cut connections.
    global = [~c"-kernel", ~c"prevent_overlapping_partitions", ~c"false"]

    {:ok, peer, node} =
      :peer.start_link(%{
        name: name,
        host: ~c"127.0.0.1",
        longnames: true,
        connection: :standard_io,
        args: hidden ++ cookie ++ global ++ paths,
        env: env(Keyword.get(opts, :python, true)),
        wait_boot: 60_000
      })

    if Keyword.get(opts, :app, true) do
      {:ok, _started} = :peer.call(peer, :application, :ensure_all_started, [:pythonx], 60_000)
    end

    # Some tests crash processes there on purpose.
    :ok = :peer.call(peer, :logger, :set_primary_config, [:level, :none])

    {peer, node}
  end

  defp env(false), do: []
  defp env(true), do: for({name, value} <- Pythonx.install_env(), do: {to_charlist(name), to_charlist(value)})

  @doc "Makes this node a distributed one."
  def distribute!() do
    unless Node.alive?() do
      # Only the command line starts epmd by itself.
      epmd = System.find_executable("epmd") || Path.wildcard("#{:code.root_dir()}/erts-*/bin/epmd") |> hd()
      {_output, 0} = System.cmd(epmd, ["-daemon"])
      # The command has ended before the daemon listens.
      Pythonx.Case.wait_until(fn -> match?({:ok, _names}, :erl_epmd.names({127, 0, 0, 1})) end, 60_000)
      Application.put_env(:kernel, :prevent_overlapping_partitions, false)
      {:ok, _pid} = :net_kernel.start(:"pythonx_test_#{System.pid()}@127.0.0.1", %{name_domain: :longnames})
    end
  end

  @doc "Kills the operating system process of a node, as `kill -9` does, and waits for its end."
  def kill!(peer) do
    Process.unlink(peer)
    os_pid = :peer.call(peer, :os, :getpid, [])
    monitor = Process.monitor(peer)
    {_output, 0} = System.cmd("kill", ["-9", to_string(os_pid)])

    receive do
      {:DOWN, ^monitor, :process, ^peer, _reason} -> :ok
    end
  end

  @doc "For Python code to call: kills the process that evaluates it."
  def kill_callers(), do: for(pid <- Process.get(:"$callers"), do: Process.exit(pid, :kill))

  @doc "How many Python objects the handles of a node hold just now."
  def handles(node) do
    {_threads, handles} = :erpc.call(node, Pythonx.NIF, :stats, [])
    handles
  end

  @doc "The tracker's counts of a node."
  def counts(node), do: :erpc.call(node, Pythonx.ObjectTracker, :counts, [])

  @doc """
  Runs a function in a process that ends with it, so that no handle is left behind. Of what it returns, the caller gets
  the first element if that is a tuple, and nothing otherwise.
  """
  def in_process(fun) do
    Task.await(Task.async(fn -> fun.() |> ObjectTracker.identity() |> first() end), 60_000)
  end

  defp first({first, _objects}), do: first
  defp first(_objects), do: nil

  @doc """
  Has a process on `node` evaluate code on `owner` and hold the result until it gets `:let_go` or the caller dies, though
  not when the connection does.
  Returns the object, which is not tracked here, and the process.
  """
  def hold!(node, owner, code) do
    {holder, monitor} = Node.spawn_monitor(node, __MODULE__, :do_hold, [self(), owner, code])

    receive do
      {^holder, object} ->
        Process.demonitor(monitor, [:flush])
        {object, holder}

      {:DOWN, ^monitor, :process, ^holder, reason} ->
        exit(reason)
    end
  end

  @doc false
  def do_hold(caller, owner, code) do
    monitor = Process.monitor(caller)
    {result, _globals} = Pythonx.remote_eval(owner, code, %{})
    send(caller, {self(), result})

    receive do
      :let_go -> ObjectTracker.identity(result)
      {:DOWN, ^monitor, :process, _pid, reason} when reason != :noconnection -> ObjectTracker.identity(result)
    end
  end

  @doc "What `fun` returns for the result of an evaluation on `node` that `from` asked for, and holds meanwhile."
  def remote_eval_from(from, node, code, fun), do: :erpc.call(from, __MODULE__, :with_result, [node, code, fun])

  @doc false
  def with_result(node, code, {module, function}) do
    {result, _globals} = Pythonx.remote_eval(node, code, %{})
    value = apply(module, function, [result])
    ObjectTracker.identity({result, value}) |> elem(1)
  end
end

defmodule Pythonx.Peers.Boxed do
  @moduledoc false
  # A struct that nodes know how to encode: as what it holds, or by failing in some way.
  defstruct [:value, how: :encode]
end

defimpl Pythonx.Encoder, for: Pythonx.Peers.Boxed do
  def encode(%{how: :encode, value: value}, encoder), do: encoder.(value, encoder)
  def encode(%{how: :exit, value: value}, _encoder), do: exit(value)
  def encode(%{how: :throw, value: value}, _encoder), do: throw(value)
end
