"""The guest's unified log: records, who listens, the chatter of other daemons, and what a reboot leaves of it.

Key names and order of the JSON form are those of real `log show --style ndjson` output (macOS 15 and later).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import random
import uuid
import zlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from harness.simulator.guest.clock import GuestClock
from harness.simulator.guest.processes import GuestProcess

MAX_RECORDS = 60_000
"""How many records the memory keeps; the oldest fall out, as on a Mac whose store is full."""
PERSISTED = 400
"""How many records of the persist class survive a reboot."""


@dataclass(slots=True, frozen=True)
class LogRecord:
    """One entry. Paths are guest paths; `sender` is the image that logged, which is the process's own by default."""

    time: datetime
    mach: int
    boot_uuid: str
    process_path: str
    pid: int
    user_id: int
    thread: int
    level: str
    subsystem: str
    category: str
    message: str
    sender_path: str
    activity: int = 0
    event_type: str = "logEvent"

    @property
    def process(self) -> str:
        """The process's name."""
        return self.process_path.rsplit("/", 1)[-1]

    @property
    def sender(self) -> str:
        """The sender image's name."""
        return self.sender_path.rsplit("/", 1)[-1]

    def as_json(self) -> dict[str, Any]:
        """The record with Apple's keys in Apple's order."""
        program_counter = (zlib.crc32(f"{self.sender_path}{self.message[:20]}".encode()) & 0xFFFFF) or 1
        sender_uuid = image_uuid(self.sender_path)
        return {
            "timezoneName": "",
            "messageType": self.level,
            "eventType": self.event_type,
            "source": None,
            "formatString": self.message,
            "userID": self.user_id,
            "activityIdentifier": self.activity,
            "subsystem": self.subsystem,
            "category": self.category,
            "threadID": self.thread,
            "senderImageUUID": sender_uuid,
            "backtrace": {"frames": [{"imageOffset": program_counter, "imageUUID": sender_uuid}]},
            "bootUUID": self.boot_uuid,
            "processImagePath": self.process_path,
            "senderImagePath": self.sender_path,
            "timestamp": timestamp(self.time),
            "machTimestamp": self.mach,
            "eventMessage": self.message,
            "processImageUUID": image_uuid(self.process_path),
            "traceID": (self.mach << 8) | 4,
            "processID": self.pid,
            "senderProgramCounter": program_counter,
            "parentActivityIdentifier": 0,
        }


def timestamp(moment: datetime) -> str:
    """`2026-07-26 18:11:22.348728+1200`: microseconds, the writer's offset."""
    return moment.strftime("%Y-%m-%d %H:%M:%S.%f%z")


@functools.lru_cache(maxsize=1000)
def image_uuid(path: str) -> str:
    """A UUID that belongs to an image path: always the same one for the same path."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, "file://" + path)).upper()


def json_line(value: Any, *, spaced: bool = False) -> str:
    """JSON as Apple's writer makes it, every slash escaped; `spaced` is the `"k" : v` of style json."""
    separators = (",", " : ") if spaced else (",", ":")
    return json.dumps(value, ensure_ascii=False, separators=separators).replace("/", "\\/")


def record_from_json(data: dict[str, Any]) -> LogRecord:
    """A record back from `LogRecord.as_json` (the simulator's own archives only).

    Raises:
        KeyError, ValueError: It is not such a record.
    """
    return LogRecord(
        datetime.fromisoformat(data["timestamp"]),
        data["machTimestamp"],
        data["bootUUID"],
        data["processImagePath"],
        data["processID"],
        data["userID"],
        data["threadID"],
        data["messageType"],
        data["subsystem"],
        data["category"],
        data["eventMessage"],
        data["senderImagePath"],
        data["activityIdentifier"],
        data["eventType"],
    )


class Listener:
    """One `log stream`: a bounded queue of what was logged since it began. `lost` counts what did not fit."""

    def __init__(self, limit: int = 20_000) -> None:
        self._waiting: deque[LogRecord] = deque()
        self._news = asyncio.Event()
        self._limit = limit
        self.lost = 0

    def push(self, record: LogRecord) -> None:
        """Add a record, or count it as lost when the reader is too slow."""
        if len(self._waiting) >= self._limit:
            self.lost += 1
        else:
            self._waiting.append(record)
        self._news.set()

    async def take(self) -> list[LogRecord]:
        """All that is waiting, at least one record."""
        while not self._waiting:
            self._news.clear()
            await self._news.wait()
        taken = list(self._waiting)
        self._waiting.clear()
        return taken


