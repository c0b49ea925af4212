from __future__ import annotations

import errno
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import EnvironmentFailure, ProductFailure, UsageError, Verdict, WaitTimeout, verdict_of
from harness.waiting import Deadline, timeout_factor, wait_until, wake_pause


class AfterLooks(Deadline):
    """Expires after so many looks, however slow the machine is."""

    def __init__(self, looks: int) -> None:
        super().__init__(60)
        self.left = looks

    @property
    def expired(self) -> bool:
        return self.left <= 0


def test_returns_the_observation_that_satisfied() -> None:
    seen = iter([1, 2, 3])
    assert wait_until(lambda: next(seen), lambda value: value == 3, what="three", deadline=Deadline(5), interval=0) == 3


def test_a_success_seen_after_the_deadline_counts() -> None:
    def slow() -> bool:
        time.sleep(0.15)
        return True

    assert wait_until(slow, what="slow truth", deadline=Deadline(0.05), interval=0) is True


def test_at_least_one_look_even_with_an_expired_deadline() -> None:
    looks: list[int] = []
    with pytest.raises(WaitTimeout):
        wait_until(lambda: looks.append(1), what="nothing", deadline=Deadline(0), interval=0)
    assert looks == [1]


def test_timeout_says_what_how_long_how_often_and_what_was_seen_last() -> None:
    deadline = AfterLooks(3)

    def look() -> str:
        deadline.left -= 1
        return "still booting"

    with pytest.raises(WaitTimeout) as caught:
        wait_until(
            look,
            lambda _: False,
            what="vm-a to boot",
            deadline=deadline,
            interval=0.01,
            hint="look at it",
            blame=Verdict.ENVIRONMENT_FAILURE,
        )
    error = caught.value
    assert error.last == "still booting"
    assert error.attempts == 3
    assert "vm-a to boot" in str(error)
    assert "still booting" in str(error)
    assert "Hint: look at it" in str(error)
    assert verdict_of(error) is Verdict.ENVIRONMENT_FAILURE


def test_only_listed_exceptions_mean_not_yet() -> None:
    def refuse() -> None:
        raise ConnectionRefusedError("no")

    with pytest.raises(WaitTimeout) as caught:
        wait_until(refuse, what="a door", deadline=Deadline(0.03), interval=0.01, transient=(ConnectionError,))
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)
    with pytest.raises(ConnectionRefusedError):
        wait_until(refuse, what="a door", deadline=Deadline(5), interval=0.01)


def test_a_hopeless_state_ends_the_wait_at_once() -> None:
    started = time.monotonic()
    with pytest.raises(WaitTimeout, match="it crashed"):
        wait_until(lambda: "dead", lambda _: False, what="life", deadline=Deadline(60), fail_if=lambda _: "it crashed")
    with pytest.raises(ProductFailure, match="mine"):
        wait_until(
            lambda: "dead",
            lambda _: False,
            what="life",
            deadline=Deadline(60),
            fail_if=lambda _: ProductFailure("mine"),
        )
    assert time.monotonic() - started < 30


def test_stable_for_restarts_when_the_truth_breaks() -> None:
    started = time.monotonic()
    answers = iter([True, False] + [True] * 1000)
    wait_until(lambda: next(answers), what="steady", deadline=Deadline(10), interval=0.01, stable_for=0.1)
    assert time.monotonic() - started >= 0.1


def test_an_event_ends_the_pause_early() -> None:
    news = threading.Event()
    flag: list[bool] = []

    def tell() -> None:
        flag.append(True)
        news.set()

    timer = threading.Timer(0.05, tell)
    timer.start()
    started = time.monotonic()
    wait_until(lambda: bool(flag), what="news", deadline=Deadline(60), interval=50, pause=wake_pause(news))
    assert time.monotonic() - started < 25
    timer.join()


@given(st.floats(0, 50), st.floats(0, 50))
def test_a_nested_deadline_never_outlives_its_parent(outer: float, inner: float) -> None:
    parent = Deadline(outer)
    child = parent.sub(inner)
    assert child.remaining <= parent.remaining + 0.05
    assert child.remaining <= inner + 0.05


def test_factor_stretches_new_deadlines_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYSEXT_TIMEOUT_FACTOR", "3")
    assert timeout_factor() == 3
    assert 25 < Deadline.after(10).remaining <= 30
    for wrong in ("x", "0", "-1", "nan", "inf"):
        monkeypatch.setenv("SYSEXT_TIMEOUT_FACTOR", wrong)
        with pytest.raises(UsageError):
            timeout_factor()


def test_verdicts() -> None:
    assert verdict_of(None) is Verdict.PASSED
    assert verdict_of(AssertionError()) is Verdict.PRODUCT_FAILURE
    assert verdict_of(EnvironmentFailure("x")) is Verdict.ENVIRONMENT_FAILURE
    assert verdict_of(ConnectionResetError()) is Verdict.ENVIRONMENT_FAILURE
    assert verdict_of(EOFError()) is Verdict.ENVIRONMENT_FAILURE
    assert verdict_of(KeyError()) is Verdict.HARNESS_ERROR
    assert verdict_of(pytest.skip.Exception("later")) is Verdict.SKIPPED
    assert verdict_of(pytest.fail.Exception("broken")) is Verdict.PRODUCT_FAILURE
    both = ExceptionGroup("both", [KeyError("k"), ProductFailure("p")])
    assert verdict_of(both) is Verdict.PRODUCT_FAILURE


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EHOSTUNREACH, errno.ETIMEDOUT])
def test_a_full_disk_and_a_network_that_is_gone_are_the_environments(number: int) -> None:
    assert verdict_of(OSError(number, "x")) is Verdict.ENVIRONMENT_FAILURE
    assert verdict_of(OSError(errno.ENOENT, "x")) is Verdict.HARNESS_ERROR


def test_who_could_not_look_at_last_does_not_blame_the_product() -> None:
    def wait(*looks: object) -> Verdict:
        left = list(looks)
        deadline = AfterLooks(len(looks))

        def look() -> object:
            deadline.left -= 1
            seen = left.pop(0)
            if isinstance(seen, Exception):
                raise seen
            return seen

        with pytest.raises(WaitTimeout) as caught:
            wait_until(
                look,
                what="it",
                deadline=deadline,
                interval=0.005,
                transient=(EnvironmentFailure, KeyError),
                blame=Verdict.PRODUCT_FAILURE,
            )
        return caught.value.verdict

    assert wait(False, EnvironmentFailure("ssh lost")) is Verdict.ENVIRONMENT_FAILURE
    assert wait(EnvironmentFailure("ssh lost"), False) is Verdict.PRODUCT_FAILURE
    assert wait(KeyError("x")) is Verdict.PRODUCT_FAILURE
