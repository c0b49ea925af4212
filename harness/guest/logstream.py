"""The unified log, streamed to a file on the host from boot on.

A reboot purges much of the log, and a Mac that hangs gives nothing any more: so it is written here as it happens. The stream
is started again whenever it ends; each time without it is a *gap*, recorded with from, to and why, and filled by `log show`
if the Mac has not rebooted in between.
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from harness import events
from harness.errors import SysextError
from harness.events import SECRETS
from harness.guest.background import Background
from harness.guest.errors import ConnectionLost, HostKeyChanged
from harness.guest.guest import Guest
from harness.guest.shell import in_this_context
from harness.waiting import Deadline

MAX_BYTES = 512 << 20
LIVE_SECONDS = 3.0
FILL_SECONDS = 60.0
LONGEST_GAP_FILLED = 15 * 60.0
_STAMP = re.compile(rb'"timestamp"\s*:\s*"([^"]{10,60})"')
_IDENTITY = re.compile(rb'"(?:machTimestamp|threadID|traceID|processID)"\s*:\s*\d+')
_KEPT = 4000


@dataclass
class Gap:
    """A time for which the stream was not there. Times are the host's, UTC.

    Attributes:
        reason: Why it ended.
        reboot: Whether the Mac rebooted meanwhile; None if that is not known.
        last: The guest's timestamp of the last record before it.
        filled: Records that `log show` brought back; None if they could not be had.
    """

    begin: str
    end: str | None
    reason: str
    reboot: bool | None = None
    last: str = ""
    filled: int | None = None


class LogStream:
    """Streams `log stream --style ndjson` of a guest into a file until `stop`.

    Args:
        guest: The Mac. A closed guest ends the stream.
        path: The file (appended to). Gaps go to `<name>.gaps.jsonl` beside it.
        predicate: What to stream; None for everything.
        max_bytes: After so many the file is put aside as `<name>.1` and begun anew (an older `.1` is lost: an event says so).

    Attributes:
        gaps: The gaps so far.
        records: Lines written, filled ones included.
    """

    def __init__(self, guest: Guest, path: Path, predicate: str | None = None, *, max_bytes: int = MAX_BYTES) -> None:
        self.guest = guest
        self.path = path
        self.predicate = predicate
        self.max_bytes = max_bytes
        self.gaps: list[Gap] = []
        self.records = 0
        self._written = 0
        self._lost = 0
        self._file: IO[bytes] | None = None
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._under_way: Background | None = None
        self._streaming = threading.Event()
        self._live = threading.Event()
        self._rest = b""
        self._last_stamp = b""
        self._seen: dict[bytes, None] = {}
        self._session = ""
        self._thread: threading.Thread | None = None

    @property
    def gaps_path(self) -> Path:
        """The file of gaps, a JSON object a line."""
        return self.path.with_name(self.path.name + ".gaps.jsonl")

    def start(self, deadline: Deadline | None = None) -> LogStream:
        """Begin; returns once the stream is live, or after `deadline` (10 s by default) in any case."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._thread = in_this_context(self._work, f"log-stream-{self.guest.name}")
        self._thread.start()
        self._streaming.wait((deadline or Deadline.after(10)).remaining)
        return self

    def stop(self, deadline: Deadline | None = None) -> None:
        """End it. May be called twice."""
        deadline = deadline or Deadline.after(10)
        self._stop.set()
        under_way = self._under_way
        if under_way is not None:
            under_way.stop(deadline)
        if self._thread is not None:
            self._thread.join(deadline.remaining + 1)
        with self._lock:
            self._let_go()
        events.event(
            "log-stream-ended",
            machine=self.guest.name,
            records=self.records,
            gaps=len(self.gaps),
            **({"lines_lost": self._lost} if self._lost else {}),
        )

    def mark(self, text: str) -> None:
        """Write a marker of ours into the file (not the guest's log): {"marker": text, "time": …}."""
        line = json.dumps({"marker": SECRETS.mask(text), "time": _now()}, ensure_ascii=False)
        self._append([line.encode("utf-8", errors="replace")])

    def _work(self) -> None:
        gap: Gap | None = None
        while not self._stop.is_set():
            reason = self._stream_once(gap)
            if self._stop.is_set() or self.guest.closed:
                if not self._stop.is_set():
                    self._record(Gap(_now(), None, "the guest was closed"))
                return
            if gap is None or gap.end is not None:
                gap = Gap(_now(), None, reason, last=self._last_stamp.decode(errors="replace"))
                self.gaps.append(gap)
                self._streaming.clear()
                events.event("log-gap", machine=self.guest.name, reason=reason)
            self._stop.wait(0.5)
        if gap is not None and gap.end is None:
            self._record(gap)

    def _stream_once(self, gap: Gap | None) -> str:
        """Stream until it ends; returns why it ended."""
        argv = [self.guest.log_command, "stream", "--style", "ndjson", "--level", "debug"]
        if self.predicate is not None:
            argv += ["--predicate", self.predicate]
        limit = Deadline.after(30)
        try:
            if not self.guest.connected:
                self.guest.living(limit)
            session = self.guest.boot_session(limit)
            self._rest = b""
            self._live.clear()
            before = dict(self._seen)
            self._under_way = self.guest.start(argv, deadline=limit, on_stdout=self._take, keep=4096)
        except HostKeyChanged as error:
            self._stop.set()
            return error.seen
        except SysextError as error:
            return error.seen or str(error)
        # "Filtering the log data using …" comes first: only then is the stream live, and nothing is lost from there on.
        # Without a predicate it may say nothing until there is a record.
        self._live.wait(LIVE_SECONDS)
        self._streaming.set()
        if self._stop.is_set():
            self._under_way.stop(Deadline(5))
        if gap is not None and gap.end is None:
            gap.end = _now()
            gap.reboot = bool(self._session) and session != self._session
            if not gap.reboot and gap.last:
                self._fill(gap, before)
            self._record(gap)
        self._session = session
        while self._under_way.running:
            self._under_way.wait_for_exit(60.0)
        try:
            code = self._under_way.poll()
        except ConnectionLost as error:
            return error.seen
        return f"log stream ended with {code}: {self._under_way.stderr_text.strip()[-300:]}"

    def _fill(self, gap: Gap, before: dict[bytes, None]) -> None:
        begun = datetime.fromisoformat(gap.begin)
        if (datetime.now(UTC) - begun).total_seconds() > LONGEST_GAP_FILLED:
            return
        # log(1): --start takes "Y-M-D H:m:s+zzzz"; whole seconds, hence records that are there already come again.
        start = re.sub(r"\.\d+", "", gap.last)
        argv = [self.guest.log_command, "show", "--start", start, "--info", "--debug", "--style", "ndjson"]
        if self.predicate is not None:
            argv += ["--predicate", self.predicate]
        try:
            result = self.guest.run(argv, deadline=Deadline.after(FILL_SECONDS), quiet=True)
        except SysextError as error:
            events.event("log-gap-not-filled", machine=self.guest.name, reason=error.seen)
            return
        with self._lock:
            known = {**before, **self._seen}
        new = [line for line in result.stdout.split(b"\n") if _STAMP.search(line) and _identity(line) not in known]
        gap.filled = len(new)
        self._append(new)

    def _take(self, piece: bytes) -> None:
        self._live.set()
        *lines, self._rest = (self._rest + piece).split(b"\n")
        if len(self._rest) > 8 << 20:
            self._rest = b""
        self._append([line for line in lines if line.strip()])

    def _append(self, lines: list[bytes]) -> None:
        if not lines:
            return
        text = b"\n".join(lines).decode("utf-8", errors="surrogateescape")
        data = SECRETS.mask(text).encode("utf-8", errors="surrogateescape") + b"\n"
        with self._lock:
            for line in lines:
                if match := _STAMP.search(line):
                    self._last_stamp = max(self._last_stamp, match.group(1).replace(b"\\/", b"/"))
                    self._seen[_identity(line)] = None
            while len(self._seen) > _KEPT:
                del self._seen[next(iter(self._seen))]
            try:
                if self._file is None:
                    self._file = self.path.open("ab")
                    self._written = self._file.tell()
                if self._written + len(data) > self.max_bytes and self._written:
                    self._rotate()
                self._file.write(data)
                self._file.flush()
            except OSError as error:
                self._let_go()
                if not self._lost:  # a full disk stays full for more than one piece
                    events.event("log-stream-lost", machine=self.guest.name, lines=len(lines), reason=str(error))
                self._lost += len(lines)
                return
            if self._lost:
                events.event("log-stream-goes-on", machine=self.guest.name, lines_lost=self._lost)
                self._lost = 0
            self._written += len(data)
            self.records += len(lines)

    def _let_go(self) -> None:
        # What could not be written is tried once more by `close`, and is then lost; the next record opens the file anew.
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None

    def _rotate(self) -> None:
        assert self._file is not None
        self._file.close()
        old = self.path.with_name(self.path.name + ".1")
        events.event("log-rotated", machine=self.guest.name, bytes=self._written, lost_older=old.exists())
        self.path.replace(old)
        self._file = self.path.open("ab")
        self._written = 0

    def _record(self, gap: Gap) -> None:
        if gap not in self.gaps:
            self.gaps.append(gap)
        events.event("log-gap-closed", machine=self.guest.name, **asdict(gap))
        try:
            with self.gaps_path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(SECRETS.mask_all(asdict(gap)), ensure_ascii=False) + "\n")
        except OSError as error:
            events.event("log-gap-not-written", machine=self.guest.name, reason=str(error))


def _identity(line: bytes) -> bytes:
    """What tells one record from another: log show and log stream order their keys alike, but not all of them agree."""
    stamp = _STAMP.search(line)
    return b"|".join(sorted(_IDENTITY.findall(line))) + (stamp.group(1) if stamp else b"")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
