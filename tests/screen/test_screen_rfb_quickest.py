"""Which encoding stays: the one whose whole pictures came most quickly, each having had its turn."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from harness.screen.frames import Box
from harness.screen.rfb_reader import _Quickest

CHOICES = ((6, 0), (0,))
WHOLE = SimpleNamespace(regions=[Box(0, 0, 2560, 1600)])


def after(seconds: dict[tuple[int, ...], float], answers: int) -> tuple[int, ...]:
    """What is asked for after so many whole pictures that take so long in each choice."""
    connection: Any = SimpleNamespace(choices=CHOICES, size=(2560, 1600))
    quickest = _Quickest(connection)
    now: tuple[int, ...] = CHOICES[0]
    for _ in range(answers):
        now = tuple(quickest.answered(WHOLE, seconds[now]) or now)  # type: ignore[arg-type]
    return now


@pytest.mark.parametrize("answers", [2, 3, 8])
@pytest.mark.parametrize("best", CHOICES)
def test_the_quicker_one_stays_also_where_both_are_quick(best: tuple[int, ...], answers: int) -> None:
    assert after({choice: 0.03 if choice == best else 0.08 for choice in CHOICES}, answers) == best


def test_a_small_part_of_the_screen_says_nothing() -> None:
    connection: Any = SimpleNamespace(choices=CHOICES, size=(2560, 1600))
    small: Any = SimpleNamespace(regions=[Box(0, 0, 100, 100)])
    assert _Quickest(connection).answered(small, 0.001) is None
