defmodule Pythonx.KinoPythonxTest do
  # Tables and figures as kino_pythonx shows them, with real pandas, polars and matplotlib. They have an environment of their
  # own, hence a VM of their own.
  use ExUnit.Case, async: false

  import Pythonx.Case, only: [eval!: 1]
  import Pythonx.NativeCase, only: [start_vm!: 0]

  alias Pythonx.KinoPythonxDouble

  # The first run downloads packages of some 150 MB.
  @moduletag timeout: 1_200_000
  # There are no wheels of some of them for free-threaded Pythons.
  @moduletag :arrow
  @moduletag :pinned_packages
  @timeout 900_000

  @classes [
    {"matplotlib.figure", "Figure"},
    {"pandas", "DataFrame"},
    {"pandas", "Series"},
    {"polars", "DataFrame"},
    {"polars", "Series"},
    {"seaborn", "Grid"}
  ]

  setup_all do
    vm = start_vm!()
    {:ok, _started} = :peer.call(vm, :application, :ensure_all_started, [:pythonx], @timeout)
    # The Python of the suite, for which there is a bridge.
    python = "3.#{eval!("import sys; sys.version_info.minor")}"
    init = [Pythonx, :uv_init, [:data_science, [python: python]]]
    assert :peer.call(vm, Pythonx.UvCase, :call_quietly, init, @timeout) == :ok
    assert ask(vm, :call, ["import os\nos.environ['MPLBACKEND'] = 'Agg'\n'set'", %{}]) == "set"
    %{vm: vm}
  end

  defp ask(vm, function, args), do: :peer.call(vm, KinoPythonxDouble, function, args, @timeout)

  # Keeps a value in the other VM and returns the call of the double's functions on it.
  defp keep(vm, code) do
    name = make_ref()
    ask(vm, :keep, [name, code])
    fn function, args -> ask(vm, function, [name | args]) end
  end

  test "a value is told by its class, without importing anything", %{vm: vm} do
    for {code, expected} <- [
          {"import pandas as pd\npd.DataFrame({'a': [1]})", {"renderer", 1}},
          {"import pandas as pd\npd.Series([1])", {"renderer", 2}},
          {"import polars as pl\npl.DataFrame({'a': [1]})", {"renderer", 3}},
          {"import polars as pl\npl.Series([1])", {"renderer", 4}},
          {"import matplotlib.pyplot as plt\nplt.figure()", {"renderer", 0}},
          {"{'a': 1}", nil}
        ] do
      assert keep(vm, code).(:renderer, [@classes]) == expected
    end
  end

  test "a figure is an image", %{vm: vm} do
    figure =
      keep(vm, """
      import matplotlib.pyplot as plt

      figure, axes = plt.subplots(figsize=(4, 3), dpi=50)
      axes.plot([1, 2, 3], [1, 4, 9])
      figure
      """)

    assert {"image", "png", <<0x89, "PNG\r\n", 0x1A, "\n", _length::32, "IHDR", 200::32, 150::32, _rest::binary>>} =
             figure.(:image, [])

    # What Livebook does after each cell.
    code =
      "import matplotlib.pyplot as plt\nbefore = len(plt.get_fignums())\nplt.close('all')\n(before > 0, plt.get_fignums())"

    assert ask(vm, :call, [code, %{}]) == {true, []}
  end

  test "a table of pandas, whole and in parts", %{vm: vm} do
    table =
      keep(vm, """
      import pandas as pd

      pd.DataFrame({
          "name": ["Ada", None, "Żółw", "Bob"],
          "score": [1.5, float("nan"), float("inf"), 2.0],
          "count": [1, 2, 3, 4],
          "at": pd.to_datetime(["2024-01-31", "2024-02-29", None, "2024-03-31"]),
          7: [True, False, True, False],
      })
      """)

    assert table.(:table, [0, 2]) ==
             {["name", "score", "count", "at", "7"], [0, 1, 2, 3, 4], 4,
              [
                ["Ada", nil],
                [1.5, :nan],
                [1, 2],
                [{:str, "2024-01-31 00:00:00"}, {:str, "2024-02-29 00:00:00"}],
                [true, false]
              ]}

    assert {_names, _indices, 4, [["Żółw", "Bob"], [:infinity, 2.0], [3, 4], [{:str, "NaT"}, _at], [true, false]]} =
             table.(:table, [2, 10])

    assert {_names, _indices, 4, [[], [], [], [], []]} = table.(:table, [4, 10])
  end

  test "a table of polars, whole and in parts", %{vm: vm} do
    table =
      keep(vm, """
      import datetime
      import decimal
      import polars as pl

      pl.DataFrame({
          "name": ["Ada", None, "Żółw"],
          "score": [1.5, float("nan"), None],
          "tags": [["a", "b"], [], None],
          "day": [datetime.date(2024, 1, 31), None, datetime.date(2024, 3, 1)],
          "price": [decimal.Decimal("1.20"), decimal.Decimal("3.00"), None],
      })
      """)

    assert table.(:table, [0, 2]) ==
             {["name", "score", "tags", "day", "price"], [0, 1, 2, 3, 4], 3,
              [
                ["Ada", nil],
                [1.5, :nan],
                [["a", "b"], []],
                [{:str, "2024-01-31"}, nil],
                [{:str, "1.20"}, {:str, "3.00"}]
              ]}

    assert {_names, _indices, 3, [["Żółw"], [nil], [nil], [{:str, "2024-03-01"}], [nil]]} = table.(:table, [2, 5])
  end

  test "the three work on the same data in one interpreter, from several processes at once", %{vm: vm} do
    code = """
    import matplotlib
    import pandas as pd
    import polars as pl

    frame = pl.from_pandas(pd.DataFrame({"x": range(n), "y": [i * i for i in range(n)]}))
    grouped = frame.with_columns(even=pl.col("x") % 2 == 0).group_by("even").agg(pl.col("y").sum()).sort("even")
    (grouped["y"].to_list(), matplotlib.get_backend().lower())
    """

    answers =
      1..8
      |> Task.async_stream(fn _i -> ask(vm, :call, [code, %{"n" => 1000}]) end, timeout: @timeout, max_concurrency: 8)
      |> Enum.map(fn {:ok, answer} -> answer end)

    odd = Enum.sum(for i <- 1..999//2, do: i * i)
    even = Enum.sum(for i <- 0..998//2, do: i * i)
    assert answers == List.duplicate({[odd, even], "agg"}, 8)
  end
end
