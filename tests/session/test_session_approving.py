"""What scenarios say about prompts, without a screen."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from harness.config import load_settings
from harness.session.approving import ApprovalSteps
from harness.waiting import Deadline


@pytest.mark.parametrize(("took", "watched"), [(0.5, 5.0), (7.0, 14.0), (25.0, 30.0)])
def test_no_prompt_is_believed_after_as_long_as_this_mac_takes(took: float, watched: float) -> None:
    """A prompt that came after 7 s is not disproved by 5 quiet ones."""
    waited: list[float] = []
    sighting = SimpleNamespace(window="alert-new-extension", app_name="Example")

    def wait_for_prompt(deadline: Deadline, **options: Any) -> object:
        waited.append(deadline.seconds)
        return sighting if "hopeless" in options else None

    steps = ApprovalSteps.__new__(ApprovalSteps)
    steps._slowest = 0.0
    steps.mac = SimpleNamespace(settings=load_settings(environ={}), case=SimpleNamespace())  # type: ignore[assignment]
    steps.approver = SimpleNamespace(wait_for_prompt=wait_for_prompt)  # type: ignore[assignment]
    request: Any = SimpleNamespace(clock=time.monotonic() - took, wait_until_requested=lambda _: None)
    steps.expect_prompt(request)
    steps.expect_no_prompt(request)
    assert watched <= waited[-1] < watched + 5
