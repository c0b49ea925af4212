"""A whole collection from a real sshd whose macOS commands are stubs that print what Macs print."""

from __future__ import annotations

import gzip
import io
import json
import plistlib
import tarfile
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from harness.config import EvidenceSettings
from harness.events import SECRETS
from harness.evidence import CaseFolder, Manifest, collect, collect_before_reboot
from harness.evidence.collector import FIRST_SECONDS, RECONNECT_SECONDS, Collector, Partial, Plan
from harness.evidence.sysdiagnose import _check
from harness.guest import ConnectionLost
from harness.waiting import Deadline
from tests.support.guest_sshd import SUDO, Proxy, soon

LISTING = (
    "1 extension(s)\n--- com.apple.system_extension.network_extension (Go to 'System Settings > General > Login Items & "
    "Extensions > Network Extensions' to modify these system extension(s))\nenabled\tactive\tteamID\tbundleID (version)\t"
    "name\t[state]\n\t*\tS8XHQB96PW\torg.example.redirector.network-extension (1.0/1)\tRedirector\t"
    "[activated waiting for user]\n"
)
RECORD = {
    "timestamp": "2026-07-26 18:11:22.348728+1200",
    "subsystem": "com.apple.sx",
    "eventMessage": "client activation request for org.example with password opensesame",
}
LOG = """#!/usr/bin/env python3
import json, os, sys, tarfile
calls = open({state!r} + "/log-calls", "a"); calls.write(json.dumps(sys.argv[1:]) + "\\n"); calls.close()
if sys.argv[1] == "show":
    print({record!r}); print('{{"count":1,"finished":1}}')
else:
    folder = sys.argv[sys.argv.index("--output") + 1]
    os.mkdir(folder); open(folder + "/Info.plist", "w").write("<plist/>")
"""
SYSDIAGNOSE = """#!/bin/bash
echo "$*" > {state}/sysdiagnose-arguments
echo "This diagnostic tool generates files that allow Apple to investigate issues"
IFS= read -r line || {{ echo "cancelled" >&2; exit 1; }}
while [ $# -gt 0 ]; do case "$1" in -f) folder=$2; shift ;; -A) name=$2; shift ;; esac; shift; done
cp {state}/sysdiagnose.tar.gz "$folder/$name.tar.gz"
echo "Output available at '$folder/$name.tar.gz'."
"""


class Mac:
    """Stubs of a Mac in front of a real sshd."""

    def __init__(self, server, folder: Path) -> None:
        self.state = folder / "stub_mac"
        self.state.mkdir()
        self.server = server
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w:gz") as tar:
            info = tarfile.TarInfo("sysdiagnose/README.txt")
            info.size = 5
            tar.addfile(info, io.BytesIO(b"hello"))
        (self.state / "sysdiagnose.tar.gz").write_bytes(archive.getvalue())
        (self.state / "db.plist").write_bytes(plistlib.dumps({"version": 1, "extensions": []}, fmt=plistlib.FMT_BINARY))
        (self.state / "listing").write_text(LISTING)
        reports = self.state / "reports"
        reports.mkdir()
        (reports / "sysextd-2026-07-26.ips").write_text('{"bug_type":"309"}\npassword opensesame\n')
        (reports / "..evil; name.ips").write_text("{}")
        old = reports / "old.ips"
        old.write_text("{}")
        import os

        os.utime(old, (1, 1))
        stub = server.stub
        stub("sudo", SUDO)
        (server.stubs / "sudo-nopasswd").touch()
        stub("systemextensionsctl", f"cat {self.state}/listing")
        stub("log", LOG.format(state=str(self.state), record=json.dumps(RECORD)))
        stub("sysdiagnose", SYSDIAGNOSE.format(state=self.state))
        stub("launchctl", 'case "$2" in *missing*) echo "Could not find service" >&2; exit 113;; esac; echo "x = {"')
        stub("stat", 'case "$*" in "-f %u /dev/console") echo 501;; *) exec /usr/bin/stat "$@";; esac')
        for name in ("scutil", "sw_vers", "csrutil", "sysctl", "codesign", "xattr"):
            stub(name, f'echo "{name} $*"')
        stub(
            "cat",
            f'case "$1" in /Library/SystemExtensions/db.plist) exec /bin/cat {self.state}/db.plist;; '
            '*) exec /bin/cat "$@";; esac',
        )
        stub(
            "find",
            f'd=$1; shift; case "$d" in /Library/Logs/DiagnosticReports) d={self.state}/reports;; esac; '
            'exec /usr/bin/find "$d" "$@"',
        )
        stub("tail", 'case "$*" in */install.log) echo "installed";; *) exec /usr/bin/tail "$@";; esac')
        # So that the reports' folder "exists" for the script's test.
        stub("pkill", f'echo "$*" >> {self.state}/pkill')


