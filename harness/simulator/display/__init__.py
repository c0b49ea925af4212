"""The display of a simulated Mac: a drawn desktop and the VNC server that shows it."""

from __future__ import annotations

from harness.simulator.display.desktop import Desktop
from harness.simulator.interfaces import Journal, MacOSVersion
from harness.simulator.settings import SimSettings

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
    """A desktop of that size in points; of the `settings` (a `SimSettings`, or None) the variations count."""
    variations = settings.variations if isinstance(settings, SimSettings) else None
    return Desktop(
        macos=macos,
        size_points=size_points,
        scale=scale,
        appearance=appearance,
        journal=journal,
        variations=variations,
    )
