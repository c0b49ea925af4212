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
    r"OSSystemExtensionErrorDomain(?:[\s:(]|error|[Cc]ode|=){1,4}\s*=?\s*(\d{1,3})"
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
        token: What was put for `{pid}` and `{token}` in its arguments.
    """

    process: Background
    token: str
    arguments: tuple[str, ...]
    killed: bool = field(default=False)

    @property
    def exit_code(self) -> int | None:
        """Its exit code, None while it runs (or when it was started by `open`, which does not wait)."""
        return self.process.poll()

    @property
    def output(self) -> str:
        """What it has printed so far, both streams, at most the last 20,000 characters."""
        return (self.process.stdout_text + self.process.stderr_text)[-20000:]

    @property
    def error_code(self) -> int | None:
        """The OSSystemExtensionErrorDomain code in its output, if it printed one."""
        return find_error_code(self.output)

    def stop(self, deadline: Deadline) -> None:
        """End it if it still runs."""
        if self.exit_code is None:
            self.killed = True
            self.process.stop(deadline)


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
        if spec.how == "open":
            words = ["open", "-n", "-a", path]
            for pair in environment:
                words += ["--env", pair]
            words += ["--args", *arguments] if arguments else []
            process = in_user_session(guest, words, user=user, deadline=deadline)
        else:
            words = [f"{path}/Contents/MacOS/{bundle.executable.path.name}", *arguments]
            process = in_user_session(
                guest, ["env", *environment, *words] if environment else words, user=user, deadline=deadline
            )
    return Launch(process, token, arguments)


def in_user_session(guest: Guest, words: list[str], *, user: str, deadline: Deadline) -> Background:
    """Run a command in the Mach bootstrap of the console user's session, as that user; does not wait for it.

    Source: launchctl(1): `asuser` switches the session, and keeps root's credentials, hence the second sudo.
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
    return guest.start(words, deadline=deadline)


def open_url(guest: Guest, url: str, *, deadline: Deadline) -> None:
    """`open` a URL in the console user's session. Its exit code says nothing of a Settings pane: look at the screen."""
    guest.run(["open", url], deadline=deadline, check=False)


def quit_settings(guest: Guest, *, deadline: Deadline) -> None:
    """End System Settings (System Preferences on 12), without needing Automation rights."""
    guest.run(["pkill", "-x", "System Settings"], deadline=deadline, check=False)
    guest.run(["pkill", "-x", "System Preferences"], deadline=deadline, check=False)
