"""Launching the real app on a simulated Mac, and what becomes of its request."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from harness import events
from harness.apps import installing, launching
from harness.apps.activation import ENABLED, WAITING, Activation, ActivationFailed, activate
from harness.apps.oracle import Entry, Oracle
from harness.bundles.app import AppBundle
from harness.config import AppFile, LaunchSpec
from harness.errors import EnvironmentFailure, ProductFailure, Verdict, WaitTimeout
from harness.guest import Guest
from harness.waiting import Deadline, wait_until

ELSEWHERE = "/Users/Shared/Elsewhere"
EXEC = LaunchSpec(how="exec", arguments=["/tmp/socket-{token}"], exits=True)


@pytest.fixture(scope="module")
def installed(guest: Guest, newer: AppBundle) -> str:
    return installing.install_bundle(guest, newer, deadline=Deadline.after(60))


@pytest.fixture
def oracle(guest: Guest, app: AppFile) -> Oracle:
    return Oracle(guest, app)


@pytest.fixture
def running(guest: Guest) -> Iterator[list[Activation]]:
    """Whatever a test puts in here is ended."""
    activations: list[Activation] = []
    yield activations
    for activation in activations:
        activation.stop(Deadline.after(20))


def _pids(guest: Guest) -> list[str]:
    found = guest.run(["pgrep", "-f", "^/Applications/Mitmproxy"], check=False, deadline=Deadline.after(20))
    return found.text.split()


def _none_left(guest: Guest) -> None:
    wait_until(lambda: not _pids(guest), what="the app to be gone", deadline=Deadline.after(20))


def test_the_request_is_taken_up_and_waits_for_the_user(
    guest: Guest, installed: str, newer: AppBundle, oracle: Oracle, running: list[Activation], deadline: Deadline,
    seen: list[events.Record],
) -> None:  # fmt: skip
    activation = activate(guest, oracle, newer, installed, EXEC, deadline=deadline)
    running.append(activation)
    assert activation.wait_until_requested(deadline) == WAITING
    assert activation.launch.token in activation.launch.arguments[0]
    assert activation.launch.exit_code is None
    assert activation.before.state is None
    assert activation.states[-1][1] == WAITING
    assert [seconds for seconds, _ in activation.states] == sorted(seconds for seconds, _ in activation.states)
    states = [record["attributes"].get("state") for record in seen if record["name"] == "extension-state"]
    assert states == [state for _, state in activation.states]
    user = guest.run(["ps", "-o", "user=", "-p", *_pids(guest)[:1]], deadline=deadline).text.split()
    assert user == ["admin"]
    with pytest.raises(WaitTimeout, match="to finish its activation") as caught:
        activation.wait_until_done(Deadline(0.5))
    assert caught.value.verdict is Verdict.PRODUCT_FAILURE

    again = activate(guest, oracle, newer, installed, EXEC, deadline=deadline)
    running.append(again)
    assert again.before.state == WAITING
    with pytest.raises(WaitTimeout, match="to take up the activation request") as never:
        again.expect_refused(Deadline(0.5), 4)
    assert never.value.verdict is Verdict.PRODUCT_FAILURE

    for one in running:
        one.stop(deadline)
        assert one.launch.killed
    _none_left(guest)


def test_outside_applications_it_is_refused_with_its_code(
    guest: Guest, newer: AppBundle, oracle: Oracle, running: list[Activation], deadline: Deadline
) -> None:
    path = installing.install_bundle(guest, newer, deadline=deadline, folder=ELSEWHERE)
    installing.remove_app(guest, "/Applications/Mitmproxy Redirector.app", deadline=deadline)
    try:
        for codes in ((3, 4), ()):
            activation = activate(guest, oracle, newer, path, EXEC, deadline=deadline)
            running.append(activation)
            code = activation.expect_refused(deadline, *codes)
            assert code in (3, 4)
        activation = activate(guest, oracle, newer, path, EXEC, deadline=deadline)
        running.append(activation)
        with pytest.raises(ActivationFailed) as failed:
            activation.wait_until_done(deadline)
        assert failed.value.code == code
        assert launching.CODE_NAMES[code] in failed.value.seen
        assert failed.value.verdict is Verdict.PRODUCT_FAILURE
        activation = activate(guest, oracle, newer, path, EXEC, deadline=deadline)
        running.append(activation)
        with pytest.raises(ProductFailure, match=r"8 \(codeSignatureInvalid") as other:
            activation.expect_refused(deadline, 8)
        assert not isinstance(other.value, ActivationFailed)
    finally:
        installing.remove_app(guest, f"{ELSEWHERE}/Mitmproxy Redirector.app", deadline=deadline)
        installing.install_bundle(guest, newer, deadline=deadline)


def test_a_wrong_argument_ends_the_app_badly(
    guest: Guest, installed: str, newer: AppBundle, oracle: Oracle, running: list[Activation], deadline: Deadline
) -> None:
    for spec in (
        LaunchSpec(how="exec", arguments=["--nonsense"], exits=False),
        LaunchSpec(how="exec", arguments=["--nonsense"], exits=True, environment={"WITH": "an environment"}),
    ):
        running.append(activate(guest, oracle, newer, installed, spec, deadline=deadline))
        running[-1].launch.process.wait_for_exit(0.3)
        running[-1].stop(deadline)
    _none_left(guest)


def test_open_hides_the_end_but_is_ended_all_the_same(
    guest: Guest, installed: str, newer: AppBundle, oracle: Oracle, deadline: Deadline
) -> None:
    spec = LaunchSpec(how="open", arguments=["/tmp/socket-{pid}"])
    launched = launching.launch(guest, newer, installed, spec, deadline=deadline)
    assert launched.process.wait(deadline).exit_code == 0
    assert launched.exit_code is None, "open's own end is not the app's"
    wait_until(lambda: _pids(guest), what="the app to run", deadline=deadline)
    launched.stop(deadline)
    _none_left(guest)


def test_open_that_fails_is_told(
    guest: Guest, newer: AppBundle, oracle: Oracle, running: list[Activation], deadline: Deadline, app: AppFile
) -> None:
    spec = LaunchSpec(how="open", exits=True)
    stranger = Oracle(guest, app.model_copy(update={"extension": app.extension.model_copy(update={"id": "org.none"})}))
    activation = activate(guest, stranger, newer, "/Applications/Not There.app", spec, deadline=deadline)
    running.append(activation)
    with pytest.raises(ActivationFailed, match="`open` ended with exit code 1"):
        activation.wait_until_requested(deadline)


def test_nobody_at_the_console(
    guest: Guest, installed: str, newer: AppBundle, deadline: Deadline, monkeypatch: pytest.MonkeyPatch
) -> None:
    for nobody in ("", "root", "loginwindow"):
        monkeypatch.setattr(guest, "console_user", lambda _, nobody=nobody: nobody)
        with pytest.raises(EnvironmentFailure, match="/dev/console") as caught:
            launching.launch(guest, newer, installed, EXEC, deadline=deadline)
        assert caught.value.hint


@pytest.mark.parametrize("user", ["admin", "somebody-else"])
def test_without_launchctl_asuser_the_ssh_session_serves_and_it_is_told(
    guest: Guest, user: str, deadline: Deadline, monkeypatch: pytest.MonkeyPatch, seen: list[events.Record]
) -> None:
    real = guest.run
    started: list[tuple[list[str], bool]] = []

    def run(argv: list[str], **options: object) -> object:
        if argv[0] == "id":
            return SimpleNamespace(text="501\n")
        if argv[0] == "launchctl":
            return real(["/bin/sh", "-c", "echo Could not switch to audit session >&2; exit 1"], check=False)
        return real(argv, **options)  # type: ignore[arg-type]

    def start(argv: list[str], *, sudo: bool = False, **_: object) -> None:
        started.append((argv, sudo))

    monkeypatch.setattr(guest, "run", run)
    monkeypatch.setattr(guest, "start", start)
    launching.in_user_session(guest, ["true"], user=user, deadline=deadline)
    (told,) = [record for record in seen if record["name"] == "degraded"]
    assert "audit session" in told["attributes"]["reason"]
    expected = (["true"], False) if user == "admin" else (["sudo", "-u", user, "--", "true"], True)
    assert started == [expected]


# --- what needs no Mac: an app whose end, and an oracle whose word, are set by hand -----------------------------------


@dataclass
class HandOracle:
    entries: list[Entry | None]
    app: AppFile
    looked: int = field(default=0)

    def main(self, _: Deadline) -> Entry | None:
        self.looked += 1
        return self.entries.pop(0) if len(self.entries) > 1 else self.entries[0]

    def state(self, deadline: Deadline) -> str | None:
        entry = self.main(deadline)
        return entry.state if entry else None


def _entry(app: AppFile, state: str, version: tuple[str, str]) -> Entry:
    return Entry(app.extension.id, state, *version, unique_id=None, in_database=True, in_listing=True)


def _activation(
    app: AppFile,
    bundle: AppBundle,
    entries: list[Entry | None],
    *,
    code: int | None,
    spec: LaunchSpec,
    output: str = "",
) -> Activation:
    launched = SimpleNamespace(
        exit_code=code,
        opened=spec.how == "open",
        output=output,
        error_code=launching.find_error_code(output),
        process=SimpleNamespace(wait_for_exit=lambda _: None),
    )
    return Activation(
        SimpleNamespace(name="vm-a"), HandOracle(entries, app), bundle, launched, spec, SimpleNamespace(state=None), datetime.now(UTC), 0.0  # type: ignore[arg-type]
    )  # fmt: skip


STAYS = LaunchSpec(how="exec", exits=False)


@pytest.fixture
def version(app: AppFile, newer: AppBundle) -> tuple[str, str]:
    extension = newer.require_extension(app.extension.id)
    return extension.short, extension.build


def test_the_old_version_enabled_is_not_the_end_of_an_upgrade(
    app: AppFile, newer: AppBundle, version: tuple[str, str]
) -> None:
    old, new = _entry(app, ENABLED, ("1.0", "0")), _entry(app, ENABLED, version)
    for spec, code in ((STAYS, None), (EXEC, 0)):
        activation = _activation(app, newer, [old, old, new], code=code, spec=spec)
        activation.wait_until_done(Deadline(30))
        assert activation.oracle.looked == 3  # type: ignore[attr-defined]
    with pytest.raises(WaitTimeout, match="to be activated_enabled") as caught:
        _activation(app, newer, [old], code=None, spec=STAYS).wait_until_done(Deadline(0.3))
    assert caught.value.verdict is Verdict.PRODUCT_FAILURE


def test_an_app_that_should_stay_and_crashes_is_not_waited_for(app: AppFile, newer: AppBundle) -> None:
    text = "Error Domain=OSSystemExtensionErrorDomain Code=9\nlast words"
    for wait in ("wait_until_done", "wait_until_requested"):
        activation = _activation(app, newer, [None], code=139, spec=STAYS, output=text)
        with pytest.raises(ActivationFailed, match=r"exit code 139.*9 \(validationFailed.*last words") as failed:
            getattr(activation, wait)(Deadline(60))
        assert failed.value.code == 9


def test_an_app_that_hands_over_to_a_helper_may_end(app: AppFile, newer: AppBundle, version: tuple[str, str]) -> None:
    waiting = _entry(app, WAITING, version)
    activation = _activation(app, newer, [None, None, waiting], code=0, spec=STAYS)
    assert activation.wait_until_requested(Deadline(30)) == WAITING
    with pytest.raises(WaitTimeout, match="to take up the activation request"):
        _activation(app, newer, [None], code=0, spec=STAYS).wait_until_requested(Deadline(0.3))


def test_steps_on_the_way_are_not_yet_an_answer(app: AppFile, newer: AppBundle, version: tuple[str, str]) -> None:
    path = [_entry(app, state, version) for state in ("staging", "validating_by_category", "validating_by_category")]
    activation = _activation(app, newer, [None, *path, _entry(app, WAITING, version)], code=None, spec=EXEC)
    assert activation.wait_until_requested(Deadline(30)) == WAITING
    assert [state for _, state in activation.states] == [None, "staging", "validating_by_category", WAITING]


def test_what_should_be_refused_and_is_not(app: AppFile, newer: AppBundle, version: tuple[str, str]) -> None:
    activation = _activation(app, newer, [None, _entry(app, WAITING, version)], code=None, spec=EXEC)
    activation.oracle.snapshot = lambda _: SimpleNamespace(describe=lambda: "it waits")  # type: ignore[method-assign, assignment, return-value]
    with pytest.raises(ProductFailure, match=r"4 \(extensionNotFound\): it was taken up: it waits"):
        activation.expect_refused(Deadline(30), 4)


def test_an_error_without_a_code(app: AppFile, newer: AppBundle) -> None:
    activation = _activation(app, newer, [None], code=1, spec=EXEC, output="")
    with pytest.raises(ActivationFailed, match="no error code; last line: none") as failed:
        activation.wait_until_requested(Deadline(5))
    assert failed.value.code is None
