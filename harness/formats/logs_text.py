"""The beginnings of log lines in the text styles, as `log show` prints them and as people paste them.

    default   2025-06-09 15:32:13.834324+0530 0x6dcc  Default  0x0  537  0  sysextd: (Lib) [sub:cat] message
    compact   2026-01-01 07:17:32.677 E  syspolicyd[527:85cf08] (Lib) [sub:cat] message       no zone, milliseconds
    nslog     2020-10-27 11:03:26.981 Santa[10156:116722] message                              no level
    syslog    2023-09-27 22:55:39.622369+0200  localhost backupd[417]: (Lib) [sub:cat] message
    short     2025-06-09 15:32:13.834324+0530 sysextd: [sub:cat] message                        what posts leave of default
    console   error⇥13:00:16.745381+0200⇥taskgated-helper⇥message                              no date; tabs may be blanks
    bsd       Aug 24 10:16:07 host launchd[1] (job): message                                    no year
    dated     7/8/15 4:00:19.942 PM Finder[5940]: message
    clock     07:51:04.733232 com.apple.securityd message
    app       [2021-08-29 08:56:14.171] [warning] [name] message
    bare      sysextd: message · sysextd[537]: message · (Lib)<Error>: message                  nothing but a name

A style loses information: the process is its name only, names may hold blanks and brackets, and a message may begin as if
it were a sender. What is ambiguous is left in the message. No rule looks at columns. All patterns are anchored and
bounded: the time is linear in the line's length.
"""

from __future__ import annotations

import html
import re
from datetime import datetime
from typing import Final

import msgspec

from harness.formats import records

MAX_HEAD: Final = 2000
"""Characters of a line in which its beginning is looked for."""
LEVELS: Final = {
    "default": "Default",
    "notice": "Default",
    "info": "Info",
    "debug": "Debug",
    "error": "Error",
    "fault": "Fault",
    "warning": "Error",
    "warn": "Error",
    "critical": "Fault",
}
_COMPACT_LEVELS = {
    "Df": "Default",
    "D": "Default",
    "I": "Info",
    "In": "Info",
    "Db": "Debug",
    "E": "Error",
    "Er": "Error",
    "F": "Fault",
    "Ft": "Fault",
}
_KINDS = {
    "Activity": records.ACTIVITY,
    "UserAction": records.ACTIVITY,
    "Signpost": records.SIGNPOST,
    "State": records.STATE,
    "StateDump": records.STATE,
    "Loss": records.LOSS,
    "Timesync": records.CLOCK,
    "A": records.ACTIVITY,
    "Ac": records.ACTIVITY,
    "Sp": records.SIGNPOST,
    "St": records.STATE,
}
DAEMONS: Final = frozenset(
    [
        "sysextd",
        "systemextensionsctl",
        "SystemExtensionsMDM",
        "mdmclient",
        "amfid",
        "taskgated",
        "taskgated-helper",
        "syspolicyd",
        "trustd",
        "trustd_helper",
        "securityd",
        "secd",
        "secinitd",
        "tccd",
        "kernelmanagerd",
        "kernelmanager_helper",
        "launchd",
        "nehelper",
        "nesessionmanager",
        "neagent",
        "networkextension",
        "UserNotificationCenter",
        "usernoted",
        "CoreServicesUIAgent",
        "SecurityAgent",
        "authd",
        "runningboardd",
        "endpointsecurityd",
        "kernel",
        "XprotectService",
        "ReportCrash",
        "osanalyticshelper",
        "sandboxd",
        "smd",
        "pkd",
        "logd",
        "lsd",
        "launchservicesd",
        "opendirectoryd",
        "configd",
        "mDNSResponder",
        "cfprefsd",
        "installd",
        "storedownloadd",
        "cmioextension",
        "registerassistantservice",
    ]
)
"""Names that stand for a process when a pasted line begins with them alone; any other such word may be prose."""