class UnifiedLog:
    """The store. Records of the persist class (errors, and all of sysextd's state changes) survive a reboot, a few of them."""

    def __init__(self, clock: GuestClock, seed: str = "") -> None:
        self.clock = clock
        self._records: deque[LogRecord] = deque(maxlen=MAX_RECORDS)
        self._listeners: list[Listener] = []
        self._random = random.Random("log" + seed)  # noqa: S311 - chatter, not secrets
        self._threads: dict[int, list[int]] = {}
        self._boots: list[tuple[datetime, str]] = []

    def __len__(self) -> int:
        return len(self._records)

    def emit(
        self,
        process: GuestProcess,
        message: str,
        *,
        subsystem: str = "",
        category: str = "",
        level: str = "Default",
        sender: str = "",
        activity: int = 0,
    ) -> LogRecord:
        """Log one message of a process now. `level` is one of Debug, Info, Default, Error, Fault."""
        threads = self._threads.setdefault(process.pid, [])
        if len(threads) < 3:
            threads.append(self._random.randrange(0x300, 0x1FFFF))
        record = LogRecord(
            self.clock.now(),
            self.clock.mach(),
            self.clock.boot_uuid,
            process.path,
            process.pid,
            501 if process.user not in ("root", "_windowserver") else 0,
            self._random.choice(threads),
            level,
            subsystem,
            category,
            message,
            sender or process.path,
            activity,
        )
        self._records.append(record)
        for listener in self._listeners:
            listener.push(record)
        return record

    @contextlib.contextmanager
    def listen(self) -> Iterator[Listener]:
        """Hear all that is logged inside the block."""
        listener = Listener()
        self._listeners.append(listener)
        try:
            yield listener
        finally:
            self._listeners.remove(listener)

    def between(self, start: datetime | None = None, end: datetime | None = None) -> list[LogRecord]:
        """The records of that span (both ends included), oldest first."""
        return sorted(
            (
                record
                for record in self._records
                if (start is None or record.time >= start) and (end is None or record.time <= end)
            ),
            key=lambda record: record.time,
        )

    def boots(self) -> list[tuple[datetime, str]]:
        """When each boot session known to the store began, and its UUID."""
        return list(self._boots)

    def begin_boot(self) -> None:
        """A new boot: what was only in memory is gone, the persist class stays."""
        kept = [record for record in self._records if _persists(record)][-PERSISTED:]
        self._records.clear()
        self._records.extend(kept)
        self._threads.clear()
        self._boots.append((self.clock.boot_time, self.clock.boot_uuid))
        del self._boots[:-8]

    def save(self, path: Path, *, everything: bool = False) -> None:
        """Write the persist class to the guest's disk, as a shutdown does; or everything, for a machine that is suspended."""
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = [record for record in self._records if everything or _persists(record)]
        kept = kept if everything else kept[-PERSISTED:]
        path.write_text("".join(json_line(record.as_json()) + "\n" for record in kept), encoding="utf-8")

    def go_on(self, path: Path) -> None:
        """Read back what `save` wrote of everything: the boot goes on."""
        self.load(path, most=None)
        self._boots.append((self.clock.boot_time, self.clock.boot_uuid))

    def load(self, path: Path, *, most: int | None = PERSISTED) -> None:
        """Read back what `save` wrote; a damaged line is left out."""
        if not path.is_file():
            return
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines()[-(most or 0) :]:
            with contextlib.suppress(ValueError, KeyError, TypeError):
                self._records.append(record_from_json(json.loads(line)))

    def chatter(self) -> tuple[str, str, str, str, str, str]:
        """A random line of some other daemon: (process, sender, subsystem, category, level, message)."""
        process, sender, subsystem, category, level, text = self._random.choice(_CHATTER)
        number = self._random.randrange(1, 1 << 20)
        return process, sender, subsystem, category, level, text.replace("#", f"{number:x}")


def _persists(record: LogRecord) -> bool:
    return record.level in ("Error", "Fault") or record.category in ("StateChange", "StateChanges")


_CHATTER: tuple[tuple[str, str, str, str, str, str], ...] = (
    (
        "runningboardd",
        "",
        "com.apple.runningboard",
        "ttl",
        "Default",
        "Acquiring assertion targeting [osservice<com.apple.#>:#]",
    ),
    (
        "runningboardd",
        "",
        "com.apple.runningboard",
        "assertion",
        "Info",
        "Assertion # (target:system) will be created as active",
    ),
    (
        "WindowServer",
        "",
        "com.apple.SkyLight",
        "default",
        "Default",
        "0[SetFrontProcess]: setting front process to 0x0-0x# ()",
    ),
    (
        "mDNSResponder",
        "",
        "com.apple.mDNSResponder",
        "Default",
        "Default",
        "[R#] getaddrinfo start -- flags: 0xC000D000, hostname: <private>",
    ),
    (
        "trustd",
        "/System/Library/Frameworks/Security.framework/Versions/A/Security",
        "com.apple.securityd",
        "SecError",
        "Error",
        "Unable to create a matching network connection for #",
    ),
    (
        "cfprefsd",
        "",
        "com.apple.defaults",
        "cfprefsd",
        "Debug",
        "Process # sent a request related to { com.apple.menuextra.clock, user, kCFPreferencesAnyHost }",
    ),
    ("powerd", "", "com.apple.powerd", "assertions", "Default", "Process WindowServer.# Summary UserIsActive"),
    ("symptomsd", "", "com.apple.symptomsd", "netepoch", "Info", "NetworkAnalyticsEngine: epoch # unchanged"),
    ("tccd", "", "com.apple.TCC", "access", "Info", "AUTHREQ_CTX: msgID=#, function=<private>, service=kTCCServiceAll"),
    ("kernel", "", "", "", "Default", "AppleVirtIOStorageDevice: barrier #"),
    ("launchd", "", "", "", "Default", "[system/com.apple.#:] internal event: WILL_SPAWN, code = 0"),
    ("locationd", "", "com.apple.locationd.Position", "PositionReceiver", "Debug", "@ClxNotify, Fetch, #"),
    (
        "Finder",
        "/System/Library/Frameworks/AppKit.framework/Versions/C/AppKit",
        "com.apple.AppKit",
        "Default",
        "Info",
        "NSPersistentUIManager flushing #\nwith a second line, as many messages have",
    ),
)
