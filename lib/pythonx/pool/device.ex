defmodule Pythonx.Pool.Device do
  # Where the code in a worker prints to: processes that stand for devices on the pool's side, to which they send on what
  # they are asked to print. One stands for each device that was used of late, as threads may print after their job.
  #
  # What a device was asked to print has left the worker when `flush/1` returns.
  @moduledoc false

  use GenServer

  alias Pythonx.Pool.{Child, Frame}

  @kept 64

  @doc "Starts the process that knows them."
  @spec start(port()) :: GenServer.on_start()
  def start(port), do: GenServer.start_link(__MODULE__, port, name: __MODULE__)

  @doc "The process that stands for a device, given in a form that only the pool's side understands."
  @spec get(binary()) :: pid()
  def get(device), do: GenServer.call(__MODULE__, {:get, device}, :infinity)

  @doc "Returns when all that the process was asked to print is on its way."
  @spec flush(pid()) :: :ok
  def flush(pid) do
    ref = Process.monitor(pid)
    send(pid, {:flush, self(), ref})

    receive do
      {^ref, :flushed} -> Process.demonitor(ref, [:flush])
      {:DOWN, ^ref, :process, _pid, _reason} -> true
    end

    :ok
  end

  @impl true
  def init(port), do: {:ok, %{port: port, recent: []}}

  @impl true
  def handle_call({:get, device}, _from, %{port: port, recent: recent} = state) do
    case List.keytake(recent, device, 0) do
      {{_device, pid} = entry, others} ->
        {:reply, pid, %{state | recent: [entry | others]}}

      nil ->
        pid = spawn_link(fn -> loop(port, device) end)
        {recent, old} = Enum.split([{device, pid} | recent], @kept)
        Enum.each(old, fn {_device, pid} -> send(pid, :stop) end)
        {:reply, pid, %{state | recent: recent}}
    end
  end

  defp loop(port, device) do
    receive do
      {:io_request, from, ref, request} ->
        send(from, {:io_reply, ref, perform(request, port, device)})
        loop(port, device)

      {:flush, from, ref} ->
        send(from, {ref, :flushed})
        loop(port, device)

      :stop ->
        :ok

      _other ->
        loop(port, device)
    end
  end

  defp perform({:put_chars, encoding, chars}, port, device) do
    case :unicode.characters_to_binary(chars, encoding) do
      text when is_binary(text) -> put(text, port, device)
      _invalid -> {:error, :put_chars}
    end
  end

  defp perform({:put_chars, encoding, module, function, args}, port, device) do
    perform({:put_chars, encoding, apply(module, function, args)}, port, device)
  end

  defp perform({:requests, requests}, port, device) do
    Enum.reduce_while(requests, :ok, fn request, :ok ->
      case perform(request, port, device) do
        :ok -> {:cont, :ok}
        other -> {:halt, other}
      end
    end)
  end

  defp perform({:setopts, _opts}, _port, _device), do: {:error, :enotsup}
  defp perform(:getopts, _port, _device), do: {:error, :enotsup}
  defp perform({:get_geometry, _what}, _port, _device), do: {:error, :enotsup}
  # There is nobody to ask.
  defp perform(_input, _port, _device), do: :eof

  defp put(text, port, device) do
    Child.send_frame(port, Frame.from_worker(:output, 0, [<<byte_size(device)::32>>, device, text]))
    :ok
  end
end
