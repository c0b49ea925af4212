"""Prompts as a test speaks of them: wait for one, answer it, approve in Settings, answer a consent.

How a button is pressed is in pressing.py, how a password is typed in passwords.py, the way through Settings in walk.py. A click is
not an approval; only the oracle says that the extension is enabled.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Literal

from harness import events
from harness.approval.channels import Channel, VncChannel
from harness.approval.observer import Observer
from harness.approval.parking import Parking
from harness.approval.passwords import PasswordTyper
from harness.approval.past import NAMED
from harness.approval.pressing import TRIES, Presser
from harness.approval.records import Approval
from harness.approval.routes import PROMPTS, SWITCHES
from harness.approval.walk import CALM, PASSWORD, Walk, Walker
from harness.errors import EnvironmentFailure, HarnessError, ProductFailure, UsageError
from harness.screen import Catalog, Frame, Reader, Screen, Sighting, changed_regions, is_black
from harness.screen.frames import same
from harness.screen.needles import Needles
from harness.screen.recognise import is_app
from harness.screen.text import squash
from harness.waiting import Deadline

_FRESH = 10.0
"""Seconds within which a living screen answers; one that does not is the environment's failure, not a missing prompt."""
_LOOK_AGAIN = 5.0
PASSWORD_FOLLOWS = 1.5
"""Seconds after Allow in a configuration consent within which a password window comes, where macOS wants one."""


