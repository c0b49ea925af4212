"""The walk through the prompts: observe → act → verify, at most two tries for a step, the oracle asked after each.

There is no fixed script: whatever window is in front decides what is done next. A click is not an approval; only the oracle
says that the extension is enabled.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from harness import events
from harness.approval.observer import Observer
from harness.approval.routes import ENABLED, PROMPTS, settings_url
from harness.errors import EnvironmentFailure, HarnessError, ProductFailure
from harness.screen import Box, Button, Catalog, Frame, Reader, Screen, Sighting, changed_regions, is_black
from harness.screen.frames import same, scrolled_by
from harness.screen.needles import Needles
from harness.screen.recognise import is_app
from harness.waiting import Deadline

CONSENT_WINDOWS = ("ne-proxy-consent", "ne-vpn-consent", "ne-filter-consent")
_PASSWORD = "password-prompt"  # noqa: S105 - a window class
_SHEET = "settings-extensions-sheet"
_PRIVACY = ("settings-privacy-security", "prefs-security-privacy")
_LOGIN_ITEMS = "settings-login-items-extensions"
TRIES = 2
"""How often one step is tried."""
EFFECT = 5.0
"""Seconds within which a click must change what was clicked."""
REFUSED = 2.0
"""Seconds after which an alert that reacted to a click, but is still there, counts as staying."""
_CALM = 0.15
_FRESH = 10.0
"""Seconds within which a living screen answers; one that does not is the environment's failure, not a missing prompt."""
PATIENCE = 15.0
"""Seconds without a window to act on after which Settings is opened by its URL, and after that given up: the first start of
Settings on a fresh Mac takes its time, and quitting it meanwhile only begins it anew."""
ROWS_COME = 6.0
"""Seconds that the rows of a sheet may take to come, once it is there."""
_MOST_SCROLLS = 12
_NOTCHES = (4, 60)
"""Of the wheel: the first time, and at most. What a notch does is the Mac's affair (from a pixel to a hundred): see `_scroll`."""


@dataclass(frozen=True)
class Step:
    """One thing that was done: "click", "type", "scroll", "open", "wait"."""

    what: str
    window: str
    target: str
    at: tuple[int, int] | None = None


@dataclass(frozen=True)
class Approval:
    """How a walk ended.

    Attributes:
        approvable: The oracle said enabled. None only from `run` where nothing was tried.
        route: "prompt" or "url": how Settings was entered.
        why: In words.
        prompt_appeared: Known from `run`; None where it was not asked.
        frames: Pictures of the key steps.
    """

    approvable: bool | None
    route: str
    why: str
    steps: tuple[Step, ...] = ()
    frames: tuple[Path, ...] = ()
    prompt_appeared: bool | None = None


@dataclass
class _Walk:
    """What one walk remembers."""

    route: str
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


