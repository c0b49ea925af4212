"""A fault that begins with a version of the extension."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.simulator.faults import FaultSet, parse_faults, version_key


@pytest.mark.parametrize(
    ("asked", "acts"), [("", False), ("0.9", False), ("1.2", True), ("1.2.1", True), ("1.10", True), ("1.2b1", False)]
)
def test_acts_from_that_version_on(asked: str, acts: bool) -> None:
    faults = FaultSet(parse_faults("sysextd-crash:from=1.2"), "key")

    faults.asked_for(asked)

    assert (faults.active("sysextd-crash") is not None) is acts
    assert (faults.at("sysextd-crash", "replacement 2") is not None) is acts


def test_an_upgrade_brings_it_and_a_downgrade_takes_it_away() -> None:
    faults = FaultSet(parse_faults("sysextd-crash:from=2.0"), "key")
    seen = []
    for version in ("1.0", "2.0", "1.0"):
        faults.asked_for(version)
        seen.append(faults.active("sysextd-crash") is not None)

    assert seen == [False, True, False]


def test_without_it_a_fault_acts_from_the_start() -> None:
    assert FaultSet(parse_faults("env-hung-boot"), "key").active("env-hung-boot") is not None


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=5), st.lists(st.integers(0, 10**6), min_size=1, max_size=5))
def test_numbers_are_ordered_as_numbers(one: list[int], other: list[int]) -> None:
    texts = [".".join(map(str, numbers)) for numbers in (one, other)]

    assert (version_key(texts[0]) < version_key(texts[1])) is (one < other)


@given(st.text(max_size=30))
def test_any_text_has_a_place(text: str) -> None:
    assert version_key(text) <= version_key(text + ".1")
