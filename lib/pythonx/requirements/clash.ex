defmodule Pythonx.Requirements.Clash do
  # Says of a failure of uv whose requirements they are, in the words of who has written them.
  @moduledoc false

  alias Pythonx.Requirements.{Declared, Merged, Requirement}

  # As uv separates what it did from why it could not go on.
  @reason ~r/(?:cause:|╰─▶)\s*(.*)\z/s

  @doc """
  The message of the error for what uv said last, or `nil` where it is about none of the owners: no network, no space.
  """
  @spec message(String.t(), [Declared.t()]) :: String.t() | nil
  def message(said, owners) do
    groups = Map.new(Merged.groups(owners))
    named = named(said, groups)

    cond do
      named == [] -> nil
      clash?(said) -> describe(named, said, groups)
      true -> describe_one(named, said, groups)
    end
  end

  defp clash?(said), do: said =~ "are incompatible" or said =~ "unsatisfiable" or said =~ "No solution"

  # In the order in which uv names them.
  defp named(said, groups) do
    by_group = for [_all, name] <- Regex.scan(~r/#{Merged.project_name()}:([a-z0-9-]+)/, said), do: name
    malformed = for [_all, name] <- Regex.scan(~r/in group `([a-z0-9-]+)`/, said), do: name
    for name <- Enum.uniq(by_group ++ malformed), declared = groups[name], do: declared
  end

  defp describe([_one], said, groups), do: describe_one(named(said, groups), said, groups)

  defp describe(named, said, groups) do
    who = named |> Enum.map(& &1.owner) |> Enum.sort() |> Enum.map(&inspect/1) |> sentence()
    text = title("the Python requirements of #{who} exclude each other", named, said, groups)

    text <>
      "\n\n" <>
      "One of them can have a Python of its own: config :pythonx, isolated: [#{inspect(List.last(named).owner)}]"
  end

  defp describe_one(named, said, groups) do
    who = named |> Enum.map(&inspect(&1.owner)) |> sentence()
    title("the Python requirements of #{who} cannot be met", named, said, groups)
  end

  defp sentence([one]), do: one
  defp sentence(many), do: Enum.join(Enum.drop(many, -1), ", ") <> " and " <> List.last(many)

  defp title(title, named, said, groups) do
    reason = reason(said, groups)

    wishes =
      for declared <- Enum.sort_by(named, & &1.owner),
          do: "  #{inspect(declared.owner)} wants #{wants(declared, reason)}"

    "#{title}\n\n#{Enum.join(wishes, "\n")}\n\n#{reason}"
  end

  # All that an owner asks for may be long: what the reason is not about is left out.
  defp wants(declared, reason) do
    case Enum.filter(declared.dependencies, &mentioned?(Requirement.name(&1), reason)) do
      [] -> Enum.join(declared.dependencies, ", ")
      mentioned -> Enum.join(mentioned, ", ")
    end
  end

  defp mentioned?(nil, _reason), do: false
  defp mentioned?(name, reason), do: reason =~ ~r/(?<![\w-])#{Regex.escape(name)}(?![\w-])/

  defp reason(said, groups) do
    text =
      case Regex.run(@reason, said) do
        [_all, reason] -> reason
        nil -> said
      end

    # The project is ours, and means nothing to who reads this.
    text
    |> String.split("\n", trim: true)
    |> Enum.map(&String.trim/1)
    |> Enum.reject(&String.starts_with?(&1, "And because your project requires"))
    |> Enum.join("\n")
    |> String.replace(~r/#{Merged.project_name()}:([a-z0-9-]+)/, &owner(&1, groups))
    |> String.replace(~r/(in group )`([a-z0-9-]+)`/, fn text ->
      [_all, group] = Regex.run(~r/`(.*)`/, text)
      "of " <> owner(Merged.project_name() <> ":" <> group, groups)
    end)
  end

  defp owner(text, groups) do
    name = String.replace_prefix(text, Merged.project_name() <> ":", "")
    if declared = groups[name], do: inspect(declared.owner), else: text
  end
end