class Approver:
    """Approves one app's extension on one Mac's screen.

    Args:
        screen: Where to look and click.
        reader: Reads text.
        app_name: As macOS shows it.
        extension_kind: "network", "driver" or "endpoint-security".
        generation: The macOS generation: 13, 14, 15, 26.
        password: Of an administrator; typed, never logged.
        user: The administrator's name, where a sheet asks for it.
        oracle: The extension's state ("activated_waiting_for_user"), or None for no entry.
        guest_open: Opens a Settings URL in the guest.
        quit_settings: Ends System Settings in the guest.
        folder: Where pictures go.
        needles: Prompts that were answered before; None: every window is read.
        on_prompt_missing: Called by `run` as soon as the prompt is found missing, before anything is touched.
    """

    def __init__(
        self,
        *,
        screen: Screen,
        reader: Reader,
        app_name: str,
        extension_kind: str,
        generation: int,
        password: str,
        user: str,
        oracle: Callable[[], str | None],
        guest_open: Callable[[str], None],
        quit_settings: Callable[[], None],
        folder: Path,
        catalog: Catalog | None = None,
        on_prompt_missing: Callable[[], object] | None = None,
        needles: Needles | None = None,
    ) -> None:
        self.screen = screen
        self.reader = reader
        self.app_name = app_name
        self.kind = extension_kind
        self.generation = generation
        self._password = events.SECRETS.add(password)
        self.user = user
        self.oracle = oracle
        self.guest_open = guest_open
        self.quit_settings = quit_settings
        self.on_prompt_missing = on_prompt_missing
        self.observer = Observer(
            screen=screen,
            reader=reader,
            app_name=app_name,
            extension_kind=extension_kind,
            folder=folder,
            catalog=catalog,
            needles=needles,
        )
        self._foreign: set[str] = set()
        self._prompt: Sighting | None = None

    # --- looking

    def wait_for_prompt(
        self,
        deadline: Deadline,
        kinds: Collection[str] = PROMPTS,
        hopeless: Callable[[], bool] | None = None,
        *,
        thorough: bool = True,
    ) -> Sighting | None:
        """The first window of one of these classes for our app; None when the deadline comes first, or `hopeless` says
        that none will come. The last word has a look at the whole screen, unless `thorough` is off: then what was on the
        screen at the mark is taken to be no prompt.

        Raises:
            EnvironmentFailure: The screen is black in the end: a display that sleeps shows no prompt, whatever macOS did.
        """
        with events.step("wait for prompt", windows=list(kinds)) as step:
            self.reader.warm_up()
            self.observer.warm_up()
            frame = self.screen.frame(deadline)
            thorough = thorough or self.screen.marked is None
            full_look = time.monotonic() + min(5.0, deadline.remaining / 2) if thorough else float("inf")
            while True:
                frame, seen = self.observer.watch(frame, deadline, kinds=kinds)
                seen = self._ours(seen)
                if seen is not None:
                    break
                over = deadline.expired or (hopeless is not None and hopeless())
                if over or time.monotonic() >= full_look:
                    full_look = float("inf")
                    frame = self.screen.frame(Deadline.after(_FRESH), fresh=over)
                    seen = self._ours(self.observer.look(frame, full=thorough, kinds=kinds))
                    if over and seen is None and is_black(frame):
                        raise EnvironmentFailure(
                            "a picture on the Mac's screen",
                            seen="all black",
                            hint="the display sleeps: in the image, set it never to (`pmset -a displaysleep 0`)",
                        )
                    if seen is not None or over:
                        break
                frame = self.screen.wait_for_change(frame, deadline.sub(1.0)) or frame
            self._prompt = seen
            step.note(window=seen.window if seen else None)
            self.observer.keep(frame, seen.window if seen is not None else "no-prompt")
            return seen

    def look(self, kinds: Collection[str] = PROMPTS) -> Sighting | None:
        """One look, now: at what has changed since the mark, or at the whole screen where nothing was marked."""
        self.reader.warm_up()
        frame = self.screen.settle(Deadline.after(2.0), quiet=_CALM)
        return self._ours(self.observer.look(frame, full=self.screen.marked is None, kinds=kinds))

    # --- answering

    def close_prompt(self, deadline: Deadline) -> None:
        """Press OK in the prompt on the screen; it goes.

        Raises:
            HarnessError: There is no prompt to close, or it stays.
        """
        self.answer_prompt("ok", deadline)

    def answer_prompt(self, choice: Literal["open-settings", "ok"], deadline: Deadline) -> None:
        """Press a button of the prompt on the screen, and see it go.

        Raises:
            HarnessError: There is no prompt, or it stays.
        """
        with events.step("answer prompt", choice=choice):
            self._answer(PROMPTS, choice, deadline)

    def consent(
        self,
        window_class: str,
        choice: Literal["allow", "dont-allow"],
        deadline: Deadline,
        hopeless: Callable[[], bool] | None = None,
    ) -> None:
        """Wait for a configuration consent and answer it.

        Raises:
            ProductFailure: It never comes.
            HarnessError: It stays whatever is clicked.
        """
        seen = self.wait_for_prompt(deadline, (window_class,), hopeless)
        if seen is None:
            raise ProductFailure(
                f"the consent '{window_class}' for {self.app_name}",
                seen=f"none within {deadline.seconds:g} s",
                hint="was the configuration saved? see nehelper's log in the case file",
            )
        self._answer((window_class,), "approve" if choice == "allow" else "deny", deadline, seen)

    # --- the walk

    def run(self, deadline: Deadline, prompt_deadline: Deadline) -> Approval:
        """The whole of it: wait for the prompt, then approve; without a prompt through Settings, and say so."""
        appeared = self.wait_for_prompt(prompt_deadline) is not None
        if not appeared:
            events.event("prompt-missing", waited=prompt_deadline.seconds)
            if self.on_prompt_missing is not None:
                self.on_prompt_missing()
        outcome = self.approve_in_settings(deadline, enter="prompt" if appeared else "url")
        return Approval(
            outcome.approvable, outcome.route, outcome.why, outcome.steps, outcome.frames, prompt_appeared=appeared
        )

    def approve_in_settings(self, deadline: Deadline, enter: Literal["prompt", "url"] = "prompt") -> Approval:
        """Walk through Settings until the oracle says enabled. Settings is closed afterwards, whatever happened.

        Args:
            deadline: When to give up: then it counts as not approvable.
            enter: "prompt" presses Open System Settings in the prompt on the screen; "url" opens the page in the guest.
        """
        walk = _Walk(enter, idle_since=time.monotonic())
        prompt, self._prompt = self._prompt, None
        with events.step("approve in Settings", route=enter, generation=self.generation) as step:
            self.reader.warm_up()
            try:
                if enter == "url":
                    self._open(walk)
                elif prompt is not None and prompt.window in PROMPTS:  # seen a moment ago: no need to look again
                    self._act(walk, prompt, deadline)
                approvable = self._walk(walk, deadline)
                if approvable:
                    self.observer.proved()
                else:
                    self.observer.disproved(f"not approved: {walk.why}")
                self.observer.keep(
                    self.screen.frame(Deadline.after(2.0)), "approved" if approvable else "not-approvable"
                )
            finally:
                self.quit_settings()
            step.note(approvable=approvable, why=walk.why, steps=len(walk.steps))
        return Approval(approvable, enter, walk.why, tuple(walk.steps), tuple(self.observer.frames))

    def _walk(self, walk: _Walk, deadline: Deadline) -> bool:
        while True:
            state = self.oracle()
            if state in ENABLED:
                walk.why = f"the oracle says {state}"
                return True
            if walk.hopeless:
                walk.why = walk.hopeless
                return False
            if deadline.expired:
                walk.why = f"not within {deadline.seconds:g} s; {walk.why}"
                return False
            frame = self.screen.settle(deadline.sub(2.0), quiet=_CALM)
            idle = time.monotonic() - walk.idle_since
            full = idle > 4.0 and not walk.looked_fully
            walk.looked_fully = walk.looked_fully or full
            # Consents are answered by whoever expects them.
            seen = self.observer.look(frame, before=walk.before, full=full, ignore=CONSENT_WINDOWS)
            if seen is None or not self._act(walk, seen, deadline):
                self._wait(walk, frame, deadline)

    def _act(self, walk: _Walk, seen: Sighting, deadline: Deadline) -> bool:
        """Do what the window asks for; False if there is nothing to do but wait."""
        if seen.window in PROMPTS:
            return self._act_on_prompt(walk, seen, deadline)
        if seen.window == _PASSWORD:
            return self._act_on_password(walk, seen, deadline)
        if seen.advice is not None:
            return self._press(walk, seen, seen.advice, deadline)
        walk.why = f"{seen.window}: {seen.why}"
        if seen.window == _SHEET:
            return self._act_on_sheet(walk, seen, deadline)
        if seen.window == _LOGIN_ITEMS or seen.window in _PRIVACY:
            return self._scroll(walk, seen.window, seen.box)
        return False

    def _act_on_prompt(self, walk: _Walk, seen: Sighting, deadline: Deadline) -> bool:
        if not self._is_ours(seen):
            walk.why = f"a prompt for “{seen.app_name}” is in front"
            return False
        if walk.route == "prompt":
            button = seen.advice
        else:
            # It covers the page. OK only closes it; that it was there is not for this walk to judge.
            events.event("prompt-in-the-way", window=seen.window)
            button = seen.button("ok")
        if button is None:
            walk.why = f"{seen.window}: {seen.why}"
            return False
        return self._press(walk, seen, button, deadline)

    def _act_on_sheet(self, walk: _Walk, seen: Sighting, deadline: Deadline) -> bool:
        ours = next(
            (button for button in seen.buttons if button.role == "switch" and is_app(button.text, self.app_name)), None
        )
        idle = time.monotonic() - walk.idle_since
        if ours is not None and ours.state == "on":
            done = next((button for button in seen.buttons if button.role == "other"), None)
            if idle > 2.0 and done is not None:  # some releases take the change only when the sheet is closed
                return self._press(walk, seen, done, deadline)
            return False
        if ours is None and idle > 2.0 and walk.scrolls < 3:
            return self._scroll(walk, seen.window, seen.box)
        if ours is None and idle > ROWS_COME:
            walk.hopeless = f"the sheet has no row that can be switched on: {seen.why}" if walk.opened > 1 else ""
            if not walk.hopeless:
                self._open(walk)
                return True
        return False

    def _act_on_password(self, walk: _Walk, seen: Sighting, deadline: Deadline) -> bool:
        use = seen.button("use-password")
        if use is not None:
            return self._press(walk, seen, use, deadline)
        confirm = seen.button("approve")
        if seen.advice is None or confirm is None or seen.field is None:
            walk.why = f"{_PASSWORD}: {seen.why}"
            return False
        key = f"{_PASSWORD}/type"
        if walk.tries[key] >= TRIES:
            walk.hopeless = f"the password was not accepted ({TRIES} tries)"
            return True
        walk.tries[key] += 1
        empty = next((line for line in seen.lines if line.text.casefold() == "user name"), None)
        if empty is not None:
            self.screen.click(*empty.box.centre)
            self.screen.type_text(self.user)
        x0, _, _, y1 = seen.field
        target = (x0 + 4, (seen.field.y0 + y1) // 2)
        self.screen.click(*target)
        self.screen.chord("command", "a")
        before = self.screen.settle(deadline.sub(1.0), quiet=0.05)
        self.screen.type_text(self._password, secret=True)
        walk.steps.append(Step("type", _PASSWORD, "password", target))
        typed = self._changed(before, seen.field.padded(seen.field.height, before.size), deadline.sub(2.0))
        if typed is None:
            walk.why = "the password field did not take the keys"
            events.event("degraded", what="typing changed nothing in the password field", reason=walk.why)
            return True
        return self._press(walk, seen, confirm, deadline, fresh=typed)

    def _scroll(self, walk: _Walk, window: str, box: Box) -> bool:
        if walk.scrolls >= _MOST_SCROLLS:
            return False
        walk.scrolls += 1
        x, y = box.x0 + box.width * 2 // 3, box.centre[1]
        before = self.screen.frame(Deadline.after(2.0))
        self.screen.scroll(x, y, walk.notches)
        walk.steps.append(Step("scroll", window, "down", (x, y)))
        changed = self._changed(before, box, Deadline.after(1.0))
        if changed is None:
            walk.scrolls = _MOST_SCROLLS  # the end of the page
            return False
        column = Box(x - box.width // 6, box.y0, x + box.width // 6, box.y1)
        moved = scrolled_by(before, self.screen.settle(Deadline.after(1.0), quiet=_CALM), column)
        if moved is not None:  # the next time by a third of what is in sight
            walk.notches = min(max(walk.notches * (box.height // 3) // moved, 1), _NOTCHES[1])
        return True

    def _press(
        self, walk: _Walk, seen: Sighting, button: Button, deadline: Deadline, *, fresh: Frame | None = None
    ) -> bool:
        """Click a button that is still where it was seen, and wait for what comes of it."""
        now = fresh or self.screen.frame(deadline)
        if not same(now, seen.frame, button.box):
            return True  # it has moved meanwhile: look again
        key = f"{seen.window}/{button.role}/{button.text}"
        if walk.tries[key] >= TRIES:
            walk.hopeless = f"'{button.text}' in {seen.window} was clicked {TRIES} times, and nothing came of it"
            return True
        walk.tries[key] += 1
        with events.step(
            "press",
            window=seen.window,
            app_name=seen.app_name,
            button=button.text,
            role=button.role,
            at=list(button.centre),
            attempt=walk.tries[key],
        ) as step:
            self.screen.click(*button.centre)
            walk.steps.append(Step("click", seen.window, button.text, button.centre))
            self.observer.keep(now, f"{seen.window}-{button.role}")
            after = self._gone(now, seen, deadline.sub(EFFECT))
            step.note(effect=after is not None)
        self.observer.pressed(seen, worked=after is not None)
        if after is not None:
            walk.before = now
        self._progress(walk)
        return True

    def _wait(self, walk: _Walk, frame: Frame, deadline: Deadline) -> None:
        """Nothing to do: wait for news; after a while open the page (again) by its URL; then give up."""
        idle = time.monotonic() - walk.idle_since
        if idle > 5.0 and self.generation < 15 and walk.before is not None:
            for region in changed_regions(walk.before, frame)[:1]:  # the page may not have landed at its Security part
                if self._scroll(walk, "", region):
                    return
        if idle > PATIENCE:
            if walk.opened > 1:
                walk.hopeless = walk.why
                return
            events.event("degraded", what="Settings opened by its URL", reason=walk.why)
            self._open(walk)
            return
        later = self.screen.wait_for_change(frame, deadline.sub(0.5))
        if later is not None:
            walk.looked_fully = False

    def _open(self, walk: _Walk) -> None:
        """Quit Settings first: a window that is open may stay where it is for the same URL."""
        url = settings_url(self.generation, self.kind)
        with events.step("open Settings", url=url):
            self.quit_settings()
            self.screen.settle(Deadline.after(1.0), quiet=_CALM)
            before = self.screen.frame(Deadline.after(5.0))
            self.guest_open(url)
            walk.opened += 1
            walk.before = before
            walk.steps.append(Step("open", "", url))
            self._changed(before, before.box, Deadline.after(EFFECT))
        walk.scrolls = 0
        self._progress(walk)

    def _progress(self, walk: _Walk) -> None:
        walk.idle_since = time.monotonic()
        walk.looked_fully = False

    # --- inside

    def _answer(self, kinds: Collection[str], role: str, deadline: Deadline, seen: Sighting | None = None) -> None:
        seen = seen or self.look(kinds)
        if seen is None:
            raise HarnessError(f"one of {', '.join(kinds)} on the screen", seen="none of them")
        for attempt in range(1, TRIES + 1):
            before = self.screen.frame(deadline)
            button = seen.button(role)
            if button is not None and not same(before, seen.frame, button.box):
                moved = self._ours(self.observer.look(before, full=True, kinds=kinds))
                if moved is None:
                    raise HarnessError(f"{seen.window} to wait for '{role}'", seen="it went before it was answered")
                seen, button = moved, moved.button(role)
            if button is None or (role == "approve" and seen.advice is None):
                raise HarnessError(
                    f"a button '{role}' in {seen.window}", seen=f"{seen.text} ({seen.why})", hint="see the frames"
                )
            with events.step(
                "press",
                window=seen.window,
                app_name=seen.app_name,
                button=button.text,
                role=role,
                at=list(button.centre),
                attempt=attempt,
            ):
                self.screen.click(*button.centre)
                self.observer.keep(before, f"{seen.window}-{role}")
                self._gone(before, seen, deadline.sub(EFFECT))
            frame = self.screen.settle(deadline.sub(2.0), quiet=_CALM)
            again = self._ours(self.observer.look(frame, kinds=kinds)) if not same(frame, before, seen.title) else seen
            self.observer.pressed(seen, worked=again is None)
            if again is None:
                self.observer.proved()
                return
            seen = again
        self.observer.disproved(f"'{role}' did not close it")
        raise HarnessError(f"{seen.window} to go after '{role}'", seen=f"it is still there after {TRIES} clicks")

    def _changed(self, before: Frame, box: Box, deadline: Deadline) -> Frame | None:
        """The first frame in which `box`, or something as big as a window, is not as it was before; None if there is none
        within the deadline.
        """
        frame = before
        while True:
            later = self.screen.wait_for_change(frame, deadline)
            if later is None:
                return None
            if not same(before, later, box) or changed_regions(before, later):
                return later
            frame = later

    def _gone(self, before: Frame, seen: Sighting, deadline: Deadline) -> Frame | None:
        """The frame that shows what a click did: an alert's title has changed (it is gone); in Settings, anything.

        An alert that stays, but has answered in another way (a cleared field), is waited for only `REFUSED` seconds.
        """
        if seen.title is None:
            return self._changed(before, seen.box, deadline)
        frame = before
        answered: Deadline | None = None
        while True:
            later = self.screen.wait_for_change(frame, answered or deadline)
            if later is None:
                return frame if answered is not None else None
            if not same(before, later, seen.title):
                return later
            if answered is None and not same(before, later, seen.box):
                answered = deadline.sub(REFUSED)
            frame = later

    def _ours(self, seen: Sighting | None) -> Sighting | None:
        return seen if seen is not None and self._is_ours(seen) else None

    def _is_ours(self, seen: Sighting) -> bool:
        if seen.app_name is None or is_app(seen.app_name, self.app_name):
            return True
        if seen.app_name not in self._foreign:
            self._foreign.add(seen.app_name)
            events.event("foreign-prompt", window=seen.window, app_name=seen.app_name, ours=self.app_name)
        return False
