defmodule Pythonx.Uv.Interpreter do
  # Chooses the Python of an environment, before anything is installed into it.
  #
  # uv decides which Pythons satisfy the project; we add that the Python can be embedded. In order:
  #
  #   1. the one uv would take: a managed one that is installed, else one of the system
  #   2. another one of the system, if that one has no shared libpython or no headers to compile the bridge with
  #   3. a managed one, downloaded
  #   4. the first one after all, if only its headers are missing
  #
  # Headers count only where the bridge for that Python would have to be compiled.
  #
  # An environment in priv, which a release takes along, has its Python there too: a managed one, or a copy of one of the
  # system.
  @moduledoc false

  alias Pythonx.Boot.{Bridge, Python}
  alias Pythonx.Boot.Bridge.Headers
  alias Pythonx.Host.{Cache, OS}
  alias Pythonx.Uv.{Command, Paths, Private, Project, SystemCopy}

  # In the folder of the project while a Python is chosen.
  @offers ".pythons"

  @doc "Chooses a Python for the project in `dir`. The error is a sentence, or what uv said last, or `nil`."
  @spec choose(uv :: Path.t(), Project.t(), dir :: Path.t()) ::
          {:ok, Python.t()} | {:error, String.t() | {:uv, last_lines :: String.t()} | nil}
  def choose(uv, project, dir) do
    job = %{uv: uv, project: project, dir: dir}
    if project.private?, do: choose_for_priv(job), else: choose_in_place(job)
  end

  defp choose_in_place(job) do
    case find(job, preference: Command.python_preference()) do
      {:ok, python} -> judge(python, job)
      {:error, reason} -> with({:error, {:uv, _} = uv} <- download(job), do: {:error, reason || uv})
    end
  end

  # A managed one brings the libraries that it needs, one of the system needs the same system.
  defp choose_for_priv(job) do
    ways =
      case Command.python_preference() do
        "only-managed" -> [&managed/1, &download/1]
        "only-system" -> [&copy_of_system/1]
        "system" -> [&copy_of_system/1, &managed/1, &download/1]
        _managed -> [&managed/1, &download/1, &copy_of_system/1]
      end

    Enum.reduce_while(ways, {:error, nil}, fn way, failure ->
      case way.(job) do
        {:ok, python} -> {:halt, {:ok, python}}
        {:error, reason} -> {:cont, {:error, weightier(reason, elem(failure, 1))}}
      end
    end)
  end

  # What uv says when it downloads counts if there is nothing else.
  defp weightier({:uv, _last_lines} = uv, before), do: before || uv
  defp weightier(reason, before), do: reason || before

  defp managed(%{project: project} = job) do
    Private.adopt_python(project, &find(job, preference: "only-managed", python_dir: &1))

    with {:ok, python} <- find(job, preference: "only-managed") do
      if embeddable(python) == :fully, do: {:ok, python}, else: {:error, nil}
    end
  end

  defp copy_of_system(%{project: project} = job) do
    with {:ok, found} <- find(job, preference: "only-system"),
         {:ok, python} <- buildable(found, job),
         do: SystemCopy.make(python, project.python_dir)
  end

  # The bridge is compiled for it at once, hence it needs headers.
  defp buildable(python, job) do
    case embeddable(python) do
      :fully ->
        {:ok, python}

      verdict ->
        with {:error, nil} <- find_other(python, job) do
          if verdict == :without_headers, do: {:ok, %{python | headers: Headers.python!(python)}}, else: verdict
        end
    end
  end

  defp judge(python, job) do
    case embeddable(python) do
      :fully -> {:ok, python}
      verdict -> with({:error, _reason} <- replace(python, job), do: last_resort(python, verdict))
    end
  end

  defp last_resort(python, :without_headers), do: {:ok, python}
  defp last_resort(_python, {:error, reason}), do: {:error, reason}

  defp replace(python, job) do
    with {:error, nil} <- find_other(python, job) do
      IO.puts("#{python.executable} cannot be embedded as it is, looking for a Python that uv manages")
      download(job)
    end
  end

  defp embeddable(python) do
    verdict = Python.embeddable(python)
    if verdict == :without_headers and Bridge.needs_no_headers?(python), do: :fully, else: verdict
  end

  # Where uv looks is given by the preference, the folder of the managed Pythons and the PATH.
  defp find(%{uv: uv, project: project, dir: dir}, where) do
    where = Keyword.merge([python_dir: project.python_dir, path: user_path()], where)
    args = ~w(python find --no-config --system --no-python-downloads --python-preference) ++ [where[:preference]]
    overrides = %{"PATH" => where[:path], "UV_PYTHON_INSTALL_DIR" => where[:python_dir]}
    env = project |> Command.env() |> Map.new() |> Map.merge(overrides) |> Map.to_list()

    with {output, 0} <- Command.capture(uv, args ++ List.wrap(project.opts.python), dir, env),
         path when path != nil <- last_path(output) do
      Python.probe(path)
    else
      _not_found -> {:error, nil}
    end
  end

  # Warnings about other Pythons are mixed with the answer.
  defp last_path(output) do
    output |> String.split(["\r\n", "\n"], trim: true) |> Enum.reverse() |> Enum.find(&File.regular?/1)
  end

  # uv downloads one when it makes an environment and has none. It shows its progress then, and takes the version that
  # the project wants.
  defp download(%{uv: uv, project: project, dir: dir}) do
    request = if project.opts.python, do: ["--python", project.opts.python], else: []
    args = ~w(venv --no-config --python-preference only-managed) ++ request ++ [".venv"]

    with true <- Command.python_preference() != "only-system",
         {0, _last_lines} <- Command.stream(uv, args, dir, Command.env(project)),
         {:ok, python} <- Python.probe(Paths.venv_python(dir)) do
      case Python.embeddable(python) do
        {:error, reason} -> {:error, reason}
        _embeddable -> {:ok, python}
      end
    else
      {:error, reason} -> {:error, reason}
      false -> {:error, {:uv, ""}}
      {_status, last_lines} -> {:error, {:uv, last_lines}}
    end
  end

  # All others that can be embedded are offered to uv, under names that only lead to them.
  defp find_other(python, %{dir: dir} = job) do
    others = others(python)
    path = others |> Enum.with_index() |> Enum.map_join(path_separator(), &offer!(&1, dir))

    with {:ok, found} <- find(job, preference: "only-system", python_dir: Path.join(dir, @offers), path: path) do
      Enum.find_value(others, {:error, nil}, &if(Paths.same?(&1.executable, found.executable), do: {:ok, &1}))
    else
      {:error, _reason} -> {:error, nil}
    end
  after
    File.rm_rf(Path.join(dir, @offers))
  end

  defp offer!({python, index}, dir) do
    folder = Path.join([dir, @offers, Integer.to_string(index)])
    Cache.mkdir!(folder)
    File.ln_s!(python.executable, Path.join(folder, Path.basename(python.executable)))
    folder
  end

  defp others(python) do
    folders = user_path() |> String.split(path_separator(), trim: true) |> Enum.uniq()
    paths = for folder <- folders, name <- list(folder), name =~ ~r/\Apython3\.\d+t?\z/, do: Path.join(folder, name)

    for(path <- paths, {:ok, other} <- [Python.probe(path)], embeddable(other) == :fully, do: other)
    |> Enum.reject(&Paths.same?(&1.executable, python.executable))
    |> Enum.uniq_by(& &1.executable)
  end

  # pyenv puts only the versions that its user has switched to on the PATH. Newest first, after what is on the PATH.
  defp user_path, do: Enum.join([System.get_env("PATH", "") | pyenv_folders()], path_separator())

  defp pyenv_folders do
    versions = Path.join(System.get_env("PYENV_ROOT") || Path.expand("~/.pyenv"), "versions")

    for(name <- list(versions), {:ok, version} <- [Version.parse(name)], do: {version, name})
    |> Enum.sort_by(&elem(&1, 0), {:desc, Version})
    |> Enum.map(fn {_version, name} -> Path.join([versions, name, "bin"]) end)
  end

  defp list(folder) do
    case File.ls(folder) do
      {:ok, names} -> Enum.sort(names)
      {:error, _reason} -> []
    end
  end

  defp path_separator, do: OS.path_separator(OS.current())
end
