"""An executable on disk: its slices with what their signatures say."""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from pathlib import Path

from harness.bundles.failures import BundleError
from harness.bundles.macho import read_slices
from harness.bundles.signature import MAX_SIGNATURE, RUNTIME, CodeSignature, read_signature

MAX_EXECUTABLE = 4 * 1024**3


@dataclass(frozen=True)
class Slice:
    """One architecture.

    Attributes:
        arch: `arm64`, `x86_64`, …
        uuid: LC_UUID, upper case; "" without one.
        cdhash: 40 hex digits; "" when unsigned.
        flags: The code directory's flags; 0 when unsigned.
        min_os: "12.0"; "" when it says nothing.
        sdk: "14.5"; "" when it says nothing.
        cpu_type: Mach-O's number, as db.plist's `stagedCdhashes` has it.
        cpu_subtype: Likewise.
        signature: None when unsigned.
    """

    arch: str
    uuid: str
    cdhash: str
    flags: int
    min_os: str
    sdk: str
    cpu_type: int
    cpu_subtype: int
    signature: CodeSignature | None

    @property
    def hardened(self) -> bool:
        """Signed for the hardened runtime."""
        return bool(self.flags & RUNTIME)


@dataclass(frozen=True)
class Executable:
    """A Mach-O file and its slices."""

    path: Path
    slices: tuple[Slice, ...]

    @property
    def archs(self) -> tuple[str, ...]:
        """The architectures, in the file's order."""
        return tuple(part.arch for part in self.slices)

    @property
    def uuids(self) -> dict[str, str]:
        """Architecture to LC_UUID."""
        return {part.arch: part.uuid for part in self.slices}

    @property
    def cdhashes(self) -> dict[str, str]:
        """Architecture to cdhash, signed slices only."""
        return {part.arch: part.cdhash for part in self.slices if part.cdhash}

    @property
    def signature(self) -> CodeSignature | None:
        """The first slice's signature: the slices of one file are signed alike, unless somebody mixed two builds."""
        return next((part.signature for part in self.slices if part.signature is not None), None)


def read_executable(path: Path) -> Executable:
    """Read a Mach-O file's slices and signatures.

    Raises:
        BundleError: It cannot be read, is no Mach-O file, or is damaged.
    """
    try:
        size = path.stat().st_size
        if not 0 < size <= MAX_EXECUTABLE:
            raise BundleError(f"{path.name} to be a Mach-O file", seen=f"{size} bytes", hint="is the app complete?")
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return Executable(path, _slices(data, path.name))
    except OSError as error:
        raise BundleError(f"{path} to be readable", seen=str(error), hint="is the app complete?") from error


def _slices(data: mmap.mmap, name: str) -> tuple[Slice, ...]:
    found = []
    for part in read_slices(data, name):
        signature: CodeSignature | None = None
        if part.signature is not None:
            offset, size = part.signature
            start = part.offset + offset
            signature = read_signature(data[start : start + min(size, MAX_SIGNATURE)], f"{name} ({part.arch})")
        found.append(
            Slice(
                arch=part.arch,
                uuid=part.uuid,
                cdhash=signature.best.cdhash if signature else "",
                flags=signature.best.flags if signature else 0,
                min_os=part.min_os,
                sdk=part.sdk,
                cpu_type=part.cpu_type,
                cpu_subtype=part.cpu_subtype,
                signature=signature,
            )
        )
    return tuple(found)
