defmodule Pythonx.Uv.OptionsTest do
  use ExUnit.Case, async: true

  alias Pythonx.Uv.Options

  test "every option has a value, and nil stands for the default" do
    expected = %{
      force: false,
      uv_version: "0.13.8",
      native_tls: false,
      python: nil,
      uv: nil,
      lock: nil,
      env: %{},
      given: []
    }

    assert Options.validate!([]) == expected
    assert Options.validate!(uv_version: nil, native_tls: nil, python: nil, force: nil, uv: nil, lock: nil) == expected
  end

  test "unknown keys" do
    assert_raise ArgumentError,
                 "unknown keys [:foo] in [foo: 1], the allowed keys are: [:force, :uv_version, :native_tls, :python]",
                 fn -> Options.validate!(foo: 1) end

    assert_raise ArgumentError, ~r/\Aunknown keys \[:foo\] in /, fn ->
      Options.validate!(foo: 1, uv: "/uv", force: true)
    end
  end

  test "environment variables are names and values" do
    assert Options.validate!(env: [{"A", "1"}, {"B", nil}]).env == %{"A" => "1", "B" => nil}

    for env <- [%{"A=B" => "1"}, %{"" => "1"}, %{a: "1"}, %{"A" => 1}, %{"A" => "\0"}, "A=1", [A: "1"]] do
      assert_raise ArgumentError,
                   "expected :env to be a map or list of names and values, both strings, got: #{inspect(env)}",
                   fn -> Options.validate!(env: env) end
    end
  end

  test "what is no keyword list" do
    assert_raise ArgumentError, ~r/\Aexpected a keyword list.*: :force\z/, fn -> Options.validate!([:force]) end
  end

  test "wrong values" do
    for {opts, message} <- [
          {[force: 1], "expected :force to be a boolean, got: 1"},
          {[native_tls: "yes"], "expected :native_tls to be a boolean, got: \"yes\""},
          {[uv_version: "../../x"], "expected :uv_version to be a version such as \"0.13.8\", got: \"../../x\""},
          {[uv_version: "0.13.8\n"], "expected :uv_version to be a version such as \"0.13.8\", got: \"0.13.8\\n\""},
          {[uv_version: :latest], "expected :uv_version to be a version such as \"0.13.8\", got: :latest"},
          {[python: 3.13], "expected :python to be a string such as \"3.13\", got: 3.13"},
          {[python: ""], "expected :python to be a string such as \"3.13\", got: \"\""},
          {[uv: <<255>>], "expected :uv to be the path of a uv program, got: <<255>>"},
          {[lock: "a\0b"], "expected :lock to be the path or the content of a uv.lock file, got: <<97, 0, 98>>"}
        ] do
      assert_raise ArgumentError, message, fn -> Options.validate!(opts) end
    end
  end

  test "a version that is asked for, even if it is the default" do
    assert Options.uv_version_given?(Options.validate!(uv_version: "0.13.8"))
    refute Options.uv_version_given?(Options.validate!(uv_version: nil))
  end

  test "what another machine needs: what was given, without what belongs to this call or machine" do
    opts = [force: true, uv: "/uv", python: "3.14t", lock: "version = 1\n", uv_version: "0.13.8"]
    assert Options.portable(Options.validate!(opts)) == [uv_version: "0.13.8", python: "3.14t", lock: "version = 1\n"]
    assert Options.portable(Options.validate!([])) == []
  end
end
