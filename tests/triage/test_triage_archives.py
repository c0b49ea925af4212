"""Archives: streamed, nothing unpacked to disk, nothing believed; case files: each record once."""

from __future__ import annotations

import gzip
import io
import json
import plistlib
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import SysextError
from harness.formats import records
from harness.formats.records import Coverage
from harness.triage import archives
from harness.triage.archives import Bounded, checked_name, tar_members
from harness.triage.inputs import open_input
from harness.triage.members import role_of

LISTING = b"1 extension(s)\n*\t*\tABCDE12345\torg.example.ext (1.0/1)\tName\t[activated enabled]\n"
DATABASE = plistlib.dumps(
    {"extensions": [{"identifier": "org.example.ext", "state": "activated_enabled"}], "version": 1},
    fmt=plistlib.FMT_BINARY,
)
IPS = b'{"bug_type":"309","app_name":"Host","timestamp":"2026-07-26 18:11:22.00 +1200"}\n{\n "pid" : 812\n}\n'


def _record(number: int, message: str = "") -> bytes:
    value = {
        "timestamp": f"2026-07-26 18:11:22.{number:06}+1200", "machTimestamp": number, "processImagePath": "/usr/libexec/sysextd",
        "eventMessage": message or f"m{number}", "bootUUID": "B", "eventType": "logEvent",
    }  # fmt: skip
    return json.dumps(value).encode() + b"\n"


def _tar(*members: tuple[str, bytes], mode: str = "w:gz", form: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode, format=form) as tar:  # type: ignore[call-overload]
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def _sysdiagnose(**more: bytes) -> bytes:
    top = "sysdiagnose_2026.07.26_18-11-22+1200_macOS_Mac15-3_25G76"
    members = {
        "sysdiagnose.log": b"started\n", "logs/x/db.plist": DATABASE, "crashes_and_spins/a/Host-1.ips": IPS, "noise.txt": b"refused\n" * 50,
        "crashes_and_spins/._Host-1.ips": b"\0\5", "systemextensionsctl-list.txt": LISTING, "system_logs.logarchive/Extra/simulated-log.ndjson": _record(1) + _record(2),
    }  # fmt: skip
    return _tar(*((f"{top}/{name}", data) for name, data in (members | more).items()))


def test_a_sysdiagnose(tmp_path: Path) -> None:
    path = tmp_path / "s.tar.gz"
    path.write_bytes(_sysdiagnose())
    source = open_input(path)
    found = source.drain()
    assert source.kind == "sysdiagnose"
    assert [record.message for record in found] == ["m1", "m2"]
    assert found[0].file.endswith("Extra/simulated-log.ndjson")
    assert sorted(document.kind for document in source.documents) == ["crash", "database", "listing", "text"]
    assert any("simulated" in note for note in source.coverage.notes)
    assert not source.coverage.truncated
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_names_of_every_kind_of_tar(form: int) -> None:
    name = "a/" * (60 if form == tarfile.USTAR_FORMAT else 200) + "systemextensionsctl.txt"
    for mode in ("w", "w:gz", "w:bz2", "w:xz"):
        source = open_input(_tar((name, LISTING), ("b/db.plist", DATABASE), mode=mode, form=form))
        source.drain()
        assert [document.file for document in source.documents] == [name, "b/db.plist"]


