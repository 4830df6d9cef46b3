defmodule Pythonx.ExamplesTest do
  # Runs the cells of the example notebooks, each notebook in a VM of its own, and compares what they show with what the
  # file has below them.
  use ExUnit.Case, async: true

  import Pythonx.NativeCase, only: [python!: 0, start_vm!: 0]

  alias Pythonx.Notebook

  # The first run downloads packages of some 60 MB.
  @moduletag timeout: 1_200_000
  @moduletag :pinned_packages
  @timeout 900_000

  # The VM that runs the other cells has what this one would install.
  @setup """
  Mix.install([
    {:pythonx, path: Path.expand("..", __DIR__)}
  ])
  """

  @notebooks Path.wildcard("examples/*.livemd")

  test "there are two notebooks" do
    assert Enum.map(@notebooks, &Path.basename/1) == ["data_and_figures.livemd", "first_steps.livemd"]
  end

  for notebook <- @notebooks do
    @notebook notebook
    test "#{notebook} shows what it says" do
      [setup | cells] = Notebook.read!(@notebook)
      assert %{language: "elixir", code: @setup, output: nil} = setup
      assert Enum.uniq(for cell <- cells, do: cell.language) |> Enum.sort() == ["elixir", "pyproject.toml", "python"]

      for {cell, output} <- Enum.zip(cells, run(cells, @notebook)), said = cell.output || unsaid(cell) do
        assert output == said, "#{@notebook}:#{cell.line} shows:\n#{output}"
      end
    end
  end

  # Below a Python cell nothing is nothing, but for a figure, which only an image can show. Livebook shows the value of each
  # Elixir cell; the file has those that a reader wants to see.
  defp unsaid(%{language: "python", code: code}), do: if(String.ends_with?(code, "\nfigure\n"), do: nil, else: "")
  defp unsaid(%{language: "pyproject.toml"}), do: nil
  defp unsaid(%{language: "elixir"}), do: nil

  defp run(cells, path) do
    vm = start_vm!()
    {:ok, _started} = :peer.call(vm, :application, :ensure_all_started, [:pythonx], @timeout)
    # The Python of the suite, for which there is a bridge.
    :peer.call(vm, System, :put_env, ["PATH", Path.dirname(python!()) <> ":" <> System.get_env("PATH")])
    :peer.call(vm, Notebook, :run, [cells, Path.expand(path)], @timeout)
  end
end
