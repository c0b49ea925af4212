"""The pointer waits at the button of a known prompt, and at nothing else; it leaves as soon as it is in the way."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks.walking import APP, world
from harness import events
from harness.approval.parking import Parking
from harness.screen import Frame, ScreenError
from harness.screen.needles import Needles
from harness.simulator.interfaces import AlertKind
from harness.waiting import Deadline, wait_until
from tests.support import screen_prompts as prompts
from tests.support.drawn_reader import DrawnReader

KINDS = ("ne-proxy-consent",)
ORIGINS = itertools.count()


class Pointer:
    """A screen that is only a pointer. `broken`: not connected."""

    def __init__(self, marked: Frame | None) -> None:
        self.marked = marked
        self.did: list[object] = []
        self.broken = False

    def park(self, x: int, y: int) -> None:
        if self.broken:
            raise ScreenError("the screen", seen="not connected")
        self.did.append((x, y))

    def leave(self) -> None:
        if self.broken:
            raise ScreenError("the screen", seen="not connected")
        self.did.append("left")


class Place:
    """A prompt that is known, the desktop without it, and where its button is."""

    def __init__(self, folder: Path) -> None:
        self.drawn = prompts.prompt(AlertKind.PROXY, APP)
        pixels = np.zeros_like(self.drawn.frame.pixels)
        pixels[:] = (70, 110, 190)
        self.desktop = prompts.frame_of(pixels, serial=0)
        self.needles = Needles(folder, origin=f"simulated-parking-{next(ORIGINS)}", app_name=APP)
        assert self.needles.learn(self.drawn.seen) is not None
        self.at = self.drawn.seen.advice.centre
        self.pointer = Pointer(self.desktop)
        self.parking = Parking(self.pointer, self.needles)
        self.records: list[dict] = []

    def spotted(self, dx: int, dy: int) -> Frame:
        """The desktop with a small dark spot beside the button's middle."""
        pixels = self.desktop.pixels.copy()
        pixels[self.at[1] + dy : self.at[1] + dy + 12, self.at[0] + dx : self.at[0] + dx + 8] = 0
        return prompts.frame_of(pixels)

    def told(self, name: str) -> list[dict]:
        return [record["attributes"] for record in self.records if record["name"] == name]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path / "needles")
    log = events.EventLog()
    log.subscribe(made.records.append)
    with events.use(log):
        yield made


def test_it_waits_where_the_button_was(place: Place) -> None:
    place.parking.begin(place.desktop, KINDS)
    assert place.pointer.did == [place.at]
    assert place.told("pointer-parked") == [{"window": "ne-proxy-consent", "at": list(place.at)}]
    place.parking.look(place.desktop)
    place.parking.end(place.drawn.seen, known=True)
    assert place.pointer.did == [place.at]  # it stays for the click
    assert not place.parking.parked


def test_it_leaves_when_no_prompt_came_and_may_wait_there_again(place: Place) -> None:
    for _ in range(2):
        place.parking.begin(place.desktop, KINDS)
        place.parking.end(None, known=False)
    assert place.pointer.did == [place.at, "left"] * 2
    assert place.told("degraded") == []


@pytest.mark.parametrize(
    "why", ["another class", "another size", "no mark", "a window since the mark", "no needles", "no such screen"]
)
def test_it_does_not_wait_anywhere_else(place: Place, why: str) -> None:
    parking, frame, kinds = place.parking, place.desktop, KINDS
    if why == "another class":
        kinds = ("alert-blocked",)
    elif why == "another size":
        frame = place.pointer.marked = prompts.frame_of(np.ones((500, 500, 3), np.uint8))
    elif why == "no mark":
        place.pointer.marked = None
    elif why == "a window since the mark":
        frame = place.spotted(0, -50)
    elif why == "no needles":
        parking = Parking(place.pointer, None)
    else:
        parking = Parking(type("Bare", (), {"marked": place.desktop})(), place.needles)
    parking.begin(frame, kinds)
    assert place.pointer.did == []
    assert not parking.parked


def test_a_pointer_that_the_server_draws_leaves_and_does_not_come_back(place: Place) -> None:
    place.parking.begin(place.desktop, KINDS)
    place.parking.look(place.spotted(0, 0))
    assert place.pointer.did == [place.at, "left"]
    assert [entry["what"] for entry in place.told("degraded")] == ["the pointer does not wait at the prompt's button"]
    place.parking.begin(place.desktop, KINDS)
    Parking(place.pointer, place.needles).begin(place.desktop, KINDS)  # nor for another wait on the same kind of Mac
    assert place.pointer.did == [place.at, "left"]


def test_what_changes_elsewhere_is_not_its_affair(place: Place) -> None:
    place.parking.begin(place.desktop, KINDS)
    place.parking.look(place.spotted(-150, -100))
    assert place.parking.parked


def test_a_prompt_that_had_to_be_read_because_of_it(place: Place) -> None:
    place.parking.begin(place.desktop, KINDS)
    place.parking.end(place.drawn.seen, known=False)
    assert place.pointer.did == [place.at]
    assert "known by its pixels" in place.told("degraded")[0]["reason"]
    place.parking.begin(place.desktop, KINDS)
    assert place.pointer.did == [place.at]


def test_a_screen_that_is_not_connected_is_no_failure(place: Place) -> None:
    place.pointer.broken = True
    place.parking.begin(place.desktop, KINDS)
    assert not place.parking.parked
    place.pointer.broken = False
    place.parking.begin(place.desktop, KINDS)
    place.pointer.broken = True
    place.parking.end(None, known=False)
    assert len(place.told("degraded")) == 2


@pytest.fixture(scope="module")
def drawn() -> Iterator[DrawnReader]:
    with pytest.MonkeyPatch.context() as patch:
        reader = DrawnReader()
        reader.install(patch)
        yield reader


def test_the_second_time_the_pointer_is_there_before_the_prompt(
    drawn: DrawnReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole way through a VNC server: learned, then waited for at the button, then pressed without a move."""
    with world("15", reader=drawn, folder=tmp_path) as here:
        needles = Needles(tmp_path / "needles", origin=f"simulated-parking-{next(ORIGINS)}", app_name=APP)
        here.approver.observer.needles = needles
        here.approver.parking = Parking(here.screen, needles)
        here.mac.show(AlertKind.PROXY)
        here.approver.consent("ne-proxy-consent", "allow", Deadline(60), done=lambda: True)
        assert needles.load() == 1
        (spot,) = needles.spots(here.screen.frame(Deadline(10)).size)
        here.screen.frame(Deadline(20), fresh=True)
        here.screen.mark()
        ways: list[tuple[int, int, int]] = []
        move = here.screen._move

        def noted(x: int, y: int, buttons: int) -> None:
            ways.append((x, y, buttons))
            move(x, y, buttons)

        monkeypatch.setattr(here.screen, "_move", noted)
        waiting = threading.Thread(
            target=here.approver.consent,
            args=("ne-proxy-consent", "allow", Deadline(60)),
            kwargs={"done": lambda: True},
        )
        waiting.start()
        try:
            wait_until(lambda: ways, what="the pointer to be parked", deadline=Deadline(30))
            assert ways == [(*spot.at, 0)]
            here.mac.show(AlertKind.PROXY)
        finally:
            waiting.join(60)
        assert ways[:3] == [(*spot.at, 0), (*spot.at, 1), (*spot.at, 0)]
        assert here.mac.pressed == ["Allow"] * 2
