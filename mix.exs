defmodule Pythonx.MixProject do
  use Mix.Project

  @version "0.4.10"

  if String.to_integer(System.otp_release()) < 25 do
    Mix.raise("Pythonx requires Erlang/OTP 25+")
  end

  def project do
    [
      app: :pythonx,
      version: @version,
      elixir: "~> 1.15",
      name: "Pythonx",
      description: "CPython embedded in the BEAM",
      elixirc_paths: elixirc_paths(Mix.env()),
      # Tests implement `Pythonx.Encoder` for structs of their own.
      consolidate_protocols: Mix.env() != :test,
      compilers: [:pythonx_loader] ++ Mix.compilers() ++ [:pythonx_environment],
      start_permanent: Mix.env() == :prod,
      deps: [],
      docs: docs(),
      package: package()
    ]
  end

  def application do
    [
      extra_applications: [:logger, :inets, :ssl, :public_key],
      mod: {Pythonx.Application, []}
    ]
  end

  defp elixirc_paths(:test), do: ["lib", "test/support"]
  defp elixirc_paths(_env), do: ["lib"]

  # Read by `make docs`, which runs the ExDoc of the system: the project itself has no dependency.
  defp docs do
    guides = Path.wildcard("guides/*.md")

    [
      main: "readme",
      extras: ["README.md"] ++ guides ++ ["CHANGELOG.md", "LICENSE"],
      groups_for_extras: [Guides: guides],
      skip_undefined_reference_warnings_on: ["CHANGELOG.md"],
      formatters: ["html"]
    ]
  end

  # The sources of the bridge ship with the package: it is compiled where it is used, for the Python in use there.
  defp package do
    [
      licenses: ["Apache-2.0"],
      links: %{},
      files: ~w(lib c_src priv/python uv_templates guides mix.exs .formatter.exs README.md CHANGELOG.md LICENSE)
    ]
  end
end

defmodule Mix.Tasks.Compile.PythonxLoader do
  # Builds what `mix compile` makes of C: the library `priv/pythonx_loader.so` from c_src/loader, and the program
  # `priv/pythonx_launcher`, which runs the workers of a pool, from c_src/launcher. It needs make and a C compiler, never
  # Python.
  #
  # Mix links the project's own priv into each _build, so builds with different OTP versions share them. A key
  # beside them (of the sources, the NIF version and the platform) says what they were built from; time stamps would not.
  @moduledoc false
  use Mix.Task.Compiler

  @sources Path.join(__DIR__, "c_src")
  @products [{"loader", "pythonx_loader.so"}, {"launcher", "pythonx_launcher"}]
  @key "pythonx_loader.key"

  @impl true
  def run(_args) do
    priv = priv_dir()
    key = key()

    if Enum.all?(@products, fn {_dir, name} -> File.exists?(Path.join(priv, name)) end) and
         File.read(Path.join(priv, @key)) == {:ok, key} do
      {:noop, []}
    else
      build(priv)
      File.write!(Path.join(priv, @key), key)
      {:ok, []}
    end
  end

  @impl true
  def clean do
    for name <- [@key | Enum.map(@products, &elem(&1, 1))], do: File.rm(Path.join(priv_dir(), name))
    :ok
  end

  # Absolute, as make runs in another folder: MIX_BUILD_PATH may be relative.
  defp priv_dir, do: Mix.Project.app_path() |> Path.join("priv") |> Path.expand()

  defp key do
    sources =
      for {dir, _product} <- @products, name <- File.ls!(Path.join(@sources, dir)) do
        {dir, name, File.read!(Path.join([@sources, dir, name]))}
      end

    platform = [:erlang.system_info(:nif_version), :erlang.system_info(:system_architecture)]

    {Enum.sort(sources), platform, System.get_env("CC")}
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
    Enum.each(@products, fn {dir, name} -> make!(make, dir, [{"OUTPUT", Path.join(priv, name)} | env]) end)
  end

  defp make!(make, dir, env) do
    options = [into: IO.stream(:stdio, :line), stderr_to_stdout: true, env: env]
    {_output, status} = System.cmd(make, ["-C", Path.join(@sources, dir)], options)

    if status != 0 do
      Mix.raise("Pythonx could not compile its #{dir}: make exited with status #{status}, see its output above")
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

  defp install_hint do
    case :os.type() do
      {:unix, :darwin} -> "Install it with: xcode-select --install"
      _ -> "Install it, for example with: apt-get install build-essential"
    end
  end
end
