"""What was seen in a frame: a window, its buttons, and the one that approval would click now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from harness.screen.frames import Box, Frame
from harness.screen.ocr import TextLine

PASSWORD = "password-prompt"  # noqa: S105 - a window class
SHEET = "settings-extensions-sheet"
MENU = "settings-extension-menu"
PRIVACY = "settings-privacy-security"
LOGIN_ITEMS = "settings-login-items-extensions"
OTHER_ALERT = "other-alert"
OTHER = "other"


@dataclass(frozen=True)
class Button:
    """Something to click, in pixels of the frame.

    Attributes:
        text: Its text as read; for a switch or (i) button, the row's.
        role: One of catalog.ROLES.
        default: Filled with the accent colour.
        state: "on" or "off" for a switch ("" where it cannot be told).
    """

    text: str
    role: str
    box: Box
    default: bool = False
    enabled: bool = True
    state: str = ""

    @property
    def centre(self) -> tuple[int, int]:
        """Where to click."""
        return self.box.centre


@dataclass(frozen=True)
class Sighting:
    """What is in (a part of) a frame.

    Attributes:
        window: The window class; "other-alert" or "other" for what is not known.
        app_name: The app that it is about, where one is told.
        advice: The button that approval would click now; None: nothing.
        why: In words, why this advice or none.
        box: Around the window's own texts and buttons.
        language: Of the words that it was known by.
        appearance: "light" or "dark"; None where that cannot be told.
        scale: Pixels per point, 1.0 or 2.0; None where it is neither (a picture that was scaled).
        confidence: 0 to 1; 0 for an unknown window.
        rows: The names in a list of extensions.
        field: Where the password goes, if that is known.
        title: Around the title of an alert or sheet: when these pixels change, it has gone (or moved).
    """

    window: str
    frame: Frame
    box: Box
    lines: tuple[TextLine, ...]
    app_name: str | None = None
    buttons: tuple[Button, ...] = ()
    advice: Button | None = None
    why: str = ""
    language: str = ""
    appearance: str | None = None
    scale: float | None = None
    confidence: float = 0.0
    rows: tuple[str, ...] = ()
    field: Box | None = None
    title: Box | None = None

    def button(self, *roles: str) -> Button | None:
        """The first button of one of these roles."""
        return next((button for role in roles for button in self.buttons if button.role == role), None)

    @property
    def text(self) -> str:
        """What the window says, on one line, cut at 300 characters."""
        return " / ".join(line.text for line in self.lines)[:300]

    def as_dict(self) -> dict[str, Any]:
        """JSON-like."""

        def shown(button: Button) -> dict[str, Any]:
            x, y = button.centre
            return {
                "text": button.text,
                "role": button.role,
                "x": x,
                "y": y,
                "default": button.default,
                "enabled": button.enabled,
                "state": button.state or None,
            }

        return {
            "window": self.window,
            "confidence": round(self.confidence, 2),
            "app_name": self.app_name,
            "appearance": self.appearance,
            "scale": self.scale,
            "language": self.language or None,
            "buttons": [shown(button) for button in self.buttons],
            "advice": shown(self.advice) if self.advice else None,
            "why": self.why,
        }
