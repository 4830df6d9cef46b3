# What `mix pythonx.gen` makes of twenty modules that many people know: how many public functions (and constructors of
# classes) there are, how many are generated, and how many of those that have an example in their documentation can be called
# with it from Elixir: `mix run bench/modules.exs`, or with the names of some.
#
# The examples are those of the docstrings; what has none there, and one in the manual, is in bench/modules.py. Python runs an
# example and remembers the first call of the function with its arguments and result. Elixir makes the same call through the
# generated module: plain data as terms, anything else as handles. Methods are left out, which would be thousands.

alias Pythonx.Module.{Generated, Source}

defmodule Pythonx.Bench.Modules do
  @limit 60_000
  # These run the whole test suite of the package.
  @left_out %{"sympy" => ["test", "doctest"]}

  def examine(name, python, tools) do
    # Outside of the limit of an example.
    Pythonx.import_module(name)
    {:ok, description} = Source.imported(python, name)
    classes = for class <- sample(description["classes"]), do: %{class | "methods" => []}
    description = %{description | "functions" => sample(description["functions"]), "classes" => classes}
    settings = Generated.settings(name, [], "Generated." <> Macro.camelize(String.replace(name, ".", "_")))
    generated = Generated.build(description, settings)
    [{module, _binary} | _] = compile(generated.text)
    module = module |> Module.split() |> Enum.take(2) |> Module.concat()

    items =
      for(item <- description["functions"], do: {item, "params"}) ++
        for item <- description["classes"], item["kind"] in ["class", "enum"], do: {item, "init"}

    defined = for {item, key} <- items, into: %{}, do: {item["name"], defined(item, key, module, description)}
    outcomes = for {item, key} <- items, do: {item["name"], try_example(name, item, key, defined[item["name"]], tools)}
    report(name, description, items, defined, outcomes)
  end

  # SAMPLE=8 takes every eighth, where there is little time.
  defp sample(items), do: Enum.take_every(items, String.to_integer(System.get_env("SAMPLE", "1")))

  defp compile(text) do
    {result, _diagnostics} = Code.with_diagnostics(fn -> Code.compile_string(text, "generated.ex") end)
    result
  end

  # The function of Elixir's: that of a class is `new` in the class's module.
  defp defined(item, "params", module, description) do
    names = description["functions"] |> Enum.map(& &1["name"]) |> Pythonx.Module.Names.functions()
    name = names[item["name"]]
    if exported?(module, name), do: {module, name}
  end

  defp defined(item, "init", module, description) do
    modules = description["classes"] |> Enum.map(& &1["name"]) |> Pythonx.Module.Names.classes(module)
    if exported?(modules[item["name"]], :new), do: {modules[item["name"]], :new}
  end

  defp exported?(module, name) do
    Code.ensure_loaded?(module) and Enum.any?(module.__info__(:functions), &(elem(&1, 0) == name))
  end

  defp try_example(_name, _item, _key, nil, _tools), do: :not_generated

  defp try_example(name, item, key, {module, function}, tools) do
    left_out? = item["name"] in Map.get(@left_out, name, [])
    task = Task.async(fn -> if left_out?, do: :no_example, else: attempt(name, item, key, module, function, tools) end)

    case Task.yield(task, @limit) || Task.shutdown(task, :brutal_kill) do
      {:ok, outcome} -> outcome
      nil -> {:failed, "no end within #{@limit} ms"}
      {:exit, reason} -> {:failed, inspect(reason)}
    end
  end

  defp attempt(name, item, key, module, function, tools) do
    recorded = Pythonx.call(tools["record"], [name, item["name"]])

    case Pythonx.call(tools["arguments"], [recorded], [], decode: true) do
      nil ->
        :no_example

      {args, kwargs} ->
        arguments = arrange(Enum.map(args, &value/1), Map.new(kwargs, fn {k, v} -> {k, value(v)} end), item[key])
        result = apply(module, function, arguments)
        same? = Pythonx.call(tools["same"], [recorded, back(result)], [], decode: true, types: :rich)
        if same?, do: :same, else: :called
    end
  rescue
    error -> {:failed, error |> Exception.message() |> String.split("\n", trim: true) |> List.last() |> String.trim()}
  end

  defp value({"plain", value}), do: value
  defp value({"object", holder}), do: Pythonx.getattr(holder, :value)

  defp back(%{__struct__: _module, object: object}), do: object
  defp back(result) when is_function(result), do: result |> Enum.take(1000)
  defp back(%Stream{} = stream), do: Enum.take(stream, 1000)
  # Bytes and text are both binaries.
  defp back(result) when is_binary(result), do: if(String.valid?(result), do: result, else: Pythonx.encode!(result))
  defp back(result), do: result

  # As somebody would write it who reads the generated function.
  defp arrange(args, kwargs, nil), do: [args, kwargs]

  defp arrange(args, kwargs, params) do
    positional = Enum.filter(params, &(&1["kind"] in ["positional", "positional_only"]))
    {placed, rest} = Enum.split(args, length(positional))
    by_place = positional |> Enum.zip(placed) |> Map.new(fn {param, value} -> {param["name"], value} end)
    given = Map.merge(kwargs, by_place)
    {required, optional} = Enum.split_with(positional, &(&1["default"] == nil))
    fixed = for param <- required, do: Map.fetch!(given, param["name"])
    opts = given |> Map.drop(Enum.map(required, & &1["name"])) |> Enum.map(fn {k, v} -> {String.to_atom(k), v} end)
    others = Enum.any?(params, &(&1["kind"] in ["keyword_only", "var_keyword"]))
    rest = if Enum.any?(params, &(&1["kind"] == "var_positional")), do: [rest], else: []
    fixed ++ rest ++ if(optional != [] or others, do: [opts], else: [])
  end

  defp report(name, description, items, defined, outcomes) do
    generated = Enum.count(defined, &elem(&1, 1))
    with_example = for {_item, outcome} <- outcomes, outcome not in [:no_example, :not_generated], do: outcome
    called = Enum.count(with_example, &(&1 in [:same, :called]))
    same = Enum.count(with_example, &(&1 == :same))
    row = {name, description["version"], length(items), generated, length(with_example), called, same}
    print(row)
    for {item, {:failed, reason}} <- outcomes, do: IO.puts("    #{name}.#{item}: #{reason}")
    row
  end

  def header do
    IO.puts(
      String.pad_trailing("module", 24) <>
        String.pad_trailing("version", 22) <> "public  generated  examples  callable  same result"
    )
  end

  def print({name, version, public, generated, examples, called, same}) do
    numbers =
      for {n, width} <- [{public, 6}, {generated, 11}, {examples, 10}, {called, 10}, {same, 13}],
          do: String.pad_leading("#{n}", width)

    IO.puts(String.pad_trailing(name, 24) <> String.pad_trailing(version, 22) <> Enum.join(numbers))
  end
