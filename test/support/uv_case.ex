defmodule Pythonx.UvCase do
  @moduledoc false
  # For tests of environments: a cache of their own, and a uv that is a shell script, so that nothing is downloaded.

  use ExUnit.CaseTemplate

  import Pythonx.NativeCase

  @variables ~w(PYTHONX_CACHE_DIR PYTHONX_UV PYTHONX_UV_MIRROR PYTHONX_INIT_STATE UV_PYTHON_INSTALL_DIR UV_PYTHON_PREFERENCE
                UV_MANAGED_PYTHON UV_NO_MANAGED_PYTHON PYTHONX_NATIVE)

  using do
    quote do
      import Pythonx.{NativeCase, UvCase}
      @moduletag :tmp_dir
      @moduletag :capture_log
    end
  end

  setup %{tmp_dir: dir} do
    saved = for name <- @variables, do: {name, System.get_env(name)}
    on_exit(fn -> System.put_env(saved) end)
    for name <- @variables, do: System.delete_env(name)

    cache = Path.join(dir, "a cache ż")
    System.put_env("PYTHONX_CACHE_DIR", cache)
    # Whatever wheels this checkout has.
    System.put_env("PYTHONX_NATIVE", "compile")
    %{cache: cache, projects: Path.join(cache, "uv/projects"), log: Path.join(dir, "uv.log")}
  end

  @doc """
  Makes a uv and has it used. It writes the arguments of each call into `log`, finds the Python `python`, and makes
  environments of it that hold no packages. The shell code `sync` runs in place of `uv sync`, in the folder of the project.
  """
  def fake_uv!(log, opts \\ []) do
    python = Keyword.get_lazy(opts, :python, &python!/0)
    path = script!(Path.join(Path.dirname(log), Keyword.get(opts, :name, "uv")), fake_uv(log, python, opts))
    System.put_env("PYTHONX_UV", path)
    path
  end

  defp fake_uv(log, python, opts) do
    """
    echo "$*" >> '#{log}'
    case "$1 $2" in
    "--version "*)
      echo "uv #{Keyword.get(opts, :version, "0.13.8")}" ;;
    "python find")
      echo "warning: of no interest"
      #{Keyword.get(opts, :find, "echo '#{python}'")} ;;
    "venv "*)
      #{Keyword.get(opts, :venv, ":")}
      mkdir -p .venv/bin .venv/lib/python3.13/site-packages
      ln -s '#{python}' .venv/bin/python
      printf 'home = %s\\nversion_info = 3.13.0\\nrelocatable = true\\n' "$(dirname '#{python}')" > .venv/pyvenv.cfg ;;
    "sync "*)
      #{Keyword.get(opts, :sync, "echo synced")} ;;
    *)
      echo "unexpected arguments: $*"; exit 64 ;;
    esac
    """
  end

  @doc """
  Makes what looks like an installed Python, whose answers are the `fields` over those of one that can be embedded.
  Returns the path of its program.
  """
  def fake_python!(prefix, fields \\ %{}) do
    for folder <- ["bin", "lib", "include"], do: File.mkdir_p!(Path.join(prefix, folder))
    File.write!(Path.join(prefix, "lib/libpython3.13.so"), "")

    # What it says follows the folder that it is in, as with a real one.
    defaults = %{
      implementation: "cpython",
      version: "3.13.0",
      executable: "$root/bin/python3.13",
      prefix: "$root",
      libpython: "$root/lib/libpython3.13.so",
      headers: "$root/include",
      free_threaded: "",
      os: "debian "
    }

    pairs = for {key, value} <- Map.merge(defaults, fields), do: ~s|printf '%s\\0' "#{key}=#{value}"\n|

    script!(Path.join(prefix, "bin/python3.13"), """
    root=$(cd -P "$(dirname "$(realpath "$0")")/.." && pwd)
    case "$*" in
    *getsitepackages*) printf %s "$root/lib/python3.13/site-packages" ;;
    "-I -S -c "*) #{pairs} ;;
    *) echo "unexpected arguments: $*"; exit 64 ;;
    esac
    """)
  end

  @doc "Limits the PATH of the tests of a module to a folder with the few programs that the scripts here need. Returns it."
  def limit_path!(dir) do
    path = System.get_env("PATH")
    ExUnit.Callbacks.on_exit(fn -> System.put_env("PATH", path) end)
    bin = Path.join(dir, "bin")
    File.mkdir!(bin)

    for name <- ~w(sh dirname realpath mkdir ln cat env grep sort timeout id) do
      File.ln_s!(System.find_executable(name), Path.join(bin, name))
    end

    System.put_env("PATH", bin)
    bin
  end

  @doc "The calls of the uv made by `fake_uv!/2`, as the lists of their arguments. Only those that start with `command`."
  def calls(log, command \\ "") do
    case File.read(log) do
      {:ok, text} -> for line <- String.split(text, "\n", trim: true), String.starts_with?(line, command), do: line
      {:error, :enoent} -> []
    end
  end

  def toml(name \\ "project") do
    """
    [project]
    name = "#{name}"
    version = "0.0.0"
    requires-python = "==3.13.*"
    """
  end

  @doc "Runs `fun` and returns its result and what it wrote to its group leader. Without ExUnit, for other VMs."
  def with_output(fun) do
    {:ok, device} = StringIO.open("")
    leader = Process.group_leader()
    Process.group_leader(self(), device)

    try do
      result = fun.()
      {result, device |> StringIO.contents() |> elem(1)}
    after
      Process.group_leader(self(), leader)
      StringIO.close(device)
    end
  end

  @doc "Runs `fun` without its output."
  def quietly(fun), do: fun |> with_output() |> elem(0)

  @doc "Calls a function in another VM, without its output. An exception there is returned."
  def call_in(vm, module, function, args) do
    :peer.call(vm, __MODULE__, :call_quietly, [module, function, args], 60_000)
  end

  @doc false
  def call_quietly(module, function, args) do
    quietly(fn -> apply(module, function, args) end)
  rescue
    error -> error
  end

  @doc """
  Answers the HTTP requests on a port of this machine, one for each function in `answers`, which gets the text of the
  request and returns the text of the answer. Returns the URL. The test gets `{:request, text}` for each.
  """
  def serve!(answers) do
    test = self()
    {:ok, listener} = :gen_tcp.listen(0, [:binary, active: false, ip: {127, 0, 0, 1}, reuseaddr: true])
    {:ok, port} = :inet.port(listener)

    server =
      spawn_link(fn ->
        Enum.each(answers, &answer(listener, &1, test))
        :gen_tcp.close(listener)
      end)

    :ok = :gen_tcp.controlling_process(listener, server)
    "http://127.0.0.1:#{port}"
  end

  defp answer(listener, answer, test) do
    {:ok, socket} = :gen_tcp.accept(listener)
    request = read_request(socket, "")
    send(test, {:request, request})
    :ok = :gen_tcp.send(socket, answer.(request))
    :gen_tcp.shutdown(socket, :write)
    # Closing with unread data would reset the connection under what was sent.
    :gen_tcp.recv(socket, 0, 5000)
    :gen_tcp.close(socket)
  end

  defp read_request(socket, text) do
    if String.ends_with?(text, "\r\n\r\n") do
      text
    else
      {:ok, more} = :gen_tcp.recv(socket, 0, 5000)
      read_request(socket, text <> more)
    end
  end

  @doc "The text of a successful answer."
  def ok(body),
    do: fn _request -> "HTTP/1.1 200 OK\r\ncontent-length: #{byte_size(body)}\r\nconnection: close\r\n\r\n" <> body end

  @doc "The text of another answer."
  def status(line), do: fn _request -> "HTTP/1.1 #{line}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n" end

  @doc "Calls `fun` while nothing can be made in a folder. Not for root where the file system knows no immutable folders."
  def without_writing(folder, fun) do
    # Root may write everywhere, except into what is immutable. Not every system has the program for that.
    immutable? =
      System.find_executable("chattr") != nil and
        match?({_output, 0}, System.cmd("chattr", ["+i", folder], stderr_to_stdout: true))

    unless immutable?, do: File.chmod!(folder, 0o555)

    try do
      if File.write(Path.join(folder, "x"), "") != :ok, do: fun.()
    after
      if immutable?, do: System.cmd("chattr", ["-i", folder]), else: File.chmod!(folder, 0o755)
    end
  end

  @doc "Waits until an OS process has ended."
  def wait_for_exit!(pid) do
    {_output, 0} = System.cmd("timeout", ["10", "tail", "--pid=#{pid}", "-f", "/dev/null"])
  end

  @doc """
  A VM of its own, in which `Pythonx.init/4` only tells this process, as `{:booted, arguments}`, and in which this cache and
  this uv are used.
  """
  def start_stubbed_vm! do
    vm = start_vm!()
    for name <- @variables, value = System.get_env(name), do: :peer.call(vm, System, :put_env, [name, value])
    {:ok, _apps} = :peer.call(vm, :application, :ensure_all_started, [:elixir])
    :peer.call(vm, Code, :put_compiler_option, [:ignore_module_conflict, true])
    {_value, _binding} = :peer.call(vm, Code, :eval_string, [stub()])
    vm
  end

  # Standard I/O is the only connection, so what it was called with is kept for asking.
  defp stub do
    """
    defmodule Pythonx do
      def init(libpython, home, executable, opts) do
        if File.exists?(Path.join(home, "refuse")), do: raise("refused")
        :persistent_term.put(:boots, boots() ++ [{libpython, home, executable, opts}])
        :ok
      end

      def boots, do: :persistent_term.get(:boots, [])
    end
    """
  end
end