_STAMP = re.compile(
    r"(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)(?:[.,](\d{1,9}))?(?: ?([+-]\d\d):?(\d\d)\b| ?(Z)\b)?(?=[\s\]]|$)"
)
_DEFAULT = re.compile(
    r"\s+0x[0-9a-fA-F]{1,16}\s+([A-Z][A-Za-z]{1,20})\s+(?:0x[0-9a-fA-F]{1,16}\s+)(-?\d{1,10})\s+(?:\d{1,3}\s+)?"
)
_THREAD = re.compile(r"\s+0x([0-9a-fA-F]{1,16})")
_LEVELLED = re.compile(r"\s+(?:([A-Z][a-z]?)\s{1,3})?(?=\S)")
_NUMBERED = re.compile(r"([^\[\]\n]{1,200})\[(\d{1,10})(?::([0-9a-fA-F]{1,16}))?\](:?)(?: |$)")
_NAMED = re.compile(r"([^\s:\[\](){}=\"'<>][^:\[\](){}=\"'<>]{0,120}?):(?: |$)")
_SENDER = re.compile(r"\(([^()]{1,200})\)(?: |$)")
_SOURCE = re.compile(r"<([^<>\s]{1,200})>(?: |$)")
_TOPIC = re.compile(
    r"\[([A-Za-z0-9_.\- ]{1,200}):([^\[\]]{0,200})\](?: |$)|\[([a-z]{2,10}\.[A-Za-z0-9_.\-]{1,200})\.\](?: |$)"
)
_CLOCK = re.compile(r"(\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9}))?([+-]\d{4})?$")
_CONSOLE = re.compile(
    r"(default|info|debug|error|fault|Default|Info|Debug|Error|Fault)[ \t]+"
    r"(?:(\d{4}-\d\d-\d\d)[ T])?(\d\d:\d\d:\d\d[.,]\d{3,9}(?:[+-]\d{4})?)[ \t]+"
)
_BSD = re.compile(
    r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) {1,2}(\d{1,2}) (\d\d:\d\d:\d\d) (\S{1,100}) "
    r"([^\[\]\n:]{1,120})(?:\[(\d{1,10})\])?(?: ?\(([^()]{1,200})(?:\[\d+\])?\))?(?: ?<([A-Za-z]{1,10})>)?: ?"
)
_DATED = re.compile(
    r"(\d{1,2})/(\d{1,2})/(\d{2}|\d{4}),? (\d{1,2}):(\d\d):(\d\d)(?:[.,](\d{1,6}))?(?:[ \u202f]([AP]M))? "
)
_TIMED = re.compile(r"(\d\d:\d\d:\d\d[.,]\d{3,9}(?:[+-]\d{4})?)[ \t]+(?=\S)")
_APP = re.compile(r"\[([^\[\]]{19,40})\] \[([a-zA-Z]{4,8})\] (?:\[([^\[\]]{1,100})\] ?)?")
_BARE_NUMBERED = re.compile(r"([A-Za-z][A-Za-z0-9_.\-]{1,80})\[(\d{1,10})(?::([0-9a-fA-F]{1,16}))?\](:? )(?=\S)")
_BARE_NAMED = re.compile(r"([A-Za-z][A-Za-z0-9_\-]{1,40})(?: \([A-Za-z ]{1,40}\))?(?::(?: |$)| {2,}|\t)")
_BARE_SENDER = re.compile(r"\(([A-Za-z][A-Za-z0-9_.\-+ ]{0,80})\) ?<([A-Z][a-z]{2,8})>: ?")
_QUOTE = re.compile(r"(?:[ \t]{0,40}(?:>|[-*•+–]|\|)(?=\s)[ \t]*|[ \t]+|\d{1,4}[.):][ \t]+)")
_ENTITY = re.compile(r"&(?:[a-zA-Z]{2,8}|#\d{1,6}|#x[0-9a-fA-F]{1,5});")
_NOT_NAMES = frozenset(("http", "https", "file", "error", "warning", "note", "info", "debug", "fault", "fatal", "hint"))


class Head(msgspec.Struct, gc=False):
    """The beginning of a log line. `message` is the rest of the line; the other fields as in `records.Record`."""

    style: str
    message: str
    time: datetime | None = None
    clock: float | None = None
    process: str = ""
    pid: int = 0
    tid: int = 0
    sender: str = ""
    subsystem: str = ""
    category: str = ""
    level: str = ""
    kind: str = records.LOG


def parse_head(line: str) -> Head | None:
    """The head of a log line in whatever style; None for a line that begins with none. Never raises.

    A line that is quoted ("> "), in a list, indented or numbered is read as what it quotes.
    """
    text = line[:MAX_HEAD]
    if "&" in text and _ENTITY.search(text):
        line = html.unescape(line)
        text = line[:MAX_HEAD]
    head = _plain(text)
    if head is None:
        stripped = text
        for _ in range(4):
            quote = _QUOTE.match(stripped)
            if quote is None or quote.end() == 0:
                break
            stripped = stripped[quote.end() :]
            if stripped and (head := _plain(stripped)) is not None:
                break
    if head is not None and len(line) > MAX_HEAD:
        head.message += line[MAX_HEAD:]
    return head


