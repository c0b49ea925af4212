"""A second account in a guest, and whose desktop is up after the next start.

Sources: sysadminctl(8) (`-addUser … -password -`: asked for on standard input), defaults(1) and the public templates for
hosted runners (`/etc/kcpassword` with `autoLoginUser` of com.apple.loginwindow). Passwords go by standard input only.
"""

from __future__ import annotations

import re

from harness import events
from harness.errors import EnvironmentFailure, UsageError
from harness.events import SECRETS
from harness.guest.guest import Guest
from harness.waiting import Deadline

_KEY = bytes((0x7D, 0x89, 0x52, 0x23, 0xD2, 0xBC, 0xDD, 0xEA, 0xA3, 0xB9, 0x1F))
_BLOCK = 12
_NAME = re.compile(r"[a-z][a-z0-9]{0,30}")
_SEEN = ("DidSeeCloudSetup", "DidSeePrivacy", "DidSeeSiriSetup", "DidSeeAppearanceSetup", "DidSeeScreenTime", "DidSeeTouchIDSetup", "DidSeeTrueTone")  # fmt: skip
"""What Setup Assistant has shown to an account already (keys of com.apple.SetupAssistant): else it stands in front of the desktop
at the first login."""


def obfuscated(password: str) -> bytes:
    """The content of `/etc/kcpassword` for a password: XORed with a fixed key, filled up with zeros to whole blocks of 12.
    No secret is kept by it; that is how macOS wants it.
    """
    plain = password.encode() + b"\0"
    plain += bytes(-len(plain) % _BLOCK)
    return bytes(byte ^ _KEY[index % len(_KEY)] for index, byte in enumerate(plain))


def exists(guest: Guest, name: str, deadline: Deadline) -> bool:
    """Whether there is such an account."""
    return guest.run(["id", "-u", name], deadline=deadline, check=False, quiet=True).ok


def is_administrator(guest: Guest, name: str, deadline: Deadline) -> bool:
    """Whether an account is in the group admin.

    Raises:
        CommandFailed: There is no such account.
    """
    return "admin" in guest.run(["id", "-Gn", name], deadline=deadline, quiet=True).text.split()


def add_user(guest: Guest, name: str, password: str, deadline: Deadline, *, administrator: bool = False) -> None:
    """Make an account, unless it is there already.

    Args:
        guest: The Mac.
        name: Small letters and digits, a letter first.
        password: Its password; masked from now on, and never in an argument.
        deadline: For all of it.
        administrator: Whether it is in the group admin.

    Raises:
        UsageError: A name that macOS would not take.
        EnvironmentFailure: It was not made, or is not what it should be (sysadminctl ends with 0 also when it fails).
    """
    if not _NAME.fullmatch(name):
        raise UsageError("an account name of small letters and digits", seen=repr(name[:60]))
    SECRETS.add(password)
    with events.step("add user", user=name, administrator=administrator):
        if not exists(guest, name, deadline):
            words = ["sysadminctl", "-addUser", name, "-fullName", name.capitalize(), "-password", "-"]
            made = guest.run(
                [*words, "-admin"] if administrator else words,
                sudo=True,
                input=f"{password}\n".encode(),
                check=False,
                deadline=deadline,
            )
            if not exists(guest, name, deadline):
                said = (made.text + made.stderr.decode(errors="replace")).strip()
                raise EnvironmentFailure(
                    f"an account {name} on {guest.name}",
                    seen=f"sysadminctl ended with {made.exit_code}: {SECRETS.mask(said)[-300:] or 'no word'}",
                    hint="run `sudo sysadminctl -addUser …` there by hand",
                )
        if is_administrator(guest, name, deadline) != administrator:
            raise EnvironmentFailure(
                f"{name} on {guest.name} to be {'an administrator' if administrator else 'a standard user'}",
                seen=f"it is {'not' if administrator else ''} in the group admin".replace("  ", " "),
                hint="see `id -Gn` there",
            )


def log_in_at_start(guest: Guest, name: str, password: str, deadline: Deadline) -> None:
    """Have an account logged in by itself from the next start on, with no Setup Assistant in front of its desktop.

    Raises:
        CommandFailed: It cannot be set.
    """
    SECRETS.add(password)
    with events.step("log in at start", user=name):
        guest.script(
            "umask 077; cat > /etc/kcpassword; chmod 600 /etc/kcpassword",
            input=obfuscated(password),
            sudo=True,
            deadline=deadline,
        )
        guest.run(
            ["defaults", "write", "/Library/Preferences/com.apple.loginwindow", "autoLoginUser", name],
            sudo=True,
            deadline=deadline,
        )
        skipped = guest.script(
            'createhomedir -c -u "$1" >/dev/null 2>&1; shift; user="$1"; shift; '
            'for key in "$@"; do sudo -u "$user" defaults write com.apple.SetupAssistant "$key" -bool true || exit 1; done',
            name,
            name,
            *_SEEN,
            sudo=True,
            check=False,
            deadline=deadline,
        )
        if not skipped.ok:
            events.event(
                "degraded",
                what=f"Setup Assistant may come up for {name}",
                reason=skipped.stderr.decode(errors="replace")[-200:],
            )
