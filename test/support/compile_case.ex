defmodule Pythonx.CompileCase do
  @moduledoc false

  # For tests of what the compiler makes of modules, and says of them. Its options are the whole VM's, so not for tests that run
  # beside others.

  use ExUnit.CaseTemplate

  using do
    quote do
      import Pythonx.Case
      import Pythonx.CompileCase
    end
  end

  # What a project's compiler writes, and one of tests does not.
  setup do
    before = for option <- [:docs, :debug_info], do: {option, Code.get_compiler_option(option)}
    for {option, _value} <- before, do: Code.put_compiler_option(option, true)
    on_exit(fn -> for {option, value} <- before, do: Code.put_compiler_option(option, value) end)
  end

  @doc "A module as somebody would compile it, with what the compiler says."
  def compile(body, dir, name \\ "Compiled#{System.unique_integer([:positive])}") do
    file = Path.join(dir, "compiled.ex")

    Code.with_diagnostics(fn ->
      try do
        Code.compile_string("defmodule #{name} do\n  #{body}\nend\n", file)
      rescue
        error -> error
      end
    end)
  end
end
