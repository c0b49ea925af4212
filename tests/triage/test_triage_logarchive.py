"""Log archives: headers and clocks, which files matter, decoders with the habits that others met."""

from __future__ import annotations

import json
import os
import plistlib
import struct
import sys
import tarfile
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from harness.formats import records
from harness.triage import logarchive
from harness.triage.inputs import open_input
from harness.triage.logarchive import ArchiveFacts, split_root

BOOT = uuid.UUID("7871abf2-f319-49c9-b9fd-884e994f3df5")
START = datetime(2026, 7, 26, 6, 0, tzinfo=UTC)
WALL = int(START.timestamp() * 1e9)
HOUR = 3600 * 24_000_000
"""Ticks an hour, at 125/3 nanoseconds each."""


def trace(hours: float, build: bytes = b"25G76") -> bytes:
    """A tracev3 file that begins so long after the boot."""
    ticks = int(hours * HOUR)
    subs = struct.pack("<IIq", 0x6100, 8, ticks)
    subs += struct.pack("<IIII", 0x6101, 56, 0, 0) + build.ljust(16, b"\0") + b"Mac15,3".ljust(32, b"\0")
    subs += struct.pack("<II", 0x6102, 24) + BOOT.bytes + struct.pack("<ii", 88, 0)
    subs += struct.pack("<II", 0x6103, 48) + b"/var/db/timezone/zoneinfo/Pacific/Auckland".ljust(48, b"\0")
    body = struct.pack("<IIqq", 125, 3, ticks, 0) + subs
    return struct.pack("<IIQ", 0x1000, 0x11, len(body)) + body + os.urandom(5000)


def clocks() -> bytes:
    """A timesync file: the boot, and a reading six hours later."""
    boot = struct.pack("<HHI16sIIqII", 0xBBB0, 48, 0, BOOT.bytes, 125, 3, WALL, 0, 0)
    return boot + struct.pack("<IIqqII", 0x00207354, 32, 6 * HOUR, WALL + 6 * 3600 * 10**9, 0, 0)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A store of five files, two hours apart, without its usual name."""
    root = tmp_path / "store"
    for number in range(4):
        path = root / "Persist" / f"{number:016x}.tracev3"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(trace(number * 2))
    (root / "Special").mkdir()
    (root / "Special" / "0000000000000001.tracev3").write_bytes(trace(1))
    (root / "timesync").mkdir()
    (root / "timesync" / "0000000000000001.timesync").write_bytes(clocks())
    (root / "Info.plist").write_bytes(plistlib.dumps({"OSArchiveVersion": 5}))
    return root


@pytest.fixture
def no_decoder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.setattr(sys, "platform", "linux")


@pytest.mark.usefixtures("no_decoder")
def test_headers_without_a_decoder(archive: Path) -> None:
    (archive / "Persist" / "damaged.tracev3").write_bytes(b"no header at all, but some words")
    (archive / "Persist" / "._x.tracev3").write_bytes(b"\0\5\x16\7")
    source = open_input(archive)
    assert source.kind == "logarchive"
    assert source.drain() == []
    (document,) = source.documents
    facts = document.value
    assert (facts.build, facts.model, facts.zone) == ("25G76", "Mac15,3", "Pacific/Auckland")
    assert [file.begins for file in facts.files] == [START + timedelta(hours=hours) for hours in (0, 1, 2, 4, 6)]
    assert facts.span == (START, START + timedelta(hours=6))
    assert any("were not read" in note for note in source.coverage.notes)
    assert any("Mac15,3 25G76" in note and "archive version 5" in note for note in source.coverage.notes)
    assert any("damaged.tracev3" in name for name, _ in source.coverage.skipped)


@pytest.mark.usefixtures("no_decoder")
def test_which_files_matter(archive: Path) -> None:
    source = open_input(archive)
    source.drain()
    facts = source.documents[0].value
    assert isinstance(facts, ArchiveFacts)
    start = START + timedelta(hours=2, minutes=30)
    chosen = [file.path for file in facts.within(start, start + timedelta(minutes=10))]
    assert chosen == ["Persist/0000000000000001.tracev3", "Special/0000000000000001.tracev3"]
    assert len(facts.within(START, START + timedelta(hours=9))) == 5


def _decoder(folder: Path, body: str) -> Path:
    folder.mkdir()
    path = folder / "unifiedlog_iterator"
    path.write_text(
        f"#!{sys.executable}\nimport json, os, sys\nfolder = sys.argv[sys.argv.index('--input') + 1]\n{body}\n"
    )
    path.chmod(0o755)
    return path


RECORD = {
    "message": "client activation request", "process": "/usr/libexec/sysextd", "pid": 9, "log_type": "Default", "event_type": "Log",
    "library": "/usr/libexec/sysextd", "boot_uuid": BOOT.hex.upper(), "timestamp": "2026-07-26T08:00:00.123456789Z", "process_uuid": "",
}  # fmt: skip


@pytest.fixture
def decoder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One that complains a lot, cannot resolve a time, and prints one record per tracev3 file it finds."""
    body = (
        "sys.stderr.write('trouble\\n' * 40000)\n"
        f"record = {RECORD!r}\n"
        "for at, _, names in sorted(os.walk(folder)):\n"
        "    for name in sorted(names):\n"
        "        if name.endswith('.tracev3'):\n"
        "            print(json.dumps(record | {'message': os.path.basename(at) + '/' + name}))\n"
        "print(json.dumps(record | {'message': 'never resolved', 'timestamp': '1970-01-12T08:06:16.931837956Z'}))"
    )
    _decoder(tmp_path / "bin", body)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}")


