"""Single steps of the walk: the password's field, the channels, rows that cannot be told apart, consents with a password."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.walking import PASSWORD, world
from harness.approval import passwords, pressing
from harness.approval import walk as walk_module
from harness.approval.channels import VncChannel, usable
from harness.approval.passwords import count_bullets, has_ring, inside_of
from harness.errors import HarnessError
from harness.screen import Box, Button, Frame, Sighting
from harness.simulator.display.gallery import APP, PRIVACY, VERSIONS, desktop
from harness.simulator.display.passwords import FORMS, PasswordSheet
from harness.simulator.interfaces import AlertKind
from harness.waiting import Deadline
from tests.support.drawn_reader import DrawnReader


@pytest.fixture(scope="module")
def drawn() -> Iterator[DrawnReader]:
    with pytest.MonkeyPatch.context() as patch:
        reader = DrawnReader()
        reader.install(patch)
        yield reader


# --- the password's field


def _sheet(form: str, appearance: str, scale: int, typed: int = 0, version: str = "14") -> tuple[Frame, Box, int]:
    """A frame, the place of the placeholder, and the right edge of the window's buttons."""
    screen = desktop(version, appearance=appearance, scale=scale)
    screen.open_settings(PRIVACY)
    screen.variations.given["password"] = form
    screen._ask("Privacy & Security", lambda: None)
    sheet = screen._sheet
    assert sheet is not None
    sheet.fields[-1].text = "x" * typed
    screen._paint()
    x0, y0, _, y1 = (value * scale for value in sheet.fields[-1].box)
    middle, half = (y0 + y1) / 2, 9 * scale
    text = Box(round(x0 + 8 * scale), round(middle - half), round(x0 + 62 * scale), round(middle + half))
    frame = Frame(np.ascontiguousarray(screen.framebuffer[:, :, 2::-1]), 0, 0.0)
    return frame, text, round(sheet.box[2] * scale - 20 * scale)


@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("appearance", ["light", "dark"])
def test_a_ring_is_seen_around_the_focused_field_only(appearance: str, scale: int) -> None:
    for form, focused in (("sheet", True), ("sheet-unfocused", False), ("user-empty", False), ("user-sheet", True)):
        frame, text, right = _sheet(form, appearance, scale)
        assert has_ring(frame, inside_of(frame, text, right)) is focused, form


@pytest.mark.parametrize("appearance", ["light", "dark"])
@pytest.mark.parametrize("scale", [1, 2])
def test_bullets_are_counted(appearance: str, scale: int) -> None:
    for typed in (0, 1, 2, 9):
        frame, text, right = _sheet("sheet", appearance, scale, typed)
        assert count_bullets(frame, inside_of(frame, text, right)) == typed


@given(st.integers(0, 2**32 - 1), st.integers(0, 70), st.integers(0, 40), st.integers(1, 60), st.integers(1, 30))
@settings(max_examples=40, deadline=None)
def test_noise_is_survived(seed: int, x: int, y: int, width: int, height: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 255, (60, 100, 3), np.uint8)
    frame = Frame(pixels, 0, 0.0)
    inside = inside_of(frame, Box(x, y, x + width, y + height), 100)
    assert count_bullets(frame, inside) >= 0
    assert has_ring(frame, inside) in (True, False)


def _walk_with(monkeypatch: pytest.MonkeyPatch, drawn: DrawnReader, folder: Path, version: str = "14") -> object:
    with world(version, reader=drawn, folder=folder) as here:
        outcome = here.approver.approve_in_settings(Deadline(60), enter="url")
        assert outcome.approvable is False
        assert here.mac.model.passwords == []
        return outcome, here


