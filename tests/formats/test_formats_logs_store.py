"""tracev3 headers and timesync files, built here from their documented layout; damage is told."""

from __future__ import annotations

import struct
import uuid
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.formats import FormatError
from harness.formats.tracev3 import HEADER_BYTES, is_tracev3, parse_timesync, parse_trace_header

BOOT = uuid.UUID("7871abf2-f319-49c9-b9fd-884e994f3df5")
START = int(datetime(2026, 7, 26, 6, 0, tzinfo=UTC).timestamp() * 1e9)


def header(
    *, continuous: int = 1000, boot: uuid.UUID = BOOT, build: bytes = b"25G76", ratio: tuple[int, int] = (125, 3)
) -> bytes:
    """A header chunk as libyal describes it: clock, then sub-chunks."""
    subs = struct.pack("<II", 0x6100, 8) + struct.pack("<q", continuous)
    subs += (
        struct.pack("<II", 0x6101, 56) + struct.pack("<II", 0, 0) + build.ljust(16, b"\0") + b"Mac15,3".ljust(32, b"\0")
    )
    subs += struct.pack("<II", 0x6102, 24) + boot.bytes + struct.pack("<ii", 88, 0)
    zone = b"/var/db/timezone/zoneinfo/Pacific/Auckland".ljust(48, b"\0")
    subs += struct.pack("<II", 0x6103, 48) + zone
    body = struct.pack("<IIqq", *ratio, continuous, 0) + subs
    return struct.pack("<IIQ", 0x1000, 0x11, len(body)) + body


def timesync(*boots: tuple[uuid.UUID, int, list[tuple[int, int]]]) -> bytes:
    """A timesync file: per boot its record and its pairs."""
    data = b""
    for boot, wall, syncs in boots:
        data += struct.pack("<HHI16sIIqII", 0xBBB0, 48, 0, boot.bytes, 125, 3, wall, 0, 0)
        for continuous, moment in syncs:
            data += struct.pack("<IIqqII", 0x00207354, 32, continuous, moment, 0, 0)
    return data


def test_a_header() -> None:
    found = parse_trace_header(header() + b"\1" * HEADER_BYTES)
    assert (found.build, found.model, found.zone) == ("25G76", "Mac15,3", "Pacific/Auckland")
    assert found.boot_uuid == "7871ABF2-F319-49C9-B9FD-884E994F3DF5"
    assert (found.continuous, found.numerator, found.denominator, found.logd_pid) == (1000, 125, 3, 88)


def test_clocks() -> None:
    other = uuid.UUID(int=1)
    boots = parse_timesync(timesync((BOOT, START, [(24_000_000, START + 2_000_000_000)]), (other, START - 1, [])))
    assert [boot.boot_uuid for boot in boots] == [str(BOOT).upper(), str(other).upper()]
    # Before the first pair the boot's own clock holds, behind it the pair: it was set a second forward.
    assert boots[0].at(0) == datetime(2026, 7, 26, 6, 0, tzinfo=UTC)
    assert boots[0].at(12_000_000) == datetime(2026, 7, 26, 6, 0, 0, 500000, tzinfo=UTC)
    assert boots[0].at(48_000_000) == datetime(2026, 7, 26, 6, 0, 3, tzinfo=UTC)
    assert boots[0].last == datetime(2026, 7, 26, 6, 0, 2, tzinfo=UTC)
    assert parse_timesync(timesync((BOOT, 12345, [])))[0].began is None  # no wall clock was ever known
    assert boots[0].at(2**62) is None


def test_damage() -> None:
    whole = timesync((BOOT, START, [(1, START), (2, START)]))
    assert len(parse_timesync(whole + b"\xff" * 100)[0].syncs) == 2
    assert len(parse_timesync(whole[:-10])[0].syncs) == 1
    assert parse_timesync(b"") == ()
    assert not is_tracev3(b"bplist00")
    for data in (b"", b"\0" * 64, header()[:30], b"words, not a log"):
        with pytest.raises(FormatError):
            parse_trace_header(data)
    cut = parse_trace_header(header()[:100])
    assert (cut.continuous, cut.zone) == (1000, "")


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 220), st.binary(max_size=12))
def test_spoilt_headers(place: int, piece: bytes) -> None:
    data = header()
    spoilt = data[:place] + piece + data[place + len(piece) :]
    try:
        found = parse_trace_header(spoilt)
    except FormatError:
        assert place < 40
    else:
        assert found.denominator
    sync = timesync((BOOT, START, [(1, START)] * 4))
    for boot in parse_timesync(sync[:place] + piece + sync[place + len(piece) :]):
        boot.at(5)
