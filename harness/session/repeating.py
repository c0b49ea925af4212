"""The same scenarios again and again in one pytest run: `--sysext-repeat N`, `--sysext-until-fail`.

Each cycle is a test of its own (`test_x[macos15-cycle7]`): its own Mac, case file and run key, so that chance falls anew.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.errors import Verdict
from harness.session.stash import RUN

if TYPE_CHECKING:
    from harness.reports.result import CaseResult

CYCLE = "sysext_cycle"
UNTIL_FAIL = 1000
"""Cycles at most with `--sysext-until-fail` alone: a list of tests must end somewhere. `sysext repro` knows no limit."""
_NAME = "stopped.txt"


def asked(config: pytest.Config) -> int:
    """How many cycles each scenario is to have."""
    given = config.getoption("sysext_repeat")
    if given is not None:
        return int(given)
    return UNTIL_FAIL if config.getoption("sysext_until_fail") else 1


def add_cycles(metafunc: pytest.Metafunc) -> None:
    """One scenario becomes as many tests as cycles are asked for."""
    count = asked(metafunc.config)
    if count > 1:
        metafunc.fixturenames.append(CYCLE)
        numbers = range(1, count + 1)
        metafunc.parametrize(CYCLE, numbers, ids=[f"cycle{number}" for number in numbers])


def in_turn(items: list[pytest.Item], config: pytest.Config) -> None:
    """All first cycles, then all second ones: the first failure comes sooner. On the same Mac each scenario has all its
    cycles in a row, for a host has room for few.
    """
    if asked(config) > 1 and not config.getoption("sysext_same_mac"):
        items.sort(key=cycle_of)


def cycle_of(item: pytest.Item) -> int:
    """The number of a test's cycle; 0 if it has none."""
    callspec = getattr(item, "callspec", None)
    return int(callspec.params.get(CYCLE, 0)) if callspec is not None else 0


def stopped(config: pytest.Config) -> str:
    """What failed first in this run, in whichever of its processes; "" as long as it may go on."""
    flag = _flag(config)
    if flag is None or not flag.exists():
        return ""
    with contextlib.suppress(OSError):
        return flag.read_text(encoding="utf-8", errors="replace").strip() or "a failure"
    return "a failure"


def note_result(config: pytest.Config, result: CaseResult) -> None:
    """With `--sysext-until-fail` a failure stops all processes of the run before their next scenario. What the environment
    broke is no such failure.
    """
    flag = _flag(config)
    if flag is None or not result.failed or result.verdict is Verdict.ENVIRONMENT_FAILURE:
        return
    with contextlib.suppress(OSError), flag.open("x", encoding="utf-8") as file:
        file.write(f"{result.nodeid} ({result.verdict.value}{': ' + result.cause if result.cause else ''})\n")


def _flag(config: pytest.Config) -> Path | None:
    if not config.getoption("sysext_until_fail") or RUN not in config.stash:
        return None
    return config.stash[RUN].folder / _NAME
