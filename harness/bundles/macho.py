"""Mach-O files, thin and fat: which slices, which UUID, for which system, and where the signature lies.

Reads headers and load commands only, from a buffer (an mmap does): memory does not grow with the file. Every offset is
checked against the slice it is in, every count against a limit. Layouts: <mach-o/loader.h>, <mach-o/fat.h>.
"""

from __future__ import annotations

import mmap
import struct
import uuid
from dataclasses import dataclass

from harness.bundles.failures import BundleError

Buffer = bytes | bytearray | mmap.mmap

MAX_SLICES = 32
MAX_COMMANDS = 20_000
MAX_COMMAND_BYTES = 16 * 1024 * 1024
_FAT, _FAT64 = 0xCAFEBABE, 0xCAFEBABF
_THIN = {
    b"\xce\xfa\xed\xfe": ("<", 28),
    b"\xcf\xfa\xed\xfe": ("<", 32),
    b"\xfe\xed\xfa\xce": (">", 28),
    b"\xfe\xed\xfa\xcf": (">", 32),
}
_UUID, _SIGNATURE, _BUILD_VERSION, _MIN_MACOS = 0x1B, 0x1D, 0x32, 0x24
# Segment command → size of its head, of a section in it, and how a section's address, size and offset are written.
_SEGMENTS = {0x1: (56, 68, "III"), 0x19: (72, 80, "QQI")}
_INFO_SECTION = b"__info_plist".ljust(16, b"\0") + b"__TEXT".ljust(16, b"\0")
_64BIT = 0x01000000
_ARCHITECTURES = {7: "i386", 12: "arm", 18: "ppc", 7 | _64BIT: "x86_64", 12 | _64BIT: "arm64", 18 | _64BIT: "ppc64"}
_PLATFORMS = {1: "macos", 2: "ios", 6: "maccatalyst", 7: "iossimulator", 10: "driverkit"}


@dataclass(frozen=True)
class MachSlice:
    """One architecture's part of a file.

    Attributes:
        arch: `arm64`, `arm64e`, `x86_64`, …
        cpu_type: Mach-O's number for it.
        cpu_subtype: Likewise, without the capability bits.
        offset: Where it begins in the file.
        size: Its length in bytes.
        file_type: 2 is an executable, 6 a library, 8 a bundle.
        uuid: LC_UUID in upper case, as crash reports and `dwarfdump --uuid` name it; "" without one.
        platform: `macos`, `driverkit`, …; "" when it says nothing.
        min_os: "12.0"; "" when it says nothing.
        sdk: "14.5"; "" when it says nothing.
        signature: Offset within the slice and size of the code signature; None when unsigned.
        info_plist: Likewise of the Info.plist that a tool carries in its own section; None without one.
    """

    arch: str
    cpu_type: int
    cpu_subtype: int
    offset: int
    size: int
    file_type: int
    uuid: str
    platform: str
    min_os: str
    sdk: str
    signature: tuple[int, int] | None
    info_plist: tuple[int, int] | None = None


def is_macho(head: bytes) -> bool:
    """Whether a file that begins so (8 bytes) is Mach-O. A Java class file shares the fat magic; its version is 45 or more."""
    if head[:4] in _THIN:
        return True
    return (
        len(head) >= 8
        and head[:4] in (b"\xca\xfe\xba\xbe", b"\xca\xfe\xba\xbf")
        and head[4:7] == b"\0\0\0"
        and head[7] < 45
    )


def read_slices(data: Buffer, name: str = "the executable") -> tuple[MachSlice, ...]:
    """The slices of a Mach-O file, in their order.

    Args:
        data: The whole file.
        name: What it is, for the error.

    Raises:
        BundleError: It is no Mach-O file, truncated, or its offsets are absurd.
    """
    try:
        return _read(data, name)
    except struct.error as error:
        raise _bad(name, f"it ends in the middle of a header ({error})") from None


def _read(data: Buffer, name: str) -> tuple[MachSlice, ...]:
    head = bytes(data[:8])
    if not is_macho(head):
        seen = "an empty file" if not head else f"a file that begins {head[:4].hex()}"
        raise BundleError(f"{name} to be a Mach-O file", seen=seen, hint="is the app complete?")
    magic, count = struct.unpack(">II", head)
    if magic not in (_FAT, _FAT64):
        return (_slice(data, 0, len(data), name),)
    if not 0 < count <= MAX_SLICES:
        raise _bad(name, f"it claims {count} slices")
    wide = magic == _FAT64
    width = 32 if wide else 20
    slices = []
    taken: list[tuple[int, int]] = []
    for index in range(count):
        entry = bytes(data[8 + index * width : 8 + (index + 1) * width])
        if wide:
            _, _, offset, size, _, _ = struct.unpack(">iiQQII", entry)
        else:
            _, _, offset, size, _ = struct.unpack(">iiIII", entry)
        if offset < 8 + count * width or size < 28 or offset + size > len(data):
            raise _bad(name, f"slice {index} lies at {offset}–{offset + size} of {len(data)} bytes")
        if any(offset < end and begin < offset + size for begin, end in taken):
            raise _bad(name, f"slice {index} overlaps another")
        taken.append((offset, offset + size))
        slices.append(_slice(data, offset, size, name))
    return tuple(slices)


