"""An upgrade path walked on one Mac: bring it to a state, put the newer release over the older one, and let the oracle say what
came of it.

What is expected is `harness.upgrades.expectations`; what was seen goes to `upgrade.json` in the case file and, in short, to the
notes of the result. What is broken is taken up the recovery ladder, so that the failure says what heals it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import SecretStr

from harness import events
from harness.apps import staged
from harness.apps.activation import ENABLED, Activation
from harness.apps.installing import APPLICATIONS
from harness.apps.oracle import Entry, for_a_look
from harness.errors import EnvironmentFailure, HarnessError, ProductFailure, SysextError, Verdict, verdict_of
from harness.formats.network import NetworkConfiguration
from harness.guest import Background, Guest, users
from harness.session.approving import QUESTIONS, ApprovalSteps
from harness.session.mac import Installed, Mac
from harness.session.recovering import BROKEN, NOT_KNOWN, TIME, Ladder, Rung, approve_again, healer
from harness.session.traffic import Traffic
from harness.upgrades.expectations import Answer, Expectation, expect
from harness.upgrades.paths import UNAPPROVED, Relation, State, Step, UpgradePath, relation
from harness.waiting import Deadline, wait_until

HARMLESS = "terminated_waiting_to_uninstall_on_reboot"
"""The only thing that an older version may leave: it goes at the next restart, and piles up until then (many posted listings)."""
SECOND_USER = "colleague"
LEAVE_SECONDS = 10.0
"""What ending the second user's session may take."""
REPORT = "upgrade.json"