class Approver:
    """Approves one app's extension on one Mac's screen.

    Args:
        screen: Where to look and click.
        reader: Reads text.
        app_name: As macOS shows it.
        extension_kind: "network", "driver" or "endpoint-security".
        generation: The macOS generation: 12, 13, 14, 15, 26.
        password: Of an administrator; typed, never logged.
        user: The administrator's name, where a sheet asks for it.
        oracle: The extension's state ("activated_waiting_for_user"), or None for no entry.
        guest_open: Opens a Settings URL in the guest.
        quit_settings: Ends System Settings in the guest.
        folder: Where pictures go.
        needles: Prompts that were answered before; None: every window is read.
        developer_names: What macOS may list the extension under instead of the app's name.
        channels: Ways to press a button, in order; the pointer alone by default.
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
        developer_names: Sequence[str] = (),
        channels: Sequence[Channel] | None = None,
    ) -> None:
        self.screen = screen
        self.reader = reader
        self.app_name = app_name
        self.kind = extension_kind
        self.generation = generation
        self.names = (app_name, *(name for name in developer_names if name != app_name))
        self.user = user
        self.quit_settings = quit_settings
        self.on_prompt_missing = on_prompt_missing
        self._foreign: set[str] = set()
        self.observer = Observer(
            screen=screen,
            reader=reader,
            app_name=app_name,
            extension_kind=extension_kind,
            folder=folder,
            catalog=catalog,
            needles=needles,
            other_names=self.names[1:],
            ours=self._is_ours,
        )
        self.presser = Presser(screen, self.observer, channels if channels is not None else (VncChannel(screen),))
        self.walker = Walker(
            screen=screen,
            observer=self.observer,
            presser=self.presser,
            typer=PasswordTyper(screen, events.SECRETS.add(password), user),
            names=self.names,
            extension_kind=extension_kind,
            generation=generation,
            oracle=oracle,
            guest_open=guest_open,
            quit_settings=quit_settings,
            ours=self._is_ours,
        )
        self.parking = Parking(screen, needles)
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
            self.parking.end(None, known=False)  # a wait before this one may have been broken off
            expected = thorough  # where none is expected, no click is prepared
            while True:
                frame, seen = self.observer.watch(frame, deadline, kinds=kinds)
                foreign, seen = seen, self._ours(seen)
                if seen is not None:
                    break
                self.parking.look(frame)
                if expected:
                    expected = False
                    self.parking.begin(frame, kinds)
                if foreign is not None and self.presser.move_aside(foreign, deadline):  # ours may lie under it
                    frame = self.screen.settle(deadline.sub(1.0), quiet=CALM)
                    continue
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
                # Where none is expected, the end of the wait is what everybody waits for.
                frame = self.screen.wait_for_change(frame, deadline.sub(1.0 if thorough else 0.25)) or frame
            self._prompt = seen
            self.parking.end(seen, known=self.observer.knew(seen))
            step.note(window=seen.window if seen else None)
            self.observer.keep(frame, seen.window if seen is not None else "no-prompt")
            return seen

    def look(self, kinds: Collection[str] = PROMPTS) -> Sighting | None:
        """One look, now: at what has changed since the mark, or at the whole screen where nothing was marked."""
        self.reader.warm_up()
        frame = self.screen.settle(Deadline.after(2.0), quiet=CALM)
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
            # Seen a moment ago: it is looked for anew only if it is not there any more.
            prompt, self._prompt = self._prompt, None
            self._answer(PROMPTS, choice, deadline, prompt if prompt is not None and prompt.window in PROMPTS else None)

    def consent(
        self,
        window_class: str,
        choice: Literal["allow", "dont-allow"],
        deadline: Deadline,
        hopeless: Callable[[], bool] | None = None,
        done: Callable[[], bool] | None = None,
    ) -> None:
        """Wait for a configuration consent and answer it; where macOS wants a password after Allow, type it.

        Args:
            window_class: One of `walk.CONSENT_WINDOWS`.
            choice: What to answer.
            deadline: For all of it.
            hopeless: Says that it will never come.
            done: Says that the answer has been taken: then no password is waited for.

        Raises:
            ProductFailure: It never comes.
            HarnessError: It stays whatever is clicked, or the password is not taken.
        """
        seen = self.wait_for_prompt(deadline, (window_class,), hopeless)
        if seen is None:
            raise ProductFailure(
                f"the consent '{window_class}' for {self.app_name}",
                seen=f"none within {deadline.seconds:g} s",
                hint="was the configuration saved? see nehelper's log in the case file",
            )
        before = self._answer((window_class,), "approve" if choice == "allow" else "deny", deadline, seen)
        if choice == "allow":
            self._password_after(before, deadline, done)

    def give_password(self, deadline: Deadline, done: Callable[[], bool]) -> bool:
        """Until `done` says so, or the deadline: give the administrator's password where macOS wants it for what our app is about
        to do (to have its extension removed, say). Returns whether it was asked for.

        Raises:
            HarnessError: It was not taken; or the window that asks for it does not name our app, and gets none.
        """
        walk = Walk("password", idle_since=time.monotonic())
        asked = False
        with events.step("password for the app") as step:
            while not done() and not deadline.expired:
                # What is there already when a wait begins is seen only at its end.
                seen = self.look((PASSWORD,)) or self.wait_for_prompt(
                    deadline.sub(_LOOK_AGAIN), (PASSWORD,), done, thorough=False
                )
                if seen is None:
                    continue
                words = squash("".join(line.text for line in seen.lines))
                if not any(squash(name) in words for name in self.names):
                    raise HarnessError(f"a password window for {self.app_name}", seen=seen.text, hint="see the frames")
                asked = True
                if not self.walker.answer_password(walk, seen, deadline) or walk.hopeless:
                    raise HarnessError(
                        "the password to be taken", seen=walk.hopeless or walk.why, hint="see the frames"
                    )
            if asked:
                self.observer.proved()
            step.note(asked=asked)
        return asked

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
        walk = Walk(enter, idle_since=time.monotonic())
        prompt, self._prompt = self._prompt, None
        with events.step("approve in Settings", route=enter, generation=self.generation) as step:
            return self._walked(walk, deadline, step, ("approved", "not-approvable"), prompt)

    def switch_off_in_settings(self, deadline: Deadline) -> Approval:
        """Open Settings by its URL and press the extension's switch until the oracle says disabled. Settings is closed
        afterwards. `approvable` of the outcome says whether it is off.

        Raises:
            UsageError: This macOS generation has no such switch.
        """
        if self.generation < SWITCHES:
            raise UsageError(
                f"a macOS whose Settings has a switch for each extension ({SWITCHES} or later)",
                seen=f"macOS {self.generation}",
                hint="before it an extension can only be allowed; removing it is what the app or its uninstaller does",
            )
        walk = Walk("url", wanted="off", idle_since=time.monotonic())
        with events.step("switch off in Settings", generation=self.generation) as step:
            return self._walked(walk, deadline, step, ("switched-off", "not-switched-off"), None)

    def remove_in_settings(self, deadline: Deadline) -> Approval:
        """Open Settings by its URL, open the menu of the extension's row, and remove it, until the oracle says that it is gone.
        Settings is closed afterwards. `approvable` of the outcome says whether it is gone; `why` begins with `walk.NOT_OFFERED`
        where Settings shows no way to remove it.

        Raises:
            UsageError: This macOS generation lists no extensions that could be removed.
        """
        if self.generation < SWITCHES:
            raise UsageError(
                f"a macOS whose Settings can remove an extension ({SWITCHES} or later)",
                seen=f"macOS {self.generation}",
                hint="before it, removing is what the app, its uninstaller or the Finder does",
            )
        walk = Walk("url", wanted="removed", idle_since=time.monotonic())
        with events.step("remove in Settings", generation=self.generation) as step:
            return self._walked(walk, deadline, step, ("removed", "not-removed"), None)

    def cancel_password_in_settings(self, deadline: Deadline) -> Approval:
        """Open Settings by its URL, ask for approval there, and cancel the first password window that comes. Settings is closed
        afterwards. `approvable` of the outcome says whether it was approved all the same; `why` is `walk.CANCELLED` where all
        went as said.
        """
        walk = Walk("url", cancel=True, idle_since=time.monotonic())
        with events.step("cancel the password in Settings", generation=self.generation) as step:
            return self._walked(walk, deadline, step, ("approved", "cancelled"), None)

    def _walked(
        self, walk: Walk, deadline: Deadline, step: events.Step, names: tuple[str, str], prompt: Sighting | None
    ) -> Approval:
        self.reader.warm_up()
        try:
            if walk.route == "url":
                self.walker.open(walk)
            elif prompt is not None and prompt.window in PROMPTS:  # seen a moment ago: no need to look again
                self.walker.act(walk, prompt, deadline)
            arrived = self.walker.run(walk, deadline)
            if arrived:
                self.observer.proved()
            else:
                self.observer.disproved(f"{names[1]}: {walk.why}")
            self.observer.keep(self.screen.frame(Deadline.after(2.0)), names[0] if arrived else names[1])
        finally:
            self.quit_settings()
        step.note(approvable=arrived, why=walk.why, steps=len(walk.steps))
        return Approval(arrived, walk.route, walk.why, tuple(walk.steps), tuple(self.observer.frames))

    # --- inside

    def _password_after(self, before: Frame, deadline: Deadline, done: Callable[[], bool] | None) -> None:
        walk = Walk("consent", idle_since=time.monotonic())
        patience = deadline.sub(PASSWORD_FOLLOWS)
        frame = self.screen.settle(deadline.sub(1.0), quiet=CALM)
        look = True
        while True:
            seen = self.observer.look(frame, before=before, kinds=(PASSWORD,)) if look else None
            if seen is not None:
                patience = deadline.sub(PASSWORD_FOLLOWS)
                if not self.walker.answer_password(walk, seen, deadline) or walk.hopeless or deadline.expired:
                    raise HarnessError(
                        "the password that follows Allow to be taken",
                        seen=walk.hopeless or walk.why,
                        hint="see the frames",
                    )
                frame = self.screen.settle(deadline.sub(1.0), quiet=CALM)
                continue
            if patience.expired or (done is not None and done()):
                return
            later = self.screen.wait_for_change(frame, patience.sub(0.25))
            look = later is not None and bool(changed_regions(frame, later))
            frame = later or frame

    def _answer(self, kinds: Collection[str], role: str, deadline: Deadline, seen: Sighting | None = None) -> Frame:
        """Press a button until its window has gone; returns the frame from before the press that did it."""
        seen = seen or self.look(kinds)
        if seen is None:
            raise HarnessError(f"one of {', '.join(kinds)} on the screen", seen="none of them")
        tries: Counter[str] = Counter()
        while True:
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
            pressed = self.presser.press(seen, button, deadline, tries, fresh=before)
            if pressed.kind == "exhausted":
                break
            frame = self.screen.settle(deadline.sub(2.0), quiet=CALM)
            again = self._ours(self.observer.look(frame, kinds=kinds)) if not same(frame, before, seen.title) else seen
            if again is None:
                self.observer.proved()
                return before
            seen = again
        self.observer.disproved(f"'{role}' did not close it")
        raise HarnessError(f"{seen.window} to go after '{role}'", seen=f"it is still there after {TRIES} clicks")

    def _ours(self, seen: Sighting | None) -> Sighting | None:
        return seen if seen is not None and self._is_ours(seen) else None

    def _is_ours(self, seen: Sighting) -> bool:
        """Whether a window is about our app. A question that does not say whose it is, is nobody's: never ours by default."""
        if seen.app_name is None:
            return seen.window not in NAMED
        if any(is_app(seen.app_name, name) for name in self.names):
            return True
        if seen.app_name not in self._foreign:
            self._foreign.add(seen.app_name)
            events.event("foreign-prompt", window=seen.window, app_name=seen.app_name, ours=self.app_name)
        return False
