"""Who is logged in at the screen: the automatic login, the session's processes, a second user behind the first.

`/etc/kcpassword` and `autoLoginUser` as public image templates write them. A second session (fast user switching) keeps its
processes; alerts and apps belong to whoever is in front.
"""

from __future__ import annotations

import plistlib
from typing import TYPE_CHECKING

from harness.simulator.guest.launchd import Job
from harness.simulator.interfaces import Stage

if TYPE_CHECKING:
    from harness.simulator.guest.core import MacGuest

LOGIN_SETTINGS = "/Library/Preferences/com.apple.loginwindow.plist"
KCPASSWORD = "/private/etc/kcpassword"
NOBODY = "root"
"""Owner of /dev/console while nobody is logged in."""
_KEY = bytes.fromhex("7d895223d2bcddeaa3b91f")
_AGENTS = {
    "loginwindow": "/System/Library/CoreServices/loginwindow.app/Contents/MacOS/loginwindow",
    "Dock": "/System/Library/CoreServices/Dock.app/Contents/MacOS/Dock",
    "Finder": "/System/Library/CoreServices/Finder.app/Contents/MacOS/Finder",
    "SystemUIServer": "/System/Library/CoreServices/SystemUIServer.app/Contents/MacOS/SystemUIServer",
    "UserNotificationCenter": "/System/Library/CoreServices/UserNotificationCenter.app/Contents/MacOS/UserNotificationCenter",
}


class Sessions:
    """The sessions of one boot.

    Attributes:
        users: Who is logged in, in the order of their logins.
    """

    def __init__(self, guest: MacGuest, image_user: str) -> None:
        self._guest = guest
        self._image_user = image_user
        self.users: list[str] = []
        self.since: dict[str, str] = {}

    def automatic(self) -> str | None:
        """Whom the Mac logs in by itself; None: it stays at the login window. Images log their administrator in, unless a setting says
        another one; a wrong password in kcpassword logs nobody in.
        """
        try:
            settings = plistlib.loads(self._guest.disk.path(LOGIN_SETTINGS).read_bytes())
            name = settings.get("autoLoginUser") if isinstance(settings, dict) else None
        except Exception:  # noqa: BLE001 - absent or damaged: as the image has it
            return self._image_user
        if not name:
            return self._image_user if "autoLoginUser" not in settings else None
        try:
            hidden = self._guest.disk.path(KCPASSWORD).read_bytes()[:1024]
        except OSError:
            return str(name) if name == self._image_user else None
        plain = bytes(byte ^ _KEY[index % len(_KEY)] for index, byte in enumerate(hidden)).split(b"\0")[0]
        return str(name) if self._guest.accounts.check(str(name), plain.decode("utf-8", "replace")) else None

    def log_in(self, user: str) -> None:
        """A user's session begins, in front of all others."""
        guest = self._guest
        uid = guest.accounts.uid(user)
        if user not in self.users:
            self.users.append(user)
            self.since[user] = guest.clock.now().strftime("%b %e %H:%M")
            guest.accounts.make_home(user)
            for name, path in _AGENTS.items():
                if len(self.users) == 1:
                    guest.launchd.register(
                        Job(f"com.apple.{name}", path, domain=f"gui/{uid}", type="LaunchAgent", user=user,
                            endpoints=(f"com.apple.{name}.xpc",))
                    )  # fmt: skip
                else:
                    guest.processes.spawn(name, path, user)
        self.switch(user)

    def switch(self, user: str) -> None:
        """Another session comes to the front."""
        guest = self._guest
        guest.console_user = user
        guest.journal.write("console-user", user=user, sessions=list(self.users))
        guest.display.set_stage(Stage.DESKTOP)

    def clear(self) -> None:
        """Power-off."""
        self.users.clear()
        self.since.clear()
        self._guest.console_user = NOBODY
