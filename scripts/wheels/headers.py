"""The headers that bridges are compiled with: of OTP 25, of pybind11, and of each CPython."""

from __future__ import annotations

import glob
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent

# A library that is compiled with these is loaded by OTP 25 and all later ones: it asks for NIF version 2.16.
ERLANG_URL = "http://deb.debian.org/debian/pool/main/e/erlang/erlang-dev_25.2.3+dfsg-1+deb12u4_amd64.deb"
ERLANG_SHA256 = "2ed82ada4b42b1782ba39c0bbff78e96a38af96285544e662801b0dbeb2cadf6"
ERLANG_FOLDER = "usr/lib/erlang/usr/include"

# Where Debian has Pythons that nobody has installed yet, newest last.
SUITES = ("trixie", "forky", "sid")
MIRROR = "http://deb.debian.org/debian"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


class BuildError(Exception):
    """A sentence for whoever has called."""


def say(text: str) -> None:
    print(f"wheels: {text}", flush=True)


def run(*args: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(arg) for arg in args], text=True, capture_output=True, **options)  # type: ignore[call-overload]


def place(folder: Path, make: object) -> Path:
    """`folder`, which `make` fills the first time. It has its name once it is whole."""
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as work:
            made = Path(work) / "made"
            made.mkdir()
            make(made)  # type: ignore[operator]
            made.rename(folder)
    return folder


def unpack_deb(data: bytes, prefix: str, target: Path) -> None:
    """The regular files below `prefix` of a Debian package, which is an ar archive with a tar archive in it."""
    position = 8
    while position < len(data):
        name, size = data[position : position + 16].decode().strip(), int(data[position + 48 : position + 58])
        position += 60
        if name.startswith("data.tar"):
            with tarfile.open(fileobj=io.BytesIO(data[position : position + size])) as archive:
                for member in archive:
                    path = os.path.relpath(member.name, f"./{prefix}")
                    if member.isfile() and not path.startswith(".."):
                        (target / path).parent.mkdir(parents=True, exist_ok=True)
                        (target / path).write_bytes(archive.extractfile(member).read())  # type: ignore[union-attr]
        position += size + size % 2


def download(variable: str, url: str, what: str, sha256: str) -> bytes:
    """A file from `url`, or from where the environment variable says, that has this SHA-256."""
    url = os.environ.get(variable, url)
    say(f"downloading {what}: {url}")
    try:
        data = urllib.request.urlopen(url, timeout=60).read()
    except OSError as error:
        raise BuildError(
            f"could not download {url}: {error}. {variable} can name another place of it"
        ) from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise BuildError(f"{url} is not the package that is expected")
    return data


def erlang(cache: Path) -> Path:
    def make(folder: Path) -> None:
        data = download("ERLANG_DEV_URL", ERLANG_URL, "the headers of OTP 25", ERLANG_SHA256)
        unpack_deb(data, ERLANG_FOLDER, folder)

    return place(cache / f"erlang-{ERLANG_SHA256[:16]}", make)


def pybind11(cache: Path, requirement: Path) -> Path:
    """The folder with `include/`, and the licence, of the version that the bridge is compiled with everywhere."""
    key = hashlib.sha256(requirement.read_bytes()).hexdigest()[:16]

    def make(folder: Path) -> None:
        pip = (
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-compile",
        )
        pinned = ("--no-deps", "--require-hashes", "--only-binary", ":all:", "-r", requirement)
        done = run(*pip, "--target", folder, *pinned)
        if done.returncode != 0:
            raise BuildError(f"pip could not install {requirement}:\n{done.stderr}")

    return place(cache / f"pybind11-{key}", make)


def python(cache: Path, version: str) -> Path:
    """The headers of a version such as 3.13, with our pyconfig.h: those of a Python of this machine, or Debian's."""
    ours = (HERE / "pyconfig.h").read_bytes()

    def make(folder: Path) -> None:
        found = installed(version)
        if found:
            shutil.copytree(found, folder, dirs_exist_ok=True)
            shutil.copytree(found, folder / "real", ignore=lambda _dir, names: set(names) - {"pyconfig.h"})
        else:
            from_debian(version, folder)
        (folder / "pyconfig.h").unlink(missing_ok=True)

    folder = place(cache / f"python-{version}", make)
    if not (folder / "Python.h").is_file():
        raise BuildError(f"{folder} has no Python.h: delete it")
    if not (folder / "pyconfig.h").is_file() or (folder / "pyconfig.h").read_bytes() != ours:
        (folder / "pyconfig.h").write_bytes(ours)
    return folder


