defmodule Pythonx.Calls.StreamsTest do
  use Pythonx.Case, async: false

  defp object(code, globals \\ %{}), do: code |> Pythonx.eval(globals) |> elem(0)

  # A generator function `make` whose end is told to the test.
  defp generator(body) do
    indented = body |> String.split("\n") |> Enum.map_join("\n", &("        " <> &1))

    code = """
    import pythonx, time, itertools
    def make():
        try:
    #{indented}
        finally:
            pythonx.send(test, pythonx.Atom('closed'))
    make()
    """

    object(code, %{"test" => self()})
  end

  describe "a handle" do
    test "is enumerable, whatever iterable it is" do
      assert Enum.to_list(Pythonx.encode!([1, "a", nil])) == [1, "a", nil]
      assert Enum.sort(object("{'a': 1, 'b': 2}")) == ["a", "b"]
      assert Enum.to_list(object("range(5)")) == [0, 1, 2, 3, 4]
      assert Enum.to_list(object("'abc'")) == ["a", "b", "c"]
      assert Enum.count(object("(n for n in range(100_000))")) == 100_000
      assert 7 in object("range(10)")
      assert Enum.at(object("range(10)"), 3) == 3
      assert Enum.to_list(object("iter(())")) == []
      assert [%Pythonx.Object{}] = Enum.to_list(object("[object()]"))

      error = assert_raise Pythonx.Error, fn -> Enum.to_list(Pythonx.encode!(1)) end
      assert List.last(error.lines) == "TypeError: 'int' object is not iterable\n"
    end
  end

  describe "a stream" do
    test "is lazy, and of objects when asked to" do
      stream = Pythonx.stream(generator("yield 1"), decode: false)
      refute_received :closed
      assert [%Pythonx.Object{} = one] = Enum.to_list(stream)
      assert Pythonx.decode(one) == 1
      assert_received :closed
    end

    test "may be infinite, and closes its generator when it is left" do
      assert Enum.take(Pythonx.stream(generator("yield from itertools.count()")), 1000) == Enum.to_list(0..999)
      assert_received :closed

      assert_raise RuntimeError, "left", fn ->
        Enum.each(generator("yield from itertools.count()"), fn _ -> raise "left" end)
      end

      assert_received :closed
    end

    test "leaves open what is no generator" do
      file = object("import io; io.StringIO('a\\nb\\nc\\n')")
      assert Enum.take(file, 1) == ["a\n"]
      assert Pythonx.getattr(file, :closed, decode: true) == false
    end

    test "shows the elements of a slow generator as they are made" do
      # Each element is made only when the one before it has arrived: a batch that waits for more would never end.
      code = "for n in range(4):\n    yield n\n    time.sleep(0.02)\n    while pythonx.seen < n: time.sleep(0.001)"
      module = Pythonx.import_module("pythonx")
      Pythonx.setattr(module, :seen, -1)
      elements = Stream.each(generator(code), &Pythonx.setattr(module, :seen, &1))
      assert Enum.to_list(elements) == [0, 1, 2, 3]
    end

    test "reads many elements with each job" do
      # Each job is an evaluation of its own. How many elements one reads depends on how fast the machine is.
      code = """
      import _pythonx
      def make():
          jobs, last = 0, None
          for _ in range(100_000):
              job = _pythonx.current_evaluation()
              jobs += job is not last
              last = job
              yield jobs
      make()
      """

      assert [1 | _] = jobs = code |> object() |> Pythonx.stream() |> Enum.to_list()
      assert length(jobs) == 100_000
      assert List.last(jobs) < 10_000
    end

    test "raises what Python raises in its place" do
      {:ok, seen} = Agent.start_link(fn -> [] end)
      numbers = generator("yield from range(5)\nraise KeyError('end')")

      error =
        assert_raise Pythonx.Error, fn -> Enum.each(numbers, fn n -> Agent.update(seen, &[n | &1]) end) end

      assert List.last(error.lines) == "KeyError: 'end'\n"
      assert Enum.at(error.lines, 1) =~ ~s(File "<string>", line 5, in make)
      assert Agent.get(seen, &Enum.reverse/1) == [0, 1, 2, 3, 4]
      assert_received :closed
    end

    test "refuses an element that cannot be decoded in its place" do
      numbers = object("[1, 2, (lambda x: x.append(x) or x)([]), 4]")
      test = self()
      message = "[0]: cannot decode a list that contains itself"
      assert_raise ArgumentError, message, fn -> Enum.each(numbers, &send(test, {:seen, &1})) end
      assert_received {:seen, 1}
      assert_received {:seen, 2}
      refute_received {:seen, _}
    end

    test "stops when its time is over" do
      # Where its time is over before the generator has begun, nothing is closed.
      assert Enum.find(1..20, &begins_and_stops?(50 * &1))
      assert_receive :closed
      wait_until(fn -> Pythonx.running() == [] end)
    end

    defp begins_and_stops?(timeout) do
      await_main_thread()
      numbers = generator("yield 1\ntime.sleep(600)")
      stream = Pythonx.stream(numbers, timeout: timeout)
      test = self()
      assert_raise Pythonx.TimeoutError, fn -> Enum.each(stream, &send(test, {:began, &1})) end
      receive do: ({:began, 1} -> true), after: (0 -> false)
    end

    test "stops while its generator runs on another thread" do
      # With the main thread taken, the generator sleeps where no interrupt reaches it until it wakes.
      test = self()

      f = fn ->
        send(test, {:holding, self()})
        receive(do: (:go -> nil))
      end

      holder = Task.async(fn -> eval!("f()", %{"f" => f}) end)
      assert_receive {:holding, handler}

      reader =
        Task.async(fn ->
          {numbers, _} = Pythonx.eval("import time\ndef make():\n  yield 1\n  time.sleep(0.5)\nmake()", %{})
          assert_raise Pythonx.TimeoutError, fn -> Enum.to_list(Pythonx.stream(numbers, timeout: 50)) end
        end)

      assert Task.await(reader, patience()).timeout == 50
      send(handler, :go)
      assert Task.await(holder, patience()) == nil
      wait_until(fn -> Pythonx.running() == [] end)
    end

    test "passes through Elixir and back" do
      doubled = object("range(1000)") |> Stream.map(&(&1 * 2)) |> Pythonx.iterator()
      assert eval!("sum(xs)", %{"xs" => doubled}) == 999_000
    end

    test "checks its options" do
      assert_raise ArgumentError, ~r/^unknown keys \[:size\]/, fn -> Pythonx.stream(object("[]"), size: 1) end
      message = "expected :decode to be a boolean, got: nil"
      assert_raise ArgumentError, message, fn -> Pythonx.stream(object("[]"), decode: nil) end
    end
  end

  describe "an iterator" do
    test "gives the elements in order, once" do
      iterator = Pythonx.iterator([1, "two", {3}])
      assert eval!("(list(xs), list(xs), iter(xs) is xs)", %{"xs" => iterator}) == {[1, "two", {3}], [], true}
      assert eval!("list(xs)", %{"xs" => Pythonx.iterator([])}) == []
      assert eval!("sum(xs)", %{"xs" => Pythonx.iterator(1..100_000)}) == 5_000_050_000
      assert eval!("list(xs)", %{"xs" => Pythonx.iterator(%{a: 1})}) == [{"a", 1}]
    end

    test "reads no more than it is asked for" do
      test = self()
      enumerable = Stream.each(Stream.iterate(1, &(&1 + 1)), &send(test, {:made, &1}))
      iterator = Pythonx.iterator(enumerable)
      refute_received {:made, _}
      assert eval!("[next(xs), next(xs), next(xs)]", %{"xs" => iterator}) == [1, 2, 3]
      for n <- 1..3, do: assert_received({:made, ^n})
      refute_received {:made, _}
    end

    test "raises what the enumerable raises, in its place" do
      enumerable = Stream.map(1..5, fn n -> if n == 4, do: raise(ArgumentError, "four"), else: n end)

      code = """
      import pythonx
      seen = []
      try:
          for x in xs: seen.append(x)
      except pythonx.ElixirError as error:
          seen.append(str(error))
      seen
      """

      assert eval!(code, %{"xs" => Pythonx.iterator(enumerable)}) == [1, 2, 3, "(ArgumentError) four"]
      assert_raise ArgumentError, "four", fn -> eval!("list(xs)", %{"xs" => Pythonx.iterator(enumerable)}) end
    end

    for {how, close?} <- [{"drops", false}, {"closes", true}] do
      test "that Python #{how} ends the enumerable" do
        test = self()

        start = fn ->
          send(test, {:producer, self()})
          1
        end

        enumerable = Stream.resource(start, fn n -> {[n], n + 1} end, fn _ -> send(test, :closed) end)

        # The handles go with the process that has them.
        {_pid, monitor_of_owner} =
          spawn_monitor(fn ->
            iterator = Pythonx.iterator(enumerable)
            Pythonx.eval("next(xs)", %{"xs" => iterator})
            if unquote(close?), do: Pythonx.call_method(iterator, :close)
          end)

        assert_receive {:DOWN, ^monitor_of_owner, :process, _owner, :normal}
        # sys.modules['__main__'] is the namespace of the latest evaluation.
        assert eval!("1") == 1
        collect_free_threaded()
        assert_receive {:producer, producer}
        monitor = Process.monitor(producer)
        assert_receive :closed
        assert_receive {:DOWN, ^monitor, :process, ^producer, reason} when reason in [:normal, :noproc]
      end
    end

    test "may be shared by threads" do
      code = """
      from concurrent.futures import ThreadPoolExecutor
      with ThreadPoolExecutor(4) as executor:
          parts = list(executor.map(lambda _: list(xs), range(4)))
      sorted(sum(parts, []))
      """

      for _ <- 1..10, do: assert(eval!(code, %{"xs" => Pythonx.iterator(1..2000)}) == Enum.to_list(1..2000))
    end

    test "is read in a process with the caller in $callers" do
      test = self()
      enumerable = Stream.map([1], fn _ -> hd(Process.get(:"$callers")) end)
      assert eval!("next(xs)", %{"xs" => Pythonx.iterator(enumerable)}) == test
    end
  end
end
