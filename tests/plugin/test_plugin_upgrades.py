"""`--sysext-upgrade`: one test per cell, named after it; what cannot be used ends before any Mac boots."""

from __future__ import annotations

import re
from typing import Any

SCENARIO = """
def test_path(mac, upgrade_path):
    print("walked", upgrade_path)
"""


def names(output: str) -> list[str]:
    return sorted(re.findall(r"test_path\[([^\]\s]+)\] PASSED", output))


def test_a_cell_is_a_test_of_its_own_with_the_release_it_is_about(project: Any) -> None:
    project.scenario(SCENARIO)
    done = project.run(
        "-v",
        "--sysext-macos",
        "14,15",
        "--sysext-upgrade",
        "previous via pkg while running,disabled",
        "--sysext-upgrade",
        "latest->previous via dmg",
    )
    assert done.returncode == 0, done.stdout
    assert names(done.stdout) == [
        "macos14-1->2-pkg-running",
        "macos14-2->1-dmg-running",
        "macos15-1->2-pkg-disabled",
        "macos15-1->2-pkg-running",
        "macos15-2->1-dmg-running",
    ]
    told = {(result.macos, result.scenario, result.release) for result in project.results()}
    assert ("15", "path [1->2-pkg-disabled]", "2") in told
    assert ("14", "path [2->1-dmg-running]", "1") in told
    assert len(told) == 5


def test_what_cannot_be_used_ends_before_any_mac(project: Any) -> None:
    project.scenario(SCENARIO)
    done = project.run("--sysext-macos", "15", "--sysext-upgrade", "previous via pgk")
    assert done.returncode == 4, done.stdout
    assert "did you mean 'pkg'?" in done.stderr
    assert project.journal() == []
    assert project.runs() == []
