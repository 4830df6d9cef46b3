defmodule Pythonx.ApplicationTest do
  # Stops and starts the application of the suite, in which nothing else runs meanwhile.
  use ExUnit.Case, async: false

  import ExUnit.CaptureLog
  import Pythonx.Case, only: [eval!: 1]
  import Pythonx.NativeCase, only: [start_vm!: 0]

  setup do
    saved = System.get_env("PYTHONX_INIT_STATE")

    on_exit(fn ->
      System.delete_env("PYTHONX_INIT_STATE")
      {:ok, _started} = Application.ensure_all_started(:pythonx)
      if saved, do: System.put_env("PYTHONX_INIT_STATE", saved)
    end)
  end

  defp restart! do
    capture_log(fn -> assert Application.stop(:pythonx) == :ok end)
    assert Application.ensure_all_started(:pythonx) == {:ok, [:pythonx]}
  end

  test "Pythonx.Supervisor is there while the application runs, which is how programs learn of it" do
    assert is_pid(Process.whereis(Pythonx.Supervisor))
    capture_log(fn -> assert Application.stop(:pythonx) == :ok end)
    assert Process.whereis(Pythonx.Supervisor) == nil
  end

  # As `Pythonx.install_env/0` of a VM with another project gives it.
  defp state(toml, opts \\ []) do
    %{type: :uv_init, pyproject_toml: toml, opts: opts} |> :erlang.term_to_binary() |> Base.encode64()
  end

  describe "a restart where Python runs" do
    test "without anything that says how to start it" do
      {object, %{}} = Pythonx.eval("[1, 2]", %{})
      restart!()
      assert Pythonx.decode(object) == [1, 2]
      assert eval!("1 + 1") == 2
    end

    test "with PYTHONX_INIT_STATE of this VM" do
      System.put_env(Pythonx.install_env())
      restart!()
      assert eval!("1 + 1") == 2
    end

    test "with PYTHONX_INIT_STATE of another project, which is left alone" do
      env = Pythonx.install_env()
      System.put_env("PYTHONX_INIT_STATE", state("[project]\nname = \"another\"\nversion = \"0.0.0\"\n"))
      restart!()
      assert Pythonx.install_env() == env
      assert eval!("1 + 1") == 2
    end

    test "objects and output work as before" do
      {object, %{}} = Pythonx.eval("object()", %{})
      restart!()
      assert ExUnit.CaptureIO.capture_io(fn -> Pythonx.eval("print('again')", %{}) end) == "again\n"
      assert inspect(object) =~ "#Pythonx.Object<\n  <object object at "
    end
  end

  defp start_bare_vm! do
    vm = start_vm!()
    :ok = :peer.call(vm, :application, :set_env, [:logger, :level, :none])
    :ok = :peer.call(vm, :logger, :set_primary_config, [:level, :none])
    vm
  end

  describe "a VM that has only code paths" do
    test "starts Python with the application where PYTHONX_INIT_STATE says so" do
      vm = start_bare_vm!()
      for {name, value} <- Pythonx.install_env(), do: :peer.call(vm, System, :put_env, [name, value])
      assert {:ok, started} = :peer.call(vm, :application, :ensure_all_started, [:pythonx], 60_000)
      assert :pythonx in started and :elixir in started
      code = ~s|"6 * 7" \|> Pythonx.eval(%{}) \|> elem(0) \|> Pythonx.decode()|
      assert {42, _binding} = :peer.call(vm, Code, :eval_string, [code])
      assert :peer.call(vm, Pythonx, :install_paths, []) == Pythonx.install_paths()

      # Again, which finds Python running.
      assert :peer.call(vm, :application, :stop, [:pythonx]) == :ok
      assert :peer.call(vm, :application, :ensure_all_started, [:pythonx]) == {:ok, [:pythonx]}
    end

    test "knows every option that PYTHONX_INIT_STATE may have" do
      opts = [uv_version: "0.13.8", native_tls: false, python: "no python", lock: nil]

      vm = start_bare_vm!()
      # Elixir's own start sets options of the device that no device of a test has.
      {:ok, _} = :peer.call(vm, :application, :ensure_all_started, [:elixir])
      :peer.call(vm, System, :put_env, ["PYTHONX_INIT_STATE", state("", opts)])

      output =
        ExUnit.CaptureIO.capture_io(fn ->
          # What the VM prints goes where this process has it go.
          Process.group_leader(vm, Process.group_leader())
          assert {:error, {:pythonx, reason}} = :peer.call(vm, :application, :ensure_all_started, [:pythonx], 60_000)
          assert {:bad_return, {_start, {:EXIT, {error, _stacktrace}}}} = reason
          assert %RuntimeError{message: "fetching Python and dependencies failed" <> _} = error
        end)

      # It got as far as uv, for which there is neither a project nor such a Python.
      assert output =~ "Pythonx: no Python was found that fits"
    end

    test "does not start the application when that fails" do
      vm = start_bare_vm!()
      :peer.call(vm, System, :put_env, ["PYTHONX_INIT_STATE", "not Base64!"])
      assert {:error, {:pythonx, reason}} = :peer.call(vm, :application, :ensure_all_started, [:pythonx], 60_000)
      assert {:bad_return, {{Pythonx.Application, :start, [:normal, []]}, {:EXIT, {error, _stacktrace}}}} = reason

      assert Exception.message(error) ==
               "the environment variable PYTHONX_INIT_STATE is not what Pythonx.install_env/0 returned: it is not Base64"
    end
  end
end
