"""The recovery ladder: something is broken after an upgrade; what heals it? Tried in order, the mildest first, until it works.

    restart the app · switch the extension off and on · deactivate and activate · remove it in Settings and approve anew · restart the
    Mac · remove the app, restart, install and approve anew

Each rung is a step with what came of it. A rung that cannot be tried here says why; nothing about it is assumed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from harness import events
from harness.apps import health, staged
from harness.apps.activation import ENABLED, WAITING, Activation
from harness.config import LaunchSpec
from harness.errors import ProductFailure, Verdict, verdict_of
from harness.session.approving import DISABLED, ApprovalSteps, RemovalNotOffered
from harness.session.mac import Mac
from harness.waiting import Deadline

HEALED, BROKEN, NOT_TRIED, NOT_KNOWN = "healed", "still broken", "not tried", "not known"
TIME = "time"
"""What healed it if nothing was done at all: it works when it is looked at again, before the first rung."""
LOOK_AGAIN = 8.0
"""Seconds that this look may take."""


class NotHere(Exception):
    """A rung that cannot be tried on this Mac or with this app; the text says why."""


@dataclass(frozen=True)
class Rung:
    """What came of one rung.

    Attributes:
        name: `restart-app`, `off-on`, `deactivate-activate`, `remove-and-approve`, `reboot`, `reinstall`.
        outcome: `healed`, `still broken`, `not tried`, `not known` (the Mac or we broke down on the way: that says nothing).
        why: What is still broken, or why it was not tried.
        seconds: What it took.
    """

    name: str
    outcome: str
    why: str = ""
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """For `upgrade.json`."""
        return asdict(self)


def healer(rungs: list[Rung]) -> str | None:
    """The rung that healed it, None if none did."""
    return next((rung.name for rung in rungs if rung.outcome == HEALED), None)


def approve_again(mac: Mac, approval: ApprovalSteps, activation: Activation) -> None:
    """Approve in Settings an extension that was approved before. Where the app's network configuration is still saved, nobody is asked
    for that again.

    Raises:
        ProductFailure: It cannot be approved.
    """
    saved = mac.app.configuration is not None and mac.oracle.configuration(approval.deadline()) is not None
    if not saved:
        approval.approve_in_settings(activation)
        return
    outcome = approval.approver.approve_in_settings(approval.deadline(), enter="url")
    if not outcome.approvable:
        raise ProductFailure(
            f"{mac.app.extension.id} on {mac.name} to be approvable again",
            seen=f"{outcome.why}; the state is {mac.state()}",
            hint="the frames in the case file show each step",
        )
    activation.wait_until_done(approval.deadline())


class Ladder:
    """The rungs for one Mac on which a release is installed that does not work as it should.

    Args:
        mac: The Mac.
        approval: Its prompts.
        works: One more check of what was found broken; raises SysextError while it is.
        older_copy: Whether macOS may go on with the staged copy that was there (a rebuild under the same version).
    """

    def __init__(
        self,
        mac: Mac,
        approval: ApprovalSteps,
        works: Callable[[Deadline], None] | None = None,
        *,
        older_copy: bool = False,
    ) -> None:
        self.mac = mac
        self.approval = approval
        self._works = works
        self._older_copy = older_copy

    def climb(self) -> list[Rung]:
        """Try rung after rung until the extension works. Never raises: this is part of telling a failure."""
        tried: list[Rung] = []
        with events.step("recovery ladder", machine=self.mac.name) as step:
            # What works by now was only late; the first rung must not be praised for it.
            again = self._try(TIME, lambda: None, LOOK_AGAIN)
            if again.outcome == HEALED:
                tried.append(again)
            for name, action in () if tried else self._rungs():
                rung = self._try(name, action)
                tried.append(rung)
                if rung.outcome == HEALED:
                    break
            step.note(healed_by=healer(tried), rungs=[f"{rung.name}: {rung.outcome}" for rung in tried])
        return tried

    def _rungs(self) -> Iterator[tuple[str, Callable[[], None]]]:
        yield "restart-app", self._restart_app
        yield "off-on", self._off_on
        yield "deactivate-activate", self._deactivate
        yield "remove-and-approve", self._remove
        yield "reboot", self._reboot
        yield "reinstall", self._reinstall

    def _try(self, name: str, action: Callable[[], None], most: float | None = None) -> Rung:
        begun = time.monotonic()
        outcome, why = HEALED, ""
        with events.step(f"rung: {name}") as step:
            try:
                action()
                usual = self.mac.settings.upgrades.rung_seconds
                self._expect_healthy(min(most or usual, usual))
            except NotHere as reason:
                outcome, why = NOT_TRIED, str(reason)
            except Exception as error:  # noqa: BLE001 - the failure that led here must be heard, and the next rung tried
                outcome = BROKEN if verdict_of(error) is Verdict.PRODUCT_FAILURE else NOT_KNOWN
                why = (str(error) or type(error).__name__).splitlines()[0][:500]
            step.note(outcome=outcome, why=why)
        rung = Rung(name, outcome, why, round(time.monotonic() - begun, 1))
        events.event("recovery-rung", rung=name, outcome=outcome, why=why, seconds=rung.seconds)
        return rung

    def _restart_app(self) -> None:
        self.mac.stop_activations()
        self._activate()

    def _off_on(self) -> None:
        if not self.approval.can_switch:
            raise NotHere(f"Settings of macOS {self.mac.macos} has no switch for each extension")
        state = self.mac.state()
        if state != ENABLED:
            raise NotHere(f"the extension is {state}: there is nothing to switch off")
        self.approval.switch_off()
        self.approval.switch_on()
        self._activate()

    def _deactivate(self) -> None:
        arguments = self.mac.app.deactivate
        if not arguments:
            raise NotHere("the app file names no `deactivate`, and macOS has no command for it while SIP is on")
        launch = self.mac.app.launch
        self.mac.stop_activations()
        leaving = self.mac.activate(launch=LaunchSpec(how="exec", arguments=arguments, environment=launch.environment))
        self.approval.allow_removal(leaving)
        leaving.launch.process.wait_for_exit(self._rung().remaining)
        if leaving.launch.exit_code not in (0, None):
            last = leaving.launch.output.strip().splitlines()
            raise ProductFailure(
                f"{self.mac.app.name} to deactivate its extension on {self.mac.name}",
                seen=f"it ended with exit code {leaving.launch.exit_code}; last line: {last[-1][:300] if last else 'none'}",
                hint="the case file's log holds sysextd's reason",
            )
        self.mac.expect_state(None, DISABLED)
        self._activate()

    def _remove(self) -> None:
        if not self.approval.can_switch:
            raise NotHere(f"Settings of macOS {self.mac.macos} cannot remove an extension")
        if self.mac.state() is None:
            raise NotHere("there is no extension to remove")
        self.mac.stop_activations()
        try:
            self.approval.remove_extension()
        except RemovalNotOffered as error:
            raise NotHere(error.seen) from error
        self._activate()

    def _reboot(self) -> None:
        if self.mac.machine.own_display:
            raise NotHere("this program runs on that Mac")
        self.mac.reboot()
        self._activate()

    def _reinstall(self) -> None:
        if self.mac.machine.own_display:
            raise NotHere("this program runs on that Mac")
        release = self.mac.installed.release if self.mac.installed is not None else None
        self.mac.stop_activations()
        if self.mac.installed is not None:
            self.mac.uninstall()
        self.mac.reboot()
        self.mac.expect_state(None)
        self.mac.install(release)
        self._activate()

    def _activate(self) -> Activation:
        """Start the app, and answer what it is asked, whatever that is."""
        activation = self.mac.activate()
        state = activation.wait_until_requested(self.approval.deadline())
        if state == WAITING:
            approve_again(self.mac, self.approval, activation)
        else:
            if state == DISABLED and self.approval.can_switch:
                self.approval.switch_on()
            if self._configuration_lost():  # the app asks for it anew, and that window would stand before all others
                self.approval.answer_consents(activation)
        activation.wait_until_done(self._rung())
        return activation

    def _configuration_lost(self) -> bool:
        mac = self.mac
        return mac.app.configuration is not None and mac.oracle.configuration(self.approval.deadline()) is None

    def _expect_healthy(self, seconds: float) -> None:
        mac = self.mac
        installed = mac.installed
        if installed is None:
            raise NotHere("nothing is installed")
        extension = installed.bundle.require_extension(mac.app.extension.id)
        version = installed.version(extension.identifier)
        health.expect_working(mac.guest, mac.oracle, mac.app, version=version, deadline=Deadline.after(seconds))
        try:
            staged.expect_staged(mac.guest, extension, deadline=self._rung())
        except staged.StagedCopyWrong:
            if not self._older_copy:
                raise
        if self._works is not None:
            self._works(Deadline.after(seconds))

    def _rung(self) -> Deadline:
        return Deadline.after(self.mac.settings.upgrades.rung_seconds)
