"""What is judged after an upgrade, and what is told of it: each judgement can fail, and only for its own reason."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.apps.oracle import Entry
from harness.apps.staged import StagedCopyWrong
from harness.config import AppFile, ExtensionSpec, Release, Settings, UpgradeSettings
from harness.errors import EnvironmentFailure, ProductFailure, SysextError
from harness.formats.network import NetworkConfiguration
from harness.session import upgrading
from harness.session.recovering import HEALED, Rung
from harness.session.upgrading import HARMLESS, UpgradeSteps
from harness.upgrades import How, State, Step, UpgradePath, expect, relation
from harness.waiting import Deadline

APP = AppFile(
    name="Example",
    bundle_id="com.example.app",
    extension=ExtensionSpec(id="com.example.app.ext", kind="transparent-proxy"),
    configuration="tunnel",
    releases=[
        Release(version="1.0", source="1.zip"),
        Release(version="1.0-b", source="1b.zip", rebuild_of="1.0"),
        Release(version="2.0", source="2.zip"),
    ],
)


def entry(state: str, short: str = "2.0") -> Entry:
    return Entry("com.example.app.ext", state, short, "1", "A-B", in_database=True, in_listing=True)


def configuration(service: str = "ID-1") -> NetworkConfiguration:
    return NetworkConfiguration(
        enabled=True, status="Connected", service_id=service, type="VPN", name="tunnel", raw="* tunnel"
    )


class Desk:
    """A Mac and its prompts, as far as judging needs them."""

    def __init__(self, folder: Path) -> None:
        self.app = APP
        self.machine = SimpleNamespace(own_display=False)
        self.name, self.macos = "mac", "15"
        quick = Settings().timeouts.model_copy(update={"ready": 0.05, "activation": 0.05, "approval": 0.05})
        self.settings = SimpleNamespace(timeouts=quick, upgrades=UpgradeSettings())
        self.case = SimpleNamespace(notes=[], folder=SimpleNamespace(path=folder))
        self.entries: list[Entry] = [entry("activated_enabled")]
        self.saved: NetworkConfiguration | None = configuration()
        self.listed = "Example.app\nUtilities\n"
        self.working: Exception | None = None
        self.collected: list[str] = []
        self.oracle = SimpleNamespace(
            main=lambda _: self.entries[0] if self.entries else None,
            snapshot=lambda _: SimpleNamespace(entries=tuple(self.entries)),
            configuration=lambda _: self.saved,
        )
        self.guest = SimpleNamespace(run=lambda *_, **__: SimpleNamespace(text=self.listed))
        self.installed = SimpleNamespace(
            release="2.0", version=lambda _: ("2.0", "1"), bundle=SimpleNamespace(path=Path("Example.app"))
        )

    def snapshot(self) -> Any:
        return SimpleNamespace(describe=lambda: ", ".join(one.state for one in self.entries))

    def collect(self, reason: str) -> None:
        self.collected.append(reason)

    def expect_working(self) -> Any:
        if self.working is not None:
            raise self.working
        return SimpleNamespace(pid=7)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def steps_of(desk: Desk, *steps: Step) -> UpgradeSteps:
    mac: Any = desk
    approval: Any = SimpleNamespace(deadline=lambda: None)
    made = UpgradeSteps(mac, approval, UpgradePath(steps))
    made._configuration = configuration()
    return made


RUNNING = Step("1.0-b", "2.0", How.DMG)


def expected(step: Step) -> Any:
    return expect(relation(APP, step.older, step.newer), step.state, step.how)


def test_a_harmless_leftover_is_none(desk: Desk) -> None:
    desk.entries.append(entry(HARMLESS, "1.0"))
    desk.entries.append(entry(HARMLESS, "0.9"))
    made = steps_of(desk, RUNNING)
    made._expect_no_leftovers(Deadline(0.05))
    assert HARMLESS in made._seen["after"]


@pytest.mark.parametrize("state", ["terminating_for_upgrade", "validating", "activated_waiting_to_upgrade"])
def test_any_other_leftover_is_a_failure(desk: Desk, state: str) -> None:
    desk.entries.append(entry(state, "1.0"))
    with pytest.raises(Exception, match="no leftover") as caught:
        steps_of(desk, RUNNING)._expect_no_leftovers(Deadline(0.05))
    assert getattr(caught.value, "verdict", None) == "product-failure"


def test_what_an_updater_forgot_is_a_failure(desk: Desk) -> None:
    desk.listed = ".Example.app.old-77\nExample.app\n.DS_Store\n"
    with pytest.raises(ProductFailure, match="half-installed") as caught:
        steps_of(desk, RUNNING)._expect_no_leftovers(Deadline(0.05))
    assert ".Example.app.old-77" in caught.value.seen
    assert ".DS_Store" not in caught.value.seen


def test_the_configuration_is_the_one_from_before(desk: Desk) -> None:
    made = steps_of(desk, RUNNING)
    made._expect_configuration_kept(RUNNING)
    assert made._seen["configuration"] == "kept"
    for lost in (None, configuration("ID-2")):
        desk.saved = lost
        with pytest.raises(ProductFailure, match="to be kept"):
            made._expect_configuration_kept(RUNNING)
    made._expect_configuration_kept(Step("1.0-b", "2.0", state=State.NEVER))  # none could be there
    assert desk.case.notes == []
    made._configuration = None
    made._expect_configuration_kept(RUNNING)
    assert "not judged" in desk.case.notes[0]


def test_what_heals_also_clears_leftovers_up(desk: Desk) -> None:
    made = steps_of(desk, RUNNING)
    made._works(Deadline(0.05))
    desk.entries.append(entry("terminating_for_upgrade", "1.0"))
    with pytest.raises(SysextError, match="no leftover"):
        made._works(Deadline(0.05))


def at(desk: Desk, step: Step, monkeypatch: pytest.MonkeyPatch) -> UpgradeSteps:
    """Where the older release works, and the step's state is all that is missing."""
    made = steps_of(desk, step)
    monkeypatch.setattr(made, "_have_approved", lambda _: None)
    return made


