defmodule Pythonx.Requirements.Merged do
  # One project of what several owners ask for: a dependency group for each, so that uv's answers tell them apart.
  @moduledoc false

  alias Pythonx.Requirements.{Declared, Version}

  @project "pythonx-requirements"

  # What can be embedded, and what may come.
  @minors 10..29
  @patches 0..30

  @doc "The name of the project in its text, and in what uv says of it."
  @spec project_name() :: String.t()
  def project_name, do: @project

  @doc """
  The text of the pyproject.toml. With `constraints`, packages have these versions if they are installed at all.
  Raises a `RuntimeError` when no Python suits all owners.
  """
  @spec toml!([Declared.t()], constraints :: [String.t()], python :: String.t() | nil) :: String.t()
  def toml!(owners, constraints \\ [], python \\ nil) do
    requires_python = python || requires_python!(owners)
    groups = groups(owners)

    """
    # Made by Pythonx of what applications and modules ask for. `mix pythonx.deps` shows who wants what.
    [project]
    name = "#{@project}"
    version = "0.0.0"
    requires-python = #{quoted(requires_python)}
    dependencies = []

    [dependency-groups]
    #{Enum.map_join(groups, "\n", fn {name, declared} -> "#{name} = #{list(declared.dependencies)}" end)}

    [tool.uv]
    package = false
    default-groups = #{groups |> Enum.map(&elem(&1, 0)) |> list()}
    """ <> if(constraints == [], do: "", else: "constraint-dependencies = #{list(constraints)}\n")
  end

  @doc "The owners by the names of their groups, in the order of these."
  @spec groups([Declared.t()]) :: [{String.t(), Declared.t()}]
  def groups(owners) do
    owners
    |> Enum.sort_by(& &1.owner)
    |> Enum.group_by(&group(&1.owner))
    |> Enum.flat_map(fn
      {name, [one]} -> [{name, one}]
      {name, many} -> many |> Enum.with_index(1) |> Enum.map(fn {each, index} -> {"#{name}-#{index}", each} end)
    end)
    |> Enum.sort()
  end

  # As Python writes such names: small letters, digits and single dashes.
  defp group(owner) do
    name = owner |> inspect() |> String.downcase() |> String.replace(~r/[^a-z0-9]+/, "-") |> String.trim("-")
    if name == "", do: "owner", else: name
  end

  defp list(texts), do: "[" <> Enum.map_join(texts, ", ", &quoted/1) <> "]"

  # No control characters get here.
  defp quoted(text), do: ~s("#{text |> String.replace("\\", "\\\\") |> String.replace("\"", "\\\"")}")

  defp requires_python!(owners) do
    wishes = for %{requires_python: text} = declared <- owners, text != nil, do: {declared, text}
    check_pythons!(wishes)
    clauses = for {_declared, text} <- wishes, clause <- String.split(text, ","), do: String.trim(clause)
    # The oldest that can be embedded. Said always, as uv takes what it says of the future from it.
    [">=3.10" | clauses] |> Enum.reject(&(&1 == "")) |> Enum.uniq() |> Enum.join(",")
  end

  defp check_pythons!(wishes) do
    all = for minor <- @minors, patch <- @patches, do: "3.#{minor}.#{patch}"
    suiting = for {declared, text} <- wishes, do: {declared, text, Enum.filter(all, &Version.match?(&1, text))}

    with {declared, text, []} <- Enum.find(suiting, fn {_, _, pythons} -> pythons == [] end) do
      raise "no Python that can be embedded is one that #{inspect(declared.owner)} wants, which is Python #{text}"
    end

    for {one, one_text, one_pythons} <- suiting, {other, other_text, pythons} <- suiting, one.owner < other.owner do
      unless Enum.any?(one_pythons, &(&1 in pythons)), do: raise_pythons_clash(one, one_text, other, other_text)
    end
  end

  @spec raise_pythons_clash(Declared.t(), String.t(), Declared.t(), String.t()) :: no_return()
  defp raise_pythons_clash(one, one_text, other, other_text) do
    raise """
    the Python requirements of #{inspect(one.owner)} and #{inspect(other.owner)} exclude each other

      #{inspect(one.owner)} wants Python #{one_text}
      #{inspect(other.owner)} wants Python #{other_text}
    """
  end
end
