"""What scenarios say about prompts: expect one, close it, approve, refuse, expect none.

Two verdicts are always kept apart: did the prompt appear, and could it be approved?
"""

from __future__ import annotations

import time
from typing import Literal

from harness import events
from harness.approval import Approval, Approver, VncChannel
from harness.approval.ax import AxChannel
from harness.approval.routes import SWITCHES
from harness.approval.walk import CANCELLED, NOT_OFFERED
from harness.apps.activation import ENABLED, WAITING, Activation
from harness.errors import HarnessError, ProductFailure, UsageError
from harness.screen import Sighting
from harness.screen.catalog import load_catalog
from harness.screen.needles import Needles
from harness.session.mac import Mac
from harness.waiting import Deadline

QUESTIONS = ("alert-blocked", "alert-updated", "alert-new-extension")
"""Window classes of the extension's approval prompt, all macOS versions."""
CONSENTS = {
    "proxy-configuration": "ne-proxy-consent",
    "vpn-configuration": "ne-vpn-consent",
    "filter-configuration": "ne-filter-consent",
}
"""App file's consent → window class."""

DISABLED = "activated_disabled"
SETTINGS_KINDS = {"endpoint-security": "endpoint-security", "driver": "driver"}
"""App file's extension kind → the list it stands in in Settings; all others are network extensions."""


class PromptMissing(ProductFailure):
    """macOS should have asked, and did not. `approvable` says whether Settings offered it all the same."""

    def __init__(self, expected: str, *, seen: str, hint: str, approvable: bool | None) -> None:
        self.approvable = approvable
        self.collected = True  # at once, before the Settings route was tried
        super().__init__(expected, seen=seen, hint=hint)


class RemovalNotOffered(HarnessError):
    """Settings shows no way to remove the extension, or none that is known: nothing is said about the product."""


