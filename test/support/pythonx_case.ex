defmodule Pythonx.Case do
  @moduledoc false

  # What many tests need: evaluating to a term, waiting for something that happens by itself, and a device that
  # records what it is sent.

  use ExUnit.CaseTemplate

  using do
    quote do
      import Pythonx.Case
    end
  end

  @doc "The decoded result of an evaluation."
  def eval!(code, globals \\ %{}, opts \\ []) do
    {result, _globals} = Pythonx.eval(code, globals, opts)
    Pythonx.decode(result)
  end

  @doc "What a function raises."
  @spec raised((-> term())) :: Exception.t()
  def raised(fun) do
    fun.()
    ExUnit.Assertions.flunk("nothing was raised")
  rescue
    error -> error
  end

  @doc """
  Defines a `:telemetry`, on which nothing depends, until the test ends: it sends what it is told to the test, as
  `{:event, event, measurements, metadata}`. All of the VM sees it, so not for tests that run beside others.
  """
  def define_telemetry do
    :persistent_term.put(__MODULE__, self())

    Code.eval_string("""
    defmodule :telemetry do
      def execute(event, measurements, metadata) do
        send(:persistent_term.get(#{inspect(__MODULE__)}), {:event, event, measurements, metadata})
        :ok
      end
    end
    """)

    ExUnit.Callbacks.on_exit(fn ->
      :code.purge(:telemetry)
      :code.delete(:telemetry)
    end)
  end

  @doc "The minor version of the Python in use."
  def python_minor, do: eval!("import sys; sys.version_info[1]")

  @doc "The Python repr of an object or of an encoded term."
  def repr(term), do: term |> Pythonx.encode!() |> Pythonx.Object.repr_text()

  @doc "What runs for a process. Others may be at work for a moment: what earlier tests have let go of is released."
  @spec running(pid()) :: [map()]
  def running(pid), do: Enum.filter(Pythonx.running(), &(&1.process == pid))

  @doc "Waits until Python's main thread is free, so that a process that evaluates for the first time is served by it."
  def await_main_thread do
    code = "import threading\nthreading.current_thread() is threading.main_thread()"
    wait_until(fn -> Task.await(Task.async(fn -> eval!(code) end), patience()) end)
  end

  @doc "For how many milliseconds something is waited for that comes, see test_helper.exs."
  @spec patience :: pos_integer()
  def patience, do: ExUnit.configuration()[:assert_receive_timeout]

  @doc "Calls `fun` until it returns something true; fails after `timeout` milliseconds."
  def wait_until(fun, timeout \\ patience()) do
    deadline = System.monotonic_time(:millisecond) + timeout
    do_wait_until(fun, deadline, timeout)
  end

  defp do_wait_until(fun, deadline, timeout) do
    cond do
      result = fun.() ->
        result

      System.monotonic_time(:millisecond) > deadline ->
        ExUnit.Assertions.flunk("did not come true within #{timeout} ms")

      true ->
        # Nothing announces what is waited for here (a collection, a thread's end), so it is polled.
        receive do
        after
          5 -> do_wait_until(fun, deadline, timeout)
        end
    end
  end

  @doc """
  Has a free-threaded Python free what it frees only when it collects: modules, with them the namespaces of earlier
  evaluations, functions, classes. Does nothing where reference counts do.
  """
  def collect_free_threaded do
    eval!("import gc, sysconfig\nif sysconfig.get_config_var('Py_GIL_DISABLED'): gc.collect()\n0")
  end

  @doc """
  What a count of the whole VM is once it stays as it is: earlier tests may have left something behind that goes in its own
  time, and is not to be taken for what a test lets go of.
  """
  @spec settled((-> number())) :: number()
  def settled(count, rounds \\ 5), do: settle(count, count.(), rounds, rounds)

  defp settle(_count, level, _rounds, 0), do: level

  defp settle(count, level, rounds, left) do
    # Elixir first, since what it lets go of is dropped in Python, and once more for what this call has brought.
    collect_processes()
    eval!("import gc; gc.collect()")
    collect_processes()

    receive do
    after
      5 -> :ok
    end

    case count.() do
      ^level -> settle(count, level, rounds, left - 1)
      other -> settle(count, other, rounds, rounds)
    end
  end

  @doc "How many bytes of this process are in memory."
  @spec resident_memory :: non_neg_integer()
  def resident_memory do
    [_all, kilobytes] = Regex.run(~r/^VmRSS:\s+(\d+) kB/m, File.read!("/proc/self/status"))
    String.to_integer(kilobytes) * 1024
  end

  @doc "Collects the garbage of all processes."
  def collect_processes, do: for(pid <- Process.list(), do: :erlang.garbage_collect(pid))

  @doc "Waits until a file exists."
  def wait_for_file(path, timeout \\ patience()), do: wait_until(fn -> File.exists?(path) end, timeout)

  @doc "A device that sends the test process {:device, tag, text} for all it is asked to print."
  def start_device(tag \\ :out) do
    test = self()
    spawn_link(fn -> device_loop(test, tag) end)
  end

  defp device_loop(test, tag) do
    receive do
      {:io_request, from, ref, {:put_chars, :unicode, text}} ->
        send(test, {:device, tag, text})
        send(from, {:io_reply, ref, :ok})
        device_loop(test, tag)
    end
  end
end
