"""Things inside a text that are no log lines: a listing, a crash report, a launchd print, a property list, JSON.

Each is recognised by its first line (`opening`), takes the lines that belong to it, and becomes a document when it ends;
lines of one that turns out to be nothing are given back and read as text. A block is bounded in lines and bytes.
"""

from __future__ import annotations

import json
import plistlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from harness.formats import FormatError
from harness.formats.crash import parse_crash_report
from harness.formats.database import parse_database
from harness.formats.launchctl import parse_launchctl_print, parse_launchctl_services
from harness.formats.listing import parse_listing
from harness.formats.logs_array import ObjectSplitter
from harness.formats.logs_text import parse_head
from harness.formats.plist_text import parse_plist_text
from harness.formats.plists import load_plist

MAX_LINES: Final = 200_000
MAX_CHARACTERS: Final = 16 * 1024 * 1024
_LISTING = re.compile(
    r"\s*(?:\d{1,9} extension\(s\)\s*$|---\s+com\.apple\.system_extension\.|enabled\s+active(?:\s+teamID\b|\s*$))"
)
_LISTING_NOISE = re.compile(r".{0,60}systemextensionsctl\[\d+")
_ROW_PART = re.compile(
    r"[\s*]*(?:[A-Z0-9]{10}\s+)?(?:[A-Za-z0-9_-]+\.){1,20}[A-Za-z0-9_-]+\s*\([^()\s]{1,60}\)\s*$|\s*\[[a-z ]{6,60}\]\s*$"
)
_LAUNCHCTL = re.compile(r"\s*(?:(?:gui|user|login|pid|session)/\d+|system)(?:/\S.{0,300})? = \{\s*$")
_LAUNCHCTL_KEY = re.compile(
    r"\s*(?:active count|path|type|state|job state|program|program identifier|parent bundle identifier|"
    r"managed_by|domain|asid|minimum runtime|exit timeout|runs|pid|immediate reason|forks|execs|initialized|trampolined|"
    r"started suspended|proxy started suspended|last exit code|last exit reason|last terminating signal|spawn type|"
    r"spawn role|jetsam priority|properties|submitted job|event triggers|endpoints|bundle id|bundle version) = \S"
)
_MISSING_SERVICE = re.compile(r"\s*Could not find (?:service|domain)\b")
_CRASH = re.compile(r"Process:\s{2,}\S.{0,200}\[\d{1,10}\]\s*$|Incident Identifier:\s+[0-9A-Fa-f-]{36}\s*$")
_FATAL = re.compile(
    r"^(?:Exception |Termination |Crashed Thread|Thread \d+ Crashed|panic\(|Incident Ident)|panicString|bug_type", re.M
)
_REPORT_TITLE = re.compile(r"(?:Translated Report \(Full Report Below\)|Full Report)\s*$")
_PANIC = re.compile(r"panic\(cpu \d+ caller 0x[0-9a-fA-F]+\):|\*\*\* Panic Report \*\*\*")
_IPS = re.compile(r'\{"(?:app_name|bug_type|incident_id|timestamp|slice_uuid)":.{0,4000}"bug_type":|\{"bug_type":')
_WORDS = re.compile(r"[A-Za-z’']{2,}[,;:.!?]?(?: |$)")
_ASSIGNMENT = re.compile(r'\s*"?[\w.$-]{1,100}"?\s*=')
_JSON_LIKE = re.compile(r'\s*(?:["{}\[\]]|-?\d|(?:true|false|null)\b|,|\)|$)')


@dataclass(frozen=True)
class Found:
    """What a block became: a document's kind and value, or, for `log`, JSON objects that are log records."""

    kind: str
    value: Any


