defmodule Pythonx.TypedFunctions do
  @moduledoc false
  # The native functions of test/support/typed_functions.cpp.

  def load!(path), do: :ok = :erlang.load_nif(String.to_charlist(path), 0)

  for {name, arity} <- [
        term: 1,
        boolean: 1,
        integer: 1,
        wide: 1,
        real: 1,
        text: 1,
        view: 1,
        binary: 1,
        pid: 1,
        optional: 1,
        strings: 1,
        tuple: 1,
        color: 1,
        nothing: 0,
        env_first: 2,
        either: 1,
        new_counter: 1,
        is_counter: 1,
        collected: 0,
        bad_argument: 1,
        bad_alloc: 0,
        length_error: 0,
        runtime_error: 0,
        unknown: 0
      ] do
    arguments = List.duplicate(Macro.var(:_, nil), arity)
    def unquote(name)(unquote_splicing(arguments)), do: :erlang.nif_error(:not_loaded)
  end
end

defmodule Pythonx.NIF.TypedTest do
  use ExUnit.Case, async: true
  use Pythonx.Case

  alias Pythonx.Boot.Bridge.Headers
  alias Pythonx.NIF
  alias Pythonx.TypedFunctions, as: F

  setup_all do
    dir = Path.join(System.tmp_dir!(), "pythonx_typed_#{System.unique_integer([:positive])}_#{System.pid()}")
    File.mkdir_p!(dir)
    on_exit(fn -> File.rm_rf!(dir) end)

    # CXX may be a program with arguments. CXXFLAGS and LDFLAGS are those of scripts/sanitize.
    command = """
    ${CXX:-c++} -std=c++17 -Wall -Wextra -fPIC -shared $CXXFLAGS $LDFLAGS -I c_src/bridge -isystem "$ERL_INCLUDE" \
      -o "$OUT" test/support/typed_functions.cpp c_src/bridge/vm/*.cpp
    """

    env = [{"ERL_INCLUDE", Headers.erlang!()}, {"OUT", Path.join(dir, "typed.so")}]
    assert {"", 0} = System.cmd("sh", ["-c", command], env: env, stderr_to_stdout: true)
    F.load!(Path.join(dir, "typed"))
  end

  defp refuses(fun, values) do
    for value <- values do
      assert_raise ArgumentError, fn -> apply(F, fun, [value]) end
    end
  end

  describe "arguments and results" do
    test "any term" do
      for term <- [nil, 1, {self(), "x"}], do: assert(F.term(term) == term)
    end

    test "booleans" do
      assert F.boolean(true) == true
      assert F.boolean(false) == false
      refuses(:boolean, [nil, 1, "true", :other])
    end

    test "integers, up to what the type holds" do
      for number <- [0, -1, 2_147_483_647, -2_147_483_648], do: assert(F.integer(number) == number)
      refuses(:integer, [2_147_483_648, -2_147_483_649, 1.0, "1", nil])
      for number <- [9_223_372_036_854_775_807, -9_223_372_036_854_775_808], do: assert(F.wide(number) == number)
      refuses(:wide, [9_223_372_036_854_775_808, Integer.pow(10, 100)])
    end

    test "floats" do
      assert F.real(1.5) == 1.5
      refuses(:real, [1, nil, "1.5"])
    end

    test "binaries" do
      large = String.duplicate("ż", 1000)

      for fun <- [:text, :view, :binary], text <- ["", "zażółć\0", large, <<255>>] do
        assert apply(F, fun, [text]) == text
      end

      for fun <- [:text, :view, :binary], do: refuses(fun, [nil, :atom, ~c"list", <<1::3>>, ["io"]])
    end

    test "processes" do
      assert F.pid(self()) == self()
      refuses(:pid, [nil, :name, make_ref()])
    end

    test "what may be nil" do
      for value <- [nil, true, false], do: assert(F.optional(value) == value)
      refuses(:optional, [:other, 1])
    end

    test "lists" do
      assert F.strings([]) == []
      assert F.strings(["a", "b"]) == ["a", "b"]
      refuses(:strings, [nil, [1], ["a" | "b"], {"a"}, ["a", nil]])
    end

    test "tuples" do
      assert F.tuple({true, 1}) == {true, 1}
      refuses(:tuple, [{true}, {true, 1, 2}, {1, true}, [true, 1], nil])
    end

    test "atoms of an enumeration" do
      assert F.color(:ok) == :ok
      assert F.color(:error) == :error
      refuses(:color, [:blue, nil, "ok"])
    end

    test "no result is :ok, and one of several kinds is itself" do
      assert F.nothing() == :ok
      assert F.env_first(1, 2) == {1, 2}
      assert F.either(true) == {:ok, 1}
      assert F.either(false) == {:error, "no"}
    end
  end

  describe "exceptions" do
    test "an argument may be refused later" do
      assert_raise ArgumentError, fn -> F.bad_argument(true) end
    end

    test "what there is no memory for is :enomem" do
      for fun <- [:bad_alloc, :length_error] do
        assert_raise ErlangError, "Erlang error: :enomem", fn -> apply(F, fun, []) end
      end
    end

    test "any other is an error with its text" do
      assert_raise RuntimeError, "zażółć", fn -> F.runtime_error() end
      assert_raise RuntimeError, "native code threw something that is no std::exception", fn -> F.unknown() end
    end
  end

  # Every callback of these resources throws.
  test "nothing leaves the callbacks of a resource" do
    Process.register(self(), :typed_test)
    watched = spawn(fn -> receive(do: (:end -> :ok)) end)

    owner =
      spawn(fn ->
        counter = F.new_counter(watched)
        true = F.is_counter(counter)
        send(watched, :end)
        receive(do: (:end -> counter))
      end)

    assert_receive :down, 5000
    send(owner, :end)
    wait_until(fn -> F.collected() == 1 end)
    assert_raise ArgumentError, fn -> F.is_counter(make_ref()) end
  end

  describe "the bridge's own functions" do
    test "have in C++ the arities that they have in Elixir" do
      # Otherwise the library would not have been loaded; a function that is not native would raise.
      assert is_boolean(NIF.local_object?(nil))
    end

    test "refuse arguments that are of another type" do
      ref = make_ref()

      for {fun, arguments} <- [
            submit_eval: [ref, :code, "file", 1, %{}, self(), self(), self()],
            submit_eval: [ref, "1", nil, 1, %{}, self(), self(), self()],
            submit_eval: [ref, "1", "file", 1.5, %{}, self(), self(), self()],
            submit_eval: [ref, "1", "file", Integer.pow(2, 64), %{}, self(), self(), self()],
            submit_call: [ref, :repr, {}],
            submit_call: [ref, "no such operation", {}],
            submit_object: [ref, :no_such_operation, {}, self(), self(), self()],
            nif_encode: [1, nil, 0, []],
            nif_encode: [1, false, nil, []],
            nif_encode: [1, false, 0, :none],
            nif_encode: [1, false, 0, [%Pythonx.Object{resource: ref}]],
            nif_memoryview: [<<1::3>>],
            cancel: [ref, true],
            interrupt: [:name],
            begin_call: [ref],
            answer_call: [nil, {:ok, 1}],
            caller_waits?: [ref],
            observe: [1],
            table_new: [[{"a", nil, {:columns, []}}]],
            table_new: [[{:a, nil, {:rows, []}}]],
            table_new: [[{"a", nil}]],
            table_new: [:none],
            open_interpreter: [:name, nil, ref],
            open_interpreter: ["name", :owner, ref],
            cancel_in_interpreter: [ref, true],
            interrupt_in_interpreters: [nil]
          ] do
        assert_raise ArgumentError, fn -> apply(NIF, fun, arguments) end
      end

      assert NIF.nif_decode(ref) == :error
      assert NIF.table_info(ref) == :error
      assert NIF.close_interpreter(ref, ref) == {:error, :not_local}
    end

    test "refuse rows and columns that a table has not" do
      table = Pythonx.Table.new(a: [1, 2, 3]).object

      for {fun, arguments} <- [
            table_column: [table, 1, 0, 3, {false, false, false}],
            table_column: [table, -1, 0, 3, {false, false, false}],
            table_column: [table, 0, 0, 4, {false, false, false}],
            table_column: [table, 0, -1, 1, {false, false, false}],
            table_column: [table, 0, 1, 9_223_372_036_854_775_807, {false, false, false}],
            table_column: [table, 0, 0, 3, {false, false}],
            table_column: [Pythonx.encode!(1), 0, 0, 3, {false, false, false}],
            table_rows: [table, 2, 2, {false, false, false}],
            table_part: [table, [0, 1], 0, 3],
            table_part: [table, [0], 0, 4],
            table_binaries: [table, 1],
            table_chunks: [table, 1]
          ] do
        assert_raise ArgumentError, fn -> apply(NIF, fun, arguments) end
      end
    end
  end

  # In a VM of its own, which gets no more memory than it has. The first is a native function, the others run on threads of the
  # bridge, the last one below CPython.
  @sanitized System.get_env("LD_PRELOAD", "") =~ "libasan" && "the sanitizer itself takes more address space than that"
  @old Pythonx.Case.python_minor() < 12 && "one of the places is an interpreter with a GIL of its own: from 3.12 on"
  @tag skip: @sanitized || @old
  test "what there is no memory for is an error, wherever it was wanted, and all goes on" do
    code = ~S'''
    Application.ensure_all_started(:pythonx)

    python = """
    import resource

    def limit(spare):
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + spare, resource.RLIM_INFINITY))
    """

    {_, %{"limit" => limit}} = Pythonx.eval(python, %{})
    column = fn -> Pythonx.Table.new(%{a: List.duplicate(nil, 100)}, types: %{a: {:fixed_size_binary, 5_000_000}}) end
    table = column.()
    interpreter = Pythonx.Interpreter.create()
    {_, text} = Pythonx.Interpreter.eval(interpreter, "text = 'x' * 200_000_000", %{})
    Pythonx.call(limit, [64 * 1024 * 1024])

    print = fn -> Pythonx.Interpreter.eval(interpreter, "print(text, end='')", text) end

    for fun <- [column, fn -> Pythonx.Table.from_object(table.object, copy: true) end, print] do
      try do
        fun.()
      rescue
        error in ErlangError -> IO.inspect(error.original)
        error in Pythonx.Error -> error.lines |> List.last() |> IO.write()
      end
    end

    {two, _} = Pythonx.eval("1 + 1", %{})
    IO.inspect(Pythonx.decode(two))
    '''

    args = ["-pa", Application.app_dir(:pythonx, "ebin"), "-e", code]
    result = System.cmd("elixir", args, env: Map.to_list(Pythonx.install_env()))
    # Which side of the copy finds none depends on how the memory that is left lies.
    assert result in for(copy <- [":enomem", "MemoryError"], do: {":enomem\n#{copy}\nMemoryError\n2\n", 0})
  end
end