class ApprovalSteps:
    """The prompts of one Mac, as a scenario speaks of them."""

    def __init__(self, mac: Mac) -> None:
        self.mac = mac
        self._slowest = 0.0
        self.approver = Approver(
            screen=mac.screen,
            reader=mac.reader,
            catalog=load_catalog(mac.settings.screen.pages) if mac.settings.screen.pages else None,
            app_name=mac.app.name,
            extension_kind=SETTINGS_KINDS.get(mac.app.extension.kind, "network"),
            generation=mac.generation,
            password=mac.settings.guest.reveal(),
            user=mac.settings.guest.user,
            oracle=mac.state,
            guest_open=mac.open_url,
            quit_settings=mac.quit_settings,
            folder=mac.case.folder.frames,
            developer_names=(mac.app.developer,) if mac.app.developer else (),
            needles=_needles(mac),
            channels=(
                VncChannel(mac.screen),
                AxChannel(mac.guest, lane=mac.settings.lane, generation=mac.generation, user=mac.settings.guest.user),
            ),
        )

    @property
    def consents(self) -> tuple[str, ...]:
        """The configuration consents that the app file expects, as window classes."""
        return tuple(CONSENTS[kind] for kind in self.mac.app.consents if kind in CONSENTS)

    def deadline(self) -> Deadline:
        """The usual time for an approval."""
        return Deadline.after(self.mac.settings.timeouts.approval)

    def expect_prompt(self, activation: Activation) -> Sighting:
        """The approval prompt comes up within its time.

        Raises:
            PromptMissing: It does not. Evidence was collected at once, then the Settings route was tried, and whether that
                worked is in the error.
            ActivationFailed: The app's request failed before.
        """
        deadline = Deadline.after(self.mac.settings.timeouts.prompt)
        with events.step("expect prompt") as step:
            sighting = self.approver.wait_for_prompt(
                deadline, kinds=QUESTIONS, hopeless=lambda: self._request_failed(activation)
            )
            if sighting is not None:
                took = time.monotonic() - activation.clock
                self._slowest = max(self._slowest, took)
                step.note(window=sighting.window, app_name=sighting.app_name, after=round(took, 1))
                self.mac.case.prompt_appeared = True
                return sighting
        state = activation.wait_until_requested(self.deadline())
        self.mac.case.prompt_appeared = False
        events.event("prompt-missing", state=state, waited=deadline.seconds)
        self.mac.collect("prompt missing")
        approvable: bool | None = None
        shown = "approvable: not tried"
        if state == WAITING:
            try:
                approvable = self._try_settings()
                shown = f"approvable in Settings: {'yes' if approvable else 'no'}"
            except Exception as error:  # noqa: BLE001 - whatever comes after it, the prompt was missing: that must be heard
                shown = f"approvable in Settings: not known ({(str(error) or repr(error)).splitlines()[0]})"
                events.event("degraded", what="the Settings route could not be tried to its end", reason=str(error))
        self.mac.case.approvable = approvable
        raise PromptMissing(
            f"the approval prompt for {self.mac.app.extension.id} on {self.mac.name}",
            seen=f"prompt missing: none within {deadline.seconds:g} s, while the state is {state or 'none'}; {shown}",
            hint="the case file holds the frames, sysextd's log from before anything else was touched, and a sysdiagnose",
            approvable=approvable,
        )

    def close_prompt(self, activation: Activation) -> None:
        """Press OK: the prompt goes, nothing is approved."""
        self.approver.close_prompt(self.deadline())
        state = activation.state(self.deadline())
        if state != WAITING:
            raise ProductFailure("OK to only close the prompt", seen=f"the state became {state}", hint="see the frames")

    def approve(self, activation: Activation, *, consent: Literal["allow", "dont-allow"] = "allow") -> None:
        """From the prompt on the screen to *activated enabled*, then the configuration consents, to the app's end.

        Raises:
            ProductFailure: It cannot be approved.
        """
        outcome = self.approver.approve_in_settings(self.deadline(), enter="prompt")
        self._approved(outcome)
        self.answer_consents(activation, consent)

    def approve_in_settings(self, activation: Activation) -> None:
        """Approve without a prompt on the screen: Settings is opened by its URL."""
        outcome = self.approver.approve_in_settings(self.deadline(), enter="url")
        self._approved(outcome)
        self.answer_consents(activation)

    def approve_waiting(self) -> None:
        """Approve what waits, in Settings, while no app is there that asked: nobody is told, and no consent follows."""
        self._approved(self.approver.approve_in_settings(self.deadline(), enter="url"))
        self.mac.expect_state(ENABLED)

    def answer_consents(self, activation: Activation, choice: Literal["allow", "dont-allow"] = "allow") -> None:
        """Answer the configuration consents the app file expects, then wait for the activation's end."""
        for kind in self.consents:
            with events.step("consent", window=kind, choice=choice):
                self.approver.consent(
                    kind,
                    choice,
                    self.deadline(),
                    hopeless=lambda: self._request_failed(activation),
                    done=lambda: activation.launch.exit_code is not None,
                )
        if choice == "allow":
            activation.wait_until_done(self.deadline())

    def activate_and_approve(self) -> Activation:
        """The usual way in: activate, see the prompt, approve, consent."""
        activation = self.mac.activate()
        self.expect_prompt(activation)
        self.approve(activation)
        return activation

    def cancel_password(self) -> None:
        """Ask for approval in Settings, and cancel when a password is asked for: nothing is approved, nothing is lost.

        Raises:
            ProductFailure: It was approved without a password, no password was asked for, or the request is gone.
        """
        outcome = self.approver.cancel_password_in_settings(self.deadline())
        state = self.mac.state()
        if outcome.why != CANCELLED or state != WAITING:
            raise ProductFailure(
                f"{self.mac.app.extension.id} on {self.mac.name} to wait on after its password window was cancelled",
                seen=f"{outcome.why}; the state is {state}",
                hint="the frames in the case file show each step",
            )
        events.event("password-cancelled", state=state)

    @property
    def can_switch(self) -> bool:
        """Whether Settings of this macOS has a switch for each extension (15 and later; before it there is only Allow)."""
        return self.mac.generation >= SWITCHES

    def switch_off(self) -> None:
        """Switch the extension off in Settings, and see it disabled and its process gone.

        Raises:
            UsageError: This macOS has no such switch (see `can_switch`).
            ProductFailure: It does not go off.
        """
        outcome = self.approver.switch_off_in_settings(self.deadline())
        if not outcome.approvable:
            raise ProductFailure(
                f"{self.mac.app.extension.id} on {self.mac.name} to be switched off in Settings",
                seen=f"{outcome.why}; the state is {self.mac.state()}",
                hint="the frames in the case file show each step; `systemextensionsctl list` there shows the state",
            )
        self.mac.expect_state(DISABLED)
        self.mac.expect_stopped()

    def remove_extension(self) -> None:
        """Remove the extension in Settings, and see it gone (a leftover may wait for a restart), and its process.

        Raises:
            UsageError: This macOS cannot do it (see `can_switch`).
            RemovalNotOffered: There is no such button or menu.
            ProductFailure: It does not go.
        """
        outcome = self.approver.remove_in_settings(self.deadline())
        if not outcome.approvable:
            kind = RemovalNotOffered if outcome.why.startswith(NOT_OFFERED) else ProductFailure
            raise kind(
                f"{self.mac.app.extension.id} on {self.mac.name} to be removed in Settings",
                seen=f"{outcome.why}; the state is {self.mac.state()}",
                hint="the frames in the case file show each step; what Settings says in another language or release can be "
                "added: `screen.pages`",
            )
        self.mac.expect_state(None)
        self.mac.expect_stopped()

    def allow_removal(self, leaving: Activation) -> None:
        """An app was started that asks for its extension's removal: give the administrator's password where macOS wants one, until
        the app has ended, or the extension is off or gone.

        Raises:
            HarnessError: The password was not taken.
        """

        def over() -> bool:
            return leaving.launch.exit_code is not None or self.mac.state() in (None, DISABLED)

        self.approver.give_password(self.deadline(), over)

    def switch_on(self) -> None:
        """Switch the extension on again in Settings, after `switch_off`, and see it enabled. Nobody is asked for more than
        the password.

        Raises:
            UsageError: This macOS has no such switch.
            ProductFailure: It does not go on.
        """
        if not self.can_switch:
            raise UsageError(f"macOS {SWITCHES} or later", seen=f"macOS {self.mac.macos}: Settings has no switch")
        with events.step("switch on"):
            self._approved(self.approver.approve_in_settings(self.deadline(), enter="url"))
            self.mac.expect_state(ENABLED)

    def expect_no_prompt(self, activation: Activation) -> None:
        """No approval prompt comes up; the request stays what it is.

        It is watched for `timeouts.quiet`, or for twice the time that a prompt has taken on this Mac, if that is longer:
        on a slow one five seconds prove nothing.

        Raises:
            ProductFailure: One came.
        """
        activation.wait_until_requested(self.deadline())
        timeouts = self.mac.settings.timeouts
        quiet = Deadline.after(max(timeouts.quiet, min(2 * self._slowest, timeouts.prompt)))
        with events.step("expect no prompt", seconds=quiet.seconds):
            sighting = self.approver.wait_for_prompt(quiet, kinds=QUESTIONS, thorough=False)
        if sighting is not None:
            raise ProductFailure(
                "no second prompt for a request that already waits",
                seen=f"'{sighting.window}' came up",
                hint="this macOS asks again: see the frames, and docs/contracts.md",
            )

    def expect_no_questions(self, activation: Activation) -> None:
        """The activation ends well without asking anybody anything.

        Raises:
            ProductFailure: A window that asks came up.
        """
        windows = (*QUESTIONS, *self.consents)
        with events.step("expect no questions"):
            # Whatever asks keeps the app waiting, so it is looked for all the while, not only at the end.
            sighting = self.approver.wait_for_prompt(
                self.deadline(), kinds=windows, hopeless=lambda: self._has_ended(activation), thorough=False
            )
            if sighting is None:
                activation.wait_until_done(self.deadline())
                sighting = self.approver.look(kinds=windows)
        if sighting is not None:
            events.event("asked-again", window=sighting.window, consent=sighting.window in self.consents)
            raise ProductFailure(
                "an inherited approval: nobody is asked",
                seen=f"'{sighting.window}' is on the screen",
                hint="the approval or the saved configuration was lost on the way; see the frames",
            )
        if activation.state(self.deadline()) != ENABLED:
            raise ProductFailure("the extension to be enabled", seen=f"it is {activation.state(self.deadline())}")

    def _approved(self, outcome: Approval) -> None:
        self.mac.case.approvable = outcome.approvable
        events.event("approved", route=outcome.route, approvable=outcome.approvable, steps=len(outcome.steps))
        if outcome.approvable is None:
            raise HarnessError("the approval to end in yes or no", seen="neither")
        if not outcome.approvable:
            raise ProductFailure(
                f"{self.mac.app.extension.id} on {self.mac.name} to be approvable by the route '{outcome.route}'",
                seen=f"{outcome.why}; the state is {self.mac.state()}",
                hint="the frames in the case file show each step",
            )

    def _try_settings(self) -> bool:
        """After a missing prompt: is it approvable at all? Never raises for a product that is not."""
        with events.step("try the Settings route"):
            outcome = self.approver.approve_in_settings(self.deadline(), enter="url")
            events.event("approvable", approvable=outcome.approvable, why=outcome.why)
            return bool(outcome.approvable)

    def _has_ended(self, activation: Activation) -> bool:
        """Whether nothing more is to be expected of the app: it has ended, or is one that stays, and the extension is enabled."""
        if activation.exits:
            return activation.launch.exit_code is not None
        return activation.state(Deadline.after(self.mac.settings.timeouts.command)) == ENABLED

    def _request_failed(self, activation: Activation) -> bool:
        """True (by raising what it is) when the app has already given up: then no prompt will come."""
        if activation.launch.exit_code is not None:
            activation.wait_until_requested(Deadline(5))
            return activation.spec.exits
        return False


def _needles(mac: Mac) -> Needles | None:
    """What was learned on Macs of the same provider (a simulated one teaches nothing about real ones) and build."""
    if not mac.settings.screen.needles:
        return None
    origin = f"{mac.settings.provider}-{mac.build or mac.macos}"
    return Needles(mac.settings.cache_dir / "needles", origin=origin, app_name=mac.app.name)
