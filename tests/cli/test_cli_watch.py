"""`sysext screen watch` and `export`: the page asked by real requests, live and as a replay."""

from __future__ import annotations

import http.client
import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from harness import events
from harness.cli.screen_watch import export, find_source, watch
from harness.config import Settings
from harness.errors import UsageError
from harness.machines.leases import Leases
from harness.machines.tart_cli import TartCli
from harness.reports.live_page import Follower, LivePage
from harness.screen.frames import Box, Frame
from harness.screen.recording import ScreenRecorder
from harness.waiting import Deadline, wait_until

HOSTILE = "</script><img src=x onerror=alert(1)>\u202e\x07"


def record(case: Path, *, frames: int = 2, text: str = "Mitmproxy", machine: str = "mac-1") -> ScreenRecorder:
    """Begin a recording in a case folder; the caller closes it."""
    case.mkdir(parents=True, exist_ok=True)
    recorder = ScreenRecorder(
        case / "screen", machine=machine, simulated=True, labels={"scenario": text, "macos": "15"}, pace=0.0
    )
    for serial in range(frames):
        show(recorder, serial)
    recorder.note(
        {"type": "event", "name": "sighting", "attributes": {"window": "alert-blocked", "app_name": text,
         "region": [10, 10, 90, 90], "advice": ["Allow", 50, 60]}}
    )  # fmt: skip
    return recorder


def show(recorder: ScreenRecorder, serial: int) -> None:
    pixels = np.full((300, 400, 3), 10 + serial, np.uint8)
    recorder.show(Frame(pixels, serial, time.monotonic()), (Box(0, 0, 400, 300),))
    wait_until(lambda: not recorder._queue, what="the writer", deadline=Deadline(60), interval=0.01)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Path:
    case = tmp_path_factory.mktemp("run") / "case"
    record(case, text=HOSTILE, machine=HOSTILE).close()
    log = events.EventLog(case / "run.jsonl")
    log.event("note", text=HOSTILE)
    log.close()
    return case


class Serving:
    def __init__(self, page: LivePage) -> None:
        self.page = page
        self.thread = threading.Thread(target=page.serve)
        self.thread.start()

    def get(
        self, path: str | None = None, *, host: str | None = None, method: str = "GET"
    ) -> tuple[int, dict[str, str], bytes]:
        """One request; the path is below the random word unless it begins with a slash."""
        parts = urlsplit(self.page.url)
        connection = http.client.HTTPConnection("127.0.0.1", self.page.port, timeout=60)
        whole = path if path is not None and path.startswith("/") else parts.path + (path or "")
        connection.request(method, whole, headers={"Host": host or parts.netloc})
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, body

    def stream(self) -> Iterator[dict]:
        """The page's messages, as they come."""
        parts = urlsplit(self.page.url)
        connection = http.client.HTTPConnection("127.0.0.1", self.page.port, timeout=60)
        connection.request("GET", parts.path + "stream", headers={"Host": parts.netloc})
        answer = connection.getresponse()
        assert answer.getheader("Content-Type") == "text/event-stream"
        try:
            while line := answer.readline():
                if line.startswith(b"data: "):
                    yield json.loads(line[6:])
        finally:
            connection.close()

    def close(self) -> None:
        self.page.close()
        self.thread.join(60)
        assert not self.thread.is_alive()


@pytest.fixture
def serving(case: Path) -> Iterator[Serving]:
    page = LivePage(lambda: case / "screen", events=case / "run.jsonl", labels={"scenario": HOSTILE})
    serving = Serving(page)
    yield serving
    serving.close()


def items(serving: Serving, until: str) -> list[dict]:
    found: list[dict] = []
    for message in serving.stream():
        found += message.get("items", [message])
        if any(one["kind"] == until for one in found):
            return found
    raise AssertionError(f"the stream ended without {until}: {found}")


