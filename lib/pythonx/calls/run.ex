defmodule Pythonx.Calls.Run do
  @moduledoc false

  # What `Pythonx.run/3` and `Pythonx.Session.run/4` make of an evaluation: a value, and an exception where there is none.

  alias Pythonx.Calls.{Deadline, Options}
  alias Pythonx.Object

  @returns [:value, :object, :buffer, :table, :tensor]

  @doc """
  Runs `evaluate` with options for an evaluation, and makes of its result what the option `:return` says.
  """
  @spec run(keyword(), (keyword() -> {Object.t() | nil, map()})) :: {:ok, term()} | {:error, Exception.t()}
  def run(opts, evaluate) do
    {return, opts} = options!(opts)

    try do
      {result, _globals} = evaluate.(opts)
      {:ok, finish(result, return, opts)}
    rescue
      error -> {:error, error}
    end
  end

  @doc """
  The same, without the tuple.
  """
  @spec run!(keyword(), (keyword() -> {Object.t() | nil, map()})) :: term()
  def run!(opts, evaluate) do
    {return, opts} = options!(opts)
    {result, _globals} = evaluate.(opts)
    finish(result, return, opts)
  end

  @doc """
  Raises for options that are not right, and where Python has not been started.
  """
  @spec check!(keyword()) :: :ok
  def check!(opts) do
    options!(opts)
    :ok
  end

  # Checked here, where a mistake raises.
  defp options!(opts) do
    unless Pythonx.NIF.initialized?(), do: Pythonx.NIF.not_initialized!()
    {return, opts} = opts |> defaults() |> Keyword.pop!(:return)

    unless return in @returns do
      raise ArgumentError, "expected :return to be one of #{inspect(@returns)}, got: #{inspect(return)}"
    end

    Pythonx.Calls.Evaluation.check!(%{}, opts)
    {return, Keyword.update!(opts, :timeout, &Deadline.new/1)}
  end

  defp defaults(opts) do
    configured = Map.to_list(Options.configured(%{binaries: :str, types: :rich}))
    configured |> Keyword.merge(return: :value, timeout: :infinity) |> Keyword.merge(opts)
  end

  defp finish(nil, _return, _opts), do: nil
  defp finish(object, :object, _opts), do: object
  defp finish(object, :value, opts), do: Pythonx.decode(object, Keyword.take(opts, [:types, :timeout]))
  defp finish(object, :buffer, opts), do: Pythonx.buffer(object, Keyword.take(opts, [:timeout]))
  defp finish(object, :table, opts), do: Pythonx.table(object, Keyword.take(opts, [:timeout]))
  defp finish(object, :tensor, opts), do: Pythonx.to_nx(object, Keyword.take(opts, [:timeout]))
end
