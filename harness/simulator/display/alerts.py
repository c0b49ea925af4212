"""The alerts: extension prompt, configuration consents, an app's own notice.

Wording and order of buttons: docs/contracts.md lists the sources per macOS version.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from harness.simulator.display.canvas import Box, Canvas
from harness.simulator.display.theme import Theme
from harness.simulator.display.windows import Window
from harness.simulator.interfaces import Alert, AlertKind

_KINDS = {"network": "network", "driver": "driver", "endpoint security": "endpoint security"}
_PANES = {"network": "Network extensions run in the background and can monitor network traffic on your Mac."}


def wording(alert: Alert, generation: int) -> tuple[str, str]:
    """(title, body) of an alert."""
    app = f"“{alert.app_name}”"
    if alert.kind is AlertKind.EXTENSION:
        if generation < 15:
            where = (
                "Privacy & Security in System Settings" if generation >= 13 else "Security & Privacy System Preferences"
            )
            return (
                "System Extension Blocked",
                (
                    f"The application {app} tried to load new system extension(s). If you want to enable these extensions, "
                    f"open {where}."
                ),
            )
        kind = _KINDS.get(alert.extension_kind, "network")
        body = "You can enable this extension in Login Items & Extensions."
        more = _PANES.get(kind, "")
        return f"{app} would like to use a new {kind} extension", f"{body} {more}".strip()
    if alert.kind is AlertKind.PROXY:
        return (
            f"{app} Would Like to Add Proxy Configurations",
            "All network activity on this Mac may be filtered or monitored.",
        )
    if alert.kind is AlertKind.VPN:
        return (
            f"{app} Would Like to Add VPN Configurations",
            "All network activity on this Mac may be filtered or monitored when using VPN.",
        )
    if alert.kind is AlertKind.FILTER:
        return (
            f"{app} Would Like to Filter Network Content",
            "All network activity on this Mac may be filtered or monitored.",
        )
    return alert.app_name, alert.text


def buttons(alert: Alert, generation: int) -> tuple[tuple[str, bool], ...]:
    """(text, default) from left to right, or from top to bottom where they are stacked."""
    if alert.kind is AlertKind.EXTENSION:
        return (("OK", True), ("Open System Settings" if generation >= 13 else "Open Security Preferences", False))
    if alert.kind is AlertKind.NOTICE:
        return (("OK", True),)
    return (("Allow", False), ("Don’t Allow", True))


@dataclass
class AlertWindow(Window):
    """An alert on the screen; 260 points wide as NSAlert's, 300 in the look of macOS 26."""

    alert: Alert = field(default_factory=lambda: Alert(AlertKind.NOTICE, ""))
    generation: int = 15
    on_press: Callable[[str], None] = lambda _text: None
    _height: float = 300

    @classmethod
    def on(cls, screen: tuple[int, int], alert: Alert, generation: int, on_press: Callable[[str], None]) -> AlertWindow:
        """Centred in the upper half of the screen, where macOS puts alerts."""
        width = 300.0 if generation >= 26 else 260.0
        x = (screen[0] - width) / 2
        y = max(30.0, screen[1] * 0.18)
        return cls(
            f"alert/{alert.kind.value}",
            (x, y, x + width, y + 300),
            alert=alert,
            generation=generation,
            on_press=on_press,
            modal=True,
        )

    def paint(self, canvas: Canvas, theme: Theme) -> None:
        """Icon, title, text, buttons; the height follows the text."""
        title, body = wording(self.alert, self.generation)
        x0, y0, x1, _ = self.box
        inner = x1 - x0 - 32
        titles = canvas.wrap(title, inner - 8, 13)
        bodies = canvas.wrap(body, inner - 4, 11)
        choices = buttons(self.alert, self.generation)
        fits = all(canvas.width(text, 12.5) < (inner - 8) / 2 - 12 for text, _ in choices)
        rows = 1 if fits or len(choices) == 1 else len(choices)
        height = 100 + 17 * len(titles) + 6 + 15 * len(bodies) + 14 + 34 * rows + 12
        self.box = (x0, y0, x1, y0 + height)
        self.controls = []
        self.frame(canvas, theme)
        centre = (x0 + x1) / 2
        self._icon(canvas, theme, centre, y0 + 50)
        y = y0 + 104.0
        for line in titles:
            canvas.text(centre, y, line, theme.text, size=13, bold=True, anchor="mm")
            y += 17
        y += 6
        for line in bodies:
            canvas.text(centre, y, line, theme.text, size=11, anchor="mm")
            y += 15
        y += 10
        if rows == 1:
            # Side by side. For the extension prompt the default one (OK) stands right (seen on macOS 15).
            order = choices[::-1] if self.alert.kind is AlertKind.EXTENSION else choices
            width = (inner - 8 * (len(order) - 1)) / len(order)
            for index, (text, default) in enumerate(order):
                left = x0 + 16 + index * (width + 8)
                self._choice(canvas, theme, (left, y, left + width, y + 28), text, default=default)
        else:
            for text, default in choices:
                self._choice(canvas, theme, (x0 + 16, y, x1 - 16, y + 28), text, default=default)
                y += 34

    def _choice(self, canvas: Canvas, theme: Theme, box: Box, text: str, *, default: bool) -> None:
        self.button(canvas, theme, box, text, lambda: self.on_press(text), default=default)

    def _icon(self, canvas: Canvas, theme: Theme, x: float, y: float) -> None:
        if self.alert.kind is AlertKind.EXTENSION:  # a house with a lock
            canvas.box((x - 22, y - 8, x + 22, y + 28), (190, 190, 190), radius=3)
            canvas.line(x - 28, y - 6, x, y - 28, theme.faint, 4)
            canvas.line(x, y - 28, x + 28, y - 6, theme.faint, 4)
            canvas.circle(x, y + 10, 13, fill=(80, 80, 84))
        else:
            canvas.box((x - 26, y - 26, x + 26, y + 26), (90, 130, 200), radius=12)
            canvas.circle(x, y, 15, outline=(255, 255, 255))
