"""The VNC client against servers that others wrote: TigerVNC and x11vnc; far sides that report clicks and keys."""

from __future__ import annotations

import os
import re
import shutil
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np
import pytest

from harness import events
from harness.screen import Box, ScreenError, UnsupportedCharacter, VncScreen
from harness.screen.rfb_bytes import Stream
from harness.screen.rfb_encodings import COPY_RECT, RAW, RRE, ZLIB, ZRLE, Framebuffer
from harness.screen.rfb_stream import Connection
from harness.waiting import Deadline, wait_until

PASSWORD = "pass,w0rd-longer-than-eight"


def needs(*programs: str) -> None:
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed (Debian: tigervnc-standalone-server, x11vnc, xvfb, x11-utils)")


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Processes:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stack = ExitStack()
        self.started: list[subprocess.Popen] = []

    def start(self, argv: list[str], **options: object) -> subprocess.Popen:
        log = (self.folder / f"{Path(argv[0]).name}-{len(list(self.folder.iterdir()))}.log").open("wb")
        self.stack.callback(log.close)
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **options)
        process.log = Path(log.name)
        self.stack.callback(self._stop, process)
        self.started.append(process)
        return process

    @staticmethod
    def _stop(process: subprocess.Popen) -> None:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)

    def display(self, argv: list[str]) -> str:
        """Start an X server that picks its own display number; returns ":N"."""
        read, write = os.pipe()
        try:
            self.start([*argv, "-displayfd", str(write)], pass_fds=(write,))
        finally:
            os.close(write)
        with os.fdopen(read) as answer:
            return f":{answer.readline().strip()}"


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    folder = tmp_path / "logs"
    folder.mkdir()
    made = Processes(folder)
    with made.stack:
        yield made


def password_file(folder: Path) -> Path:
    file = folder / "vnc-password"
    obscured = subprocess.run(["vncpasswd", "-f"], input=PASSWORD.encode() + b"\n", capture_output=True, check=True)
    file.write_bytes(obscured.stdout)
    file.chmod(0o600)
    return file


def tiger(
    processes: Processes, folder: Path, *, security: str = "VncAuth", port: int = 0, geometry: str = "800x600"
) -> tuple[str, int]:
    needs("Xvnc", "vncpasswd", "xev")
    port = port or free_port()
    argv = ["Xvnc", "-rfbport", str(port), "-localhost", "-geometry", geometry, "-depth", "24"]
    argv += ["-SecurityTypes", security, "-ac", "-AcceptSetDesktopSize=1"]
    if security == "VncAuth":
        argv += ["-PasswordFile", str(password_file(folder))]
    return processes.display(argv), port


def x11vnc(processes: Processes, folder: Path) -> tuple[str, int]:
    needs("x11vnc", "Xvfb", "vncpasswd", "xev")
    display = processes.display(["Xvfb", "-screen", "0", "800x600x24", "-ac"])
    port = free_port()
    processes.start(
        [
            "x11vnc",
            "-display",
            display,
            "-rfbport",
            str(port),
            "-localhost",
            "-forever",
            "-shared",
            "-noxdamage",
            "-quiet",
            "-rfbauth",
            str(password_file(folder)),
        ]
    )
    return display, port


class Witness:
    """xev's window over the whole display: what arrived at the far side."""

    def __init__(self, processes: Processes, display: str) -> None:
        self.process = processes.start(
            ["stdbuf", "-oL", "xev", "-geometry", "800x600+0+0"], env={**os.environ, "DISPLAY": display}
        )

    @property
    def output(self) -> str:
        return self.process.log.read_text(errors="replace")

    @property
    def typed(self) -> str:
        codes = re.findall(r"XmbLookupString gives 1 bytes: \(([0-9a-f]{2})\)", self.output)
        return "".join(chr(int(code, 16)) for code in codes)

    @property
    def clicks(self) -> list[tuple[int, int]]:
        pattern = r"ButtonPress event.*?root:\((\d+),(\d+)\),\s+state 0x\w+, button (\d+)"
        return [(int(x), int(y)) for x, y, button in re.findall(pattern, self.output, re.S) if button == "1"]


SERVERS: dict[str, Callable[[Processes, Path], tuple[str, int]]] = {"tigervnc": tiger, "x11vnc": x11vnc}


