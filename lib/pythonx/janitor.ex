defmodule Pythonx.Janitor do
  @moduledoc false

  # The sender that devices see for what Python prints. The native side sends to local processes itself and names
  # this process as the sender, so that their replies come here and not to the caller. What it cannot send to
  # (processes of other nodes, `{name, node}`) it sends here to be passed on.

  use GenServer

  @spec start_link(term()) :: GenServer.on_start()
  def start_link(_opts), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)

  @doc """
  Returns when everything that was sent to this process before has been handled.
  """
  @spec ping() :: :pong
  def ping(), do: GenServer.call(__MODULE__, :ping, :infinity)

  @impl true
  def init(nil), do: {:ok, nil}

  @impl true
  def handle_call(:ping, _from, state), do: {:reply, :pong, state}

  @impl true
  def handle_info({:pythonx_output, device, text}, state) do
    put_chars(device, text)
    {:noreply, state}
  end

  def handle_info(_io_reply_or_unknown, state), do: {:noreply, state}

  @doc """
  Sends text to a device, whose answer will come to the calling process.
  """
  # A name that nobody has any more is like a process that is gone: what is sent there is dropped.
  @spec put_chars(Pythonx.device(), String.t()) :: :ok
  def put_chars(device, text) do
    send(device, {:io_request, self(), make_ref(), {:put_chars, :unicode, text}})
    :ok
  rescue
    ArgumentError -> :ok
  end
end
