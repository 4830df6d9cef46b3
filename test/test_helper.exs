# One interpreter serves the whole suite: a Python of the wanted minor version with what the tests import. A Python that
# uv would not find, or would not prefer, is named by PYTHONX_TEST_UV_PYTHON.
minor = System.get_env("PYTHONX_TEST_PYTHON_MINOR", "13")

Pythonx.uv_init(
  """
  [project]
  name = "pythonx-test"
  version = "0.0.0"
  requires-python = "==3.#{minor}.*"
  dependencies = [
    "numpy>=2.1,<2.3; python_version < '3.14'",
    "numpy>=2.3.2; python_version >= '3.14'",
    "cloudpickle==3.1.2"
  ]
  """,
  python: System.get_env("PYTHONX_TEST_UV_PYTHON")
)

ExUnit.start()
