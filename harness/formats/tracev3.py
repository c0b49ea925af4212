"""The unified log's own files, as far as their headers go: enough to say which of an archive's files matter.

A tracev3 file begins with a header chunk: the Mac's build and model, its time zone, the boot session and the continuous clock
at its beginning. A timesync file maps that clock to the wall's, boot by boot. Layouts as in libyal's format notes, checked
on two real files. The entries themselves are left to `log show` or an installed decoder.

All numbers are little-endian. What is damaged is told, not guessed: `FormatError` for no header, and a timesync file ends
where it stops making sense.
"""

from __future__ import annotations

import struct
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from harness.formats.failures import FormatError, excerpt

HEADER_BYTES: Final = 4096
"""As much of a file's beginning as `parse_trace_header` can use."""
MAX_SYNCS: Final = 200_000
_CHUNK = struct.Struct("<IIQ")
_CLOCK = struct.Struct("<IIqq")
_SUB = struct.Struct("<II")
_BOOT = struct.Struct("<HHI16sIIqII")
_SYNC = struct.Struct("<IIqqII")
_TAG_HEADER = 0x1000
_BOOT_SIGNATURE = 0xBBB0
_SYNC_SIGNATURE = 0x00207354
_YEARS = (datetime(2000, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC))


@dataclass(frozen=True)
class TraceHeader:
    """The beginning of one tracev3 file.

    Attributes:
        boot_uuid: Boot session, upper case; "" if not said.
        continuous: Ticks of the continuous clock at which the file begins.
        numerator: With `denominator`: nanoseconds per tick.
        build: "24G84".
        model: "Mac15,3".
        zone: "Europe/Vienna"; "" if not said.
        logd_pid: logd's process number; None if not said.
    """

    boot_uuid: str = ""
    continuous: int = 0
    numerator: int = 1
    denominator: int = 1
    build: str = ""
    model: str = ""
    zone: str = ""
    logd_pid: int | None = None


@dataclass(frozen=True)
class BootClock:
    """One boot in a timesync file: pairs of continuous ticks and wall nanoseconds, in the file's order."""

    boot_uuid: str
    numerator: int
    denominator: int
    wall: int
    syncs: tuple[tuple[int, int], ...] = field(default=())

    def at(self, continuous: int) -> datetime | None:
        """The wall clock at those ticks, by the last sync before them; None if it would be no date of this age."""
        base, wall = 0, self.wall
        for ticks, moment in self.syncs:
            if ticks > continuous:
                break
            base, wall = ticks, moment
        return _moment(wall + (continuous - base) * self.numerator // max(1, self.denominator))

    @property
    def began(self) -> datetime | None:
        """When it booted, by its own wall clock."""
        return _moment(self.wall)

    @property
    def last(self) -> datetime | None:
        """The latest sync."""
        return _moment(max((moment for _, moment in self.syncs), default=self.wall))


def is_tracev3(head: bytes) -> bool:
    """Whether a file begins as a tracev3 file does."""
    return len(head) >= 16 and _CHUNK.unpack_from(head)[0] == _TAG_HEADER and 40 <= _CHUNK.unpack_from(head)[2] <= 65536


def parse_trace_header(head: bytes) -> TraceHeader:
    """Read a header from the first `HEADER_BYTES` of a file.

    Raises:
        FormatError: It is no tracev3 file, or its header is cut off.
    """
    if not is_tracev3(head) or len(head) < 40:
        raise FormatError("a tracev3 file (a header chunk 0x1000)", seen=excerpt(head[:16].hex()))
    size = min(16 + _CHUNK.unpack_from(head)[2], len(head))
    numerator, denominator, continuous, _ = _CLOCK.unpack_from(head, 16)
    found: dict[str, object] = {}
    place = 40
    while place + 8 <= size:
        tag, length = _SUB.unpack_from(head, place)
        body = head[place + 8 : min(place + 8 + length, size)]
        if tag == 0x6100 and len(body) >= 8:
            continuous = struct.unpack_from("<q", body)[0]
        elif tag == 0x6101 and len(body) >= 56:
            found["build"], found["model"] = _text(body[8:24]), _text(body[24:56])
        elif tag == 0x6102 and len(body) >= 16:
            found["boot_uuid"] = str(uuid.UUID(bytes=body[:16])).upper()
            if len(body) >= 20:
                found["logd_pid"] = struct.unpack_from("<i", body, 16)[0]
        elif tag == 0x6103:
            found["zone"] = _text(body).rpartition("zoneinfo/")[2]
        if length > 65536:
            break
        place += 8 + length
    return TraceHeader(
        boot_uuid=str(found.get("boot_uuid", "")),
        continuous=continuous,
        numerator=numerator or 1,
        denominator=denominator or 1,
        build=str(found.get("build", "")),
        model=str(found.get("model", "")),
        zone=str(found.get("zone", "")),
        logd_pid=found["logd_pid"] if isinstance(found.get("logd_pid"), int) else None,  # type: ignore[arg-type]
    )


def parse_timesync(data: bytes) -> tuple[BootClock, ...]:
    """The boots of a timesync file, in its order; what is behind damage is left out. Never raises."""
    boots: list[BootClock] = []
    syncs: list[tuple[int, int]] = []
    held: tuple[str, int, int, int] | None = None
    place = 0
    while place + 8 <= len(data) and len(syncs) < MAX_SYNCS:
        if struct.unpack_from("<H", data, place)[0] == _BOOT_SIGNATURE and place + _BOOT.size <= len(data):
            _, size, _, boot, numerator, denominator, wall, _, _ = _BOOT.unpack_from(data, place)
            if held is not None:
                boots.append(BootClock(*held, tuple(syncs)))
            held, syncs = (str(uuid.UUID(bytes=boot)).upper(), numerator or 1, denominator or 1, wall), []
            place += max(size, _BOOT.size)
        elif struct.unpack_from("<I", data, place)[0] == _SYNC_SIGNATURE and place + _SYNC.size <= len(data):
            _, _, continuous, wall, _, _ = _SYNC.unpack_from(data, place)
            if held is not None:
                syncs.append((continuous, wall))
            place += _SYNC.size
        else:
            break
    if held is not None:
        boots.append(BootClock(*held, tuple(syncs)))
    return tuple(boots)


def _text(data: bytes) -> str:
    return data.partition(b"\0")[0].decode("utf-8", "replace")[:200].strip()


def _moment(nanoseconds: int) -> datetime | None:
    try:
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=nanoseconds // 1000)
    except (OverflowError, ValueError):
        return None
    return moment if _YEARS[0] <= moment <= _YEARS[1] else None
