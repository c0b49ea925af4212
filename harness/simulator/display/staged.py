"""A display with a guest that is only a list: for tests and benchmarks that look and click, without a whole Mac.

It is served on the loopback interface by an event loop in a thread of its own.
"""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from harness.simulator.display.desktop import Desktop
from harness.simulator.display.gallery import APP, VERSIONS
from harness.simulator.display.rfb import RfbServer
from harness.simulator.interfaces import Alert, AlertKind, PendingExtension, Stage
from harness.simulator.variations import parse_variations

_T = TypeVar("_T")
WAITING, ENABLED = "activated_waiting_for_user", "activated_enabled"


class ListModel:
    """A `GuestModel`: extensions that wait until they are allowed."""

    def __init__(self, names: Sequence[str], password: str) -> None:
        self.rows = [
            PendingExtension(f"com.example.{index}", name, "network", waiting=True, enabled=False)
            for index, name in enumerate(names)
        ]
        self.password = password
        self.passwords: list[str] = []
        self.deaf = False
        """What is allowed stays as it was."""

    def extensions(self) -> Sequence[PendingExtension]:
        """See `GuestModel`."""
        return self.rows

    def check_password(self, password: str) -> bool:
        """See `GuestModel`."""
        self.passwords.append(password)
        return password == self.password

    def allow(self, identifier: str) -> None:
        """See `GuestModel`."""
        self._set(identifier, enabled=True)

    def disallow(self, identifier: str) -> None:
        """See `GuestModel`."""
        self._set(identifier, enabled=False)

    def remove(self, identifier: str) -> None:
        """See `GuestModel`."""
        if not self.deaf:
            self.rows = [row for row in self.rows if row.identifier != identifier]

    def _set(self, identifier: str, *, enabled: bool) -> None:
        if not self.deaf:
            self.rows = [
                dataclasses.replace(row, waiting=False, enabled=enabled) if row.identifier == identifier else row
                for row in self.rows
            ]

    def state(self, name: str) -> str | None:
        """As sysextd would say it."""
        row = next((row for row in self.rows if row.app_name == name), None)
        return None if row is None else ENABLED if row.enabled else WAITING


class StagedMac:
    """The display of one such Mac, logged in; close it at the end.

    Args:
        version: A macOS generation of `gallery.VERSIONS`.
        names: The apps whose extensions wait.
        variations: As `simulated.variations` has them.
    """

    VNC_PASSWORD = "sesame12"  # noqa: S105 - of a display that nothing depends on

    def __init__(
        self,
        version: str,
        *,
        names: Sequence[str] = (APP,),
        password: str = "admin",  # noqa: S107
        scale: int = 1,
        appearance: str = "light",
        variations: str = "",
    ) -> None:
        self.journal: list[dict[str, Any]] = []
        self.pressed: list[str] = []
        self.model = ListModel(names, password)
        self.desktop = Desktop(
            macos=VERSIONS[version],
            size_points=(1280, 800),
            scale=scale,
            appearance=appearance,
            journal=self,
            variations=parse_variations(variations),
        )
        self.desktop.model = self.model
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = RfbServer(self.desktop, self.VNC_PASSWORD)
        self.port = asyncio.run_coroutine_threadsafe(self._server.start(), self._loop).result(10)
        self.do(lambda: self.desktop.set_stage(Stage.DESKTOP))

    def write(self, what: str, **attributes: object) -> None:
        """See `Journal`."""
        self.journal.append({"what": what, **attributes})

    def do(self, action: Callable[[], _T]) -> _T:
        """Run something in the display's own thread."""

        async def run() -> _T:
            return action()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(30)

    def show(self, kind: AlertKind = AlertKind.EXTENSION, app: str = APP, text: str = "") -> None:
        """Put an alert on the screen; what is pressed in it is in `pressed`."""
        self.do(lambda: self.desktop.show(Alert(kind, app, text=text, on_button=self.pressed.append)))

    def open(self, url: str) -> None:
        """`open URL`."""
        self.do(lambda: self.desktop.open_settings(url))

    def quit(self) -> None:
        """End Settings."""
        self.do(self.desktop.quit_settings)

    def named(self, what: str) -> list[dict[str, Any]]:
        """The journal's entries of one kind."""
        return [entry for entry in self.journal if entry["what"] == what]

    @property
    def hits(self) -> list[str]:
        """The controls that were clicked."""
        return [entry["hit"] for entry in self.named("click") if entry["hit"] is not None]

    def close(self) -> None:
        """Stop serving."""
        asyncio.run_coroutine_threadsafe(self._server.close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
