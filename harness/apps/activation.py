"""One activation request and everything observed about it, from the request to its end state."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime

from harness import events
from harness.apps.launching import CODE_NAMES, Launch, launch
from harness.apps.oracle import Entry, Oracle, Snapshot, for_a_look
from harness.bundles.app import AppBundle
from harness.config import LaunchSpec
from harness.errors import ProductFailure, Verdict
from harness.guest import Guest
from harness.waiting import Deadline, wait_until

WAITING = "activated_waiting_for_user"
ENABLED = "activated_enabled"
UNDER_WAY = frozenset({"realizing", "staging", "validating", "validating_by_category"})
"""Steps that every activation passes through."""


class ActivationFailed(ProductFailure):
    """The app's request ended in an error.

    Attributes:
        code: The OSSystemExtensionErrorDomain code, None if the app printed none.
    """

    def __init__(self, expected: str, *, code: int | None, seen: str, hint: str) -> None:
        self.code = code
        super().__init__(expected, seen=seen, hint=hint)


@dataclass
class Activation:
    """A request under way.

    Attributes:
        started: When the app was launched, host clock, UTC.
        before: What the oracle said before it.
        states: Each change of state seen since: (seconds since the start, state).
    """

    guest: Guest
    oracle: Oracle
    bundle: AppBundle
    launch: Launch
    spec: LaunchSpec
    before: Snapshot
    started: datetime
    clock: float
    states: list[tuple[float, str | None]] = field(default_factory=list)

    def state(self, deadline: Deadline) -> str | None:
        """The extension's state now; each change is kept and is an event."""
        state = self.oracle.state(deadline)
        if not self.states or self.states[-1][1] != state:
            self.states.append((round(time.monotonic() - self.clock, 3), state))
            events.event("extension-state", state=state)
        return state

    def wait_until_requested(self, deadline: Deadline) -> str | None:
        """Wait until macOS knows of the request: the extension has a state, or the app has ended; returns the state.

        A state that was there before the request (an older version's) counts as well: what became of the request is for
        `wait_until_done` to see.

        Raises:
            ActivationFailed: The app ended with an error, or could not be opened.
            WaitTimeout: Neither happened; blames the product.
        """
        return self._wait_until_requested(deadline)

    def _wait_until_requested(self, deadline: Deadline, *, old_state: str | None = None) -> str | None:
        """As above; a state that is `old_state` tells nothing."""

        def observe() -> tuple[str | None, int | None]:
            exit_code = self.launch.exit_code
            return self.state(for_a_look(deadline)), exit_code

        def known(seen: tuple[str | None, int | None]) -> bool:
            state, exit_code = seen
            return self._over(exit_code) or (state not in (None, old_state) and state not in UNDER_WAY)

        with events.step("activation request", app=self.bundle.name):
            state, exit_code = wait_until(
                observe,
                known,
                what=f"macOS on {self.guest.name} to take up the activation request of {self.bundle.name}",
                deadline=deadline,
                interval=0.1,
                hint="is the extension inside the app, and does the app ask for it at launch?",
                blame=Verdict.PRODUCT_FAILURE,
            )
            if exit_code is not None and self._over(exit_code):
                self._judge_exit(exit_code)
        return state

    def wait_until_done(self, deadline: Deadline) -> None:
        """Wait for an app that ends by itself to end well; then, and for others, for its version of the extension to be
        enabled.

        Raises:
            ActivationFailed: It ended with an error.
            WaitTimeout: It did not end, or the state did not become *activated enabled*; blames the product.
        """
        with events.step("activation completes", app=self.bundle.name) as step:
            if self.exits:
                exit_code = wait_until(
                    lambda: self.launch.exit_code,
                    lambda code: code is not None,
                    what=f"{self.bundle.name} on {self.guest.name} to finish its activation",
                    deadline=deadline,
                    interval=0.1,
                    pause=self.launch.process.wait_for_exit,
                    hint="a consent may still be open on the screen: see the last frames",
                    blame=Verdict.PRODUCT_FAILURE,
                )
                assert exit_code is not None
                self._judge_exit(exit_code)
                step.note(exit_code=exit_code)
            self._wait_until_enabled(deadline)

    def expect_refused(self, deadline: Deadline, *codes: int) -> int | None:
        """Wait for the request to fail, with one of those OSSystemExtensionErrorDomain codes if any are given.

        Raises:
            ProductFailure: It did not fail, or with another code.
            WaitTimeout: Nothing came of it; blames the product.
        """
        wanted = " or ".join(f"{code} ({CODE_NAMES.get(code, '?')})" for code in codes) or "any code"
        try:
            # The state of another copy that was there before is no answer to this request.
            self._wait_until_requested(deadline, old_state=self.before.state)
        except ActivationFailed as failure:
            if codes and failure.code not in codes:
                raise ProductFailure(
                    f"the request of {self.bundle.name} to be refused with {wanted}",
                    seen=failure.seen,
                    hint=failure.hint,
                ) from failure
            events.event("refused-as-expected", code=failure.code)
            return failure.code
        raise ProductFailure(
            f"the request of {self.bundle.name} to be refused with {wanted}",
            seen=f"it was taken up: {self.oracle.snapshot(for_a_look(deadline)).describe()}",
            hint="is the app really where the scenario put it? a second copy in /Applications also counts",
        )

    def stop(self, deadline: Deadline) -> None:
        """End the app if it still runs."""
        self.launch.stop(deadline)

    @property
    def exits(self) -> bool:
        """Whether the app's own end is awaited: it ends by itself, and was not started by `open`, which hides it."""
        return self.spec.exits and not self.launch.opened

    def _over(self, exit_code: int | None) -> bool:
        """Whether no more is to be expected of the app. One that should have stayed may end well and leave the rest to a
        helper; if it ended badly, that is the end.
        """
        return exit_code is not None and (self.exits or exit_code not in self.spec.success_codes)

    def _wait_until_enabled(self, deadline: Deadline) -> None:
        extension = self.bundle.require_extension(self.oracle.app.extension.id)
        wanted = f"{extension.short}/{extension.build}"

        def fits(entry: Entry | None) -> bool:
            return entry is not None and entry.state == ENABLED and entry.version == wanted

        def failed(_: Entry | None) -> bool:
            exit_code = self.launch.exit_code if not self.exits else None
            if exit_code is not None and self._over(exit_code):
                self._judge_exit(exit_code)
            return False

        entry = wait_until(
            lambda: self.oracle.main(for_a_look(deadline)),
            fits,
            what=f"{extension.identifier} {wanted} on {self.guest.name} to be {ENABLED}",
            deadline=deadline,
            fail_if=failed,
            hint="look at sysextd in the case file's log; `sysext triage` on the case file names the cause",
            blame=Verdict.PRODUCT_FAILURE,
        )
        assert entry is not None
        self.states.append((round(time.monotonic() - self.clock, 3), entry.state))
        events.event("extension-state", state=entry.state, version=entry.version)

    def _judge_exit(self, exit_code: int) -> None:
        if exit_code in self.spec.success_codes:
            return
        code = self.launch.error_code
        named = (
            f"OSSystemExtensionErrorDomain {code} ({CODE_NAMES.get(code, 'not a documented code')})"
            if code is not None
            else "no error code"
        )
        last = self.launch.output.strip().splitlines()
        raise ActivationFailed(
            f"{self.bundle.name} to activate its extension on {self.guest.name}",
            code=code,
            seen=f"{'`open`' if self.launch.opened else 'it'} ended with exit code {exit_code}, {named}; last line: {last[-1][:300] if last else 'none'}",
            hint="the case file's log holds sysextd's reason",
        )


def activate(
    guest: Guest, oracle: Oracle, bundle: AppBundle, path: str, spec: LaunchSpec, *, deadline: Deadline
) -> Activation:
    """Launch the app so that it asks for activation; returns at once with the request under way."""
    before = oracle.snapshot(deadline)
    started = datetime.now(UTC)
    clock = time.monotonic()
    running = launch(guest, bundle, path, spec, deadline=deadline)
    return Activation(guest, oracle, bundle, running, spec, before, started, clock)
