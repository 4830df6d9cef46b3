defmodule Pythonx.RequirementsTest do
  # In VMs of their own, with packages that are made here: see `Pythonx.PackagesCase`.
  use Pythonx.PackagesCase, async: false

  doctest Pythonx.Requirements

  alias Pythonx.Requirements.Declared

  @moduletag timeout: 300_000

  setup %{wheels: wheels} do
    wheel!(wheels, "paint", "1.0")
    wheel!(wheels, "paint", "2.0")
    wheel!(wheels, "frame", "1.0", requires: ["paint>=1.0"])
    wheel!(wheels, "varnish", "1.0", requires: ["paint<2"])
    :ok
  end

  # An application whose mix.exs says this.
  defp load(vm, app, python) do
    spec = {:application, app, [modules: [], applications: [], env: [python: python]]}
    :ok = :peer.call(vm, :application, :load, [spec])
  end

  @versions "Map.new(Pythonx.info().packages, &{&1.name, &1.version})"

  test "uv_init/0 starts Python with what all loaded modules and applications ask for", c do
    vm = start_app!()

    load(vm, :a_library, dependencies: ["frame"])
    # A key of the same name that means something else.
    load(vm, :other, "/usr/bin/python3")

    assert run(vm, declare("Painter", dependencies: ["paint<2"], requires_python: c.python) <> "Pythonx.uv_init()") ==
             :ok

    assert run(vm, @versions) == %{"frame" => "1.0", "paint" => "1.0"}

    assert run(vm, "{Pythonx.initialized?(), Pythonx.info().started_by, Pythonx.info().requirements}") ==
             {true, :requirements,
              [
                %{owner: Painter, dependencies: ["paint<2"], requires_python: c.python},
                %{owner: :a_library, dependencies: ["frame"], requires_python: nil}
              ]}

    assert run(vm, "{Pythonx.uv_init(), Pythonx.ensure_ready!(:a_library), Pythonx.info().added}") == {:ok, :ok, []}
  end

  test "ensure_ready! starts Python if nobody has, and does nothing when its requirements are met", c do
    vm = start_app!()
    assert run(vm, "Pythonx.initialized?()") == false

    code = declare("Painter", dependencies: ["paint"], requires_python: c.python)
    assert run(vm, code <> "Pythonx.ensure_ready!(Painter)") == :ok
    assert run(vm, @versions) == %{"paint" => "2.0"}

    # It is there already, so uv is not asked.
    code = declare("Second", dependencies: ["paint>=1.5,<3"])
    assert {:ok, ""} = run_with_output(vm, code <> "Pythonx.ensure_ready!(Second)")
    assert run(vm, "Pythonx.info().added") == []
  end

  test "what is missing is added while Python runs, and what is imported stays what it is", c do
    vm = start_app!()
    run(vm, declare("Painter", dependencies: ["paint<2"], requires_python: c.python) <> "Pythonx.uv_init()")
    run(vm, "Pythonx.eval(\"import paint\", %{})")

    files =
      "for path <- Path.wildcard(hd(tl(Pythonx.install_paths())) <> \"/**\", match_dot: true), " <>
        "not String.contains?(path, \"__pycache__\"), do: {path, File.stat!(path).mtime}"

    before = run(vm, files)

    assert run(vm, declare("Framer", dependencies: ["frame"]) <> "Pythonx.ensure_ready!(Framer)") == :ok
    assert run(vm, @versions) == %{"frame" => "1.0", "paint" => "1.0"}
    code = "import frame, paint, paint.later\\n[frame.version, paint.version, paint.later.version]"
    assert run(vm, "Pythonx.eval(\"#{code}\", %{}) |> elem(0) |> Pythonx.decode()") == ["1.0", "1.0", "1.0"]
    assert run(vm, files) == before
    assert [added] = run(vm, "Pythonx.info().added")
    assert String.starts_with?(added, c.cache)

    # A pool that is started now has the same.
    assert run(vm, """
           {:ok, pool} = Pythonx.Pool.start_link(size: 1)
           Pythonx.Pool.eval(pool, "import frame, paint\\n[frame.version, paint.version]", %{})
           """) == {["1.0", "1.0"], %{}}
  end

  test "what is not imported yet may get another version", c do
    vm = start_app!()
    run(vm, declare("Painter", dependencies: ["paint"], requires_python: c.python) <> "Pythonx.uv_init()")
    assert run(vm, @versions) == %{"paint" => "2.0"}
    assert run(vm, declare("Varnisher", dependencies: ["varnish"]) <> "Pythonx.ensure_ready!(Varnisher)") == :ok
    assert run(vm, @versions) == %{"paint" => "1.0", "varnish" => "1.0"}
    assert run(vm, "Pythonx.eval(\"import paint; paint.version\", %{}) |> elem(0) |> Pythonx.decode()") == "1.0"
  end

  test "what is imported in another version than the one asked for is an error that names both", c do
    vm = start_app!()
    run(vm, declare("Painter", dependencies: ["paint"], requires_python: c.python) <> "Pythonx.uv_init()")
    run(vm, "Pythonx.eval(\"import paint\", %{})")

    assert run(vm, declare("Old", dependencies: ["paint<2"]) <> "Pythonx.ensure_ready!(Old)") == %RuntimeError{
             message: """
             the Python requirements of Old cannot be met while this Python runs

               Old wants paint<2

             paint 2.0 is imported already, for Painter, which wants paint
             Together they can be met from the start: call Pythonx.uv_init() before anything of them is imported.
             """
           }

    # Nothing half-done.
    assert run(vm, "{Pythonx.info().added, Pythonx.ensure_ready!(Painter)}") == {[], :ok}
    assert run(vm, @versions) == %{"paint" => "2.0"}
  end

  @clash """
  the Python requirements of New and Old exclude each other

    New wants paint>=2
    Old wants paint<2

  """

  @remedy "One of them can have a Python of its own: config :pythonx, isolated: ["

  test "two that exclude each other are named, with what they ask for, from the start and later", c do
    old = declare("Old", dependencies: ["frame", "paint<2"], requires_python: c.python)
    new = declare("New", dependencies: ["paint>=2"])
    vm = start_app!()
    assert %RuntimeError{message: @clash <> reason} = run(vm, old <> new <> "Pythonx.uv_init()")
    assert reason =~ "Old depends on paint<2"
    assert reason =~ "New depends on paint>=2"
    assert reason =~ @remedy
    refute reason =~ "pythonx-requirements"
    assert run(vm, "Pythonx.initialized?()") == false

    vm = start_app!()
    assert run(vm, old <> "Pythonx.uv_init()") == :ok
    assert %RuntimeError{message: @clash <> _reason} = run(vm, new <> "Pythonx.ensure_ready!(New)")
    assert run(vm, @versions) == %{"frame" => "1.0", "paint" => "1.0"}
  end

  test "a package that does not exist, and one that cannot be read, are errors of who asks for it", c do
    vm = start_app!()
    code = declare("Hopeful", dependencies: ["no-such-package", "paint"], requires_python: c.python)
    assert %RuntimeError{message: message} = run(vm, code <> "Pythonx.uv_init()")

    assert message =~
             ~r/\Athe Python requirements of Hopeful cannot be met\n\n  Hopeful wants no-such-package\n\nBecause no-such-package was not found/

    vm = start_app!()
    code = declare("Confused", dependencies: ["not a requirement!"], requires_python: c.python)
    assert %RuntimeError{message: message} = run(vm, code <> "Pythonx.uv_init()")
    assert message =~ "the Python requirements of Confused cannot be met\n\n  Confused wants not a requirement!\n\n"
    assert run(vm, "Pythonx.initialized?()") == false
  end

  test "Pythons that exclude each other, or that nobody has, are said before uv is asked", c do
    vm = start_app!()
    older = declare("Older", requires_python: ">=3.10,<3.12")
    newer = declare("Newer", requires_python: ">=3.12")

    assert run(vm, older <> newer <> "Pythonx.uv_init()") == %RuntimeError{
             message:
               """
               the Python requirements of Newer and Older exclude each other

                 Newer wants Python >=3.12
                 Older wants Python <3.12,>=3.10
               """
               |> String.replace("<3.12,>=3.10", ">=3.10,<3.12")
           }

    vm = start_app!()
    code = declare("Ancient", requires_python: "<3")

    assert run(vm, code <> "Pythonx.uv_init()") == %RuntimeError{
             message: "no Python that can be embedded is one that Ancient wants, which is Python <3"
           }

    vm = start_app!()
    assert run(vm, declare("Painter", requires_python: c.python) <> "Pythonx.uv_init()") == :ok
    assert %RuntimeError{message: message} = run(vm, code <> "Pythonx.ensure_ready!(Ancient)")
    assert message =~ ~r/\AAncient wants Python <3, and Python 3\.\d+\.\d+ runs in this VM\z/
  end

  test "offline with an empty cache is an error of uv, and the next try may do", c do
    vm = start_app!()
    code = declare("Painter", dependencies: ["paint"], requires_python: c.python)
    :peer.call(vm, System, :put_env, ["UV_FIND_LINKS", ""])
    assert %RuntimeError{message: message} = run(vm, code <> "Pythonx.uv_init()")
    assert message =~ "the Python requirements of Painter cannot be met\n\n  Painter wants paint\n\n"
    :peer.call(vm, System, :put_env, ["UV_FIND_LINKS", c.wheels])
    assert run(vm, "Pythonx.uv_init()") == :ok
  end

  test "a Python that was started with a project is added to, and keeps its versions", c do
    vm = start_app!()

    toml =
      "[project]\nname = \"own\"\nversion = \"0.0.0\"\nrequires-python = \"#{c.python}\"\ndependencies = [\"paint<2\"]\n"

    assert run(vm, "Pythonx.uv_init(#{inspect(toml)})") == :ok
    assert run(vm, declare("Framer", dependencies: ["frame"]) <> "Pythonx.ensure_ready!(Framer)") == :ok
    assert run(vm, @versions) == %{"frame" => "1.0", "paint" => "1.0"}
    assert run(vm, "Pythonx.info().started_by") == :uv_init

    assert %RuntimeError{message: message} =
             run(vm, declare("New", dependencies: ["paint>=2"]) <> "Pythonx.ensure_ready!(New)")

    assert message =~ """
           the Python requirements of New cannot be met while this Python runs

             New wants paint>=2

           paint 1.0 is installed in #{c.cache}\
           """

    # Another project is refused as ever.
    assert run(vm, "Pythonx.uv_init(#{inspect(String.replace(toml, "own", "another"))})") ==
             %RuntimeError{message: "Python interpreter has already been initialized"}
  end

  test "an owner with a Python of its own has a pool, which the same functions reach", c do
    vm = start_app!()

    code =
      declare("Shared", dependencies: ["paint>=2"], requires_python: c.python) <>
        declare("Alone", dependencies: ["paint<2"], isolated: true) <>
        """
        Pythonx.uv_init()

        for owner <- [Shared, Alone] do
          {Pythonx.Requirements.call(owner, "importlib.metadata.version", ["paint"]),
           Pythonx.Requirements.eval(owner, "import paint\\nx = n + 1\\npaint.version", %{"n" => 1}, globals: ["x"]),
           Pythonx.Requirements.pool(owner)}
        end
        """

    assert run(vm, code) == [
             {"2.0", {"2.0", %{"x" => 2}}, nil},
             {"1.0", {"1.0", %{"x" => 2}}, Pythonx.Requirements.Pool.Alone}
           ]

    assert run(vm, "Pythonx.Pool.info(Pythonx.Requirements.Pool.Alone).size") == 1
  end

  test "an application can give an owner a Python of its own", c do
    vm = start_app!(isolated: [:"Elixir.Old"])
    old = declare("Old", dependencies: ["paint<2"], requires_python: c.python)
    new = declare("New", dependencies: ["paint>=2"], requires_python: c.python)
    version = &"Pythonx.Requirements.call(#{&1}, \"importlib.metadata.version\", [\"paint\"])"
    assert run(vm, old <> new <> "{#{version.("Old")}, #{version.("New")}}") == {"1.0", "2.0"}
  end

  test "from a lock, the same versions come again; a start takes neither uv nor network", c do
    python = [dependencies: ["paint"], requires_python: c.python]
    lock = Path.join(c.tmp_dir, "pythonx.lock")

    make = """
    toml = Pythonx.Requirements.Merged.toml!([Pythonx.Requirements.Declared.fetch!(:painter)])
    File.write!(#{inspect(lock)}, Pythonx.Requirements.Lock.text(toml, Pythonx.Uv.resolve!(toml, [])))
    """

    File.rm!(Path.join(c.wheels, "paint-2.0-py3-none-any.whl"))
    vm = start_app!()
    load(vm, :painter, python)
    assert run(vm, make) == :ok
    assert File.read!(lock) =~ ~r/\A# Made by mix pythonx.lock for the requirements \w+\. Commit it\.\nversion = 1\n/
    wheel!(c.wheels, "paint", "2.0")

    assert run(vm, "Application.put_env(:pythonx, :lock, #{inspect(lock)})\nPythonx.uv_init()") == :ok

    assert run(vm, "{Pythonx.info().lock == hd(tl(Pythonx.install_paths())) <> \"/uv.lock\", #{@versions}}") ==
             {true, %{"paint" => "1.0"}}

    # The module of a script is not in it, and comes on top.
    vm = start_app!(lock: lock)
    load(vm, :painter, python)
    assert run(vm, declare("Framer", dependencies: ["frame"]) <> "Pythonx.uv_init()") == :ok
    assert run(vm, @versions) == %{"frame" => "1.0", "paint" => "1.0"}

    # Nothing that could be asked.
    System.put_env("PYTHONX_UV", "/nowhere/uv")
    on_exit(fn -> System.delete_env("PYTHONX_UV") end)
    File.rm_rf!(c.wheels)
    vm = start_app!(lock: lock)
    load(vm, :painter, dependencies: ["paint>=2"], requires_python: c.python)

    assert run(vm, "Pythonx.uv_init()") == %RuntimeError{
             message:
               "the lock file #{lock} was made for other Python requirements. Run mix pythonx.lock to make it anew"
           }

    :peer.call(vm, Application, :put_env, [:painter, :python, python])
    assert {:ok, ""} = run_with_output(vm, "Pythonx.ensure_ready!(:painter)")
    assert run(vm, @versions) == %{"paint" => "1.0"}
  end

  test "callers at once start and add once", c do
    vm = start_app!()

    code =
      declare("Painter", dependencies: ["paint<2"], requires_python: c.python) <>
        declare("Framer", dependencies: ["frame"], requires_python: c.python) <>
        """
        1..8
        |> Task.async_stream(fn n -> Pythonx.ensure_ready!(Enum.at([Painter, Framer], rem(n, 2))) end, timeout: 100_000)
        |> Enum.map(&elem(&1, 1))
        |> Enum.uniq()
        """

    assert run(vm, code) == [:ok]
    assert run(vm, @versions) == %{"frame" => "1.0", "paint" => "1.0"}
  end

  describe "what is said is checked" do
    for {opts, message} <- [
          {[dependencies: "jinja2"],
           ~s(expected :dependencies in the Python requirements of :lib to be a list of texts such as "jinja2>=3.1", got: "jinja2")},
          {[dependencies: ["a\nb"]],
           ~s(expected :dependencies in the Python requirements of :lib to be a list of texts such as "jinja2>=3.1", got: ["a\\nb"])},
          {[requires_python: "3.10"],
           ~s(expected :requires_python in the Python requirements of :lib to be a text such as ">=3.10", got: "3.10")},
          {[isolated: :yes],
           ~s(expected :isolated in the Python requirements of :lib to be a boolean or options of a Pythonx.Pool, got: :yes)},
          {[deps: []],
           ~s(unknown key :deps in the Python requirements of :lib, the keys are: [:dependencies, :requires_python, :isolated])}
        ] do
      test "#{inspect(opts)}" do
        assert_raise ArgumentError, unquote(message), fn -> Declared.new!(:lib, unquote(opts)) end
      end
    end

    test "an owner that says nothing, and one that is not there" do
      assert_raise ArgumentError, "there is no application :no_such_app", fn -> Pythonx.ensure_ready!(:no_such_app) end

      assert_raise ArgumentError, "Enum says nothing of Python: it does not use Pythonx.Requirements", fn ->
        Pythonx.ensure_ready!(Enum)
      end
    end

    test "as early as in the module" do
      assert_raise ArgumentError, ~r/\Aunknown key :deps in the Python requirements of Wrong/, fn ->
        Code.eval_string("defmodule Wrong do\n  use Pythonx.Requirements, deps: []\nend")
      end
    end
  end
end
