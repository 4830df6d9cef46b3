defmodule Pythonx.ReadmeTest do
  use ExUnit.Case, async: false

  alias Pythonx.Markdown

  @moduletag :tmp_dir
  # A second project is refused, which is logged.
  @moduletag :capture_log
  @moduletag timeout: 1_200_000

  doctest_file("README.md")

  {programs, unused} = Markdown.read!("README.md")
  @unused unused

  test "every Elixir block is run" do
    assert @unused == []
  end

  for program <- programs do
    @program program
    @tag :pinned_packages
    test "the #{program.kind} in #{program.name}", %{tmp_dir: dir} do
      for {block, expected, printed} <- Markdown.run!(@program, dir) do
        assert printed == expected, "README.md:#{block.line} prints:\n#{printed}"
      end
    end
  end

  test "the commands exist" do
    {help, 0} = System.cmd("make", ["-s", "help"])

    for [_all, command] <- Regex.scan(~r/make ([a-z-]+) +#/, File.read!("README.md")),
        do: assert(help =~ "make #{command} ")
  end

  test "links to files of the repository lead somewhere" do
    for path <- ["README.md" | Path.wildcard("guides/*.md")],
        [_all, target] <- Regex.scan(~r/\]\(([^)#:]+)(?:#[^)]*)?\)/, File.read!(path)) do
      assert path |> Path.dirname() |> Path.join(target) |> File.exists?(), "#{path} links to #{target}"
    end
  end

  @tag :pinned_packages
  test "the quickstart prints what can be checked by hand" do
    output = Markdown.run_script!("examples/quickstart.exs")

    assert output =~ """
           Station      Mean     Warmest      Coldest      Missing
           Alder Ridge  5.50     Jul  17.00   Jan  -6.00   0
           Port Maren   10.75    Aug  19.00   Jan   3.00   0
           Sol Basin    22.00    Jul  33.00   Dec  11.00   1
           The warmest station of the year is Sol Basin.
           """
  end
end
