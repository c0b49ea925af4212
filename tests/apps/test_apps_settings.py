"""System Settings from outside: ended for good before a page is opened, and a failed `open` is told."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from harness import events
from harness.apps.launching import QUIT_SETTINGS, open_url, quit_settings
from harness.guest import Guest
from harness.waiting import Deadline

PKILL = """#!/bin/sh
echo "pkill $*" >> "$LOG"
[ -e "$ALIVE" ]
"""
PGREP = """#!/bin/sh
echo "pgrep $*" >> "$LOG"
[ "$(grep -c pgrep "$LOG")" -le "$LOOKS" ]
"""


def _quit(folder: Path, *, looks: int, alive: bool = True) -> list[str]:
    """What the script does where Settings is seen `looks` times more after it was asked to end."""
    tools = folder / "bin"
    tools.mkdir()
    for name, text in (("pkill", PKILL), ("pgrep", PGREP), ("sleep", "#!/bin/sh\n")):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    if alive:
        (folder / "alive").touch()
    (folder / "log").touch()
    names = {"LOG": str(folder / "log"), "ALIVE": str(folder / "alive"), "LOOKS": str(looks)}
    subprocess.run(["/bin/sh", "-c", QUIT_SETTINGS], env={**names, "PATH": f"{tools}:/usr/bin:/bin"}, check=True)
    return (folder / "log").read_text().splitlines()


def test_settings_that_takes_its_time_is_waited_for(tmp_path: Path) -> None:
    assert _quit(tmp_path, looks=3) == [
        "pkill -x System (Settings|Preferences)",
        *["pgrep -x System (Settings|Preferences)"] * 4,
    ]


def test_settings_that_does_not_go_is_killed(tmp_path: Path) -> None:
    assert _quit(tmp_path, looks=1000)[-1] == "pkill -KILL -x System (Settings|Preferences)"


def test_settings_that_is_not_open_is_no_matter(tmp_path: Path) -> None:
    assert _quit(tmp_path, looks=0, alive=False) == ["pkill -x System (Settings|Preferences)"]


def test_on_a_mac(guest: Guest, deadline: Deadline, seen: list[events.Record]) -> None:
    def running() -> bool:
        return guest.run(["pgrep", "-x", "System Settings"], check=False, deadline=deadline).exit_code == 0

    open_url(guest, "x-apple.systempreferences:com.apple.preference.security?Security", deadline=deadline)
    assert running()
    quit_settings(guest, deadline=deadline)
    assert not running()
    assert [record for record in seen if record["name"] == "degraded"] == []


def test_an_open_that_fails_is_told(
    guest: Guest, deadline: Deadline, seen: list[events.Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = guest.run
    monkeypatch.setattr(
        guest, "run", lambda argv, **options: real(["/bin/sh", "-c", "echo no session >&2; exit 1"], **options)
    )
    open_url(guest, "x-apple.systempreferences:x", deadline=deadline)
    (told,) = [record for record in seen if record["name"] == "degraded"]
    assert "no session" in told["attributes"]["reason"]
