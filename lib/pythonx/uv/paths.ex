defmodule Pythonx.Uv.Paths do
  # The layout of environments and of Python installations, and what it takes to compare paths.
  @moduledoc false

  alias Pythonx.Host.OS

  # As many as the kernel follows.
  @max_links 40

  @doc "The path with all symbolic links resolved, as far as it exists."
  @spec real_path(Path.t()) :: String.t()
  def real_path(path), do: path |> Path.expand() |> Path.split() |> resolve(nil, @max_links)

  defp resolve([], resolved, _links), do: resolved
  defp resolve([root | rest], nil, links), do: resolve(rest, root, links)

  defp resolve([name | rest], resolved, links) do
    path = Path.join(resolved, name)

    case File.read_link(path) do
      {:ok, target} when links > 0 ->
        target |> Path.expand(resolved) |> Path.split() |> Kernel.++(rest) |> resolve(nil, links - 1)

      _no_link ->
        resolve(rest, path, links)
    end
  end

  @spec inside?(Path.t(), Path.t()) :: boolean()
  def inside?(path, dir) do
    os = OS.current()
    String.starts_with?(OS.comparable(path, os), OS.comparable(dir, os) <> "/")
  end

  @doc "Whether two paths name one file, links aside."
  @spec same?(Path.t(), Path.t()) :: boolean()
  def same?(left, right) do
    os = OS.current()
    OS.comparable(left, os) == OS.comparable(right, os)
  end

  @doc "The program of a virtual environment that belongs to the project in `dir`."
  @spec venv_python(Path.t()) :: String.t()
  def venv_python(dir),
    do: Path.join([dir, ".venv", OS.venv_layout(OS.current()).python])

  @spec pyvenv_cfg(Path.t()) :: String.t()
  def pyvenv_cfg(dir), do: Path.join([dir, ".venv", "pyvenv.cfg"])

  @doc "The folder of the installed packages. Raises unless there is exactly one."
  @spec site_packages!(Path.t()) :: String.t()
  def site_packages!(dir), do: one_match!(dir, site_packages_pattern())

  @doc "The same for a virtual environment, whatever it is called."
  @spec packages!(Path.t()) :: String.t()
  def packages!(venv), do: one_match!(venv, OS.venv_layout(OS.current()).packages)

  @doc "Whether there is exactly one folder of installed packages."
  @spec site_packages?(Path.t()) :: boolean()
  def site_packages?(dir), do: match?([_path], matches(dir, site_packages_pattern()))

  defp site_packages_pattern, do: Path.join(".venv", OS.venv_layout(OS.current()).packages)

  @doc "The shared library in an installation, by its name alone. Raises unless there is exactly one."
  @spec libpython!(Path.t()) :: String.t()
  def libpython!(python_root), do: one_match!(python_root, OS.libpython_pattern(OS.current()))

  defp one_match!(dir, pattern) do
    case matches(dir, pattern) do
      [path] -> path
      paths -> raise "expected one path to match #{inspect(Path.join(dir, pattern))}, got: #{inspect(paths)}"
    end
  end

  # Only the end is a pattern: the folder may have any name.
  defp matches(dir, pattern) do
    escaped = String.replace(dir, ~r/[\[\]{}?*\\]/, "\\\\\\0")
    Path.wildcard(Path.join(escaped, pattern), match_dot: true)
  end

  @doc "The folder of the programs of an installation, which is what pyvenv.cfg calls home."
  @spec home(Path.t()) :: String.t()
  def home(python_root), do: Path.join([python_root | List.wrap(OS.programs_folder(OS.current()))])

  @doc "The installation to which a home belongs."
  @spec root_of_home(Path.t()) :: String.t()
  def root_of_home(home), do: if(OS.programs_folder(OS.current()), do: Path.dirname(home), else: home)
end