def test_nothing_is_typed_into_a_field_that_does_not_take_the_focus(
    drawn: DrawnReader, quick: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed: list[str] = []
    monkeypatch.setattr(passwords, "_BLINK", 0.2)
    lay_out = PasswordSheet._lay_out

    def unfocused(sheet: PasswordSheet) -> None:
        lay_out(sheet)
        sheet.focus = -1

    monkeypatch.setattr(PasswordSheet, "_lay_out", unfocused)
    monkeypatch.setattr(
        PasswordSheet, "press", lambda sheet, x, y: next((c for c in sheet.controls if c.hit(x, y)), None)
    )
    monkeypatch.setattr("harness.screen.rfb.VncScreen.type_text", lambda _, text, **__: typed.append(text))
    outcome, _ = _walk_with(monkeypatch, drawn, tmp_path)
    assert typed == []
    assert "not seen to take the focus" in outcome.why


def test_a_field_that_shows_what_is_typed_gets_one_character_at_most(
    drawn: DrawnReader, quick: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay_out = PasswordSheet._lay_out
    sheets: list[PasswordSheet] = []
    longest: list[int] = [0]

    def open_field(sheet: PasswordSheet) -> None:
        lay_out(sheet)
        for entry in sheet.fields:
            entry.secret = False
        sheets.append(sheet)

    paint = PasswordSheet.paint

    def watched(sheet: PasswordSheet, *arguments: object) -> None:
        longest[0] = max(longest[0], *(len(entry.text) for entry in sheet.fields))
        for entry in sheet.fields:  # the placeholder stays that of a password
            entry.secret = not entry.text
        paint(sheet, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(PasswordSheet, "_lay_out", open_field)
    monkeypatch.setattr(PasswordSheet, "paint", watched)
    outcome, _ = _walk_with(monkeypatch, drawn, tmp_path)
    assert "shows what is typed" in outcome.why
    assert longest[0] == 1
    assert all(entry.text == "" for sheet in sheets for entry in sheet.fields)


# --- channels


@dataclass
class FakeChannel:
    name: str = "ax"
    reason: str = ""
    fails: bool = False
    pressed: list[str] = field(default_factory=list)
    action: object = None

    def available(self) -> str:
        return self.reason

    def press(self, seen: Sighting, button: Button, deadline: Deadline) -> None:
        self.pressed.append(f"{seen.window}/{button.text}")
        if self.fails:
            raise HarnessError("a press", seen="no such window")
        if callable(self.action):
            self.action()


class DeafPointer:
    """Clicks that never arrive."""

    name = "vnc"

    def __init__(self) -> None:
        self.pressed = 0

    def available(self) -> str:
        return ""

    def press(self, seen: Sighting, button: Button, deadline: Deadline) -> None:
        self.pressed += 1


def test_after_two_tries_comes_the_next_channel_and_the_report_tells(
    drawn: DrawnReader, quick: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pressing, "EFFECT", 0.5)
    deaf, other = DeafPointer(), FakeChannel()
    with world("15", reader=drawn, folder=tmp_path, channels=lambda _: (deaf, other)) as here:
        other.action = lambda: here.mac.do(lambda: here.mac.desktop.key(0xFF0D, True))  # OK is the default
        here.mac.show()
        assert here.approver.wait_for_prompt(Deadline(30)) is not None
        here.approver.close_prompt(Deadline(30))
        assert (deaf.pressed, other.pressed) == (2, ["alert-new-extension/OK"])
        assert [press["channel"] for press in here.named("press")] == ["vnc", "vnc", "ax"]
        assert any("pressed by the channel 'ax'" in entry["what"] for entry in here.named("degraded"))
        assert here.mac.pressed == ["OK"]


def test_a_channel_that_cannot_is_passed_over_and_then_it_is_a_named_failure(
    drawn: DrawnReader, quick: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pressing, "EFFECT", 0.3)
    deaf, failing, shut = (
        DeafPointer(),
        FakeChannel("ax", fails=True),
        FakeChannel("desktop", reason="not in this lane"),
    )
    with world("15", reader=drawn, folder=tmp_path, channels=lambda _: (deaf, failing, shut)) as here:
        here.mac.show()
        assert here.approver.wait_for_prompt(Deadline(30)) is not None
        with pytest.raises(HarnessError, match="still there"):
            here.approver.close_prompt(Deadline(60))
        assert (deaf.pressed, len(failing.pressed), shut.pressed) == (2, 1, [])
        assert here.named("channel-unavailable") == [{"channel": "desktop", "reason": "not in this lane"}]
        assert any("did not press" in entry["what"] for entry in here.named("degraded"))


def test_usable_channels() -> None:
    there, shut = FakeChannel("a"), FakeChannel("b", reason="no grant")
    assert usable([there, shut]) == ([there], {"b": "no grant"})
    assert VncChannel(object()).available() == ""  # type: ignore[arg-type]


# --- rows, prompts and consents that are not to be confused


@pytest.mark.parametrize("version", ["13", "15"])
def test_two_rows_of_the_same_name_are_a_named_failure(
    version: str, drawn: DrawnReader, quick: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with world(version, reader=drawn, folder=tmp_path, names=("Aardvark Filter", APP, APP)) as here:
        outcome = here.approver.approve_in_settings(Deadline(60), enter="url")
        assert outcome.approvable is False
        assert "cannot be told" in outcome.why
        assert not any("switch" in hit for hit in here.mac.hits)


def test_a_developers_name_that_was_not_given_is_nobodys(
    drawn: DrawnReader, quick: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walk_module, "ROWS_COME", 0.5)
    monkeypatch.setattr(walk_module, "PATIENCE", 2.0)
    with world("15", "row-name=developer:Somebody Else Inc,rows=2", reader=drawn, folder=tmp_path) as here:
        here.approver.observer.other_names = ()
        here.approver.walker.names = (APP,)
        outcome = here.approver.approve_in_settings(Deadline(60), enter="url")
        assert outcome.approvable is False
        assert "Somebody Else Inc" in outcome.why
        assert not any("switch" in hit for hit in here.mac.hits)


def test_a_question_that_names_nobody_is_not_ours(drawn: DrawnReader, tmp_path: Path) -> None:
    with world("15", reader=drawn, folder=tmp_path) as here:
        frame = here.screen.frame(Deadline(10))
        for window, app, ours in (
            ("alert-blocked", None, False),
            ("ne-vpn-consent", None, False),
            ("alert-blocked", "Aardvark Filter", False),
            ("alert-blocked", APP, True),
            ("settings-extensions-sheet", None, True),
            ("password-prompt", None, True),
        ):
            assert here.approver._is_ours(Sighting(window, frame, frame.box, (), app_name=app)) is ours, (window, app)


def test_another_apps_prompt_alone_is_moved_aside_and_never_clicked(
    drawn: DrawnReader, quick: None, tmp_path: Path
) -> None:
    with world("14", reader=drawn, folder=tmp_path) as here:
        here.mac.show(app="Aardvark Filter")
        assert here.approver.wait_for_prompt(Deadline(3)) is None
        assert here.mac.hits == []
        assert here.mac.pressed == []
        assert [entry["went"] for entry in here.named("moved-aside")][:1] == [True]


@pytest.mark.parametrize(("kind", "form"), [(AlertKind.VPN, "sheet"), (AlertKind.FILTER, "user-empty")])
def test_a_password_that_follows_allow_is_typed(
    kind: AlertKind, form: str, drawn: DrawnReader, quick: None, tmp_path: Path
) -> None:
    with world("14", f"consent=password,password={form}", reader=drawn, folder=tmp_path) as here:
        here.mac.show(kind)
        here.approver.consent(kind.value, "allow", Deadline(60))
        assert here.mac.pressed == ["Allow"]
        assert here.mac.model.passwords == [PASSWORD]


def test_a_password_that_is_refused_after_allow_is_a_named_failure(
    drawn: DrawnReader, quick: None, tmp_path: Path
) -> None:
    with world("15", "consent=password,password=sheet", reader=drawn, folder=tmp_path, password="wrong-1") as here:
        here.mac.show(AlertKind.PROXY)
        with pytest.raises(HarnessError, match="password"):
            here.approver.consent("ne-proxy-consent", "allow", Deadline(60))
        assert here.mac.model.passwords == ["wrong-1"] * 2
        assert here.mac.pressed == []


def test_a_consent_without_a_password_is_not_waited_on_once_it_is_done(
    drawn: DrawnReader, quick: None, tmp_path: Path
) -> None:
    asked: list[bool] = []
    with world("15", reader=drawn, folder=tmp_path) as here:
        here.mac.show(AlertKind.PROXY)
        here.approver.consent("ne-proxy-consent", "allow", Deadline(60), done=lambda: not asked.append(True))
        assert here.mac.pressed == ["Allow"]
        assert asked == [True]


def test_the_forms_of_the_password_window_are_the_variations_of_it() -> None:
    from harness.simulator.variations import VARIATIONS

    assert VARIATIONS["password"][0].split("|") == list(FORMS)
    assert "12" in VERSIONS
