"""This machine's own display as a screen, on a real X display with a real program in front of it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import string
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.screen.desktop_driver import FailSafe
from harness.waiting import Deadline, wait_until

APP, PASSWORD = "Mitmproxy Redirector", "Tr0ub4dor&3"
HERE = Path(__file__).parent


class Machine:
    """An X display with the dialog on it, and the screen in a process of its own."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.stack = stack
        self.display = self.x_server()
        # python3-xlib wants a file of authorities: there is none here, as on most machines without a desktop.
        self.env = {
            **os.environ,
            "DISPLAY": self.display,
            "HOME": str(folder),
            "PYTHONPATH": str(HERE.parents[1]),
            "XDG_SESSION_TYPE": "x11",
        }
        self.env.pop("XAUTHORITY", None)
        self.commands = folder / "commands"
        os.mkfifo(self.commands)
        self.pipe = os.open(self.commands, os.O_RDWR)
        stack.callback(os.close, self.pipe)
        dialog = [python_with_tk(), str(HERE / "desktop_dialog.py"), str(self.state), APP, PASSWORD]
        self.start(dialog, stdin=self.pipe, env=self.env)
        self.wait_for("ready")
        self.agent = self.start(
            [sys.executable, str(HERE / "desktop_agent.py")], env=self.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )  # fmt: skip

    def start(self, argv: list[str], **options: object) -> subprocess.Popen:
        log = self.stack.enter_context((self.folder / f"{Path(argv[-1]).name}.log").open("wb"))
        process = subprocess.Popen(argv, **{"stderr": log, **options})

        def end() -> None:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)

        self.stack.callback(end)
        return process

    def x_server(self) -> str:
        read, write = os.pipe()
        try:
            self.start(
                ["Xvfb", "-screen", "0", "1280x800x24", "-nolisten", "tcp", "-displayfd", str(write)], pass_fds=(write,)
            )
        finally:
            os.close(write)
        with os.fdopen(read) as answer:
            return f":{answer.readline().strip()}"

    @property
    def lines(self) -> list[dict]:
        # The program may be in the middle of its last line.
        text = self.state.read_text() if self.state.exists() else ""
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def said(self, what: str) -> list[dict]:
        return [line for line in self.lines if line["what"] == what]

    def wait_for(self, what: str, count: int = 1) -> list[dict]:
        return wait_until(
            lambda: self.said(what), lambda lines: len(lines) >= count, what=f"the dialog's '{what}'", deadline=Deadline(60), interval=0.05
        )  # fmt: skip

    def command(self, word: str) -> None:
        before = len(self.said("done"))
        os.write(self.pipe, f"{word}\n".encode())
        self.wait_for("done", before + 1)

    def ask(self, do: str, **arguments: object) -> dict:
        self.agent.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self.agent.stdin.flush()
        line = self.agent.stdout.readline()
        assert line, "the process with the screen has ended; its standard error is in the test's folder"
        return json.loads(line)

    def do(self, do: str, **arguments: object) -> object:
        answer = self.ask(do, **arguments)
        assert "ok" in answer, answer
        return answer["ok"]

    def act(self, name: str, *arguments: object, **options: object) -> None:
        self.do("act", name=name, **{"with": list(arguments), "options": options})


def python_with_tk() -> str:
    for candidate in (sys.executable, "/usr/bin/python3"):
        if (
            shutil.which(candidate)
            and not subprocess.run([candidate, "-c", "import tkinter"], capture_output=True).returncode
        ):
            return candidate
    return pytest.skip("no Python with tkinter (Debian: python3-tk)")


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    if shutil.which("Xvfb") is None:
        pytest.skip("no Xvfb on this machine")
    pytest.importorskip("Xlib", reason="pyautogui is not installed: pip install 'sysext-harness[desktop]'")
    with contextlib.ExitStack() as stack:
        made = Machine(tmp_path_factory.mktemp("desktop"), stack)
        made.opened = made.do("open")
        yield made