def test_what_is_refused() -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, kind in (
            ("../../etc/db.plist", tarfile.REGTYPE),
            ("/db.plist", tarfile.REGTYPE),
            ("x/db.plist", tarfile.SYMTYPE),
            ("y/db.plist", tarfile.LNKTYPE),
            ("z/db.plist", tarfile.CHRTYPE),
            ("in/inner.tar.gz", tarfile.REGTYPE),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            info.size = len(DATABASE) if kind == tarfile.REGTYPE else 0
            tar.addfile(info, io.BytesIO(DATABASE) if info.size else None)
    source = open_input(buffer.getvalue())
    assert source.drain() == []
    assert source.documents == []
    reasons = dict(source.coverage.skipped)
    assert len(reasons) == 6
    assert "leads out" in reasons["../../etc/db.plist"]
    assert "link" in reasons["x/db.plist"]
    assert "archive within" in reasons["in/inner.tar.gz"]


def test_names() -> None:
    assert checked_name("a/./b//c.txt") == ("a/b/c.txt", "")
    assert checked_name("a\\..\\b")[1]
    assert checked_name("x" * 2000)[1]
    assert checked_name("")[1]
    assert checked_name("a/b\x1b[0m\n")[0] == "a/b�[0m�"


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_cut_archive_gives_what_it_has(share: float) -> None:
    noise = bytes(range(256)) * 4000
    whole = _tar(
        ("systemextensionsctl.txt", LISTING),
        ("log.ndjson", b"".join(_record(n) for n in range(3000))),
        ("n.bin", noise),
    )
    source = open_input(whole[: int(len(whole) * share)])
    source.drain()
    assert source.documents[0].kind == "listing"
    assert source.coverage.truncated
    assert source.coverage.notes


def test_a_size_that_lies() -> None:
    data = bytearray(
        _tar(("log.ndjson", b"".join(_record(n) for n in range(900))), mode="w", form=tarfile.USTAR_FORMAT)
    )
    data[124:136] = b"77777777777\0"
    data[148:156] = b" " * 8
    data[148:156] = f"{sum(data[:512]):06o}\0 ".encode()
    source = open_input(bytes(data))
    assert [record.message for record in source.drain()][:900] == [f"m{number}" for number in range(900)]
    assert source.coverage.truncated


def test_a_header_that_fills_the_memory() -> None:
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 1 << 40
    coverage = Coverage()
    assert list(tar_members(io.BytesIO(header.tobuf(tarfile.GNU_FORMAT)), coverage)) == []
    assert coverage.truncated


def test_a_bomb_ends_at_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "LEAST", 1 << 20)
    monkeypatch.setattr(archives, "RATIO", 1)
    source = open_input(_tar(("a.txt", LISTING), ("b.txt", b"0" * 50_000_000)))
    source.drain()
    assert [document.kind for document in source.documents] == ["listing"]
    assert any("more than" in note for note in source.coverage.notes)
    endless = Bounded(io.BytesIO(b"1" * 100), 10)
    assert (endless.read(-1), bool(endless.why)) == (b"1" * 10, True)


def test_a_zip_with_a_member_that_has_no_name() -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("Q", b"nothing")
        archive.writestr("logs/out.txt", LISTING)
    source = open_input(packed.getvalue().replace(b"Q", b"\0"))
    assert source.drain() == []
    assert [document.kind for document in source.documents] == ["listing"]
    assert [why for _, why in source.coverage.skipped] == ["no name"]


def test_zips(tmp_path: Path) -> None:
    path = tmp_path / "logs.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../x.txt", "evil")
        archive.writestr("logs/out.txt", LISTING)
        archive.writestr("__MACOSX/._out.txt", "\0")
        archive.writestr("in.zip", "PK")
        link = zipfile.ZipInfo("l.txt")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    for given_zip in (path, path.read_bytes()):
        source = open_input(given_zip)
        assert source.drain() == []
        assert [document.kind for document in source.documents] == ["listing"]
        assert {name for name, _ in source.coverage.skipped} == {"../x.txt", "in.zip", "l.txt"}


def test_texts_are_read_in_a_handmade_archive_only() -> None:
    assert role_of("x/output.txt", loose=True) == "text"
    assert role_of("x/output.txt", loose=False) == ""
    assert role_of("x/system_logs.logarchive/Persist/01.tracev3", loose=False) == "store"
    assert role_of("Persist/01.tracev3", loose=False) == "store"
    assert role_of("y.ips", loose=False) == "report"
    assert role_of("._y.ips", loose=True) == ""
    source = open_input(
        _tar(("sysdiagnose_x/sysdiagnose.log", b"x\n"), ("sysdiagnose_x/noise.txt", b"sysextd: refused\n"))
    )
    assert source.drain() == []
    (record,) = open_input(_tar(("my/notes.txt", b"sysextd: refused\n"))).drain()
    assert (record.process, record.file) == ("sysextd", "my/notes.txt")


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 5000), st.binary(min_size=1, max_size=6), st.booleans())
def test_damaged_archives_never_raise_anything_else(place: int, piece: bytes, packed: bool) -> None:
    data = bytearray(
        _tar(("systemextensionsctl.txt", LISTING), ("log.ndjson", _record(1)), mode="w:gz" if packed else "w")
    )
    place %= len(data)
    data[place : place + len(piece)] = piece
    try:
        open_input(bytes(data)).drain()
    except SysextError as error:
        assert error.expected


