"""What can go wrong with a screen."""

from __future__ import annotations

from harness.errors import EnvironmentFailure, HarnessError


class ScreenError(EnvironmentFailure):
    """The screen cannot be seen or reached: no connection, a refused password, a server that talks nonsense."""


class ConnectionLost(ScreenError):
    """The connection to the screen could not be made, or broke."""


class UnsupportedCharacter(HarnessError):
    """A character that the keymap (US layout, ASCII) has no key for."""