def test_a_display_that_stays_awake_is_no_test_of_a_sleeping_one(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    step = Step("1.0-b", "2.0", state=State.ASLEEP)
    desk.sleep_display = lambda: SimpleNamespace(happened=False, why="the screen is not black")  # type: ignore[attr-defined]
    made = at(desk, step, monkeypatch)
    with pytest.raises(pytest.skip.Exception, match="not black"), made.told(step):
        made.bring_to(step)
    (told,) = json.loads((tmp_path / "upgrade.json").read_text())["steps"]
    assert told["outcome"].startswith("skipped: ")


def test_no_account_is_made_on_the_host_itself(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    step = Step("1.0-b", "2.0", state=State.SECOND_USER)
    desk.machine = SimpleNamespace(own_display=True)
    monkeypatch.setattr(upgrading.users, "add_user", lambda *_: pytest.fail("an account was made"))
    made = at(desk, step, monkeypatch)
    with pytest.raises(pytest.skip.Exception, match="host itself"):
        made.bring_to(step)


class Second:
    """The second user's guest; its session ends when it is told to, or by itself."""

    who = "colleague"

    def __init__(self, *_: object, **__: object) -> None:
        self.running = True
        self.closed = False

    def connect(self, _: object) -> None: ...

    def run(self, *_: object, **__: object) -> Any:
        return SimpleNamespace(text=f"{self.who}\n")

    def start(self, *_: object, **__: object) -> Any:
        return self

    def stop(self, _: object) -> None:
        self.running = False

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def second(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> list[Second]:
    made: list[Second] = []

    def make(*given: object, **named: object) -> Second:
        made.append(Second(*given, **named))
        return made[-1]

    desk.machine = SimpleNamespace(own_display=False)
    desk.guest.locate = desk.guest.folder = None
    desk.settings.guest = SimpleNamespace(model_copy=lambda **_: None)
    desk.settings.timeouts = desk.settings.timeouts.model_copy(update={"ssh": 5})
    monkeypatch.setattr(upgrading, "Guest", make)
    monkeypatch.setattr(upgrading.users, "add_user", lambda *_: None)
    return made


COMPANY = Step("1.0-b", "2.0", state=State.SECOND_USER)


def test_the_second_users_session_is_ended_on_the_mac_as_well(desk: Desk, second: list[Second]) -> None:
    made = steps_of(desk, COMPANY)
    with made.told(COMPANY):
        made._log_in_second_user()
        assert second[0].running
    assert (second[0].running, second[0].closed) == (False, True)


def test_somebody_else_is_no_second_user(desk: Desk, second: list[Second], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Second, "who", "admin")
    made = steps_of(desk, COMPANY)
    with pytest.raises(EnvironmentFailure, match="colleague to be logged in"), made.told(COMPANY):
        made._log_in_second_user()
    assert second[0].closed


def test_a_second_user_who_has_left_is_the_environments(desk: Desk, second: list[Second]) -> None:
    made = steps_of(desk, COMPANY)
    activation: Any = None
    with pytest.raises(EnvironmentFailure, match="stay logged in"), made.told(COMPANY):
        made._log_in_second_user()
        second[0].running = False
        made._answer(activation, COMPANY, expected(COMPANY))


def test_until_somebody_answers_it_must_not_be_enabled(desk: Desk) -> None:
    step = Step("1.0-b", "2.0", state=State.DISABLED)
    activation: Any = SimpleNamespace(launch=SimpleNamespace(exit_code=None))
    made = steps_of(desk, step)
    desk.entries = [entry("activated_disabled")]
    made._expect_pending(activation, expected(step))
    assert (made._seen["pending"], desk.case.notes) == ("activated_disabled", [])
    desk.entries = [entry("activated_waiting_for_user")]
    made._expect_pending(activation, expected(step))
    assert "asks anew" in desk.case.notes[0]
    for wrong, said in (
        (entry("activated_enabled"), "nobody has allowed it"),
        (entry("activated_disabled", "1.0"), "1.0"),
    ):
        desk.entries = [wrong]
        with pytest.raises(Exception, match=r"com\.example\.app\.ext") as caught:
            made._expect_pending(activation, expected(step))
        assert getattr(caught.value, "verdict", None) == "product-failure"
        assert said in str(caught.value)


def test_a_request_that_failed_is_not_waited_for(desk: Desk) -> None:
    step = Step("1.0-b", "2.0", state=State.WAITING)
    desk.entries = [entry("activated_waiting_for_user", "1.0")]

    def failed(_: object) -> None:
        raise ProductFailure("the app to activate its extension", seen="code 11")

    activation: Any = SimpleNamespace(launch=SimpleNamespace(exit_code=1), wait_until_requested=failed)
    with pytest.raises(ProductFailure, match="code 11"):
        steps_of(desk, step)._expect_pending(activation, expected(step))


def test_an_old_copy_is_expected_of_a_rebuild_and_of_nothing_else(desk: Desk) -> None:
    rebuild = Step("1.0", "1.0-b")
    desk.working = StagedCopyWrong("the installed copy", seen="staged-stale")
    made = steps_of(desk, rebuild)
    made._expect_working(rebuild, expected(rebuild))
    assert made._seen["staged"] == "older"
    assert "rebuild" in desk.case.notes[0]
    for step in (RUNNING, Step("1.0", "1.0-b", state=State.NEVER), Step("2.0", "2.0")):
        with pytest.raises(StagedCopyWrong):
            steps_of(desk, step)._expect_working(step, expected(step))


def test_a_rebuild_that_was_taken_is_told(desk: Desk) -> None:
    rebuild = Step("1.0", "1.0-b")
    steps_of(desk, rebuild)._expect_working(rebuild, expected(rebuild))
    assert "all the same" in desk.case.notes[0]


@pytest.mark.parametrize("state", [State.NEVER, State.WAITING, State.DISABLED])
def test_in_a_chain_nobody_answers_in_between(desk: Desk, state: State) -> None:
    first, second = Step("1.0", "1.0-b", state=state), Step("1.0-b", "2.0", state=state)
    made = steps_of(desk, first, second)
    assert made._stays_pending(first)
    assert not made._stays_pending(second)
    running = steps_of(desk, first, Step("1.0-b", "2.0"))
    assert not running._stays_pending(first)


@pytest.fixture
def ladder(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    climbed: list[str] = []

    class Short:
        def __init__(self, *_: object, **__: object) -> None: ...

        def climb(self) -> list[Rung]:
            climbed.append("climbed")
            return [Rung("restart-app", "still broken", "x"), Rung("reboot", HEALED)]

    monkeypatch.setattr(upgrading, "Ladder", Short)
    return climbed


def test_a_failure_is_collected_taken_up_the_ladder_and_raised_with_what_heals(
    desk: Desk, ladder: list[str], tmp_path: Path
) -> None:
    made = steps_of(desk, RUNNING)
    with pytest.raises(ProductFailure) as caught, made.told(RUNNING):
        made._delivering = True
        raise ProductFailure("endpoints", seen="none")
    assert "none; healed by reboot (not by restart-app)" in str(caught.value)
    assert ladder == ["climbed"]
    assert desk.collected == ["product-failure: ProductFailure"]
    assert caught.value.collected
    (step,) = json.loads((tmp_path / "upgrade.json").read_text())["steps"]
    assert (step["healed_by"], step["outcome"]) == ("reboot", "product-failure")
    assert "healed by reboot" in desk.case.notes[0]


@pytest.mark.parametrize(
    ("error", "delivering"),
    [(ProductFailure("the older one works", seen="no"), False), (EnvironmentFailure("ssh", seen="gone"), True)],
)
def test_what_is_not_the_upgrades_fault_is_not_taken_up(
    desk: Desk, ladder: list[str], error: Exception, *, delivering: bool
) -> None:
    made = steps_of(desk, RUNNING)
    with pytest.raises(type(error)), made.told(RUNNING):
        made._delivering = delivering
        raise error
    assert ladder == []
    assert desk.collected == []


def test_without_a_ladder_the_evidence_is_collected_all_the_same(desk: Desk, ladder: list[str]) -> None:
    desk.settings.upgrades = UpgradeSettings(ladder=False)
    made = steps_of(desk, RUNNING)
    with pytest.raises(ProductFailure), made.told(RUNNING):
        made._delivering = True
        raise ProductFailure("endpoints", seen="none")
    assert ladder == []
    assert desk.collected != []


def test_what_the_ladder_found_in_words() -> None:
    said = upgrading._said
    assert said([Rung("time", HEALED)]) == "healed by time alone: it works now, and nothing was done"
    rungs = [Rung("restart-app", "still broken", "x"), Rung("off-on", "not known", "ssh"), Rung("reboot", HEALED)]
    assert said(rungs) == "healed by reboot (not by restart-app); of off-on it is not known"
    assert said([Rung("off-on", "not tried", "x")]) == "healed by nothing"
