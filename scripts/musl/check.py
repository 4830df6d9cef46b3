"""How far musl can be tried where there is neither an Erlang nor a CPython for it. Called by `make test-musl`.

  - The loader, the launcher and the bridge are compiled and linked for musl, with warnings as errors.
  - A program without Erlang and CPython opens both libraries under musl's dynamic linker, from Debian's package, with
    all names to be found at once: those of Erlang and CPython in a library that has only names, all others in musl.
  - What the bridge asks of the system (c_src/bridge/vm/system.hpp) is tried under musl.
  - The launcher runs a worker that leaves a process behind.

No line of Python or Elixir runs on musl here. The job `alpine` of .github/workflows/ci.yml runs the core of the suite.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "wheels"))

import build  # noqa: E402
import headers  # noqa: E402
from headers import BuildError, say  # noqa: E402

MUSL_URL = "http://deb.debian.org/debian/pool/main/m/musl/musl_1.2.3-1_amd64.deb"
MUSL_SHA256 = "4fc1e3d9b579f5c682ca99a4d45aec08d72a2e6b82b4c2e1bbcb7095466ae96d"
PLATFORM = next(platform for platform in build.PLATFORMS if platform.name == "musllinux_x86_64")
# What the VM and CPython have for libraries that they open.
FROM_HOST = re.compile(r"(enif_|_?Py)\w+")
END_MARK = bytes.fromhex("707974686f6e7800e31b9d52c746af08")


def musl(cache: Path) -> Path:
    """The C library, which is its own dynamic linker."""

    def make(folder: Path) -> None:
        data = headers.download("MUSL_URL", MUSL_URL, "musl", MUSL_SHA256)
        headers.unpack_deb(data, "lib/x86_64-linux-musl", folder)
        (folder / "libc.so").chmod(0o755)

    return headers.place(cache / f"musl-{MUSL_SHA256[:16]}", make) / "libc.so"


def names(library: Path, which: str) -> set[str]:
    done = headers.run("nm", "-D", "--format=posix", which, library)
    if done.returncode != 0:
        raise BuildError(f"nm cannot read {library}: {done.stderr}")
    return {line.split()[0].split("@")[0] for line in done.stdout.splitlines()}


class Trial:
    """What is tried. Each trial prints a line, or raises a BuildError."""

    def __init__(self, builder: build.Builder, version: str) -> None:
        self.builder = builder
        self.version = version
        self.libc = musl(builder.work)
        self.folder = builder.work / "check-musl"
        self.folder.mkdir(exist_ok=True)

    def built(self, part: str, name: str) -> Path:
        """Compile and link a part, unless that was done with the same sources."""
        flags = self.builder.flags(PLATFORM, name, exports=part != "launcher")
        version = self.version if part == "bridge" else None
        if version:
            flags["OPTIMISE"] = "-O0"
            headers.python(self.builder.work, version)
        sources = build.SOURCES / part
        key = self.builder.key(build.source_hash(sources), PLATFORM.name, repr(flags), version or "")
        product = self.builder.built(
            self.builder.work / f"check-{part}-{PLATFORM.name}-{key}", name, flags, sources, version
        )
        say(f"{part}: links for musl, {product.stat().st_size} bytes")
        return product

    def compile(self, compiler: str, output: str, *arguments: str | Path) -> Path:
        """Compile a program or library of the trial itself."""
        product = self.folder / output
        command = (
            compiler,
            "-target",
            PLATFORM.target,
            "-Wall",
            "-Wextra",
            "-Werror",
            "-fno-sanitize=undefined",
            "-o",
            product,
            *arguments,
        )
        done = headers.run(self.builder.zig, *command, env=self.builder.env)
        if done.returncode != 0:
            raise BuildError(f"{output} does not compile:\n{done.stderr}")
        return product

    def run(self, *command: str | Path) -> str:
        """Run a program under musl, for its output."""
        done = headers.run(self.libc, *command, timeout=60)
        if done.returncode != 0:
            raise BuildError(
                f"{Path(command[0]).name} failed under musl with {done.returncode}: {done.stdout}{done.stderr}"
            )
        return done.stdout.strip()

    def opens(self, library: Path) -> None:
        """Whether a library finds all that it needs, and is one of native functions."""
        wanted = names(library, "--undefined-only") - names(self.libc, "--defined-only")
        missing = sorted(name for name in wanted if not FROM_HOST.fullmatch(name))
        if missing:
            raise BuildError(
                f"{library.name} needs what neither musl nor the VM nor CPython has: {', '.join(missing)}"
            )
        source = self.folder / "names.s"
        # A library calls some of them while it is opened: they return 0. They are data for others, hence writable.
        labels = "".join(f".globl {name}\n{name}:\n" for name in sorted(wanted))
        source.write_text(f'.section names,"awx"\n{labels}xor %eax, %eax\nret\n.zero 65536\n')
        stubs = self.compile("cc", "names.so", "-shared", source)
        program = self.compile(
            "cc", "resolve", "-dynamic", "-isystem", self.builder.erlang, HERE / "resolve.c"
        )
        say(
            f"{library.name}: {self.run(program, stubs, library)}; {len(wanted)} names are the VM's and CPython's"
        )

    def system(self) -> None:
        """Whether system.hpp keeps its promises."""
        bridge = build.SOURCES / "bridge"
        sources = (HERE / "system_test.cpp", bridge / "vm/system.cpp")
        program = self.compile(
            "c++",
            "system_test",
            "-dynamic",
            "-Wl,-z,stack-size=131072",
            "-std=c++17",
            "-D_GNU_SOURCE",
            "-I",
            bridge,
            *sources,
        )
        say(f"c_src/bridge/vm/system.hpp: all promises kept. {self.run(program)}")

    def launches(self, launcher: Path) -> None:
        """Whether the launcher, which is linked statically, does its work."""
        worker = "echo hello; setsid sleep 1000 & echo $!; exit 3"
        command = [str(launcher), "0", "1000", "0", "/bin/sh", "-c", worker]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            told = process.stdout.read()  # type: ignore[union-attr]
            status = process.wait()
        found = re.fullmatch(
            rb"\xff\xff\xff\xffhello\n(\d+)\n....\x01\x03" + re.escape(END_MARK), told, re.DOTALL
        )
        if not found or status != 3:
            raise BuildError(f"the launcher told {told!r}, and ended with {status}")
        if Path(f"/proc/{int(found[1])}").exists():
            raise BuildError("the launcher has left a process behind")
        say("launcher: told the output and the status of its worker, and killed what it had left behind")


def main() -> None:
    version = "3." + (os.environ.get("PYTHONX_TEST_PYTHON_MINOR") or str(sys.version_info[1]))
    trial = Trial(build.Builder(), version)
    trial.launches(trial.built("launcher", "pythonx_launcher"))
    trial.system()
    trial.opens(trial.built("loader", "pythonx_loader.so"))
    trial.opens(trial.built("bridge", "bridge.so"))
    say(
        "not tried: Python and Elixir, as there is neither an Erlang nor a CPython of musl here. "
        "The job `alpine` of the workflow runs the core of the suite"
    )


if __name__ == "__main__":
    try:
        main()
    except BuildError as failure:
        sys.exit(f"test-musl: {failure}")
