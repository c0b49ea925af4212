"""The walk through Settings: observe → act → verify. There is no fixed script: whatever window is in front decides what is done
next, each step is tried at most twice by each channel, and the oracle is asked after every one.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from harness import events
from harness.approval.observer import Observer
from harness.approval.passwords import PasswordTyper
from harness.approval.past import LISTS
from harness.approval.pressing import EFFECT, TRIES, Presser
from harness.approval.records import Step
from harness.approval.routes import ENDING, ENDS, PROMPTS, settings_url
from harness.screen import Box, Button, Frame, Screen, Sighting, changed_regions
from harness.screen.frames import scrolled_by
from harness.screen.recognise import is_app
from harness.screen.recognise_settings import find_more
from harness.screen.sighting import MENU
from harness.waiting import Deadline

CONSENT_WINDOWS = ("ne-proxy-consent", "ne-vpn-consent", "ne-filter-consent")
PASSWORD = "password-prompt"  # noqa: S105 - a window class
_SHEET = "settings-extensions-sheet"
_PRIVACY = ("settings-privacy-security", "prefs-security-privacy")
_LOGIN_ITEMS = "settings-login-items-extensions"
CALM = 0.15
PATIENCE = 15.0
"""Seconds without a window to act on after which Settings is opened by its URL, and after that given up: the first start of
Settings on a fresh Mac takes its time, and quitting it meanwhile only begins it anew."""
ROWS_COME = 6.0
"""Seconds that the rows of a sheet may take to come, once it is there."""
LANDS = 5.0
"""Seconds after which a page of macOS 13 and 14 that shows nothing to act on is taken not to have landed where it should."""
LOOK_FULLY = 4.0
"""Seconds without a window to act on after which the whole screen is read, once."""
STUCK = 2.0
"""Seconds with a known page on which there is nothing to act on, after which the whole screen is read, once."""
_MOST_SCROLLS = 12
CANCELLED = "the password window was cancelled"
_TYPED = "password/typed"
_MOVED = "another app's prompt/moved"
_MENUS = "menus opened"
_DONE = {"on": "switched on", "off": "switched off", "removed": "removed"}
NOT_OFFERED = "Settings does not offer to remove it"
"""How the reason begins where a walk that was to remove an extension has found no way to ask for it."""
_NOTCHES = (4, 60)
"""Of the wheel: the first time, and at most. What a notch does is the Mac's affair (from a pixel to a hundred): see `scroll`."""


@dataclass
class Walk:
    """What one walk remembers."""

    route: str
    wanted: str = "on"
    """What the extension is to be: "on" (its switch; approve it), "off" or "removed"."""
    cancel: bool = False
    """The first password window is cancelled, and that is the end."""
    tries: Counter[str] = field(default_factory=Counter)
    steps: list[Step] = field(default_factory=list)
    before: Frame | None = None
    opened: int = 0
    scrolls: int = 0
    notches: int = _NOTCHES[0]
    idle_since: float = 0.0
    looked_fully: bool = False
    why: str = "no known window came up"
    hopeless: str = ""
    missed: Sighting | None = None
    """A window whose button was to be pressed, and had gone or moved."""

    @property
    def ends(self) -> frozenset[str | None]:
        """The states that it walks towards (None: no entry)."""
        return ENDS[self.wanted]

    @property
    def ignored(self) -> tuple[str, ...]:
        """Windows that are not for this walk: consents are answered by whoever expects them."""
        return CONSENT_WINDOWS if self.wanted == "removed" else (*CONSENT_WINDOWS, MENU)


