defmodule Pythonx.Uv.ExistingTest do
  # Environments that uv has made before, with packages that are made here. Python is started in VMs of their own.
  use Pythonx.PackagesCase, async: false

  @moduletag timeout: 300_000

  setup %{wheels: wheels, tmp_dir: dir} do
    wheel!(wheels, "paint", "1.0")
    wheel!(wheels, "frame", "1.0", requires: ["paint>=1.0"])
    %{uv: System.find_executable("uv"), dir: dir}
  end

  # In its folder, as its user would.
  defp uv!(c, dir, args) do
    {output, 0} = System.cmd(c.uv, args ++ ["--no-config"], cd: dir, stderr_to_stdout: true)
    output
  end

  defp project!(c, name \\ "analysis") do
    dir = Path.join(c.dir, name)
    File.mkdir_p!(dir)

    File.write!(Path.join(dir, "pyproject.toml"), """
    [project]
    name = "#{name}"
    version = "0.0.0"
    requires-python = "#{c.python}"
    dependencies = ["frame"]
    """)

    dir
  end

  defp files(dir),
    do: for(path <- Path.wildcard(Path.join(dir, "**"), match_dot: true), do: {path, File.lstat!(path).mtime})

  defp init(opts), do: "Pythonx.uv_init(#{inspect(opts)})"

  @versions "Map.new(Pythonx.info().packages, &{&1.name, &1.version})"

  test "a project is used where it is, with what its lock says", c do
    dir = project!(c)
    uv!(c, dir, ["sync", "--python", python!()])
    before = files(dir)
    vm = start_app!()
    assert run(vm, init(project: dir)) == :ok
    assert run(vm, @versions) == %{"frame" => "1.0", "paint" => "1.0"}

    assert run(vm, "Map.take(Pythonx.info(), [:started_by, :project, :lock, :environment])") == %{
             started_by: :existing,
             project: [project: dir],
             lock: Path.join(dir, "uv.lock"),
             environment: Path.join(dir, ".venv")
           }

    assert Enum.reject(files(dir), fn {path, _time} -> path =~ "__pycache__" end) -- before == []

    # The same again, by another name; another one; what another VM needs; a pool in it.
    assert run(vm, init(venv: Path.join(dir, ".venv"))) == :ok
    assert run(vm, init(python: python!())) == %RuntimeError{message: "Python interpreter has already been initialized"}
    assert run(vm, "Map.keys(Pythonx.install_env())") == ["PYTHONX_INIT_STATE"]

    assert run(vm, """
           {:ok, pool} = Pythonx.Pool.start_link(size: 1)
           Pythonx.Pool.eval(pool, "import frame, sys\\n[frame.version, sys.prefix]", %{})
           """) == {["1.0", Path.join(dir, ".venv")], %{}}
  end

  test "a member of a workspace has the lock and the environment of its root", c do
    root = project!(c, "root")
    File.write!(Path.join(root, "pyproject.toml"), "[tool.uv.workspace]\nmembers = [\"member\"]\n", [:append])
    member = Path.join(root, "member")
    File.mkdir!(member)

    File.write!(
      Path.join(member, "pyproject.toml"),
      "[project]\nname = \"member\"\nversion = \"0.0.0\"\ndependencies = [\"paint\"]\n"
    )

    uv!(c, root, ["sync", "--python", python!()])
    vm = start_app!()
    assert run(vm, init(project: member)) == :ok
    assert run(vm, "Pythonx.info().lock") == Path.join(root, "uv.lock")
  end

  test "what is not there, or not what it should be, is an error that says what to do", c do
    vm = start_app!()
    dir = project!(c)
    error = &%RuntimeError{message: &1}

    assert run(vm, init(project: Path.join(dir, "none"))) == error.("there is no pyproject.toml in #{dir}/none")
    assert run(vm, init(project: dir)) == error.("the project in #{dir} has no uv.lock. Run uv lock there")
    uv!(c, dir, ["lock", "--python", python!()])
    assert run(vm, init(project: dir)) == error.("the project in #{dir} has no environment yet. Run uv sync there")
    uv!(c, dir, ["venv", "--python", python!()])

    assert run(vm, init(project: dir)) ==
             error.(
               "the environment of the project in #{dir} is not what its uv.lock says: frame is not installed. Run uv sync there"
             )

    uv!(c, dir, ["sync", "--python", python!()])
    wheel!(c.wheels, "paint", "2.0")
    uv!(c, dir, ["lock", "--upgrade", "--python", python!()])

    assert run(vm, init(project: dir)) ==
             error.(
               "the environment of the project in #{dir} is not what its uv.lock says: " <>
                 "paint is installed in version 1.0, the lock says 2.0. Run uv sync there"
             )

    assert run(vm, init(venv: c.wheels)) ==
             error.("there is no virtual environment at #{c.wheels}: it has no bin/python or no pyvenv.cfg")

    assert %RuntimeError{message: "the Python at /no/python3 cannot be run: " <> _reason} =
             run(vm, init(python: "/no/python3"))

    assert run(vm, init(venv: "a", python: "/b")) ==
             %ArgumentError{
               message: ~s(expected one of the options :project, :venv and :python, got: [venv: "a", python: "/b"])
             }

    assert run(vm, init(venv: :here)) == %ArgumentError{message: "expected :venv to be a path, got: :here"}
    # Nothing of it keeps a good one from being started.
    uv!(c, dir, ["sync", "--python", python!()])
    assert run(vm, init(project: dir)) == :ok
    assert run(vm, @versions) == %{"frame" => "1.0", "paint" => "2.0"}
  end

  test "an installed Python, with variables; requirements are added to it; and what is set later" do
    vm = start_app!()

    get = fn name ->
      run(vm, "Pythonx.eval(\"import os; os.environ.get('#{name}')\", %{}) |> elem(0) |> Pythonx.decode()")
    end

    assert run(vm, init(python: python!(), env: %{"PYTHONX_A" => "1", "HOME" => nil})) == :ok
    assert run(vm, "Pythonx.info().executable") == python!()
    assert {get.("PYTHONX_A"), get.("HOME")} == {"1", nil}

    run(vm, "System.put_env(\"PYTHONX_B\", \"2\")")
    assert get.("PYTHONX_B") == nil
    assert run(vm, "Pythonx.update_env()") == :ok
    assert {get.("PYTHONX_A"), get.("PYTHONX_B")} == {"1", "2"}
    assert run(vm, "Pythonx.update_env(PYTHONX_B: 3)").__struct__ == ArgumentError
    assert run(vm, "Pythonx.update_env(%{\"PYTHONX_B\" => nil})") == :ok
    assert get.("PYTHONX_B") == nil

    assert run(vm, declare("Framer", dependencies: ["frame"]) <> "Pythonx.ensure_ready!(Framer)") == :ok
    assert %{"frame" => "1.0", "paint" => "1.0"} = run(vm, @versions)
  end

  test "an environment variable with what install_env/0 says starts the same", c do
    dir = project!(c)
    uv!(c, dir, ["sync", "--python", python!()])
    state = run(start_app!(), "#{init(project: dir)}\nPythonx.install_env()")
    vm = start_vm!()

    for {name, value} <- Map.put(state, "PYTHONX_CACHE_DIR", c.cache),
        do: :peer.call(vm, System, :put_env, [name, value])

    {:ok, _started} = :peer.call(vm, :application, :ensure_all_started, [:pythonx], 60_000)
    assert run(vm, "Pythonx.info().project") == [project: dir]
  end
end
