"""What can go wrong, and the one function that turns it into a verdict.

Every error a user can meet says three things: what was expected, what was seen, what to do next.
"""

from __future__ import annotations

import enum
import errno
from collections.abc import Sequence
from pathlib import Path


class Verdict(enum.StrEnum):
    """How one scenario run ended. Decided by `verdict_of` and nowhere else."""

    PASSED = "passed"
    PRODUCT_FAILURE = "product-failure"
    ENVIRONMENT_FAILURE = "environment-failure"
    HARNESS_ERROR = "harness-error"
    KNOWN_ISSUE = "known-issue"
    SKIPPED = "skipped"


class SysextError(Exception):
    """Base of all errors this project raises on purpose.

    Args:
        expected: What should have been the case ("port 22 open on vm-a").
        seen: What was the case instead ("connection refused, 12 tries in 30 s").
        hint: The next thing a person should do, a copyable command where possible.
        evidence: Files that show it.
    """

    verdict: Verdict = Verdict.HARNESS_ERROR
    collected: bool = False
    """The evidence was collected when it was found: once is enough."""

    def __init__(self, expected: str, *, seen: str = "", hint: str = "", evidence: Sequence[Path] = ()) -> None:
        self.expected = expected
        self.seen = seen
        self.hint = hint
        self.evidence = tuple(evidence)
        super().__init__(expected)

    def __str__(self) -> str:
        """All parts on as few lines as they need."""
        text = f"{self.expected}: {self.seen}" if self.seen else self.expected
        if self.hint:
            text += f"\nHint: {self.hint}"
        if self.evidence:
            text += "\nEvidence: " + ", ".join(str(path) for path in self.evidence)
        return text


class UsageError(SysextError):
    """The user gave something that cannot be used. The command ends with exit code 2, nothing half-done."""

    verdict = Verdict.HARNESS_ERROR


class ProductFailure(SysextError):
    """The app, its extension or macOS's treatment of them is not as it should be: what we are here to find."""

    verdict = Verdict.PRODUCT_FAILURE


class EnvironmentFailure(SysextError):
    """The Mac, its host or the way to it broke. The machine is marked bad; the scenario may be rerun once, told apart."""

    verdict = Verdict.ENVIRONMENT_FAILURE


class HarnessError(SysextError):
    """A mistake of ours."""

    verdict = Verdict.HARNESS_ERROR


class KnownIssue(SysextError):
    """A failure that a known-issue file describes."""

    verdict = Verdict.KNOWN_ISSUE


class WaitTimeout(SysextError):
    """A wait ended without what was awaited.

    Attributes:
        what: What was awaited, in words.
        elapsed: Seconds waited.
        attempts: How often it was observed.
        last: The last observation, as it was.
    """

    def __init__(
        self,
        what: str,
        *,
        elapsed: float,
        attempts: int,
        last: object,
        hint: str = "",
        blame: Verdict = Verdict.HARNESS_ERROR,
    ) -> None:
        self.what = what
        self.elapsed = elapsed
        self.attempts = attempts
        self.last = last
        self.verdict = blame
        shown = repr(last) if not isinstance(last, BaseException) else f"{type(last).__name__}: {last}"
        if len(shown) > 600:
            shown = shown[:597] + "..."
        tries = "1 try" if attempts == 1 else f"{attempts} tries"
        super().__init__(what, seen=f"not within {elapsed:.1f} s ({tries}); last seen: {shown}", hint=hint)


_ENVIRONMENTS = frozenset(
    (
        *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ENOMEM, errno.EAGAIN),  # the host
        *(errno.ENETUNREACH, errno.ENETDOWN, errno.EHOSTUNREACH, errno.EHOSTDOWN, errno.ETIMEDOUT),  # the way
    )
)


def verdict_of(error: BaseException | None) -> Verdict:
    """The verdict that an exception means, or PASSED for none.

    Our own errors carry theirs; an assertion is a product failure, `pytest.skip` a skip; a dropped or refused
    connection, a network that is not there and a host without room are the environment's; anything else is a mistake of
    ours until shown otherwise. The cause of an exception group is its worst member: product over environment over harness.
    """
    if error is None:
        return Verdict.PASSED
    if isinstance(error, SysextError):
        return error.verdict
    if isinstance(error, BaseExceptionGroup):
        members = {verdict_of(member) for member in error.exceptions}
        for verdict in (
            Verdict.PRODUCT_FAILURE,
            Verdict.ENVIRONMENT_FAILURE,
            Verdict.HARNESS_ERROR,
            Verdict.KNOWN_ISSUE,
        ):
            if verdict in members:
                return verdict
        return Verdict.SKIPPED
    if isinstance(error, AssertionError):
        return Verdict.PRODUCT_FAILURE
    name = type(error).__name__
    module = type(error).__module__
    # pytest's own (it calls them "builtins"): known by name, so that the ground floor needs no pytest.
    if module in ("builtins", "_pytest.outcomes") and name in ("Skipped", "Failed", "XFailed"):
        return Verdict.SKIPPED if name == "Skipped" else Verdict.PRODUCT_FAILURE
    if isinstance(error, ConnectionError | EOFError) or module.startswith("paramiko"):
        return Verdict.ENVIRONMENT_FAILURE
    if isinstance(error, OSError) and error.errno in _ENVIRONMENTS:
        return Verdict.ENVIRONMENT_FAILURE
    return Verdict.HARNESS_ERROR
