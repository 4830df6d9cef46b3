defmodule Pythonx.Uv.ConfigTest do
  use ExUnit.Case, async: false

  alias Mix.Tasks.Compile.PythonxEnvironment
  alias Pythonx.Uv.Config

  test "the text and the options that uv_init/2 takes; other keys are ignored" do
    assert Config.parse!(pyproject_toml: "text") == {"text", []}

    options = [python: "3.13", uv_version: "0.13.0", native_tls: true, lock: "lock"]
    assert Config.parse!([pyproject_toml: "text", force: true] ++ options) == {"text", options}
  end

  test "what applications ask for, with or without options" do
    assert Config.parse!(:requirements) == {:requirements, []}
    assert Config.parse!(requirements: true, python: "3.13", force: true) == {:requirements, [python: "3.13"]}
    assert Config.parse!(requirements: false) == nil
  end

  test "no configuration" do
    assert Config.parse!(nil) == nil
    assert Config.parse!([]) == nil
    assert Config.parse!(python: "3.13") == nil
  end

  test "a pyproject.toml that is no text" do
    assert_raise ArgumentError, "expected pyproject_toml of config :pythonx, :uv_init to be text, got: :numpy", fn ->
      Config.parse!(pyproject_toml: :numpy)
    end
  end

  describe "the compiler" do
    setup do
      saved = Application.fetch_env(:pythonx, :uv_init)

      on_exit(fn ->
        case saved do
          {:ok, value} -> Application.put_env(:pythonx, :uv_init, value)
          :error -> Application.delete_env(:pythonx, :uv_init)
        end
      end)
    end

    test "does nothing without a configuration" do
      Application.delete_env(:pythonx, :uv_init)
      assert PythonxEnvironment.run([]) == {:noop, []}
    end

    test "leaves what applications ask for to the release, which knows them all" do
      Application.put_env(:pythonx, :uv_init, :requirements)
      assert PythonxEnvironment.run([]) == {:noop, []}
    end

    test "says what is wrong with one" do
      Application.put_env(:pythonx, :uv_init, pyproject_toml: "text", python: 3.13)

      assert_raise Mix.Error,
                   "Pythonx could not install what config :pythonx, :uv_init asks for: " <>
                     "expected :python to be a string such as \"3.13\", got: 3.13",
                   fn -> PythonxEnvironment.run([]) end
    end
  end
end
