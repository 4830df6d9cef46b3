defmodule Pythonx.Integrations.LoggingTest do
  use Pythonx.Case, async: false

  import ExUnit.CaptureIO

  # A handler of Logger's that sends each event to the test.
  def log(event, %{config: %{test: test}}), do: send(test, {:log, event})

  setup do
    :ok = :logger.add_handler(__MODULE__, __MODULE__, %{level: :all, config: %{test: self()}})
    level = Logger.level()
    Logger.configure(level: :debug)

    on_exit(fn ->
      :logger.remove_handler(__MODULE__)
      Logger.configure(level: level)
      Pythonx.attach_logger(level: :none)
    end)
  end

  defp text(%{msg: {:string, text}}), do: IO.iodata_to_binary(text)

  @moduletag :capture_log

  test "records reach Logger with level, text, place and name" do
    assert Pythonx.attach_logger(level: :debug) == :ok

    for {name, level} <- [debug: :debug, info: :info, warning: :warning, error: :error, critical: :critical] do
      Pythonx.eval("import logging\nlogging.getLogger('app.part').#{name}('n is %d', 5)", %{})
      assert_receive {:log, %{level: ^level, meta: %{python_logger: "app.part"} = meta} = event}
      assert text(event) == "n is 5"
      assert meta.file == ~c"<string>"
      assert meta.line == 2
      assert meta.pid == self()
      assert meta.python_function == "<module>"
    end
  end

  test "the level counts, and attaching again replaces" do
    Pythonx.attach_logger(level: :error)
    Pythonx.attach_logger(level: :error)
    Pythonx.eval("import logging\nlogging.warning('no')\nlogging.error('yes')", %{})
    assert_receive {:log, %{level: :error} = event}
    assert text(event) == "yes"
    refute_received {:log, %{meta: %{python_logger: _}}}
  end

  test "with :none nothing is sent any more" do
    Pythonx.attach_logger()
    Pythonx.attach_logger(level: :none)
    assert capture_io(:stderr, fn -> Pythonx.eval("import logging\nlogging.error('printed')", %{}) end) =~ "printed"
    refute_received {:log, %{meta: %{python_logger: _}}}
  end

  test "exceptions come with their traceback" do
    Pythonx.attach_logger()
    Pythonx.eval("import logging\ntry: 1 / 0\nexcept Exception: logging.exception('failed')", %{})
    assert_receive {:log, %{level: :error} = event}
    assert text(event) =~ "failed\nTraceback (most recent call last):\n"
    assert text(event) =~ "ZeroDivisionError: division by zero"
  end

  test "uncaught errors of threads are logged, and not printed" do
    Pythonx.attach_logger()
    code = "import threading\nt = threading.Thread(target=lambda: 1 / 0, name='worker')\nt.start(); t.join()"
    assert capture_io(:stderr, fn -> Pythonx.eval(code, %{}) end) == ""
    assert_receive {:log, %{level: :error, meta: %{python_logger: "threading", line: 2}} = event}
    assert text(event) =~ "Exception in thread worker\nTraceback"
  end

  test "options are checked" do
    message = "expected :level to be one of [:debug, :info, :warning, :error, :critical, :none], got: :loud"
    assert_raise ArgumentError, message, fn -> Pythonx.attach_logger(level: :loud) end
  end
end
