"""One deadline, passed down; one way to wait. `time.sleep` occurs nowhere else in the harness.

Success is judged by the last observation, never by the clock after the loop: what was seen to be so counts,
however late it was seen.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from harness.errors import SysextError, UsageError, Verdict, WaitTimeout, verdict_of

if TYPE_CHECKING:
    import tenacity

T = TypeVar("T")
Pause = Callable[[float], object]
"""Waits up to so many seconds, and may return early when there is news (`threading.Event.wait` is one)."""


def timeout_factor() -> float:
    """What every time limit is multiplied by: `SYSEXT_TIMEOUT_FACTOR`, 1 by default; for slow hosts.

    Raises:
        UsageError: It is not a positive number.
    """
    text = os.environ.get("SYSEXT_TIMEOUT_FACTOR", "1")
    try:
        factor = float(text)
    except ValueError:
        factor = 0.0
    if not 0 < factor < 1000:
        raise UsageError(
            "SYSEXT_TIMEOUT_FACTOR is a positive number",
            seen=repr(text),
            hint="unset it, or set it to 2 on a slow host",
        )
    return factor


class Deadline:
    """A point on the monotonic clock. Passed down, so that a nested call gets what remains and not more."""

    __slots__ = ("_at", "seconds")

    def __init__(self, seconds: float, *, _at: float | None = None) -> None:
        self.seconds = seconds
        self._at = time.monotonic() + seconds if _at is None else _at

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """`seconds` from now, times `SYSEXT_TIMEOUT_FACTOR`."""
        return cls(seconds * timeout_factor())

    def sub(self, seconds: float) -> Deadline:
        """A nested deadline: `seconds` (times the factor) from now, but never later than this one."""
        at = min(self._at, time.monotonic() + seconds * timeout_factor())
        return Deadline(max(0.0, at - time.monotonic()), _at=at)

    @property
    def remaining(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self._at - time.monotonic())

    @property
    def expired(self) -> bool:
        """True when nothing is left."""
        return self.remaining <= 0

    def __repr__(self) -> str:
        return f"Deadline({self.remaining:.2f} s of {self.seconds:g} s left)"


class _NotYet(Exception):
    pass


def sleep(seconds: float) -> None:
    """The only sleep. Prefer `wait_until` with a `pause` that reacts to events."""
    if seconds > 0:
        time.sleep(seconds)


def wait_until(
    observe: Callable[[], T],
    until: Callable[[T], object] = bool,
    *,
    what: str,
    deadline: Deadline,
    interval: float = 0.2,
    fail_if: Callable[[T], object] | None = None,
    stable_for: float = 0.0,
    transient: tuple[type[BaseException], ...] = (),
    pause: Pause | None = None,
    hint: str = "",
    blame: Verdict = Verdict.HARNESS_ERROR,
) -> T:
    """Observe again and again until `until(observation)` holds; returns that observation.

    At least one observation is made, also with an expired deadline.

    Args:
        observe: Looks once. It gets no deadline from here: build one into it with `deadline.sub(…)`.
        until: Judges an observation.
        what: What is awaited, for the error: "the console user to be admin on vm-a".
        deadline: When to give up.
        interval: Seconds between the end of one look and the next.
        fail_if: Judges an observation as hopeless: stop at once. Truthy ends the wait with `ProductFailure`-like
            blame; a `SysextError` it returns is raised as it is, a string becomes the reason.
        stable_for: `until` must hold for so long without a break.
        transient: Exceptions of `observe` that mean "not yet"; all others go through.
        pause: How to wait between looks; returning early means there is news.
        hint: The next thing a person should do, for the error.
        blame: The verdict that a time-out means; the environment's if the last look failed by its fault, for then nobody
            knows whether what was awaited had come.

    Raises:
        WaitTimeout: The deadline came first (or `fail_if` held).
    """
    import tenacity  # here, for it brings asyncio along: half of what a simulated `tart list` would cost

    started = time.monotonic()
    attempts = 0
    last: object = None
    good_since: float | None = None

    def look() -> T:
        nonlocal attempts, last, good_since
        attempts += 1
        try:
            seen = observe()
        except transient as error:
            last = error
            good_since = None
            raise _NotYet from error
        last = seen
        if until(seen):
            now = time.monotonic()
            if good_since is None:
                good_since = now
            if now - good_since >= stable_for:
                return seen
            raise _NotYet
        good_since = None
        if fail_if is not None and (reason := fail_if(seen)):
            if isinstance(reason, SysextError):
                raise reason
            hopeless = timed_out()
            hopeless.seen = f"gave up after {hopeless.elapsed:.1f} s: {reason if isinstance(reason, str) else seen!r}"
            raise hopeless
        raise _NotYet

    def timed_out() -> WaitTimeout:
        blind = isinstance(last, BaseException) and verdict_of(last) is Verdict.ENVIRONMENT_FAILURE
        return WaitTimeout(
            what,
            elapsed=time.monotonic() - started,
            attempts=attempts,
            last=last,
            hint=hint,
            blame=Verdict.ENVIRONMENT_FAILURE if blind else blame,
        )

    def next_wait(_: tenacity.RetryCallState) -> float:
        wait = interval if good_since is None else min(interval, max(0.01, stable_for / 4))
        return min(wait, deadline.remaining)

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(_NotYet),
        stop=lambda _: deadline.expired,
        wait=next_wait,
        sleep=_as_sleep(pause),
    )
    try:
        return retrying(look)
    except tenacity.RetryError:
        cause = last if isinstance(last, BaseException) else None
        raise timed_out() from cause


def _as_sleep(pause: Pause | None) -> Callable[[float], None]:
    if pause is None:
        return sleep

    def wait(seconds: float) -> None:
        pause(seconds)

    return wait


def wake_pause(wake: threading.Event) -> Pause:
    """A `pause` that returns as soon as `wake` is set, and clears it for the next time."""

    def wait(seconds: float) -> None:
        if wake.wait(seconds):
            wake.clear()

    return wait
