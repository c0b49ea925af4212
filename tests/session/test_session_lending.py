"""Macs between two cycles, and which failed one is kept."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.errors import EnvironmentFailure, Verdict
from harness.session import lending
from harness.session.lending import Stable


class Machine:
    def __init__(self, *, stays: bool = False) -> None:
        self.stays = stays
        self.said: list[str] = []

    def stop(self, _deadline: object) -> None:
        self.said.append("stop")

    def delete(self) -> None:
        self.said.append("delete")
        if self.stays:
            raise EnvironmentFailure("the machine to go", seen="it stays")


def test_one_that_does_not_go_keeps_no_other_from_going() -> None:
    machines = [Machine(), Machine(stays=True), Machine()]
    stable = Stable()
    for number, machine in enumerate(machines):
        assert stable.park(str(number), machine)  # type: ignore[arg-type]
    with pytest.raises(EnvironmentFailure, match="it stays"):
        stable.clear()
    assert [machine.said for machine in machines] == [["stop", "delete"]] * 3
    assert stable.parked == {}


def test_the_first_failure_of_the_product_is_kept_and_none_after_it(tmp_path: Path) -> None:
    run: Any = SimpleNamespace(folder=tmp_path)
    case: Any = SimpleNamespace(folder=SimpleNamespace(path=tmp_path / "case"))

    def first(verdict: Verdict, *, counted: bool) -> bool:
        return lending._is_first(run, case, verdict, counted=counted)

    assert not first(Verdict.ENVIRONMENT_FAILURE, counted=False)
    assert not first(Verdict.HARNESS_ERROR, counted=True), "`sysext repro` does not count it"
    assert first(Verdict.PRODUCT_FAILURE, counted=True)
    assert not first(Verdict.PRODUCT_FAILURE, counted=True)
    (tmp_path / "kept").unlink()
    assert first(Verdict.HARNESS_ERROR, counted=False)