def test_a_replay_has_everything_that_was_recorded(serving: Serving) -> None:
    found = items(serving, "end")
    header = next(one for one in found if one["kind"] == "header")
    assert header["simulated"] is True
    assert header["labels"]["macos"] == "15"
    frames = [one for one in found if one["kind"] == "frame"]
    assert [frame["whole"] for frame in frames] == [True, False]
    assert frames[0]["size"] == [400, 300]
    mark = next(one for one in found if one["kind"] == "mark")
    assert mark["text"].startswith("sees alert-blocked")
    assert mark["shapes"][0][:5] == ["window", 10, 10, 90, 90]
    status, headers, body = serving.get(f"tile/{frames[1]['tiles']['0']}")
    assert (status, headers["content-type"]) == (200, "image/png")
    assert body.startswith(b"\x89PNG")


def test_the_last_events_are_told(serving: Serving) -> None:
    for message in serving.stream():
        if message["kind"] == "lines":
            assert any(line["text"].startswith("note text=") for line in message["lines"])
            break


def test_what_a_guest_wrote_cannot_become_part_of_the_page(serving: Serving) -> None:
    status, headers, body = serving.get()
    assert status == 200
    text = body.decode()
    assert "<img" not in text
    assert text.count("</script>") == 2  # the page's own two
    assert "innerHTML" not in text
    policy = headers["content-security-policy"]
    nonce = re.search(r"script-src 'nonce-([\w-]+)'", policy)
    assert nonce is not None
    assert "default-src 'none'" in policy
    assert re.findall(r'<(?:script|style) nonce="([^"]*)"', text) == [nonce.group(1)] * 2
    assert "{{" not in text
    assert "http:" not in text.replace("http-equiv", "")
    assert "https:" not in text
    for one in items(serving, "end"):
        assert "\u202e" not in json.dumps(one, ensure_ascii=False)
        assert "\x07" not in json.dumps(one, ensure_ascii=False)


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "localhost:1", "127.0.0.1.evil.example:80", ""])
def test_another_name_for_this_host_is_refused(serving: Serving, host: str) -> None:
    for path in ("", "stream", "tile/" + "0" * 32):
        assert serving.get(path, host=host or "x")[0] == 403


def test_localhost_will_do(serving: Serving) -> None:
    assert serving.get(host=f"localhost:{serving.page.port}")[0] == 200


@pytest.mark.parametrize("path", ["/", "/x/", "/stream", "//", "/%2e%2e/", "/{token}x/", "/{token}"])
def test_without_the_word_there_is_nothing(serving: Serving, path: str) -> None:
    assert serving.get(path.replace("{token}", serving.page.token))[0] == 404


@pytest.mark.parametrize(
    "path",
    ["tile/../timeline.jsonl", "tile/..%2ftimeline", "tile/" + "g" * 32, "tile/" + "0" * 32, "tile/", "other", "../x"],
)
def test_no_other_file_can_be_asked_for(serving: Serving, path: str) -> None:
    assert serving.get(path)[0] == 404


