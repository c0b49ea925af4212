"""A simulated display behind a real socket, in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

from harness.screen import VncScreen
from harness.waiting import Deadline


class Display:
    """A simulated desktop served on the loopback interface."""

    PASSWORD = "sesame12"

    def __init__(
        self, version: str, *, scale: int = 1, appearance: str = "light", model=None, variations: str = ""
    ) -> None:
        from harness.simulator.display.gallery import VERSIONS, StillModel, _NoJournal, build_display
        from harness.simulator.display.rfb import RfbServer
        from harness.simulator.interfaces import Stage
        from harness.simulator.settings import SimSettings
        from harness.simulator.variations import parse_variations

        self.journal: list[dict] = []

        entries = self.journal

        class Journal(_NoJournal):
            def write(self, what: str, **attributes: object) -> None:
                entries.append({"what": what, **attributes})

        self.desktop = build_display(
            macos=VERSIONS[version],
            size_points=(1280, 800),
            scale=scale,
            appearance=appearance,
            settings=SimSettings(variations=parse_variations(variations)),
            journal=Journal(),
        )
        self.desktop.model = model or StillModel("Mitmproxy Redirector")
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.server = RfbServer(self.desktop, self.PASSWORD)
        self.port = asyncio.run_coroutine_threadsafe(self.server.start(), self.loop).result(10)
        self.do(lambda: self.desktop.set_stage(Stage.DESKTOP))

    def do(self, action: Callable[[], object]) -> object:
        async def run() -> object:
            return action()

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(10)

    def connect(self) -> VncScreen:
        screen = VncScreen("127.0.0.1", self.port, self.PASSWORD, name="simulated")
        screen.frame(Deadline(10))
        return screen

    @property
    def clicks(self) -> list[str | None]:
        return [entry["hit"] for entry in self.journal if entry["what"] == "click"]

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self.server.close(), self.loop).result(10)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.loop.close()
