defmodule Pythonx.Boot.Bridge.Headers do
  # The three sets of headers that the bridge is compiled with: those of the Python in use, of pybind11 at a pinned version,
  # and of the running Erlang.
  @moduledoc false

  alias Pythonx.Boot.Python
  alias Pythonx.Host.{Cache, Program}
  alias Pythonx.Uv

  # One line for pip: the version, and the hash of its wheel on PyPI. Who changes it takes the hash from: pip download --no-deps
  @requirement_file Path.expand("../../../../c_src/bridge/pybind11.txt", __DIR__)
  @external_resource @requirement_file
  @requirement File.read!(@requirement_file)
  @pybind11_version ~r/\Apybind11==(\S+) --hash/ |> Regex.run(@requirement) |> List.last()

  @doc "The folder of `Python.h`: `PYTHONX_PYTHON_INCLUDE`, or where the Python says."
  @spec python!(Python.t()) :: String.t()
  def python!(%Python{} = python) do
    env("PYTHONX_PYTHON_INCLUDE") || python.headers || raise missing_python(python)
  end

  defp missing_python(python) do
    "Pythonx has no bridge for CPython #{python.version} yet and cannot compile it: " <>
      "#{python.executable} has no Python.h. " <>
      advice(python) <> "PYTHONX_PYTHON_INCLUDE can name the folder where it is"
  end

  # Only the system's Python comes from the system's packages.
  defp advice(%{prefix: prefix} = python) when prefix in ["/usr", "/usr/local"] do
    [minor] = Regex.run(~r/\A\d+\.\d+/, python.version)
    "Install it, for example with: #{install_command(python.os, minor)}. "
  end

  defp advice(_python), do: "Use one that has it, such as a Python that uv installs. "

  defp install_command(os, minor) do
    if os =~ ~r/fedora|rhel|suse/, do: "dnf install python#{minor}-devel", else: "apt-get install python#{minor}-dev"
  end

  @doc "The pybind11 version that the bridge is compiled with."
  @spec pybind11_version() :: String.t()
  def pybind11_version do
    case env("PYTHONX_PYBIND11_INCLUDE") do
      nil -> @pybind11_version
      include -> version_in!(include)
    end
  end

  defp version_in!(include) do
    path = Path.join(include, "pybind11/detail/common.h")

    with {:ok, text} <- File.read(path),
         [_, major] <- Regex.run(~r/^#define PYBIND11_VERSION_MAJOR (\d+)/m, text),
         [_, minor] <- Regex.run(~r/^#define PYBIND11_VERSION_MINOR (\d+)/m, text),
         [_, micro] <- Regex.run(~r/^#define PYBIND11_VERSION_(?:MICRO|PATCH) (\w+)/m, text) do
      "#{major}.#{minor}.#{micro}"
    else
      _ -> raise "PYTHONX_PYBIND11_INCLUDE is #{include}, which has no pybind11/detail/common.h with a version"
    end
  end

  @doc """
  The folder that holds `pybind11/`: `PYTHONX_PYBIND11_INCLUDE`, or the pinned version in the cache, installed when missing.

  `python` is an executable, `uv` one too, or `nil` for the one that is found. Call it with the lock of the headers held.
  """
  @spec pybind11!(String.t(), String.t(), String.t() | nil) :: String.t()
  def pybind11!(cache, python, uv) do
    env("PYTHONX_PYBIND11_INCLUDE") || cached_pybind11!(cache, python, uv)
  end

  defp cached_pybind11!(cache, python, uv) do
    folder = Path.join(cache, "pybind11-#{@pybind11_version}")
    include = Path.join(folder, "include")
    if not File.exists?(Path.join(include, "pybind11/pybind11.h")), do: install_pybind11!(folder, python, uv)
    Cache.check_owner!(cache, include)
    include
  end

  defp install_pybind11!(folder, python, uv) do
    temporary = Cache.temporary_beside(folder)
    Cache.mkdir!(temporary)

    try do
      temporary |> download!(python, uv) |> Path.join("pybind11") |> Cache.rename!(folder)
    after
      File.rm_rf(temporary)
    end
  end

  # Returns the folder where it is. Each installer has one of its own: pip leaves alone what it finds, such as half of what
  # uv wrote before the disk was full, and calls that a success.
  defp download!(temporary, python, uv) do
    requirements = Path.join(temporary, "requirements.txt")
    Cache.write!(requirements, @requirement)

    with {:error, by_uv} <- by_uv(uv, python, Path.join(temporary, "uv"), requirements),
         {:error, by_pip} <- by_pip(python, Path.join(temporary, "pip"), requirements) do
      raise missing_pybind11(by_uv, by_pip)
    else
      {:ok, target} -> target
    end
  end

  defp by_uv(nil, python, target, requirements) do
    with {:ok, uv} <- Uv.find_uv(), do: by_uv(uv, python, target, requirements)
  end

  # Without the user-wide configuration, in which a date or another source of packages may be set.
  defp by_uv(uv, python, target, requirements) do
    install(uv, ["pip", "install", "--no-config", "--python", python], target, requirements)
  end

  defp by_pip(python, target, requirements) do
    install(python, ["-I", "-m", "pip", "install", "--no-compile"], target, requirements)
  end

  # A wheel and nothing else: pybind11 depends on nothing, and nothing of it is run here. Without settings for the user's
  # own installations that would contradict the arguments.
  defp install(program, args, target, requirements) do
    args = args ++ ["--target", target, "--no-deps", "--require-hashes", "--only-binary", ":all:", "-r", requirements]

    env =
      for name <- ~w(PIP_USER PIP_TARGET PIP_PREFIX PIP_REQUIRE_VIRTUALENV PIP_CONSTRAINT UV_CONSTRAINT UV_OVERRIDE
                     UV_EXCLUDE_NEWER UV_PYTHON UV_SYSTEM_PYTHON),
          do: {name, nil}

    env = [{"PIP_DISABLE_PIP_VERSION_CHECK", "1"} | env]

    case Program.run(program, args, env: env) do
      {:ok, _output, 0} -> {:ok, target}
      {:ok, output, status} -> {:error, "#{program} ended with status #{status}: #{tail(output)}"}
      {:error, reason} -> {:error, "#{program} cannot be run: #{reason}"}
    end
  end

  defp tail(output) do
    if output =~ "No space left on device",
      do: "no space left on device",
      else: output |> String.trim() |> String.split("\n") |> Enum.take(-10) |> Enum.join("\n")
  end

  defp missing_pybind11(by_uv, by_pip) do
    "the headers of pybind11 #{@pybind11_version} could not be installed.\n\nBy uv: #{by_uv}\n\nBy pip: #{by_pip}\n\n" <>
      "PYTHONX_PYBIND11_INCLUDE can name the include folder of a pybind11 that is there already"
  end

  @doc "The folder of `erl_nif.h` of the running Erlang."
  @spec erlang!() :: String.t()
  def erlang! do
    root = to_string(:code.root_dir())
    candidates = [Path.join(root, "usr/include"), Path.join(root, "erts-#{:erlang.system_info(:version)}/include")]

    Enum.find(candidates, &File.exists?(Path.join(&1, "erl_nif.h"))) ||
      raise "erl_nif.h was not found in #{Enum.join(candidates, ", ")}. " <>
              "Install the Erlang headers, for example with: apt-get install erlang-dev"
  end

  defp env(name) do
    case System.get_env(name, "") do
      "" -> nil
      value -> value
    end
  end
end
