defmodule Pythonx.Uv.TemplatesTest do
  use ExUnit.Case, async: true

  alias Pythonx.Uv.Templates

  test "the names are those of the files" do
    assert Templates.names() == [:data_science, :machine_learning, :minimal, :numpy]
  end

  test "each is a project for the Pythons we know, with exact versions" do
    for name <- Templates.names() do
      toml = Templates.fetch!(name)
      assert toml == File.read!("uv_templates/#{name}.toml")
      assert toml =~ ~r/^requires-python = ">=3\.10,<3\.\d+"$/m
      assert [_all, dependencies] = Regex.run(~r/^dependencies = \[(.*)\]$/ms, toml)
      lines = String.split(dependencies, "\n", trim: true)
      for line <- lines, do: assert(line =~ ~r/^  "[a-z-]+==[0-9.]+(; [^"]+)?",$/)
      assert lines != [] or name == :minimal
    end
  end

  test "an unknown name" do
    assert_raise ArgumentError,
                 "unknown template :pandas, the available ones are: :data_science, :machine_learning, :minimal, :numpy",
                 fn -> Templates.fetch!(:pandas) end
  end

  test "what is neither the text of a project nor a name" do
    for arguments <- [[nil], [true], [1], [~c"text"], ["text", %{}], [:numpy, %{}]] do
      assert_raise FunctionClauseError, fn -> apply(Pythonx, :uv_init, arguments) end
    end
  end
end
