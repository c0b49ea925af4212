"""A guest that means harm, and a host without luck."""

from __future__ import annotations

import io
import json
import os
import tarfile
import threading

import pytest
from paramiko.common import MSG_CHANNEL_WINDOW_ADJUST

from harness import events
from harness.errors import HarnessError, UsageError, WaitTimeout
from harness.guest import CommandTimeout, ConnectionLost, LogStream
from harness.guest.connection import _Transport
from harness.guest.trees import _tar_stream, _unpack
from harness.waiting import Deadline
from tests.support.guest_sshd import soon


@pytest.mark.parametrize("kind", [b"exec", b"sftp"])
def test_a_guest_that_never_answers_a_request_is_not_waited_for_without_end(guest, tmp_path, monkeypatch, kind):
    real = _Transport._send_user_message

    def send(self, message):
        if kind not in message.asbytes():
            real(self, message)

    monkeypatch.setattr(_Transport, "_send_user_message", send)
    with pytest.raises(ConnectionLost, match="did not answer the request"):
        if kind == b"exec":
            guest.run(["true"], deadline=Deadline(0.3))
        else:
            guest.listdir(str(tmp_path), deadline=Deadline(0.3))


def test_a_guest_that_takes_no_input_does_not_hold_us_past_the_deadline(guest, monkeypatch):
    monkeypatch.setitem(_Transport._channel_handler_table, MSG_CHANNEL_WINDOW_ADJUST, lambda *_: None)
    with pytest.raises(CommandTimeout):
        guest.run(["cat"], input=b"x", deadline=Deadline(0.5))


def test_a_last_line_that_its_reader_chokes_on_is_still_an_end(guest):
    def choke(_: str) -> None:
        raise ValueError("no such line")

    process = guest.start(["printf", "no newline"], on_line=choke, deadline=soon())
    assert process.wait(soon()).exit_code == 0


def test_a_missing_file_of_the_host_is_a_usage_error(guest, tmp_path):
    with pytest.raises(UsageError, match="nowhere") as caught:
        guest.put(tmp_path / "nowhere", f"{tmp_path}/there", deadline=soon())
    assert caught.value.hint


def test_what_feeds_a_guest_never_reads_another_file_of_that_number(tmp_path):
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "x").write_bytes(bytes(1000))
    with _tar_stream(tmp_path / "tree") as pieces:
        next(pieces)
    opened = [os.pipe() for _ in range(4)]  # the numbers are free again: one of these has it
    try:
        for _, writable in opened:
            os.write(writable, b"somebody else's")
        with pytest.raises(ValueError, match="closed file"):
            next(pieces)
    finally:
        for ends in opened:
            for end in ends:
                os.close(end)


def _archive(path, mode, *, header=0):
    with tarfile.open(path, mode, format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("file")
        info.size = 3
        if header:
            info.pax_headers = {"comment": "x" * header}
        tar.addfile(info, io.BytesIO(b"abc"))


@pytest.mark.parametrize(("mode", "header"), [("w:gz", 0), ("w", 2 << 20)], ids=["compressed", "all-header"])
def test_an_archive_that_could_become_any_number_of_bytes_is_refused(tmp_path, mode, header):
    _archive(tmp_path / "tree.tar", mode, header=header)
    with pytest.raises(HarnessError, match="safe to unpack"):
        _unpack(tmp_path / "tree.tar", tmp_path / "out", 1 << 30)


def test_an_ordinary_archive_is_taken(tmp_path):
    _archive(tmp_path / "tree.tar", "w", header=1000)
    _unpack(tmp_path / "tree.tar", tmp_path / "out", 1 << 30)
    assert (tmp_path / "out" / "file").read_bytes() == b"abc"


def test_a_log_stream_outlives_a_full_disk_and_says_so_once(guest, tmp_path, monkeypatch):
    told: list[dict] = []
    log = events.EventLog()
    log.subscribe(told.append)
    stream = LogStream(guest, tmp_path / "log.ndjson")
    full = threading.Event()

    class Disk(io.BytesIO):
        def flush(self) -> None:
            if full.is_set():
                raise OSError(28, "No space left on device")

        def close(self) -> None:
            self.flush()

    disk = Disk()
    monkeypatch.setattr(type(stream.path), "open", lambda *_: disk)
    with events.use(log):
        stream._take(b'{"n": 1}\n')
        full.set()
        for number in range(2, 5):
            stream._take(json.dumps({"n": number}).encode() + b"\n")
        full.clear()
        stream._take(b'{"n": 5}\n')
        full.set()
        stream.stop()  # its last bytes cannot be written either: no error over the real one
    names = [(record["name"], record["attributes"].get("lines_lost")) for record in told if record["type"] == "event"]
    assert names == [("log-stream-lost", None), ("log-stream-goes-on", 3), ("log-stream-ended", None)]
    assert stream.records == 2


def test_who_has_little_time_does_not_wait_for_another_threads_connecting(guest):
    guest.close()
    trying, over = threading.Event(), threading.Event()

    def locate(deadline):
        trying.set()
        over.wait(20)
        raise ConnectionLost("a guest", seen="none")

    guest.locate = locate

    def connect():
        with pytest.raises(WaitTimeout):
            guest.connect(Deadline(0.1))

    other = threading.Thread(target=connect)
    other.start()
    try:
        assert trying.wait(10)
        with pytest.raises(ConnectionLost, match="another thread"):
            guest.run(["true"], deadline=Deadline(0.1))
        assert not over.is_set()
    finally:
        over.set()
        other.join()
