"""The recovery ladder: mildest rung first, until it works; a rung that cannot be tried says why; nothing it meets is raised."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from harness.apps.activation import ENABLED, WAITING
from harness.apps.staged import StagedCopyWrong
from harness.config import UpgradeSettings
from harness.errors import ProductFailure
from harness.session import recovering
from harness.session.approving import RemovalNotOffered
from harness.session.recovering import BROKEN, HEALED, NOT_KNOWN, NOT_TRIED, TIME, Ladder, healer


class Stage:
    """A Mac and its prompts, as far as the ladder knows them; works from the rung `heals` on."""

    def __init__(self, heals: str | None, *, macos: str = "15", deactivate: tuple[str, ...] = (), own: bool = False):
        self.heals = heals
        self.done: list[str] = []
        self.leaves_with = 0
        self.now: str | None = ENABLED
        self.healthy = False
        self.name = "mac"
        self.macos = macos
        self.installed: Any = SimpleNamespace(
            release="2.0",
            bundle=SimpleNamespace(require_extension=lambda _: SimpleNamespace(identifier="ext")),
            version=lambda _: ("2.0", "1"),
        )
        self.machine = SimpleNamespace(own_display=own)
        self.settings = SimpleNamespace(upgrades=UpgradeSettings(rung_seconds=1))
        launch = SimpleNamespace(environment={}, exits=True)
        self.app = SimpleNamespace(
            name="An App",
            extension=SimpleNamespace(id="ext"),
            configuration=None,
            deactivate=list(deactivate),
            launch=launch,
        )
        self.guest = None
        self.oracle: Any = None
        self.can_switch = int(macos) >= 15

    def _did(self, what: str) -> None:
        self.done.append(what)
        if what == self.heals:
            self.healthy = True

    def state(self) -> str | None:
        return self.now

    def stop_activations(self) -> None:
        self._did("quit")

    def activate(self, *, launch: Any = None) -> Any:
        self._did("deactivate" if launch is not None else "activate")
        process = SimpleNamespace(wait_for_exit=lambda _: None)
        return SimpleNamespace(
            wait_until_requested=lambda _: self.now,
            wait_until_done=lambda _: None,
            launch=SimpleNamespace(process=process, exit_code=self.leaves_with, output="a line\nno authorization"),
        )

    def allow_removal(self, leaving: Any) -> None:
        assert leaving.launch.exit_code is not None
        self._did("password")

    def reboot(self) -> None:
        self._did("reboot")

    def uninstall(self) -> None:
        self._did("uninstall")
        self.installed_before, self.installed = self.installed, None

    def install(self, release: str | None) -> None:
        assert release == "2.0"
        self._did("install")
        self.installed = self.installed_before

    def expect_state(self, *_: object) -> None:
        return

    def deadline(self) -> None:
        return None

    def switch_off(self) -> None:
        self._did("off")

    def switch_on(self) -> None:
        self._did("on")

    def remove_extension(self) -> None:
        self._did("remove")

    def approve_in_settings(self, _: object) -> None:
        self._did("approve")


@pytest.fixture
def climb(monkeypatch: pytest.MonkeyPatch) -> Any:
    def climb(stage: Stage, works: Any = None) -> list[recovering.Rung]:
        def working(*_: object, **__: object) -> None:
            if not stage.healthy:
                raise ProductFailure("endpoints", seen="none")

        monkeypatch.setattr(recovering.health, "expect_working", working)
        monkeypatch.setattr(recovering.staged, "expect_staged", lambda *_, **__: None)
        mac: Any = stage
        return Ladder(mac, mac, works).climb()

    return climb


def _outcomes(rungs: list[recovering.Rung]) -> dict[str, str]:
    return {rung.name: rung.outcome for rung in rungs}


def test_it_stops_at_the_rung_that_heals(climb: Any) -> None:
    stage = Stage("reboot", deactivate=("--leave",))
    rungs = climb(stage)
    assert _outcomes(rungs) == {
        "restart-app": BROKEN,
        "off-on": BROKEN,
        "deactivate-activate": BROKEN,
        "remove-and-approve": BROKEN,
        "reboot": HEALED,
    }
    assert healer(rungs) == "reboot"
    assert stage.done == ["quit", "activate", "off", "on", "activate", "quit", "deactivate", "password", "activate", "quit", "remove", "activate", "reboot", "activate"]  # fmt: skip
    assert "endpoints" in rungs[0].why


def test_a_removal_that_is_refused_is_told(climb: Any) -> None:
    stage = Stage("reboot", deactivate=("--leave",))
    stage.leaves_with = 1
    rungs = {rung.name: rung for rung in climb(stage)}
    assert rungs["deactivate-activate"].outcome == BROKEN
    assert "An App to deactivate its extension" in rungs["deactivate-activate"].why
    assert "exit code 1; last line: no authorization" in rungs["deactivate-activate"].why
    assert "password" in stage.done


def test_the_mildest_rung_is_enough_where_it_is(climb: Any) -> None:
    rungs = climb(Stage("activate"))
    assert _outcomes(rungs) == {"restart-app": HEALED}


def test_rungs_that_cannot_be_tried_say_why(climb: Any) -> None:
    rungs = climb(Stage(None, macos="14", own=True))
    assert _outcomes(rungs) == {
        "restart-app": BROKEN,
        "off-on": NOT_TRIED,
        "deactivate-activate": NOT_TRIED,
        "remove-and-approve": NOT_TRIED,
        "reboot": NOT_TRIED,
        "reinstall": NOT_TRIED,
    }
    assert healer(rungs) is None
    assert "no switch" in rungs[1].why
    assert "deactivate" in rungs[2].why
    assert "cannot remove" in rungs[3].why
    assert all(rung.why for rung in rungs)


def test_removal_in_settings_and_a_new_approval_come_before_the_restart(climb: Any) -> None:
    stage = Stage("remove")
    assert healer(climb(stage)) == "remove-and-approve"
    assert stage.done[-3:] == ["quit", "remove", "activate"]
    assert "reboot" not in stage.done


@pytest.mark.parametrize("why", ["not offered", "nothing there"])
def test_a_removal_that_cannot_be_asked_for_is_not_tried(climb: Any, why: str) -> None:
    stage = Stage("reboot")
    if why == "nothing there":
        stage.now = None
    else:

        def refuse() -> None:
            raise RemovalNotOffered("to be removed", seen="no (⋯) button")

        stage.remove_extension = refuse  # type: ignore[method-assign]
    rungs = {rung.name: rung for rung in climb(stage)}
    assert rungs["remove-and-approve"].outcome == NOT_TRIED
    assert ("(⋯)" if why == "not offered" else "no extension") in rungs["remove-and-approve"].why
    assert rungs["reboot"].outcome == HEALED


def test_the_last_rung_installs_the_same_release_anew(climb: Any) -> None:
    stage = Stage("install")
    rungs = climb(stage)
    assert healer(rungs) == "reinstall"
    assert stage.done[-5:] == ["quit", "uninstall", "reboot", "install", "activate"]


def test_what_is_asked_on_the_way_is_answered(climb: Any) -> None:
    stage = Stage("approve")
    stage.now = WAITING
    assert healer(climb(stage)) == "restart-app"
    assert stage.done == ["quit", "activate", "approve"]


def test_nobody_waits_for_a_question_about_what_is_still_saved(climb: Any) -> None:
    stage = Stage("approve")
    stage.now = WAITING
    stage.app.configuration = "tunnel"
    stage.oracle = SimpleNamespace(configuration=lambda _: object())  # type: ignore[assignment]
    walked: list[str] = []

    def walk(_: object, *, enter: str) -> Any:
        walked.append(enter)
        stage.healthy = len(walked) > 1
        return SimpleNamespace(approvable=len(walked) > 1, why="no such row")

    stage.approver = SimpleNamespace(approve_in_settings=walk)  # type: ignore[attr-defined]
    rungs = climb(stage)
    assert walked == ["url", "url"]
    assert "approve" not in stage.done
    assert _outcomes(rungs) == {
        "restart-app": BROKEN,
        "off-on": NOT_TRIED,
        "deactivate-activate": NOT_TRIED,
        "remove-and-approve": HEALED,
    }
    assert "approvable again" in rungs[0].why


def test_what_was_found_broken_must_work_too(climb: Any) -> None:
    tries: list[int] = []

    def works(_: object) -> None:
        tries.append(1)
        if len(tries) < 2:
            raise ProductFailure("traffic to pass", seen="none")

    stage = Stage("activate")
    rungs = climb(stage, works)
    assert _outcomes(rungs) == {"restart-app": BROKEN, "off-on": HEALED}
    assert "traffic" in rungs[0].why


def test_trouble_of_any_kind_only_ends_its_rung(climb: Any) -> None:
    stage = Stage("activate")
    stage.stop_activations = lambda: (_ for _ in ()).throw(RuntimeError("no shell"))  # type: ignore[method-assign]
    rungs = climb(stage)
    assert rungs[0].outcome == NOT_KNOWN  # that tells nothing about the product
    assert "no shell" in rungs[0].why
    assert rungs[-1].outcome == HEALED


def test_what_works_by_now_was_only_late(climb: Any) -> None:
    stage = Stage(None)
    stage.healthy = True
    rungs = climb(stage)
    assert _outcomes(rungs) == {TIME: HEALED}
    assert stage.done == []


def test_an_older_copy_is_no_trouble_where_it_is_expected(climb: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage("activate")

    def older(*_: object, **__: object) -> None:
        raise StagedCopyWrong("the installed copy", seen="staged-stale")

    for expected, wanted in ((False, None), (True, "restart-app")):
        climb(stage)  # prepares what health says
        stage.healthy = False
        monkeypatch.setattr(recovering.staged, "expect_staged", older)
        mac: Any = stage
        assert healer(Ladder(mac, mac, older_copy=expected).climb()) == wanted


@pytest.mark.parametrize(("saved", "answered"), [(None, True), (SimpleNamespace(name="weir"), False)])
def test_an_app_that_asks_for_its_configuration_anew_is_answered(climb: Any, saved: Any, answered: bool) -> None:
    stage = Stage("consents" if answered else "activate")
    stage.app.configuration = "weir"
    stage.oracle = SimpleNamespace(configuration=lambda _: saved)
    stage.answer_consents = lambda _: stage._did("consents")  # type: ignore[attr-defined]
    assert healer(climb(stage)) == "restart-app"
    assert ("consents" in stage.done) is answered
