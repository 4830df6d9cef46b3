defmodule Pythonx.Uv.EnvironmentTest do
  use Pythonx.UvCase, async: false

  alias Pythonx.Uv
  alias Pythonx.Uv.{Environment, Options, Project}

  setup context do
    prefix = Path.join(context.tmp_dir, "prefix")
    program = fake_python!(prefix)
    fake_uv!(context.log, python: program)
    :ok = quietly(fn -> Uv.fetch(toml(), false) end)
    project = Project.new(toml(), false, Options.validate!([]))

    %{
      project: project,
      prefix: prefix,
      program: program,
      library: Path.join(prefix, "lib/libpython3.13.so"),
      record: Path.join(project.dir, "pythonx.config"),
      venv: Path.join(project.dir, ".venv")
    }
  end

  defp load(context), do: Environment.load!(context.project)

  defp assert_whole(context) do
    assert load(context) == %Environment{
             libpython: context.library,
             python_root: context.prefix,
             executable: Path.join(context.venv, "bin/python"),
             site_packages: Path.join(context.venv, "lib/python3.13/site-packages")
           }
  end

  test "is told by our record, without running anything", context do
    assert Environment.ready?(context.project)
    script!(context.program, "exit 1")
    assert_whole(context)
  end

  test "without our record, or with a damaged one: Python is asked", context do
    File.rm!(context.record)
    assert Environment.ready?(context.project)
    assert_whole(context)

    for content <- ["", "{", "nonsense.", "\#{project => 1}.", <<255>>] do
      File.write!(context.record, content)
      assert_whole(context)
    end
  end

  test "a record that is out of date: Python is asked", context do
    library = Path.join(context.prefix, "lib/libpython3.13.so.1.0")
    File.rename!(context.library, library)
    fake_python!(context.prefix, %{libpython: "$root/lib/libpython3.13.so.1.0"})
    File.rm!(context.library)
    refute Environment.ready?(context.project)
    assert load(context).libpython == library
  end

  test "without our record and a Python that answers: the one library that has the name", context do
    File.rm!(context.record)
    script!(context.program, "exit 1")
    assert_whole(context)

    pattern = inspect(Path.join(context.prefix, "lib/libpython3.*.so"))
    other = Path.join(context.prefix, "lib/libpython3.12.so")
    File.cp!(context.library, other)

    assert_raise RuntimeError,
                 "expected one path to match #{pattern}, got: #{inspect([other, context.library])}",
                 fn -> load(context) end

    File.rm_rf!(Path.join(context.prefix, "lib"))
    assert_raise RuntimeError, "expected one path to match #{pattern}, got: []", fn -> load(context) end
  end

  test "without pyvenv.cfg", context do
    File.rm!(Path.join(context.venv, "pyvenv.cfg"))
    refute Environment.ready?(context.project)
    error = assert_raise File.Error, fn -> load(context) end
    assert error.path == Path.join(context.venv, "pyvenv.cfg")
    assert error.reason == :enoent
  end

  test "with a pyvenv.cfg that names no home", context do
    File.rm!(context.record)
    File.write!(Path.join(context.venv, "pyvenv.cfg"), "version_info = 3.13.0\n")

    assert_raise RuntimeError,
                 ~S(pyvenv.cfg has no line that starts with "home = ", it says: "version_info = 3.13.0\n"),
                 fn -> load(context) end
  end

  test "without packages, or with those of two Pythons", context do
    File.rm!(context.record)
    [other, own] = for minor <- [12, 13], do: Path.join(context.venv, "lib/python3.#{minor}/site-packages")
    File.mkdir_p!(other)
    pattern = inspect(Path.join(context.venv, "lib/python3*/site-packages"))

    assert_raise RuntimeError,
                 "expected one path to match #{pattern}, got: #{inspect([other, own])}",
                 fn -> load(context) end

    File.rm_rf!(Path.join(context.venv, "lib"))
    refute Environment.ready?(context.project)
    assert_raise RuntimeError, "expected one path to match #{pattern}, got: []", fn -> load(context) end
  end

  test "without its Python", context do
    File.rm_rf!(context.prefix)
    refute Environment.ready?(context.project)

    assert_raise RuntimeError,
                 "the environment at #{context.project.dir} was made with the Python at #{context.prefix}, which is gone. " <>
                   "Call Pythonx.uv_init/2 with force: true to make it again",
                 fn -> load(context) end
  end

  test "not there at all", context do
    File.rm_rf!(context.project.dir)
    refute Environment.ready?(context.project)
    assert_raise File.Error, fn -> load(context) end
  end

  test "in a folder whose name is a pattern", context do
    System.put_env("PYTHONX_CACHE_DIR", Path.join(context.tmp_dir, "[a]*{b,c}?"))
    :ok = quietly(fn -> Uv.fetch(toml(), false) end)
    project = Project.new(toml(), false, Options.validate!([]))
    assert Environment.load!(project).site_packages == Path.join(project.dir, ".venv/lib/python3.13/site-packages")
  end
end