def test_no_gpl_module_of_pyautogui_comes_into_the_process(machine):
    assert {"pyautogui", "mss", "Xlib"} <= set(machine.opened["modules"])
    assert not {"mouseinfo", "pymsgbox", "tkinter"} & set(machine.opened["modules"])


def test_on_a_real_display_the_frame_has_its_size_and_scale_and_its_pixels(machine, tmp_path):
    frame = machine.do("frame", save=str(tmp_path / "frame.png"))
    assert frame["size"] == [1280, 800]
    assert frame["scale"] == [1.0, 1.0]
    from PIL import Image

    assert Image.open(tmp_path / "frame.png").getpixel((1200, 700)) == (
        0x4A,
        0x6E,
        0xA0,
    )  # red first: it is not blue's picture


def test_on_a_real_display_pyautoguis_own_pictures_are_the_same(machine):
    if shutil.which("scrot") is None:
        pytest.skip("pyautogui.screenshot needs scrot on Linux")
    assert machine.do("by_pyautogui")


def test_on_a_real_display_clicks_keys_and_wheel_arrive(machine):
    machine.command("pad")
    machine.act("click", 201, 187)
    pressed = machine.wait_for("button", 2)
    assert [(line["value"], line["at"]) for line in pressed] == [("down", [201, 187]), ("released", [201, 187])]
    assert machine.do("position") == [1278, 400]
    everything = "".join(c for c in string.printable if c.isprintable())
    machine.act("type_text", everything, secret=True)
    machine.act("chord", "command", "a")
    machine.act("key", "escape")
    assert [line["value"] for line in machine.wait_for("chord", 2)] == ["Alt+a", "Escape"]
    assert machine.said("text")[-1]["value"] == everything
    machine.act("scroll", 201, 187, 2)
    machine.act("scroll", 201, 187, -1)
    assert [line["value"] for line in machine.wait_for("button", 5)[2:]] == ["under", "under", "up"]
    machine.command("pad-away")


def test_on_a_real_display_the_fail_safe_stops_an_action(machine):
    machine.do("corner")
    answer = machine.ask("act", name="click", **{"with": [300, 300]})
    assert answer["error"] == FailSafe.__name__
    assert "move it away" in answer["hint"]
    subprocess.run(["xdotool", "mousemove", "640", "700"], env=machine.env, check=False)


def test_an_approval_is_walked_through_on_a_real_display(machine, request, tmp_path):
    """The same page objects and the same walk as over VNC; what was approved is told by the program's own state."""
    if shutil.which("xdotool") is None:
        pytest.skip("no xdotool on this machine")
    subprocess.run(["xdotool", "mousemove", "640", "700"], env=machine.env, check=True)
    before = len(machine.lines)
    cache = getattr(request.config, "cache", None)
    answer = machine.do(
        "walk",
        app=APP,
        password=PASSWORD,
        state=str(machine.state),
        commands=str(machine.commands),
        folder=str(tmp_path),
        readings=str(cache.mkdir("sysext-readings") / "desktop") if cache is not None else "",
    )
    assert answer == {
        "approvable": True,
        "prompt": True,
        "why": "the oracle says activated_enabled",
        "state": "activated_enabled",
    }
    pressed = [line["target"] for line in machine.lines[before:] if line["what"] == "press"]
    assert pressed == [
        "alert/Open System Settings",
        "(i) Network Extensions",
        f"switch {APP}",
        "password/Modify Settings",
    ]
    assert PASSWORD not in (tmp_path / "run.jsonl").read_text()


def test_a_display_that_is_not_there_is_an_error_of_ours(machine):
    """In a process of its own: what a failed import leaves behind is nobody else's."""
    code = "from harness.screen.desktop import DesktopScreen\nDesktopScreen()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**machine.env, "DISPLAY": ":64999"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "harness.screen.errors.ScreenError: a display that can be reached" in done.stderr
    assert "':64999'" in done.stderr