@pytest.fixture
def stub_mac(sshd, tmp_path, monkeypatch):
    made = Mac(sshd, tmp_path)
    # The one path that cannot be stubbed through PATH: a test in the shell.
    monkeypatch.setattr("harness.evidence.collecting.REPORTS", str(made.state / "reports"))
    return made


@pytest.fixture
def kept(tmp_path):
    folder = CaseFolder(tmp_path / "case")
    folder.events_path.write_text('{"type": "header"}\n')
    folder.frame_path("alert").write_bytes(b"\x89PNG")
    return folder


def gather(guest, kept, **changes):
    values = {
        "guest": guest,
        "case": kept,
        "reason": "prompt missing",
        "deadline": soon(60),
        "settings": EvidenceSettings(log_last="10m"),
        "since": datetime.now(UTC) - timedelta(minutes=5),
        "labels": ["NetworkExtension.org.example.1.0.1", "missing.one"],
        "bundle_paths": ["/Applications/My App.app"],
        "screen": lambda path: path.write_bytes(b"\x89PNG now"),
        "run_output": lambda: "vnc://:***@127.0.0.1:5900 opensesame",
        "sysdiagnose_seconds": 30.0,
    }
    return collect(**{**values, **changes})


def statuses(manifest: Manifest) -> dict[str, str]:
    return {item.name: item.status for item in manifest.collections[-1].items}


