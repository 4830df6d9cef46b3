# One interpreter serves the whole suite: a Python of the wanted minor version with what the tests import.
minor = System.get_env("PYTHONX_TEST_PYTHON_MINOR", "13")

Pythonx.uv_init("""
[project]
name = "pythonx-test"
version = "0.0.0"
requires-python = "==3.#{minor}.*"
dependencies = [
  "numpy>=2.1,<2.3",
  "cloudpickle==3.1.2",
  "pyarrow==22.0.0",
  "polars==1.35.2",
  "pandas==2.3.3",
  "duckdb==1.4.2"
]
""")

ExUnit.start(exclude: [:large])