@pytest.mark.usefixtures("decoder")
def test_a_decoder_that_is_installed(archive: Path) -> None:
    source = open_input(archive)
    found = source.drain()
    assert len(found) == 6
    assert (found[0].process, found[0].pid, found[0].boot) == ("sysextd", 9, str(BOOT).upper())
    assert found[0].time == datetime(2026, 7, 26, 8, 0, 0, 123456, tzinfo=UTC)
    assert found[-1].time is None
    assert source.coverage.first == found[0].time
    window = (START + timedelta(hours=2, minutes=30), START + timedelta(hours=2, minutes=40))
    part = open_input(archive, window=window).drain()
    assert [record.message for record in part[:-1]] == [
        "Persist/0000000000000001.tracev3",
        "Special/0000000000000001.tracev3",
    ]


@pytest.mark.usefixtures("decoder")
def test_the_store_within_a_sysdiagnose(archive: Path, tmp_path: Path) -> None:
    path = tmp_path / "s.tar.gz"
    leftover = "sysdiagnose_x/summaries/IN_PROGRESS_x/system_logs.logarchive"
    with tarfile.open(path, "w:gz") as tar:
        tar.add(archive / "Special", f"{leftover}/Special")
        tar.add(archive, "sysdiagnose_x/system_logs.logarchive")
    source = open_input(path)
    found = source.drain()
    assert len(found) == 6  # the live store's five, not the leftover's
    (document,) = [document for document in source.documents if document.kind == "logarchive"]
    assert document.value.root == "sysdiagnose_x/system_logs.logarchive"


def test_a_decoder_that_gives_nothing(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _decoder(tmp_path / "bin", "sys.stderr.write('Failed to parse')")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    source = open_input(archive)
    assert source.drain() == []
    assert any("gave no entries; Failed to parse" in note for note in source.coverage.notes)


def test_apples_log(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = json.dumps({"timestamp": "2026-07-26 18:11:22.3+1200", "eventMessage": "m", "eventType": "logEvent"})
    tool = tmp_path / "log"
    tool.write_text(f"#!{sys.executable}\nimport sys\nprint({line!r})\nprint(' '.join(sys.argv[1:3]))\nsys.exit(65)\n")
    tool.chmod(0o755)
    monkeypatch.setattr(logarchive, "decoder", lambda: ("log", str(tool)))
    source = open_input(archive)
    assert [record.message for record in source.drain()] == ["m", "show --archive"]
    assert any("newer macOS" in note for note in source.coverage.notes)


@pytest.mark.usefixtures("decoder")
def test_reading_that_is_given_up_ends_the_decoder(archive: Path, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    tool = tmp_path / "bin" / "unifiedlog_iterator"
    tool.write_text(
        f"#!{sys.executable}\nimport json, os\nopen({str(pid)!r}, 'w').write(str(os.getpid()))\n"
        f"while True:\n    print(json.dumps({RECORD!r}), flush=True)\n"
    )
    source = open_input(archive)
    assert next(source.records).process == "sysextd"
    source.records.close()  # type: ignore[attr-defined]
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_links_are_said(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "platform", "linux")
    (archive / "HighVolume").symlink_to(tmp_path)
    source = open_input(archive)
    source.drain()
    assert any("links are not followed: HighVolume" in note for note in source.coverage.notes)


@pytest.mark.usefixtures("no_decoder")
def test_a_single_file_and_a_simulated_archive(archive: Path, tmp_path: Path) -> None:
    single = open_input(archive / "Persist" / f"{0:016x}.tracev3")
    assert (single.kind, single.drain()) == ("tracev3", [])
    assert single.documents[0].value.build == "25G76"
    made = tmp_path / "s.logarchive"
    (made / "Extra").mkdir(parents=True)
    line = {"timestamp": "2026-07-26 18:11:22.3+1200", "eventMessage": "m", "eventType": "logEvent"}
    (made / "Extra" / "simulated-log.ndjson").write_text(json.dumps(line) + "\n")
    source = open_input(made)
    (record,) = source.drain()
    assert (record.message, record.kind) == ("m", records.LOG)
    assert source.documents[0].value.simulated
    assert any("simulated" in note for note in source.coverage.notes)


def test_roots() -> None:
    assert split_root("a/b.logarchive/Persist/1.tracev3") == ("a/b.logarchive", "Persist/1.tracev3")
    assert split_root("x/timesync/1.timesync") == ("x", "timesync/1.timesync")
    assert split_root("Info.plist") == ("", "Info.plist")
