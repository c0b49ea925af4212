"""What the tests of this room share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from harness.errors import Verdict
from harness.reports import CaseResult


@pytest.fixture
def case() -> Callable[..., CaseResult]:
    """Make a result; whatever matters to a test is given, the rest is ordinary."""

    def make(**changes: Any) -> CaseResult:
        values: dict[str, Any] = {
            "scenario": "first activation",
            "nodeid": "scenarios/test_first.py::test_first_activation[15]",
            "macos": "15",
            "image": "ghcr.io/cirruslabs/macos-sequoia-vanilla:latest",
            "lane": "pristine",
            "provider": "simulated",
            "simulated": True,
            "release": "0.11.5",
            "verdict": Verdict.PASSED,
            "prompt_appeared": True,
            "approvable": True,
            "seconds": 12.34,
            "started": "2026-11-22T04:00:00.000000+00:00",
        }
        return CaseResult(**{**values, **changes})

    return make