def _slice(data: Buffer, offset: int, size: int, name: str) -> MachSlice:
    # Copies, no views: a view held by a traceback would keep an mmap from closing.
    head = bytes(data[offset : offset + min(24, size)])
    layout = _THIN.get(head[:4])
    if layout is None:
        raise _bad(name, f"the slice at {offset} begins {head[:4].hex()}")
    order, header = layout
    cpu, sub, kind, count, length = struct.unpack(order + "iiIII", head[4:24])
    if count > MAX_COMMANDS or header + length > size:
        raise _bad(name, f"{count} load commands of {length} bytes in a slice of {size}")
    if length > MAX_COMMAND_BYTES:
        raise _bad(name, f"{length} bytes of load commands")
    part = bytes(data[offset : offset + header + length])
    found_uuid = platform = min_os = sdk = ""
    signature: tuple[int, int] | None = None
    info: tuple[int, int] | None = None
    at, end = header, header + length
    for _ in range(count):
        if at + 8 > end:
            raise _bad(name, "the load commands end too early")
        command, width = struct.unpack(order + "II", part[at : at + 8])
        if width < 8 or at + width > end:
            raise _bad(name, f"a load command of {width} bytes with {end - at} left")
        if command == _UUID and width >= 24:
            found_uuid = str(uuid.UUID(bytes=part[at + 8 : at + 24])).upper()
        elif command == _BUILD_VERSION and width >= 20:
            number, minimum, built = struct.unpack(order + "III", part[at + 8 : at + 20])
            if not platform or number == 1:  # a zippered file has two: macOS's counts
                platform, min_os, sdk = _PLATFORMS.get(number, str(number)), _version(minimum), _version(built)
        elif command == _MIN_MACOS and width >= 16 and not platform:
            minimum, built = struct.unpack(order + "II", part[at + 8 : at + 16])
            platform, min_os, sdk = "macos", _version(minimum), _version(built)
        elif command == _SIGNATURE and width >= 16:
            where, long = struct.unpack(order + "II", part[at + 8 : at + 16])
            if signature is not None:
                raise _bad(name, "two code signatures: nobody could say which one counts")
            if where + long > size:
                raise _bad(name, f"the code signature lies at {where}–{where + long} of {size} bytes")
            signature = (where, long)
        elif command in _SEGMENTS and info is None and part.find(_INFO_SECTION, at, at + width) >= 0:
            info = _info_section(part[at : at + width], command, order, size, name)
        at += width
    return MachSlice(
        arch=_arch(cpu, sub & 0xFFFFFF),
        cpu_type=cpu,
        cpu_subtype=sub & 0xFFFFFF,
        offset=offset,
        size=size,
        file_type=kind,
        uuid=found_uuid,
        platform=platform,
        min_os=min_os,
        sdk=sdk,
        signature=signature,
        info_plist=info,
    )


def _info_section(segment: bytes, command: int, order: str, size: int, name: str) -> tuple[int, int] | None:
    """Where the section __TEXT,__info_plist lies in the slice."""
    head, width, form = _SEGMENTS[command]
    for at in range(head, len(segment) - width + 1, width):
        if segment[at : at + 32] == _INFO_SECTION:
            _, long, where = struct.unpack(order + form, segment[at + 32 : at + 32 + struct.calcsize(order + form)])
            if where + long > size:
                raise _bad(name, f"its Info.plist lies at {where}–{where + long} of {size} bytes")
            return where, long
    return None


def _arch(cpu: int, sub: int) -> str:
    name = _ARCHITECTURES.get(cpu, f"cpu-{cpu}")
    if name == "arm64" and sub == 2:
        return "arm64e"
    return "x86_64h" if name == "x86_64" and sub == 8 else name


def _version(number: int) -> str:
    """0x000E0500 → "14.5"; a third part only if it is not 0."""
    major, minor, patch = number >> 16, (number >> 8) & 0xFF, number & 0xFF
    return f"{major}.{minor}.{patch}" if patch else f"{major}.{minor}"


def _bad(name: str, seen: str) -> BundleError:
    return BundleError(f"{name} to be a whole Mach-O file", seen=seen, hint="is it truncated? fetch the app again")
