"""`DesktopScreen` in a process of its own: pyautogui connects to one display when it is imported, and the tests' process has
none. Takes one JSON object a line ({"do": NAME, …}), answers one a line ({"ok": …} or {"error": class, "text": …}).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from harness import events
from harness.screen import desktop
from harness.screen.desktop import DesktopScreen
from harness.waiting import Deadline


class Agent:
    def __init__(self) -> None:
        self.screen: DesktopScreen | None = None
        self.seen: list[int] = []

    def open(self) -> dict[str, object]:
        desktop.KEY = 0.005  # an X server loses none
        self.screen = DesktopScreen(name="xvfb")
        return {"modules": sorted({name.partition(".")[0] for name in sys.modules if sys.modules[name] is not None})}

    def frame(self, save: str = "") -> dict[str, object]:
        from harness.screen import save_png

        frame = self.screen.frame(Deadline(10))
        if save:
            save_png(frame.pixels, Path(save))
        return {"size": list(frame.size), "serial": frame.serial, "scale": list(self.screen.scale)}

    def act(self, name: str, *arguments: object, **options: object) -> None:
        getattr(self.screen, name)(*arguments, **options)

    def position(self) -> list[int]:
        return list(self.screen._driver.position())

    def by_pyautogui(self) -> bool:
        """The two ways to take a picture give the same one."""
        import numpy as np

        driver = self.screen._driver
        one = driver.grab().copy()
        grabber, driver._mss, driver._last = driver._mss, None, None
        try:
            return bool(np.array_equal(one, driver.grab()))
        finally:
            driver._mss, driver._last = grabber, None

    def corner(self) -> None:
        """What a person does who wants to stop it."""
        driver = self.screen._driver
        driver._gui.moveTo(0, 0, _pause=False)

    def change(self, seconds: float) -> bool:
        """Whether anything changes within so long."""
        return self.screen.wait_for_change(self.screen.frame(Deadline(5)), Deadline(seconds)) is not None

    def watch(self) -> None:
        self.screen.subscribe(lambda frame, boxes: self.seen.append([frame.serial, [list(box) for box in boxes]]))

    def watched(self) -> list[object]:
        return self.seen

    def walk(self, app: str, password: str, state: str, commands: str, folder: str, readings: str) -> dict[str, object]:
        """The approval as it is done on any Mac, but on this display."""
        from harness.approval import Approver
        from harness.screen import RapidReader, ocr

        ocr._THREADS = 1
        log = events.EventLog(Path(folder) / "run.jsonl")
        pipe = Path(commands).open("w", encoding="utf-8", buffering=1)  # noqa: SIM115

        def lines() -> list[dict[str, object]]:
            return [json.loads(line) for line in Path(state).read_text().splitlines()]

        def oracle() -> str:
            return next(str(line["value"]) for line in reversed(lines()) if line["what"] == "state")

        def command(word: str) -> None:
            from harness.waiting import wait_until

            before = sum(line["what"] == "done" for line in lines())
            pipe.write(word + "\n")
            wait_until(
                lambda: sum(line["what"] == "done" for line in lines()), lambda count: count > before,
                what=f"the dialog to do {word}", deadline=Deadline(20), interval=0.05,
            )  # fmt: skip

        with events.use(log):
            approver = Approver(
                screen=self.screen,
                reader=RapidReader(Path(readings) if readings else None),
                app_name=app,
                extension_kind="network",
                generation=15,
                password=password,
                user="admin",
                oracle=oracle,
                guest_open=lambda url: command("settings"),
                quit_settings=lambda: command("quit-settings"),
                folder=Path(folder) / "frames",
            )
            self.screen.mark()
            command("alert")
            approval = approver.run(Deadline(120), Deadline(60))
        log.close()
        return {
            "approvable": approval.approvable,
            "prompt": approval.prompt_appeared,
            "why": approval.why,
            "state": oracle(),
        }

    def close(self) -> None:
        if self.screen is not None:
            self.screen.close()


def main() -> None:
    agent = Agent()
    for line in sys.stdin:
        asked = json.loads(line)
        name = asked.pop("do")
        try:
            if name == "act":
                answer = {"ok": agent.act(asked["name"], *asked.get("with", []), **asked.get("options", {}))}
            else:
                answer = {"ok": getattr(agent, name)(**asked)}
        except Exception as error:  # noqa: BLE001 - the asker is told
            answer = {"error": type(error).__name__, "text": str(error), "hint": getattr(error, "hint", "")}
        sys.__stdout__.write(json.dumps(answer) + "\n")
        sys.__stdout__.flush()


if __name__ == "__main__":
    main()