end

pyproject = """
[project]
name = "pythonx-modules"
version = "0.0.0"
requires-python = "==3.13.*"
dependencies = ["numpy==2.2.6", "pandas==2.3.3", "polars==1.35.2", "scikit-learn==1.7.2", "requests==2.32.5", "pillow==12.0.0",
  "networkx==3.5", "sympy==1.14.0", "scipy==1.16.3", "python-dateutil==2.9.0.post0", "pyyaml==6.0.3", "more-itertools==10.8.0"]
"""

Pythonx.uv_init(pyproject, python: System.get_env("PYTHONX_TEST_PYTHON"))
python = Pythonx.Uv.program!(pyproject, python: System.get_env("PYTHONX_TEST_PYTHON"))
{nil, tools} = Pythonx.eval(File.read!(Path.join(__DIR__, "modules.py")), %{})

names =
  case System.argv() do
    [] ->
      ~w(json statistics pathlib re math random textwrap urllib.parse datetime hashlib more_itertools numpy.linalg
         PIL.Image requests polars pandas sklearn.linear_model scipy.stats networkx sympy)

    names ->
      names
  end

Pythonx.Bench.Modules.header()
rows = for name <- names, do: Pythonx.Bench.Modules.examine(name, python, tools)
[public, generated, examples, called, same] = for index <- 2..6, do: rows |> Enum.map(&elem(&1, index)) |> Enum.sum()
Pythonx.Bench.Modules.print({"all", "", public, generated, examples, called, same})
percent = fn part, whole -> :erlang.float_to_binary(100 * part / max(whole, 1), decimals: 1) end
IO.puts("generated: #{percent.(generated, public)} %, callable with their example: #{percent.(called, examples)} %")
IO.write([])
