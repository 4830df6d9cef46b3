defmodule Pythonx.Pool.Line do
  # The requests that wait for a worker, in the order in which they came. Some want any worker, some the one that has their
  # objects.
  @moduledoc false

  # How many want a worker of their own is counted, as the line may be long and has to be searched only for these.
  defstruct queue: :queue.new(), length: 0, pinned: 0

  @typedoc """
  Who asks (`from`), for which worker if that matters (`need`), and since when. `lease` is the monitor of who asks, and `timer`
  what ends the waiting. `holder` is who asks, where the worker is for a function.
  """
  @type request :: %{
          from: GenServer.from(),
          need: pid() | nil,
          timer: reference() | nil,
          lease: reference(),
          holder: pid() | nil,
          since: integer()
        }

  @type t :: %__MODULE__{queue: :queue.queue(request()), length: non_neg_integer(), pinned: non_neg_integer()}

  @typedoc "Tells who can serve the need of a request just now: a worker, or anything else if nobody can."
  @type find_worker :: (pid() | nil -> pid() | term())

  @doc "The request of a caller, who is monitored from now on."
  @spec request(GenServer.from(), pid() | nil, boolean()) :: request()
  def request({caller, _tag} = from, need, hold?) do
    holder = if hold?, do: caller
    lease = Process.monitor(caller)
    %{from: from, need: need, timer: nil, lease: lease, holder: holder, since: System.monotonic_time()}
  end

  @doc "Puts a request at the end. The calling process is told when its time is over."
  @spec join(t(), request(), timeout()) :: t()
  def join(line, %{lease: lease} = request, timeout) do
    timer = if timeout != :infinity, do: Process.send_after(self(), {:queue_timeout, lease}, timeout)
    queue = :queue.in(%{request | timer: timer}, line.queue)
    %{line | queue: queue, length: line.length + 1, pinned: line.pinned + pinned(request)}
  end

  @doc "Takes a request out."
  @spec leave(t(), request()) :: t()
  def leave(line, %{lease: lease} = request) do
    if request.timer, do: Process.cancel_timer(request.timer)

    queue =
      case :queue.peek(line.queue) do
        {:value, %{lease: ^lease}} -> :queue.drop(line.queue)
        _other -> :queue.filter(&(&1.lease != lease), line.queue)
      end

    %{line | queue: queue, length: line.length - 1, pinned: line.pinned - pinned(request)}
  end

  defp pinned(%{need: nil}), do: 0
  defp pinned(_request), do: 1

  @doc "The first request that can be served, with the worker for it."
  @spec first(t(), find_worker()) :: {request(), pid()} | nil
  def first(%{length: 0}, _find_worker), do: nil

  def first(line, find_worker) do
    with {:value, %{need: nil} = request} <- :queue.peek(line.queue),
         worker when is_pid(worker) <- find_worker.(nil) do
      {request, worker}
    else
      # Where nobody has a wish, who is first is served or nobody.
      _ -> if line.pinned > 0, do: Enum.find_value(:queue.to_list(line.queue), &pair(&1, find_worker))
    end
  end

  defp pair(request, find_worker) do
    worker = find_worker.(request.need)
    if is_pid(worker), do: {request, worker}
  end

  @doc "The first request for a worker by name."
  @spec first_for(t(), pid()) :: request() | nil
  def first_for(%{pinned: 0}, _worker), do: nil
  def first_for(line, worker), do: Enum.find(:queue.to_list(line.queue), &(&1.need == worker))

  @doc "The requests of which `fun` is true."
  @spec filter(t(), (request() -> boolean())) :: [request()]
  def filter(line, fun), do: line.queue |> :queue.to_list() |> Enum.filter(fun)

  @doc "Whether a process waits, and has no time limit."
  @spec waits_for_ever?(t(), pid()) :: boolean()
  def waits_for_ever?(line, pid) do
    Enum.any?(:queue.to_list(line.queue), &(elem(&1.from, 0) == pid and &1.timer == nil))
  end
end
