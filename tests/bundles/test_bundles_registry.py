"""Versions of a package, as pip lists them."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from harness.bundles.releases import registry_versions
from harness.errors import EnvironmentFailure, UsageError
from harness.waiting import Deadline


def _pip(monkeypatch: pytest.MonkeyPatch, code: int, out: str, err: str) -> list[list[str]]:
    """pip says this; gives the commands it was run with."""
    commands: list[list[str]] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        return subprocess.CompletedProcess(command, code, out, err)

    monkeypatch.setattr(subprocess, "run", run)
    return commands


def test_oldest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    commands = _pip(monkeypatch, 0, "a_b (1.10)\nAvailable versions: 1.10, 1.9, 1.0\n  INSTALLED: 1.0\n", "")

    assert registry_versions("a_b", Deadline(5)) == ["1.0", "1.9", "1.10"]
    assert commands[0][1:6] == ["-m", "pip", "index", "versions", "a_b"]


@pytest.mark.parametrize(
    ("code", "out", "err", "kind"),
    [
        (1, "", "ERROR: No matching distribution found for a_b", UsageError),
        (
            1,
            "",
            "WARNING: Retrying … Name or service not known\nERROR: No matching distribution found",
            EnvironmentFailure,
        ),
        (2, "", 'ERROR: unknown command "index"', EnvironmentFailure),
        (0, "something else", "", EnvironmentFailure),
        (0, "Available versions: --evil, ;", "", EnvironmentFailure),
    ],
)
def test_what_pip_cannot_tell(monkeypatch: pytest.MonkeyPatch, code: int, out: str, err: str, kind: type) -> None:
    _pip(monkeypatch, code, out, err)

    with pytest.raises(kind):
        registry_versions("a_b", Deadline(5))


def test_a_name_that_is_an_option_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    commands = _pip(monkeypatch, 0, "", "")

    with pytest.raises(UsageError):
        registry_versions("--index-url=x", Deadline(5))
    assert commands == []
