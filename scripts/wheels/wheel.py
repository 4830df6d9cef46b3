"""Wheels of pythonx-native, and the lock that pins them. The same bytes every time."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from dataclasses import dataclass
from pathlib import Path

NAME = "pythonx-native"
PACKAGE = "pythonx_native"
SUMMARY = (
    "The native part of Pythonx, for Elixir: a library for the BEAM, which Python itself does not import"
)


@dataclass(frozen=True)
class Wheel:
    """One that was written, with its tag and the hash of the library in it."""

    path: Path
    tag: str
    library_sha256: str
    worker_sha256: str = ""

    @property
    def sha256(self) -> str:
        """The hash by which an installer knows it."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()


def write(
    folder: Path,
    version: str,
    tag: str,
    library: bytes,
    licences: dict[str, Path],
    worker: bytes | None = None,
) -> Wheel:
    info = f"{PACKAGE}-{version}.dist-info"
    metadata = (
        f"Metadata-Version: 2.1\nName: {NAME}\nVersion: {version}\nSummary: {SUMMARY}\nLicense: Apache-2.0\n"
    )
    metadata += "".join(f"License-File: {name}\n" for name in licences)
    entries = {f"{PACKAGE}/__init__.py": f'"""{SUMMARY}."""\n'.encode(), f"{PACKAGE}/bridge.so": library}
    if worker:
        entries[f"{PACKAGE}/worker"] = worker
    entries |= {f"{info}/licenses/{name}": path.read_bytes() for name, path in licences.items()}
    entries[f"{info}/METADATA"] = metadata.encode()
    entries[f"{info}/WHEEL"] = (
        f"Wheel-Version: 1.0\nGenerator: pythonx\nRoot-Is-Purelib: false\nTag: {tag}\n".encode()
    )
    record = "".join(f"{path},sha256={digest(data)},{len(data)}\n" for path, data in entries.items())
    entries[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    path = folder / f"{PACKAGE}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            archive.writestr(entry(name), data, compresslevel=9)
    worker_sha256 = hashlib.sha256(worker).hexdigest() if worker else ""
    return Wheel(path, tag, hashlib.sha256(library).hexdigest(), worker_sha256)


def digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def entry(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    info.compress_type = zipfile.ZIP_DEFLATED
    info.create_system = 3
    info.external_attr = (0o100755 if name.endswith((".so", "/worker")) else 0o100644) << 16
    return info


def write_lock(path: Path, version: str, sources: str, wheels: list[Wheel]) -> None:
    """A requirements file for pip and uv, with comments for Pythonx.Boot.Bridge.Wheels."""
    lines = [
        "# The wheels that Pythonx takes its bridge from. Written by `make wheels`, not by hand.",
        f"# sources: {sources}",
        *(
            f"# wheel: {wheel.tag} {wheel.sha256} {wheel.library_sha256} {wheel.worker_sha256}".rstrip()
            for wheel in wheels
        ),
        " \\\n".join([f"{NAME}=={version}", *(f"    --hash=sha256:{wheel.sha256}" for wheel in wheels)]),
    ]
    path.write_text("".join(f"{line}\n" for line in lines))
