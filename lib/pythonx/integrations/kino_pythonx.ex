defmodule Pythonx.Integrations.KinoPythonx do
  # The package kino_pythonx, which shows objects in its own way.
  @moduledoc false

  @name "kino_pythonx"

  @doc """
  Whether it is there.

  Asked while Pythonx is compiled. That package is compiled after this one, so it is looked for where Mix keeps the
  dependencies, of whichever project is compiled.
  """
  @spec present?() :: boolean()
  def present? do
    Code.ensure_loaded?(Mix.Project) and
      (File.dir?(Path.join(Mix.Project.deps_path(), @name)) or
         File.dir?(Path.join([Mix.Project.build_path(), "lib", @name])))
  end
end
