"""An administrator's password for what an app asks for itself: given where the window names our app, and to nobody else."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from benchmarks.walking import world
from harness.errors import HarnessError
from harness.simulator.display.gallery import APP
from harness.simulator.interfaces import AlertKind
from harness.waiting import Deadline
from tests.support.drawn_reader import DrawnReader

WHAT = "a System Extension"


@pytest.mark.parametrize(("version", "variations"), [("15", ""), ("13", "password=touch-id")])
def test_it_is_given(version: str, variations: str, drawn: DrawnReader, quick: None, tmp_path: Path) -> None:
    with world(version, variations, reader=drawn, folder=tmp_path) as here:
        here.mac.show(AlertKind.ADMINISTRATOR, text=WHAT)
        assert here.approver.give_password(Deadline(60), lambda: bool(here.mac.pressed)) is True
        assert here.mac.pressed == ["OK"]
        assert here.mac.do(here.mac.desktop.accessible)[-1].name != "SecurityAgent"


def test_nobody_may_ask(drawn: DrawnReader, quick: None, tmp_path: Path) -> None:
    with world("15", reader=drawn, folder=tmp_path) as here:
        until = time.monotonic() + 0.5
        assert here.approver.give_password(Deadline(60), lambda: time.monotonic() > until) is False
        assert here.mac.hits == []


def test_a_window_of_another_app_gets_none(drawn: DrawnReader, quick: None, tmp_path: Path) -> None:
    with world("15", reader=drawn, folder=tmp_path) as here:
        here.mac.show(AlertKind.ADMINISTRATOR, app="Zebra", text=WHAT)
        with pytest.raises(HarnessError, match=f"a password window for {APP}"):
            here.approver.give_password(Deadline(60), lambda: False)
        assert here.mac.pressed == []
        assert not any("OK" in hit for hit in here.mac.hits)
