"""What this program leaves with pytest's config and items, under typed keys."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from harness.reports.result import CaseResult
    from harness.session.case import Case
    from harness.session.lending import Stable
    from harness.session.mac import Mac
    from harness.session.run import Run

RUN: pytest.StashKey[Run] = pytest.StashKey()
"""Config: this process's run."""
CASE: pytest.StashKey[Case] = pytest.StashKey()
"""Item: the case file of the attempt under way, or of the last one."""
RESULT: pytest.StashKey[CaseResult] = pytest.StashKey()
"""Item: what the last attempt came to."""
ATTEMPT: pytest.StashKey[int] = pytest.StashKey()
"""Item: which attempt this is; whoever runs one again sets the number of the first."""
TRIES: pytest.StashKey[int] = pytest.StashKey()
"""Config: how often a scenario that the environment broke is begun, where that is not the usual number."""
MAC: pytest.StashKey[Mac] = pytest.StashKey()
"""Item: its Mac, as long as there is one."""
STABLE: pytest.StashKey[Stable] = pytest.StashKey()
"""Config: Macs between two cycles."""
PART: pytest.StashKey[Path] = pytest.StashKey()
"""Config: this session is a part of a bigger run, which has its case files in that folder and tells and records it all."""
REACH: pytest.StashKey[Callable[[str], None]] = pytest.StashKey()
"""Config: who is told how to reach a kept Mac (with its VNC password), instead of the terminal."""
KEPT: pytest.StashKey[bool] = pytest.StashKey()
"""Item: its Mac was kept."""
