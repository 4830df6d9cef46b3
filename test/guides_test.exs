defmodule Pythonx.GuidesTest do
  use ExUnit.Case, async: false

  alias Pythonx.Markdown

  @moduletag :tmp_dir
  # Guides show errors, some of which are logged.
  @moduletag :capture_log
  @moduletag timeout: 1_200_000

  @guides Path.wildcard("guides/*.md")

  doctest_file("guides/control.md")
  doctest_file("guides/conversions.md")
  doctest_file("guides/environments.md")
  doctest_file("guides/livebook.md")
  doctest_file("guides/modules.md")
  doctest_file("guides/parallelism.md")
  doctest_file("guides/sandbox.md", tags: [:sandbox])
  doctest_file("guides/shared.md")
  doctest_file("guides/tables.md", tags: [:arrow])

  {minor, _globals} = Pythonx.eval("import sys; sys.version_info[1]", %{})
  if Pythonx.decode(minor) >= 12, do: doctest_file("guides/interpreters.md")

  for guide <- @guides do
    {programs, unused} = Markdown.read!(guide)
    @guide guide
    @unused unused

    test "every Elixir block of #{guide} is run" do
      assert @unused == [], "nothing runs these blocks of #{@guide}: #{inspect(@unused)}"
    end

    for program <- programs do
      @program program
      @tag :pinned_packages
      test "the #{program.kind} in #{guide}, #{program.name}", %{tmp_dir: dir} do
        for {block, expected, printed} <- Markdown.run!(@program, dir) do
          assert printed == expected, "#{@guide}:#{block.line} prints:\n#{printed}"
        end
      end
    end
  end

  test "no guide with doctests is left out" do
    with_prompts = for guide <- @guides, File.read!(guide) =~ ~r/^iex>/m, do: guide

    assert with_prompts ==
             for(
               name <-
                 ~w(control conversions environments interpreters livebook modules parallelism sandbox shared tables),
               do: "guides/#{name}.md"
             )
  end

  # ExDoc warns about them too, but nobody runs it with the tests.
  test "the modules that the documents name are documented" do
    for path <- ["README.md", "CHANGELOG.md" | @guides],
        [_all, name] <- Regex.scan(~r/`(Pythonx(?:\.[A-Z]\w*)+)`/, File.read!(path)) do
      assert {:docs_v1, _, _, _, %{}, _, _} = Code.fetch_docs(Module.concat([name])), "#{path} names #{name}"
    end
  end

  # Messages are quoted as they are in the source; `...` stands for what is filled in.
  test "the messages that the documents quote are those of the code" do
    source = "lib/**/*.ex" |> Path.wildcard() |> Enum.map_join(&File.read!/1) |> String.replace(~r/" <>\s*"/, "")
    [_text, errors] = String.split(File.read!("guides/environments.md"), "\n## Errors\n")
    [_text, troubles] = String.split(File.read!("README.md"), "\n## Troubleshooting\n")
    quoted = Regex.scan(~r/^\| (`.*?`(?:, `.*?`)*) \|/m, errors) ++ Regex.scan(~r/^\*\*(`.*?`)\*\*:/m, troubles)
    messages = for [_all, texts] <- quoted, [_tick, message] <- Regex.scan(~r/`(.*?)`/, texts), do: message
    assert length(messages) >= 10

    for message <- messages, part <- String.split(message, "...", trim: true) do
      assert String.contains?(source, String.trim(part)), "no module says #{inspect(part)}"
    end
  end

  describe "the architecture" do
    @architecture File.read!("guides/architecture.md")

    test "names files that exist" do
      for [_all, path] <-
            Regex.scan(~r/`((?:lib|c_src|priv|uv_templates|test|bench|examples|guides)\/[\w.\/]*)`/, @architecture) do
        assert File.exists?(path), "guides/architecture.md names #{path}"
      end
    end

    # What the guide says of numbers, and the line of the source that makes it so.
    for {says, file, line} <- [
          {"a stack of 16 MiB", "vm/system.hpp", "python_stack_size = 16 << 20"},
          {"There are 2048 at most", "threads/pool.hpp", "max_threads = 2048"},
          {"idle for five seconds", "threads/pool.hpp", "idle_time{5000}"},
          {"every 50 ms", "threads/signals.hpp", "interrupt_interval = std::chrono::milliseconds(50)"},
          {"for about 2 ms at most", "threads/pool.hpp", "drop_budget_us = 2000"},
          {"about every millisecond", "python/gil.cpp", "std::chrono::milliseconds(1)"},
          {"two seconds", "boot/boot.cpp", "halt_deadline = std::chrono::milliseconds(2000)"},
          {"a cache of 128 arenas", "boot/allocator.cpp", "arena_limit = 128"},
          {"the 1024 last used", "work/code_cache.cpp", "entry_limit = 1024"},
          {"32 MiB of source", "work/code_cache.cpp", "byte_limit = 32 << 20"},
          {"from 512 bytes on", "conversion/decode_scalar.cpp", "zero_copy = 512"}
        ] do
      test "says #{says}, as #{file} does" do
        assert @architecture |> String.replace(~r/\s+/, " ") |> String.contains?(unquote(says))
        assert File.read!("c_src/bridge/#{unquote(file)}") |> String.contains?(unquote(line))
      end
    end
  end
end
