defmodule Pythonx.Pool.Options do
  # The options of a pool: checked once, then a map with every key.
  @moduledoc false

  @defaults [
    name: nil,
    size: nil,
    spares: 0,
    nodes: nil,
    pyproject: nil,
    template: nil,
    uv: [],
    init: nil,
    attach_logger: nil,
    max_memory: nil,
    sandbox: nil,
    max_uses: :infinity,
    max_queue: 1000,
    nice: 0,
    threads: nil,
    env: %{},
    stderr: :keep,
    stderr_limit: 16_384,
    boot_timeout: 60_000,
    kill_after: 1000,
    drain_timeout: 5000,
    max_restarts: 5,
    max_seconds: 60
  ]

  # This node is `:local` in the result: it may get another name later.
  @doc "Checks the options and fills in the defaults. Raises an `ArgumentError` for unknown keys and wrong values."
  @spec validate!(keyword()) :: map()
  def validate!(opts) do
    given = opts |> Keyword.validate!(Keyword.keys(@defaults)) |> Enum.reject(fn {_key, value} -> value == nil end)

    @defaults
    |> Keyword.merge(given)
    |> Map.new()
    |> defaults()
    |> check_numbers!()
    |> check_times!()
    |> check!(:nodes, &(is_list(&1) and &1 != [] and Enum.all?(&1, fn node -> is_atom(node) end)), "a list of nodes")
    |> check!(:stderr, &(&1 in [:keep, :inherit]), ":keep or :inherit")
    |> check!(:init, &(is_nil(&1) or is_binary(&1)), "Python code")
    |> check!(:uv, &Keyword.keyword?/1, "a keyword list")
    |> check!(:attach_logger, &(is_nil(&1) or Keyword.keyword?(&1)), "a keyword list")
    |> check!(:env, &env?/1, "a map or list of names and values, both strings")
    |> check_names!()
    |> Map.update!(:env, &Map.new/1)
    |> Map.update!(:sandbox, &Pythonx.Pool.Sandbox.validate!/1)
    |> Map.update!(:nodes, fn nodes -> Enum.map(nodes, &if(&1 == node(), do: :local, else: &1)) end)
    |> check_project!()
  end

  defp defaults(options) do
    size = options.size || System.schedulers_online()

    threads =
      options.threads || max(1, div(System.schedulers_online(), if(is_integer(size), do: max(size, 1), else: 1)))

    %{options | size: size, threads: threads, nodes: options.nodes || [node()]}
  end

  defp check_numbers!(options) do
    options
    |> check!(:size, &positive?/1, "a positive integer")
    |> check!(:spares, &natural?/1, "a non-negative integer")
    |> check!(:max_memory, &(is_nil(&1) or positive?(&1)), "a number of bytes")
    |> check!(:max_uses, &(&1 == :infinity or positive?(&1)), "a positive integer or :infinity")
    |> check!(:max_queue, &(&1 == :infinity or natural?(&1)), "a non-negative integer or :infinity")
    |> check!(:nice, &(is_integer(&1) and &1 in -20..19), "an integer from -20 to 19")
    |> check!(:threads, &positive?/1, "a positive integer")
    |> check!(:stderr_limit, &(natural?(&1) and &1 <= 1_048_576), "a number of bytes up to 1048576")
    |> check!(:max_restarts, &natural?/1, "a non-negative integer")
    |> check!(:max_seconds, &positive?/1, "a positive integer")
  end

  defp check_times!(options) do
    Enum.reduce([:boot_timeout, :kill_after, :drain_timeout], options, fn key, options ->
      check!(options, key, &natural?/1, "a number of milliseconds")
    end)
  end

  defp positive?(value), do: is_integer(value) and value > 0
  defp natural?(value), do: is_integer(value) and value >= 0

  defp env?(env) when is_map(env), do: env |> Map.to_list() |> env?()

  defp env?(env) when is_list(env) do
    Enum.all?(env, &match?({name, value} when is_binary(name) and (is_binary(value) or is_nil(value)), &1))
  end

  defp env?(_other), do: false

  # What no environment can have, which the system says with less words.
  defp check_names!(options) do
    for {name, value} <- options.env, name == "" or name =~ ~r/[=\0]/ or (value || "") =~ "\0" do
      refuse!(:env, "names and values without NUL, and names neither empty nor with \"=\"", {name, value})
    end

    options
  end

  defp check!(options, key, valid?, expected) do
    value = options[key]
    if valid?.(value), do: options, else: refuse!(key, expected, value)
  end

  defp refuse!(key, expected, value) do
    raise ArgumentError, "expected #{inspect(key)} to be #{expected}, got: #{inspect(value)}"
  end

  defp check_project!(%{pyproject: pyproject, template: template}) when pyproject != nil and template != nil do
    raise ArgumentError, "expected one of the options :pyproject and :template, not both"
  end

  defp check_project!(%{template: template}) when not is_atom(template) do
    refuse!(:template, "one of #{Enum.map_join(Pythonx.Uv.Templates.names(), ", ", &inspect/1)}", template)
  end

  defp check_project!(%{template: template} = options) when template != nil do
    toml = Pythonx.Uv.Templates.fetch!(template)
    %{options | pyproject: toml}
  end

  defp check_project!(options) do
    check!(options, :pyproject, &(is_nil(&1) or is_binary(&1)), "the text of a pyproject.toml")
  end

  @doc "What a worker's Python is started with: a project, whether it is the one in priv, and options for uv."
  @spec environment!(map()) :: {String.t(), Pythonx.Uv.Project.private(), keyword()}
  def environment!(%{pyproject: nil}) do
    Pythonx.Uv.started_with() ||
      raise ArgumentError,
            "expected one of the options :pyproject and :template, since this VM was not started with a project itself"
  end

  # The pools of isolated libraries have theirs in priv of a release.
  def environment!(%{pyproject: toml, uv: uv}) do
    {private, uv} = Keyword.pop(uv, :private, false)
    {toml, private, uv}
  end
end
