"""What one scenario is multiplied by: macOS versions, cycles. Called from `pytest_generate_tests`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import SysextError
from harness.session.markers import versions_for, why_not
from harness.session.options import is_worker
from harness.session.repeating import add_cycles

if TYPE_CHECKING:
    from harness.session.run import Run

OWN = "harness.pytest_plugin"
"""The module that our fixtures are in."""
UNUSABLE = pytest.StashKey[SysextError]()
"""Why no parameters could be made: raised once all is collected, for here it would be one test's error."""


def generate(metafunc: pytest.Metafunc, run: Callable[[pytest.Config], Run]) -> None:
    """One scenario becomes one test per macOS version (fewer where its markers say so); one with `upgrade_path`, one per cell of
    the upgrade matrix (`--sysext-upgrade`).

    Args:
        metafunc: The scenario.
        run: Gives this process's run; raises SysextError where what the user gave cannot be used.
    """
    if "macos" not in metafunc.fixturenames or not uses(metafunc.definition, "mac", "case"):
        return
    walked = "upgrade_path" in metafunc.fixturenames
    versions: list[Any] = []
    upgrades: list[Any] = []
    names: list[str] = []
    skipped: str | None = None
    try:
        current = run(metafunc.config)
        versions = list(versions_for(metafunc.definition, current.settings.macos))
        skipped = why_not(metafunc.definition, current)
        if walked:
            from harness.upgrades import cell_id, cells  # not before it is needed: most runs of pytest are not ours

            upgrades = cells(current.app, versions, current.settings.upgrades.paths, latest=current.release)
            names = [cell_id(cell) for cell in upgrades]
    except SysextError as error:
        if is_worker(metafunc.config):
            raise pytest.Collector.CollectError(str(error)) from error
        metafunc.config.stash[UNUSABLE] = error
    if walked:
        metafunc.parametrize(("macos", "upgrade_path"), upgrades, ids=names)
    else:
        marks = [pytest.mark.skip(reason=skipped)] if skipped is not None else []
        values = [pytest.param(version, marks=marks) for version in versions]
        metafunc.parametrize("macos", values, ids=[f"macos{version}" for version in versions])
    add_cycles(metafunc)


def uses(item: pytest.Item, *names: str) -> bool:
    """Whether a test uses one of these fixtures of ours. Other projects have a `case` or a `mac` of their own (a parameter, a
    fixture of a conftest): with those we have nothing to do. A fixture that builds on ours of the same name is ours.
    """
    known = getattr(getattr(item, "_fixtureinfo", None), "name2fixturedefs", {})
    for name in names:
        for definition in reversed(known.get(name, ())):
            if getattr(definition.func, "__module__", "") == OWN:
                return True
            if name not in definition.argnames:
                break
    return False


def scenario_of(request: pytest.FixtureRequest) -> str:
    """A scenario's name for people: `first activation`, `upgrade path [0.11.4->0.11.5-pkg-running]`."""
    name: str = getattr(request.node, "originalname", request.node.name).removeprefix("test_").replace("_", " ")
    if "upgrade_path" in request.fixturenames:
        return f"{name} [{request.getfixturevalue('upgrade_path').id}]"
    return name


def releases_of(request: pytest.FixtureRequest, newest: str) -> tuple[str, ...]:
    """The releases that a scenario installs, in that order: its upgrade path's, its pair's, or only the newest."""
    for name in ("upgrade_path", "releases"):
        if name in request.fixturenames:
            value = request.getfixturevalue(name)
            return tuple(value.releases if name == "upgrade_path" else value)
    return (newest,)