def test_no_picture_of_another_folder_can_be_asked_for(serving: Serving, case: Path) -> None:
    (case / "frames").mkdir()
    Image.new("RGB", (9, 9)).save(case / "frames" / "001.png")
    assert (case / "screen" / "tiles" / "../../frames/001.png").is_file()
    assert serving.get("tile/../../frames/001")[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_nothing_can_be_changed(serving: Serving, method: str) -> None:
    assert serving.get(method=method)[0] == 501


def test_too_many_viewers_are_turned_away(serving: Serving) -> None:
    streams = [serving.stream() for _ in range(8)]
    for stream in streams:
        next(stream)
    assert serving.get("stream")[0] == 503
    for stream in streams:
        stream.close()


def test_it_is_live_and_follows_a_thinned_timeline(tmp_path: Path) -> None:
    """First nothing (the Mac boots), then what is recorded while somebody looks, then a timeline that was replaced."""
    case = tmp_path / "case"
    serving = Serving(LivePage(lambda: case / "screen" if (case / "screen").is_dir() else None))
    try:
        stream = serving.stream()
        recorder = record(case, frames=1)
        kinds: list[str] = []

        def until(kind: str) -> dict:
            for message in stream:
                for one in message.get("items", [message]):
                    kinds.append(one["kind"])
                    if one["kind"] == kind:
                        return one
            raise AssertionError(kinds)

        until("frame")
        show(recorder, 7)
        assert until("frame")["whole"] is False
        path = case / "screen" / "timeline.jsonl"
        (case / "new").write_bytes(path.read_bytes())
        (case / "new").replace(path)
        until("reset")
        assert until("frame")["whole"] is True
        recorder.close()
    finally:
        serving.close()


def test_the_follower_survives_rubbish(tmp_path: Path) -> None:
    (tmp_path / "timeline.jsonl").write_bytes(
        b'\x00\xff{"type":"frame"}\n[]\n{"type":"header","schema":99,"time":""}\n'
    )
    (tmp_path / "run.jsonl").write_bytes(b'nonsense\n{"type":"event","name":7,"attributes":[]}\n[[[\n')
    follower = Follower(lambda: tmp_path, tmp_path / "run.jsonl")
    messages = follower.read()
    assert [message["kind"] for message in messages] == ["reset", "lines"]
    assert messages[1]["lines"] == [{"time": "None", "text": "7"}]
    assert follower.read() == []


# --- the commands


def lease(cache: Path, name: str, folder: Path | None) -> None:
    cli = TartCli("/bin/true")
    Leases(cache / "leases").open(name=name, provider="simulated", simulated=True, image="i", cli=cli, folder=folder)


def test_a_machine_is_found_by_its_lease(tmp_path: Path) -> None:
    settings = Settings(cache=tmp_path / "cache")
    case = tmp_path / "case"
    lease(tmp_path / "cache", "sysext-a", case / "machine")
    source = find_source("sysext-a", settings)
    assert source.locate() is None  # it boots
    assert source.events == case / "run.jsonl"
    record(case).close()
    assert source.locate() == case / "screen"
    (case / "screen-2").mkdir()
    (case / "screen-2" / "timeline.jsonl").touch()
    assert source.locate() == case / "screen-2"


def test_what_cannot_be_watched_is_said(tmp_path: Path) -> None:
    settings = Settings(cache=tmp_path / "cache")
    with pytest.raises(UsageError, match="none at present"):
        find_source("sysext-a", settings)
    lease(tmp_path / "cache", "sysext-first", None)
    with pytest.raises(UsageError, match="did you mean sysext-first"):
        find_source("sysext-frist", settings)
    with pytest.raises(UsageError, match="does not name one"):
        find_source("sysext-first", settings)
    with pytest.raises(UsageError, match="recorded screen"):
        find_source(str(tmp_path), settings)


def test_the_command_serves_until_ctrl_c(case: Path) -> None:
    program = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from harness.cli import main; main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, "screen", "watch", str(case)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        parts = urlsplit(url)
        assert parts.hostname == "127.0.0.1"
        connection = http.client.HTTPConnection("127.0.0.1", parts.port or 0, timeout=60)
        connection.request("GET", parts.path)
        assert b"<title>" in connection.getresponse().read()
        connection.close()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
        assert process.returncode == 0
        assert "Traceback" not in said
        assert "ended" in said
    finally:
        process.kill()
        process.wait()


def test_watch_opens_the_browser_only_when_asked(case: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda url: opened.append(url) or True)

    def serve(self: LivePage) -> None:
        self._server.server_close()
        raise KeyboardInterrupt

    monkeypatch.setattr(LivePage, "serve", serve)
    result = CliRunner().invoke(watch, [str(case)])
    assert (result.exit_code, opened) == (0, [])
    result = CliRunner().invoke(watch, [str(case), "--open"])
    assert result.exit_code == 0
    assert len(opened) == 1
    assert opened[0] in result.output


def test_export_makes_a_film_beside_the_recording(case: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(export, [str(case)], catch_exceptions=False)
    assert result.exit_code == 0
    assert Image.open(case / "screen.webp").n_frames >= 2
    target = tmp_path / "small.gif"
    result = CliRunner().invoke(
        export, [str(case / "screen"), "--output", str(target), "--max-width", "200", "--no-boxes"]
    )
    assert result.exit_code == 0
    assert Image.open(target).size[0] == 200


@pytest.mark.parametrize("output", ["film.avi", "film", "absent/film.webp"])
def test_an_output_that_cannot_be_is_said_first(case: Path, tmp_path: Path, output: str) -> None:
    with pytest.raises(UsageError) as caught:
        CliRunner().invoke(export, [str(case), "--output", str(tmp_path / output)], catch_exceptions=False)
    assert caught.value.hint
    assert list(tmp_path.iterdir()) == []