@pytest.mark.parametrize("server", SERVERS)
def test_screenshot_click_and_text_arrive(server: str, processes: Processes, tmp_path: Path) -> None:
    display, port = SERVERS[server](processes, tmp_path)
    with VncScreen("127.0.0.1", port, PASSWORD, name=server) as screen:
        blank = screen.frame(Deadline(20))
        assert blank.size == (800, 600)
        witness = Witness(processes, display)
        shown = screen.wait_for_change(blank, Deadline(20))
        assert shown is not None
        assert shown.serial > blank.serial
        wait_until(lambda: "MapNotify" in witness.output, what="xev's window", deadline=Deadline(20))
        screen.settle(Deadline(5))
        screen.click(321, 234)
        wait_until(lambda: witness.clicks, what="the click", deadline=Deadline(10))
        assert witness.clicks == [(321, 234)]
        # xev draws a white window: what is seen is what was drawn.
        wait_until(
            lambda: tuple(screen.frame(Deadline(5)).pixels[500, 700]),
            lambda pixel: pixel == (255, 255, 255),
            what="white",
            deadline=Deadline(10),
        )
        text = "aZ!9 ~_\"'\\|<Xx"
        screen.type_text(text)
        wait_until(
            lambda: witness.typed.endswith(text[-2:]) and len(witness.typed) >= len(text),
            what="the text",
            deadline=Deadline(10),
        )
        assert witness.typed == text


def test_keys_and_chords_have_the_macs_keysyms(processes: Processes, tmp_path: Path) -> None:
    display, port = tiger(processes, tmp_path, security="None")
    with VncScreen("127.0.0.1", port, None, name="tiger") as screen:
        screen.frame(Deadline(20))
        witness = Witness(processes, display)
        wait_until(lambda: "MapNotify" in witness.output, what="xev's window", deadline=Deadline(20))
        screen.click(400, 300)
        screen.chord("command", "a")
        screen.key("return")
        wait_until(lambda: "keysym 0xff0d" in witness.output, what="Return", deadline=Deadline(10))
        pressed = re.findall(r"KeyPress event.*?keysym (0x\w+)", witness.output, re.S)
        assert pressed == ["0xffe9", "0x61", "0xff0d"]
        with pytest.raises(UnsupportedCharacter) as refused:
            screen.type_text("aé", secret=True)
        assert "é" not in str(refused.value)
        assert len(re.findall("KeyPress event", witness.output)) == 3


def test_desktop_size_changes_are_followed(displays) -> None:
    from harness.simulator.interfaces import Stage

    display = displays("15")
    with display.connect() as screen:
        sizes = []
        for stage in (Stage.BOOT, Stage.DESKTOP):
            display.do(lambda stage=stage: display.desktop.set_stage(stage))
            expected = display.desktop.size
            wait_until(
                lambda: screen.frame(Deadline(5)).size,
                lambda size, expected=expected: size == expected,
                what="the new size",
                deadline=Deadline(15),
            )
            sizes.append(expected)
        frame = screen.settle(Deadline(5))
        assert sizes == [(1024, 768), (1280, 800)]
        assert (frame.pixels[:, :, ::-1] == display.desktop.framebuffer[:, :, :3]).all()


@pytest.mark.parametrize("server", SERVERS)
def test_every_encoding_shows_the_same_picture(server: str, processes: Processes, tmp_path: Path) -> None:
    needs("xterm")
    display, port = SERVERS[server](processes, tmp_path)
    # Text and 256 colours: tiles of every kind.
    paint = "printf '\\033[?25l'; for i in $(seq 0 255); do printf '\\033[48;5;%dm%d ' $i $i; done; exec sleep 300"
    processes.start(
        ["xterm", "-geometry", "100x30+5+9", "-e", "sh", "-c", paint], env={**os.environ, "DISPLAY": display}
    )
    pictures = []
    with VncScreen("127.0.0.1", port, PASSWORD, name=server, encodings=(RAW,)) as screen:
        wait_until(
            lambda: len(np.unique(screen.settle(Deadline(20)).pixels @ np.array([65536, 256, 1]))),
            lambda colours: colours > 200,
            what="xterm's colours",
            deadline=Deadline(30),
        )
        pictures.append(screen.frame(Deadline(20), fresh=True).pixels)
    for encodings in ((ZLIB,), (ZRLE,), (RRE,), (RAW, RRE), (COPY_RECT, ZRLE, ZLIB), None):
        with VncScreen("127.0.0.1", port, PASSWORD, name=server, encodings=encodings) as screen:
            pictures.append(screen.frame(Deadline(20), fresh=True).pixels)
    for picture in pictures[1:]:
        assert np.array_equal(picture, pictures[0])


