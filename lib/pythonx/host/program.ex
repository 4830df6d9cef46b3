defmodule Pythonx.Host.Program do
  # Runs other programs for their answer.
  @moduledoc false

  alias Pythonx.Host.OS

  @doc """
  Runs a program and returns both its outputs, merged, and its exit status; or why it could not be run.

  Options are those of `System.cmd/3`. Leaves no message in the mailbox of the caller, not even where it traps exits.
  """
  @spec run(Path.t(), [String.t()], keyword()) :: {:ok, String.t(), non_neg_integer()} | {:error, String.t()}
  def run(program, args, opts \\ []) do
    apart(fn -> run_here(program, args, [stderr_to_stdout: true] ++ opts) end)
  end

  # The pipe from the VM ends when the calling process or the VM does, and most programs never look at it. They must not read
  # from it either. The whole group is ended, of which the VM makes one for each program that it starts: make ends its own
  # children, but not theirs.
  @watched """
  exec 3<&0
  "$@" 3<&- </dev/null &
  program=$!
  { while read -r _; do :; done; kill 0; } <&3 >/dev/null 2>&1 &
  watch=$!
  exec 3<&-
  wait "$program"
  status=$?
  kill "$watch" 2>/dev/null
  exit $status
  """

  @doc "What to run instead of a program so that it ends with whoever waits for it, however that ends."
  @spec watched(Path.t(), [String.t()]) :: {Path.t(), [String.t()]}
  def watched(program, args) do
    if OS.posix?(OS.current()),
      do: {"/bin/sh", ["-c", @watched, Path.basename(program), program | args]},
      else: {program, args}
  end

  defp run_here(program, args, opts) do
    {output, status} = System.cmd(program, args, opts)
    {:ok, output, status}
  rescue
    error in ErlangError -> {:error, error.original |> :file.format_error() |> List.to_string()}
  end

  @doc """
  Calls a function that works with ports in a process of its own, which dies with the caller, and returns what it returns.

  Unlike a task, it leaves no exit message where exits are trapped.
  """
  @spec apart((-> result)) :: result when result: var
  def apart(fun) do
    caller = self()
    answer = make_ref()
    {pid, monitor} = Process.spawn(fn -> give(caller, answer, call(fun)) end, [:link, :monitor])

    receive do
      {^answer, {:ok, result}} ->
        Process.demonitor(monitor, [:flush])
        result

      {^answer, {:raised, error, stacktrace}} ->
        Process.demonitor(monitor, [:flush])
        reraise error, stacktrace

      {:DOWN, ^monitor, :process, ^pid, reason} ->
        exit(reason)
    end
  end

  defp call(fun) do
    {:ok, fun.()}
  rescue
    error -> {:raised, error, __STACKTRACE__}
  end

  defp give(caller, answer, result) do
    Process.unlink(caller)
    send(caller, {answer, result})
  end
end