class UpgradeSteps:
    """The steps of one path on one Mac."""

    def __init__(self, mac: Mac, approval: ApprovalSteps, path: UpgradePath) -> None:
        self.mac = mac
        self.approval = approval
        self.path = path
        self.traffic = Traffic(mac.guest, mac.app.traffic)
        self._now: State | None = None
        self._activation: Activation | None = None
        self._configuration: NetworkConfiguration | None = None
        self._second: tuple[Guest, Background] | None = None
        self._seen: dict[str, Any] = {}
        self._steps: list[dict[str, Any]] = []
        self._delivering = False

    @contextlib.contextmanager
    def told(self, step: Step) -> Iterator[None]:
        """Around one step: what was seen is kept, and a product failure is taken up the ladder before it is raised again."""
        kind = relation(self.mac.app, step.older, step.newer)
        self._seen = {"step": str(step), "relation": kind.value, "expected": self._expectation(step).source}
        self._steps.append(self._seen)
        self._delivering = False
        try:
            with events.step("upgrade", path=step.id, relation=kind.value):
                yield
            self._seen["outcome"] = "as expected"
        except pytest.skip.Exception as reason:
            self._seen["outcome"] = f"skipped: {reason.msg}"
            raise
        except Exception as error:
            self._seen["outcome"] = verdict_of(error).value
            self._seen["failure"] = str(error)
            if isinstance(error, SysextError) and error.verdict is Verdict.PRODUCT_FAILURE and self._delivering:
                self._recover(step, error)
            raise
        finally:
            self._leave_second_user()
            self._write()

    def bring_to(self, step: Step) -> None:
        """The older release is installed, and the Mac is in the step's state. Skips where this Mac cannot be brought there: a test
        that says `asleep` has seen a display asleep.

        Raises:
            ProductFailure: It does not even get there.
            EnvironmentFailure: The second user cannot be had.
        """
        with events.step("bring to state", state=step.state.value, release=step.older):
            if self.mac.installed is None:
                self.traffic.try_without(self._after(self.mac.settings.timeouts.command))
                self.mac.install(step.older)
                self._now = State.NEVER
            if step.state in UNAPPROVED:
                self._wait_unapproved(step.state)
            else:
                self._have_approved(step.state)
            if step.state is State.ASLEEP:
                absence = self.mac.sleep_display()
                self._seen["display_slept"] = absence.happened
                if not absence.happened:
                    pytest.skip(f"this Mac's display does not sleep: {absence.why}")
            elif step.state is State.SECOND_USER:
                self._log_in_second_user()
            self._configuration = self._saved_configuration()
            self._seen["before"] = self.mac.snapshot().describe()

    def upgrade(self, step: Step) -> None:
        """The newer release is put over the older one in the step's way, and the app is started again, if it ever was.

        Raises:
            ProductFailure: The delivery did not put there what it should.
        """
        self._delivering = True
        with events.step("deliver and restart the app", how=step.how.value, release=step.newer):
            self.mac.install(step.newer, how=step.how.value)
            if self._stays_pending(step) and step.state is State.NEVER:
                return
            if not self.mac.app.launch.exits:
                self.mac.stop_activations()
            self._activation = self.mac.activate()

    def check(self, step: Step) -> None:
        """What came of it is what the table says, and in the end the newer release works: one entry, its launchd job and endpoints, no
        old process, the staged copy, the configuration kept and connected, the app's own checks, traffic.

        Raises:
            ProductFailure: Anything is otherwise.
        """
        expectation = self._expectation(step)
        pending = self._stays_pending(step)
        if pending and step.state is State.NEVER:
            return
        activation = self._activation
        if activation is None:
            raise HarnessError("an upgrade to check", seen="none was made", hint="call upgrade() first")
        with events.step("check upgrade", answer=expectation.answer.value):
            if expectation.pending:
                self._expect_pending(activation, expectation)
            if pending:
                return
            self._answer(activation, step, expectation)
            self._expect_working(step, expectation)
            self._expect_no_leftovers(self._after(self.mac.settings.timeouts.ready))
            self._expect_configuration_kept(step)
            self._seen["traffic"] = seen = self.traffic.expect(self._after(self.mac.settings.timeouts.ready))
            if not seen["judged"]:
                self._note(f"{step}: whether traffic passes was not judged")
            self._now = State.RUNNING

    # --- states

    def _wait_unapproved(self, state: State) -> None:
        if state is State.NEVER:
            return
        if self._now is State.NEVER:
            self._activation = self.mac.activate()
            self.approval.expect_prompt(self._activation)
            self._now = State.WAITING
        if state is State.DISMISSED and self._now is State.WAITING:
            assert self._activation is not None
            self.approval.close_prompt(self._activation)
            self._now = State.DISMISSED

    def _have_approved(self, state: State) -> None:
        if self._now is State.NEVER:
            self._activation = self.approval.activate_and_approve()
            self.mac.expect_working()
        elif self._now in UNAPPROVED:
            assert self._activation is not None
            self.approval.approve_in_settings(self._activation)
            self.mac.expect_working()
        elif self._now is State.DISABLED and state is not State.DISABLED:
            self.approval.switch_on()
            self._activation = self.mac.activate()
            self._activation.wait_until_done(self.approval.deadline())
        if state is State.DISABLED and self._now is not State.DISABLED:
            self.approval.switch_off()
        self._now = State.DISABLED if state is State.DISABLED else State.RUNNING

    def _stays_pending(self, step: Step) -> bool:
        """Whether the next step begins in the same unanswered state: then nobody answers in between."""
        steps = list(self.path)
        place = next((number for number, one in enumerate(steps) if one is step), len(steps) - 1)
        following = steps[place + 1] if place + 1 < len(steps) else None
        unanswered = step.state in UNAPPROVED or step.state is State.DISABLED
        return following is not None and unanswered and following.state is step.state

    def _log_in_second_user(self) -> None:
        """Another account, logged in through SSH: a session of its own, while the screen stays whose it is."""
        mac = self.mac
        if mac.machine.own_display:
            pytest.skip("this Mac is the host itself: no account is made on it")
        # The same each time on the same Mac: a later step, or cycle, finds the account there.
        password = hashlib.sha256(f"{mac.name} {SECOND_USER}".encode()).hexdigest()[:16]
        deadline = self._after(mac.settings.timeouts.ssh)
        users.add_user(mac.guest, SECOND_USER, password, deadline)
        settings = mac.settings.guest.model_copy(
            update={"user": SECOND_USER, "password": SecretStr(password), "key": None}
        )
        # A folder of its own would pin the host key anew: it is the same Mac, so the pinned one must fit.
        second = Guest(mac.guest.locate, settings, name=f"{mac.name} ({SECOND_USER})", folder=mac.guest.folder)
        second.connect(deadline)
        self._second = second, second.start(["/bin/sh", "-c", "while :; do sleep 5; done"], deadline=deadline)
        who = second.run(["id", "-un"], deadline=deadline).text.strip()
        if who != SECOND_USER:
            raise EnvironmentFailure(
                f"{SECOND_USER} to be logged in on {mac.name}",
                seen=f"it is {who}",
                hint="is sshd told to map users there?",
            )
        self._seen["second_user"] = who
        events.event("second-user", user=who, session="ssh")

    def _leave_second_user(self) -> None:
        if self._second is not None:
            guest, session = self._second
            self._second = None
            with contextlib.suppress(Exception):
                session.stop(self._after(LEAVE_SECONDS))
            with contextlib.suppress(Exception):
                guest.close()

    # --- judging

    def _expectation(self, step: Step) -> Expectation:
        return expect(relation(self.mac.app, step.older, step.newer), step.state, step.how)

    def _expect_pending(self, activation: Activation, expectation: Expectation) -> None:
        """Until somebody answers, the newer version waits, and is not enabled."""
        version = "/".join(self._installed().version(self.mac.app.extension.id))

        def settled(entry: Entry | None) -> bool:
            return entry is not None and entry.state in expectation.pending and entry.version == version

        def too_early(entry: Entry | None) -> str | None:
            early = entry is not None and entry.state == ENABLED and entry.version == version
            return "it is enabled, and nobody has allowed it" if early else None

        def look() -> Entry | None:
            if activation.launch.exit_code not in (None, *self.mac.app.launch.success_codes):
                activation.wait_until_requested(self.approval.deadline())  # raises what became of the request
            return self.mac.oracle.main(for_a_look(deadline))

        entry = wait_until(
            look,
            settled,
            what=f"{self.mac.app.extension.id} {version} on {self.mac.name} to be {' or '.join(expectation.pending)}",
            deadline=(deadline := self._after(self.mac.settings.timeouts.activation)),
            fail_if=too_early,
            hint="sysextd's decision is in the case file's log; docs/upgrades.md says what is expected, and why",
            blame=Verdict.PRODUCT_FAILURE,
        )
        assert entry is not None
        self._seen["pending"] = entry.state
        if entry.state != expectation.likely:
            self._note(f"after the upgrade the extension is {entry.state.replace('_', ' ')}: macOS asks anew")

    def _answer(self, activation: Activation, step: Step, expectation: Expectation) -> None:
        if step.state is State.ASLEEP:
            try:
                activation.wait_until_done(self.approval.deadline())  # before anybody wakes it
            except SysextError:
                self._look_at_what_it_waits_for()
                raise
            self._seen["display_slept_on"] = self.mac.wake_display()
        elif self._second is not None and not self._second[1].running:
            raise EnvironmentFailure(
                f"{SECOND_USER} to stay logged in on {self.mac.name} during the upgrade",
                seen="that session has ended",
                hint="was the network of the Mac cut? see its log in the case file",
            )
        if expectation.answer is Answer.NOTHING:
            self.approval.expect_no_questions(activation)
            self._seen["approval"] = "inherited"
        elif step.state is State.NEVER:
            self.approval.expect_prompt(activation)
            self.approval.approve(activation)
            self._seen["approval"] = "asked for the first time, and given"
        elif expectation.answer is Answer.APPROVE or self._seen.get("pending") != expectation.likely:
            asked = self.approval.approver.look(kinds=QUESTIONS) is not None
            approve_again(self.mac, self.approval, activation)
            self._seen["approval"] = f"given once; a prompt {'was' if asked else 'was not'} on the screen"
        else:
            self.approval.switch_on()
            activation.wait_until_done(self.approval.deadline())
            self._seen["approval"] = "kept; switched on again by hand"
        events.event("approval-after-upgrade", what=self._seen["approval"], state=step.state.value)

    def _look_at_what_it_waits_for(self) -> None:
        """A window that asks cannot be seen while the display sleeps; what it is belongs to the failure."""
        with contextlib.suppress(SysextError):
            self.mac.wake_display()
            asked = self.approval.approver.look(kinds=(*QUESTIONS, *self.approval.consents))
            if asked is not None:
                consent = asked.window in self.approval.consents
                events.event("asked-again", window=asked.window, consent=consent)

    def _expect_working(self, step: Step, expectation: Expectation) -> None:
        rebuilt = relation(self.mac.app, step.older, step.newer) is Relation.REBUILD
        try:
            found = self.mac.expect_working()
        except staged.StagedCopyWrong as error:
            if expectation.replaced or not rebuilt:
                raise
            self._seen["staged"] = "older"
            self._note(
                f"{step.newer} is a rebuild of {step.older}: macOS goes on with the older copy, as it must ({error.seen})"
            )
            return
        self._seen["staged"] = "newer"
        self._seen["pid"] = found.pid
        if rebuilt and not expectation.replaced:
            self._note(f"{step.newer} is a rebuild of {step.older}, and this macOS took the new copy all the same")

    def _expect_no_leftovers(self, deadline: Deadline) -> None:
        """Beside the enabled copy only what goes at a restart; in /Applications nothing half-installed."""

        def others() -> list[Entry]:
            entries = self.mac.oracle.snapshot(for_a_look(deadline)).entries
            return [entry for entry in entries if entry.state not in (ENABLED, HARMLESS, "uninstalled")]

        wait_until(
            others,
            lambda found: not found,
            what=f"no leftover of an older {self.mac.app.extension.id} on {self.mac.name} but one that goes at a restart",
            deadline=deadline,
            hint="db.plist in the case file names each copy; a restart may clear them",
            blame=Verdict.PRODUCT_FAILURE,
        )
        self._seen["after"] = self.mac.snapshot().describe()
        name = self._installed().bundle.path.name
        listed = self.mac.guest.run(["ls", "-A", APPLICATIONS], deadline=for_a_look(deadline)).text.splitlines()
        aside = [entry for entry in listed if entry.startswith(f".{name}")]
        if aside:
            raise ProductFailure(
                f"nothing half-installed beside {name} in {APPLICATIONS}",
                seen=", ".join(aside[:5]),
                hint="the updater or installer was interrupted, or forgets to clear up",
            )

    def _expect_configuration_kept(self, step: Step) -> None:
        """The network configuration is the one that was saved before; its session is judged by `expect_working`."""
        before = self._configuration
        if self.mac.app.configuration is None or step.state in UNAPPROVED:
            return
        if before is None:
            self._note(f"{step}: no network configuration was saved before, so whether one is kept was not judged")
            return
        now = self._saved_configuration()
        if now is None or (before.service_id and now.service_id != before.service_id):
            raise ProductFailure(
                f"the network configuration '{before.name}' to be kept over the upgrade",
                seen="none is saved" if now is None else f"another one: {now.service_id}, before {before.service_id}",
                hint="a configuration that is saved anew asks the user again, and loses what was set in it",
            )
        self._seen["configuration"] = "kept"

    def _saved_configuration(self) -> NetworkConfiguration | None:
        return self.mac.oracle.configuration(self._after(self.mac.settings.timeouts.command))

    # --- what is broken, and what was seen

    def _recover(self, step: Step, error: SysextError) -> None:
        """Evidence first, then the ladder; what heals it goes into the failure's own text."""
        mac = self.mac
        if not getattr(error, "collected", False):
            mac.collect(f"{error.verdict.value}: {type(error).__name__}")
            error.__dict__["collected"] = True
        if not mac.settings.upgrades.ladder:
            return
        with contextlib.suppress(SysextError):
            if step.state is State.ASLEEP:
                mac.wake_display()
        kept = relation(mac.app, step.older, step.newer) is Relation.REBUILD and not self._expectation(step).replaced
        rungs = Ladder(mac, self.approval, self._works, older_copy=kept).climb()
        self._seen["ladder"] = [rung.as_dict() for rung in rungs]
        self._seen["healed_by"] = healer(rungs)
        said = _said(rungs)
        error.seen = f"{error.seen}; {said}" if error.seen else said
        self._note(f"{step}: {said}")

    def _works(self, deadline: Deadline) -> None:
        """What the ladder must bring about beside an extension that works."""
        self._expect_no_leftovers(deadline)
        self.traffic.expect(deadline)

    def _installed(self) -> Installed:
        if self.mac.installed is None:
            raise HarnessError("an installed app", seen="none", hint="call bring_to() first")
        return self.mac.installed

    def _note(self, text: str) -> None:
        self.mac.case.notes.append(text)
        events.event("upgrade-note", text=text)

    def _write(self) -> None:
        """`upgrade.json`; a full disk of the host loses the file, not the result."""
        data = events.SECRETS.mask_all({"path": str(self.path), "macos": self.mac.macos, "steps": self._steps})
        try:
            self.mac.case.folder.path.joinpath(REPORT).write_text(json.dumps(data, indent=1), encoding="utf-8")
        except OSError as error:
            events.event("degraded", what=f"{REPORT} could not be written", reason=str(error))

    def _after(self, seconds: float) -> Deadline:
        return Deadline.after(seconds)


def _said(rungs: list[Rung]) -> str:
    healed = healer(rungs)
    if healed == TIME:
        return "healed by time alone: it works now, and nothing was done"
    failed = [rung.name for rung in rungs if rung.outcome == BROKEN]
    before = f" (not by {', '.join(failed)})" if failed else ""
    if broken_off := [rung.name for rung in rungs if rung.outcome == NOT_KNOWN]:
        before += f"; of {', '.join(broken_off)} it is not known"
    return f"healed by {healed}{before}" if healed else f"healed by nothing{before}"
