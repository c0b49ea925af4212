"""What a scenario says of itself by markers: on which macOS versions it runs, and what it needs of its Mac."""

from __future__ import annotations

import typing
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pytest

from harness.errors import UsageError

if TYPE_CHECKING:
    from harness.machines import Provider, Wishes
    from harness.session.run import Run

NEWEST_ONLY = "sysext_newest_only"
MACOS = "sysext_macos"
SUSPENDABLE = "sysext_suspendable"
SIMULATED = "sysext_simulated"
KINDS = "sysext_kinds"

MARKERS = (
    "sysext: needs a Mac (the fixtures mac, approval, case)",
    f"{NEWEST_ONLY}: says the same on every macOS, so it runs on the newest version that is asked for",
    f"{MACOS}(version, …): runs on those of the macOS versions asked for that are named here",
    f"{KINDS}(kind, …): for apps whose extension is of one of these kinds (dns-proxy, …); skipped for others",
    f"{SUSPENDABLE}: its Mac can be suspended; skipped where the provider cannot",
    f"{SIMULATED}(variation, …): how its Mac differs from the usual one, if it is a simulated one; else nothing",
)
"""The lines that register them."""


def add_markers(config: pytest.Config) -> None:
    """Register all markers."""
    for line in MARKERS:
        config.addinivalue_line("markers", line)


def versions_for(definition: pytest.Item, asked: Sequence[str]) -> list[str]:
    """Which of the macOS versions asked for a scenario runs on, in their order.

    Raises:
        UsageError: A marker that names no version.
    """
    versions = list(asked)
    named = definition.get_closest_marker(MACOS)
    if named is not None:
        wanted = [str(version) for version in named.args]
        if not wanted:
            raise UsageError(
                f"a version in the marker {MACOS} of {definition.nodeid}",
                seen="none",
                hint=f'write `@pytest.mark.{MACOS}("15", "26")`',
            )
        versions = [version for version in versions if version in wanted]
    if definition.get_closest_marker(NEWEST_ONLY) is not None and versions:
        versions = [max(versions, key=int)]
    return versions


def why_not(definition: pytest.Item, run: Run) -> str | None:
    """Why a scenario is skipped, as far as that can be told before a Mac is made; None if it is not.

    Raises:
        UsageError: A marker that names a kind that does not exist.
    """
    from harness.config import ExtensionKind

    kinds = definition.get_closest_marker(KINDS)
    if kinds is not None:
        unknown = [str(kind) for kind in kinds.args if kind not in typing.get_args(ExtensionKind)]
        if unknown or not kinds.args:
            raise UsageError(
                f"kinds of extensions in the marker {KINDS} of {definition.nodeid}",
                seen=", ".join(unknown) or "none",
                hint=f"known: {', '.join(typing.get_args(ExtensionKind))}",
            )
        if run.app.extension.kind not in kinds.args:
            return (
                f"for extensions of the kind {' or '.join(kinds.args)}; {run.app.name} has a {run.app.extension.kind}"
            )
    if definition.get_closest_marker(SUSPENDABLE) is not None and not run.provider.can_suspend:
        return f"the provider {run.provider.name} cannot suspend its Macs"
    return None


def wishes_for(item: pytest.Item, provider: Provider) -> dict[str, Wishes]:
    """What a scenario wishes of its Mac, as an argument of `Provider.create`; empty for an ordinary one. Skips the scenario
    (`pytest.skip`) where the provider cannot grant it.

    Raises:
        UsageError: A marker that names no variation.
    """
    from harness.machines import Wishes

    suspendable = item.get_closest_marker(SUSPENDABLE) is not None
    if suspendable and not provider.can_suspend:
        pytest.skip(f"the provider {provider.name} cannot suspend its Macs")
    variations: list[str] = []
    for marker in item.iter_markers(SIMULATED):
        if not marker.args:
            raise UsageError(
                f"a variation in the marker {SIMULATED} of {item.nodeid}",
                seen="none",
                hint=f'write `@pytest.mark.{SIMULATED}("rows=3")`',
            )
        variations += [str(variation) for variation in marker.args]
    wishes = Wishes(suspendable=suspendable, variations=tuple(variations) if provider.simulated else ())
    return {"wishes": wishes} if wishes != Wishes() else {}
