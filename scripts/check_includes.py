"""Checks that the folders of the bridge include downward only, in the order that c_src/bridge/ORDER gives.

Prints each include that goes upward, or that does not name its folder, and how many go from folder to folder.
"""

import collections
import pathlib
import re
import sys

bridge = pathlib.Path(__file__).parent.parent / "c_src" / "bridge"
lines = (bridge / "ORDER").read_text().split("\n")
order = [line for line in lines if line and not line.startswith("#")]
faults = [
    f"{path.name}/ is not in ORDER" for path in bridge.iterdir() if path.is_dir() and path.name not in order
]
counts = collections.Counter()

for path in sorted(bridge.glob("*/*.[ch]pp")):
    folder = path.parent.name
    for number, line in enumerate(path.read_text().split("\n"), 1):
        include = re.match(r'#include "([^"]*)"', line)
        if not include or folder not in order:
            continue
        place = f"{path.relative_to(bridge.parent.parent)}:{number}: {line}"
        target = include.group(1).split("/")[0]
        if target not in order:
            faults.append(f"{place}: expected a folder of ORDER")
        elif order.index(target) < order.index(folder):
            faults.append(f"{place}: {target}/ is above {folder}/")
        elif target != folder:
            counts[folder, target] += 1

for (folder, target), count in sorted(
    counts.items(), key=lambda entry: [order.index(name) for name in entry[0]]
):
    print(f"{folder} -> {target}: {count}")
print(f"includes from folder to folder: {sum(counts.values())}, upward: {len(faults)}")
print(*faults, sep="\n", end="\n" if faults else "")
sys.exit(1 if faults else 0)