def _plain(text: str) -> Head | None:
    first = text[:1]
    if first.isdigit():
        return _stamped(text) or _dated(text) or _clocked(text)
    if first == "[":
        return _app(text)
    if "\t" in text and (head := _tabbed(text)) is not None:
        return head
    if first.isalpha():
        return _console(text) or _bsd(text) or _bare(text)
    if first == "(" and (match := _BARE_SENDER.match(text)):
        level = LEVELS.get(match.group(2).lower(), "")
        return Head("bare", text[match.end() :], sender=match.group(1), level=level)
    return None


def parse_stamp(text: str) -> tuple[datetime, int] | None:
    """The date and time at the beginning of a text, with the zone if there is one, and where it ends."""
    match = _STAMP.match(text)
    if match is None:
        return None
    day, clock, fraction, hours, minutes, zulu = match.groups()
    zone = "+00:00" if zulu else f"{hours}:{minutes}" if hours else ""
    try:
        return datetime.fromisoformat(f"{day}T{clock}.{(fraction or '0')[:6]:0<6}{zone}"), match.end()
    except ValueError:
        return None


def _stamped(text: str) -> Head | None:
    stamp = parse_stamp(text)
    if stamp is None:
        return None
    moment, end = stamp
    rest = text[end:]
    if match := _DEFAULT.match(rest):
        return _default(moment, match, rest)
    level = ""
    kind = records.LOG
    style = "nslog"
    match = _LEVELLED.match(rest)
    if match is not None and match.group(1) is not None:
        code = match.group(1)
        if code in _COMPACT_LEVELS or code in _KINDS:
            level, kind, style = _COMPACT_LEVELS.get(code, ""), _KINDS.get(code, records.LOG), "compact"
            rest = rest[match.end() :]
    body = rest.lstrip()
    numbered = _NUMBERED.match(body)
    if numbered is not None:
        name, pid, tid, colon = numbered.groups()
        if style != "compact" and colon and not tid:
            style = "syslog"
            host, _, behind = name.partition(" ")
            if behind and (host == "localhost" or rest.startswith("  ")):
                name = behind
        head = Head(style, body[numbered.end() :], moment, process=name.strip(), pid=int(pid), level=level, kind=kind)
        head.tid = int(tid, 16) if tid and style == "compact" else int(tid) if tid and tid.isdigit() else 0
        _details(head)
        return head
    named = _NAMED.match(body)
    if named is not None and named.group(1).lower() not in _NOT_NAMES and named.group(1).count(" ") < 4:
        head = Head("short", body[named.end() :], moment, process=named.group(1).strip(), level=level, kind=kind)
        _details(head)
        return head
    return Head("compact" if style == "compact" else "stamped", body, moment, level=level, kind=kind)


def _default(moment: datetime, match: re.Match[str], rest: str) -> Head:
    word, pid = match.groups()
    body = rest[match.end() :]
    thread = _THREAD.match(rest)
    head = Head("default", body, moment, pid=int(pid), tid=int(thread.group(1), 16) if thread else 0)
    head.level = LEVELS.get(word.lower(), "")
    head.kind = _KINDS.get(word, records.SIGNPOST if word.startswith("Signpost") else records.LOG)
    name, colon, message = body.partition(":")
    if colon and len(name) <= 255:
        head.process, head.message = name.strip(), message.removeprefix(" ")
        if head.process.endswith("]") and (numbered := _NUMBERED.match(head.process)):
            head.process = numbered.group(1)
        _details(head)
    return head


def _details(head: Head) -> None:
    """Take `(sender) [subsystem:category]` off the message."""
    message = head.message
    if message.startswith("(") and (match := _SENDER.match(message)):
        head.sender = match.group(1)
        message = message[match.end() :]
    elif message.startswith("<") and not message.startswith("<private>") and (match := _SOURCE.match(message)):
        if match.group(1).startswith(("NS", "OS", "__", "CF")):
            return
        head.sender = match.group(1)
        message = message[match.end() :]
    if message.startswith("[") and (match := _TOPIC.match(message)):
        head.subsystem, head.category = match.group(1) or match.group(3), match.group(2) or ""
        message = message[match.end() :]
    head.message = message


def _tabbed(text: str) -> Head | None:
    """Console's copy: fields in an order the user chose; the time is found, what is before it are level and topic."""
    fields = text.split("\t", 7)
    for index, field in enumerate(fields[:4]):
        stripped = field.strip()
        clock = seconds_of(stripped)
        stamp = parse_stamp(stripped) if clock is None and stripped[:4].isdigit() else None
        if clock is None and stamp is None:
            continue
        head = Head("console", "", stamp[0] if stamp else None, clock)
        topics = []
        for before in fields[:index]:
            if before.strip().lower() in LEVELS:
                head.level = LEVELS[before.strip().lower()]
            elif before.strip():
                topics.append(before.strip())
        head.subsystem = topics[0] if topics else ""
        head.category = topics[1] if len(topics) > 1 else ""
        after = fields[index + 1 :]
        if not after:
            return None
        if len(after) > 1:
            head.process = after.pop(0).strip()
            if len(after) > 1 and after[0].strip().isdigit() and len(after[0]) < 11:
                head.pid = int(after.pop(0))
        head.message = "\t".join(after)
        return head
    return None


