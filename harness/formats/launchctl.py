"""`launchctl print`, which Apple calls "not API": read by its braces, everything not known is kept as a property.

Forms: a job (`system/LABEL = {`), a domain (`system = {`), and "Could not find service …". Blocks may be missing, a line
may have no `=`, indentation is tabs or blanks, and posts cut the beginning or the end off.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

MAX_TEXT = 8 * 1024 * 1024
_MISSING = re.compile(r"Could not find (?:service|domain)|service not found", re.IGNORECASE)
_NUMBER = re.compile(r"^-?\d{1,18}")
_HEAD = re.compile(r"^((?:gui|user|login|pid|session)/\d+|system)/(.+)$")
_SERVICE = re.compile(r"^(\d+|-)\s+(\S+)\s+(\S.*)$")
MAX_DEPTH = 40


@dataclass
class _Block:
    name: str
    values: dict[str, str] = field(default_factory=dict)
    blocks: list[_Block] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    closed: bool = False

    def block(self, name: str) -> _Block | None:
        return next((block for block in self.blocks if block.name == name), None)


@dataclass(frozen=True)
class Endpoint:
    """One Mach service name of a job. `port` as printed ("0x9a403"); None where it was not printed."""

    name: str
    port: str | None
    active: bool | None
    properties: dict[str, str]


@dataclass(frozen=True)
class Job:
    """One job.

    Attributes:
        label: "" when the text begins after it.
        domain: `system`, `gui/501`, …; "" when the text begins after it.
        state: `running`, `not running`, `spawn scheduled`, `exited`, …; "" when not printed.
        pid: None while it has no process.
        runs: How often it was started; None when not printed.
        last_exit_code: None while it never exited or it was not printed.
        last_exit_reason: `OS_REASON_EXEC`, or the words behind the exit code ("EX_CONFIG"); "" if none.
        program: Path of its executable, or what stands for it ("program identifier").
        type: `LaunchDaemon`, `Submitted`, `LaunchAngel`, `app (nonui)`, …
        endpoints: Its Mach services; None when there is no such block at all (the sign of XPC broken by an upgrade).
        managed_by: macOS 26's hint who submitted it.
        properties: All `key = value` lines of the job itself.
        complete: Whether the text holds the job from its first brace to its last.
    """

    label: str
    domain: str
    state: str
    pid: int | None
    runs: int | None
    last_exit_code: int | None
    last_exit_reason: str
    program: str
    type: str
    endpoints: tuple[Endpoint, ...] | None
    managed_by: str
    properties: dict[str, str]
    complete: bool

    @property
    def running(self) -> bool:
        """Whether launchd says it runs, with a process."""
        return self.state == "running" and self.pid is not None


@dataclass(frozen=True)
class Service:
    """A line of a domain's `services` block or of `launchctl list`. `status` is the last exit status as printed."""

    label: str
    pid: int | None
    status: str


def parse_launchctl_print(text: str) -> Job | None:
    """Read what `launchctl print DOMAIN/LABEL` printed; None when launchd does not know the service.

    Never raises. A text in which nothing was found gives a job with `complete=False` and empty fields.
    """
    root = _parse(text)
    job = next((block for block in root.blocks if _HEAD.match(block.name)), None)
    if job is None and _MISSING.search(text[:MAX_TEXT]):
        return None
    complete = job is not None and job.closed
    label = domain = ""
    if job is None:
        job = root
    elif head := _HEAD.match(job.name):
        domain, label = head.group(1), head.group(2)
    values = job.values
    code, reason = _exit(values.get("last exit code", ""))
    endpoints = job.block("endpoints")
    pid = _int(values.get("pid", ""))
    return Job(
        label=label,
        domain=domain,
        state=values.get("state", ""),
        pid=pid if pid and pid > 0 else None,
        runs=_int(values.get("runs", "")),
        last_exit_code=code,
        last_exit_reason=values.get("last exit reason", "") or reason,
        program=values.get("program", "") or values.get("program identifier", ""),
        type=values.get("type", ""),
        endpoints=None if endpoints is None else tuple(_endpoints(endpoints)),
        managed_by=values.get("managed_by", ""),
        properties=dict(values),
        complete=complete,
    )


def parse_launchctl_services(text: str) -> tuple[Service, ...]:
    """The services that `launchctl print system` or `launchctl list` name, in their order. Never raises."""
    root = _parse(text)
    lines = root.lines
    for block in root.blocks:
        services = block.block("services") if block.name != "services" else block
        if services is not None:
            lines = services.lines
            break
    found = []
    for line in lines:
        if match := _SERVICE.match(line):
            pid = _int(match.group(1))
            found.append(Service(label=match.group(3), pid=pid or None, status=match.group(2)))
    return tuple(found)


def _parse(text: str) -> _Block:
    root = _Block("")
    stack = [root]
    for raw in text[:MAX_TEXT].split("\n"):
        line = raw.strip()
        here = stack[-1]
        if not line:
            continue
        if line == "}":
            if len(stack) > 1:
                stack.pop().closed = True
        elif line.endswith("{") and line[:-1].rstrip().endswith("="):
            block = _Block(line[:-1].rstrip()[:-1].strip().strip('"'))
            here.blocks.append(block)
            if len(stack) < MAX_DEPTH:
                stack.append(block)
        elif " = " in line:
            key, _, value = line.partition(" = ")
            here.values.setdefault(key.strip(), value.strip())
        else:
            here.lines.append(line)
    return root


def _endpoints(block: _Block) -> Iterator[Endpoint]:
    for item in block.blocks:
        active = item.values.get("active")
        yield Endpoint(
            name=item.name,
            port=item.values.get("port"),
            active=None if active is None else active not in ("0", "false"),
            properties=dict(item.values),
        )


def _int(text: str) -> int | None:
    found = _NUMBER.match(text)
    return int(found.group()) if found else None


def _exit(text: str) -> tuple[int | None, str]:
    """`0`, `78: EX_CONFIG`, `(never exited)`."""
    code = _int(text)
    return (code, text.partition(":")[2].strip()) if code is not None else (None, "")