def test_plain_parts_of_a_screen_are_told_in_a_few_bytes(
    processes: Processes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, port = tiger(processes, tmp_path, security="None")
    boxes: list[tuple[Box, int]] = []
    draw = Framebuffer.draw

    def noted(screen: Framebuffer, stream: Stream, box: Box, encoding: int) -> None:
        boxes.append((box, encoding))
        draw(screen, stream, box, encoding)

    monkeypatch.setattr(Framebuffer, "draw", noted)
    with VncScreen("127.0.0.1", port, None, name="tiger") as screen:
        frame = screen.frame(Deadline(20), fresh=True)
    plain = sum(box.area for box, encoding in boxes if encoding == RRE)
    assert plain > 0.5 * frame.size[0] * frame.size[1]


def test_a_size_wished_for_by_another_client_is_followed(processes: Processes, tmp_path: Path) -> None:
    _, port = tiger(processes, tmp_path, security="None")
    with VncScreen("127.0.0.1", port, None, name="tiger") as screen:
        assert screen.frame(Deadline(20)).size == (800, 600)
        other = Connection("127.0.0.1", port, None)
        try:
            layout = struct.pack(">IHHHHI", 1, 0, 0, 640, 500, 0)
            other.send(struct.pack(">BxHHBx", 251, 640, 500, 1) + layout)  # SetDesktopSize
            wait_until(
                lambda: screen.frame(Deadline(5), fresh=True).size,
                lambda size: size == (640, 500),
                what="the new size",
                deadline=Deadline(20),
            )
        finally:
            other.close()


def test_the_same_screen_goes_on_after_the_server_was_restarted(processes: Processes, tmp_path: Path) -> None:
    _, port = tiger(processes, tmp_path)
    first = processes.started[-1]
    with VncScreen("127.0.0.1", port, PASSWORD, name="tiger") as screen:
        before = screen.frame(Deadline(20))
        processes._stop(first)
        with pytest.raises(ScreenError) as away:
            screen.frame(Deadline(0.5), fresh=True)
        assert "Connection" in str(away.value)
        display, _ = tiger(processes, tmp_path, port=port, geometry="700x500")
        frame = wait_until(
            lambda: screen.frame(Deadline(20)), lambda seen: seen.size == (700, 500), what="it", deadline=Deadline(30)
        )
        assert frame.serial > before.serial
        witness = Witness(processes, display)
        wait_until(lambda: "MapNotify" in witness.output, what="xev's window", deadline=Deadline(20))
        screen.click(300, 200)
        wait_until(lambda: witness.clicks, lambda clicks: clicks == [(300, 200)], what="it", deadline=Deadline(20))


def test_a_wrong_password_is_told_at_once(processes: Processes, tmp_path: Path) -> None:
    _, port = tiger(processes, tmp_path)
    with VncScreen("127.0.0.1", port, "wrong", name="tiger") as screen, pytest.raises(ScreenError) as failed:
        screen.frame(Deadline(60))
    assert "password" in str(failed.value)
    assert "wrong" not in str(failed.value)


def test_a_server_that_comes_late_is_waited_for(processes: Processes, tmp_path: Path, displays) -> None:
    with closing(socket.socket()) as nobody:
        nobody.bind(("127.0.0.1", 0))
        with VncScreen("127.0.0.1", nobody.getsockname()[1], "x", name="nobody") as screen:
            with pytest.raises(ScreenError) as failed:
                screen.frame(Deadline(0.3))
            assert "Connection" in str(failed.value)
    with pytest.raises(ScreenError) as closed:
        screen.frame(Deadline(1))
    assert "closed" in str(closed.value)


def test_the_simulated_display_is_seen_and_clicked(displays) -> None:
    from harness.simulator.interfaces import Alert, AlertKind

    display = displays("15")
    answered: list[str] = []
    with display.connect() as screen:
        before = screen.frame(Deadline(10))
        screen.mark()
        assert screen.marked is before
        display.do(lambda: display.desktop.show(Alert(AlertKind.NOTICE, "App", text="No.", on_button=answered.append)))
        after = screen.wait_for_change(before, Deadline(10))
        assert after is not None
        assert (after.pixels[:, :, 0].astype(int) != before.pixels[:, :, 0]).any()
        assert (after.pixels[:, :, ::-1] == display.desktop.framebuffer[:, :, :3]).all()
        screen.key("return")
        wait_until(lambda: answered, what="OK", deadline=Deadline(10))


def test_settle_looks_at_its_region_only(displays) -> None:
    from harness.screen import Box

    display = displays("14")
    stop = threading.Event()

    def flicker() -> None:
        number = 0
        while not stop.wait(0.05):
            number += 1

            def draw(value: int = number) -> None:
                display.desktop.framebuffer[0:8, 0:8] = value % 251
                for listener in tuple(display.desktop._listeners):
                    listener((0, 0, 8, 8))

            display.do(draw)

    with display.connect() as screen:
        thread = threading.Thread(target=flicker)
        thread.start()
        try:
            calm = Deadline(20)
            screen.settle(calm, quiet=0.5, region=Box(400, 400, 600, 600))
            assert not calm.expired
            restless = Deadline(1.0)
            screen.settle(restless, quiet=0.5)
            assert restless.expired
        finally:
            stop.set()
            thread.join()


def test_a_stalled_server_is_revived_and_it_is_told(displays, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.screen import rfb_reader
    from harness.simulator.interfaces import Alert, AlertKind

    monkeypatch.setattr(rfb_reader, "STALL", 0.5)
    display = displays("26")
    log = events.EventLog()
    told: list[dict] = []
    log.subscribe(told.append)
    with events.use(log), display.connect() as screen:
        before = screen.settle(Deadline(5))
        display.do(lambda: display.desktop.freeze(True))
        display.do(lambda: display.desktop.show(Alert(AlertKind.NOTICE, "App", text="No.")))
        assert screen.wait_for_change(before, Deadline(20)) is not None
        wait_until(  # what changes first may be another thing: the clock
            lambda: any(record["name"] == "degraded" and "stalled" in record["attributes"]["what"] for record in told),
            what="the word of it",
            deadline=Deadline(20),
        )


def test_a_fresh_frame_is_asked_for(displays) -> None:
    from harness.simulator.interfaces import Alert, AlertKind

    display = displays("26")
    with display.connect() as screen:
        before = screen.settle(Deadline(5))
        display.do(lambda: display.desktop.freeze(True))
        display.do(lambda: display.desktop.show(Alert(AlertKind.NOTICE, "App", text="No.")))
        assert screen.frame(Deadline(5)) is before
        assert screen.frame(Deadline(5), fresh=True).serial > before.serial


def test_a_dead_connection_is_replaced(displays, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.screen import rfb_reader
    from harness.simulator.interfaces import Alert, AlertKind

    monkeypatch.setattr(rfb_reader, "STALL", 0.3)
    monkeypatch.setattr(rfb_reader, "ANSWER", 0.4)
    display = displays("15")
    log = events.EventLog()
    told: list[dict] = []
    log.subscribe(told.append)
    with events.use(log), display.connect() as screen:
        before = screen.settle(Deadline(5))
        display.do(lambda: display.desktop.freeze(True, hard=True))
        display.do(lambda: display.desktop.show(Alert(AlertKind.NOTICE, "App", text="No.")))
        wait_until(
            lambda: [record["name"] for record in told],
            lambda names: "screen-lost" in names,
            what="the connection to be given up",
            deadline=Deadline(20),
            interval=0.1,
            pause=lambda seconds: screen.wait_for_change(before, Deadline(seconds)),
        )
        display.do(lambda: display.desktop.freeze(False))
        assert screen.wait_for_change(before, Deadline(20)) is not None
    assert any("wiggled" in str(record["attributes"].get("what")) for record in told)
