# Nothing is known of how busy the machine is. Who waits for what comes waits long enough for any, and only who fails; on an
# emulator for longer.
patience = "PYTHONX_TEST_PATIENCE" |> System.get_env("30000") |> String.to_integer()
ExUnit.configure(timeout: 10 * patience, assert_receive_timeout: patience)

# One interpreter serves the whole suite: a Python of the wanted minor version with what the tests import. A Python that
# uv would not find, or would not prefer, is named by PYTHONX_TEST_UV_PYTHON.
minor = System.get_env("PYTHONX_TEST_PYTHON_MINOR", "13")

# What has no wheels for free-threaded Pythons yet, and the tests that need it. Others are about the lock that these lack.
free_threaded? = String.ends_with?(System.get_env("PYTHONX_TEST_UV_PYTHON", ""), "t")

arrow =
  cond do
    free_threaded? -> []
    String.to_integer(minor) >= 15 -> ~w(pyarrow==26.0.1 polars==2.1.0 pandas==3.1.1 duckdb==2.0.1)
    true -> ~w(pyarrow==22.0.0 polars==1.35.2 pandas==2.3.3 duckdb==1.4.2)
  end

greenlets = if free_threaded?, do: [], else: ~w(gevent==26.9.0 greenlet==3.5.6)

Pythonx.uv_init(
  """
  [project]
  name = "pythonx-test"
  version = "0.0.0"
  requires-python = "==3.#{minor}.*"
  dependencies = [
    "numpy>=2.1,<2.3; python_version < '3.14'",
    "numpy>=2.3.2; python_version >= '3.14'",
    "cloudpickle==3.1.2",
    "uvicorn>=0.30,<1",
    "ml_dtypes>=0.5.1,<0.6; python_version < '3.15'",
    "ml_dtypes>=0.6,<0.7; python_version >= '3.15'",
    #{Enum.map_join(arrow ++ greenlets, ",\n    ", &inspect/1)}
  ]
  """,
  python: System.get_env("PYTHONX_TEST_UV_PYTHON")
)

# A release finds its Python by its version, which uv takes to mean one with the GIL.
without_gil = if free_threaded?, do: [:arrow, :greenlet, :gil, :builds_release], else: []
# What the templates, the notebooks and the documents pin is for earlier ones.
unpinned = if String.to_integer(minor) >= 15, do: [:pinned_packages], else: []
# The VM's limit of integers, 4 million bits, is new in OTP 27.
without_limit = if String.to_integer(System.otp_release()) < 27, do: [:limited_integers], else: []
# Linux 6.12 with Landlock and seccomp holds all of a sandbox; emulators and other systems do not.
launcher = Pythonx.Host.Native.path(Application.app_dir(:pythonx, "priv"), :launcher)
{_holds, status} = System.cmd(launcher, ~w(-holds -sandbox -processes=0))
without_sandbox = if status == 0, do: [], else: [:sandbox]
ExUnit.start(exclude: [:large, :abandons_interpreter] ++ without_gil ++ unpinned ++ without_limit ++ without_sandbox)
