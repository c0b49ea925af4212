"""One walk from the prompt to *activated enabled* before the staged display; what the walk matrix and the tests of approvals share."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness import events
from harness.approval import Approval, Approver, Channel
from harness.screen import Reader, Sighting, VncScreen
from harness.simulator.display.gallery import APP, EXTENSIONS, PRIVACY
from harness.simulator.display.staged import ENABLED, StagedMac
from harness.waiting import Deadline

PASSWORD = "Ab3x&"
"""Of the staged Mac: with a shifted letter, and more than one key."""
DEVELOPER = "Example Networks Ltd"
GENERATIONS = ("12", "13", "14", "15", "26")
LOOKS = (("light", 1), ("dark", 1), ("light", 2), ("dark", 2))
FORMS = ("sheet", "sheet-unfocused", "security-agent", "user-sheet", "user-empty", "touch-id")
OTHERS: tuple[str, ...] = (
    "rows=3",
    "rows=12",
    f"row-name=developer:{DEVELOPER}",
    f"row-name=developer:{DEVELOPER},rows=4",
    "alert=other-below",
    "alert=other-on-top",
    "alert=other-beside",
    "settings=elsewhere",
    "settings=same-page",
    "page=top",
    "front=other-window",
    "someone=ok:0.5",
    "someone=escape:0.3",
    "lock=open",
)
"""Variations beside the password's form; `lock` is macOS 12's alone."""


@dataclass
class World:
    """A staged Mac, eyes and hands on it, and what was recorded."""

    mac: StagedMac
    screen: VncScreen
    approver: Approver
    records: list[dict[str, Any]] = field(default_factory=list)

    def named(self, name: str) -> list[dict[str, Any]]:
        """The attributes of the events and ended steps of one name."""
        return [record["attributes"] for record in self.records if record["name"] == name and record["type"] != "start"]


@contextmanager
def world(
    version: str,
    variations: str = "",
    *,
    reader: Reader,
    folder: Path,
    appearance: str = "light",
    scale: int = 1,
    names: Sequence[str] = (APP,),
    password: str = PASSWORD,
    channels: Callable[[VncScreen], Sequence[Channel]] | None = None,
    kind: str = "network",
) -> Iterator[World]:
    """A Mac with an approver before it. Settings is open already if the variation says so; the screen is marked after that."""
    mac = StagedMac(version, names=names, password=PASSWORD, scale=scale, appearance=appearance, variations=variations)
    screen = VncScreen("127.0.0.1", mac.port, mac.VNC_PASSWORD, name="staged")
    log = events.EventLog(folder / "run.jsonl")
    try:
        with events.use(log):
            screen.frame(Deadline(30))
            if "settings=" in variations:
                before = screen.frame(Deadline(10))
                mac.open(page_url(version) if "same-page" in variations else "x-apple.systempreferences:")
                screen.wait_for_change(before, Deadline(10))
            screen.mark()
            made = World(
                mac,
                screen,
                Approver(
                    screen=screen,
                    reader=reader,
                    app_name=APP,
                    extension_kind=kind,
                    generation=int(version),
                    password=password,
                    user="admin",
                    oracle=lambda: mac.model.state(APP),
                    guest_open=mac.open,
                    quit_settings=mac.quit,
                    folder=folder / "frames",
                    developer_names=(DEVELOPER,) if "developer:" in variations else (),
                    channels=channels(screen) if channels is not None else None,
                ),
            )
            log.subscribe(made.records.append)
            yield made
    finally:
        screen.close()
        mac.close()
        log.close()


def page_url(version: str) -> str:
    """Where extensions are approved on that generation."""
    if int(version) >= 15:
        return EXTENSIONS
    return PRIVACY if int(version) >= 13 else PRIVACY.replace("?Security", "?General")


@dataclass(frozen=True)
class Walked:
    """How one walk went. `faults`: what a person would object to; empty if nothing."""

    version: str
    variations: str
    appearance: str
    scale: int
    outcome: Approval
    seen: Sighting | None
    hits: tuple[str, ...]
    seconds: float
    faults: tuple[str, ...]
    degraded: tuple[str, ...]


def walk(
    version: str,
    variations: str = "",
    *,
    reader: Reader,
    appearance: str = "light",
    scale: int = 1,
    patience: float = 90.0,
) -> Walked:
    """Show the prompt, see it, walk; then look at what was clicked."""
    started = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="sysext-walk-") as folder,
        world(version, variations, reader=reader, folder=Path(folder), appearance=appearance, scale=scale) as here,
    ):
        here.mac.show()
        seen = here.approver.wait_for_prompt(Deadline(30))
        outcome = here.approver.approve_in_settings(Deadline(patience), enter="prompt")
        hits = tuple(here.mac.hits)
        faults = []
        if not outcome.approvable or here.mac.model.state(APP) != ENABLED:
            faults.append(f"not approved: {outcome.why}")
        if any(hit.startswith("alert/other") for hit in hits):
            faults.append("another app's alert was clicked")
        if here.mac.named("other-extension"):
            faults.append("another app's extension was switched")
        if any(password != PASSWORD for password in here.mac.model.passwords):
            faults.append("a password arrived mutilated")
        if seen is None:
            faults.append("the prompt was not seen")
        text = (Path(folder) / "run.jsonl").read_text(encoding="utf-8")
        if PASSWORD in text:
            faults.append("the password is in the events")
        degraded = tuple(f"{entry.get('what')}: {entry.get('reason')}" for entry in here.named("degraded"))
    return Walked(
        version, variations, appearance, scale, outcome, seen, hits, time.monotonic() - started, tuple(faults), degraded
    )
