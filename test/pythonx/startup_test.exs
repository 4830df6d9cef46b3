defmodule Pythonx.StartupTest do
  # What makes a warm start quick. How long it takes: `make bench-startup`.
  use ExUnit.Case, async: false

  import Pythonx.NativeCase, only: [start_vm!: 0]

  # Each takes longer to import than all of the Python side of Pythonx.
  @heavy ~w(ast importlib.abc importlib.resources inspect pathlib re tempfile tokenize traceback typing)

  setup do
    vm = start_vm!()
    for {name, value} <- Pythonx.install_env(), do: :peer.call(vm, System, :put_env, [name, value])
    %{vm: vm}
  end

  # The value of Elixir code in the other VM.
  defp value(vm, code) do
    {value, _binding} = :peer.call(vm, Code, :eval_string, [code], 60_000)
    value
  end

  test "the start and the first evaluation import nothing heavy", %{vm: vm} do
    loaded = "import sys; [name for name in #{inspect(@heavy)} if name in sys.modules]"

    assert value(vm, """
           {:ok, _started} = Application.ensure_all_started(:pythonx)
           for code <- ["import sys; 'sys' in sys.modules", #{inspect(loaded)}] do
             code |> Pythonx.eval(%{}) |> elem(0) |> Pythonx.decode()
           end
           """) == [true, []]
  end

  test "no other program is run", %{vm: vm} do
    assert value(vm, """
           1 = :erlang.trace_pattern({:erlang, :open_port, 2}, true, [])
           :erlang.trace(:all, true, [:call])

           Task.await(Task.async(fn ->
             {:ok, _started} = Application.ensure_all_started(:pythonx)
             Pythonx.eval("1", %{})
             # Shows that a program would be noticed.
             System.cmd("true", [])
           end), 60_000)

           :erlang.trace(:all, false, [:call])
           ref = :erlang.trace_delivered(:all)
           receive do: ({:trace_delivered, :all, ^ref} -> :ok)
           {:messages, messages} = Process.info(self(), :messages)

           for {:trace, _pid, :call, {:erlang, :open_port, [{:spawn_executable, program}, _options]}} <- messages do
             Path.basename(program)
           end
           """) == ["true"]
  end
end
