"""`AxChannel`: press a button through macOS's accessibility interface: System Events, told by `osascript` in the guest.

Which window is meant is decided by what was *seen*: the process that owns such windows, the title as text of the window, the
app's name in it, the button's exact name; and the press is refused in the guest if the window's texts are not those read a
moment before. What came of it is judged from the screen: System Events says "done" for presses that macOS ignored.

Only lanes whose image was given Accessibility and Automation grants may use it: in any other, the first try would itself raise
a prompt. One unanswered Automation prompt hangs System Events for every caller, so each call has a limit by the clock.
Buttons only: on the switches of Settings a press flips what is drawn and nothing else.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from harness import events
from harness.approval.applescript import Value, quote, read, write
from harness.errors import HarnessError
from harness.guest.errors import CommandFailed, CommandTimeout, Result
from harness.screen import Button, Sighting
from harness.screen.text import alike, squash
from harness.waiting import Deadline

LANES = ("instrumented", "sip-off")
"""Lanes whose images carry the grants (vm_images/scripts/tcc.sh; cirruslabs' base images)."""
LIMIT = 10.0
"""Seconds for one call of osascript."""
_INSIDE = 8
"""Seconds after which System Events is asked to give up by itself (AppleEvent timed out, -1712)."""
_MOST_TEXTS, _MOST_WINDOWS = 60, 30
_ROLES = ("approve", "deny", "open-settings", "ok", "cancel", "use-password", "other")
_CODE = re.compile(r"\((-?\d{1,6})\)\s*\Z")
_ALERTS = ("UserNotificationCenter",)
_CHANGED = 1001


class AxError(HarnessError):
    """The accessibility interface did not press.

    Attributes:
        code: The AppleScript error number; 0 where there is none.
    """

    def __init__(self, expected: str, *, seen: str = "", hint: str = "", code: int = 0) -> None:
        self.code = code
        super().__init__(expected, seen=seen, hint=hint)


class AxNotTrusted(AxError):
    """Accessibility was not granted (-25211, or -1719 "not allowed assistive access")."""


class AxNotAuthorised(AxError):
    """Automation of System Events was refused (-1743)."""


class AxHung(AxError):
    """It did not answer in time: an Automation prompt that nobody answered hangs System Events (or -1712)."""


class AxNoWindow(AxError):
    """No such process, window or button (any more): -1719 "Invalid index", -1728, -600, or texts that have changed."""


class _Runs(Protocol):
    """What is used of a guest (harness.guest.Guest)."""

    def run(
        self,
        argv: list[str],
        *,
        deadline: Deadline | None = None,
        check: bool = True,
        input: bytes | None = None,  # noqa: A002
    ) -> Result: ...

    def console_user(self, deadline: Deadline | None = None) -> str: ...


@dataclass(frozen=True)
class _Container:
    """A window or sheet, as System Events names it, its texts and its buttons' names."""

    path: str
    texts: tuple[str | None, ...]
    buttons: tuple[str | None, ...]


class AxChannel:
    """See `Channel`.

    Args:
        guest: Where the prompts are.
        lane: How the image was prepared; only `LANES` may be pressed in.
        generation: The macOS generation: 12 has System Preferences instead of System Settings.
        user: Who must be logged in at the screen: the one whose SSH session this is. System Events of another session
            would see other windows.
    """

    name = "ax"

    def __init__(self, guest: _Runs, *, lane: str, generation: int, user: str) -> None:
        self._guest = guest
        self._lane = lane
        self._settings = "System Settings" if generation >= 13 else "System Preferences"
        self._user = user
        self._console_checked = False
        self._useless = ""

    def available(self) -> str:
        """Why it cannot be used: the lane, or what an earlier press met that will not go away; empty where it can."""
        if self._lane not in LANES:
            return f"the lane {self._lane} has no Accessibility grant; {' and '.join(LANES)} have"
        return self._useless

    def press(self, seen: Sighting, button: Button, deadline: Deadline) -> None:
        """Press the button of that window.

        Raises:
            AxNotTrusted, AxNotAuthorised, AxHung: It will not do on this machine; `available` says so from now on.
            AxNoWindow: The window or its button was not found, or has gone.
            AxError: It cannot be used here, or was not given a button that it presses.
        """
        if why := self.available():
            raise AxError("a channel that may be used", seen=f"ax: {why}")
        if button.role not in _ROLES:
            raise AxError(
                f"a push button for the channel ax, not a {button.role}",
                seen=f"'{button.text}' in {seen.window}",
                hint="switches and rows of Settings are clicked with the pointer",
            )
        with events.step("ax press", window=seen.window, button=button.text) as step:
            try:
                self._check_console(deadline)
                self._press(seen, button, deadline, step)
            except (AxNotTrusted, AxNotAuthorised, AxHung) as error:
                self._useless = f"{type(error).__name__}: {error.seen}"
                raise

    def _press(self, seen: Sighting, button: Button, deadline: Deadline, step: events.Step) -> None:
        met: list[str] = []
        for process in self._owners(seen):
            containers = self._windows(process, deadline)
            if containers is None:
                met.append(f"{process} does not run")
                continue
            met += [f"{process}, {one.path}: {_shown(one)}" for one in containers] or [f"{process} has no window"]
            found = [(one, name) for one in containers if _is_it(one, seen) for name in _named(one, button)]
            if not found:
                continue
            if len(found) > 1:
                raise AxError(
                    f"one button '{button.text}'",
                    seen=f"{len(found)} in {process}: " + ", ".join(w.path for w, _ in found),
                )
            window, name = found[0]
            step.note(process=process, path=window.path, name=name)
            self._ask(_click(process, window, name), deadline)
            return
        raise AxNoWindow(
            f"a window '{_title(seen) or seen.window}' with a button '{button.text}' to press",
            seen="; ".join(met)[:600],
            hint="the windows of other processes are not looked through: see the frame for what is in front",
        )

    def _owners(self, seen: Sighting) -> tuple[str, ...]:
        """The processes whose window it may be (facts of real Macs; docs/contracts.md)."""
        if seen.window.startswith(("settings-", "prefs-")):
            return (self._settings,)
        if seen.window.startswith("password"):
            return self._settings, "SecurityAgent"
        return _ALERTS

    def _windows(self, process: str, deadline: Deadline) -> list[_Container] | None:
        """The windows and sheets of a process, or None if it does not run."""
        answer = self._ask(_survey(process), deadline)
        if answer == "absent":
            return None
        if not isinstance(answer, list) or len(answer) != 4 or not all(isinstance(part, list) for part in answer):
            raise AxError("windows as lists of texts and names", seen=repr(answer)[:300])
        texts, names, sheet_texts, sheet_names = answer
        found = list(_containers(texts, names, "window {}"))
        for index, (inner_texts, inner_names) in enumerate(
            zip(_lists(sheet_texts), _lists(sheet_names), strict=False), 1
        ):
            found += _containers(inner_texts, inner_names, f"sheet {{}} of window {index}")
        if len(found) > _MOST_WINDOWS:
            raise AxError(f"at most {_MOST_WINDOWS} windows of {process}", seen=str(len(found)))
        return found

    def _check_console(self, deadline: Deadline) -> None:
        if self._console_checked:
            return
        try:
            owner = self._guest.console_user(deadline.sub(LIMIT))
        except CommandFailed as error:
            raise AxError("to learn who is logged in at the screen", seen=str(error)) from error
        if owner != self._user:
            raise AxError(
                f"{self._user} logged in at the screen: System Events of an SSH session sees its own user's windows",
                seen=f"/dev/console is {owner or 'nobody'}'s",
            )
        self._console_checked = True

    def _ask(self, script: str, deadline: Deadline) -> Value:
        """What a script returns. The script goes by standard input: it is not in the guest's list of processes."""
        limit = deadline.sub(LIMIT)
        try:
            result = self._guest.run(
                ["/usr/bin/osascript", "-s", "s", "-"], deadline=limit, check=False, input=script.encode("ascii")
            )
        except CommandTimeout as error:
            raise AxHung(
                "System Events to answer",
                seen=f"nothing within {limit.seconds:.0f} s",
                hint="an Automation prompt that nobody answers hangs it for every caller: see the frames; "
                "the image must carry the grants (vm_images/)",
            ) from error
        except CommandFailed as error:  # an answer without end
            raise AxError("an answer of osascript of a sane size", seen=error.seen) from error
        if not result.ok:
            raise _error(result.error_text)
        return read(result.text.strip()) if result.text.strip() else None


def _error(said: str) -> AxError:
    """What osascript's error text means."""
    text = said.strip()[-400:]
    match = _CODE.search(text)
    code = int(match[1]) if match else 0
    granted = "in the lanes instrumented and sip-off the image carries the grant: vm_images/scripts/tcc.sh"
    if code == -25211 or "assistive access" in text:
        return AxNotTrusted("Accessibility granted to SSH sessions and osascript", seen=text, hint=granted, code=code)
    if code == -1743:
        return AxNotAuthorised("Automation of System Events granted", seen=text, hint=granted, code=code)
    if code == -1712:
        return AxHung("System Events to answer", seen=text, hint="is an Automation prompt on the screen?", code=code)
    if code in (-1719, -1728, -600, _CHANGED):
        return AxNoWindow("the window and its button to be there still", seen=text, code=code)
    return AxError("osascript to press the button", seen=text or "it said nothing", code=code)


def _survey(process: str) -> str:
    return f"""with timeout of {_INSIDE} seconds
tell application "System Events"
if not (exists process {quote(process)}) then return "absent"
tell process {quote(process)}
return {{value of every static text of every window, name of every button of every window, \
value of every static text of every sheet of every window, name of every button of every sheet of every window}}
end tell
end tell
end timeout
"""


def _click(process: str, window: _Container, button: str) -> str:
    return f"""with timeout of {_INSIDE} seconds
tell application "System Events"
tell process {quote(process)}
if (value of every static text of {window.path}) is not equal to {write(list(window.texts))} then
error "the window says something else now" number {_CHANGED}
end if
click button {quote(button)} of {window.path}
end tell
end tell
return true
end timeout
"""


def _lists(value: Value) -> list[Value]:
    return value if isinstance(value, list) else []


def _containers(texts: Value, names: Value, path: str) -> Iterator[_Container]:
    for index, (inside, buttons) in enumerate(zip(_lists(texts), _lists(names), strict=False), 1):
        yield _Container(path.format(index), _words(inside), _words(buttons))


def _words(value: Value) -> tuple[str | None, ...]:
    return tuple(item if isinstance(item, str) else None for item in _lists(value)[:_MOST_TEXTS])


def _title(seen: Sighting) -> str:
    """The title as it was read: the lines inside its box."""
    if seen.title is None:
        return ""
    return " ".join(line.text for line in seen.lines if line.box.overlaps(seen.title))


def _is_it(window: _Container, seen: Sighting) -> bool:
    """Whether a window's texts are those of what was seen: its title, and the app's name."""
    said = [squash(text) for text in window.texts if text]
    title = squash(_title(seen))
    if not title or not any(_alike(text, title) for text in said):
        return False
    return seen.app_name is None or any(squash(seen.app_name) in text for text in said)


def _alike(one: str, other: str) -> bool:
    """Equal; or, for long ones, the one inside the other (a body that goes on), or nearly equal (a letter misread)."""
    if one == other:
        return True
    return min(len(one), len(other)) >= 12 and (
        other in one or difflib.SequenceMatcher(None, one, other).ratio() >= 0.9
    )


def _named(window: _Container, button: Button) -> list[str]:
    """The buttons of that name; else those that differ by a misread letter, as `alike` allows for long names."""
    names = [name for name in window.buttons if name]
    return [name for name in names if squash(name) == squash(button.text)] or [
        n for n in names if alike(n, button.text)
    ]


def _shown(window: _Container) -> str:
    return f"{[text[:60] for text in window.texts if text]} with {[name[:40] for name in window.buttons if name]}"