def _case(folder: Path) -> Path:
    """A case file as the harness writes it: the same log streamed, sliced and in a sysdiagnose."""
    evidence = folder / "evidence" / "01-prompt-missing"
    evidence.mkdir(parents=True)
    (evidence / "log.ndjson").write_bytes(_record(1) + _record(2) + _record(3) + b'{"count":3,"finished":1}\n')
    (folder / "log-stream.ndjson").write_bytes(
        b'Filtering the log data using "x"\n' + _record(2) + _record(3) + _record(4)
    )
    (evidence / "sysdiagnose.tar.gz").write_bytes(_sysdiagnose())
    (evidence / "systemextensionsctl.txt").write_bytes(LISTING)
    (evidence / "launchctl-list-1.txt").write_bytes(b"PID\tStatus\tLabel\n12\t0\torg.example\n")
    (evidence / "db.plist").write_bytes(DATABASE)
    (folder / "run.jsonl").write_text('{"name":"refused"}\n')
    items = [{"name": "crash reports", "path": None, "status": "missing", "why": "none there"}]
    (folder / "manifest.json").write_text(json.dumps({"schema": 1, "collections": [{"id": "01", "items": items}]}))
    (folder / "result.json").write_text(json.dumps({"verdict": "product-failure"}))
    return folder


def test_a_case_file_gives_each_record_once(tmp_path: Path) -> None:
    source = open_input(_case(tmp_path / "case"))
    found = source.drain()
    assert source.kind == "case-file"
    assert [record.message for record in found if record.kind == records.LOG] == ["m1", "m2", "m3", "m4"]
    kinds = [document.kind for document in source.documents]
    assert kinds[:2] == ["manifest", "result"]
    assert kinds.count("database") == 2
    assert {"listing", "launchctl-services", "crash"} <= set(kinds)
    assert any("crash reports: missing: none there" in note for note in source.coverage.notes)
    assert any("2 records were in more than one file" in note for note in source.coverage.notes)
    assert source.coverage.finished
    files = {document.file for document in source.documents}
    assert any(name.startswith("evidence/01-prompt-missing/sysdiagnose.tar.gz/") for name in files)


def test_a_case_file_without_a_log_takes_the_archived_one(tmp_path: Path) -> None:
    case = _case(tmp_path / "case")
    (case / "log-stream.ndjson").unlink()
    (case / "evidence/01-prompt-missing/log.ndjson").unlink()
    assert [record.message for record in open_input(case).drain() if record.kind == records.LOG] == ["m1", "m2"]


def test_a_damaged_case_file(tmp_path: Path) -> None:
    case = _case(tmp_path / "case")
    (case / "manifest.json").write_text("{")
    (case / "evidence/01-prompt-missing/sysdiagnose.tar.gz").write_bytes(b"\x1f\x8bnothing")
    (case / "evidence/01-prompt-missing/db.plist").write_bytes(b"bplist00junk")
    source = open_input(case)
    assert len([record for record in source.drain() if record.kind == records.LOG]) == 4
    assert any("manifest.json cannot be read" in note for note in source.coverage.notes)
    assert {Path(name).name for name, _ in source.coverage.skipped} == {"sysdiagnose.tar.gz", "db.plist"}


def test_a_folder_of_files(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "list.txt").write_bytes(LISTING)
    (tmp_path / "b.ndjson").write_bytes(_record(1))
    (tmp_path / "c.gz").write_bytes(gzip.compress(b"x"))
    (tmp_path / "link.txt").symlink_to("/etc/passwd")
    source = open_input(tmp_path)
    assert [record.message for record in source.drain()] == ["m1"]
    assert (source.kind, [document.file for document in source.documents]) == ("folder", ["a/list.txt"])
