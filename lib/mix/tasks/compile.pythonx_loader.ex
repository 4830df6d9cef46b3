defmodule Mix.Tasks.Compile.PythonxLoader do
  # Sees to the two native parts that know no Python: the loader, a library from c_src/loader, and the launcher, a program from
  # c_src/launcher, which runs the workers of a pool. Where priv/native has them for this platform, built of these sources,
  # nothing is compiled. Otherwise they are, into priv itself, which needs make and a C compiler. PYTHONX_NATIVE forces either.
  #
  # Mix links the project's own priv into each _build, so builds with different OTP versions share what is compiled. A key
  # beside it (of the sources, the NIF version and the platform) says what it was built from; time stamps would not.
  @moduledoc false
  use Mix.Task.Compiler

  alias Pythonx.Boot.Bridge.{Choice, Compiler}
  alias Pythonx.Host.{Native, OS, Platform}

  @key "pythonx_loader.key"

  @impl true
  def run(_args) do
    if reason = OS.unsupported(OS.current()), do: Mix.raise(reason)
    priv = priv_dir()
    hashes = for part <- Native.parts(), do: {part, part |> source_dir() |> Compiler.source_hash()}
    prebuilt? = Native.prebuilt?(priv, Platform.current(), hashes)

    case choice() do
      :compile -> compile(priv, hashes)
      _any when prebuilt? -> take_prebuilt(priv)
      :wheel -> Mix.raise(missing_prebuilt())
      :any -> compile(priv, hashes)
    end
  end

  defp choice do
    Choice.get!()
  rescue
    error in ArgumentError -> Mix.raise(Exception.message(error))
  end

  @impl true
  def clean do
    delete_compiled(priv_dir())
    :ok
  end

  # Absolute, as make runs in another folder: MIX_BUILD_PATH may be relative.
  defp priv_dir, do: Mix.Project.app_path() |> Path.join("priv") |> Path.expand()

  # Of the project as it is now: what is compiled may have been moved.
  defp source_dir(part), do: Mix.Project.project_file() |> Path.dirname() |> Path.join("c_src/#{part}")

  # What is compiled would be taken first. Packages may have lost the permission to run a program.
  defp take_prebuilt(priv) do
    dir = Native.prebuilt_dir(priv, Platform.current())
    for part <- Native.parts(), do: File.chmod(Path.join(dir, Native.file(part)), 0o755)
    if delete_compiled(priv), do: {:ok, []}, else: {:noop, []}
  end

  # Whether there was something.
  defp delete_compiled(priv) do
    names = [@key | Enum.map(Native.parts(), &Native.file/1)]
    Enum.map(names, &File.rm(Path.join(priv, &1))) |> Enum.member?(:ok)
  end

  defp missing_prebuilt do
    "PYTHONX_NATIVE is wheel, but priv/native has no loader for #{Platform.current() || Platform.architecture()} that was " <>
      "built of these sources. Without PYTHONX_NATIVE it is compiled"
  end

  defp compile(priv, hashes) do
    key = key(hashes)

    if Enum.all?(Native.parts(), &File.exists?(Path.join(priv, Native.file(&1)))) and
         File.read(Path.join(priv, @key)) == {:ok, key} do
      {:noop, []}
    else
      build(priv)
      File.write!(Path.join(priv, @key), key)
      {:ok, []}
    end
  end

  defp key(hashes) do
    platform = [:erlang.system_info(:nif_version), Platform.architecture()]

    {hashes, platform, System.get_env("CC")}
    |> :erlang.term_to_binary()
    |> then(&:crypto.hash(:sha256, &1))
    |> Base.encode16(case: :lower)
  end

  defp build(priv) do
    Mix.Project.build_structure()
    make_dir!(priv)
    make = find_make!()
    find_cc!()
    # Not the settings of a make that may have started mix.
    env = [{"MAKEFLAGS", nil}, {"MFLAGS", nil}, {"MAKELEVEL", nil}]
    env = [{"ERL_INCLUDE", erl_include!()} | env]
    Enum.each(Native.parts(), &make!(make, &1, [{"OUTPUT", Path.join(priv, Native.file(&1))} | env]))
  end

  defp make!(make, part, env) do
    options = [into: IO.stream(:stdio, :line), stderr_to_stdout: true, env: env]
    {_output, status} = System.cmd(make, ["-C", source_dir(part)], options)

    if status != 0 do
      Mix.raise("Pythonx could not compile its #{part}: make exited with status #{status}, see its output above")
    end
  end

  defp make_dir!(priv) do
    with {:error, reason} <- File.mkdir_p(priv) do
      Mix.raise("Pythonx could not make the folder #{priv}: #{:file.format_error(reason)}")
    end
  end

  defp find_make! do
    # BSDs call GNU make gmake.
    names = [System.get_env("MAKE"), "gmake", "make"]

    Enum.find_value(names, &(&1 && System.find_executable(&1))) ||
      Mix.raise("Pythonx needs make to compile its loader library. #{install_hint()}")
  end

  defp find_cc! do
    cc = System.get_env("CC", "cc")
    # CC may carry arguments, as in "ccache gcc".
    program = cc |> String.split() |> List.first("cc")

    System.find_executable(program) ||
      Mix.raise(
        "Pythonx needs a C compiler to compile its loader library, and #{program} was not found. #{install_hint()}"
      )
  end

  defp erl_include! do
    root = to_string(:code.root_dir())
    erts = "erts-#{:erlang.system_info(:version)}"
    candidates = [Path.join(root, "usr/include"), Path.join([root, erts, "include"])]

    Enum.find(candidates, &File.exists?(Path.join(&1, "erl_nif.h"))) ||
      Mix.raise(
        "Pythonx needs erl_nif.h to compile its loader library, and it is in none of #{Enum.join(candidates, ", ")}. " <>
          "Install the Erlang headers, for example with: apt-get install erlang-dev"
      )
  end

  defp install_hint, do: "Install it, for example with: #{OS.install_compiler(OS.current())}"
end
