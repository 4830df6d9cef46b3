# Summarises the monthly temperatures of three stations with numpy.
#
#     elixir examples/quickstart.exs
#
# The first run installs numpy and compiles the native part of Pythonx, later runs find both in the user's cache.
# To check a result by hand: the twelve numbers of Alder Ridge in data/temperatures.csv add up to 66, and 66 / 12 is 5.5.

# From its second run on Mix asks for Hex, unless it starts afresh. For a path nobody needs Hex.
Mix.start()
Mix.install([{:pythonx, path: Path.expand("..", __DIR__)}], force: not Code.ensure_loaded?(Hex))

Pythonx.uv_init(:numpy)

{summary, _globals} =
  Pythonx.eval(
    """
    import csv
    import numpy as np

    with open(path, encoding="utf-8", newline="") as file:
        (_, *months), *rows = csv.reader(file)

    # A row for each station, a column for each month. Where there is no reading, there is no number.
    celsius = np.array([[float(cell or "nan") for cell in cells] for _, *cells in rows])

    means = np.nanmean(celsius, axis=1)
    warmest = np.nanargmax(celsius, axis=1)
    coldest = np.nanargmin(celsius, axis=1)
    missing = np.isnan(celsius).sum(axis=1)

    [
        {
            "station": station,
            "mean": means[i],
            "warmest": (months[warmest[i]], celsius[i, warmest[i]]),
            "coldest": (months[coldest[i]], celsius[i, coldest[i]]),
            "missing": int(missing[i]),
        }
        for i, (station, *_) in enumerate(rows)
    ]
    """,
    %{"path" => Path.join(__DIR__, "data/temperatures.csv")},
    # Text arrives in Python as str. By default every binary is bytes.
    binaries: :str
  )

# From here on it is a list of Elixir maps.
stations = Pythonx.decode(summary)

celsius = fn number -> :erlang.float_to_binary(number, decimals: 2) end
month = fn {name, number} -> "#{name} #{String.pad_leading(celsius.(number), 6)}" end

cells = fn station ->
  [
    station["station"],
    celsius.(station["mean"]),
    month.(station["warmest"]),
    month.(station["coldest"]),
    Integer.to_string(station["missing"])
  ]
end

for row <- [["Station", "Mean", "Warmest", "Coldest", "Missing"] | Enum.map(stations, cells)] do
  row |> Enum.zip_with([13, 9, 13, 13, 9], &String.pad_trailing/2) |> Enum.join() |> String.trim_trailing() |> IO.puts()
end

hottest = Enum.max_by(stations, & &1["mean"])
IO.puts("The warmest station of the year is #{hottest["station"]}.")
