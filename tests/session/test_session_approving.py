"""A missing prompt is told as such, whatever comes of looking further."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from harness.apps.activation import WAITING
from harness.errors import EnvironmentFailure, HarnessError
from harness.session.approving import ApprovalSteps, PromptMissing


def _steps(outcome: Any) -> ApprovalSteps:
    def approve(*_: object, **__: object) -> Any:
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    steps = object.__new__(ApprovalSteps)
    steps.mac = SimpleNamespace(  # type: ignore[assignment]
        name="mac",
        settings=SimpleNamespace(timeouts=SimpleNamespace(prompt=1, approval=1)),
        app=SimpleNamespace(extension=SimpleNamespace(id="com.example.extension")),
        case=SimpleNamespace(prompt_appeared=None, approvable=None),
        collect=lambda _: None,
    )
    steps.approver = SimpleNamespace(wait_for_prompt=lambda *_, **__: None, approve_in_settings=approve)  # type: ignore[assignment]
    return steps


@pytest.mark.parametrize(
    ("outcome", "approvable", "says"),
    [
        (SimpleNamespace(approvable=True, why=""), True, "approvable in Settings: yes"),
        (SimpleNamespace(approvable=False, why="no such row"), False, "approvable in Settings: no"),
        (HarnessError("a row", seen="lost"), None, "not known (a row: lost)"),
        (EnvironmentFailure("ssh", seen="gone"), None, "not known (ssh: gone)"),
        (EOFError(), None, "not known (EOFError())"),
    ],
)
def test_a_missing_prompt_is_told_whatever_comes_of_the_settings_route(
    outcome: Any, approvable: bool | None, says: str
) -> None:
    steps = _steps(outcome)
    activation = SimpleNamespace(wait_until_requested=lambda _: WAITING)
    with pytest.raises(PromptMissing) as caught:
        steps.expect_prompt(activation)  # type: ignore[arg-type]
    assert says in caught.value.seen
    assert caught.value.approvable is approvable
    assert (steps.mac.case.prompt_appeared, steps.mac.case.approvable) == (False, approvable)
