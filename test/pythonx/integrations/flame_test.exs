defmodule Pythonx.Integrations.FlameTest do
  use Pythonx.Case

  import Pythonx.Peers

  alias FLAME.Trackable.Pythonx.Object, as: Implementation

  describe "FLAME.Trackable (a double of FLAME's protocol)" do
    test "is implemented for objects" do
      object = Pythonx.encode!(1)
      assert FLAME.Trackable.impl_for(object) == Implementation
      assert Implementation.__impl__(:for) == Pythonx.Object
      assert Implementation.__impl__(:protocol) == FLAME.Trackable
      assert Implementation.__impl__(:target) == Implementation
    end

    test "leaves local objects alone" do
      object = Pythonx.encode!(1)
      assert FLAME.Trackable.track(object, [self()], node()) == {object, [self()]}
    end

    test "tracks remote objects, with a process that lives for as long as one of them" do
      {_peer, node} = start!()
      {one, first} = hold!(node, node, "[1]")
      {two, second} = hold!(node, node, "[2]")

      marker =
        in_process(fn ->
          {[one, 5, [two]], pids} = FLAME.Trackable.track([one, 5, [two]], [], node)
          assert [marker, marker] = pids
          assert node(marker) == node
          for holder <- [first, second], do: send(holder, :let_go)
          assert FLAME.Trackable.track(one, [], node) == {one, []}

          # The one that is collected first ends nothing.
          in_process(fn -> {nil, FLAME.Trackable.track(two, [], node)} end)
          assert inspect(two) =~ "[2]"
          assert :erpc.call(node, Process, :alive?, [marker])
          {marker, [one, two]}
        end)

      monitor = Process.monitor(marker)
      assert_receive {:DOWN, ^monitor, :process, ^marker, _reason}
      wait_until(fn -> handles(node) == 0 end)
    end
  end

  describe "consolidation" do
    test "finds the implementation among compiled modules" do
      ebin = :pythonx |> Application.app_dir("ebin") |> to_charlist()
      assert Pythonx.Object in Protocol.extract_impls(FLAME.Trackable, [ebin])
    end

    # Both orders in which Mix may compile FLAME and Pythonx. What stands for the two are projects with just the
    # protocol, and with just the implementation and the struct.
    for order <- [[:flame, :pythonx], [:pythonx, :flame]] do
      @tag :tmp_dir
      test "finds it in a project that compiles #{Enum.join(order, " before ")}", %{tmp_dir: dir} do
        project!(dir, :flame, "protocol.ex", File.read!("test/support/flame_trackable.ex"))
        ours = Enum.map_join(~w(implementation flame), "\n", &File.read!("lib/pythonx/integrations/#{&1}.ex"))
        project!(dir, :pythonx, "flame.ex", ours)
        File.write!(Path.join(dir, "pythonx/lib/object.ex"), "defmodule Pythonx.Object, do: defstruct [:resource]")
        deps = for app <- unquote(order), do: {app, [path: Path.join(dir, to_string(app))]}
        main = project!(dir, :main, "main.ex", "defmodule Main, do: nil", deps)

        code =
          "IO.inspect({Protocol.consolidated?(FLAME.Trackable), FLAME.Trackable.impl_for(struct!(Pythonx.Object))})"

        env = [{"MIX_ENV", "dev"}, {"MIX_BUILD_PATH", nil}]
        compile = Enum.flat_map(unquote(order), &["deps.compile", to_string(&1), "+"])
        arguments = ["do" | compile] ++ ["run", "-e", code]
        {output, 0} = System.cmd("mix", arguments, cd: main, env: env, stderr_to_stdout: true)
        assert output =~ "{true, FLAME.Trackable.Pythonx.Object}\n"
        compiled = Regex.scan(~r/==> (flame|pythonx)/, output, capture: :all_but_first) |> Enum.concat() |> Enum.uniq()
        assert compiled == unquote(Enum.map(order, &to_string/1))
      end
    end
  end

  defp project!(dir, app, file, source, deps \\ []) do
    root = Path.join(dir, to_string(app))
    File.mkdir_p!(Path.join(root, "lib"))
    File.write!(Path.join([root, "lib", file]), source)
    module = app |> to_string() |> Macro.camelize()

    File.write!(Path.join(root, "mix.exs"), """
    defmodule #{module}.MixProject do
      use Mix.Project
      def project, do: [app: #{inspect(app)}, version: "0.4.11", deps: #{inspect(deps)}]
    end
    """)

    root
  end
end
