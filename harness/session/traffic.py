"""Does traffic really pass? The app file's `[traffic]`: a command that needs the network, and what the extension has counted of it.

A Mac that has no network by itself proves nothing: so the command is tried once before anything is activated, and if it fails then,
it is told and never judged.
"""

from __future__ import annotations

import re

from harness import events
from harness.config import TrafficSpec
from harness.errors import ProductFailure, SysextError, UsageError, Verdict, WaitTimeout
from harness.guest import CommandTimeout, Guest
from harness.waiting import Deadline, sleep, wait_until

COMMAND_SECONDS = 30.0
"""What one try may take at most."""
ANSWER_SECONDS = 15.0
"""Within which a guest whose traffic hangs has to answer something else, or it is the way to it that is broken."""
AGAIN = 1.0
"""Seconds between two tries."""
COUNT_SECONDS = 5.0
"""For so long an extension may not have counted yet what has passed."""
COUNT_INTERVAL = 0.25
MOST_TEXT = 100_000


class Traffic:
    """The traffic of one Mac. Without `[traffic]` in the app file every check passes at once."""

    def __init__(self, guest: Guest, spec: TrafficSpec | None) -> None:
        self.guest = guest
        self.spec = spec
        self.usable: bool | None = None
        """Whether the Mac has a network by itself; None before `try_without`."""

    def try_without(self, deadline: Deadline) -> None:
        """Try it before anything is activated. Never raises for a network that is not there: that is an event."""
        if self.spec is None or self.usable is not None:
            return
        with events.step("traffic before the activation"):
            reason = self._try(deadline)
        self.usable = reason is None
        if reason is not None:
            events.event("degraded", what="traffic is not judged: none passed before the activation", reason=reason)

    def expect(self, deadline: Deadline) -> dict[str, object]:
        """It passes, and the extension counts it, if the app file says how; returns what was seen, for the case file.

        Raises:
            ProductFailure: It does not.
            EnvironmentFailure: The Mac cannot be asked.
            UsageError: `count_pattern` is no regular expression with a group.
        """
        if self.spec is None or not self.usable:
            return {"judged": False}
        with events.step("traffic") as step:
            before = self._count(deadline)
            try:
                wait_until(
                    lambda: self._try(deadline),
                    lambda reason: reason is None,
                    what=f"traffic to pass on {self.guest.name} ({self.spec.command[0]})",
                    deadline=deadline,
                    interval=AGAIN,
                    hint="the same command passed before the activation: the extension stops it, or its tunnel is dead",
                    blame=Verdict.PRODUCT_FAILURE,
                )
            except WaitTimeout:
                # A Mac that is gone lets nothing pass either; this raises if it is.
                self.guest.run(["true"], deadline=Deadline.after(ANSWER_SECONDS), check=False)
                raise
            after = self._counted(before, deadline)
            step.note(counted_before=before, counted_after=after)
        return {"judged": True, "counted": None if before is None or after is None else after - before}

    def _counted(self, before: int | None, deadline: Deadline) -> int | None:
        """What it has counted in the end; it may take a moment to do so. None where the app file has no way to ask.

        Raises:
            ProductFailure: No more than before, or nothing that is a number.
        """
        assert self.spec is not None
        if not self.spec.count_command:
            return None
        limit = Deadline.after(min(COUNT_SECONDS, max(1.0, deadline.remaining)))
        after = self._count(limit)
        while (after is None or (before is not None and after <= before)) and not limit.expired:
            sleep(COUNT_INTERVAL)
            after = self._count(Deadline.after(COMMAND_SECONDS))
        if after is None or (before is not None and after <= before):
            raise ProductFailure(
                "the extension to count the traffic that passed",
                seen=f"{'no number' if after is None else after} after it, {'none' if before is None else before} before it",
                hint="traffic goes past the extension: it is enabled, and sees nothing; or traffic.count_command does not tell",
            )
        return after

    def _try(self, deadline: Deadline) -> str | None:
        """None when it passed, else why not."""
        assert self.spec is not None
        try:
            result = self.guest.run(self.spec.command, deadline=deadline.sub(COMMAND_SECONDS), check=False)
        except CommandTimeout as error:
            return f"no end of it: {error.seen}".splitlines()[0]
        except SysextError as error:
            if error.verdict is Verdict.ENVIRONMENT_FAILURE:
                raise
            return (error.seen or str(error)).splitlines()[0]
        if result.exit_code != 0:
            return f"exit code {result.exit_code}: {result.stderr.decode(errors='replace').strip()[-200:]}"
        if self.spec.expect_output is not None and not _search(
            self.spec.expect_output, result.text[:MOST_TEXT], "expect_output"
        ):
            return f"its output has no {self.spec.expect_output!r}: {result.text[:200]!r}"
        return None

    def _count(self, deadline: Deadline) -> int | None:
        """What the extension has counted; None where it does not say."""
        assert self.spec is not None
        if not self.spec.count_command:
            return None
        result = self.guest.run(
            self.spec.count_command, deadline=deadline.sub(COMMAND_SECONDS), check=False, sudo=self.spec.sudo
        )
        text = result.text[-MOST_TEXT:]
        if self.spec.count_pattern is not None:
            found = _search(self.spec.count_pattern, text, "count_pattern")
            if found is not None and not found.re.groups:
                raise UsageError(
                    "a group in traffic.count_pattern, which is the number",
                    seen=repr(self.spec.count_pattern),
                    hint="such as 'flows ([0-9]+)'",
                )
            number = found.group(1) if found is not None else None
        else:
            numbers = re.findall(r"\d{1,18}", text)
            number = numbers[-1] if numbers else None
        return int(number) if number is not None and number.isdigit() else None


def _search(pattern: str, text: str, key: str) -> re.Match[str] | None:
    try:
        return re.search(pattern, text)
    except re.error as error:
        raise UsageError(f"a regular expression as traffic.{key}", seen=str(error), hint="mend the app file") from error
