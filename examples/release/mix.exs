defmodule Trend.MixProject do
  use Mix.Project

  def project do
    [
      app: :trend,
      version: "0.1.0",
      elixir: "~> 1.15",
      start_permanent: Mix.env() == :prod,
      deps: [{:pythonx, path: "../.."}],
      # Erlang itself comes along: the machine that it runs on needs neither Erlang nor Elixir.
      releases: [trend: [include_executables_for: [:unix], include_erts: true]]
    ]
  end

  def application do
    [extra_applications: [:logger]]
  end
end