@dataclass
class Block:
    """Lines that may become a document.

    Attributes:
        kind: `listing`, `launchctl`, `crash`, `panic`, `ips`, `json`, `openstep`, `xml`.
        first: Number of its first line.
        lines: Its lines, blank ones at the end not yet its own.
        done: Whether it has said itself that it is over.
    """

    kind: str
    first: int
    lines: list[str] = field(default_factory=list)
    done: bool = False
    _size: int = 0
    _depth: int = 0
    _splitter: ObjectSplitter = field(default_factory=ObjectSplitter)

    def take(self, line: str) -> bool:
        """Add the line if it belongs to this block; False if the block ended before it."""
        if self.done or len(self.lines) >= MAX_LINES or self._size > MAX_CHARACTERS:
            return False
        if self.kind == "json" and len(self.lines) == 1 and self.lines[0].strip() == "{" and _ASSIGNMENT.match(line):
            self.kind, self._depth = "openstep", 1
        if self.lines and not _BELONGS[self.kind](self, line):
            return False
        self.lines.append(line)
        self._size += len(line) + 1
        self._track(line)
        return True

    def _track(self, line: str) -> None:
        if self.kind in ("json", "ips", "openstep"):
            if self.kind == "openstep":
                self._depth += line.count("{") + line.count("(") - line.count("}") - line.count(")")
                self.done = self._depth <= 0
            else:
                self._splitter.feed(line.encode("utf-8", "replace"), 1)
                # An .ips is a line and a body: not over with the line.
                self.done = not self._splitter.depth and (
                    self.kind == "json" or (len(self.lines) > 1 and line.strip() != "")
                )
                if self.kind == "ips" and len(self.lines) == 1:
                    self.done = False
        elif self.kind == "launchctl":
            stripped = line.strip()
            self._depth += stripped.endswith("{") - (stripped == "}")
            self.done = stripped == "}" and self._depth <= 0 and self.lines[0].rstrip().endswith("{")
        elif self.kind == "xml":
            self.done = "</plist>" in line

    def trim(self) -> int:
        """Take the blank lines at its end off; how many they were."""
        count = 0
        while self.lines and not self.lines[-1].strip():
            self.lines.pop()
            count += 1
        return count

    @property
    def text(self) -> str:
        """Its lines, joined."""
        return "\n".join(self.lines)

    def finish(self) -> Found | None:
        """What it became; None if it is nothing known."""
        try:
            return _FINISH[self.kind](self.text)
        except (FormatError, ValueError, RecursionError, OverflowError, TypeError):
            return None


def opening(line: str) -> str:
    """The kind of block that a line opens; "" for none."""
    stripped = line.strip()
    if not stripped or len(line) > 200_000:
        return ""
    first = stripped[0]
    if first == "{":
        if _IPS.match(stripped):
            return "ips"
        return (
            "json"
            if stripped == "{" or re.match(r'\{\s*"[^"]{1,200}"\s*:', stripped)
            else ("openstep" if re.match(r'\{\s*"?[\w.$-]{1,100}"?\s*=', stripped) else "")
        )
    if first == "<":
        return "xml" if stripped.startswith(("<?xml", "<!DOCTYPE plist", "<plist")) else ""
    if first in "*-e0123456789" and _LISTING.match(line):
        return "listing"
    if stripped.endswith("{") and _LAUNCHCTL.match(line):
        return "launchctl"
    if stripped.endswith("]") and "[" in line and len(line) < 4000 and parse_listing(line).entries:
        return "listing"
    if " = " in line and not stripped.endswith(";") and _LAUNCHCTL_KEY.match(line):
        return "launchctl"
    if first == "C" and _MISSING_SERVICE.match(line):
        return "launchctl"
    if first in "PI" and _CRASH.match(line):
        return "crash"
    if first in "p*" and _PANIC.match(stripped):
        return "panic"
    return ""


def is_prose(line: str) -> bool:
    """Whether a line reads like a person's sentence rather than like a part of a report."""
    if line[:1].isspace() or "0x" in line or "  " in line.strip() or "\t" in line or " = " in line:
        return False
    words = len(_WORDS.findall(line[:400]))
    return words >= 6 and words >= 0.7 * max(1, len(line[:400].split()))


def _listing(block: Block, line: str) -> bool:
    if not line.strip():
        return len(block.lines) < 3 or bool(block.lines[-1].strip())
    if _LISTING.match(line) or _LISTING_NOISE.match(line) or _ROW_PART.match(line):
        return not (re.match(r"\s*\d{1,9} extension\(s\)", line) and len([x for x in block.lines if x.strip()]) > 1)
    return "[" in line and len(line) < 4000 and bool(parse_listing(line).entries)


def _launchctl(block: Block, line: str) -> bool:
    if _MISSING_SERVICE.match(block.lines[0]):
        return False
    stripped = line.strip()
    if not stripped:
        return block._depth > 0 or bool(block.lines[-1].strip())
    if stripped in ("...", "…", "}") or stripped.endswith("{") or " = " in line or "=>" in line:
        return not _starts_other(line)
    if line[:1].isspace():
        return not _starts_other(line)
    return block._depth > 0 and bool(block.lines[-1].strip()) and not _starts_other(line) and not is_prose(line)


