defmodule Pythonx.Calls.Serving do
  @moduledoc false

  # What a process has in common that runs Python for others, one call at a time: `Pythonx.Server` and `Pythonx.Session`. The
  # caller waits until its deadline; what was raised is raised in it; and nobody's call is begun that nobody waits for any more.

  alias Pythonx.Calls.Deadline

  @typedoc "The node whose clock the deadline is by, and the deadline."
  @type due :: {node(), Deadline.t()}
  @type outcome :: {:ok, term()} | {:raised, :error | :exit | :throw, term(), list()}

  @doc """
  In the caller: has the server answer `make.(due)`, and returns or raises what came of it.
  """
  @spec request(GenServer.server(), (due() -> term()), timeout()) :: term()
  def request(server, make, timeout) do
    deadline = Deadline.new(timeout)

    case wait(server, make.({node(), deadline}), deadline) do
      {:ok, result} -> result
      {:raised, kind, reason, stack} -> :erlang.raise(kind, reason, stack)
    end
  end

  defp wait(server, request, deadline) do
    GenServer.call(server, request, Deadline.left(deadline))
  catch
    :exit, {:timeout, {GenServer, :call, [_server, ^request, _left]}} -> Deadline.give_up!(deadline)
  end

  @doc """
  In the server: `fun` is given the time that is left. The clocks of two nodes do not agree: there the time that the request
  was under way does not count.
  """
  @spec run_until(due(), timeout(), (Deadline.t() -> term())) :: outcome()
  def run_until({node, {_at, _timeout} = deadline}, timeout, fun) when node == node() do
    if Deadline.left(deadline) == 0 do
      {:raised, :error, %Pythonx.TimeoutError{timeout: timeout}, []}
    else
      run(fn -> fun.(deadline) end)
    end
  end

  def run_until(_due, timeout, fun), do: run(fn -> fun.(timeout) end)

  @doc """
  The outcome of a function.
  """
  @spec run((-> term())) :: outcome()
  def run(fun) do
    {:ok, fun.()}
  catch
    kind, reason -> {:raised, kind, reason, __STACKTRACE__}
  end
end
