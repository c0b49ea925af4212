"""Start the app in the console user's session, as that user would, and know how it ended."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field

from harness import events
from harness.bundles.app import AppBundle
from harness.config import LaunchSpec
from harness.errors import EnvironmentFailure
from harness.guest import Background, Guest
from harness.waiting import Deadline

ERROR_DOMAIN = re.compile(
    # Error Domain=OSSystemExtensionErrorDomain Code=4 "(null)" | (OSSystemExtensionErrorDomain error 4.) | …:4 | code=4
    r"OSSystemExtensionErrorDomain(?:[\s:(]|error|[Cc]ode|=){1,4}\s*=?\s*(\d{1,3})(?!\d)"
)
QUIT_SETTINGS = (
    'pkill -x "System (Settings|Preferences)" || exit 0; n=0; '
    'while pgrep -x "System (Settings|Preferences)" >/dev/null; do '
    'n=$((n+1)); if [ $n -gt 50 ]; then pkill -KILL -x "System (Settings|Preferences)"; exit 0; fi; sleep 0.1; done'
)
CODE_NAMES = {
    1: "unknown",
    2: "missingEntitlement",
    3: "unsupportedParentBundleLocation",
    4: "extensionNotFound",
    5: "extensionMissingIdentifier",
    6: "duplicateExtensionIdentifer",
    7: "unknownExtensionCategory",
    8: "codeSignatureInvalid",
    9: "validationFailed",
    10: "forbiddenBySystemPolicy",
    11: "requestCanceled",
    12: "requestSuperseded",
    13: "authorizationRequired",
}
"""OSSystemExtensionError codes (Apple's SystemExtensions documentation, their spelling)."""


@dataclass
class Launch:
    """The app under way.

    Attributes:
        process: The app, or the `open` that starts it.
        token: What was put for `{pid}` and `{token}` in its arguments.
        executable: The guest path of the program.
        opened: Whether `open` started it: then the app's own end cannot be seen.
    """

    guest: Guest
    process: Background
    token: str
    arguments: tuple[str, ...]
    executable: str
    opened: bool = False
    killed: bool = field(default=False)

    @property
    def exit_code(self) -> int | None:
        """Its exit code, None while it runs. When it was started by `open`: None, or what `open` failed with.

        Raises:
            ConnectionLost: Nothing is known of it any more.
        """
        code = self.process.poll()
        return None if self.opened and code == 0 else code

    @property
    def output(self) -> str:
        """What it has printed so far, both streams, at most the last 20,000 characters."""
        return (self.process.stdout_text + self.process.stderr_text)[-20000:]

    @property
    def error_code(self) -> int | None:
        """The OSSystemExtensionErrorDomain code in its output, if it printed one."""
        # Each stream on its own: what one of them chatters must not push the code out of sight.
        for text in (self.process.stdout_text, self.process.stderr_text):
            code = find_error_code(text)
            if code is not None:
                return code
        return None

    def stop(self, deadline: Deadline) -> None:
        """End it if it still runs."""
        if self.process.running:
            self.killed = True
            self.process.stop(deadline)
        if self.opened:
            self.killed = True
            pattern = "^" + "".join(f"[{char}]" if char in ".*+?()|{}$" else char for char in self.executable)
            self.guest.run(["pkill", "-f", pattern], deadline=deadline, sudo=True, check=False)


def find_error_code(text: str) -> int | None:
    """The first OSSystemExtensionErrorDomain code in a text, in any of the forms that apps print."""
    match = ERROR_DOMAIN.search(text)
    return int(match.group(1)) if match is not None else None


def launch(guest: Guest, bundle: AppBundle, path: str, spec: LaunchSpec, *, deadline: Deadline) -> Launch:
    """Start the app at guest path `path`.

    `exec` runs the bundle's executable inside the console user's session (`launchctl asuser`, then that user), so that its
    exit code is seen. Where launchctl refuses that (seen on a macOS 26 guest: "Could not switch to audit session"), it is
    started in the SSH session instead, and an event says so. `open` goes through Launch Services.

    Raises:
        EnvironmentFailure: Nobody is logged in at the console.
    """
    user = guest.console_user(deadline)
    if user in ("", "root", "loginwindow"):
        raise EnvironmentFailure(
            f"a user logged in at the console of {guest.name}",
            seen=f"/dev/console belongs to {user or 'nobody'}",
            hint="check the image's auto-login",
        )
    token = str(10000 + secrets.randbelow(80000))
    arguments = tuple(argument.replace("{pid}", token).replace("{token}", token) for argument in spec.arguments)
    environment = [f"{name}={value}" for name, value in spec.environment.items()]
    with events.step("launch", app=bundle.name, how=spec.how, arguments=list(arguments)):
        executable = f"{path}/Contents/MacOS/{bundle.executable.path.name}"
        if spec.how == "open":
            words = ["open", "-n", "-a", path]
            for pair in environment:
                words += ["--env", pair]
            words += ["--args", *arguments] if arguments else []
            process = in_user_session(guest, words, user=user, deadline=deadline)
        else:
            words = [executable, *arguments]
            process = in_user_session(
                guest, ["env", *environment, *words] if environment else words, user=user, deadline=deadline
            )
    return Launch(guest, process, token, arguments, executable, opened=spec.how == "open")


def in_user_session(guest: Guest, words: list[str], *, user: str, deadline: Deadline) -> Background:
    """Run a command in the Mach bootstrap of the console user's session, as that user; does not wait for it.

    Source: launchctl(1): `asuser` switches the session, and keeps root's credentials, hence the second sudo. Where it
    refuses, the command is started in the SSH session, and an event says so.
    """
    uid = guest.run(["id", "-u", user], deadline=deadline).text.strip()
    probe = guest.run(
        ["launchctl", "asuser", uid, "sudo", "-u", user, "true"], deadline=deadline, sudo=True, check=False
    )
    if probe.exit_code == 0:
        return guest.start(["launchctl", "asuser", uid, "sudo", "-u", user, "--", *words], sudo=True, deadline=deadline)
    events.event(
        "degraded",
        what="started in the SSH session, not by launchctl asuser",
        reason=probe.stderr.decode(errors="replace")[-200:],
    )
    other = [] if user == guest.settings.user else ["-u", user, "--"]
    return guest.start(["sudo", *other, *words] if other else words, sudo=bool(other), deadline=deadline)


def open_url(guest: Guest, url: str, *, deadline: Deadline) -> None:
    """`open` a URL, which Launch Services brings to the session of whoever is logged in here and at the console.

    That it ended with 0 says nothing of a Settings pane: look at the screen. If it did not, an event says why.
    """
    words = ["open", url]
    user = guest.desktop_user
    if user is not None and user != guest.settings.user:  # `open` asks the Launch Services of the session it runs in
        uid = guest.run(["id", "-u", user], deadline=deadline).text.strip()
        words = ["launchctl", "asuser", uid, "sudo", "-u", user, "--", *words]
    result = guest.run(words, deadline=deadline, check=False, sudo=len(words) > 2)
    if result.exit_code != 0:
        reason = result.stderr.decode(errors="replace").strip()[-300:] or f"exit code {result.exit_code}"
        events.event("degraded", what=f"`open {url}` failed", reason=reason)


def quit_settings(guest: Guest, *, deadline: Deadline) -> None:
    """End System Settings, without needing Automation rights; returns once it has gone (killed, if it takes over 5 s).

    A page that is opened while it still goes down would be lost with it.
    """
    guest.script(
        QUIT_SETTINGS, deadline=deadline, check=False, sudo=guest.desktop_user not in (None, guest.settings.user)
    )
