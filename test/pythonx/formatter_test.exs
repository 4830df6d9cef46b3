defmodule Pythonx.FormatterTest do
  use ExUnit.Case, async: false

  import Pythonx.NativeCase, only: [script!: 2]

  @moduletag :tmp_dir

  # Stands for ruff: puts spaces around `=`, and refuses what has a `!`.
  setup %{tmp_dir: dir} do
    ruff =
      script!(Path.join(dir, "ruff"), """
      [ "$*" = "format --quiet --stdin-filename sigil.py -" ] || exit 64
      code=$(cat)
      case "$code" in *!*) echo "cannot parse" >&2; exit 2 ;; esac
      printf '%s\\n' "$code" | sed -e 's/ *= */ = /' -e 's/; */\\n/g'
      """)

    Application.put_env(:pythonx, :ruff, ruff)
    on_exit(fn -> Application.delete_env(:pythonx, :ruff) end)
  end

  defp format(code, opts \\ []) do
    {formatted, _opts} = {Code.format_string!(code, [sigils: [PY: &Pythonx.Formatter.format/2]] ++ opts), opts}
    IO.iodata_to_binary(formatted)
  end

  test "it is asked for ~PY, and for what the project names" do
    assert Pythonx.Formatter.features([]) == [sigils: [:PY]]
    assert Pythonx.Formatter.features(python_sigils: [:PYTHON]) == [sigils: [:PY, :PYTHON]]
  end

  test "heredocs keep their place in Elixir, one line stays one" do
    assert format("""
           if a do
             ~PY\"""
             x=1
             y   =2
             \"""
           end
           """) ==
             """
             if a do
               ~PY\"""
               x = 1
               y = 2
               \"""
             end\
             """

    assert format(~S(~PY"x=1")) == ~S(~PY"x = 1")
    # Two statements would be two lines.
    assert format(~S(~PY"x=1; y")) == ~S(~PY"x=1; y")
    assert format(~S(~PY"")) == ~S(~PY"")
  end

  test "what ruff cannot read, and everything where there is no ruff, stays as it is" do
    assert format(~S(~PY"x=!1")) == ~S(~PY"x=!1")
    Application.put_env(:pythonx, :ruff, "/no/ruff")
    assert format(~S(~PY"x=1")) == ~S(~PY"x=1")
  end
end
