"""Builds the native parts of Pythonx for all platforms, on one Linux machine. Called by `make wheels`.

    priv/native/<platform>/   the loader and the launcher, which know no Python, and the hashes of their sources
    dist/*.whl                wheels of pythonx-native: one library each, the bridge for one CPython on one platform
    priv/bridge.lock          pins those wheels: lib/pythonx/boot/bridge/wheels.ex loads nothing else

PLATFORMS and PYTHONS choose some, as in PLATFORMS=manylinux_x86_64,macosx_arm64 PYTHONS=3.13,3.14t. The lock pins what
was chosen. The compiler is zig's, which knows the C library of each platform; the flags are those of the Makefiles in
c_src.

Two builds give the same bytes: no path and no time gets into a file. What is built is kept, under a key of all that it
is made of, in $PYTHONX_DEV_DIR/wheels; a build that was ended goes on where it was.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import headers
import library
import wheel
from headers import HERE, BuildError, say

ROOT = HERE.parent.parent
SOURCES = ROOT / "c_src"
DIST = ROOT / "dist"
PRIV = ROOT / "priv"
SOURCE_EXTENSIONS = {".cpp", ".hpp", ".h", ".inc", ".c"}
SOURCE_NAMES = {"Makefile", "pybind11.txt"}

VERSIONS = ("3.10", "3.11", "3.12", "3.13", "3.14", "3.14t", "3.15", "3.15t")


@dataclass(frozen=True)
class Platform:
    """A name as Pythonx.Host.Platform has it, the target of zig, and the platform tag of wheels."""

    name: str
    target: str
    tag: str

    @property
    def macos(self) -> bool:
        """Whether it has another format of libraries than ELF."""
        return self.name.startswith("macosx")


# The oldest C library, and the oldest macOS, that the compiler can build for.
PLATFORMS = (
    Platform("manylinux_x86_64", "x86_64-linux-gnu.2.17", "manylinux_2_17_x86_64"),
    Platform("manylinux_aarch64", "aarch64-linux-gnu.2.17", "manylinux_2_17_aarch64"),
    Platform("musllinux_x86_64", "x86_64-linux-musl", "musllinux_1_2_x86_64"),
    Platform("musllinux_aarch64", "aarch64-linux-musl", "musllinux_1_2_aarch64"),
    Platform("macosx_arm64", "aarch64-macos.11.0", "macosx_11_0_arm64"),
    Platform("macosx_x86_64", "x86_64-macos.11.0", "macosx_11_0_x86_64"),
)


def chosen(variable: str, known: list[str]) -> list[str]:
    """What the variable names, in our order; all where it names nothing."""
    names = [name for name in re.split(r"[,\s]+", os.environ.get(variable, "")) if name]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise BuildError(f"{variable} names {', '.join(unknown)}, which is none of {', '.join(known)}")
    return [name for name in known if name in names or not names]


def source_files(folder: Path) -> list[str]:
    """As Pythonx.Boot.Bridge.Compiler.sources/1."""
    files = (
        path for path in folder.rglob("*") if path.suffix in SOURCE_EXTENSIONS or path.name in SOURCE_NAMES
    )
    return sorted(str(path.relative_to(folder)) for path in files)


def source_hash(folder: Path) -> str:
    """The sum of what `sha256sum` prints of the sources; as Pythonx.Boot.Bridge.Compiler.source_hash/1."""
    lines = (f"{sha256((folder / path).read_bytes())}  {path}\n" for path in source_files(folder))
    return sha256("".join(lines).encode())


def bridge_hash(folder: Path) -> str:
    """The same of the bridge and of the workers beside it; as Pythonx.Boot.Bridge.Compiler.bridge_hash/1."""
    workers = folder.parent / "worker"
    files = [(path, folder / path) for path in source_files(folder)]
    files += [(f"worker/{path}", workers / path) for path in source_files(workers)]
    return sha256("".join(f"{sha256(file.read_bytes())}  {path}\n" for path, file in files).encode())


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def tree_hash(folder: Path) -> str:
    files = sorted(path for path in folder.rglob("*.h") if "real" not in path.relative_to(folder).parts)
    return sha256(
        "".join(f"{sha256(path.read_bytes())}  {path.relative_to(folder)}\n" for path in files).encode()
    )


# As the tag of wheels promises.
GLIBC = (2, 17)


def check(product: Path) -> None:
    """Whether a library exports `nif_init` and nothing else, and runs where it is to run.

    For macOS zig's linker has no list of exported symbols: what is weak in C++'s own headers is exported as well, and
    said.
    """
    data = product.read_bytes()
    wrong = library.exported(data) - {"nif_init"} if product.suffix == ".so" else set()
    if wrong and data[:4] == b"\x7fELF":
        raise BuildError(f"{product} exports {', '.join(sorted(wrong))}")
    if wrong:
        say(f"{product.name} exports {len(wrong)} more names: {', '.join(sorted(wrong))}")
    if library.glibc(data) > GLIBC:
        raise BuildError(f"{product} needs glibc {'.'.join(map(str, library.glibc(data)))}")


class Builder:
    """What all builds share: the compiler, the headers, and the folder where things are kept."""

    def __init__(self) -> None:
        cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        self.work = Path(os.environ.get("PYTHONX_DEV_DIR") or Path(cache) / "pythonx-dev") / "wheels"
        spec = importlib.util.find_spec("ziglang")
        if spec is None or spec.origin is None:
            raise BuildError("ziglang is not installed for this Python: run it by make wheels")
        self.zig = Path(spec.origin).parent / "zig"
        self.env = {
            name: value
            for name, value in os.environ.items()
            if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "CC", "CXX")
        }
        self.env["ZIG_GLOBAL_CACHE_DIR"] = self.env["ZIG_LOCAL_CACHE_DIR"] = str(self.work / "zig-cache")
        self.zig_version = headers.run(self.zig, "version").stdout.strip()
        self.version = re.search(r'@version "([^"]+)"', (ROOT / "mix.exs").read_text()).group(1)  # type: ignore[union-attr]
        self.erlang = headers.erlang(self.work)
        self.pybind11 = headers.pybind11(self.work, SOURCES / "bridge/pybind11.txt")

    def key(self, *parts: str) -> str:
        """Of everything that a file is made of, wherever it is made."""
        ours = [(HERE / name).read_text() for name in ("exports.map", "new.cpp")]
        text = repr((self.zig_version, headers.ERLANG_SHA256, ours, parts))
        for place in (HERE, self.work, self.zig.parent):
            text = text.replace(str(place), "")
        return sha256(text.encode())[:16]

    def built(
        self, folder: Path, name: str, make_with: dict[str, str], sources: Path, version: str | None
    ) -> Path:
        """Runs make in a copy of the sources, unless the file is there: the name is its own once it is whole."""
        product = folder.with_suffix(f".{name}")
        if not product.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            for path in source_files(sources):
                target = folder / path
                target.parent.mkdir(parents=True, exist_ok=True)
                if not target.is_file() or target.read_bytes() != (sources / path).read_bytes():
                    shutil.copyfile(sources / path, target)
            env = self.env | {"ERL_INCLUDE": str(self.erlang), "OUTPUT": name, "WERROR": "1"}
            if version:
                env["PYBIND11_INCLUDE"] = str(self.pybind11 / "pybind11/include")
                env["PYTHON_INCLUDE"] = str(self.work / f"python-{version}")
            jobs = os.environ.get("JOBS") or str(os.cpu_count() or 1)
            variables = [f"{variable}={value}" for variable, value in make_with.items()]
            done = subprocess.run(
                ["make", f"-j{jobs}", "--no-print-directory", "--silent", *variables], cwd=folder, env=env
            )
            if done.returncode != 0:
                raise BuildError(f"make failed in {folder}, see its output above")
            check(folder / name)
            (folder / name).rename(product)
            shutil.rmtree(folder)
        return product

    def flags(self, platform: Platform, name: str, exports: bool) -> dict[str, str]:
        """What the Makefiles take from the command line, where they know this system only."""
        mapped = [f"-ffile-prefix-map={self.work}=.", f"-ffile-prefix-map={self.zig.parent}=."]
        compile_flags = shlex.join([*mapped, "-fno-sanitize=undefined", "-g0"])
        own_new = [
            "-O2",
            "-fvisibility-global-new-delete=force-hidden",
            *shlex.split(compile_flags),
            str(HERE / "new.cpp"),
        ]
        if not exports:
            shared, link = "", ["-s", *(own_new if name == "worker" else [])]
        elif platform.macos:
            # This linker has no list of exported symbols: all that is exported otherwise is hidden.
            shared = "-shared -undefined dynamic_lookup"
            link = ["-s", f"-Wl,-install_name,{name}"]
            if name == "bridge.so":
                link += own_new
        else:
            shared, link = (
                "-shared -Wl,-z,nodelete",
                ["-s", f"-Wl,--version-script={HERE / 'exports.map'}", f"-Wl,-soname,{name}"],
            )
        compiler = f"{shlex.quote(str(self.zig))} %s -target {platform.target}"
        return {
            "CC": compiler % "cc",
            "CXX": compiler % "c++",
            "CFLAGS": f"-O2 {compile_flags}",
            "CXXFLAGS": compile_flags,
            "SHARED": shared,
            "LDFLAGS": shlex.join(link),
            "LDLIBS": "" if platform.macos else "-ldl",
        }

    def bridge(self, platform: Platform, version: str) -> wheel.Wheel:
        """The wheel with the bridge for a version such as 3.14t."""
        minor = version.removesuffix("t")
        python = headers.python(self.work, minor)
        headers.check_pyconfig(self.zig, python, minor, self.env)
        flags = self.flags(platform, "bridge.so", exports=True)
        if version != minor:
            flags["CXXFLAGS"] += " -DPy_GIL_DISABLED=1"
        digits = minor.replace(".", "")
        tag = f"cp{digits}-cp{digits}{version[len(minor) :]}-{platform.tag}"
        key = self.key(source_hash(SOURCES / "bridge"), tree_hash(python), tag, repr(flags))
        built = self.built(self.work / f"{tag}-{key}", "bridge.so", flags, SOURCES / "bridge", minor)
        (theirs,) = self.pybind11.glob("pybind11-*.dist-info/**/LICENSE")
        licences = {"LICENSE": ROOT / "LICENSE", "LICENSE.pybind11": theirs}
        made = wheel.write(
            DIST, self.version, tag, built.read_bytes(), licences, self.worker(platform).read_bytes()
        )
        say(
            f"{made.path.relative_to(ROOT)}: {made.path.stat().st_size} bytes, the library {built.stat().st_size}"
        )
        return made

    def worker(self, platform: Platform) -> Path:
        """The program of a pool's workers. The bridge finds in it what it looks for in a VM."""
        flags = self.flags(platform, "worker", exports=False)
        flags["EXPORTS"] = "" if platform.macos else "-rdynamic"
        key = self.key(source_hash(SOURCES / "worker"), platform.name, repr(flags))
        return self.built(
            self.work / f"worker-{platform.name}-{key}", "worker", flags, SOURCES / "worker", None
        )

    def native(self, platform: Platform) -> None:
        """The loader and the launcher, into priv."""
        target = PRIV / "native" / platform.name
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        for folder, name in (("loader", "pythonx_loader.so"), ("launcher", "pythonx_launcher")):
            flags = self.flags(platform, name, exports=folder == "loader")
            key = self.key(source_hash(SOURCES / folder), platform.name, repr(flags))
            product = self.built(
                self.work / f"{folder}-{platform.name}-{key}", name, flags, SOURCES / folder, None
            )
            shutil.copyfile(product, target / name)
            (target / name).chmod(0o755)
        hashes = "".join(f"{source_hash(SOURCES / folder)}  {folder}\n" for folder in ("loader", "launcher"))
        (target / "sources.sha256").write_text(hashes)
        say(
            f"{target.relative_to(ROOT)}: "
            + ", ".join(f"{path.name} {path.stat().st_size}" for path in sorted(target.iterdir()))
        )


def main() -> None:
    platforms = chosen("PLATFORMS", [platform.name for platform in PLATFORMS])
    versions = chosen("PYTHONS", list(VERSIONS))
    builder = Builder()
    shutil.rmtree(PRIV / "native", ignore_errors=True)
    DIST.mkdir(exist_ok=True)
    made = []
    for platform in PLATFORMS:
        if platform.name in platforms:
            builder.native(platform)
            made += [builder.bridge(platform, version) for version in versions]
    kept = {one.path for one in made}
    for path in DIST.glob("*.whl"):
        if path not in kept:
            path.unlink()
    wheel.write_lock(PRIV / "bridge.lock", builder.version, bridge_hash(SOURCES / "bridge"), made)
    say(f"priv/bridge.lock pins {len(made)} wheels in dist/")


if __name__ == "__main__":
    try:
        main()
    except BuildError as error:
        sys.exit(f"wheels: {error}")
