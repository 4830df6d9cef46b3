defmodule Pythonx.Uv.SystemCopy do
  # A copy in priv of a Python of the system, for a release where uv has no Python of its own to offer. It has what running
  # and embedding need, in the layout and under the name of a Python that uv manages, and can be moved.
  #
  # What that Python needs of the system (OpenSSL, libffi and so on) is not copied: a release runs on the system that it
  # was made on, as its Erlang does.
  @moduledoc false

  alias Pythonx.Boot.Python
  alias Pythonx.Host.{Cache, OS, Program}
  alias Pythonx.Uv.Paths

  # Of the standard library: its own tests, programs of it, packages of the user, the static libpython.
  @left_out ~w(__pycache__ test idlelib lib2to3 turtledemo site-packages dist-packages)
  @left_out_extensions ~w(.a .o)

  # The same length as /usr/local/lib, which is the shortest that it usually takes the place of.
  @own_libraries "$ORIGIN/../lib"

  @loaded """
  with open("/proc/self/maps") as file:
      print(*{line.split(None, 5)[5] for line in file if "/libpython3" in line}, end="", sep="")
  """

  @doc "Copies it into `python_dir`, unless it is there. The error is a sentence."
  @spec make(Python.t(), python_dir :: Path.t()) :: {:ok, Python.t()} | {:error, String.t()}
  def make(%Python{} = python, python_dir) do
    with {:ok, system} <- OS.copied_python_name(OS.current()) do
      place = Path.join(Paths.real_path(python_dir), name(python, system))
      program = Path.join([place, "bin", program(python)])

      with {:error, _missing} <- Python.probe(program),
           :ok <- copy(python, place),
           do: Python.probe(program)
    end
  end

  defp copy(python, place) do
    temporary = Cache.temporary_beside(place)
    IO.puts("Copying CPython #{python.version} from #{python.prefix}")

    try do
      copy_files!(python, temporary)
      with :ok <- check(python, Path.join([temporary, "bin", program(python)])), do: Cache.rename!(temporary, place)
    after
      File.rm_rf(temporary)
    end
  end

  defp copy_files!(python, to) do
    name = "python#{Python.short_version(python)}"

    for lib <- ["lib", "lib64"], from = Path.join([python.prefix, lib, name]), File.dir?(from) do
      copy_library!(from, Path.join([to, lib, name]))
    end

    copy_file!(python.libpython, Path.join([to, "lib", Path.basename(python.libpython)]))
    copy_file!(python.executable, Path.join([to, "bin", program(python)]))
    if python.headers, do: copy_tree!(python.headers, Path.join([to, "include", name]))
    make_relocatable!(Path.join([to, "bin", program(python)]), Path.dirname(python.libpython))
  end

  defp copy_library!(from, to) do
    for name <- File.ls!(from), name not in @left_out, do: copy_tree!(Path.join(from, name), Path.join(to, name))
  end

  # Links are followed: Debian's lead to /etc.
  defp copy_tree!(from, to) do
    cond do
      File.dir?(from) ->
        Cache.mkdir!(to)
        for name <- File.ls!(from), name != "__pycache__", do: copy_tree!(Path.join(from, name), Path.join(to, name))

      Path.extname(from) in @left_out_extensions or not File.regular?(from) ->
        :ok

      true ->
        copy_file!(from, to)
    end
  end

  defp copy_file!(from, to) do
    Cache.mkdir!(Path.dirname(to))

    with {:error, reason} <- File.cp(from, to) do
      raise "could not copy #{from} to #{to}: #{:file.format_error(reason)}"
    end
  end

  # The program names the folder of its libpython, as a string of its own among those for the dynamic linker.
  defp make_relocatable!(program, lib_dir) do
    content = File.read!(program)
    room = byte_size(lib_dir) - byte_size(@own_libraries)

    if room >= 0 do
      patched = :binary.replace(content, <<0, lib_dir::binary, 0>>, <<0, @own_libraries, 0::unit(8)-size(room + 1)>>)
      File.write!(program, patched)
    end

    :ok
  end

  # Whether it runs, and with its own libpython if it has one at all: Debian's program holds all of it.
  defp check(python, program) do
    root = program |> Path.dirname() |> Path.dirname()

    case Program.run(program, ["-I", "-S", "-c", @loaded], env: [{"LD_LIBRARY_PATH", nil}]) do
      {:ok, output, 0} ->
        if output == "" or Paths.inside?(output, root), do: :ok, else: bound(python, "it took #{output}")

      {:ok, output, _status} ->
        bound(python, String.trim(output))

      {:error, reason} ->
        bound(python, reason)
    end
  end

  defp bound(python, reason) do
    {:error,
     "the Python at #{python.prefix} cannot be copied, because its program does not find libpython from another folder: " <>
       "#{reason}. Let uv install a Python of its own, or build this one with LDFLAGS='-Wl,-rpath,$ORIGIN/../lib'"}
  end

  defp program(python), do: "python#{Python.short_version(python)}"

  # As uv calls it: cpython-3.13.0-linux-x86_64-gnu
  defp name(python, system) do
    variant = if python.free_threaded, do: "+freethreaded", else: ""
    [architecture | rest] = :erlang.system_info(:system_architecture) |> to_string() |> String.split("-")
    libc = if List.last(rest) =~ "musl", do: "musl", else: "gnu"
    Enum.join(["cpython", python.version <> variant, system, architecture, libc], "-")
  end
end
