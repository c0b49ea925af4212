"""How the slices of a fat file lie in it. Only the slices are signed: what lies around them is looked at here."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from harness.bundles.codedirectory import Tell, is_zero
from harness.bundles.macho import Buffer, MachSlice

_FAT, _FAT64 = 0xCAFEBABE, 0xCAFEBABF
_CAPABILITIES = 0xFF000000
MAX_ALIGN = 32


def check_layout(data: Buffer, slices: Sequence[MachSlice], tell: Tell) -> None:
    """Tell where the table of a fat file does not fit its slices, and bytes that belong to none.

    Each slice has to begin at the first multiple of its alignment behind the one before it, as `lipo` lays them; it has to
    be for the processor that the table says; whatever lies between has to be zeros.
    """
    magic, count = struct.unpack(">II", bytes(data[:8]))
    if magic not in (_FAT, _FAT64):
        return
    width = 32 if magic == _FAT64 else 20
    end = 8 + count * width
    for index, part in enumerate(slices):
        entry = bytes(data[8 + index * width : 8 + (index + 1) * width])
        cpu, sub = struct.unpack(">iI", entry[:8])
        if magic == _FAT64:
            align, reserved = struct.unpack(">II", entry[24:32])
        else:
            (align,), reserved = struct.unpack(">I", entry[16:20]), 0
        order = "<" if bytes(data[part.offset : part.offset + 4])[0] in (0xCE, 0xCF) else ">"
        own_cpu, own_sub = struct.unpack(order + "iI", bytes(data[part.offset + 4 : part.offset + 12]))
        capabilities = sub & _CAPABILITIES
        same = cpu == own_cpu and (sub ^ own_sub) & ~_CAPABILITIES == 0
        if not same or capabilities not in (0, own_sub & _CAPABILITIES) or reserved:
            tell("fat-layout", f"slice {index} is {own_cpu:#x}/{own_sub:#x}, the table says {cpu:#x}/{sub:#x}")
        if align > MAX_ALIGN or part.offset != -(-end // (1 << align)) << align:
            tell(
                "fat-layout", f"slice {index} begins at {part.offset}: not the first multiple of 2^{align} after {end}"
            )
        if part.offset > end and not is_zero(data, end, part.offset):
            tell("unsealed-bytes", f"between {end} and slice {index} at {part.offset}")
        end = max(end, part.offset + part.size)
    if end < len(data):
        empty = is_zero(data, end, len(data))
        tell("fat-layout" if empty else "unsealed-bytes", f"the last slice ends at {end} of {len(data)}")