class Walker:
    """Walks through Settings for one app on one screen.

    Args:
        names: As macOS may list the extension: the app's name first, then its developer's.
        oracle: The extension's state ("activated_waiting_for_user"), or None for no entry.
        ours: Whether a prompt is about our app.
    """

    def __init__(
        self,
        *,
        screen: Screen,
        observer: Observer,
        presser: Presser,
        typer: PasswordTyper,
        names: Sequence[str],
        extension_kind: str,
        generation: int,
        oracle: Callable[[], str | None],
        guest_open: Callable[[str], None],
        quit_settings: Callable[[], None],
        ours: Callable[[Sighting], bool],
    ) -> None:
        self.screen = screen
        self.observer = observer
        self.presser = presser
        self.typer = typer
        self.names = tuple(names)
        self.kind = extension_kind
        self.generation = generation
        self.oracle = oracle
        self.guest_open = guest_open
        self.quit_settings = quit_settings
        self.ours = ours

    def run(self, walk: Walk, deadline: Deadline) -> bool:
        """Until the oracle says enabled (or disabled, where that is wanted: True), or nothing is left to try, or the deadline
        (False; `walk.why` says why).
        """
        while True:
            state = self.oracle()
            if state in walk.ends:
                walk.why = f"the oracle says {state or 'that it is gone'}"
                return True
            if walk.hopeless:
                walk.why = walk.hopeless
                return False
            if deadline.expired:
                walk.why = f"not within {deadline.seconds:g} s; {walk.why}"
                return False
            if state is not None and state.startswith(ENDING.get(walk.wanted, ())):
                self._wait_for_its_end(walk, state, deadline)
                continue
            frame = self.screen.settle(deadline.sub(2.0), quiet=CALM)
            idle = time.monotonic() - walk.idle_since
            full = idle > LOOK_FULLY and not walk.looked_fully
            walk.looked_fully = walk.looked_fully or full
            seen = self.observer.look(frame, before=walk.before, full=full, ignore=walk.ignored)
            self._tell_if_gone(walk, seen)
            if (
                seen is not None
                and seen.advice is None
                and seen.window in LISTS
                and idle > STUCK
                and not walk.looked_fully
            ):
                walk.looked_fully = True  # what has changed may be only a part of what matters: an alert over its edge
                seen = self.observer.read_all(frame, ignore=walk.ignored) or seen
            if self._uncover(walk, seen, deadline):
                continue
            if seen is None or not self.act(walk, seen, deadline):
                self._wait(walk, frame, deadline)

    def _uncover(self, walk: Walk, seen: Sighting | None, deadline: Deadline) -> bool:
        """Another app's prompt that covers a part of what is to be read is moved, once: what comes up next may lie under it."""
        foreign = self.observer.foreign
        if foreign is None or seen is None or foreign is seen or walk.tries[_MOVED]:
            return False
        if seen.advice is not None and not foreign.box.overlaps(seen.box):
            return False
        walk.tries[_MOVED] += 1
        return self.presser.move_aside(foreign, deadline)

    def act(self, walk: Walk, seen: Sighting, deadline: Deadline) -> bool:
        """Do what the window asks for; False if there is nothing to do but wait."""
        if seen.window in PROMPTS:
            return self._act_on_prompt(walk, seen, deadline)
        if seen.window == PASSWORD:
            return self._act_on_password(walk, seen, deadline)
        walk.why = f"{seen.window}: {seen.why}"
        if seen.window == _SHEET:
            return self._act_on_sheet(walk, seen, deadline)
        if seen.window == MENU:
            remove = seen.button("remove") if walk.tries[_MENUS] else None  # a menu that was not asked for is not ours
            return remove is not None and self._press(walk, seen, remove, deadline)
        if seen.advice is not None and not (walk.wanted != "on" and seen.window in _PRIVACY):  # there it says Allow
            return self._press(walk, seen, seen.advice, deadline)
        if seen.window == _LOGIN_ITEMS or seen.window in _PRIVACY:
            return self.scroll(walk, seen.window, seen.box)
        return False

    def _act_on_prompt(self, walk: Walk, seen: Sighting, deadline: Deadline) -> bool:
        if not self.ours(seen):
            walk.why = f"a prompt for “{seen.app_name}” is in front"
            return self.presser.move_aside(seen, deadline)
        if walk.route == "prompt" and walk.wanted == "on":
            button = seen.advice
        else:
            # It covers the page. OK only closes it; that it was there is not for this walk to judge.
            events.event("prompt-in-the-way", window=seen.window)
            button = seen.button("ok")
        if button is None:
            walk.why = f"{seen.window}: {seen.why}"
            return False
        return self._press(walk, seen, button, deadline)

    def _act_on_sheet(self, walk: Walk, seen: Sighting, deadline: Deadline) -> bool:
        rows = [button for button in seen.buttons if button.role == "switch" and self._named(button.text)]
        idle = time.monotonic() - walk.idle_since
        if len(rows) > 1:
            walk.hopeless = (
                f"{len(rows)} rows are named {' and '.join(dict.fromkeys(f'“{row.text}”' for row in rows))}: which one is "
                "ours cannot be told"
            )
            return True
        ours = rows[0] if rows else None
        if ours is not None and ours.state == walk.wanted:
            done = next((button for button in seen.buttons if button.role == "other"), None)
            if idle > 2.0 and done is not None:  # some releases take the change only when the sheet is closed
                return self._press(walk, seen, done, deadline)
            return False
        if walk.wanted == "removed" and ours is not None:
            return self._open_menu(walk, seen, ours, deadline)
        press = seen.advice if walk.wanted == "on" else ours
        if ours is not None and press is not None and press.state:
            return self._press(walk, seen, press, deadline)
        if ours is None and idle > 2.0 and walk.scrolls < _MOST_SCROLLS:
            return self.scroll(walk, seen.window, seen.box)
        if ours is None and idle > ROWS_COME:
            walk.hopeless = (
                f"the sheet has no row that can be {_DONE[walk.wanted]}: {seen.why}" if walk.opened > 1 else ""
            )
            if not walk.hopeless:
                self.open(walk)
                return True
        return False

    def _open_menu(self, walk: Walk, seen: Sighting, row: Button, deadline: Deadline) -> bool:
        """Press the (⋯) button of our row. A menu in which nothing is known is opened twice, then it is told."""
        more = find_more(seen.frame, row)
        if more is None:
            if time.monotonic() - walk.idle_since > ROWS_COME:
                walk.hopeless = f"{NOT_OFFERED}: no (⋯) button in the row of “{row.text}”"
            return bool(walk.hopeless)
        if walk.tries[_MENUS] >= TRIES:
            walk.hopeless = f"{NOT_OFFERED}: nothing that is known came up behind the (⋯) button of “{row.text}”, pressed {TRIES} times"
            return True
        before = len(walk.steps)
        acted = self._press(walk, seen, more, deadline)
        walk.tries[_MENUS] += len(walk.steps) > before  # not where it had moved meanwhile
        return acted

    def _named(self, text: str) -> bool:
        """Whether a row is called as the app is, or its developer."""
        return any(is_app(text, name) for name in self.names)

    def _cancel_password(self, walk: Walk, seen: Sighting, deadline: Deadline) -> bool:
        """Press Cancel, as somebody does who knows no administrator's password; the walk ends once the window has gone."""
        cancel = seen.button("cancel")
        if cancel is None:
            walk.why = f"{PASSWORD}: no Cancel in sight"
            return False
        before = walk.tries.total()
        acted = self._press(walk, seen, cancel, deadline)
        if acted and not walk.hopeless and walk.missed is None and walk.tries.total() > before:
            walk.hopeless = CANCELLED
        return acted

    def _act_on_password(self, walk: Walk, seen: Sighting, deadline: Deadline) -> bool:
        if walk.cancel:
            return self._cancel_password(walk, seen, deadline)
        use = seen.button("use-password")
        if use is not None:
            return self._press(walk, seen, use, deadline)
        confirm = seen.button("approve") if seen.advice is not None else None
        if confirm is None and seen.button("cancel") is not None:
            confirm = seen.button("ok")  # SecurityAgent's; elsewhere OK only closes, so it is never advised
        if confirm is None or seen.field is None:
            walk.why = f"{PASSWORD}: {seen.why}"
            return False
        if walk.tries[_TYPED] >= TRIES:
            walk.hopeless = f"the password was not accepted ({TRIES} tries)"
            return True
        walk.tries[_TYPED] += 1
        typed = self.typer.type_into(seen, deadline)
        if typed.gone:
            walk.tries[_TYPED] -= 1
            walk.missed = seen
            return True
        if typed.frame is None:
            walk.why = typed.why
            events.event("degraded", what="the password was not typed", reason=typed.why)
            if walk.tries[_TYPED] >= TRIES:
                walk.hopeless = typed.why
            return True
        walk.steps.append(Step("type", PASSWORD, "password", seen.field.centre))
        return self._press(walk, seen, confirm, deadline, fresh=typed.frame)

    def answer_password(self, walk: Walk, seen: Sighting, deadline: Deadline) -> bool:
        """A password window that is not part of Settings (after a consent). False: there is nothing that could be done."""
        return self._act_on_password(walk, seen, deadline)

    def scroll(self, walk: Walk, window: str, box: Box) -> bool:
        """Turn the wheel over a window, so far that nothing is passed over. False at the end of the page."""
        if walk.scrolls >= _MOST_SCROLLS:
            return False
        walk.scrolls += 1
        x, y = box.x0 + box.width * 2 // 3, box.centre[1]
        before = self.screen.frame(Deadline.after(2.0))
        self.screen.scroll(x, y, walk.notches)
        walk.steps.append(Step("scroll", window, "down", (x, y)))
        changed = self.presser.changed(before, box, Deadline.after(1.0))
        if changed is None:
            walk.scrolls = _MOST_SCROLLS  # the end of the page
            return False
        column = Box(x - box.width // 6, box.y0, x + box.width // 6, box.y1)
        moved = scrolled_by(before, self.screen.settle(Deadline.after(1.0), quiet=CALM), column)
        if moved is not None:  # the next time by a third of what is in sight
            walk.notches = min(max(walk.notches * (box.height // 3) // moved, 1), _NOTCHES[1])
        return True

    def _press(
        self, walk: Walk, seen: Sighting, button: Button, deadline: Deadline, *, fresh: Frame | None = None
    ) -> bool:
        foreign = self.observer.foreign
        if foreign is not None and self.presser.tried(seen, button, walk.tries):
            walk.why = f"the prompt of “{foreign.app_name}” may cover what has come of it"
            if self.presser.move_aside(foreign, deadline):
                return True
        pressed = self.presser.press(seen, button, deadline, walk.tries, fresh=fresh)
        if pressed.kind == "moved":
            walk.missed = seen
            return True  # look again
        if pressed.kind == "exhausted":
            walk.hopeless = f"'{button.text}' in {seen.window} was clicked {TRIES} times, and nothing came of it"
            return True
        if pressed.step is not None:
            walk.steps.append(pressed.step)
            if seen.window != PASSWORD:
                walk.tries[_TYPED] = 0
        if pressed.kind == "effect":
            walk.before = pressed.before
        self._progress(walk)
        return True

    def _tell_if_gone(self, walk: Walk, seen: Sighting | None) -> None:
        """A window that was to be answered is not there any more: somebody else did something, and that is said."""
        missed, walk.missed = walk.missed, None
        if missed is not None and (seen is None or seen.window != missed.window):
            events.event(
                "window-gone",
                window=missed.window,
                now=seen.window if seen else None,
                reason="it went before its button was pressed: answered by somebody else, or by its owner",
            )

    def _wait_for_its_end(self, walk: Walk, state: str, deadline: Deadline) -> None:
        """Switched off or removed, and its process has not ended yet: there is nothing to press; it ends, or it hangs."""
        walk.why = f"it was {_DONE[walk.wanted]}, and the state stays {state}"
        if time.monotonic() - walk.idle_since > PATIENCE:
            walk.hopeless = walk.why
            return
        self.screen.settle(deadline.sub(0.5), quiet=CALM)

    def _wait(self, walk: Walk, frame: Frame, deadline: Deadline) -> None:
        """Nothing to do: wait for news; after a while open the page (again) by its URL; then give up."""
        idle = time.monotonic() - walk.idle_since
        if idle > LANDS and self.generation < 15 and walk.before is not None:
            for region in changed_regions(walk.before, frame)[:1]:  # the page may not have landed at its Security part
                if self.scroll(walk, "", region):
                    return
        if idle > PATIENCE:
            if walk.opened > 1:
                walk.hopeless = walk.why
                return
            events.event("degraded", what="Settings opened by its URL", reason=walk.why)
            self.open(walk)
            return
        later = self.screen.wait_for_change(frame, deadline.sub(0.5))
        if later is not None:
            walk.looked_fully = False

    def open(self, walk: Walk) -> None:
        """Open the page by its URL. Quit Settings first: a window that is open may stay where it is for the same URL."""
        url = settings_url(self.generation, self.kind)
        with events.step("open Settings", url=url):
            self.quit_settings()
            self.screen.settle(Deadline.after(1.0), quiet=CALM)
            before = self.screen.frame(Deadline.after(5.0))
            self.guest_open(url)
            walk.opened += 1
            walk.before = before
            walk.steps.append(Step("open", "", url, channel="guest"))
            self.presser.changed(before, before.box, Deadline.after(EFFECT))
        walk.scrolls = 0
        self._progress(walk)

    def _progress(self, walk: Walk) -> None:
        walk.idle_since = time.monotonic()
        walk.looked_fully = False
