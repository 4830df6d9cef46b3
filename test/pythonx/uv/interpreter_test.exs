defmodule Pythonx.Uv.InterpreterTest do
  use Pythonx.UvCase, async: false

  alias Pythonx.Uv.{Interpreter, Options, Project}

  setup context do
    saved = System.get_env("PYENV_ROOT")
    on_exit(fn -> System.put_env([{"PYENV_ROOT", saved}]) end)
    System.put_env("PYENV_ROOT", Path.join(context.tmp_dir, "pyenv"))
    bin = limit_path!(context.tmp_dir)
    dir = Path.join(context.tmp_dir, "project")
    File.mkdir!(dir)
    %{bin: bin, dir: dir}
  end

  # uv finds `first` where the PATH is as it was, and what is offered to it where it was narrowed.
  defp choose(context, first, opts \\ []) do
    find = """
    case "$*" in
    *only-system*) for path in "${PATH%%:*}"/python3*; do [ -e "$path" ] && echo "$path" && exit; done; exit 2 ;;
    *) #{if first, do: "echo '#{first}'", else: "exit 2"} ;;
    esac
    """

    uv = fake_uv!(context.log, [find: find, python: opts[:downloaded] || "/none"] ++ Keyword.take(opts, [:venv]))
    project = Project.new(toml(), false, Options.validate!([]))
    with_output(fn -> Interpreter.choose(uv, project, context.dir) end)
  end

  defp python!(context, name, fields \\ %{}), do: fake_python!(Path.join(context.tmp_dir, name), fields)

  test "the one that uv takes, if it can be embedded", context do
    first = python!(context, "first")
    assert {{:ok, %{executable: ^first}}, ""} = choose(context, first)
    assert [_find] = calls(context.log)
  end

  test "else another one on the PATH that satisfies uv and can be embedded", context do
    first = python!(context, "first", %{libpython: ""})
    second = python!(context, "second")
    old = python!(context, "old", %{version: "3.9.0"})
    File.ln_s!(first, Path.join(context.bin, "python3.11"))
    File.ln_s!(old, Path.join(context.bin, "python3.12"))
    File.ln_s!(second, Path.join(context.bin, "python3.13"))
    assert {{:ok, %{executable: ^second}}, ""} = choose(context, first)
    assert [_find, _other] = calls(context.log)
    assert File.ls!(context.dir) == []
  end

  test "also one of pyenv that is not on the PATH", context do
    first = python!(context, "first", %{headers: ""})
    second = python!(context, "pyenv/versions/3.13.0")
    assert {{:ok, %{executable: ^second}}, ""} = choose(context, first)
  end

  test "the first one without headers, where they are not needed, as its bridge is there", context do
    # That of this suite, whose file only has to be there.
    System.delete_env("PYTHONX_NATIVE")
    {loaded, _identity} = :persistent_term.get({Pythonx.NIF.Library, Pythonx.NIF})
    name = loaded |> to_string() |> Path.basename()
    place = Pythonx.Boot.Bridge.Store.dir(context.cache)
    File.mkdir_p!(place)
    File.write!(Path.join(place, name <> ".so"), "")

    [_, minor, threads] = Regex.run(~r/\Acp3(\d+)(t?)-/, name)
    first = python!(context, "first", %{headers: "", version: "3.#{minor}.0", free_threaded: threads})
    _second = python!(context, "pyenv/versions/3.13.0")
    assert {{:ok, %{executable: ^first, headers: nil}}, ""} = choose(context, first)
  end

  test "else one that uv downloads", context do
    first = python!(context, "first", %{libpython: ""})
    downloaded = python!(context, "downloaded")
    assert {{:ok, %{executable: ^downloaded}}, output} = choose(context, first, downloaded: downloaded)
    assert output == "#{first} cannot be embedded as it is, looking for a Python that uv manages\n"
    assert List.last(calls(context.log)) == "venv --no-config --python-preference only-managed .venv"
  end

  test "else the first one, if it only lacks headers", context do
    first = python!(context, "first", %{headers: ""})
    assert {{:ok, %{executable: ^first, headers: nil}}, _output} = choose(context, first, venv: "exit 2")
  end

  test "else the error says what that one lacks", context do
    first = python!(context, "first", %{libpython: ""})
    assert {{:error, text}, _output} = choose(context, first, venv: "exit 2")
    assert text =~ "the Python at #{first} (cpython 3.13.0) has no shared libpython"
  end

  test "where uv finds none, it downloads one, or has said why not", context do
    downloaded = python!(context, "downloaded")
    assert {{:ok, %{executable: ^downloaded}}, ""} = choose(context, nil, downloaded: downloaded)
    File.rm_rf!(Path.join(context.dir, ".venv"))
    assert {{:error, {:uv, "no network"}}, "no network\n"} = choose(context, nil, venv: "echo no network; exit 2")
  end

  test "a downloaded one that cannot be embedded is refused", context do
    downloaded = python!(context, "downloaded", %{libpython: ""})
    assert {{:error, text}, ""} = choose(context, nil, downloaded: downloaded)
    assert text =~ "the Python at #{downloaded} (cpython 3.13.0) has no shared libpython"
  end

  test "nothing is downloaded for who wants Pythons of the system only", context do
    System.put_env("UV_NO_MANAGED_PYTHON", "1")
    assert {{:error, {:uv, ""}}, ""} = choose(context, nil)
    assert [find] = calls(context.log)
    assert find =~ "--python-preference only-system"
  end
end