def test_everything_is_there_with_checksums_and_without_secrets(guest, kept, stub_mac):
    SECRETS.add("opensesame")
    manifest = gather(guest, kept)
    gaps = {item.name: (item.status, item.why) for item in manifest.collections[-1].gaps}
    assert set(gaps) == {"Info.plist My App.app", "files My App.app"}, gaps  # the stub has no such app
    assert manifest.verify() == []
    folder = kept.evidence / "01-prompt-missing"
    assert (folder / "systemextensionsctl.txt").read_text() == LISTING
    assert plistlib.loads((folder / "db.plist").read_bytes())["version"] == 1
    assert gzip.decompress((folder / "sysdiagnose.tar.gz").read_bytes())
    item = manifest.item("launchctl missing.one")
    assert "Could not find service" in (kept.path / item.path).read_text()
    log = (folder / "log.ndjson").read_text()
    assert "client activation request" in log
    for text in (
        log,
        (folder / "machine-output.txt").read_text(),
        (folder / "reports/sysextd-2026-07-26.ips").read_text(),
    ):
        assert "opensesame" not in text
        assert "***" in text
    with tarfile.open(folder / "system_logs.logarchive.tar") as tar:
        assert "./Info.plist" in tar.getnames()
    names = sorted(path.name for path in (folder / "reports").iterdir())
    assert len(names) == 2  # the old one is not of this test
    assert all(not name.startswith(".") and ";" not in name for name in names)
    # Nothing of ours stays in the guest. (The folder of this test: others collect at the same time.)
    folder_in_guest = (stub_mac.state / "sysdiagnose-arguments").read_text().split()[4]
    assert folder_in_guest.startswith("/tmp/sysext-evidence-")
    assert not Path(folder_in_guest).exists()
    # Read again from disk it says the same, and every file that is there is named in it.
    again = Manifest(kept.manifest_path)
    assert statuses(again) == statuses(manifest)
    named = {item.path for item in again.collections[0].items}
    on_disk = {path.relative_to(kept.path).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert on_disk <= named


def test_sysdiagnose_is_called_as_its_manual_says_and_gets_its_newline(guest, kept, stub_mac):
    manifest = gather(guest, kept)
    words = (stub_mac.state / "sysdiagnose-arguments").read_text().split()
    assert words[:4] == ["-u", "-b", "-q", "-f"]
    assert words[4].startswith("/tmp/sysext-evidence-")
    assert words[5:] == ["-A", "sysdiagnose"]
    assert manifest.item("sysdiagnose").status == "ok"
    assert manifest.item("sysdiagnose stand-in") is None
    calls = [json.loads(line) for line in (stub_mac.state / "log-calls").read_text().splitlines()]
    assert calls[0][:3] == ["show", "--last", "10m"]
    assert "--predicate" in calls[0]
    assert calls[1][0] == "collect"
    assert calls[1][-2:] == ["--last", "10m"]


def test_a_sysdiagnose_that_hangs_is_ended_and_the_log_archive_stands_in(guest, kept, stub_mac, tmp_path):
    stub_mac.server.stub("sysdiagnose", "read -r x; exec sleep 120")
    manifest = gather(guest, kept, sysdiagnose_seconds=2.0)
    item = manifest.item("sysdiagnose")
    assert (item.status, item.path) == ("failed", None)
    assert "hung and was ended" in item.why
    assert (stub_mac.state / "pkill").read_text().strip() == "-x sysdiagnose"
    assert "system_logs.logarchive.tar stands in" in manifest.item("sysdiagnose stand-in").why
    assert statuses(manifest)["log archive"] == "ok"
    assert manifest.collections[-1].finished


def test_a_full_guest_disk_is_named_and_the_rest_is_there(guest, kept, stub_mac):
    stub_mac.server.stub(
        "log",
        'case "$1" in collect) echo "log: No space left on device" >&2; exit 1;; esac; '
        'echo \'{"count":0,"finished":1}\'',
    )
    stub_mac.server.stub("sysdiagnose", 'echo "No space left on device" >&2; exit 1')
    manifest = gather(guest, kept)
    found = statuses(manifest)
    assert (found["log archive"], found["sysdiagnose"], found["sysdiagnose stand-in"]) == ("failed",) * 3
    assert "disk" in manifest.item("log archive").why
    assert found["db.plist"] == found["ps"] == found["log slice"] == "ok"
    assert manifest.verify() == []


def test_a_log_cut_short_is_partial_and_a_refused_one_is_told(guest, kept, stub_mac):
    stub_mac.server.stub("log", f"[ $1 = show ] && echo '{json.dumps(RECORD)}'")
    item = gather(guest, kept, settings=EvidenceSettings(sysdiagnose=False)).item("log slice")
    assert item.status == "partial"
    assert "cut short" in item.why
    assert item.bytes > 0
    stub_mac.server.stub("log", "exit 0")
    item = gather(guest, kept, settings=EvidenceSettings(sysdiagnose=False)).item("log slice")
    assert "refused" in item.why


def test_a_connection_that_drops_for_good_leaves_a_whole_manifest(sshd, stub_mac, kept, tmp_path, monkeypatch):
    monkeypatch.setattr("harness.evidence.collector.RECONNECT_SECONDS", 0.5)
    proxy = Proxy(sshd.port)
    stub_mac.server.stub("scutil", f"touch {stub_mac.state}/now; sleep 5")

    def cut() -> None:
        from harness.waiting import wait_until

        wait_until(lambda: (stub_mac.state / "now").exists(), what="scutil", deadline=soon(), interval=0.02)
        proxy.refuse = True
        proxy.cut()

    thread = threading.Thread(target=cut)
    thread.start()
    try:
        with sshd.guest(tmp_path / "m2", port=proxy.port) as guest:
            guest.connect(soon())
            manifest = gather(guest, kept)
    finally:
        thread.join(10)
        proxy.close()
    found = statuses(manifest)
    assert found["ps"] == found["systemextensionsctl list"] == found["db.plist"] == "ok"
    assert found["scutil --nc list"] == "failed"
    assert "connection lost" in manifest.item("scutil --nc list").why
    for name in ("sw_vers", "log slice", "sysdiagnose"):
        assert found[name] == "missing"
        assert "cannot be reached" in manifest.item(name).why
    assert manifest.collections[-1].finished
    assert manifest.verify() == []


@pytest.mark.parametrize("reached", [False, True])
def test_a_mac_that_never_let_us_in_is_not_waited_for_once_more(sshd, stub_mac, kept, tmp_path, monkeypatch, reached):
    with sshd.guest(tmp_path / "m2") as guest:
        if reached:
            guest.connect(soon())
            guest.close()
        asked: list[float] = []

        def connect(deadline: Deadline) -> None:
            asked.append(deadline.seconds)
            raise ConnectionLost("a connection", seen="nobody is there")

        monkeypatch.setattr(guest, "connect", connect)
        manifest = gather(guest, kept)
    (seconds,) = asked
    assert FIRST_SECONDS < seconds <= RECONNECT_SECONDS if reached else seconds <= FIRST_SECONDS
    assert manifest.item("ps").why == "the guest cannot be reached: nobody is there"
    assert manifest.item("screen now").status == "ok"


def test_a_connection_that_drops_once_costs_one_item(sshd, stub_mac, kept, tmp_path):
    proxy = Proxy(sshd.port)
    stub_mac.server.stub("scutil", f"touch {stub_mac.state}/now; sleep 5")

    def cut() -> None:
        from harness.waiting import wait_until

        wait_until(lambda: (stub_mac.state / "now").exists(), what="scutil", deadline=soon(), interval=0.02)
        proxy.cut()

    thread = threading.Thread(target=cut)
    thread.start()
    try:
        with sshd.guest(tmp_path / "m2", port=proxy.port) as guest:
            guest.connect(soon())
            manifest = gather(guest, kept, bundle_paths=[])
    finally:
        thread.join(10)
        proxy.close()
    assert {item.name for item in manifest.collections[-1].gaps} == {"scutil --nc list"}


def test_when_the_time_is_used_up_the_rest_says_so(guest, kept, stub_mac):
    manifest = gather(guest, kept, deadline=Deadline(0.0))
    assert all(item.status == "missing" for item in manifest.collections[-1].items)
    assert all("used up" in item.why for item in manifest.collections[-1].items)


def test_before_a_reboot_the_log_comes_and_no_sysdiagnose(guest, kept, stub_mac):
    manifest = collect_before_reboot(guest=guest, case=kept, deadline=soon(60), settings=EvidenceSettings())
    found = statuses(manifest)
    assert found["log slice"] == found["log archive"] == found["db.plist"] == "ok"
    assert "sysdiagnose" not in found
    assert (kept.evidence / "01-before-reboot/log.ndjson").exists()


def test_a_mac_that_never_had_an_extension_has_no_db_plist_and_that_is_said(guest, kept, stub_mac):
    (stub_mac.state / "db.plist").unlink()
    item = gather(guest, kept, settings=EvidenceSettings(sysdiagnose=False)).item("db.plist")
    assert (item.status, item.path) == ("missing", None)
    assert "no such file" in item.why


def test_an_item_that_fails_does_not_stop_the_others_nor_leave_an_empty_file(guest, kept):
    def empty(file: Path, _: Deadline) -> str | None:
        file.touch()
        raise ValueError("no luck")

    def begun(file: Path, _: Deadline) -> str | None:
        file.write_text("something")
        raise OSError(28, "No space left on device")

    def silent(file: Path, _: Deadline) -> str | None:
        return None

    def good(file: Path, _: Deadline) -> str | None:
        file.write_text("good")
        return None

    collector = Collector(guest, kept, reason="x", since="", deadline=soon())
    manifest = collector.run(
        [Plan(gather.__name__, f"{gather.__name__}.txt", "", 5.0, gather) for gather in (empty, begun, silent, good)]
    )
    found = {item.name: (item.status, item.path is not None) for item in manifest.collections[0].items}
    assert found == {
        "empty": ("failed", False),
        "begun": ("partial", True),
        "silent": ("failed", False),
        "good": ("ok", True),
    }
    assert "disk full on the host" in manifest.item("begun").why
    assert sorted(path.name for path in collector.folder.iterdir()) == ["begun.txt", "good.txt"]


def test_a_sysdiagnose_of_which_only_a_part_came_is_kept_as_a_part(guest, kept, stub_mac, monkeypatch):
    def get(remote, local, **_):
        local.with_name(local.name + ".0123.part").write_bytes(b"beginning")
        raise ConnectionLost("get", seen="the connection broke")

    monkeypatch.setattr(guest, "get", get)
    item = gather(guest, kept).item("sysdiagnose")
    assert (item.status, item.bytes) == ("partial", 9)
    assert "only the first 9 bytes" in item.why


def test_a_collection_that_is_interrupted_is_not_called_finished(guest, kept):
    def interrupted(file: Path, _: Deadline) -> str | None:
        file.write_text("begun")
        raise KeyboardInterrupt

    def never(file: Path, _: Deadline) -> str | None:
        raise AssertionError("not reached")

    collector = Collector(guest, kept, reason="x", since="", deadline=soon())
    with pytest.raises(KeyboardInterrupt):
        collector.run([Plan(one.__name__, f"{one.__name__}.txt", "", 5.0, one) for one in (interrupted, never)])
    book = Manifest(kept.manifest_path)
    (collection,) = book.collections
    assert collection.finished is None
    assert not collection.complete
    assert "broken off" in book.describe()
    assert [(item.status, item.bytes, item.why) for item in collection.items] == [
        ("partial", 5, "interrupted: KeyboardInterrupt"),
        ("missing", 0, "not reached: the collection ended before it"),
    ]
    assert book.verify() == []
    assert sorted(path.name for path in kept.path.iterdir() if path.is_file()) == ["manifest.json", "run.jsonl"]


def test_an_archive_is_gone_through_only_as_long_as_there_is_time(tmp_path):
    path = tmp_path / "sysdiagnose.tar.gz"
    with gzip.open(path, "wb", compresslevel=1) as bomb:
        info = tarfile.TarInfo("zeros")
        info.size = 64 << 20
        bomb.write(info.tobuf())
        for _ in range(64):
            bomb.write(bytes(1 << 20))
        bomb.write(bytes(1024))
    assert _check(path, soon()) == "1 members"
    assert "no time to look further" in _check(path, Deadline(0))

    with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("x")
        info.pax_headers = {"comment": "x" * (2 << 20)}
        tar.addfile(info)
    with pytest.raises(Partial, match="a header of"):
        _check(path, soon())


def test_every_file_that_was_collected_is_attached_to_the_step(guest, kept, stub_mac):
    from harness import events

    records: list[dict[str, Any]] = []
    log = events.EventLog()
    log.subscribe(records.append)
    with events.use(log):
        manifest = gather(guest, kept)
    (end,) = [record for record in records if record["type"] == "end" and record["name"] == "collect-evidence"]
    attached = {entry["path"] for entry in end["attachments"]}
    assert attached == {
        str(kept.manifest_path),
        *(str(kept.path / item.path) for item in manifest.collections[-1].items if item.path),
    }
    assert {"sysdiagnose", "db.plist"} <= {entry["name"] for entry in end["attachments"]}
