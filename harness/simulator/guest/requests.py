"""What an app asks of sysextd, and what it is told."""

from __future__ import annotations

import asyncio
import zlib
from dataclasses import dataclass
from typing import Protocol

from harness.simulator.guest.extension_database import Entry
from harness.simulator.guest.installed import InstalledApp
from harness.simulator.guest.processes import GuestProcess


class SystemExtensionError(Exception):
    """What the app's delegate gets: OSSystemExtensionErrorDomain and a code."""

    def __init__(self, code: int, text: str = "(null)") -> None:
        self.code = code
        self.text = text
        super().__init__(f'Error Domain=OSSystemExtensionErrorDomain Code={code} "{text}"')


class AppLeft(SystemExtensionError):
    """The app quit in the middle of its request: nobody is there to be told."""

    def __init__(self) -> None:
        super().__init__(11, "the app has quit")


class Delegate(Protocol):
    """The app's side of a request."""

    def needs_approval(self) -> None:
        """`requestNeedsUserApproval`."""

    def replace(self, old: str, new: str) -> bool:
        """`actionForReplacingExtension`: True for replace, False for cancel."""


@dataclass(eq=False)
class Request:
    """One activation request on its way. `answer` gets the result, or the error."""

    client: GuestProcess
    app: InstalledApp
    identifier: str
    delegate: Delegate
    answer: asyncio.Future[int]


class Silent:
    """A delegate whose app is gone."""

    def needs_approval(self) -> None:
        """Nobody is there to hear it."""

    def replace(self, old: str, new: str) -> bool:
        """Never asked."""
        del old, new
        return True


def address(entry: Entry) -> str:
    """A pointer as the log prints it; the same for the same entry."""
    return f"0x7fc{zlib.crc32(entry.unique_id.encode()) & 0xFFFFFFF0:09x}"
