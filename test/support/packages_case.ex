defmodule Pythonx.PackagesCase do
  @moduledoc false
  # For tests that install packages: wheels made on the spot are all that uv finds, so that no network is needed, and a cache
  # of the test's own, with the bridges of the suite. Code runs in other VMs.

  use ExUnit.CaseTemplate

  import Pythonx.NativeCase, only: [python!: 0, start_vm!: 0]

  using do
    quote do
      import Pythonx.{NativeCase, PackagesCase}
      @moduletag :capture_log
    end
  end

  setup do
    # uv separates folders with commas, which the names of tests have.
    dir = Path.join(System.tmp_dir!(), "pythonx_packages_#{System.pid()}_#{System.unique_integer([:positive])}")
    on_exit(fn -> File.rm_rf!(dir) end)
    cache = Path.join(dir, "cache")
    File.mkdir_p!(cache)
    File.ln_s!(Path.join(Pythonx.Host.Cache.base_dir(), "bridge"), Path.join(cache, "bridge"))
    wheels = Path.join(dir, "wheels")
    File.mkdir!(wheels)

    variables = %{
      "PYTHONX_CACHE_DIR" => cache,
      "PYTHONX_INIT_STATE" => nil,
      "UV_FIND_LINKS" => wheels,
      "UV_NO_INDEX" => "1",
      "UV_OFFLINE" => "1",
      "PATH" => Path.dirname(python!()) <> ":" <> System.get_env("PATH")
    }

    saved = Map.new(variables, fn {name, _value} -> {name, System.get_env(name)} end)
    on_exit(fn -> put_env(saved) end)
    put_env(variables)
    %{tmp_dir: dir, cache: cache, wheels: wheels, python: "==3.#{minor()}.*"}
  end

  defp put_env(variables) do
    for {name, value} <- variables, do: if(value, do: System.put_env(name, value), else: System.delete_env(name))
  end

  @doc "The minor version of Python of the suite, with the letter that uv takes."
  def minor, do: Pythonx.NativeCase.ask_python!("sys.version_info[1]")

  @doc """
  Makes a wheel of a package of one module, that has its version in `version`. Options: `:requires`, a list of what it needs.
  """
  def wheel!(dir, name, version, opts \\ []) do
    info = "#{name}-#{version}.dist-info"
    requires = for text <- Keyword.get(opts, :requires, []), do: "Requires-Dist: #{text}\n"

    files = [
      {"#{name}/__init__.py", "version = #{inspect(version)}\n"},
      {"#{name}/later.py", "version = #{inspect(version)}\n"},
      {"#{info}/METADATA", "Metadata-Version: 2.1\nName: #{name}\nVersion: #{version}\n#{requires}"},
      {"#{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"}
    ]

    record = Enum.map_join(files, fn {path, _text} -> "#{path},,\n" end) <> "#{info}/RECORD,,\n"
    entries = for {path, text} <- files ++ [{"#{info}/RECORD", record}], do: {String.to_charlist(path), text}
    path = Path.join(dir, "#{name}-#{version}-py3-none-any.whl")
    {:ok, _path} = :zip.create(String.to_charlist(path), entries)
    path
  end

  @doc "A VM with the application started, and the environment variables of this test."
  def start_app!(env \\ []) do
    vm = start_vm!()
    names = ~w(PYTHONX_CACHE_DIR UV_FIND_LINKS UV_NO_INDEX UV_OFFLINE PATH PYTHONX_UV)
    for name <- names, value = System.get_env(name), do: :peer.call(vm, System, :put_env, [name, value])
    for {key, value} <- env, do: :peer.call(vm, :application, :set_env, [:pythonx, key, value])
    {:ok, _apps} = :peer.call(vm, :application, :ensure_all_started, [:pythonx], 60_000)
    vm
  end

  @doc "Evaluates Elixir code in a VM. Returns its value, or what it raises."
  def run(vm, code), do: :peer.call(vm, __MODULE__, :eval_quietly, [code], 120_000)

  @doc "The same with what was written to the group leader."
  def run_with_output(vm, code), do: :peer.call(vm, __MODULE__, :eval_with_output, [code], 120_000)

  @doc false
  def eval_quietly(code), do: code |> eval_with_output() |> elem(0)

  @doc false
  def eval_with_output(code) do
    Pythonx.UvCase.with_output(fn ->
      try do
        code |> Code.eval_string() |> elem(0)
      rescue
        error -> error
      end
    end)
  end

  @doc "Code that defines a module with requirements, given as Elixir code."
  def declare(name, opts), do: "defmodule #{name} do\n  use Pythonx.Requirements, #{inspect_opts(opts)}\nend\n"

  defp inspect_opts(opts), do: opts |> inspect(limit: :infinity) |> String.slice(1..-2//1)
end
