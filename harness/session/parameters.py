"""What one scenario is multiplied by: macOS versions, cycles. Called from `pytest_generate_tests`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import SysextError
from harness.session.markers import versions_for
from harness.session.options import is_worker

if TYPE_CHECKING:
    from harness.session.run import Run

UNUSABLE = pytest.StashKey[SysextError]()
"""Why no parameters could be made: raised once all is collected, for here it would be one test's error."""


def generate(metafunc: pytest.Metafunc, run: Callable[[pytest.Config], Run]) -> None:
    """One scenario becomes one test per macOS version (fewer where its markers say so).

    Args:
        metafunc: The scenario.
        run: Gives this process's run; raises SysextError where what the user gave cannot be used.
    """
    if not ("macos" in metafunc.fixturenames and {"mac", "case"} & set(metafunc.fixturenames)):
        return
    versions: list[Any] = []
    try:
        versions = list(versions_for(metafunc.definition, run(metafunc.config).settings.macos))
    except SysextError as error:
        if is_worker(metafunc.config):
            raise pytest.Collector.CollectError(str(error)) from error
        metafunc.config.stash[UNUSABLE] = error
    metafunc.parametrize("macos", versions, ids=[f"macos{version}" for version in versions])
