defmodule Pythonx.Calls.Producer do
  @moduledoc false

  # The process behind `Pythonx.iterator/2`: it holds an enumerable that has been read up to some element, and reads on
  # only when Python asks. It ends with the enumerable, or when Python has dropped the iterator. Until that exists it ends
  # with the process that makes it.

  use GenServer, restart: :temporary

  alias Pythonx.Conversion.Native

  # A batch ends after this time, in milliseconds, so that what a slow enumerable has made is not held back.
  @budget 10

  @doc """
  A Python iterator over an enumerable; see `Pythonx.iterator/2`.
  """
  @spec iterator(Enumerable.t(), keyword()) :: Pythonx.Object.t()
  def iterator(enumerable, opts) do
    opts = opts |> Pythonx.Calls.Options.validate!([:timeout]) |> Map.merge(%{decode: false, binaries: :bytes})
    Pythonx.Telemetry.operation(:iterator, fn -> make(enumerable, opts) end)
  end

  defp make(enumerable, opts) do
    callers = [self() | Process.get(:"$callers", [])]
    {:ok, pid} = DynamicSupervisor.start_child(Pythonx.Calls.Producers, {__MODULE__, {enumerable, callers}})

    try do
      Pythonx.Calls.run(:internal, {&next(pid, &1), pid}, ["pythonx._iterator", "Iterator"], opts)
    catch
      kind, reason ->
        send(pid, :stop)
        :erlang.raise(kind, reason, __STACKTRACE__)
    else
      iterator ->
        send(pid, :made)
        iterator
    end
  end

  defp next(pid, count) do
    case GenServer.call(pid, {:next, count}, :infinity) do
      {:raised, kind, reason, stack} -> :erlang.raise(kind, reason, stack)
      # Only the elements are the user's.
      {more, elements} -> Native.encode_plainly({more, Native.encode_own(elements, [])})
    end
  end

  @spec start_link({Enumerable.t(), [pid()]}) :: GenServer.on_start()
  def start_link(argument), do: GenServer.start_link(__MODULE__, argument)

  @impl true
  def init({enumerable, [maker | _rest] = callers}) do
    Process.put(:"$callers", callers)
    Process.put(:maker, Process.monitor(maker))
    {:ok, &Enumerable.reduce(enumerable, &1, fn element, _acc -> {:suspend, {:element, element}} end)}
  end

  @impl true
  def handle_call({:next, count}, _from, continue) do
    case read(continue, count, System.monotonic_time(:millisecond) + @budget, []) do
      {:more, elements, continue} -> {:reply, {true, elements}, continue}
      {:done, elements} -> {:stop, :normal, {false, elements}, nil}
      {:raised, _kind, _reason, _stack} = raised -> {:stop, :normal, raised, nil}
    end
  end

  @impl true
  def handle_info(:stop, continue), do: stop(continue)

  def handle_info(:made, continue) do
    Process.demonitor(Process.get(:maker), [:flush])
    {:noreply, continue}
  end

  def handle_info({:DOWN, monitor, :process, _pid, _reason}, continue) do
    if monitor == Process.get(:maker), do: stop(continue), else: {:noreply, continue}
  end

  def handle_info(_unknown, continue), do: {:noreply, continue}

  # The enumerable gets to close what it has open.
  defp stop({:raised, _kind, _reason, _stack}), do: {:stop, :normal, nil}

  defp stop(continue) do
    continue.({:halt, nil})
    {:stop, :normal, nil}
  end

  # What is raised after some elements comes with the next batch, in its place.
  defp read({:raised, _kind, _reason, _stack} = raised, _count, _deadline, _elements), do: raised
  defp read(continue, 0, _deadline, elements), do: {:more, Enum.reverse(elements), continue}

  defp read(continue, count, deadline, elements) do
    case step(continue) do
      {:suspended, {:element, element}, continue} ->
        late = System.monotonic_time(:millisecond) > deadline
        read(continue, if(late, do: 0, else: count - 1), deadline, [element | elements])

      {:raised, _kind, _reason, _stack} = raised when elements == [] ->
        raised

      {:raised, _kind, _reason, _stack} = raised ->
        {:more, Enum.reverse(elements), raised}

      {_done_or_halted, _acc} ->
        {:done, Enum.reverse(elements)}
    end
  end

  defp step(continue) do
    continue.({:cont, nil})
  catch
    kind, reason -> {:raised, kind, reason, __STACKTRACE__}
  end
end
