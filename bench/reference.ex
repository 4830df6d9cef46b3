defmodule Pythonx.Bench.Reference do
  @moduledoc false

  # Plain C loops over the CPython API, to compare with: bench/reference/reference.c. Python must run before they load.

  @dir __DIR__

  @doc "Compiles the loops for the Python in use, if they are not yet, and loads them."
  @spec load!() :: :ok
  def load! do
    {info, _globals} =
      Pythonx.eval("import sys, sysconfig; (sys.implementation.cache_tag, sysconfig.get_path('include'))", %{})

    {tag, python_include} = Pythonx.decode(info)
    path = Path.join(@dir, "build/reference-#{tag}")
    erl_include = Path.join([:code.root_dir(), "usr", "include"])
    env = [{"PYTHON_INCLUDE", python_include}, {"ERL_INCLUDE", erl_include}]

    case System.cmd("make", ["-s", "-C", @dir, "OUTPUT=#{Path.relative_to(path, @dir)}.so"],
           env: env,
           stderr_to_stdout: true
         ) do
      {_output, 0} -> :ok = :erlang.load_nif(String.to_charlist(path), 0)
      {output, _status} -> raise "the reference loops do not compile:\n" <> output
    end
  end

  @doc "Encodes a term by the loop for this work. Returns a handle, that has to be released."
  def encode(_work, _term), do: :erlang.nif_error(:not_loaded)

  @doc "Decodes the object behind a handle by the loop for this work."
  def decode(_work, _handle), do: :erlang.nif_error(:not_loaded)

  @doc "Drops the object behind a handle."
  def release(_handle), do: :erlang.nif_error(:not_loaded)

  @doc "Does nothing, on a dirty scheduler."
  def nothing, do: :erlang.nif_error(:not_loaded)

  @doc "Begins to measure how long others hold the GIL, by asking for it all the time."
  def watch_gil, do: :erlang.nif_error(:not_loaded)

  @doc "Ends that, and returns the time in microseconds."
  def gil_time, do: :erlang.nif_error(:not_loaded)
end
