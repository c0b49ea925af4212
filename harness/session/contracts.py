"""What the harness relies on outside itself, as checks that can be run on a real Mac (`sysext doctor --guest`).

Each has the id of its row in docs/contracts.md. A check returns what it saw, or raises `NotSo` with what was expected.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from harness.apps.launching import in_user_session
from harness.apps.oracle import DATABASE
from harness.errors import SysextError
from harness.formats.database import parse_database
from harness.formats.launchctl import parse_launchctl_print
from harness.formats.listing import parse_listing
from harness.formats.logs import parse_log_line
from harness.formats.system import parse_csrutil, parse_sw_vers
from harness.guest import Guest
from harness.screen import VncScreen
from harness.waiting import Deadline

UUID = re.compile(r"^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$")
HOSTILE = ("plain", "two words", "quote'\"\\", "$HOME `id` $(id)", "*?[a]~", "-n", "new\nline", "é’“…", "")
"""Arguments that a wrong quoting would change."""


class NotSo(SysextError):
    """A contract does not hold on this Mac."""


@dataclass(frozen=True)
class Finding:
    """What one check found."""

    contract: str
    ok: bool
    text: str


@dataclass(frozen=True)
class Subject:
    """The Mac that is examined."""

    guest: Guest
    screen: VncScreen
    macos: str
    user: str
    deadline: Deadline


Check = Callable[[Subject], str]


def _arguments(mac: Subject) -> str:
    for word in HOSTILE:
        got = mac.guest.run(["printf", "%s", word], deadline=mac.deadline).stdout.decode()
        if got != word:
            raise NotSo(f"printf to give back {word!r}", seen=repr(got))
    return f"{len(HOSTILE)} hostile arguments arrived as they are"


def _sudo(mac: Subject) -> str:
    got = mac.guest.run(["cat"], sudo=True, input=b"stdin is the command's own", deadline=mac.deadline).stdout
    if got != b"stdin is the command's own":
        raise NotSo("sudo to leave the command's stdin alone", seen=repr(got[:80]))
    who = mac.guest.run(["id", "-u"], sudo=True, deadline=mac.deadline).text.strip()
    if who != "0":
        raise NotSo("sudo to give root", seen=f"uid {who}")
    return "root, with the password by stdin"


def _console_user(mac: Subject) -> str:
    user = mac.guest.console_user(mac.deadline)
    if user != mac.user:
        raise NotSo(f"{mac.user} logged in at the console", seen=user or "nobody", hint="auto-login of the image")
    return user


def _boot_session(mac: Subject) -> str:
    session = mac.guest.boot_session(mac.deadline)
    if UUID.match(session) is None:
        raise NotSo("kern.bootsessionuuid to be a UUID", seen=repr(session))
    return session


def _version(mac: Subject) -> str:
    version = parse_sw_vers(mac.guest.run(["sw_vers"], deadline=mac.deadline).text)
    if str(version.major) != mac.macos:
        raise NotSo(f"macOS {mac.macos}", seen=version.version, hint="set tart.images, or give the right --macos")
    return f"{version.version} ({version.build})"


def _sip(mac: Subject) -> str:
    state = parse_csrutil(mac.guest.run(["csrutil", "status"], deadline=mac.deadline).text)
    if state == "unknown":
        raise NotSo("csrutil status to say enabled, disabled or custom", seen="something else")
    return state


def _listing(mac: Subject) -> str:
    listing = parse_listing(mac.guest.run(["systemextensionsctl", "list"], deadline=mac.deadline).text)
    if listing.count is None or listing.count != len(listing.entries):
        raise NotSo(
            "a listing whose count fits its rows",
            seen=f"count {listing.count}, {len(listing.entries)} rows: {listing.notes}",
        )
    return f"{listing.count} extension(s)"


def _database(mac: Subject) -> str:
    result = mac.guest.run(["cat", DATABASE], deadline=mac.deadline, check=False)
    if result.exit_code != 0:
        if b"No such file" in result.stderr:
            return "absent (no extension was ever asked for)"
        raise NotSo("db.plist to be readable without sudo", seen=result.stderr.decode(errors="replace")[-200:])
    return f"{len(parse_database(result.stdout).extensions)} entries"


def _launchctl(mac: Subject) -> str:
    text = mac.guest.run(["launchctl", "print", "system/com.apple.sysextd"], sudo=True, deadline=mac.deadline).text
    job = parse_launchctl_print(text)
    if job is None or not job.complete or not job.endpoints:
        raise NotSo("launchctl print of com.apple.sysextd with state and endpoints", seen=text[:300])
    return f"state = {job.state}, {len(job.endpoints)} endpoints"


def _configurations(mac: Subject) -> str:
    text = mac.guest.run(["scutil", "--nc", "list"], deadline=mac.deadline).text
    if not text.startswith("Available network connection services"):
        raise NotSo("scutil --nc list to begin with its heading", seen=text[:200])
    return "heading as expected"


def _log_show(mac: Subject) -> str:
    argv = ["/usr/bin/log", "show", "--last", "1m", "--style", "ndjson", "--info"]
    lines = mac.guest.run(argv, deadline=mac.deadline, sudo=True).stdout.splitlines()
    records = [record for record in map(parse_log_line, lines) if record is not None]
    if not records:
        raise NotSo("records in the last minute of the log", seen=f"{len(lines)} lines, none of them a record")
    if b'"finished"' not in lines[-1]:
        raise NotSo("a last line with 'finished'", seen=lines[-1][:200].decode(errors="replace"))
    return f"{len(records)} records, finished line there"


def _tools(mac: Subject) -> str:
    wanted = (
        "ditto",
        "hdiutil",
        "installer",
        "xattr",
        "shasum",
        "tar",
        "pkill",
        "pgrep",
        "open",
        "sysdiagnose",
        "stat",
    )
    missing = [
        tool
        for tool in wanted
        if mac.guest.run(["/bin/sh", "-c", f"command -v {tool}"], deadline=mac.deadline, check=False).exit_code != 0
    ]
    if missing:
        raise NotSo(f"{len(wanted)} tools on PATH over SSH", seen=f"missing: {', '.join(missing)}")
    return f"{len(wanted)} tools"


def _session(mac: Subject) -> str:
    process = in_user_session(mac.guest, ["launchctl", "managername"], user=mac.user, deadline=mac.deadline)
    name = process.wait(mac.deadline).text.strip()
    if name != "Aqua":
        raise NotSo(
            "launchctl asuser to lead into the Aqua session",
            seen=name or "nothing",
            hint="apps are then started from SSH's own session",
        )
    return name


def _frame(mac: Subject) -> str:
    frame = mac.screen.frame(mac.deadline)
    if float(frame.pixels.std()) < 1.0:
        raise NotSo(
            "a picture on the framebuffer", seen="one flat colour", hint="display asleep? `caffeinate -u` in the guest"
        )
    height, width = frame.pixels.shape[:2]
    return f"{width}x{height}"


CHECKS: dict[str, Check] = {
    "ssh-arguments": _arguments,
    "ssh-sudo": _sudo,
    "console-user": _console_user,
    "boot-session": _boot_session,
    "sw-vers": _version,
    "csrutil": _sip,
    "systemextensionsctl-list": _listing,
    "db-plist": _database,
    "launchctl-print": _launchctl,
    "scutil-nc-list": _configurations,
    "log-show-ndjson": _log_show,
    "guest-tools": _tools,
    "user-session": _session,
    "vnc-framebuffer": _frame,
}
"""Contract id → check, in the order they are run."""


def examine(subject: Subject) -> Iterator[Finding]:
    """Run every check; one that fails never stops the next."""
    for name, check in CHECKS.items():
        try:
            yield Finding(name, ok=True, text=check(subject))
        except SysextError as error:
            yield Finding(name, ok=False, text=str(error))
        except Exception as error:  # noqa: BLE001 - a Mac that answers in an unforeseen way is a finding, not a crash
            yield Finding(name, ok=False, text=f"{type(error).__name__}: {error}")
