"""Draw every window in every look as PNG: `python -m harness.simulator.display.gallery FOLDER`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from PIL import Image

from harness.simulator.display import build_display
from harness.simulator.display.desktop import Desktop
from harness.simulator.interfaces import Alert, AlertKind, MacOSVersion, PendingExtension, Stage

VERSIONS = {
    "12": MacOSVersion("12", "12.7.6", "21H1320", "21.6.0"),
    "13": MacOSVersion("13", "13.7.8", "22H730", "22.6.0"),
    "14": MacOSVersion("14", "14.8.1", "23J30", "23.6.0"),
    "15": MacOSVersion("15", "15.6.1", "24G90", "24.6.0"),
    "26": MacOSVersion("26", "26.1", "25B78", "25.1.0"),
}
APP = "Mitmproxy Redirector"
EXTENSIONS = (
    "x-apple.systempreferences:com.apple.ExtensionsPreferences?extensionPointIdentifier="
    "com.apple.system_extension.network_extension.extension-point"
)
LOGIN_ITEMS = "x-apple.systempreferences:com.apple.LoginItems-Settings.extension?ExtensionItems"
PRIVACY = "x-apple.systempreferences:com.apple.preference.security?Security"


class StillModel:
    """A guest that never changes: so many extensions, the first ones waiting."""

    def __init__(self, *names: str, enabled: bool = False) -> None:
        self.rows = [
            PendingExtension(f"com.example.{index}", name, "network", not enabled, enabled)
            for index, name in enumerate(names)
        ]

    def extensions(self) -> Sequence[PendingExtension]:
        """See `GuestModel`."""
        return self.rows

    def check_password(self, password: str) -> bool:
        """See `GuestModel`."""
        return password == "admin"  # noqa: S105 - the pictures' own

    def allow(self, identifier: str) -> None:
        """See `GuestModel`."""

    def disallow(self, identifier: str) -> None:
        """See `GuestModel`."""

    def remove(self, identifier: str) -> None:
        """See `GuestModel`."""


class _NoJournal:
    def write(self, what: str, **attributes: object) -> None:
        del what, attributes


def desktop(version: str, *, scale: int = 1, appearance: str = "light", model: StillModel | None = None) -> Desktop:
    """A logged-in desktop of 1280×800 points."""
    made = build_display(
        macos=VERSIONS[version],
        size_points=(1280, 800),
        scale=scale,
        appearance=appearance,
        settings=None,
        journal=_NoJournal(),
    )
    made.model = model or StillModel(APP)
    made.set_stage(Stage.DESKTOP)
    return made


def scenes(version: str) -> Iterator[tuple[str, Callable[[Desktop], object]]]:
    """(name, how to make it) of every window that this macOS has."""
    yield "alert", lambda screen: screen.show(Alert(AlertKind.EXTENSION, APP))
    for kind in (AlertKind.PROXY, AlertKind.VPN, AlertKind.FILTER):
        yield kind.value, partial(_show, kind)
    yield (
        "notice",
        lambda screen: screen.show(Alert(AlertKind.NOTICE, APP, text="This app cannot be started like that.")),
    )
    if int(version) >= 15:
        yield "login-items", lambda screen: screen.open_settings(LOGIN_ITEMS)
        yield "extensions-sheet", lambda screen: screen.open_settings(EXTENSIONS)
    else:
        url = PRIVACY if int(version) >= 13 else PRIVACY.replace("?Security", "?General")
        yield "privacy-security", lambda screen: screen.open_settings(url)


def _show(kind: AlertKind, screen: Desktop) -> object:
    return screen.show(Alert(kind, APP))


def picture(screen: Desktop) -> Image.Image:
    """What is on the display now."""
    return Image.fromarray(screen.framebuffer[:, :, 2::-1].copy())


def main(folder: Path) -> None:
    """Draw them all into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for version in VERSIONS:
        for appearance in ("light", "dark"):
            for scale in (1, 2):
                for name, make in scenes(version):
                    screen = desktop(version, scale=scale, appearance=appearance)
                    make(screen)
                    picture(screen).save(folder / f"{version}-{name}-{appearance}-{scale}x.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