def _report(block: Block, line: str) -> bool:
    """A crash report or a panic: until something else begins, or somebody speaks after an empty line."""
    if not line.strip():
        return True
    if line.startswith("```") or _LISTING.match(line):
        return False
    if not block.lines[-1].strip() and is_prose(line) and not _REPORT_TITLE.match(line):
        return False
    if block.kind == "crash" and _CRASH.match(line) and line.startswith("Process:"):
        return not any(earlier.startswith("Process:") for earlier in block.lines[-2000:])
    if line[:1].isdigit() or line[:1].isalpha():
        head = parse_head(line)
        return head is None or head.style in ("bare", "clock", "bsd") or head.time is None
    return True


def _json(block: Block, line: str) -> bool:
    if block.kind == "ips" and not block._splitter.depth:  # between the line and the body
        if not line.strip():
            return len(block.lines) < 4
        return (line.lstrip().startswith("{") and not _IPS.match(line.strip())) or bool(
            len(block.lines) < 4
            and re.match(r"(?:Incident Identifier|Process|Hardware Model|CrashReporter Key):", line)
        )
    return bool(_JSON_LIKE.match(line)) and not (line[:1].isdigit() and parse_head(line) is not None)


def _openstep(block: Block, line: str) -> bool:  # noqa: ARG001 - its neighbours need it
    return not (line[:1].isdigit() and parse_head(line) is not None)


def _xml(block: Block, line: str) -> bool:
    return _openstep(block, line)


def _starts_other(line: str) -> bool:
    if _LISTING.match(line) or _CRASH.match(line):
        return True
    head = parse_head(line) if line[:1].isdigit() else None
    return head is not None and head.time is not None


_BELONGS: dict[str, Callable[[Block, str], bool]] = {
    "listing": _listing,
    "launchctl": _launchctl,
    "crash": _report,
    "panic": _report,
    "ips": _json,
    "json": _json,
    "openstep": _openstep,
    "xml": _xml,
}


def _as_listing(text: str) -> Found | None:
    listing = parse_listing(text)
    if listing.count is None and not listing.entries and "com.apple.system_extension" not in text:
        return None if "teamID" not in text else Found("listing", listing)
    return Found("listing", listing)


def _as_launchctl(text: str) -> Found | None:
    if re.match(r"\s*(?:system|(?:gui|user|login)/\d+) = \{", text):
        return Found("launchctl-services", parse_launchctl_services(text))
    return Found("launchctl", parse_launchctl_print(text))


def _as_report(text: str) -> Found | None:
    if not text.lstrip().startswith("{") and not _FATAL.search(text):
        return None  # the sandbox's and others' reports begin as a crash report does
    report = parse_crash_report(text)
    if report.panic:
        return Found("panic", report)
    return Found("crash", report)


def _as_json(text: str) -> Found | None:
    if text.lstrip()[:2000].find("=>") >= 0 or re.match(r'\s*\{\s*"?[\w.$-]{1,100}"?\s*=', text):
        return _as_openstep(text)
    try:
        value = json.loads(text, strict=False)
    except ValueError:
        if '"procName"' in text or '"panicString"' in text:
            return _as_report(text)
        raise
    if not isinstance(value, dict):
        return None
    if {"procName", "panicString"} & value.keys() or {"bug_type", "incident_id"} <= value.keys():
        return _as_report(text)
    if isinstance(value.get("extensions"), list) and {"version", "bootUUID", "extensionPolicies"} & value.keys():
        return _database(value, "json")
    return Found("json", value)


def _as_openstep(text: str) -> Found | None:
    return _database(parse_plist_text(text), "plist")


def _as_xml(text: str) -> Found | None:
    return _database(load_plist(text.encode("utf-8", "replace"), "a pasted property list"), "plist")


def _database(value: dict[str, Any], otherwise: str) -> Found:
    """Sysextd's database if it is one."""
    if isinstance(value.get("extensions"), list):
        try:
            return Found("database", parse_database(plistlib.dumps(value, fmt=plistlib.FMT_XML)))
        except (FormatError, TypeError, OverflowError, AttributeError):
            pass
    return Found(otherwise, value)


_FINISH: dict[str, Callable[[str], Found | None]] = {
    "listing": _as_listing,
    "launchctl": _as_launchctl,
    "crash": _as_report,
    "panic": _as_report,
    "ips": _as_report,
    "json": _as_json,
    "openstep": _as_openstep,
    "xml": _as_xml,
}
