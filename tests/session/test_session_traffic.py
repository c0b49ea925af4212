"""Traffic is judged only where the Mac has a network by itself; what the extension counts must rise."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from harness import events
from harness.config import TrafficSpec
from harness.errors import EnvironmentFailure, ProductFailure, UsageError, Verdict, WaitTimeout
from harness.guest import CommandTimeout
from harness.session.traffic import Traffic
from harness.waiting import Deadline


class Told:
    """A guest whose `curl` and counter answer as they are told, the last answer for ever."""

    name = "mac"
    gone = False

    def __init__(self, *answers: tuple[int, str], counts: Sequence[str] = ()) -> None:
        self.answers = list(answers)
        self.counts = list(counts)
        self.asked: list[tuple[str, bool]] = []

    def run(self, argv: list[str], *, deadline: Deadline, check: bool = True, sudo: bool = False) -> Any:
        self.asked.append((argv[0], sudo))
        if argv[0] == "true" and not self.gone:
            return SimpleNamespace(exit_code=0, text="", stderr=b"")
        if argv[0] == "count":
            text = self.counts.pop(0) if len(self.counts) > 1 else self.counts[0]
            return SimpleNamespace(exit_code=0, text=text, stderr=b"")
        code, text = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if argv[0] == "true":
            raise EnvironmentFailure("ssh", seen="gone")
        if code == -1:
            raise EnvironmentFailure("ssh", seen=text)
        if code == -2:
            raise CommandTimeout("curl", seen=text, blame=Verdict.ENVIRONMENT_FAILURE)
        return SimpleNamespace(exit_code=code, text=text, stderr=text.encode() if code else b"")


def traffic(told: Told, **spec: Any) -> Traffic:
    guest: Any = told
    return Traffic(guest, TrafficSpec(command=["curl"], **spec))


def soon() -> Deadline:
    return Deadline(0.05)


def test_without_a_command_nothing_is_judged() -> None:
    guest: Any = Told((1, ""))
    none = Traffic(guest, None)
    none.try_without(soon())
    assert none.expect(soon()) == {"judged": False}
    assert guest.asked == []


def test_a_mac_without_a_network_is_told_and_not_judged() -> None:
    log, records = events.EventLog(), []
    log.subscribe(records.append)
    told = Told((6, "Could not resolve host"))
    here = traffic(told)
    with events.use(log):
        here.try_without(soon())
        assert here.expect(soon()) == {"judged": False}
    assert here.usable is False
    (told_of,) = [record for record in records if record["name"] == "degraded"]
    assert "Could not resolve host" in told_of["attributes"]["reason"]


def test_it_must_pass_afterwards() -> None:
    here = traffic(Told((0, "Success"), (28, "timed out"), (28, "timed out")))
    here.try_without(soon())
    with pytest.raises(WaitTimeout, match="traffic to pass") as caught:
        here.expect(soon())
    assert caught.value.verdict == "product-failure"
    assert "timed out" in caught.value.seen


def test_it_may_take_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.session.traffic.AGAIN", 0.05)
    here = traffic(Told((0, "Success"), (7, "refused"), (0, "Success")), expect_output="^Succ")
    here.try_without(soon())
    assert here.expect(Deadline(30)) == {"judged": True, "counted": None}


def test_another_answer_is_no_traffic() -> None:
    here = traffic(Told((0, "Success"), (0, "<html>captive portal</html>")), expect_output="Success")
    here.try_without(soon())
    with pytest.raises(WaitTimeout, match="captive portal"):
        here.expect(soon())


@pytest.mark.parametrize(
    ("counts", "pattern", "counted"),
    [
        (("flows 3", "flows 5"), None, 2),
        (("pid 9 flows 3 (ok)", "pid 9 flows 4 (ok)"), r"flows (\d+)", 1),
    ],
)
def test_what_is_counted_must_rise(counts: tuple[str, ...], pattern: str | None, counted: int) -> None:
    told = Told((0, ""), counts=counts)
    here = traffic(told, count_command=["count"], count_pattern=pattern, sudo=True)
    here.try_without(soon())
    assert here.expect(soon()) == {"judged": True, "counted": counted}
    assert ("count", True) in told.asked
    assert ("curl", True) not in told.asked


def test_it_may_count_a_moment_later() -> None:
    here = traffic(Told((0, ""), counts=("flows 3", "flows 3", "flows 3", "flows 4")), count_command=["count"])
    here.try_without(soon())
    assert here.expect(Deadline(30)) == {"judged": True, "counted": 1}


def test_a_pattern_without_a_group_is_the_app_files_mistake() -> None:
    here = traffic(Told((0, ""), counts=("flows 3",)), count_command=["count"], count_pattern="flows")
    here.try_without(soon())
    with pytest.raises(UsageError, match="a group"):
        here.expect(soon())


@pytest.mark.parametrize(
    "counts",
    [("flows 3", "flows 3"), ("flows 3", "no such process"), ("flows 3", "flows 1"), ("no such file",)],
)
def test_traffic_that_goes_past_the_extension_is_a_failure(
    counts: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.session.traffic.COUNT_SECONDS", 0.05)
    here = traffic(Told((0, ""), counts=counts), count_command=["count"])
    here.try_without(soon())
    with pytest.raises(ProductFailure, match="count the traffic"):
        here.expect(soon())


def test_a_broken_way_is_the_environments() -> None:
    here = traffic(Told((0, ""), (-1, "connection lost")))
    here.try_without(soon())
    with pytest.raises(EnvironmentFailure):
        here.expect(soon())


def test_a_pattern_that_is_none_is_named() -> None:
    here = traffic(Told((0, "x")), expect_output="(")
    with pytest.raises(UsageError, match=r"traffic\.expect_output"):
        here.try_without(soon())


def test_traffic_that_hangs_is_the_products_failure_as_long_as_the_mac_answers() -> None:
    """The last try has less time than the command takes to give up by itself; that is no fault of the environment."""
    told = Told((0, ""), (-2, "still running after 1.2 s, ended; it had said nothing"))
    here = traffic(told)
    here.try_without(soon())
    with pytest.raises(WaitTimeout, match="still running after") as caught:
        here.expect(soon())
    assert caught.value.verdict is Verdict.PRODUCT_FAILURE
    told.gone = True
    with pytest.raises(EnvironmentFailure, match="gone"):
        here.expect(soon())


def test_a_network_that_hangs_before_anything_is_activated_is_told_and_not_judged() -> None:
    here = traffic(Told((-2, "still running after 30 s")))
    here.try_without(soon())
    assert here.usable is False
