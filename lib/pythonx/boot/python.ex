defmodule Pythonx.Boot.Python do
  # An installed Python, as it describes itself: where it lives and whether it can be embedded.
  @moduledoc false

  alias Pythonx.Host.Program

  @script_path Path.expand("../../../priv/python/pythonx_probe.py", __DIR__)
  @external_resource @script_path
  @script File.read!(@script_path)

  @oldest_minor 10

  @enforce_keys [:implementation, :version, :executable, :prefix, :libpython, :headers, :free_threaded, :os]
  defstruct @enforce_keys ++ [:libc]

  @typedoc """
  All paths are absolute, with symbolic links resolved in `executable` and `prefix`.

    * `version` - such as `"3.13.0"`
    * `prefix` - the folder of the base installation, also when asked through a virtual environment
    * `libpython` - the shared library, or `nil`
    * `headers` - the folder of Python.h, or `nil`
    * `os` - the ids of the distribution, such as `"ubuntu debian"`
    * `libc` - the GNU C library and its version, such as `"glibc 2.36"`, or `nil`
  """
  @type t :: %__MODULE__{
          implementation: String.t(),
          version: String.t(),
          executable: String.t(),
          prefix: String.t(),
          libpython: String.t() | nil,
          headers: String.t() | nil,
          free_threaded: boolean(),
          os: String.t(),
          libc: String.t() | nil
        }

  @doc "Asks a Python about itself. The error is a sentence."
  @spec probe(Path.t()) :: {:ok, t()} | {:error, String.t()}
  def probe(executable) do
    # Isolated (-I), or PYTHONHOME and its like would answer for another Python; without site (-S), which is slow and
    # runs code of installed packages.
    case Program.run(executable, ["-I", "-S", "-c", @script]) do
      {:ok, output, status} -> understand(executable, output, status)
      {:error, reason} -> {:error, "the Python at #{executable} cannot be run: #{reason}"}
    end
  end

  defp understand(executable, output, status) do
    with 0 <- status, {:ok, python} <- parse(output) do
      {:ok, python}
    else
      _failure -> {:error, "the Python at #{executable} does not work, it says: #{String.trim(output)}"}
    end
  end

  defp parse(output) do
    fields =
      for pair <- String.split(output, <<0>>), [key, value] <- [String.split(pair, "=", parts: 2)], do: {key, value}

    values = for {key, value} <- fields, value != "", into: %{}, do: {key, value}

    with %{"implementation" => implementation, "version" => version, "executable" => executable, "prefix" => prefix} <-
           values do
      {:ok,
       %__MODULE__{
         implementation: implementation,
         version: version,
         executable: executable,
         prefix: prefix,
         libpython: values["libpython"],
         headers: values["headers"],
         free_threaded: Map.has_key?(values, "free_threaded"),
         os: Map.get(values, "os", ""),
         libc: values["libc"]
       }}
    else
      _missing -> :error
    end
  end

  @doc """
  Whether it can be embedded.

  `:fully` if the bridge can be compiled for it as well, `:without_headers` if only a bridge that is already compiled will do.
  """
  @spec embeddable(t()) :: :fully | :without_headers | {:error, String.t()}
  def embeddable(%__MODULE__{} = python) do
    cond do
      python.implementation != "cpython" ->
        {:error, "#{describe(python)} is not CPython, which is what can be embedded"}

      minor(python) < @oldest_minor ->
        {:error, "#{describe(python)} is too old, 3.#{@oldest_minor} is the oldest that can be embedded"}

      python.libpython == nil ->
        {:error, missing_libpython(python)}

      python.headers == nil ->
        :without_headers

      true ->
        :fully
    end
  end

  defp minor(%{version: version}) do
    case Version.parse(version) do
      {:ok, %Version{major: 3, minor: minor}} -> minor
      _other -> 0
    end
  end

  defp describe(python), do: "the Python at #{python.executable} (#{python.implementation} #{python.version})"

  defp missing_libpython(python) do
    "#{describe(python)} has no shared libpython, without which it cannot be embedded. #{remedy(python)}, " <>
      "or let uv install a Python of its own"
  end

  defp remedy(%{prefix: prefix} = python) do
    system? = prefix == "/usr"

    cond do
      pyenv?(prefix) ->
        "Build it again with one: PYTHON_CONFIGURE_OPTS=--enable-shared pyenv install --force #{Path.basename(prefix)}"

      system? and python.os =~ "debian" ->
        "Install it with: apt-get install libpython#{short_version(python)}"

      system? and python.os =~ ~r/fedora|rhel|suse/ ->
        "Install the package of your distribution that has libpython#{short_version(python)}.so, such as python3-libs or python3-devel"

      true ->
        "Use a Python that was configured with --enable-shared"
    end
  end

  defp pyenv?(prefix), do: Path.basename(Path.dirname(prefix)) == "versions" and prefix =~ "pyenv"

  @doc "The version in names of files, such as `3.13` or `3.14t`."
  @spec short_version(t()) :: String.t()
  def short_version(python) do
    [major, minor | _rest] = String.split(python.version, ".")
    "#{major}.#{minor}#{if python.free_threaded, do: "t"}"
  end
end
