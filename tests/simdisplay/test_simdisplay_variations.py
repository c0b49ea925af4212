"""What a simulated display does differently: how it is written, and that it happens."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.simulator.display import build_display
from harness.simulator.display.gallery import APP, EXTENSIONS, PRIVACY, VERSIONS, StillModel
from harness.simulator.interfaces import Alert, AlertKind, Stage
from harness.simulator.journal import MemoryJournal
from harness.simulator.settings import SimSettings, from_environment
from harness.simulator.variations import VARIATIONS, parse_variations


def _desktop(version: str, text: str, *names: str):
    journal = MemoryJournal()
    settings_ = dataclasses.replace(SimSettings(), variations=parse_variations(text))
    made = build_display(
        macos=VERSIONS[version],
        size_points=(1280, 800),
        scale=1,
        appearance="light",
        settings=settings_,
        journal=journal,
    )
    made.model = StillModel(*(names or (APP,)))
    made.set_stage(Stage.DESKTOP)
    return made, journal


def _texts(desktop) -> list[str]:
    return [control.text for window in desktop._stack() for control in window.controls]


def test_written_form() -> None:
    read = parse_variations("password=touch-id, rows=3,row-name=developer:Some One (ABC),,someone=escape:1.5")
    assert (read.get("password"), read.rows, read.someone) == ("touch-id", 3, ("escape", 1.5))
    assert read.get("row-name") == "developer:Some One (ABC)"
    assert parse_variations(["rows=2"]).rows == 2
    usual = parse_variations("")
    assert (usual.rows, usual.someone, usual.get("alert"), usual.get("password")) == (1, ("", 0.0), "single", "")


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("pasword=sheet", "password"),
        ("password", "sheet"),
        ("password=nothing", "touch-id"),
        ("rows=0", "1…12"),
        ("rows=13", "1…12"),
        ("rows=three", "1…12"),
        ("someone=ok", "SECONDS"),
        ("someone=ok:9999", "SECONDS"),
        ("row-name=developer:", "developer"),
        ("rows=2,rows=3", ""),
        ("=", ""),
    ],
)
def test_what_does_not_exist_is_refused(text: str, hint: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_variations(text)
    assert hint in str(refused.value)


@given(st.text(max_size=40))
@settings(max_examples=60, deadline=None)
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        read = parse_variations(text)
    except UsageError:
        return
    assert set(read.given) <= set(VARIATIONS)
    assert 1 <= read.rows <= 12


def test_the_environment_has_them_too() -> None:
    assert from_environment({"SYSEXT_SIM_VARIATIONS": "rows=4"}).variations.rows == 4
    with pytest.raises(UsageError):
        from_environment({"SYSEXT_SIM_VARIATIONS": "rows=many"})


@pytest.mark.parametrize("version", ["13", "15"])
def test_rows_of_other_apps_and_a_developers_name(version: str) -> None:
    here, journal = _desktop(version, "rows=3,row-name=developer:Some One")
    here.open_settings(EXTENSIONS if version == "15" else PRIVACY)
    if version == "13":
        assert "Details..." in _texts(here)
        here._settings._open_sheet("pending")
        here.refresh()
    switches = [text for text in _texts(here) if text.startswith("switch ")]
    assert len(switches) == 3
    assert switches[0] != f"switch {APP}"
    assert here._listed.named(here.model.extensions()[0]) == "Some One"
    here._listed.allow("sim.other.0")
    assert [line["app"] for line in journal.lines if line["what"] == "other-extension"] == ["Aardvark Filter"]


def test_a_long_list_is_scrolled() -> None:
    here, _ = _desktop("26", "rows=12")
    here.open_settings(EXTENSIONS)
    assert f"switch {APP}" not in _texts(here)
    for _ in range(12):
        here._settings.scroll(2)
    here.refresh()
    assert f"switch {APP}" in _texts(here)


@pytest.mark.parametrize(("where", "last"), [("other-below", "alert/extension"), ("other-on-top", "alert/other")])
def test_another_apps_alert(where: str, last: str) -> None:
    here, _ = _desktop("15", f"alert={where}")
    here.show(Alert(AlertKind.EXTENSION, APP))
    assert [window.kind for window in here._stack()][-1] == last
    assert len(here._alerts) == 2
    here.show(Alert(AlertKind.EXTENSION, APP))
    assert len(here._alerts) == 3  # once


def test_an_alert_is_dragged_by_its_background_only() -> None:
    here, journal = _desktop("15", "")
    here.show(Alert(AlertKind.EXTENSION, APP))
    (window,) = here._alerts.values()
    x0, y0, x1, _ = window.box
    grip = (int((x0 + x1) / 2), int(y0 + 20))
    for x, buttons in ((grip[0], 0), (grip[0], 1), (grip[0] - 300, 1), (grip[0] - 300, 0)):
        here.pointer(x, grip[1], buttons)
    assert window.box[0] == x0 - 300
    assert [line["kind"] for line in journal.lines if line["what"] == "alert-moved"] == ["alert/extension"]
    button = window.controls[0]
    middle = (int((button.box[0] + button.box[2]) / 2), int((button.box[1] + button.box[3]) / 2))
    for x, buttons in ((middle[0], 0), (middle[0], 1), (middle[0] + 200, 1), (middle[0] + 200, 0)):
        here.pointer(x, middle[1], buttons)
    assert window.box[0] == x0 - 300


def test_macos_12_wants_its_lock_opened() -> None:
    here, _ = _desktop("12", "")
    here.open_settings(PRIVACY.replace("?Security", "?General"))
    assert "Allow" not in _texts(here)
    here, _ = _desktop("12", "lock=open")
    here.open_settings(PRIVACY.replace("?Security", "?General"))
    assert "Allow" in _texts(here)
