defmodule Pythonx do
  @moduledoc """
  CPython inside the BEAM.

  `uv_init/2` declares Python packages and starts Python, `eval/3` and the `~PY` sigil run code, `encode!/2` and
  `decode/1` convert values:

      iex> {result, globals} =
      ...>   Pythonx.eval(
      ...>     \"""
      ...>     squares = [x * x for x in numbers]
      ...>     sum(squares)
      ...>     \""",
      ...>     %{"numbers" => [1, 2, 3]}
      ...>   )
      iex> Pythonx.decode(result)
      14
      iex> Pythonx.decode(globals["squares"])
      [1, 4, 9]

  There is one main interpreter in each operating system process; `Pythonx.Interpreter` adds others for pure Python.
  Python runs on threads of its own, never on a scheduler
  of the VM, so code that blocks or recurses deeply harms nobody else. What code leaves in context variables, or on its
  thread, belongs to the Elixir process that it ran for: each has its own, from call to call until it ends. Threads
  share Python's global interpreter lock: Python code of several processes takes turns.
  """

  alias Pythonx.Calls
  alias Pythonx.Calls.{Deadline, Evaluation, Options}
  alias Pythonx.Conversion
  alias Pythonx.NIF
  alias Pythonx.Object
  alias Pythonx.Telemetry

  @typedoc """
  A function that encodes a term, given itself for nested terms; see `encode!/2`.
  """
  @type encoder :: (term(), encoder() -> Object.t())

  @typedoc """
  Where output goes: anything that `send/2` takes.
  """
  @type device :: pid() | atom() | {atom(), node()}

  # Of the Python in this VM, or of a worker of a pool.
  defguardp is_object(term) when is_struct(term, Object) or is_struct(term, Pythonx.Pool.Object)

  @typedoc """
  A Python object: of this VM's Python, or in a worker of a `Pythonx.Pool`.
  """
  @type object :: Object.t() | Pythonx.Pool.Object.t()

  ## Initialisation

  @doc ~s'''
  Installs Python packages with [uv](https://docs.astral.sh/uv/) and starts Python with them.

  The argument is the text of a `pyproject.toml`, or the name of a template (see `uv_templates/0`):

      Pythonx.uv_init("""
      [project]
      name = "project"
      version = "0.0.0"
      requires-python = ">=3.10"
      dependencies = [
        "numpy==2.2.2"
      ]
      """)

      Pythonx.uv_init(:numpy)

  The environment is made once and kept in the user's cache folder: a later call with the same project runs nothing
  and touches no network. uv's output goes to the caller's group leader.

  Python can be started once in a VM. Calling this again with the same project and options returns `:ok`; another
  project raises a `RuntimeError`:

      iex> Pythonx.uv_init("[project]\\nname = 'another'\\nversion = '0.0.0'\\n")
      ** (RuntimeError) Python interpreter has already been initialized

  Libraries that each need packages do not each call it, but say so as `Pythonx.Requirements` shows.

  An environment that cannot be made raises a `RuntimeError` too, after uv has said why. Unknown options, and values of a wrong type, raise an
  `ArgumentError` before anything is done.

  ## Options

    * `:force` - if true, makes the environment anew. Defaults to `false`

    * `:uv_version` - the version of uv to download when none is found. Defaults to `"0.13.8"`

    * `:native_tls` - if true, uv uses the system's TLS implementation and certificates. Defaults to `false`

    * `:python` - the Python that uv is to use, a version, variant or path, such as `"3.14t"`. Defaults to what
      the project asks for

    * `:uv` - the path of a uv executable. Defaults to the environment variable `PYTHONX_UV`, then `PATH`, then a
      downloaded one

    * `:lock` - the text of a `uv.lock` to install from, exactly. Defaults to none

    * `:env` - environment variables to set in `os.environ`, a map of names and values; `nil` removes one. The application must
      have been started. Defaults to none

  ## What libraries ask for, and environments that are there

  Without a project, Python is started with what all loaded applications and modules ask for, as `Pythonx.Requirements` shows.
  Where Python runs already, what is missing is added to it. Options are those above:

      Pythonx.uv_init()
      Pythonx.uv_init(python: "3.13", lock: "pythonx.lock")

  With one of these options, an environment is used where it is. It is checked, and nothing is written into it:

    * `:project` - the folder of a uv project, or of a member of a workspace, with its `uv.lock` and its `.venv`. What is installed must
      be what the lock says

    * `:venv` - a virtual environment

    * `:python` - the path of a Python. A version, as in `python: "3.13"`, says what uv is to look for instead

  For example:

      Pythonx.uv_init(project: "../analysis")
      Pythonx.uv_init(venv: ".venv")
      Pythonx.uv_init(python: "/usr/bin/python3")

  ## Environment variables

  `PYTHONX_CACHE_DIR` is the folder for environments and everything else that is kept (default: the user's cache
  folder), `PYTHONX_UV` a uv executable. Proxies are taken from `HTTPS_PROXY` and `HTTP_PROXY`.

  Python sees the environment variables of the operating system process as they were when the VM started: changes by
  `System.put_env/2` are not visible in `os.environ` until `update_env/1` is called.
  '''
  @spec uv_init(String.t() | atom() | keyword(), keyword()) :: :ok
  def uv_init(pyproject_toml \\ [], opts \\ [])

  def uv_init(opts, []) when opts == [] or is_tuple(hd(opts)) do
    case Pythonx.Uv.Existing.source!(opts) do
      nil -> Pythonx.Requirements.start(opts)
      {source, opts} -> Pythonx.Uv.uv_init(source, opts)
    end
  end

  def uv_init(template, opts) when is_atom(template) and template not in [nil, false, true] and is_list(opts) do
    uv_init(Pythonx.Uv.Templates.fetch!(template), opts)
  end

  def uv_init(pyproject_toml, opts) when is_binary(pyproject_toml) and is_list(opts) do
    Pythonx.Uv.uv_init(pyproject_toml, opts)
  end

  @doc """
  The names of the templates that `uv_init/2` takes.

      iex> :numpy in Pythonx.uv_templates()
      true
  """
  @spec uv_templates() :: [atom()]
  def uv_templates(), do: Pythonx.Uv.Templates.names()

  @doc """
  Has Python ready for what an application, or a module, asks for. What a library calls before it uses Python.

      Pythonx.ensure_ready!(:my_library)

  Starts Python if it does not run, as `uv_init/0` does. Where it runs and the requirements are met, nothing is done. Where
  something is missing, it is installed into an environment of its own, which is put on `sys.path` beside the first: what is
  imported keeps its version, and the files it came from are not touched.

  An owner with `isolated: true` gets a pool instead, see `Pythonx.Requirements.pool/1`.

      iex> defmodule NeedsNothing do
      ...>   use Pythonx.Requirements, requires_python: ">=3.10"
      ...> end
      iex> Pythonx.ensure_ready!(NeedsNothing)
      :ok
      iex> Pythonx.ensure_ready!(:kernel)
      ** (ArgumentError) the application :kernel says nothing of Python: its mix.exs has no env: [python: [dependencies: [...]]] in application/0

  Raises a `RuntimeError` when the requirements cannot be met: it names the libraries, what they ask for, and the versions that
  exclude each other. Nothing is changed then.
  """
  @spec ensure_ready!(atom()) :: :ok
  def ensure_ready!(owner) when is_atom(owner), do: Pythonx.Requirements.ensure_ready!(owner)

  @doc """
  Whether Python runs in this VM.

      iex> Pythonx.initialized?()
      true
  """
  @spec initialized?() :: boolean()
  def initialized?(), do: NIF.initialized?()

  @doc """
  What runs in this VM, a map:

    * `:version` - of Python, such as `"3.13.0"`

    * `:executable`, `:environment`, `:base` - the paths of the program, the environment and the installation: `sys.executable`,
      `sys.prefix` and `sys.base_prefix`

    * `:started_by` - `:uv_init`, `:requirements` (`uv_init/0`), `:existing` (`uv_init/1` with an environment) or `:init`
      (something else)

    * `:project` - the text of the project, or the option that named the environment, such as `[venv: "/path"]`, or `nil`

    * `:lock` - the path of the lock that it was installed from, or `nil`

    * `:packages` - what is installed: a list of maps with `:name`, `:version` and `:path`, the folder that it is in

    * `:requirements` - what has been met for libraries: a list of maps with `:owner`, `:dependencies` and `:requires_python`

    * `:added` - the folders of packages that were added while Python ran

  For example:

      iex> info = Pythonx.info()
      iex> {info.started_by, Enum.find(info.packages, &(&1.name == "numpy")).name}
      {:uv_init, "numpy"}

  Raises a `RuntimeError` when Python does not run.
  """
  @spec info() :: map()
  def info(), do: Pythonx.Info.info()

  @doc """
  Sets environment variables in Python's `os.environ`, and for C code and programs that Python starts; `nil` removes one.

      iex> Pythonx.update_env(%{"PYTHONX_DOC" => "seen"})
      iex> {value, _} = Pythonx.eval("import os; os.environ['PYTHONX_DOC']", %{})
      iex> Pythonx.decode(value)
      "seen"

  Without variables, all those that this VM has and that differ are set: what `System.put_env/2` has changed since the VM started. That
  is not done by itself, as Python code changes `os.environ` too, and would lose that at some later evaluation.
  """
  @spec update_env(Enumerable.t()) :: :ok
  def update_env(variables \\ System.get_env()) do
    unless Pythonx.Uv.Options.env?(variables) do
      raise ArgumentError, "expected a map or list of names and values, both strings, got: #{inspect(variables)}"
    end

    Pythonx.Requirements.Running.update_environ!(Map.new(variables))
  end

  @doc """
  The environment variables that make another VM start Python as this one did.

  The result is a map with the single entry `"PYTHONX_INIT_STATE"`. A VM that has it in its environment starts Python
  when the `:pythonx` application starts; so do nodes started by FLAME with `env: Pythonx.install_env()`.

  Raises a `RuntimeError` when Python was started neither by `uv_init/2` nor by `config :pythonx, :uv_init`.

      iex> %{"PYTHONX_INIT_STATE" => state} = Pythonx.install_env()
      iex> is_binary(state)
      true
  """
  @spec install_env() :: %{String.t() => String.t()}
  def install_env(), do: Pythonx.Uv.install_env()

  @doc """
  The folders that hold the Python in use and its packages, for copying them to another machine.

  Raises a `RuntimeError` when Python was started neither by `uv_init/2` nor by `config :pythonx, :uv_init`.

      iex> Enum.all?(Pythonx.install_paths(), &File.dir?/1)
      true
  """
  @spec install_paths() :: [String.t()]
  def install_paths(), do: Pythonx.Uv.install_paths()

  @doc false
  @spec maybe_init_from_env() :: :ok | :noop
  def maybe_init_from_env(), do: Pythonx.Uv.maybe_init_from_env()

  @doc false
  @spec init(String.t(), String.t(), String.t(), keyword()) :: :ok
  def init(python_dl_path, python_home_path, python_executable_path, opts \\ [])
      when is_binary(python_dl_path) and is_binary(python_home_path) and is_binary(python_executable_path) and
             is_list(opts) do
    opts = Keyword.validate!(opts, sys_paths: [])
    Pythonx.Boot.start(python_dl_path, python_home_path, python_executable_path, opts[:sys_paths])
  end

  ## Evaluation

  @doc ~S'''
  Evaluates Python code.

  `globals` is a map of names to values, which are encoded with `encode!/2`. Returns the result and the global names
  that are defined afterwards, the given ones included, as objects. The result is the value of the last statement if
  that is an expression, otherwise `nil`.

      iex> {result, %{}} = Pythonx.eval("a + b", %{"a" => 1, "b" => 2})
      iex> result
      #Pythonx.Object<
        3
      >

      iex> {nil, globals} = Pythonx.eval("x = 10", %{})
      iex> globals["x"]
      #Pythonx.Object<
        10
      >

  A Python exception is raised as `Pythonx.Error`.

  Each evaluation has a namespace of its own, which is the module `__main__` while it runs. What lives in the
  interpreter itself (imported modules, `os.environ`) is shared by all: see [What is shared by all](shared.md).

  When the calling process dies, the code is interrupted.

  ## Options

    * `:stdout_device` - where standard output goes. Defaults to the caller's group leader

    * `:stderr_device` - where standard error goes. Defaults to the process registered as `:standard_error`

    * `:binaries` - with `:str`, binaries in `globals` become `str` instead of `bytes`. Defaults to `:bytes`

    * `:types` - with `:rich`, structs in `globals` such as `Date` become Python's, as in `encode!/2`. Defaults to
      `:basic`

    * `:timeout` - how long the code may run, in milliseconds, or `:infinity`; encoding `globals` counts. When the time is
      over, the code is interrupted and `Pythonx.TimeoutError` raised. Defaults to `:infinity`

  What the code has printed when it ends has been sent to its device when this function returns.
  '''
  @spec eval(String.t(), %{String.t() => term()}, keyword()) :: {Object.t() | nil, %{String.t() => Object.t()}}
  def eval(code, globals, opts \\ []) when is_binary(code) and is_map(globals) and is_list(opts) do
    Evaluation.eval(code, globals, opts)
  end

  @doc ~S'''
  Evaluates Python code and decodes its result, in one step.

  Strings are `str` in Python, and dates and their like become Elixir's:

      iex> Pythonx.run("sorted(names)", %{"names" => ["Grace", "Ada"]})
      {:ok, ["Ada", "Grace"]}
      iex> Pythonx.run("import datetime; day + datetime.timedelta(days=1)", %{"day" => ~D[2024-02-28]})
      {:ok, ~D[2024-02-29]}

  What goes wrong is returned: an exception of Python's is a `Pythonx.Error`, too little time a `Pythonx.TimeoutError`, a
  global that has no counterpart a `Protocol.UndefinedError`.

      iex> {:error, error} = Pythonx.run("int('five')")
      iex> Pythonx.Error.summary(error)
      "ValueError: invalid literal for int() with base 10: 'five'"

  Options that are not right, and a Python that has not been started, raise.

  ## Options

  Those of `eval/3`, of which `:binaries` is `:str` and `:types` is `:rich` by default, and

    * `:return` - what the result becomes: `:value` decodes it, as `decode/2`; `:object` leaves it in Python; `:buffer`,
      `:table` and `:tensor` make what `buffer/2`, `table/2` and `to_nx/2` make of it. Defaults to `:value`

          iex> {:ok, %Pythonx.Buffer{type: type}} = Pythonx.run("bytearray(3)", %{}, return: :buffer)
          iex> type
          {:u, 8}

  `:timeout` counts for all of it. Code that ends in a statement has the result `nil`.
  '''
  @spec run(String.t(), %{String.t() => term()}, keyword()) :: {:ok, term()} | {:error, Exception.t()}
  def run(code, globals \\ %{}, opts \\ []) when is_binary(code) and is_map(globals) and is_list(opts) do
    Pythonx.Calls.Run.run(opts, &Evaluation.eval(code, globals, &1))
  end

  @doc """
  The same as `run/3`, but returns the value itself and raises what goes wrong.

      iex> Pythonx.run!("a + b", %{"a" => 1, "b" => 2})
      3
  """
  @spec run!(String.t(), %{String.t() => term()}, keyword()) :: term()
  def run!(code, globals \\ %{}, opts \\ []) when is_binary(code) and is_map(globals) and is_list(opts) do
    Pythonx.Calls.Run.run!(opts, &Evaluation.eval(code, globals, &1))
  end

  @doc ~S'''
  Evaluates Python code that reads and writes Elixir variables.

  Names that the code uses and that are variables of the Elixir code around it are passed in. Every global name that
  the code defines becomes an Elixir variable, bound to an object.

      iex> import Pythonx
      iex> x = 1
      iex> ~PY"""
      ...> y = x + 10
      ...> """
      iex> y
      #Pythonx.Object<
        11
      >

  The result is that of `eval/2`. With the modifier `s`, binaries of Elixir become `str`; with `r`, structs such as `Date`
  become Python's own types: they are the options `binaries: :str` and `types: :rich` of `eval/3`.

      iex> import Pythonx
      iex> name = "Ada"
      iex> ~PY"name.upper()"s
      #Pythonx.Object<
        'ADA'
      >

  `use Pythonx, binaries: :str, types: :rich` imports the sigil and sets both for a module.

  Variables that the code may define but did not (in a branch that was not taken) keep
  their value, or are `nil` if they had none.

  Which names the code uses is known only to Python, so the interpreter must run when the sigil is expanded: in IEx and
  in Livebook. In the modules of a project it works when the project configures `config :pythonx, :uv_init`. A script
  is expanded as a whole before `uv_init/2` in it runs: there, as everywhere else, use `eval/3`.
  '''
  defmacro sigil_PY({:<<>>, meta, [code]}, modifiers)
           when is_binary(code) and modifiers in [[], ~c"s", ~c"r", ~c"sr", ~c"rs"] do
    Pythonx.Sigil.expand({:<<>>, meta, [code]}, modifiers, __CALLER__)
  end

  @doc false
  defmacro __using__(opts) do
    Pythonx.Sigil.configure!(opts, __CALLER__)
    quote do: import(Pythonx, only: [sigil_PY: 2])
  end

  ## Objects

  @doc """
  Calls a Python object: a function, a class, anything callable.

  `args` are the positional arguments, `kwargs` those by name, a keyword list or a map with atoms or strings as keys.

      iex> {pow, _} = Pythonx.eval("pow", %{})
      iex> Pythonx.call(pow, [2, 10])
      #Pythonx.Object<
        1024
      >
      iex> Pythonx.call(pow, [2, 10], [mod: 1000], decode: true)
      24

  A Python exception is raised as `Pythonx.Error`. What the code prints goes to the caller's group leader and to
  standard error.

  ## Options

    * `:decode` - if true, the result is decoded as by `decode/1`; what has no counterpart in Elixir stays an object.
      Defaults to `false`

    * `:binaries` - with `:str`, binaries become `str`, which is what most Python functions want; one that is not
      UTF-8 raises a `Pythonx.Error`. With `:bytes` they become `bytes`. Defaults to `:str`

    * `:types` - with `:rich`, arguments are encoded, and the result decoded, as in `encode!/2` and `decode/2` with that
      option. Defaults to `:basic`

    * `:timeout` - how long the code may run, in milliseconds, or `:infinity`. When the time is over, the code is
      interrupted and `Pythonx.TimeoutError` raised. Defaults to `:infinity`
  """
  @spec call(object(), list(), keyword() | map(), keyword()) :: term()
  def call(callable, args \\ [], kwargs \\ [], opts \\ []) when is_object(callable) and is_list(args) do
    Calls.call(callable, args, kwargs, opts)
  end

  @doc """
  Calls a method of a Python object.

      iex> {text, _} = Pythonx.eval("'a,b'", %{})
      iex> Pythonx.call_method(text, :split, [","], [], decode: true)
      ["a", "b"]

  Arguments and options are those of `call/4`.
  """
  @spec call_method(object(), atom() | String.t(), list(), keyword() | map(), keyword()) :: term()
  def call_method(object, name, args \\ [], kwargs \\ [], opts \\ []) when is_object(object) and is_list(args) do
    Calls.call_method(object, name, args, kwargs, opts)
  end

  @doc """
  Reads an attribute. Options are those of `call/4`.

      iex> math = Pythonx.import_module("math")
      iex> Pythonx.getattr(math, :pi, decode: true)
      3.141592653589793
  """
  @spec getattr(object(), atom() | String.t(), keyword()) :: term()
  def getattr(object, name, opts \\ []) when is_object(object) do
    Calls.perform(:getattr, {NIF.local!(object)}, [Calls.name!(name)], opts)
  end

  @doc """
  Sets an attribute. Options are those of `call/4`.

      iex> {config, _} = Pythonx.eval("import types; types.SimpleNamespace()", %{})
      iex> Pythonx.setattr(config, :name, "Ada")
      :ok
      iex> config
      #Pythonx.Object<
        namespace(name='Ada')
      >
  """
  @spec setattr(object(), atom() | String.t(), term(), keyword()) :: :ok
  def setattr(object, name, value, opts \\ []) when is_object(object) do
    Calls.perform(:setattr, {NIF.local!(object), value}, [Calls.name!(name)], opts)
    :ok
  end

  @doc """
  Reads an item, `object[key]` in Python. Options are those of `call/4`.

      iex> {list, _} = Pythonx.eval("[1, 2, 3]", %{})
      iex> Pythonx.getitem(list, -1, decode: true)
      3

  A binary as the key of a dict means the `str`, or the `bytes` where the dict has only these; with `binaries: :bytes`
  it means the `bytes` alone.

  A key that is not there raises a `Pythonx.Error`. For one that may be missing there is `object[key]`, see
  `Pythonx.Object`.
  """
  @spec getitem(object(), term(), keyword()) :: term()
  def getitem(object, key, opts \\ []) when is_object(object),
    do: Calls.perform(:getitem, {NIF.local!(object), key}, [], opts)

  @doc """
  Sets an item, `object[key] = value` in Python. Keys are those of `getitem/3`, options those of `call/4`.

      iex> {prices, _} = Pythonx.eval("{'apple': 1.5}", %{})
      iex> Pythonx.setitem(prices, "pear", 2)
      :ok
      iex> Pythonx.decode(prices)
      %{"apple" => 1.5, "pear" => 2}
  """
  @spec setitem(object(), term(), term(), keyword()) :: :ok
  def setitem(object, key, value, opts \\ []) when is_object(object) do
    Calls.perform(:setitem, {NIF.local!(object), key, value}, [], opts)
    :ok
  end

  @doc """
  Imports a module by its full name. The only option is `:timeout`, as for `call/4`.

      iex> path = Pythonx.import_module("os.path")
      iex> Pythonx.call_method(path, :join, ["usr", "lib"], [], decode: true)
      "usr/lib"
  """
  @spec import_module(atom() | String.t(), keyword()) :: Object.t()
  def import_module(name, opts \\ []) do
    opts = opts |> Options.validate!([:timeout]) |> Map.merge(%{decode: false, binaries: :str})
    Calls.perform(:import_module, {}, [Calls.name!(name)], opts)
  end

  @doc """
  Has Python import from a folder too, after all others: a path, or one within an application.

      iex> dir = Path.join(System.tmp_dir!(), "pythonx-add-python-path-doc")
      iex> File.mkdir_p!(dir)
      iex> File.write!(Path.join(dir, "own_numbers.py"), "answer = 42")
      iex> Pythonx.add_python_path(dir)
      :ok
      iex> "own_numbers" |> Pythonx.import_module() |> Pythonx.getattr(:answer, decode: true)
      42

  For `priv/python` of applications, and for the folders of `config :pythonx, python_path: [...]`, that is done when Python
  starts. See [Elixir modules from Python](modules.md).
  """
  @spec add_python_path(Path.t() | {atom(), Path.t()}) :: :ok
  def add_python_path(folder), do: Pythonx.Files.add!([Pythonx.Files.expand!(folder)])

  @doc """
  The name of an object's class, with its module unless it is built in. The only option is `:timeout`, as for `call/4`.

      iex> {date, _} = Pythonx.eval("import datetime; datetime.date(2024, 1, 31)", %{})
      iex> Pythonx.type(date)
      "datetime.date"
      iex> Pythonx.type(Pythonx.encode!([1, 2]))
      "list"
  """
  @spec type(object(), keyword()) :: String.t()
  def type(object, opts \\ []) when is_object(object), do: Pythonx.Object.Help.type(object, opts)

  @doc """
  The representations of an object, by their MIME types: what a notebook would show.

      iex> {formula, _} = Pythonx.eval("class Formula:\\n  def _repr_latex_(self): return '$x^2$'\\nFormula()", %{})
      iex> %{"text/latex" => latex, "text/plain" => _repr} = Pythonx.display(formula)
      iex> latex
      "$x^2$"

  Objects are asked as IPython asks them, by `_repr_mimebundle_` or else by `_repr_html_`, `_repr_png_` and their like.
  Figures and axes of matplotlib and seaborn, and images of PIL, are `"image/png"`. `"text/plain"` is always there, and is the
  `repr` unless the object gives another; one of more than 65,536 characters is cut, with a note of its length.

  Images and PDF are the bytes of the file, other text is UTF-8, and JSON is decoded.

  Where [Kino](https://hex.pm/packages/kino) is there, Livebook shows objects by these, unless `kino_pythonx` is there,
  which has its own way.

  What a method of the object raises is raised as `Pythonx.Error`.

  ## Options

    * `:timeout` - as for `call/4`. Defaults to `:infinity`
  """
  @spec display(object(), keyword()) :: %{String.t() => term()}
  def display(object, opts \\ []) when is_object(object) and is_list(opts),
    do: Pythonx.Object.Display.display(object, opts)

  @doc """
  Prints Python's documentation of an object, as `help` does in Python. The only option is `:timeout`, as for `call/4`.

      iex> {double, _} = Pythonx.eval("def double(x):\\n  'Twice x.'\\n  return 2 * x\\ndouble", %{})
      iex> Pythonx.help(double)
      :ok

  prints

      function double in module __main__

      double(x)
          Twice x.
  """
  @spec help(object(), keyword()) :: :ok
  def help(object, opts \\ []) when is_object(object), do: Pythonx.Object.Help.print(object, opts)

  ## Streams

  @doc """
  A lazy stream over a Python iterable: a list, a generator, a file, an asynchronous generator.

      iex> {squares, _} = Pythonx.eval("(n * n for n in __import__('itertools').count())", %{})
      iex> squares |> Pythonx.stream() |> Stream.filter(&(rem(&1, 2) == 1)) |> Enum.take(3)
      [1, 9, 25]

  Handles are enumerable themselves, which is the same with default options:

      iex> Enum.sum(Pythonx.encode!([1, 2, 3]))
      6

  Elements are read in batches, which are small at first and grow while Python is fast. A slow generator's elements
  arrive as they are made; a fast one may be read ahead of what has been asked for. A stream that is left early closes
  its generator, whose `finally` blocks run. What Python raises is raised in its place, after the elements before it.

  ## Options

    * `:decode` - if true, elements are decoded as by `decode/1`; otherwise they are objects. Defaults to `true`

    * `:timeout` - how long a batch may take, and the closing of a generator, in milliseconds, or `:infinity`; see
      `call/4`. Defaults to `:infinity`
  """
  @spec stream(object(), keyword()) :: Enumerable.t()
  def stream(object, opts \\ []) when is_object(object), do: Pythonx.Calls.Streams.stream(object, opts)

  @doc """
  A Python iterator over an Elixir enumerable.

      iex> iterator = Pythonx.iterator(Stream.map(1..3, &(&1 * &1)))
      iex> {total, _} = Pythonx.eval("sum(numbers)", %{"numbers" => iterator})
      iex> Pythonx.decode(total)
      14

  The enumerable is read in a process of its own, in batches, and only when Python asks for more. That process ends
  with the enumerable, or when Python has dropped the iterator. What the enumerable raises is raised in Python as
  `pythonx.ElixirError`.

  The only option is `:timeout`, as for `call/4`: for making the iterator, not for what is read from it.
  """
  @spec iterator(Enumerable.t(), keyword()) :: Object.t()
  def iterator(enumerable, opts \\ []), do: Pythonx.Calls.Producer.iterator(enumerable, opts)

  ## Tables

  @doc """
  The table that a Python object offers as Arrow data, as a `Pythonx.Table`.

  The object has `__arrow_c_stream__` or `__arrow_c_array__`: a table, record batch or reader of pyarrow, a data frame of
  polars or pandas, a relation of duckdb, among others. A series or an array becomes a table of one column. A stream is
  read to its end, on a thread of Python's. Nothing is copied, except for pandas: the table refers to the memory of the
  library, which releases it when the last term that refers to it has been collected.

      {frame, _} = Pythonx.eval("import polars\\npolars.DataFrame({'a': [1, 2], 'b': ['x', None]})", %{})
      Pythonx.table(frame)
      #=> #Pythonx.Table<2 rows, a: {:s, 64}, b: :string>

  What Elixir gave to Python can come back likewise:

      iex> {table, _} = Pythonx.eval("table", %{"table" => Pythonx.Table.new(a: [1, 2], b: ["x", nil])})
      iex> table |> Pythonx.table() |> Pythonx.Table.to_columns()
      %{"a" => [1, 2], "b" => ["x", nil]}

  Raises a `Pythonx.Error` for an object that offers no Arrow data, and with what its library says when reading fails.

  ## Options

    * `:copy` - with `true`, the table gets memory of its own. With `:auto`, that of pandas does: what a data frame is
      made of changes with it, and what Elixir has must not. Arrow data of other libraries does not change, with one
      exception: an array of pyarrow that was made of one of numpy has the same memory, so copy it where somebody goes
      on to write into that. With `false`, nothing is copied. Defaults to `:auto`

    * `:timeout` - how long reading may take, in milliseconds, or `:infinity`; see `call/4`. Defaults to `:infinity`
  """
  @spec table(object(), keyword()) :: Pythonx.Table.t()
  def table(object, opts \\ []) when is_object(object), do: Pythonx.Table.from_object(object, opts)

  ## asyncio

  @doc """
  Waits for a Python awaitable: a coroutine, a task, a future.

      iex> {nil, globals} = Pythonx.eval("import asyncio\\nasync def double(x):\\n  await asyncio.sleep(0)\\n  return 2 * x", %{})
      iex> globals["double"] |> Pythonx.call([21]) |> Pythonx.await(decode: true)
      42

  It runs on Python's event loop, of which there is one, on a thread of its own. No thread waits meanwhile: any number
  of processes can await something at the same time. In `eval/3` and `~PY`, `await` and `async for` may stand outside of
  functions, and run on the same loop.

  When the caller dies, or the time is over, the awaitable is cancelled as by `task.cancel()`.

  ## Options

    * `:decode` - if true, the result is decoded, as for `call/4`. Defaults to `false`

    * `:timeout` - how long to wait, in milliseconds, or `:infinity`. Then `Pythonx.TimeoutError` is raised. Defaults
      to `:infinity`
  """
  @spec await(object(), keyword()) :: term()
  def await(awaitable, opts \\ []) when is_object(awaitable), do: Pythonx.Calls.Awaits.await(awaitable, opts)

  ## Control

  @doc """
  Stops the Python code that a process runs: the process gets a `Pythonx.Error` of type `KeyboardInterrupt`.

  Returns false when the process runs none. Code that catches the exception is interrupted again until it ends.

      iex> code = "import pythonx, time; pythonx.send_tagged_object(parent, 'started', 1); time.sleep(60)"
      iex> parent = self()
      iex> pid =
      ...>   spawn(fn ->
      ...>     try do
      ...>       Pythonx.eval(code, %{"parent" => parent})
      ...>     rescue
      ...>       error in Pythonx.Error -> send(parent, List.last(error.lines))
      ...>     end
      ...>   end)
      iex> receive do {:started, _} -> Pythonx.interrupt(pid) end
      true
      iex> receive do line -> line end
      "KeyboardInterrupt\\n"
  """
  @spec interrupt(pid()) :: boolean()
  def interrupt(pid) when is_pid(pid) and node(pid) == node(), do: Pythonx.Calls.Control.interrupt(pid)

  @doc """
  What Python runs now, a list of maps:

    * `:process` - the Elixir process that waits for it

    * `:thread` - a number that tells Python's threads apart

    * `:main_thread` - whether it is Python's main thread

    * `:elapsed` - for how long it has run, in microseconds

    * `:code` - the first line of the code that is not blank, or the name of the operation

  A finalizer, of an object that Elixir has let go of, is listed once it has run for a second; its process is the one registered
  as Pythonx.Janitor. Code that waits for an Elixir function it has called is listed too. What runs in an interpreter of
  `Pythonx.Interpreter` has `:interpreter`, its name, in the place of `:thread` and `:main_thread`.

      iex> Pythonx.running()
      []
  """
  @spec running() :: [
          %{
            required(:process) => pid(),
            required(:elapsed) => non_neg_integer(),
            required(:code) => String.t(),
            optional(:thread) => non_neg_integer(),
            optional(:main_thread) => boolean(),
            optional(:interpreter) => String.t()
          }
        ]
  def running(), do: Pythonx.Calls.Control.running()

  @doc """
  Sends the records of Python's `logging`, and uncaught errors of Python's threads, to `Logger`.

  Each has Python's level, and as metadata `:file` and `:line`, `:python_logger`, `:python_function`, and `:pid` of the
  process that evaluates. Calling this again replaces what was there.

      iex> Pythonx.attach_logger(level: :warning)
      :ok
      iex> Pythonx.attach_logger(level: :none)
      :ok

  ## Options

    * `:level` - the lowest level that is sent: `:debug`, `:info`, `:warning`, `:error` or `:critical`. The Python
      logger's own level is set to it. With `:none` nothing is sent any more. Defaults to `:info`

    * `:logger` - the name of the Python logger. Defaults to the root logger, so to all of them

    * `:timeout` - as for `call/4`. Defaults to `:infinity`
  """
  @spec attach_logger(keyword()) :: :ok
  def attach_logger(opts \\ []), do: Pythonx.Integrations.Logging.attach(opts)

  ## Conversion

  @doc """
  Encodes an Elixir term as a Python object.

  The second argument is a list of options or an encoder.

      iex> Pythonx.encode!({1, true, "hello"})
      #Pythonx.Object<
        (1, True, b'hello')
      >

      iex> Pythonx.encode!(%{"name" => "Ada"}, binaries: :str)
      #Pythonx.Object<
        {'name': 'Ada'}
      >

  ## Options

    * `:binaries` - `:bytes` encodes every binary as `bytes`, `:str` every binary as `str` (one that is not UTF-8
      raises a `Pythonx.Error`). Defaults to `:bytes`

    * `:types` - with `:rich`, structs of Elixir that Python has a type for become that: `Date`, `Time`,
      `NaiveDateTime`, `DateTime`, `Duration`, `Range` and `Decimal`, see [Conversions](conversions.md#rich-types). With
      `:basic` they are structs like others. Defaults to `:basic`

    * `:timeout` - how long it may take, in milliseconds, or `:infinity`; see `call/4`. Implementations of
      `Pythonx.Encoder`, being Elixir code, are not interrupted, but what they encode is. Defaults to `:infinity`

  ## Encoder

  An encoder is a function of a term and itself. It is called for the term and, by the implementations of
  `Pythonx.Encoder` for containers, for every nested one. It may treat some terms in its own way and give the others
  to `Pythonx.Encoder.encode/2`:

      iex> encoder = fn
      ...>   term, _encoder when is_binary(term) ->
      ...>     {string, %{}} = Pythonx.eval("x.decode('utf-8')", %{"x" => term})
      ...>     string
      ...>
      ...>   term, encoder ->
      ...>     Pythonx.Encoder.encode(term, encoder)
      ...> end
      iex> Pythonx.encode!(["hello"], encoder)
      #Pythonx.Object<
        ['hello']
      >

  Raises `Protocol.UndefinedError` for a term that has no counterpart in Python.
  """
  @spec encode!(term(), encoder() | keyword()) :: Object.t()
  def encode!(term, encoder_or_opts \\ [])

  def encode!(term, encoder) when is_function(encoder, 2) do
    Telemetry.operation(:encode, fn -> encoder.(term, encoder) end)
  end

  def encode!(term, opts) when is_list(opts) do
    if opts == [] and not Options.configured?(),
      do: Telemetry.operation(:encode, fn -> Conversion.encode(term, []) end),
      else: encode_with!(term, opts)
  end

  defp encode_with!(term, opts) do
    opts = Options.validate!(opts, [:binaries, :types, :timeout])
    opts = [binaries: opts.binaries, types: opts.types, timeout: Deadline.new(opts.timeout)]
    Telemetry.operation(:encode, fn -> Conversion.encode(term, opts) end)
  end

  @doc """
  Decodes a Python object to an Elixir term.

  The numbers, strings, `bytes`, lists, tuples, dicts and sets of Python become terms, whatever they hold likewise.
  Everything else, nested or not, stays a `Pythonx.Object`.

      iex> {result, %{}} = Pythonx.eval("{'name': 'Ada', 'scores': (1, 2.5, None)}", %{})
      iex> Pythonx.decode(result)
      %{"name" => "Ada", "scores" => {1, 2.5, nil}}

  A float that Elixir has no counterpart for becomes an atom, as in Nx and Explorer:

      iex> {result, %{}} = Pythonx.eval("[float('nan'), float('inf'), float('-inf')]", %{})
      iex> Pythonx.decode(result)
      [:nan, :infinity, :neg_infinity]

  Raises `ArgumentError` for a container that holds itself, and for a dict or set of which two keys would be one in
  Elixir (`'a'` and `b'a'`).

  ## Options

    * `:types` - with `:rich`, more types of Python become terms: `datetime` and its like become `DateTime` and its
      like, a dataclass or a named tuple a map; see [Conversions](conversions.md#rich-types) and `Pythonx.Decoder`. With
      `:basic` they stay objects. Defaults to `:basic`

          iex> {result, %{}} = Pythonx.eval("import datetime; [datetime.date(2024, 5, 17), range(3)]", %{})
          iex> Pythonx.decode(result, types: :rich)
          [~D[2024-05-17], 0..2]

    * `:timeout` - how long it may take, in milliseconds, or `:infinity`; see `call/4`. Defaults to `:infinity`
  """
  @spec decode(object(), keyword()) :: term()
  def decode(object, opts \\ [])

  def decode(nil, _opts) do
    raise ArgumentError,
          "Pythonx.decode/1 expects a %Pythonx.Object{}, but got nil. " <>
            "Note that Pythonx.eval/2 or the ~PY sigil result in nil, if the evaluated code ends with a statement, " <>
            "rather than expression"
  end

  def decode(object, opts) when is_object(object) do
    if opts == [] and not Options.configured?() do
      Conversion.decode(object, :basic, :infinity)
    else
      opts = Options.validate!(opts, [:types, :timeout])
      Conversion.decode(object, opts.types, opts.timeout)
    end
  end

  ## Memory

  @doc """
  A read-only Python `memoryview` of an Elixir binary, without a copy.

      iex> view = Pythonx.memoryview("hello")
      iex> {result, _} = Pythonx.eval("bytes(view[1:3]), view.readonly", %{"view" => view})
      iex> Pythonx.decode(result)
      {"el", true}

  Whatever takes bytes in Python takes one: `numpy.frombuffer`, `hashlib`, `file.write`, `pyarrow.py_buffer`. The binary
  lives for as long as Python has the view, or anything made of it. (One of up to 64 bytes, which the VM keeps within the
  memory of a process, is copied, and so is one that begins inside of a byte of a bitstring.)

  Raises `ArgumentError` for a bitstring that is not a binary.
  """
  @spec memoryview(binary()) :: Object.t()
  def memoryview(binary) when is_binary(binary), do: NIF.memoryview(binary)

  def memoryview(bitstring) when is_bitstring(bitstring) do
    raise ArgumentError,
          "expected a binary, got a bitstring of #{bit_size(bitstring)} bits: #{inspect(bitstring)}"
  end

  @doc """
  The memory of a Python array as a binary, with its shape and type: a `Pythonx.Buffer`.

      iex> {view, _} = Pythonx.eval("memoryview(bytes(range(6))).cast('B', (2, 3))", %{})
      iex> buffer = Pythonx.buffer(view)
      iex> {buffer.data, buffer.shape, buffer.strides, buffer.type}
      {<<0, 1, 2, 3, 4, 5>>, {2, 3}, {3, 1}, {:u, 8}}

  The object is one with the buffer protocol (`bytes`, `bytearray`, `memoryview`, `array.array`, arrays of numpy), with
  `__array_interface__`, or with DLPack on a CPU (tensors of PyTorch, arrays of JAX).

  What Elixir holds never changes, so memory that Python can still change is copied. Memory that nobody can change is
  not: `bytes`, and read-only views of it. It is copied once all the same where it is not one piece, or its numbers are
  not in the byte order of the machine; `:copied` of the result says so. Less than 512 bytes are always copied.

  A binary that is not a copy keeps the object alive and locked, as Python's `memoryview` does: a `bytearray` cannot be
  resized until the binary, and every part matched out of it, is collected.

  Raises `ArgumentError` for an object without memory of this kind, and by name for elements that Elixir has no
  counterpart for, such as structures, text and Python objects.

  ## Options

    * `:copy` - with `false`, memory that Python can still change is not copied either. The binary then **changes**
      when Python writes there, which Elixir takes to be impossible: use it for memory that is written no more.
      Defaults to `true`

    * `:order` - with `:c`, an array in Fortran order is copied to C order; with `:memory`, the elements stay in the
      order in which they lie there, if they are one piece. Defaults to `:memory`

    * `:timeout` - as for `call/4`. Defaults to `:infinity`
  """
  @spec buffer(object(), keyword()) :: Pythonx.Buffer.t()
  def buffer(object, opts \\ []) when is_object(object) and is_list(opts), do: Pythonx.Buffer.export(object, opts)

  @doc """
  An `Nx.Tensor` of a Python array: of numpy, PyTorch on a CPU, JAX, anything that `buffer/2` takes.

      {array, _} = Pythonx.eval("import numpy as np; np.eye(2, dtype='f4')", %{})
      Pythonx.to_nx(array)
      #=> #Nx.Tensor<
      #=>   f32[2][2]
      #=>   [
      #=>     [1.0, 0.0],
      #=>     [0.0, 1.0]
      #=>   ]
      #=> >

  Type and shape are those of the array; `bool` becomes `u8`. Elements that are not in C order are copied into it.

  Raises `ArgumentError` for what `buffer/2` refuses, for dates, and for an array without elements, which Nx has not;
  `RuntimeError` when Nx is not there.

  ## Options

    * `:backend` - as for `Nx.from_binary/3`

    * `:copy`, `:timeout` - as for `buffer/2`
  """
  @spec to_nx(object(), keyword()) :: struct()
  def to_nx(object, opts \\ []) when is_object(object) and is_list(opts),
    do: Pythonx.Integrations.Nx.to_nx(object, opts)

  @doc """
  A Python array of an `Nx.Tensor`.

      Pythonx.from_nx(Nx.tensor([1.5, 2.5]))
      #=> #Pythonx.Object<
      #=>   array([1.5, 2.5], dtype=float32)
      #=> >

  An array of numpy is one over the binary of the tensor, without a copy, and so it is read-only; `.copy()` makes one
  that is not. `encode!/2` and everything else that encodes values does the same with tensors. Types that numpy has
  not itself (`bf16`, `f8`) need the Python package `ml_dtypes`. Vectorized axes come first, names are dropped.

  Raises `ArgumentError` for types of less than 8 bits, `Pythonx.Error` when the Python package is not there,
  `RuntimeError` when Nx is not.

  ## Options

    * `:as` - the library of which the array is to be: `:numpy`, `:torch`, `:jax` or `:tensorflow`. A tensor of PyTorch
      holds a copy, as its memory is writable. Defaults to `:numpy`
  """
  @spec from_nx(struct(), keyword()) :: Object.t()
  def from_nx(tensor, opts \\ []) when is_struct(tensor) and is_list(opts),
    do: Pythonx.Integrations.Nx.from_nx(tensor, opts)

  ## Other nodes

  @doc ~S'''
  Evaluates Python code on another node.

  `eval/3`, where `node` is: its Python runs the code, and the objects returned belong to it.

      {result, %{}} = Pythonx.remote_eval(node, "sum(numbers)", %{"numbers" => [1, 2, 3]})
      #=> {#Pythonx.Object<
      #=>    [node: worker@host]
      #=>    6
      #=>  >, %{}}

      result |> Pythonx.copy_remote_object() |> Pythonx.decode()
      #=> 6

  An object of another node can be looked at and given to `remote_eval/4` again: on its own node it is used as it is,
  on any other it is copied first, inside lists, tuples, maps and sets too. Everything else needs a copy on this node,
  see `copy_remote_object/1`.

  For as long as this node has a handle to it, the object lives, unless the connection breaks and the node cannot be
  reached again at once. That holds for handles that this function returned. Handles sent between nodes by other means
  keep nothing alive.

  The code is interrupted when the calling process dies or the connection to it is lost. When `node` cannot be
  reached, or is lost on the way, the call exits with the reason `:noconnection`.

  A Python exception is raised as `Pythonx.Error`, with remote objects in its fields; an Elixir exception on `node` is
  raised here.

  ## Options

  Those of `eval/3`. Devices default to the caller's group leader and standard error, so what the code prints is
  printed here, also by threads that outlive the evaluation. Names of devices are looked up on this node. The `:timeout`
  is that of the evaluation on `node`.
  '''
  @spec remote_eval(node(), String.t(), %{String.t() => term()}, keyword()) ::
          {Object.t() | nil, %{String.t() => Object.t()}}
  def remote_eval(node, code, globals, opts \\ [])
      when is_atom(node) and is_binary(code) and is_map(globals) and is_list(opts) do
    Pythonx.Nodes.Remote.eval(node, code, globals, opts)
  end

  @doc false
  @spec __remote_eval__(pid(), reference(), String.t(), %{String.t() => term()}, {device(), device()}, map()) :: :ok
  def __remote_eval__(caller, ref, code, globals, devices, options) do
    Pythonx.Nodes.Remote.serve(caller, ref, code, globals, devices, options)
  end

  @doc """
  Copies an object of another node to this one.

  The object is serialized there and loaded here, with [cloudpickle](https://pypi.org/project/cloudpickle/) if the
  other node's Python has it, otherwise with Python's own `pickle`, which knows fewer types: no lambdas, and no
  classes defined by evaluated code. What loading needs, such as packages, must be there on this node. An object of
  this node is returned as it is.

  The only option is `:timeout`, as for `call/4`: how long all of it may take, in milliseconds.

      iex> {result, %{}} = Pythonx.eval("[1, 2]", %{})
      iex> Pythonx.copy_remote_object(result) == result
      true

  Raises `ArgumentError` when `pickle` cannot serialize the object and for one that its node has collected,
  `RuntimeError` when another module cannot serialize it, `Pythonx.Error` when it cannot be loaded, `ErlangError` when
  the node is gone.
  """
  @spec copy_remote_object(Object.t(), keyword()) :: Object.t()
  def copy_remote_object(object, opts \\ []) when is_object(object), do: Pythonx.Nodes.Remote.copy(object, opts)

  @doc false
  @spec __dump__(Object.t(), timeout()) ::
          {:ok, binary()} | {:error, String.t() | nil, String.t()} | {:raised, Exception.t()}
  def __dump__(object, timeout \\ :infinity), do: Pythonx.Nodes.Remote.dump(object, timeout)
end
