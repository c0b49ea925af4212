"""The unified log as evidence: the slice as text, and the archive that a person opens in Console."""

from __future__ import annotations

import secrets
from pathlib import Path

from harness.errors import HarnessError
from harness.events import SECRETS
from harness.evidence.collector import Partial, Plan, forget
from harness.guest import CommandFailed, Guest
from harness.waiting import Deadline

PROCESSES = (
    "sysextd",
    "nehelper",
    "nesessionmanager",
    "neagent",
    "UserNotificationCenter",
    "CoreServicesUIAgent",
    "SecurityAgent",
    "System Settings",
    "systemextensionsctl",
    "syspolicyd",
    "amfid",
    "trustd",
    "tccd",
    "kernelmanagerd",
    "launchd",
    "ReportCrash",
)
"""Whom the request passes through: DTS asks for them in such cases, and posted sysdiagnoses show them."""
SUBSYSTEMS = ("com.apple.sx", "com.apple.networkextension", "com.apple.EndpointSecurity")
MAX_SLICE = 1 << 30
MAX_ARCHIVE = 4 << 30


def predicate(subsystems: list[str], processes: list[str]) -> str:
    """The predicate of the slice. Values are quoted for NSPredicate; a quote or a backslash cannot end the string.

    Raises:
        HarnessError: A value with a line break.
    """

    def quoted(value: str) -> str:
        if "\n" in value or "\r" in value:
            raise HarnessError("a name without line breaks in a log predicate", seen=repr(value))
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'

    names = dict.fromkeys([*PROCESSES, *processes])
    systems = dict.fromkeys([*SUBSYSTEMS, *subsystems])
    tests = [f"subsystem == {quoted(name)}" for name in systems]
    tests.append("process IN {" + ", ".join(quoted(name) for name in names) + "}")
    return " OR ".join(tests)


class _MaskedLines:
    """A file of lines in which secrets are masked as they come; remembers the last line."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._rest = b""
        self.last = b""
        self.lines = 0

    def write(self, piece: bytes) -> int:
        """Take a piece, write the whole lines."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        if lines:
            self._put(lines)
        if len(self._rest) > 8 << 20:  # no record is that long
            self._put([self._rest])
            self._rest = b""
        return len(piece)

    def _put(self, lines: list[bytes]) -> None:
        text = b"\n".join(lines).decode("utf-8", errors="surrogateescape")
        self._file.write(SECRETS.mask(text).encode("utf-8", errors="surrogateescape") + b"\n")
        self.lines += len(lines)
        self.last = next((line for line in reversed(lines) if line.strip()), self.last)

    def close(self) -> None:
        """Write what remains."""
        if self._rest:
            self._put([self._rest])
        self._file.close()


def log_slice(guest: Guest, last: str, predicate_text: str, *, seconds: float = 180.0) -> Plan:
    """The plan for `log show` of the last `last` ("30m", "boot") as ndjson."""
    argv = [guest.log_command, "show", "--last", last, "--info", "--debug", "--style", "ndjson"]
    argv += ["--predicate", predicate_text]

    def gather(target: Path, deadline: Deadline) -> str | None:
        sink = _MaskedLines(target)
        try:
            result = guest.run(
                argv, deadline=deadline, sudo=True, check=False, stdout_to=sink, max_output=MAX_SLICE, quiet=True
            )
        finally:
            sink.close()
        if not result.ok:
            raise Partial(f"log show ended with {result.exit_code}: {result.error_text.strip()[-300:]}")
        # log(1) closes ndjson with {"count":N,"finished":1}; without it the capture was cut short.
        if b'"finished"' not in sink.last:
            raise Partial(
                "the closing `finished` record is not there: the log was cut short"
                if sink.lines
                else "log show printed nothing at all: access to the log was refused"
            )
        return f"{max(0, sink.lines - 1)} records"

    return Plan("log slice", "log.ndjson", "sudo " + " ".join(argv), seconds, gather)


def log_archive(guest: Guest, last: str, *, name: str = "log archive", seconds: float = 300.0) -> Plan:
    """The plan for `log collect`: the archive itself, as a tar file."""
    argv = [guest.log_command, "collect", "--output", "PATH", *([] if last == "boot" else ["--last", last])]

    def gather(target: Path, deadline: Deadline) -> str | None:
        folder = workplace(guest, deadline)
        archive = f"{folder}/system_logs.logarchive"
        try:
            command = [archive if word == "PATH" else word for word in argv]
            try:
                guest.run(command, deadline=deadline, sudo=True, quiet=True)
            except CommandFailed as error:
                raise _sized(error, guest, folder, deadline) from error
            guest.get_tar(archive, target, deadline=deadline, sudo=True, max_bytes=MAX_ARCHIVE)
        finally:
            forget(guest, folder, Deadline.after(30))
        return "a tar of the .logarchive folder"

    return Plan(name, "system_logs.logarchive.tar", "sudo " + " ".join(argv), seconds, gather)


def workplace(guest: Guest, deadline: Deadline) -> str:
    """A new folder in the guest, of a name nobody can foresee.

    Raises:
        CommandFailed: It could not be made.
    """
    folder = f"/tmp/sysext-evidence-{secrets.token_hex(8)}"  # noqa: S108 - mkdir fails if somebody was there first
    guest.run(["mkdir", folder], deadline=deadline, quiet=True)
    return folder


def _sized(error: CommandFailed, guest: Guest, folder: str, deadline: Deadline) -> CommandFailed:
    free = None
    if error.result is not None and error.result.exit_code != -1:
        free = guest.free_bytes(folder, deadline=deadline)
    if free is not None and free < 64 << 20:
        error.seen = f"the guest's disk is full ({free:,} bytes free); {error.seen}"
    return error
