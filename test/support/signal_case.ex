defmodule Pythonx.SignalCase do
  @moduledoc false

  # What tests of signals need: code on Python's main thread and on another one. Handlers are the whole VM's, and given back.

  use ExUnit.CaseTemplate

  import ExUnit.Assertions
  import Pythonx.Case

  using do
    quote do
      import Pythonx.Case
      import Pythonx.SignalCase

      @moduletag :capture_log
    end
  end

  setup do
    give_back = """
    import signal
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}: signal.signal(number, None)
    """

    on_exit(fn -> Pythonx.eval(give_back, %{}) end)
  end

  @doc "What a function returns in a process of its own."
  def in_process(fun), do: fun |> Task.async() |> Task.await(patience())

  # Holds Python's main thread while the function runs, which then runs on another one.
  defp on_another_thread(fun) do
    await_main_thread()
    test = self()

    code = """
    import threading
    assert threading.current_thread() is threading.main_thread()
    begun()
    threading.Event().wait()
    """

    holder = spawn(fn -> Pythonx.eval(code, %{"begun" => fn -> send(test, :main_thread_held) end}) end)

    try do
      assert_receive :main_thread_held, 10_000

      in_process(fn ->
        assert eval!("import threading; threading.current_thread() is threading.main_thread()") == false
        fun.()
      end)
    after
      Process.exit(holder, :kill)
      await_main_thread()
    end
  end

  defp on_the_main_thread(fun) do
    await_main_thread()

    in_process(fn ->
      assert eval!("import threading; threading.current_thread() is threading.main_thread()")
      fun.()
    end)
  end

  @doc "Runs a function in a process that Python's main thread serves, or that another thread does."
  def on_thread(:main, fun), do: on_the_main_thread(fun)
  def on_thread(:another, fun), do: on_another_thread(fun)

  @doc "The same for both."
  def on_each_thread(fun), do: Enum.each([:main, :another], &on_thread(&1, fun))

  @doc "The last line of what a function raises."
  def last_line(fun), do: fun |> raised() |> Exception.message() |> String.split("\n", trim: true) |> List.last()

  @doc "Waits until a StringIO has been sent something."
  def await_text(device, pattern) do
    wait_until(fn -> device |> StringIO.contents() |> elem(1) =~ pattern end, 20_000)
    nil
  end
end
