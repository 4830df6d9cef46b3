import Config

# Installed while Pythonx is compiled, into its priv, which `mix release` takes along. Python is started from there when
# the application starts.
config :pythonx, :uv_init,
  pyproject_toml: """
  [project]
  name = "trend"
  version = "0.0.0"
  requires-python = "==3.13.*"
  dependencies = [
    "numpy==2.2.6",
  ]
  """
