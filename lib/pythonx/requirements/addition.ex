defmodule Pythonx.Requirements.Addition do
  # Adds packages while Python runs: in an environment of its own that is put on sys.path beside that of the start.
  #
  # What is imported keeps its version, because two versions of one package in one interpreter are none. So all that is
  # installed keeps its version, where that can be. Where it cannot, and all of it is known by who wants it, what is not
  # imported yet may get another: the new environment then holds all packages and comes first on the path. Files of
  # another environment are never changed.
  @moduledoc false

  alias Pythonx.Requirements.{Clash, Declared, Merged, Requirement, Running}
  alias Pythonx.Uv
  alias Pythonx.Uv.State

  @doc "Adds what is missing of what the owners ask for. Raises a `RuntimeError` and changes nothing when that cannot be."
  @spec add!([Declared.t()]) :: :ok
  def add!(owners) do
    running = Running.describe()
    Enum.each(owners, &check_python!(&1, running["version"]))
    installed = Map.new(running["packages"], &{&1["name"], &1["version"]})
    missing = Enum.reject(owners, &met?(&1, installed))
    if missing != [], do: extend!(missing, running)
    State.note(owners: union(State.owners(), owners))
  end

  defp met?(declared, installed), do: Enum.all?(declared.dependencies, &(Requirement.met?(&1, installed) == true))

  # The last one counts, of an owner that was loaded in another version.
  defp union(owners, more), do: Enum.reject(owners, fn one -> Enum.any?(more, &(&1.owner == one.owner)) end) ++ more

  defp check_python!(%{requires_python: text} = declared, version) do
    if text != nil and Pythonx.Requirements.Version.match?(version, text) == false do
      raise "#{inspect(declared.owner)} wants Python #{text}, and Python #{version} runs in this VM"
    end
  end

  defp extend!(missing, running) do
    own? = State.requirements?()
    added = State.added_owners()
    wanted = union(if(own?, do: State.owners(), else: added), missing)
    all = pins(running["packages"])

    case make(wanted, all, running) do
      {:ok, made} -> put!(made, false, missing)
      {:error, said} -> if own?, do: replace!(wanted, missing, running, said), else: refuse!(missing, running, said)
    end
  end

  defp pins(packages), do: for(%{"direct" => false} = package <- packages, do: pin(package)) |> Enum.sort()
  defp pin(%{"name" => name, "version" => version}), do: "#{name}==#{version}"

  # What is not imported may change.
  defp replace!(wanted, missing, running, said) do
    names = Running.imported()
    imported = Enum.filter(running["packages"], &(&1["name"] in names))

    attempt = if imported == running["packages"], do: {:error, said}, else: make(wanted, pins(imported), running)

    case attempt do
      {:ok, made} ->
        put!(made, true, missing)

      {:error, said} ->
        check_together!(wanted, running)
        raise_imported(missing, wanted -- missing, imported, said)
    end
  end

  # Without regard to what is imported: do the owners themselves exclude each other?
  defp check_together!(wanted, running) do
    {toml, opts} = project(wanted, [], running)
    Pythonx.Requirements.explained(wanted, fn -> Uv.resolve!(toml, opts, quiet?: true) end)
  end

  defp put!({site_packages, toml, opts}, first?, missing) do
    Running.add!(site_packages, first?)
    State.note(added: [%{site_packages: site_packages, owners: missing, toml: toml, opts: opts} | State.added()])
  end

  # An error is returned if it comes from the versions that are there, and raised if it is another.
  defp make(owners, pins, running) do
    {toml, opts} = project(owners, pins, running)
    {:ok, {Uv.site_packages!(toml, opts), toml, opts}}
  rescue
    error in RuntimeError ->
      if error.message =~ "No solution" and Enum.any?(pins, &String.contains?(error.message, &1)),
        do: {:error, error.message},
        else: reraise(RuntimeError, [message: Clash.message(error.message, owners) || error.message], __STACKTRACE__)
  end

  # For the Python that runs.
  defp project(owners, pins, running) do
    toml = Merged.toml!(owners, pins, "==#{python(running)}.*")
    {toml, [python: Running.program(running)] ++ State.options()}
  end

  defp python(%{"version" => version}), do: version |> String.split(".") |> Enum.take(2) |> Enum.join(".")

  @spec raise_imported([Declared.t()], [Declared.t()], [map()], String.t()) :: no_return()
  defp raise_imported(missing, others, imported, said) do
    about = about(imported, said)

    raise """
    the Python requirements of #{who(missing)} cannot be met while this Python runs

    #{wishes(missing, about)}

    #{Enum.map_join(about, "\n", &"#{&1["name"]} #{&1["version"]} is imported already#{wanted_by(&1, others)}")}
    Together they can be met from the start: call Pythonx.uv_init() before anything of them is imported.
    """
  end

  @spec refuse!([Declared.t()], map(), String.t()) :: no_return()
  defp refuse!(missing, running, said) do
    about = about(running["packages"], said)

    raise """
    the Python requirements of #{who(missing)} cannot be met while this Python runs

    #{wishes(missing, about)}

    #{Enum.map_join(about, "\n", &"#{&1["name"]} #{&1["version"]} is installed in #{&1["path"]}")}
    What Python was started with keeps its versions. Allow for the others in its project, or call Pythonx.uv_init().
    """
  end

  # The packages that uv has named.
  defp about(packages, said) do
    for %{"name" => name} = package <- packages, said =~ ~r/(?<![\w-])#{Regex.escape(name)}(?![\w-])/, do: package
  end

  defp who(owners), do: Enum.map_join(owners, " and ", &inspect(&1.owner))

  defp wishes(owners, about) do
    names = Enum.map(about, & &1["name"])

    Enum.map_join(owners, "\n", fn declared ->
      direct = Enum.filter(declared.dependencies, &(Requirement.name(&1) in names))
      "  #{inspect(declared.owner)} wants #{Enum.join(if(direct == [], do: declared.dependencies, else: direct), ", ")}"
    end)
  end

  defp wanted_by(%{"name" => name}, others) do
    case for(declared <- others, text <- declared.dependencies, Requirement.name(text) == name, do: {declared, text}) do
      [] ->
        ""

      wishes ->
        ", for " <>
          Enum.map_join(wishes, " and ", fn {declared, text} -> "#{inspect(declared.owner)}, which wants #{text}" end)
    end
  end
end
