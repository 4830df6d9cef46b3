defmodule Pythonx.Uv.InitTest do
  # Starting, in VMs of their own: the interpreter of this one runs already. Python itself is not started there either, it
  # is only told with what (see `start_stubbed_vm!/0`).
  use Pythonx.UvCase, async: false

  alias Pythonx.Uv
  alias Pythonx.Uv.State

  @initialised %RuntimeError{message: "Python interpreter has already been initialized"}

  setup context do
    prefix = Path.join(context.tmp_dir, "prefix")
    program = fake_python!(prefix)
    fake_uv!(context.log, python: program)
    id = toml() |> :erlang.md5() |> Base.encode32(case: :lower, padding: false)
    %{prefix: prefix, program: program, dir: Path.join(context.projects, id)}
  end

  defp boots(vm), do: :peer.call(vm, Pythonx, :boots, [])
  defp uv_init(vm, toml, opts \\ []), do: call_in(vm, Uv, :uv_init, [toml, opts])
  defp syncs(context), do: length(calls(context.log, "sync"))

  test "starts Python in the environment", context do
    vm = start_stubbed_vm!()
    assert uv_init(vm, toml()) == :ok

    assert boots(vm) == [
             {Path.join(context.prefix, "lib/libpython3.13.so"), context.prefix,
              Path.join(context.dir, ".venv/bin/python"),
              [sys_paths: [Path.join(context.dir, ".venv/lib/python3.13/site-packages")]]}
           ]

    assert call_in(vm, Uv, :install_paths, []) == [context.prefix, context.dir]
  end

  test "the same project again is fine and runs nothing; another one raises before anything is run", context do
    vm = start_stubbed_vm!()
    assert uv_init(vm, toml()) == :ok
    log = calls(context.log)

    assert uv_init(vm, toml()) == :ok
    assert uv_init(vm, toml(), native_tls: true) == :ok
    assert uv_init(vm, toml("other")) == @initialised
    assert uv_init(vm, toml(), python: "3.13") == @initialised
    assert %ArgumentError{} = uv_init(vm, toml(), foo: 1)
    assert calls(context.log) == log
    assert length(boots(vm)) == 1
    assert call_in(vm, Uv, :install_paths, []) == [context.prefix, context.dir]
  end

  test "the same project again brings back an environment that was deleted, and :force makes it anew", context do
    vm = start_stubbed_vm!()
    assert uv_init(vm, toml()) == :ok
    File.rm_rf!(context.dir)
    assert uv_init(vm, toml()) == :ok
    assert File.exists?(Path.join(context.dir, ".venv/bin/python"))
    assert syncs(context) == 2
    assert uv_init(vm, toml(), force: true) == :ok
    assert syncs(context) == 3
    assert length(boots(vm)) == 1
  end

  test "two processes at once start it once", context do
    vm = start_stubbed_vm!()
    tasks = for _ <- 1..4, do: Task.async(fn -> uv_init(vm, toml()) end)
    assert Task.await_many(tasks, 20_000) == [:ok, :ok, :ok, :ok]
    assert length(boots(vm)) == 1
    assert syncs(context) == 1
  end

  test "a second VM starts from what is there, without uv and without another program", context do
    assert uv_init(start_stubbed_vm!(), toml()) == :ok
    System.put_env("PYTHONX_UV", "/nowhere/uv")
    # The Python would have to be run to be asked.
    script!(context.program, "exit 1")
    vm = start_stubbed_vm!()
    assert uv_init(vm, toml()) == :ok
    assert [{_libpython, _home, _executable, _opts}] = boots(vm)
  end

  test "failing to make the environment or to start leaves the VM as it was", context do
    vm = start_stubbed_vm!()
    script!(System.get_env("PYTHONX_UV"), ~s([ "$1" = --version ] && echo uv 0.13.8))

    failure = "fetching Python and dependencies failed, see standard output for details\n\nPythonx: no Python was found"
    assert %RuntimeError{message: message} = uv_init(vm, toml())
    assert String.starts_with?(message, failure)

    assert_nothing_to_hand_on(vm)
    fake_uv!(context.log, python: context.program)
    refusal = Path.join(context.prefix, "refuse")
    File.write!(refusal, "")
    assert uv_init(vm, toml()) == %RuntimeError{message: "refused"}
    assert_nothing_to_hand_on(vm)
    File.rm!(refusal)
    assert uv_init(vm, toml()) == :ok
  end

  defp assert_nothing_to_hand_on(vm) do
    for name <- [:install_env, :install_paths] do
      assert call_in(vm, Uv, name, []) ==
               %RuntimeError{message: "before calling Pythonx.#{name}/0, you must initialize Pythonx"}
    end
  end

  test "what one VM hands on starts another one", context do
    first = start_stubbed_vm!()
    assert uv_init(first, toml(), python: "3.13", force: true) == :ok
    assert %{"PYTHONX_INIT_STATE" => encoded} = env = call_in(first, Uv, :install_env, [])
    assert map_size(env) == 1

    # The form that others may produce as well.
    [root, dir] = call_in(first, Uv, :install_paths, [])

    assert encoded |> Base.decode64!() |> :erlang.binary_to_term() ==
             %{type: :uv_init, pyproject_toml: toml(), opts: [python: "3.13"], install_paths: [root, dir]}

    second = start_stubbed_vm!()
    assert call_in(second, Uv, :maybe_init_from_env, []) == :noop
    :peer.call(second, System, :put_env, [env])
    assert call_in(second, Uv, :maybe_init_from_env, []) == :ok
    assert boots(second) == boots(first)
    # As when the application is restarted.
    assert call_in(second, Uv, :maybe_init_from_env, []) == :ok
    assert syncs(context) == 1
  end

  describe "PYTHONX_INIT_STATE" do
    defp state(term), do: term |> :erlang.term_to_binary() |> Base.encode64()

    test "takes the form that install_env/0 has always had, and keys it does not know" do
      System.put_env(
        "PYTHONX_INIT_STATE",
        state(%{type: :uv_init, pyproject_toml: "x", opts: [python: "3.13"], node: 1})
      )

      assert State.from_env() == {"x", [python: "3.13"]}
    end

    test "that makes no sense is refused, and creates no atoms" do
      prefix = "the environment variable PYTHONX_INIT_STATE is not what Pythonx.install_env/0 returned: "
      unknown = <<131, 119, 21, "an_atom_nobody_knows_", 0>> |> binary_part(0, 24) |> Base.encode64()

      for {encoded, reason} <- [
            {"???", "it is not Base64"},
            {Base.encode64("no term"), "errors were found at the given arguments"},
            {unknown, "errors were found at the given arguments"},
            {state(%{type: :other}),
             "expected a map with type: :uv_init, :pyproject_toml and :opts, got: %{type: :other}"},
            {state(%{type: :uv_init, pyproject_toml: 1, opts: []}), "expected a map with type: :uv_init"},
            {state(%{type: :uv_init, pyproject_toml: "x", opts: [1]}), "its :opts are not a keyword list"}
          ] do
        System.put_env("PYTHONX_INIT_STATE", encoded)
        error = assert_raise ArgumentError, fn -> State.from_env() end
        assert String.starts_with?(error.message, prefix <> reason)
      end

      assert_raise ArgumentError, fn -> String.to_existing_atom("an_atom_nobody_" <> "knows_") end
    end
  end
end
