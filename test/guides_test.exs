defmodule Pythonx.GuidesTest do
  use ExUnit.Case, async: false

  alias Pythonx.Markdown

  @moduletag :tmp_dir
  @moduletag timeout: 300_000

  @guides Path.wildcard("guides/*.md")

  doctest_file("guides/conversions.md")
  doctest_file("guides/environments.md")
  doctest_file("guides/livebook.md")

  for guide <- @guides do
    {programs, unused} = Markdown.read!(guide)
    @guide guide
    @unused unused

    test "every Elixir block of #{guide} is run" do
      assert @unused == []
    end

    for program <- programs do
      @program program
      test "the #{program.kind} in #{guide}, #{program.name}", %{tmp_dir: dir} do
        for {block, expected, printed} <- Markdown.run!(@program, dir) do
          assert printed == expected, "#{@guide}:#{block.line} prints:\n#{printed}"
        end
      end
    end
  end

  test "no guide with doctests is left out" do
    with_prompts = for guide <- @guides, File.read!(guide) =~ ~r/^iex>/m, do: guide
    assert with_prompts == ~w(guides/conversions.md guides/environments.md guides/livebook.md)
  end

  test "the architecture names files that exist" do
    for [_all, path] <-
          Regex.scan(
            ~r/`((?:lib|c_src|priv|uv_templates|test|scripts)\/[\w.\/]+)`/,
            File.read!("guides/architecture.md")
          ) do
      assert File.exists?(path) or Path.wildcard(path <> ".*") != [], "guides/architecture.md names #{path}"
    end
  end
end
