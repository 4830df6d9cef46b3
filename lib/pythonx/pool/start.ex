defmodule Pythonx.Pool.Start do
  # What makes a worker ready, in a process of its own, linked to the worker's: Python is started, and told what it needs.
  @moduledoc false

  alias Pythonx.NIF.Job
  alias Pythonx.Pool.{Home, Memory, Remote}

  # The connection is not for what Python starts. A fatal signal leaves the stack of each thread in what the launcher keeps.
  @prepare """
  import faulthandler, os
  for descriptor in (3, 4):
      os.set_inheritable(descriptor, False)
  faulthandler.enable(file=2)
  """

  @doc "Starts the process, which tells the worker's `{:started, pid, {:ok, os_pid} | {:error, text}}`."
  @spec start_link(pid(), pid(), pos_integer(), map(), map()) :: {:ok, pid()}
  def start_link(worker, pool, os_pid, plan, options) do
    {:ok, spawn_link(fn -> run(worker, pool, os_pid, plan, options) end)}
  end

  defp run(worker, pool, os_pid, plan, options) do
    start({worker, pool}, os_pid, plan, options)
    send(worker, {:started, self(), {:ok, os_pid}})
  rescue
    # The worker's process will say why.
    _gone in Pythonx.Pool.CrashError -> :ok
    exception -> send(worker, {:started, self(), {:error, Exception.message(exception)}})
  end

  defp start({worker, _pool} = home, os_pid, plan, options) do
    Home.with_access(worker, :boot, fn -> Home.at(home, fn -> start_python(home, os_pid, plan, options) end) end)
  end

  defp start_python(home, os_pid, plan, options) do
    case Remote.call(home, :nif_init, plan.arguments) do
      :ok -> :ok
      {:error, reason} -> raise "failed to start the Python interpreter, reason: #{text(reason)}"
    end

    :ok = Remote.call(home, :become_worker, [])
    evaluate(home, @prepare)
    Pythonx.Files.tell!(plan.folders)
    if plan.env != %{}, do: Pythonx.Requirements.Running.update_environ!(plan.env)
    if options.attach_logger, do: Pythonx.Integrations.Logging.attach(options.attach_logger)
    if options.init, do: define(home, evaluate(home, options.init))
    # Jobs begin with the context variables that were set, and run on the main thread.
    Job.call("share_state", {})
    if options.max_memory, do: Memory.limit(home, os_pid, options.max_memory)
  end

  defp text(reason) when is_binary(reason), do: reason
  defp text(reason), do: inspect(reason)

  # What the code prints, nobody has asked for: the worker's process keeps it.
  defp evaluate({worker, _pool}, code) do
    {_result, globals} = Job.eval(code, {"<string>", 1}, %{}, worker, worker, nil, :infinity)
    globals
  end

  defp define({worker, _pool}, globals) do
    arguments = {{globals}, ["pythonx._pool", "define"], false, true, []}
    {:ok, _none} = Job.perform(:internal, arguments, worker, worker, nil, :infinity)
  end
end
