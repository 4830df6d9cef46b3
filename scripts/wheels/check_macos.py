"""Compiles and links all native parts for macOS, with warnings as errors. Called by `make lint`.

What no compiler can tell is not tried: that takes a Mac. The bridge is built for arm64, not optimised, for one CPython,
whose minor version PYTHONX_TEST_PYTHON_MINOR names. What was built of the same sources is not built again.
"""

from __future__ import annotations

import os
import sys

import build
import headers
from headers import BuildError, say

MACOS = [platform for platform in build.PLATFORMS if platform.macos]


def check(
    builder: build.Builder, platform: build.Platform, part: str, name: str, version: str | None
) -> None:
    flags = builder.flags(platform, name, exports=part != "launcher")
    include = ""
    if version:
        flags["OPTIMISE"] = "-O0"
        include = build.tree_hash(headers.python(builder.work, version))
    sources = build.SOURCES / part
    key = builder.key(build.source_hash(sources), platform.name, repr(flags), include)
    begin = f"check-{part}-{platform.name}-"
    for old in builder.work.glob(begin + "*"):
        if old.is_file() and key not in old.name:
            old.unlink()
    product = builder.built(builder.work / f"{begin}{key}", name, flags, sources, version)
    say(f"{part} for {platform.name}: links, {product.stat().st_size} bytes")


def main() -> None:
    version = "3." + (os.environ.get("PYTHONX_TEST_PYTHON_MINOR") or str(sys.version_info[1]))
    try:
        builder = build.Builder()
        headers.python(builder.work, version)
    except BuildError as failure:
        say(f"nothing is compiled for macOS: {failure}")
        return
    for platform in MACOS:
        check(builder, platform, "loader", "pythonx_loader.so", None)
        check(builder, platform, "launcher", "pythonx_launcher", None)
    check(builder, MACOS[0], "bridge", "bridge.so", version)


if __name__ == "__main__":
    try:
        main()
    except BuildError as failure:
        sys.exit(f"wheels: {failure}")
