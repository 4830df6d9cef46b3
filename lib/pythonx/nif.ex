defmodule Pythonx.NIF do
  @moduledoc false

  # The native functions, and short ones over them. `Pythonx.NIF.Job` has what every caller of a job needs.
  #
  # Two libraries make the native side. `Pythonx.NIF.Loader` opens libpython; only then can the one behind this
  # module be loaded, because its symbols are libpython's. Until then the functions here raise.

  alias Pythonx.NIF.{Job, Library}

  @not_initialized "Python interpreter has not been initialized"

  # The libraries stay open for the life of the VM. When this module is loaded again (`r Pythonx.NIF`, a code reloader,
  # an upgrade), it finds the library that is in use, which goes on with the Python that runs in it. What
  # waits for a reply does so in `Pythonx.NIF.Job`: purging this module ends the processes that run in its old code.
  @on_load :resume

  @doc """
  Loads the bridge library at `path` (without extension). libpython must be open.
  """
  @spec load(Path.t()) :: :ok | {:error, String.t()}
  def load(path) do
    with :ok <- load_library(path), do: Library.remember(__MODULE__, path)
  end

  # An error leaves the module as it was before, in use.
  defp resume() do
    # No other module may be there yet, when this one has just been compiled.
    with {_path, _identity} = library <- :persistent_term.get({Library, __MODULE__}, :ok),
         {:ok, path} <- Library.recall(__MODULE__, library),
         do: load_library(path)
  end

  # The template shows the native side how this version of Elixir shapes a MapSet.
  defp load_library(path) do
    case :erlang.load_nif(String.to_charlist(path), MapSet.new()) do
      :ok -> :ok
      {:error, {:reload, _text}} -> :ok
      {:error, {_reason, text}} -> {:error, List.to_string(text)}
    end
  end

  @doc """
  Whether Python has been started in this VM.
  """
  @spec initialized?() :: boolean()
  # A constant would let the compiler conclude that nothing after a check can ever run.
  def initialized?(), do: :persistent_term.get({__MODULE__, :initialized}, false)

  def nif_init(_executable, _home, _python_dir, _sys_paths), do: not_loaded()
  def submit_eval(_ref, _code, _file, _line, _globals, _out, _err, _relay), do: not_loaded()
  def submit_values(_ref, _code, _file, _line, _values, _how, _out, _err, _relay), do: not_loaded()
  def submit_call(_ref, _operation, _arguments), do: not_loaded()
  def submit_object(_ref, _operation, _arguments, _out, _err, _relay), do: not_loaded()
  def nif_encode(_term, _binaries_as_str, _own, _replacements), do: not_loaded()
  def nif_decode(_object), do: not_loaded()
  def nif_memoryview(_binary), do: not_loaded()
  def local_object?(_object), do: not_loaded()
  def cancel(_job, _mute), do: not_loaded()
  def interrupt(_pid), do: not_loaded()
  def begin_call(_call), do: not_loaded()
  def answer_call(_call, _answer), do: not_loaded()
  def caller_waits?(_call), do: not_loaded()
  def running(), do: not_loaded()
  def observe(_wanted), do: not_loaded()
  def become_worker(), do: not_loaded()
  def stats(), do: not_loaded()
  def table_info(_object), do: not_loaded()
  def table_new(_columns), do: not_loaded()
  def table_part(_object, _columns, _offset, _length), do: not_loaded()
  def table_column(_object, _column, _offset, _length, _options), do: not_loaded()
  def table_rows(_object, _offset, _length, _options), do: not_loaded()
  def table_binaries(_object, _column), do: not_loaded()
  def table_chunks(_object, _column), do: not_loaded()
  def table_arrays(), do: not_loaded()
  def open_interpreter(_name, _owner, _ref), do: not_loaded()
  def submit_to_interpreter(_ref, _resource, _operation, _label, _arguments, _out, _err, _relay), do: not_loaded()
  def cancel_in_interpreter(_job, _mute), do: not_loaded()
  def close_interpreter(_resource, _ref), do: not_loaded()
  def interpreter_of(_resource), do: not_loaded()
  def interrupt_in_interpreters(_pid), do: not_loaded()
  def running_in_interpreters(), do: not_loaded()
  def interpreter_stats(), do: not_loaded()

  # To the compiler, a function that may be replaced by a native one may return anything.
  defp not_loaded(), do: :erlang.nif_error(RuntimeError.exception(@not_initialized))

  @doc false
  defdelegate eval(code, place, globals, out, err, relay, deadline), to: Job
  @doc false
  defdelegate call(operation, arguments), to: Job
  @doc false
  defdelegate call(operation, arguments, deadline), to: Job
  @doc false
  defdelegate perform(operation, arguments, out, err, relay, deadline), to: Job
  @doc false
  defdelegate request(submit, deadline), to: Job
  @doc false
  defdelegate request(submit, deadline, cancel), to: Job
  @doc false
  defdelegate unobserved(reply), to: Job
  @doc false
  defdelegate raise_error!(error), to: Job

  @doc """
  The Python `repr` of an object, as an object that holds a `str`.
  """
  @spec object_repr(Pythonx.Object.t()) :: Pythonx.Object.t()
  def object_repr(object), do: call("repr", {local!(object)})

  @doc """
  The text of an object that holds a `str`.
  """
  @spec unicode_to_string(Pythonx.Object.t()) :: String.t()
  def unicode_to_string(object), do: call("unicode_to_string", {local!(object)})

  @doc """
  A Python `str` with the text of a binary.
  """
  @spec unicode_from_string(String.t()) :: Pythonx.Object.t()
  def unicode_from_string(string) when is_binary(string), do: call("unicode_from_string", {string})

  @doc """
  A `memoryview` of a binary; see `Pythonx.memoryview/1`.
  """
  @spec memoryview(binary()) :: Pythonx.Object.t()
  def memoryview(binary) when is_binary(binary) do
    case Pythonx.Pool.Home.current() == nil && nif_memoryview(binary) do
      {:ok, object} -> object
      elsewhere when elsewhere in [false, :needs_thread] -> call("memoryview", {binary})
      {:error, :not_initialized} -> not_initialized!()
      :no_memory -> raise "Python has no memory left for a memoryview"
    end
  end

  @doc """
  The names that code reads, defines and so on; see `Pythonx.AST`.
  """
  @spec scan_globals(binary()) :: {[String.t()], [String.t()], [String.t()], [String.t()], [String.t()]}
  def scan_globals(code) when is_binary(code) do
    "call_internal" |> call({"pythonx._globals", "scan_globals", {code}}) |> Pythonx.decode()
  end

  @doc """
  The object itself, or the error for one that belongs to another node or is no object at all.
  """
  @spec local!(term()) :: Pythonx.Object.t() | Pythonx.Pool.Object.t()
  def local!(%{__struct__: Pythonx.Object} = object) do
    if local_object?(object) do
      object
    else
      Pythonx.Interpreter.refuse_in_main!(object)
      stale!(object.resource)
    end
  end

  # Of a worker, which is asked.
  def local!(%{__struct__: Pythonx.Pool.Object, reference: reference} = object) do
    if is_reference(reference),
      do: object,
      else: raise(ArgumentError, "#{inspect(object)} lives in a worker of a pool, and only there it can be used")
  end

  def local!(other) do
    # Whether Python runs is the first question, whatever was given.
    _ = local_object?(other)
    raise ArgumentError, "decode failed, expected a struct, got: #{inspect(other)}"
  end

  @doc """
  Raises the error for what is in the place of a resource: one of another node, or one that has been collected.
  """
  @spec stale!(term()) :: no_return()
  def stale!(resource) do
    text = if is_reference(resource), do: :erlang.ref_to_list(resource), else: inspect(resource)
    raise ArgumentError, "decode failed, expected a resource reference, got: #{text}"
  end

  @doc """
  Raises the error for native calls without an interpreter.
  """
  @spec not_initialized!() :: no_return()
  def not_initialized!(), do: :erlang.error(RuntimeError.exception(@not_initialized))
end
