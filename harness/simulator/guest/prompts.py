"""The dialog that asks the user to approve an extension: sysextd has it raised, UserNotificationCenter shows it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from harness.simulator.guest.extension_database import WAITING, Entry
from harness.simulator.guest.installed import InstalledApp
from harness.simulator.interfaces import Alert, AlertKind

if TYPE_CHECKING:
    from harness.simulator.guest.core import MacGuest


class Prompts:
    """The dialogs of one boot.

    Args:
        guest: Whose.
        run: Runs something until it ends, or until sysextd dies.
    """

    def __init__(self, guest: MacGuest, run: Callable[[Awaitable[None]], None]) -> None:
        self._guest = guest
        self._run = run
        self._shown: dict[str, int] = {}

    def clear(self) -> None:
        """Nothing is up any more."""
        self._shown.clear()

    def shown(self) -> list[str]:
        """The unique ids of the entries whose dialogs are up."""
        return list(self._shown)

    def show_again(self, entry: Entry) -> None:
        """Its dialog was up when the machine was suspended."""
        self._put(entry)

    def ask(self, entry: Entry) -> None:
        """Have the dialog shown, after the prompt delay, by UserNotificationCenter; faults lose it on the way.

        That this process owns the dialog is known; the wording of its log lines is assumed.
        """
        guest = self._guest
        boot = guest.clock.boot_uuid
        entry.prompted_in = boot
        # A dialog is lost once: what loses the first request's leaves nothing to the next fault.
        if guest.state.get("lost-first-request") == boot and guest.fault("approval-coalesced-no-prompt"):
            return
        if guest.fault("approval-prompt-missing"):
            return
        invisible = guest.fault("invisible-prompt-until-reboot") is not None
        if invisible:
            first = guest.state.get("invisible-prompt") or boot
            guest.remember("invisible-prompt", first)
            invisible = first == boot
        self._run(self._show(entry, invisible=invisible))

    async def _show(self, entry: Entry, *, invisible: bool) -> None:
        guest = self._guest
        await guest.delay("prompt", guest.settings.prompt_seconds)
        if entry.state != WAITING or entry not in guest.sysextd.database.entries:
            return
        agent = guest.agent("UserNotificationCenter")
        guest.log.emit(agent, f"Received CFUserNotification request from sysextd[{guest.daemon('sysextd').pid}]",
                       subsystem="com.apple.UserNotificationCenter", category="default")  # fmt: skip
        guest.log.emit(
            agent, "Ordering alert window front", subsystem="com.apple.UserNotificationCenter", category="default"
        )
        if not invisible:
            self._put(entry)

    def _put(self, entry: Entry) -> None:
        guest = self._guest
        agent = guest.agent("UserNotificationCenter")

        def pressed(text: str) -> None:
            self._shown.pop(entry.unique_id, None)
            if text.startswith("Open "):
                guest.settings_started()
            guest.log.emit(agent, f"Alert dismissed with response {0 if text == 'OK' else 1}",
                           subsystem="com.apple.UserNotificationCenter", category="default")  # fmt: skip

        shown = guest.display.show(Alert(AlertKind.EXTENSION, entry.app_name, entry.kind, on_button=pressed))
        self._shown[entry.unique_id] = shown

    def take(self, entry: Entry) -> None:
        """Its dialog goes, if it is up."""
        shown = self._shown.pop(entry.unique_id, None)
        if shown is not None:
            self._guest.display.dismiss(shown)


async def removal_allowed(guest: MacGuest, app: InstalledApp) -> bool:
    """An app wants its extension gone: whether an administrator gives the password that SecurityAgent asks for.

    That a password is wanted is posted (LuLu issue 582, Karabiner-Elements issue 3690), as is the sentence (of a driver's switch);
    that it comes before the request reaches sysextd is assumed.
    """
    await guest.delay("prompt", guest.settings.prompt_seconds)
    answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def answered(text: str) -> None:
        if not answer.done():
            answer.set_result(text)

    shown = guest.display.show(Alert(AlertKind.ADMINISTRATOR, app.name, text="a System Extension", on_button=answered))
    try:
        return await answer == "OK"
    except asyncio.CancelledError:  # the app is gone, and its question with it
        guest.display.dismiss(shown)
        raise