def installed(version: str) -> str | None:
    """The folder of Python.h of a Python of this machine that has the GIL: on PATH, of pyenv, or one that uv finds."""
    names = [
        f"python{version}",
        *sorted(glob.glob(os.path.expanduser(f"~/.pyenv/versions/{version}.*/bin/python{version}"))),
    ]
    uv = shutil.which("uv")
    if uv:
        names += run(uv, "python", "find", "--no-project", "--no-python-downloads", version).stdout.split()
    script = (
        "import os, sys, sysconfig as s; i = s.get_path('include'); v = '%d.%d' % sys.version_info[:2]; "
        f"ok = v == '{version}' and not s.get_config_var('Py_GIL_DISABLED') and os.path.isfile(i + '/Python.h'); "
        "print(i if ok else '')"
    )
    for name in names:
        path = shutil.which(name)
        folder = path and run(path, "-I", "-S", "-c", script).stdout.strip()
        if folder:
            return folder
    return None


def from_debian(version: str, folder: Path) -> None:
    """By APT with a configuration of its own, which checks what it downloads and leaves the system as it is."""
    if not shutil.which("apt-get"):
        raise BuildError(
            f"no CPython {version} with Python.h is installed here, and there is no apt-get to ask Debian for it"
        )
    package = f"libpython{version}-dev"
    say(f"looking for the headers of CPython {version} in Debian {', '.join(SUITES)}")
    with tempfile.TemporaryDirectory() as work:
        for name in ("parts", "lists/partial", "cache/archives/partial"):
            (Path(work) / name).mkdir(parents=True)
        source = f"Types: deb\nURIs: {MIRROR}\nSuites: {' '.join(SUITES)}\nComponents: main\nSigned-By: {KEYRING}\n"
        (Path(work) / "parts/debian.sources").write_text(source)
        settings = {
            "Dir::Etc::sourcelist": "/dev/null",
            "Dir::Etc::sourceparts": f"{work}/parts",
            "Dir::State::lists": f"{work}/lists",
            "Dir::State::status": "/dev/null",
            "Dir::Cache": f"{work}/cache",
            "APT::Architecture": "amd64",
            "APT::Sandbox::User": "root",
        }
        options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
        for command in (["update"], ["download", package]):
            done = run("apt-get", "-qq", *options, *command, cwd=work)
            if done.returncode != 0:
                raise BuildError(
                    f"no CPython {version} with Python.h is installed here, and Debian has none: {done.stderr.strip()}"
                )
        (archive,) = Path(work).glob("*.deb")
        unpack_deb(archive.read_bytes(), f"usr/include/python{version}", folder)
        unpack_deb(archive.read_bytes(), f"usr/include/x86_64-linux-gnu/python{version}", folder / "real")


# What the bridge includes of CPython.
PROBE = "#include <Python.h>\n#include <structmember.h>\n#include <frameobject.h>\n#include <datetime.h>\n"


def check_pyconfig(zig: Path, headers: Path, version: str, env: dict[str, str]) -> None:
    """Whether the real pyconfig.h of a Linux x86-64 makes the same of the headers of CPython as ours does."""
    real = headers / "real" / "pyconfig.h"
    if not real.is_file():
        return
    texts = []
    with tempfile.TemporaryDirectory() as work:
        for config in (headers / "pyconfig.h", real):
            folder = Path(work) / "include"
            shutil.copytree(headers, folder, ignore=shutil.ignore_patterns("real"))
            shutil.copyfile(config, folder / "pyconfig.h")
            target = (
                "-target",
                "x86_64-linux-gnu.2.17",
                "-E",
                "-P",
                "-x",
                "c++",
                "-std=c++17",
                "-DNDEBUG",
                "-I",
                folder,
                "-",
            )
            done = run(zig, "c++", *target, input=PROBE, env=env, cwd=work)
            if done.returncode != 0:
                raise BuildError(f"the headers of CPython {version} cannot be read: {done.stderr}")
            texts.append(done.stdout)
            shutil.rmtree(folder)
    if texts[0] != texts[1]:
        ours, theirs = (text.splitlines() for text in texts)
        different = [pair for pair in zip(ours, theirs, strict=False) if pair[0] != pair[1]][:3]
        raise BuildError(
            f"scripts/wheels/pyconfig.h makes something else of CPython {version} than {real}: {different}"
        )
