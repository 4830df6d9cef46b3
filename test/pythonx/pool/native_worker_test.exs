defmodule Pythonx.Pool.NativeWorkerTest do
  # Python in a native worker, spoken with in frames.
  use ExUnit.Case, async: true

  import Pythonx.WorkerCase

  @moduletag :capture_log

  # What an evaluation has returned, as a term.
  defp value(port, {:ok, object, globals, _relayed}) do
    assert {:ok, term} = decode(port, object)
    {term, globals}
  end

  defp error_lines({:python_error, {lines, _type, _value, _traceback}, _relayed}), do: IO.iodata_to_binary(lines)

  defp objects(port) do
    assert {:ok, {_threads, handles}} = call(port, :stats, [])
    handles
  end

  defp handle(%{resource: reference}) do
    <<131, 90, 3::16, 119, size, node::binary-size(size), creation::32, low::32, high::32, 0::32>> =
      :erlang.term_to_binary(reference)

    assert {node, creation} == {"pythonx@worker", number()}
    low + high * 0x100000000
  end

  test "evaluates, prints, fails, and knows what it has" do
    port = start_python!()
    assert {1, %{}} = value(port, eval(port, 1, "1"))
    assert {[1.5, nil, "text"], %{}} = value(port, eval(port, 2, "[1.5, None, 'text']"))

    assert {nil, %{"x" => x}} = value(port, eval(port, 3, "x = a + 1\nNone", %{"a" => 41}))
    assert decode(port, x) == {:ok, 42}

    reference = make_ref()

    send_frame(
      port,
      :submit,
      5,
      {:submit_eval, self(), [reference | evaluation(port, "print('said', end='')")]}
    )

    assert {:send, 0, {0, {_, {:io_request, _, _, {:put_chars, :unicode, "said"}}}}} =
             next(port, &match?({:send, _, _}, &1))

    assert {:send, 0, {_, {_, {^reference, {:ok, _, %{}, _}}}}} = next(port, &match?({:send, _, _}, &1))

    assert error_lines(eval(port, 6, "1/0")) =~ "ZeroDivisionError: division by zero"
    assert error_lines(eval(port, 7, "def")) =~ "SyntaxError"
    assert {:raise, :badarg} = job(port, 8, :submit_eval, [1, 2, 3, 4, 5, 6, 7])
  end

  test "an object lives until all that was lent of it is given back" do
    port = start_python!()
    assert {:ok, {:ok, object}} = call(port, :nif_encode, [{1, 2}, false, 0, []])
    serial = handle(object)
    # Lent a second time.
    assert call(port, :worker_echo, [object]) == {:ok, object}
    send_frame(port, :release, 0, [{serial, 1}])
    assert decode(port, object) == {:ok, {1, 2}}
    # More than there is, and of what nobody has, changes nothing.
    send_frame(port, :release, 0, [{serial, 1000}, {123_456, 1}])
    assert call(port, :nif_decode, [object]) == {:raise, :error, :badarg}
    assert eventually(fn -> objects(port) == 0 end)
  end

  # The worker is asked until it has done what it does by itself.
  defp eventually(fun), do: fun.() || eventually(fun)

  test "a job is cancelled by its number, and by the end of its caller" do
    port = start_python!()
    caller = spawn(fn -> Process.sleep(:infinity) end)
    loop = "import time\nwhile True: time.sleep(0.001)"
    for id <- [11, 12], do: submit(port, id, caller, loop)

    # Both are watched, as they do not end.
    assert {:monitor, 0, {first, ^caller}} = next(port, &match?({:monitor, _, _}, &1))
    assert {:monitor, 0, {_second, ^caller}} = next(port, &match?({:monitor, _, _}, &1))
    assert {:ok, running} = call(port, :running, [])
    assert for({^caller, _thread, _main, _elapsed, _label} <- running, do: :running) == [:running, :running]

    assert call(port, :cancel, [job_reference(12), true]) == {:ok, true}
    send_frame(port, :down, 0, {first})
    assert eventually(fn -> call(port, :running, []) == {:ok, []} end)
    # They have ended, and are nobody's jobs any more.
    for id <- [11, 12],
        do: assert(eventually(fn -> call(port, :cancel, [job_reference(id), true]) == {:raise, :error, :badarg} end))
  end

  defp submit(port, id, caller, code) do
    send_frame(port, :submit, id, {:submit_eval, caller, [make_ref(), code, "nofile", 1, %{}, caller, caller, caller]})
  end

  defp job_reference(id) do
    :erlang.binary_to_term(<<131, 90, 3::16, 119, 14, "pythonx@worker", number()::32, id::32, 0::32, 2::32>>)
  end

  test "a short job is watched by nobody" do
    port = start_python!()
    for id <- 1..200, do: value(port, eval(port, id, "1"))
    send_frame(port, :halt, 0, [])
    frames = Stream.repeatedly(fn -> next(port) end) |> Enum.take_while(&(&1 != :ended))
    assert for({:monitor, _, _} = frame <- frames, do: frame) == []
  end

  test "names are told, and others are asked for" do
    port = start_python!(%{told: self()})
    code = "import pythonx\npythonx.whereis(name.decode())"
    assert {:ok, object, _, _} = eval(port, 1, code, %{"name" => "told"})
    assert decode(port, object) == {:ok, self()}

    other = spawn(fn -> Process.sleep(:infinity) end)

    for {answer, result} <- [{other, other}, {:undefined, nil}] do
      reference = make_ref()

      send_frame(
        port,
        :submit,
        2,
        {:submit_eval, self(), [reference | evaluation(port, code, %{"name" => "asked"})]}
      )

      if answer == other do
        # The first time it is not even known whether there is such a name.
        assert {:ask, ask, {:atom, "asked"}} = next(port, &match?({:ask, _, _}, &1))
        send_frame(port, :answer, ask, true)
      end

      assert {:ask, ask, {:whereis, :asked}} = next(port, &match?({:ask, _, _}, &1))
      send_frame(port, :answer, ask, answer)
      # What is no name may be one of a module.
      reply = next(port, &(match?({:ask, _, _}, &1) or match?({:send, _, {_, {_, {^reference, _}}}}, &1)))
      assert value(port, last_reply(port, reply, reference)) |> elem(0) == result
    end

    send_frame(port, :names, 0, %{asked: self()})
    assert {:ok, object, _, _} = eval(port, 3, code, %{"name" => "asked"})
    assert decode(port, object) == {:ok, self()}
  end

  defp last_reply(port, {:ask, ask, _what}, reference) do
    send_frame(port, :answer, ask, false)
    last_reply(port, next(port, &match?({:send, _, {_, {_, {^reference, _}}}}, &1)), reference)
  end

  defp last_reply(_port, {:send, _, {_, {_, {_, reply}}}}, _reference), do: reply

  test "Python calls a function of the VM, which this process answers" do
    port = start_python!(%{Pythonx.Calls.Callbacks => self()})
    function = :erlang.binary_to_term(<<131, 90, 3::16, 119, 16, "pythonx@function", 1::32, 9::32, 0::32, 0::32>>)
    reference = make_ref()
    [code, file, line, globals | devices] = evaluation(port, "f(20) + 1", %{"f" => function})
    send_frame(port, :submit, 1, {:submit_eval, self(), [reference, code, file, line, globals | devices]})

    assert {:send, 0, {lent, {_, {:pythonx_call, _id, call, caller, _device, _tied}}}} =
             next(port, &match?({:send, _, {_, {_, message}}} when elem(message, 0) == :pythonx_call, &1))

    assert lent > 0 and caller == self()
    assert {:ok, begun} = call(port, :begin_call, [call])
    assert inspect(begun) =~ "20"
    assert call(port, :answer_call, [call, {:ok, 41}]) |> elem(0) == :ok

    assert {:send, 0, {_, {_, {^reference, {:ok, object, %{}, _}}}}} =
             next(port, &match?({:send, _, {_, {_, {^reference, _}}}}, &1))

    assert decode(port, object) == {:ok, 42}
  end

  test "a function that Python has let go of is given back" do
    port = start_python!()

    object =
      encode(port, :erlang.binary_to_term(<<131, 90, 3::16, 119, 16, "pythonx@function", 1::32, 9::32, 0::32, 0::32>>))

    send_frame(port, :release, 0, [{handle(object), 1}])
    assert {:dropped, 0, [9 | _]} = next(port, &match?({:dropped, _, _}, &1))
  end

  @tag :tmp_dir
  test "halt runs what Python has for its end, and then the process ends", %{tmp_dir: dir} do
    port = start_python!()
    path = Path.join(dir, "ended")
    code = "import atexit\natexit.register(lambda: open(path, 'w').write('done'))\nNone"
    assert {nil, _} = value(port, eval(port, 1, code, %{"path" => path}))
    send_frame(port, :halt, 0, [])
    assert :ended = next(port, &(&1 == :ended))
    assert {status(port), File.read(path)} == {0, {:ok, "done"}}
  end

  test "a child that Python forks says nothing" do
    port = start_python!()

    code = """
    import os, pythonx
    child = os.fork()
    if child == 0:
        try:
            print("from the child", flush=True)
            pythonx.send(pythonx.self(), "from the child")
        except BaseException:
            pass
        os._exit(7)
    os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    """

    assert {7, _} = value(port, eval(port, 1, code))
    assert {1, %{}} = value(port, eval(port, 2, "1"))
  end

  test "a large term goes both ways" do
    port = start_python!()
    binary = :crypto.strong_rand_bytes(5_000_000)
    list = Enum.to_list(1..200_000)

    assert {:ok, object, _, _} =
             eval(port, 1, "{'list': [n + 1 for n in l], 'binary': b + b'x'}", %{"l" => list, "b" => binary})

    assert {:ok, decoded} = decode(port, object)
    assert decoded == %{"list" => Enum.to_list(2..200_001), "binary" => binary <> "x"}
  end

  test "the limit of memory is one, and it is told when it is near" do
    port = start_python!()
    assert {:ok, used} = call(port, :worker_memory, [])
    assert is_integer(used)

    code = """
    kept = []
    try:
        while len(kept) < 1000:
            kept.append(bytearray(50_000_000))
    except MemoryError:
        pass
    len(kept)
    """

    if call(port, :worker_limit, [200_000_000]) == {:ok, true} do
      reference = make_ref()
      send_frame(port, :submit, 1, {:submit_eval, self(), [reference | evaluation(port, code)]})
      reply? = &match?({:send, _, {_, {_, {^reference, _}}}}, &1)
      # Before the reply, so that nobody else is given this worker.
      assert {:spent, 0, []} = next(port, &(match?({:spent, _, _}, &1) or reply?.(&1)))
      assert {:send, 0, {_, {_, {^reference, reply}}}} = next(port, reply?)
      assert {count, %{"kept" => _}} = value(port, reply)
      assert count < 1000
      # Once.
      assert {1, %{}} = value(port, eval(port, 2, "1"))
    end
  end
end
