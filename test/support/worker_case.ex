defmodule Pythonx.WorkerCase do
  @moduledoc false
  # A native worker of a pool (c_src/worker) behind a launcher, spoken with in frames.

  import ExUnit.Assertions

  alias Pythonx.Boot.Bridge
  alias Pythonx.Host.Native

  @mark <<0xB7, 0x1E, 0x5C, 0xF0, 0x93, 0x2A, 0xD8, 0x46>>
  @to %{setup: 1, call: 2, release: 3, down: 4, answer: 5, halt: 6, submit: 7, names: 8}
  @from %{
    1 => :ready,
    2 => :failed,
    3 => :reply,
    4 => :send,
    5 => :monitor,
    6 => :demonitor,
    7 => :ask,
    8 => :spent,
    9 => :dropped
  }

  @python ~s|'\\n'.join([sys.executable, sys.base_prefix, os.path.join(*sysconfig.get_config_vars('LIBDIR', 'INSTSONAME'))])|

  @doc "The number that this worker is given, as `start!/1` does."
  def number, do: 77

  @doc "The worker's program, or the one that PYTHONX_TEST_WORKER names, such as one with sanitizers."
  def program! do
    System.get_env("PYTHONX_TEST_WORKER") || Bridge.Compiler.worker_path(bridge!())
  end

  @doc "The library that connects Python with the VM, without its extension."
  def bridge!, do: System.get_env("PYTHONX_TEST_BRIDGE") || Bridge.ensure_for!(Pythonx.NativeCase.python!())

  @doc "Starts a worker and sets it up. What `settings` has no library for has only functions of the worker's own."
  def start!(settings \\ %{}) do
    port = open!()
    settings = Map.merge(%{version: 1, number: number(), self: self(), load_info: MapSet.new()}, settings)
    send_frame(port, :setup, 0, settings)
    assert {:ready, 0, %{version: 1, os_pid: os_pid}} = next(port)
    assert is_integer(os_pid)
    port
  end

  @doc """
  Starts a worker with Python. `names` are processes that it finds without asking; this process is who is told what a janitor or
  a watch would be.
  """
  def start_python!(names \\ %{}) do
    names = Map.merge(%{Pythonx.Janitor => self(), Pythonx.Calls.Watch => self()}, names)
    [executable, home, libpython] = String.split(Pythonx.NativeCase.ask_python!(@python), "\n")
    port = start!(%{libpython: libpython, bridge: bridge!(), names: names})
    python_dir = Application.app_dir(:pythonx, "priv/python")
    assert call(port, :nif_init, [executable, home, python_dir, []]) == {:ok, :ok}
    port
  end

  @doc "A worker that has not been set up."
  def open! do
    launcher = :pythonx |> Application.app_dir("priv") |> Native.path(:launcher)
    Port.open({:spawn_executable, launcher}, [:binary, :exit_status, args: ["0", "65536", "0", program!()]])
  end

  @doc "A frame, whose payload is a term."
  def frame(kind, id, term) when is_map_key(@to, kind) do
    payload = :erlang.term_to_iovec(term)
    [<<5 + IO.iodata_length(payload)::32, @to[kind], id::32>> | payload]
  end

  def send_frame(port, kind, id, term), do: Port.command(port, frame(kind, id, term))

  @doc "Calls a native function and waits for what it returns."
  def call(port, function, arguments) do
    id = System.unique_integer([:positive]) |> rem(0xFFFFFFFF)
    send_frame(port, :call, id, {function, self(), arguments})
    assert {:reply, ^id, {_lent, result}} = next(port, &match?({:reply, ^id, _}, &1))
    result
  end

  @doc "Submits a job and waits for what it sends to this process."
  def job(port, id, function, arguments) do
    reference = make_ref()
    me = self()
    send_frame(port, :submit, id, {function, me, [reference | arguments]})

    assert {:send, 0, {_lent, {^me, {^reference, reply}}}} =
             next(port, &match?({:send, 0, {_, {_, {^reference, _}}}}, &1))

    reply
  end

  @doc "Evaluates code with what is bound to names and waits for what it sends to this process."
  def eval(port, id, code, globals \\ %{}) do
    job(port, id, :submit_eval, evaluation(port, code, globals))
  end

  @doc "The arguments of an evaluation, which prints to this process."
  def evaluation(port, code, globals \\ %{}) do
    globals = Map.new(globals, fn {name, value} -> {name, encode(port, value)} end)
    [code, "nofile", 1, globals, self(), self(), self()]
  end

  @doc "A term as an object of the worker."
  def encode(port, term) do
    case call(port, :nif_encode, [term, false, 0, []]) do
      {:ok, {:ok, object}} ->
        object

      {:ok, :needs_thread} ->
        with({:ok, object} <- job(port, 1, :submit_call, ["encode", {term, false, 0, []}]), do: object)
    end
  end

  @doc "An object of the worker as a term."
  def decode(port, object) do
    case call(port, :nif_decode, [object]) do
      {:ok, :needs_thread} -> job(port, 1, :submit_call, ["decode", {object}])
      {:ok, result} -> result
      raised -> raised
    end
  end

  @doc "The next frame, or the next that is wanted: what comes before it is dropped. `:ended` once there are none any more."
  def next(port, wanted \\ fn _ -> true end) do
    case take(port) do
      :ended -> :ended
      frame -> if wanted.(frame), do: frame, else: next(port, wanted)
    end
  end

  defp take(port) do
    case parse(Process.get({__MODULE__, port}, "")) do
      {frame, rest} ->
        Process.put({__MODULE__, port}, rest)
        frame

      :more ->
        receive_more(port)
    end
  end

  defp receive_more(port) do
    receive do
      {^port, {:data, bytes}} ->
        Process.put({__MODULE__, port}, Process.get({__MODULE__, port}, "") <> bytes)
        take(port)

      {^port, {:exit_status, status}} ->
        Process.put({__MODULE__, port, :status}, status)
        :ended
    after
      60_000 -> flunk("nothing comes from the worker")
    end
  end

  @doc "How a worker that has ended has: what the launcher says."
  def status(port), do: Process.get({__MODULE__, port, :status})

  # The launcher's last words begin with a size that no frame has.
  defp parse(<<0xFFFFFFFF::32, _::binary>>), do: :more

  defp parse(<<size::32, frame::binary-size(size), rest::binary>>) do
    size = size - 13
    assert <<kind, id::32, payload::binary-size(size), @mark>> = frame
    {{@from[kind], id, payload(@from[kind], payload)}, rest}
  end

  defp parse(_incomplete), do: :more

  defp payload(:failed, text), do: text
  defp payload(kind, <<lent::32, term::binary>>) when kind in [:reply, :send], do: {lent, :erlang.binary_to_term(term)}
  defp payload(_kind, term), do: :erlang.binary_to_term(term)
end