def _console(text: str) -> Head | None:
    """The same with its tabs turned into blanks."""
    match = _CONSOLE.match(text)
    if match is None:
        return None
    level, day, clock = match.groups()
    stamp = parse_stamp(f"{day} {clock}") if day else None
    body = text[match.end() :]
    head = Head("console", body, stamp[0] if stamp else None, None if stamp else seconds_of(clock))
    head.level = LEVELS[level.lower()]
    gap = re.search(r"\s{2,}|\t", body[:200])
    if gap is not None and gap.start() > 0:
        head.process, head.message = body[: gap.start()], body[gap.end() :]
    else:
        head.process, _, head.message = body.partition(" ")
    return head


def _bsd(text: str) -> Head | None:
    match = _BSD.match(text)
    if match is None:
        return None
    _, clock, _, process, pid, sender, level = match.groups()
    head = Head("bsd", text[match.end() :], clock=seconds_of(clock), process=process.strip(), pid=int(pid or 0))
    head.sender, head.level = sender or "", LEVELS.get((level or "").lower(), "")
    return head


def _dated(text: str) -> Head | None:
    match = _DATED.match(text)
    if match is None:
        return None
    month, day, year, hour, minute, second, fraction, half = match.groups()
    hours = int(hour) % 12 + (12 if half == "PM" else 0) if half else int(hour)
    try:
        moment = datetime(  # noqa: DTZ001 - the source names no zone
            int(year) + (2000 if len(year) == 2 else 0), int(month), int(day), hours, int(minute), int(second),
            int(f"{(fraction or '0'):0<6}"),
        )  # fmt: skip
    except ValueError:
        return None
    body = text[match.end() :]
    head = Head("dated", body, moment)
    if numbered := _NUMBERED.match(body):
        head.process, head.pid, head.message = numbered.group(1).strip(), int(numbered.group(2)), body[numbered.end() :]
        _details(head)
    elif named := _NAMED.match(body):
        head.process, head.message = named.group(1).strip(), body[named.end() :]
    return head


def _clocked(text: str) -> Head | None:
    """A time of day and whatever follows."""
    match = _TIMED.match(text)
    if match is None:
        return None
    head = Head("clock", text[match.end() :], clock=seconds_of(match.group(1)))
    body = head.message
    word, _, rest = body.partition("\t" if "\t" in body[:120] else " ")
    if numbered := _NUMBERED.match(body):
        head.process, head.pid, head.message = numbered.group(1).strip(), int(numbered.group(2)), body[numbered.end() :]
        _details(head)
    elif re.fullmatch(r"[A-Za-z]{2,10}(?:\.[A-Za-z0-9_\-]{1,60}){2,8}", word):
        head.subsystem, head.message = word, rest
    elif named := _NAMED.match(body):
        if named.group(1).lower() not in _NOT_NAMES:
            head.process, head.message = named.group(1).strip(), body[named.end() :]
            _details(head)
    elif word in DAEMONS:
        head.process, head.message = word, rest.lstrip()
    return head


def _app(text: str) -> Head | None:
    match = _APP.match(text)
    if match is None:
        return None
    stamp = parse_stamp(match.group(1))
    level = LEVELS.get(match.group(2).lower())
    if stamp is None or level is None:
        return None
    return Head("app", text[match.end() :], stamp[0], process=match.group(3) or "", level=level)


def _bare(text: str) -> Head | None:
    if match := _BARE_NUMBERED.match(text):
        head = Head("bare", text[match.end() :], process=match.group(1), pid=int(match.group(2)))
    elif (match := _BARE_NAMED.match(text)) and match.group(1) in DAEMONS:
        head = Head("bare", text[match.end() :], process=match.group(1))
    else:
        return None
    _details(head)
    return head


def seconds_of(clock: str) -> float | None:
    """Seconds since midnight of "13:00:16.745381" or "13:00:16.745381+0200"; None for anything else."""
    match = _CLOCK.match(clock)
    if match is None:
        return None
    hours, minutes, seconds, fraction, _ = match.groups()
    if int(hours) > 23 or int(minutes) > 59 or int(seconds) > 60:
        return None
    return int(hours) * 3600 + int(minutes) * 60 + int(seconds) + (float(f"0.{fraction}") if fraction else 0.0)
