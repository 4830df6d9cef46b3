defmodule Pythonx.Uv.PyvenvCfg do
  # The file that makes a folder a virtual environment, and says which Python is its base.
  @moduledoc false

  alias Pythonx.Host.{Cache, OS}
  alias Pythonx.Uv.Paths

  @doc "The text of the file. Raises a `File.Error` when there is none."
  @spec read!(Path.t()) :: String.t()
  def read!(dir), do: dir |> Paths.pyvenv_cfg() |> File.read!()

  @doc "The folder of the programs of the base Python."
  @spec home!(String.t()) :: String.t()
  def home!(cfg),
    do: value(cfg, "home") || raise("pyvenv.cfg has no line that starts with \"home = \", it says: #{inspect(cfg)}")

  @doc "The name of the program of the base Python, such as `python3.13`. uv and venv call the version differently."
  @spec program(String.t()) :: String.t()
  def program(cfg) do
    version = value(cfg, "version_info") || value(cfg, "version") || "3"
    name = "python" <> (version |> String.split(".") |> Enum.take(2) |> Enum.join("."))
    OS.python_program(name, OS.current())
  end

  @doc "Replaces the base Python of an environment, unless the file cannot be written."
  @spec put_home(Path.t(), String.t(), String.t()) :: :ok | {:error, Exception.t()}
  def put_home(dir, cfg, home) do
    lines = for line <- String.split(cfg, "\n"), do: if(key(line) == "home", do: "home = #{home}", else: line)
    Cache.write_atomically!(Paths.pyvenv_cfg(dir), Enum.join(lines, "\n"))
  rescue
    error in RuntimeError -> {:error, error}
  end

  defp value(cfg, key) do
    Enum.find_value(String.split(cfg, ["\r\n", "\n"]), fn line ->
      if key(line) == key, do: line |> String.split("=", parts: 2) |> List.last() |> String.trim()
    end)
  end

  defp key(line), do: line |> String.split("=", parts: 2) |> hd() |> String.trim()
end
