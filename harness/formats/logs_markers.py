"""Lines that are about a log, not in it: headers, banners, boots, gaps, wall-clock jumps. One table for all text styles.

The texts of boots, class changes and losses are LoggingSupport's own, the same in several releases.
"""

from __future__ import annotations

import re

import msgspec

from harness.formats import records

_UUID = r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"
_BOOT = re.compile(rf"=== system boot: ({_UUID})")
_LOST = re.compile(r"lost (>=)?(\d{1,9}) unreliable messages? from \d+-\d+ \(Mach continuous")
_HEADERS = (
    (re.compile(r"Timestamp\s+Thread\s+Type\s+Activity\s+PID"), "default"),
    (re.compile(r"Timestamp\s+Ty\s+Process\[PID:TID\]"), "compact"),
    (re.compile(r"Timestamp\s+\(process\)\[PID\]"), "syslog"),
)
_BANNER = re.compile(r"Filtering the log data using |Skipping (?:info|debug|info and debug) messages")
_FENCE = re.compile(
    r"(?:`{3,}[\w+-]{0,20}|~{3,}\w{0,20}|-{3,}|={3,}|_{3,}|\*{3,}|…|\.{3,}|\[…\]|\[\.{3}\]|<snip>|(?:\[code\]|\[/code\]))\s*$"
)


class Marker(msgspec.Struct, gc=False):
    """What a marker line says.

    Attributes:
        kind: `boot`, `clock`, `loss`, `marker` as in `records`.
        style: The log style that a header line announces, else "".
        boot: The boot's UUID in upper case.
        lost: Messages lost; at least so many where the log says ">=".
        fence: A line that only separates (``` or ---): what is before it does not go on after it.
    """

    kind: str
    style: str = ""
    boot: str = ""
    lost: int = 0
    fence: bool = False


def parse_marker(line: str) -> Marker | None:
    """The marker in a line, also behind a timestamp; None if it is none. Never raises."""
    text = line.strip()
    if not text or len(text) > 4000:
        return None
    if "=== " in text:
        if match := _BOOT.search(text):
            return Marker(records.BOOT, boot=match.group(1).upper())
        if "=== system boot" in text:
            return Marker(records.BOOT)
        if "=== system wallclock time adjusted" in text:
            return Marker(records.CLOCK)
        if "=== log class: " in text:
            return Marker(records.MARKER)
    if "lost " in text and (match := _LOST.search(text)):
        return Marker(records.LOSS, lost=int(match.group(2)))
    if text.startswith("Timestamp"):
        for pattern, style in _HEADERS:
            if pattern.match(text):
                return Marker(records.MARKER, style=style)
    if _BANNER.match(text):
        return Marker(records.MARKER)
    if _FENCE.match(text):
        return Marker(records.MARKER, fence=True)
    return None
