defmodule Pythonx.Uv.Command do
  # Runs uv: in an environment that is ours, with its output where the caller reads, and never longer than the caller lives.
  @moduledoc false

  alias Pythonx.Host.{Cache, Program}
  alias Pythonx.Uv.Project

  # What in the shell of the user would make another environment of the same pyproject.toml. How to reach the network,
  # which index to use and where to cache stay with the user.
  @foreign ~w(UV_PROJECT UV_PROJECT_ENVIRONMENT UV_WORKING_DIR UV_WORKING_DIRECTORY UV_CONFIG_FILE UV_ENV_FILE
              UV_PYTHON UV_PYTHON_PREFERENCE UV_MANAGED_PYTHON UV_NO_MANAGED_PYTHON UV_SYSTEM_PYTHON UV_PYTHON_SEARCH_PATH
              UV_FROZEN UV_LOCKED UV_NO_SYNC UV_ISOLATED UV_DEV UV_NO_DEV UV_NO_GROUP UV_NO_DEFAULT_GROUPS UV_NO_EDITABLE
              UV_NO_INSTALL_PROJECT UV_NO_INSTALL_WORKSPACE UV_NO_INSTALL_LOCAL UV_RESOLUTION UV_PRERELEASE
              UV_FORK_STRATEGY UV_EXCLUDE_NEWER UV_NO_SOURCES UV_CONSTRAINT UV_OVERRIDE UV_EXCLUDE UV_BUILD_CONSTRAINT
              UV_VENV_SEED UV_VENV_CLEAR UV_VENV_RELOCATABLE
              VIRTUAL_ENV CONDA_PREFIX CONDA_DEFAULT_ENV PYTHONHOME PYTHONPATH PYTHONSTARTUP PYTHONEXECUTABLE
              PYTHONPLATLIBDIR PYTHONUSERBASE __PYVENV_LAUNCHER__)

  # What of the output of uv is kept for an error.
  @kept_bytes 8192
  @last_lines 20

  @type env :: [{String.t(), String.t() | nil}]

  @doc "The environment variables of a uv that works on `project`."
  @spec env(Project.t()) :: env()
  def env(project) do
    # uv has renamed the setting. A variable that a version does not know does no harm, an option would.
    tls = if project.opts.native_tls, do: [{"UV_NATIVE_TLS", "true"}, {"UV_SYSTEM_CERTS", "true"}], else: []
    offline = if project.offline?, do: [{"UV_OFFLINE", "true"}], else: []
    Enum.map(@foreign, &{&1, nil}) ++ [{"UV_PYTHON_INSTALL_DIR", project.python_dir}] ++ tls ++ offline ++ cache()
  end

  # uv keeps downloads in the cache folder of the user, where its other uses find them. Who has no such folder has set
  # PYTHONX_CACHE_DIR, perhaps for that reason.
  defp cache do
    if System.get_env("UV_CACHE_DIR", "") != "" or Cache.user_writable?(),
      do: [],
      else: [{"UV_CACHE_DIR", Path.join(Cache.uv_dir(), "cache")}]
  end

  @doc "What the user says of the origin of Pythons, in the words of uv, which are all named after this variable."
  @spec python_preference() :: String.t()
  def python_preference do
    cond do
      set?("UV_MANAGED_PYTHON") -> "only-managed"
      set?("UV_NO_MANAGED_PYTHON") -> "only-system"
      true -> System.get_env("UV_PYTHON_PREFERENCE", "managed")
    end
  end

  defp set?(name), do: String.downcase(System.get_env(name, "")) in ["1", "true", "yes", "on", "y", "t"]

  @doc "Runs uv silently. Returns both its outputs, merged, and its exit status."
  @spec capture(Path.t(), [String.t()], Path.t(), env()) :: {String.t(), non_neg_integer()}
  def capture(uv, args, dir, env) do
    case Program.run(uv, args, cd: dir, env: env) do
      {:ok, output, status} -> {output, status}
      {:error, reason} -> raise_unusable(uv, reason)
    end
  end

  @doc "Runs uv with both its outputs streamed to the group leader of the caller. Returns the exit status and its last lines."
  @spec stream(Path.t(), [String.t()], Path.t(), env()) :: {non_neg_integer(), last_lines :: String.t()}
  def stream(uv, args, dir, env) do
    Program.apart(fn ->
      {status, last, advice} = uv |> open(args, dir, env) |> forward("", {"", nil})
      if status != 0 and advice, do: IO.puts(advice)
      {status, Enum.join([last_lines(last) | List.wrap(advice)], "\n")}
    end)
  end

  # uv names options of its own as the remedy, where its user has ours.
  @advice [
    {"invalid peer certificate",
     "Pythonx: with the option native_tls: true, uv trusts the certificates that this system trusts"}
  ]

  defp advice(text), do: Enum.find_value(@advice, fn {sign, advice} -> String.contains?(text, sign) && advice end)

  defp open(uv, args, dir, env) do
    {program, args} = Program.watched(uv, args)
    options = [:binary, :exit_status, :stderr_to_stdout, :hide, :use_stdio, args: args, cd: dir, env: charlists(env)]
    Port.open({:spawn_executable, program}, options)
  rescue
    error in ErlangError -> raise_unusable(uv, :file.format_error(error.original))
  end

  defp charlists(env) do
    for {name, value} <- env, do: {String.to_charlist(name), if(value, do: String.to_charlist(value), else: false)}
  end

  # A character may arrive in two parts.
  defp forward(port, rest, {last, advice}) do
    receive do
      {^port, {:data, data}} ->
        {text, rest} = whole_characters(rest <> data)
        show(text)
        forward(port, rest, {keep(last, text), advice || advice(text)})

      {^port, {:exit_status, status}} ->
        text = replace_invalid(rest)
        show(text)
        {status, keep(last, text), advice}
    end
  end

  # Enough for the last lines.
  defp keep(last, text) do
    all = last <> text
    all |> binary_part(max(byte_size(all) - @kept_bytes, 0), min(byte_size(all), @kept_bytes))
  end

  # Without the colours of a terminal, and without half a character at the beginning.
  defp last_lines(text) do
    text
    |> replace_invalid()
    |> String.replace(~r/\e\[[0-9;]*[A-Za-z]/, "")
    |> String.split(["\r\n", "\n", "\r"])
    |> Enum.reject(&(String.trim(&1) == ""))
    |> Enum.take(-@last_lines)
    |> Enum.join("\n")
  end

  defp show(""), do: :ok
  defp show(text), do: IO.write(text)

  defp whole_characters(data) do
    case :unicode.characters_to_binary(data) do
      {:incomplete, text, rest} -> {text, rest}
      {:error, _text, _rest} -> {replace_invalid(data), ""}
      text -> {text, ""}
    end
  end

  defp replace_invalid(data) do
    data |> String.chunk(:valid) |> Enum.map_join(&if String.valid?(&1), do: &1, else: "\uFFFD")
  end

  @spec raise_unusable(Path.t(), iodata()) :: no_return()
  defp raise_unusable(uv, reason) do
    raise "uv cannot be run, path: #{uv}, reason: #{reason}"
  end
end
