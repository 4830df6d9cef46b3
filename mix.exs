defmodule Pythonx.MixProject do
  use Mix.Project

  @version "0.4.11"

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
      compilers: Mix.compilers() ++ [:pythonx_loader, :pythonx_environment],
      start_permanent: Mix.env() == :prod,
      deps: [],
      test_ignore_filters: [&String.starts_with?(&1, "test/fixtures/")],
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

  # The sources of the bridge ship with the package: it is compiled where there is no wheel for its Python and platform, which
  # priv/bridge.lock pins. `make wheels` makes that, and priv/native.
  defp package do
    [
      licenses: ["Apache-2.0"],
      links: %{},
      files: ~w(lib c_src priv/python priv/native priv/bridge.lock uv_templates guides mix.exs .formatter.exs README.md
                CHANGELOG.md LICENSE)
    ]
  end
end
