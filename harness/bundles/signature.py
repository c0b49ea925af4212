"""The code signature embedded in a Mach-O slice: a superblob of code directories, entitlements and a CMS message.

This reads; `harness.bundles.codedirectory` verifies. The cdhash is the hash of the best code directory cut to 20 bytes: what macOS
stages by, what db.plist and tickets name. Layouts: xnu's cs_blobs.h. All numbers are big-endian.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import Any

from harness.bundles.failures import BundleError
from harness.formats.failures import FormatError
from harness.formats.plists import load_plist

MAX_SIGNATURE = 32 * 1024 * 1024
MAX_BLOBS = 64
MAX_ENTITLEMENTS = 1024 * 1024
_SUPERBLOB, _DIRECTORY, _ENTITLEMENTS = 0xFADE0CC0, 0xFADE0C02, 0xFADE7171
_SLOT_DIRECTORY, _SLOT_ENTITLEMENTS, _SLOT_CMS = 0, 5, 0x10000
_SLOTS_ALTERNATE = range(0x1000, 0x1006)
_HASHES = {1: "sha1", 2: "sha256", 3: "sha256", 4: "sha384"}
# Best last; type 3 is SHA-256 cut to 20 bytes.
_RANK = {1: 1, 3: 2, 2: 3, 4: 4}

ADHOC = 0x2
RUNTIME = 0x10000
"""Flag of a code directory: hardened runtime."""
LINKER_SIGNED = 0x20000


@dataclass(frozen=True)
class CodeDirectory:
    """One code directory. `runtime` is the hardened runtime's version ("14.5"), "" without one."""

    cdhash: str
    hash_type: int
    identifier: str
    team: str
    flags: int
    page_size: int
    code_limit: int
    runtime: str


@dataclass(frozen=True)
class CodeSignature:
    """What a slice's signature says.

    Attributes:
        directories: All code directories, the best first.
        entitlements: From the XML blob; empty without one.
        cms_size: Bytes of the CMS message: 0 for an ad-hoc signature.
    """

    directories: tuple[CodeDirectory, ...]
    entitlements: dict[str, Any]
    cms_size: int

    @property
    def best(self) -> CodeDirectory:
        """The directory that macOS goes by."""
        return self.directories[0]

    @property
    def adhoc(self) -> bool:
        """Signed by nobody."""
        return bool(self.best.flags & ADHOC) or self.cms_size == 0


def read_signature(data: bytes, name: str = "the code signature") -> CodeSignature:
    """Read a superblob.

    Raises:
        BundleError: It is truncated or inconsistent.
    """
    try:
        return _read(data, name)
    except struct.error as error:
        raise _bad(name, f"it ends in the middle of a header ({error})") from None


def _read(data: bytes, name: str) -> CodeSignature:
    if len(data) > MAX_SIGNATURE:
        raise _bad(name, f"{len(data)} bytes")
    magic, length, count = struct.unpack(">III", data[:12])
    if magic != _SUPERBLOB or length > len(data) or count > MAX_BLOBS or 12 + count * 8 > length:
        raise _bad(name, f"magic {magic:08x}, {count} blobs, {length} of {len(data)} bytes")
    directories: list[CodeDirectory] = []
    entitlements: dict[str, Any] = {}
    cms = 0
    for index in range(count):
        slot, offset = struct.unpack(">II", data[12 + index * 8 : 20 + index * 8])
        if offset + 8 > length:
            raise _bad(name, f"blob {index} begins at {offset} of {length} bytes")
        kind, size = struct.unpack(">II", data[offset : offset + 8])
        if size < 8 or offset + size > length:
            raise _bad(name, f"blob {index} lies at {offset}–{offset + size} of {length} bytes")
        if slot == _SLOT_DIRECTORY or slot in _SLOTS_ALTERNATE:
            if kind != _DIRECTORY:
                raise _bad(name, f"slot {slot} holds {kind:08x}, no code directory")
            directories.append(read_directory(data[offset : offset + size], name))
        elif slot == _SLOT_ENTITLEMENTS and kind == _ENTITLEMENTS:
            entitlements = _entitlements(data[offset + 8 : offset + size], name)
        elif slot == _SLOT_CMS:
            cms = size - 8
    if not directories:
        raise _bad(name, "no code directory in it")
    directories.sort(key=lambda directory: _RANK[directory.hash_type], reverse=True)
    return CodeSignature(tuple(directories), entitlements, cms)


def rank(hash_type: int) -> int:
    """How good a code directory's hash is; macOS goes by the best. 0 for an unknown one."""
    return _RANK.get(hash_type, 0)


def read_directory(blob: bytes, name: str) -> CodeDirectory:
    """Read a code directory's own facts, from its blob with the header.

    Raises:
        BundleError: Its hash is not known, or a name has no end.
        struct.error: It is too short.
    """
    version, flags, _, identifier, _, _, limit = struct.unpack(">7I", blob[8:36])
    _, hash_type, _, page = struct.unpack(">4B", blob[36:40])
    if hash_type not in _HASHES:
        raise _bad(name, f"hash type {hash_type}")
    team = 0
    runtime = ""
    if version >= 0x20200:
        (team,) = struct.unpack(">I", blob[48:52])
    if version >= 0x20300:
        (wide,) = struct.unpack(">Q", blob[56:64])
        limit = wide or limit
    if version >= 0x20500:
        (number,) = struct.unpack(">I", blob[88:92])
        if number:
            runtime = f"{number >> 16}.{(number >> 8) & 0xFF}.{number & 0xFF}"
    return CodeDirectory(
        cdhash=hashlib.new(_HASHES[hash_type], blob, usedforsecurity=False).hexdigest()[:40],
        hash_type=hash_type,
        identifier=_text(blob, identifier, name),
        team=_text(blob, team, name) if team else "",
        flags=flags,
        page_size=1 << page if page < 32 else 0,
        code_limit=limit,
        runtime=runtime,
    )


def _text(blob: bytes, offset: int, name: str) -> str:
    end = blob.find(b"\0", offset, offset + 1024)
    if not 0 < offset < len(blob) or end < 0:
        raise _bad(name, f"a name at {offset} of {len(blob)} bytes has no end")
    return blob[offset:end].decode("utf-8", "replace")


def _entitlements(xml: bytes, name: str) -> dict[str, Any]:
    if len(xml) > MAX_ENTITLEMENTS:
        raise _bad(name, f"{len(xml)} bytes of entitlements")
    if not xml.strip():
        return {}
    try:
        return load_plist(xml, f"the entitlements in {name}")
    except FormatError as error:
        raise BundleError(error.expected, seen=error.seen, hint="sign the app again") from error


def _bad(name: str, seen: str) -> BundleError:
    return BundleError(f"{name} to be whole", seen=seen, hint="is the file truncated? fetch the app again, or sign it")
