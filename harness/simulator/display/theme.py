"""Colours and measures of the macOS looks: 13/14, 15, 26; light and dark."""

from __future__ import annotations

from dataclasses import dataclass

from harness.simulator.display.canvas import Colour


@dataclass(frozen=True)
class Theme:
    """One look. Radii in points."""

    dark: bool
    generation: int
    window: Colour
    panel: Colour
    sidebar: Colour
    line: Colour
    text: Colour
    faint: Colour
    button: Colour
    button_text: Colour
    accent: Colour
    accent_text: Colour
    field: Colour
    off: Colour
    wallpaper: tuple[Colour, Colour]
    bar: Colour
    window_radius: float
    button_radius: float


def theme_for(generation: int, appearance: str) -> Theme:
    """The look of a macOS generation in "light" or "dark"."""
    glass = generation >= 26
    radii = (16.0, 14.0) if glass else (10.0, 6.0)
    papers = {
        13: ((236, 150, 90), (120, 60, 120)),
        14: ((90, 140, 160), (40, 80, 60)),
        15: ((70, 110, 190), (30, 40, 90)),
    }
    paper = papers.get(generation, ((120, 170, 200), (40, 90, 150)))
    if appearance == "dark":
        dim = tuple((r // 2, g // 2, b // 2) for r, g, b in paper)
        return Theme(
            appearance == "dark", generation, (50, 50, 52), (60, 60, 63), (42, 42, 45), (78, 78, 80), (240, 240, 240), (165, 165, 168),
            (104, 104, 108), (245, 245, 245), (10, 108, 230), (255, 255, 255), (36, 36, 38), (90, 90, 94), (dim[0], dim[1]), (30, 30, 32), *radii,
        )  # fmt: skip
    return Theme(
        appearance == "dark", generation, (236, 236, 238), (250, 250, 251), (226, 226, 230), (208, 208, 211), (28, 28, 30), (110, 110, 115),
        (222, 222, 225), (28, 28, 30), (20, 112, 240), (255, 255, 255), (255, 255, 255), (200, 200, 204), paper, (244, 244, 246), *radii,
    )  # fmt: skip
