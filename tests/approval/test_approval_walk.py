"""The walk through the prompts on the simulated display, judged by what the display says was pressed."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import events
from harness.approval import Approver
from harness.approval import walk as walk_module
from harness.errors import HarnessError, ProductFailure, UsageError
from harness.screen import VncScreen
from harness.simulator.display.gallery import APP, StillModel
from harness.simulator.display.settings_window import REMOVE
from harness.simulator.interfaces import Alert, AlertKind, PendingExtension
from harness.waiting import Deadline
from tests.support.drawn_reader import DrawnReader

PASSWORD = "Tr0ub4dor&3"
REALLY_READ = frozenset(
    {
        "test_from_prompt_to_enabled",
        "test_removed_by_the_menu_of_its_row",
        "test_several_pending_on_13_go_through_details",
    }
)
"""Tests whose screens are read by the real reader, one of each kind of page. The others know what was drawn (drawn_reader.py)."""
WAITING, ENABLED, DISABLED = "activated_waiting_for_user", "activated_enabled", "activated_disabled"


class Model(StillModel):
    """A guest whose rows change when they are approved."""

    def __init__(self, *names: str) -> None:
        super().__init__(*names)
        self.deaf = False
        self.passwords: list[str] = []
        self.off: list[str] = []
        self.removed: list[str] = []
        self.stuck = ""

    def check_password(self, password: str) -> bool:
        self.passwords.append(password)
        return password == PASSWORD

    def allow(self, identifier: str) -> None:
        if not self.deaf:
            self.rows = [
                dataclasses.replace(row, waiting=False, enabled=True) if row.identifier == identifier else row
                for row in self.rows
            ]

    def disallow(self, identifier: str) -> None:
        self.off.append(identifier)
        if not self.deaf:
            self.rows = [
                dataclasses.replace(row, enabled=False) if row.identifier == identifier else row for row in self.rows
            ]

    def remove(self, identifier: str) -> None:
        self.removed.append(identifier)
        if not self.deaf:
            self.rows = [row for row in self.rows if row.identifier != identifier]

    def state(self, name: str) -> str | None:
        if self.stuck and (self.off or self.removed):
            return self.stuck
        row = next((row for row in self.rows if row.app_name == name), None)
        if row is None:
            return None
        return ENABLED if row.enabled else DISABLED if self.off else WAITING


@dataclasses.dataclass
class World:
    """One simulated display, an approver before it, and what happened."""

    display: object
    model: Model
    screen: VncScreen
    approver: Approver
    folder: Path
    records: list[dict]
    urls: list[str]
    pressed: list[str]

    def show(self, kind: AlertKind = AlertKind.EXTENSION, app: str = APP, text: str = "") -> None:
        self.display.do(lambda: self.display.desktop.show(Alert(kind, app, text=text, on_button=self.pressed.append)))

    @property
    def hits(self) -> list[str]:
        return [hit for hit in self.display.clicks if hit is not None]

    def named(self, name: str) -> list[dict]:
        return [record["attributes"] for record in self.records if record["name"] == name and record["type"] != "start"]

    @property
    def settings_open(self) -> bool:
        return bool(self.display.do(lambda: self.display.desktop._settings is not None))


Worlds = Callable[..., World]


@pytest.fixture
def world(
    displays, drawn: DrawnReader, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    reader = request.getfixturevalue("reader") if request.function.__name__ in REALLY_READ else drawn
    monkeypatch.setattr(walk_module, "PATIENCE", 8.0)  # nothing here is as slow as a Mac may be
    monkeypatch.setattr(walk_module, "ROWS_COME", 3.0)
    log = events.EventLog(tmp_path / "run.jsonl")
    screens: list[VncScreen] = []

    def make(version: str, *names: str, password: str = PASSWORD, **look: object) -> World:
        model = Model(*(names or (APP,)))
        display = displays(version, model=model, **look)
        screen = display.connect()
        screens.append(screen)
        records: list[dict] = []
        log.subscribe(records.append)
        urls: list[str] = []

        def open_url(url: str) -> None:
            urls.append(url)
            display.do(lambda: display.desktop.open_settings(url))

        approver = Approver(
            screen=screen,
            reader=reader,
            app_name=APP,
            extension_kind="network",
            generation=int(version),
            password=password,
            user="admin",
            oracle=lambda: model.state(APP),
            guest_open=open_url,
            quit_settings=lambda: display.do(display.desktop.quit_settings),
            folder=tmp_path / "frames",
        )
        screen.mark()
        return World(display, model, screen, approver, tmp_path / "frames", records, urls, [])

    with events.use(log):
        yield make
    for screen in screens:
        screen.close()
    log.close()
    assert PASSWORD not in (tmp_path / "run.jsonl").read_text()


ROUTES = {
    13: ["settings/Allow", "password-sheet/Modify Settings"],
    14: ["settings/Allow", "password-sheet/Modify Settings"],
    15: ["settings/(i) Network Extensions", f"settings/switch {APP}", "password-sheet/Modify Settings"],
    26: ["settings/(i) Network Extensions", f"settings/switch {APP}", "password-sheet/Modify Settings"],
}


@pytest.mark.parametrize(
    ("version", "look"),
    [
        ("13", {"appearance": "dark"}),
        ("14", {}),
        ("15", {"appearance": "dark", "scale": 2}),
        ("15", {}),
        ("26", {"appearance": "dark"}),
    ],
)
def test_from_prompt_to_enabled(version: str, look: dict, world: Worlds) -> None:
    here = world(version, **look)
    here.show()
    seen = here.approver.wait_for_prompt(Deadline(60))
    assert seen is not None
    assert seen.app_name == APP
    outcome = here.approver.approve_in_settings(Deadline(120), enter="prompt")
    assert outcome.approvable is True
    assert outcome.route == "prompt"
    assert here.hits == ["alert/extension/Open System Settings", *ROUTES[int(version)]]
    assert here.model.passwords == [PASSWORD]
    assert not here.settings_open
    assert here.urls == []
    assert len(outcome.frames) >= 3
    assert all(path.read_bytes()[:4] == b"\x89PNG" for path in outcome.frames)
    presses = here.named("press")
    assert [press["attempt"] for press in presses] == [1] * len(presses)
    rungs = {sighting["rung"] for sighting in here.named("sighting")}
    assert "full-frame" not in rungs
    assert all(sighting["cost"] >= 0 and sighting["region"] for sighting in here.named("sighting"))


@pytest.mark.parametrize("version", ["13", "26"])
def test_by_url_without_a_prompt(version: str, world: Worlds) -> None:
    here = world(version)
    outcome = here.approver.approve_in_settings(Deadline(120), enter="url")
    assert outcome.approvable is True
    assert len(here.urls) == 1
    assert here.hits == ROUTES[int(version)][-2:]
    assert not here.settings_open


def test_by_url_with_the_prompt_still_in_front(world: Worlds) -> None:
    here = world("15")
    here.show()
    assert here.approver.wait_for_prompt(Deadline(60)) is not None
    outcome = here.approver.approve_in_settings(Deadline(120), enter="url")
    assert outcome.approvable is True
    assert here.named("prompt-in-the-way")


def test_the_right_row_of_several(world: Worlds) -> None:
    here = world("15", "Aardvark Filter", APP, "Zebra Proxy")
    outcome = here.approver.approve_in_settings(Deadline(120), enter="url")
    assert outcome.approvable is True
    assert [row.enabled for row in here.model.rows] == [False, True, False]


def test_several_pending_on_13_go_through_details(world: Worlds) -> None:
    here = world("13", "Aardvark Filter", APP)
    outcome = here.approver.approve_in_settings(Deadline(120), enter="url")
    assert here.hits[0] == "settings/Details..."
    assert [row.enabled for row in here.model.rows] == [False, True]
    assert outcome.approvable is True


def test_a_wrong_password_is_named_after_two_tries(world: Worlds) -> None:
    here = world("14", password="wrong-one")
    outcome = here.approver.approve_in_settings(Deadline(120), enter="url")
    assert outcome.approvable is False
    assert "password was not accepted" in outcome.why
    assert here.model.passwords == ["wrong-one"] * 2
    assert not here.settings_open


@pytest.mark.parametrize(("version", "variations"), [("15", ""), ("26", "password=user-empty")])
def test_a_cancelled_password_approves_nothing(version: str, variations: str, world: Worlds) -> None:
    here = world(version, variations=variations)
    outcome = here.approver.cancel_password_in_settings(Deadline(120))
    assert outcome.why == walk_module.CANCELLED
    assert outcome.approvable is False
    assert here.hits[-1].endswith("/Cancel")
    assert here.model.passwords == []
    assert here.model.state(APP) == WAITING
    assert not here.settings_open


def test_not_listed_is_not_approvable(world: Worlds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk_module, "ROWS_COME", 1.0)
    here = world("15", "Aardvark Filter")
    outcome = here.approver.approve_in_settings(Deadline(120), enter="url")
    assert outcome.approvable is False
    assert "Aardvark Filter" in outcome.why
    assert here.hits == []
    assert not here.settings_open


def test_a_click_is_not_an_approval(world: Worlds) -> None:
    here = world("14")
    here.model.deaf = True
    outcome = here.approver.approve_in_settings(Deadline(120), enter="url")
    assert outcome.approvable is False
    assert "2 times" in outcome.why
    assert here.hits.count("settings/Allow") == 2


def test_prompt_missing_is_a_fact_and_the_hook_is_called_first(world: Worlds) -> None:
    here = world("15")
    order: list[object] = []
    here.approver.on_prompt_missing = lambda: order.append(tuple(here.urls))
    outcome = here.approver.run(Deadline(120), Deadline(1.0))
    assert outcome.prompt_appeared is False
    assert outcome.approvable is True
    assert outcome.route == "url"
    assert order == [()]
    assert len(here.named("prompt-missing")) == 1


def test_run_with_a_prompt(world: Worlds) -> None:
    here = world("26")
    here.show()
    outcome = here.approver.run(Deadline(120), Deadline(60))
    assert (outcome.prompt_appeared, outcome.approvable, outcome.route) == (True, True, "prompt")


def test_someone_elses_prompt_is_not_ours(world: Worlds) -> None:
    here = world("15")
    here.show(app="Aardvark Filter")
    assert here.approver.wait_for_prompt(Deadline(2.0)) is None
    assert here.approver.look() is None
    assert here.hits == []
    assert here.named("foreign-prompt")[0]["app_name"] == "Aardvark Filter"


def test_a_frozen_screen_is_looked_at_afresh_before_the_prompt_is_called_missing(world: Worlds) -> None:
    here = world("15")
    here.display.do(lambda: here.display.desktop.freeze(True))
    here.show()
    assert here.approver.wait_for_prompt(Deadline(1.0)) is not None


def test_hopeless_ends_the_wait(world: Worlds) -> None:
    here = world("15")
    deadline = Deadline(600)
    assert here.approver.wait_for_prompt(deadline, hopeless=lambda: True) is None
    assert deadline.remaining > 300


def test_ok_only_closes_the_prompt(world: Worlds) -> None:
    here = world("13")
    here.show()
    assert here.approver.wait_for_prompt(Deadline(60)) is not None
    here.approver.close_prompt(Deadline(60))
    assert here.pressed == ["OK"]
    assert here.approver.look() is None
    with pytest.raises(HarnessError):
        here.approver.close_prompt(Deadline(10))


@pytest.mark.parametrize(
    ("kind", "choice", "text"),
    [
        (AlertKind.PROXY, "allow", "Allow"),
        (AlertKind.PROXY, "dont-allow", "Don’t Allow"),
        (AlertKind.VPN, "allow", "Allow"),
        (AlertKind.FILTER, "dont-allow", "Don’t Allow"),
    ],
)
def test_consents(kind: AlertKind, choice: str, text: str, world: Worlds) -> None:
    here = world("14")
    later = threading.Timer(0.3, here.show, (kind,))
    later.start()
    here.approver.consent(kind.value, choice, Deadline(60))
    later.join()
    assert here.pressed == [text]


def test_a_consent_that_went_before_it_was_answered(world: Worlds, monkeypatch: pytest.MonkeyPatch) -> None:
    here = world("15")
    here.show(AlertKind.PROXY)
    look = here.approver.wait_for_prompt

    def see_and_lose(*arguments: object) -> object:
        seen = look(*arguments)
        before = here.screen.frame(Deadline(5))
        here.display.do(lambda: here.display.desktop.key(0xFF0D, True))  # Don't Allow is the default
        here.screen.wait_for_change(before, Deadline(10))
        return seen

    monkeypatch.setattr(here.approver, "wait_for_prompt", see_and_lose)
    with pytest.raises(HarnessError) as failed:
        here.approver.consent("ne-proxy-consent", "allow", Deadline(30))
    assert "went" in str(failed.value)
    assert here.hits == []


def test_a_consent_that_never_comes_is_the_products(world: Worlds) -> None:
    here = world("15")
    here.show(AlertKind.VPN)
    with pytest.raises(ProductFailure) as failed:
        here.approver.consent("ne-proxy-consent", "allow", Deadline(1.5))
    assert "ne-proxy-consent" in str(failed.value)
    assert here.hits == []


def test_an_apps_own_notice_is_left_alone(world: Worlds) -> None:
    here = world("26")
    here.show(AlertKind.NOTICE, text="This app cannot be started like that.")
    assert here.approver.wait_for_prompt(Deadline(1.5)) is None
    assert here.hits == []


def test_someone_else_answers_the_prompt_meanwhile(world: Worlds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk_module, "PATIENCE", 2.0)  # no window comes, however long one waits
    here = world("15")
    here.show()
    assert here.approver.wait_for_prompt(Deadline(60)) is not None
    before = here.screen.frame(Deadline(5))
    here.display.do(lambda: here.display.desktop.key(0xFF0D, True))  # OK is the default
    assert here.screen.wait_for_change(before, Deadline(10)) is not None
    outcome = here.approver.approve_in_settings(Deadline(120), enter="prompt")
    assert here.pressed == ["OK"]
    assert outcome.steps[0].what == "open"  # nothing was clicked where the prompt had been
    assert outcome.approvable is True  # Settings was opened by its URL instead, and that is told
    assert any("URL" in entry["what"] for entry in here.named("degraded"))


def test_enabled_already_needs_nothing(world: Worlds) -> None:
    here = world("15")
    here.model.rows = [PendingExtension("com.example.0", APP, "network", False, True)]
    outcome = here.approver.approve_in_settings(Deadline(60), enter="url")
    assert outcome.approvable is True
    assert here.hits == []


def _on(*names: str) -> list[PendingExtension]:
    return [
        PendingExtension(f"com.example.{number}", name, "network", False, True) for number, name in enumerate(names)
    ]


@pytest.mark.parametrize(("version", "look"), [("15", {}), ("26", {"appearance": "dark"})])
def test_off_and_on_again(version: str, look: dict, world: Worlds) -> None:
    """Only our switch is pressed, among several that are on; and then it is a switch to be put on again."""
    here = world(version, **look)
    here.model.rows = _on("Aardvark Filter", APP)
    outcome = here.approver.switch_off_in_settings(Deadline(120))
    assert outcome.approvable is True, outcome.why
    assert (here.model.off, here.model.state(APP), here.model.passwords) == (["com.example.1"], DISABLED, [PASSWORD])
    assert [row.enabled for row in here.model.rows] == [True, False]
    assert not here.settings_open
    outcome = here.approver.approve_in_settings(Deadline(120), enter="url")
    assert outcome.approvable is True, outcome.why
    assert here.model.state(APP) == ENABLED
    assert [hit for hit in here.hits if "(i)" not in hit] == [*ROUTES[int(version)][1:]] * 2


def test_a_switch_that_does_nothing_and_an_end_that_never_comes(world: Worlds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk_module, "PATIENCE", 1.0)
    here = world("15")
    here.model.rows = _on(APP)
    here.model.stuck = "terminating_for_disable_but_still_running"
    outcome = here.approver.switch_off_in_settings(Deadline(120))
    assert outcome.approvable is False
    assert "the state stays terminating_for_disable_but_still_running" in outcome.why
    assert len(here.model.off) == 1
    assert not here.settings_open


def test_off_already_needs_nothing_and_older_ones_have_no_switch(world: Worlds) -> None:
    here = world("15")
    here.model.rows = [dataclasses.replace(row, enabled=False) for row in _on(APP)]
    here.model.off = ["earlier"]
    assert here.approver.switch_off_in_settings(Deadline(60)).approvable is True
    assert here.hits == []
    old = world("14")
    with pytest.raises(UsageError, match="macOS 14"):
        old.approver.switch_off_in_settings(Deadline(60))
    assert old.urls == []


def test_removed_by_the_menu_of_its_row(world: Worlds) -> None:
    """Only ours, among several, as really read; more of it in test_approval_removal.py."""
    here = world("15", appearance="dark")
    here.model.rows = _on("Aardvark Filter", APP, "Zebra Network Guard")
    outcome = here.approver.remove_in_settings(Deadline(120))
    assert outcome.approvable is True, outcome.why
    assert (here.model.removed, here.model.off, here.model.passwords) == (["com.example.1"], [], [PASSWORD])
    assert [row.app_name for row in here.model.rows] == ["Aardvark Filter", "Zebra Network Guard"]
    assert [hit for hit in here.hits if "(i)" not in hit] == [
        f"settings/(⋯) {APP}",
        f"settings/{REMOVE}",
        "password-sheet/Modify Settings",
    ]
    assert not here.settings_open
    assert here.approver.remove_in_settings(Deadline(60)).approvable is True  # gone already: nothing to press
    assert here.model.removed == ["com.example.1"]


def test_what_is_recorded_is_json(world: Worlds) -> None:
    here = world("13")
    here.show()
    seen = here.approver.wait_for_prompt(Deadline(60))
    assert seen is not None
    again = json.loads(json.dumps(seen.as_dict()))
    assert again["advice"]["text"] == "Open System Settings"
    assert "sighting" in {record["name"] for record in here.records}
