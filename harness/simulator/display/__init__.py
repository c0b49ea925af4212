"""The display of a simulated Mac: a drawn desktop and the VNC server that shows it."""

from __future__ import annotations

from harness.simulator.display.desktop import Desktop
from harness.simulator.interfaces import Journal, MacOSVersion

__all__ = ["Desktop", "build_display"]


def build_display(
    *,
    macos: MacOSVersion,
    size_points: tuple[int, int],
    scale: int,
    appearance: str,
    settings: object,
    journal: Journal,
) -> Desktop:
    """A desktop of that size in points; `settings` is taken for the sake of the runner and has no bearing here."""
    del settings
    return Desktop(macos=macos, size_points=size_points, scale=scale, appearance=appearance, journal=journal)
