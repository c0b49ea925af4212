"""A display that sleeps, a locked one, and a person at it who is no administrator."""

from __future__ import annotations

import pytest

from harness.simulator.display import build_display, keys
from harness.simulator.display.desktop import Desktop
from harness.simulator.display.gallery import APP, EXTENSIONS, VERSIONS, StillModel
from harness.simulator.interfaces import Alert, AlertKind, Stage
from harness.simulator.journal import MemoryJournal
from harness.simulator.settings import SimSettings


class Person(StillModel):
    """A guest that knows accounts; everybody's password is theirs written backwards."""

    def __init__(self, user: str, *, administrator: bool) -> None:
        super().__init__(APP)
        self.who = (user, administrator)
        self.touched: list[str] = []
        self.cancelled: list[str] = []
        self.open = 0
        self.wakes = True

    def check_password(self, password: str) -> bool:
        return password == self.who[0][::-1]

    def console(self) -> tuple[str, bool]:
        return self.who

    def authenticate(self, name: str, password: str) -> bool:
        return (name, password) == ("boss", "ssob")

    def refused(self, pane: str) -> None:
        self.cancelled.append(pane)

    def user_activity(self, kind: str) -> bool:
        self.touched.append(kind)
        return self.wakes

    def unlocked(self) -> None:
        self.open += 1


def desktop(model: StillModel, version: str = "15") -> Desktop:
    made = build_display(
        macos=VERSIONS[version], size_points=(1280, 800), scale=1, appearance="light", settings=SimSettings(), journal=MemoryJournal()
    )  # fmt: skip
    made.model = model
    made.set_stage(Stage.DESKTOP)
    return made


def write(here: Desktop, text: str) -> None:
    for character in text:
        here.key(ord(character), down=True)
        here.key(ord(character), down=False)


def test_a_sleeping_display_is_black_keeps_its_windows_and_gives_input_to_the_guest() -> None:
    model = Person("admin", administrator=True)
    here = desktop(model)
    here.show(Alert(AlertKind.EXTENSION, APP))
    before = here.framebuffer.copy()
    here.set_stage(Stage.ASLEEP)
    assert not here.framebuffer[:, :, :3].any()
    here.pointer(10, 10, 0)
    here.pointer(640, 400, 1)
    here.pointer(640, 400, 0)
    here.key(keys.RETURN, down=True)
    assert model.touched == ["move", "click", "move", "key"]
    assert len(here._alerts) == 1  # what woke it pressed nothing
    here.set_stage(Stage.DESKTOP)
    assert (here.framebuffer == before).all()


def test_a_display_without_a_guest_wakes_by_a_press_alone() -> None:
    model = Person("admin", administrator=True)
    model.wakes = False
    here = desktop(model)
    here.set_stage(Stage.ASLEEP)
    here.pointer(10, 10, 0)
    assert here.stage is Stage.ASLEEP
    here.key(ord("a"), down=True)
    assert here.stage is Stage.DESKTOP


def test_a_locked_screen_wants_the_users_password() -> None:
    model = Person("tester", administrator=False)
    here = desktop(model)
    here.set_stage(Stage.LOCKED)
    empty = here.framebuffer.copy()
    write(here, "wrong")
    assert (here.framebuffer != empty).any()
    here.key(keys.RETURN, down=True)
    assert (model.open, (here.framebuffer == empty).all()) == (0, True)
    write(here, "x" + "retset")
    for _ in range(7):
        here.key(keys.BACKSPACE, down=True)
    write(here, "retset")
    here.key(keys.RETURN, down=True)
    assert model.open == 1


@pytest.mark.parametrize("version", ["13", "26"])
def test_a_standard_user_is_asked_for_an_administrator(version: str) -> None:
    model = Person("tester", administrator=False)
    here = desktop(model, version)
    here.open_settings(EXTENSIONS)
    allowed: list[bool] = []
    here._authenticate((100.0, 100.0, 800.0, 600.0), "Login Items", allowed.append)
    assert here._sheet is not None
    assert [(field.secret, field.text) for field in here._sheet.fields] == [(False, ""), (True, "")]
    for name, password, done in (("b", "ssob", []), ("boss", "ssob", [True])):
        write(here, name)
        here.key(keys.TAB, down=True)
        write(here, password)
        here.key(keys.RETURN, down=True)
        assert allowed == done
        if not done:  # a wrong one: the password is empty, the name is written anew
            here._sheet.fields[0].text, here._sheet.focus = "", 0
    here._authenticate((100.0, 100.0, 800.0, 600.0), "Login Items", allowed.append)
    here.refresh()
    here.key(keys.ESCAPE, down=True)
    assert (allowed, model.cancelled) == ([True, False], ["Login Items"])
