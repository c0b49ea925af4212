"""What happened to each extension: sysextd's lines, listings and the database replayed into states, over reboots.

`History.feed` takes texts in their order, `History.facts` says afterwards what they come to. Absence is only evidence inside
a window that the log covers: an attempt with nothing after it proves something only if the log goes on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from harness.triage.catalog import request_error
from harness.triage.matching import Unit
from harness.triage.report import Happening

SILENCE: Final = 5.0
"""Seconds that a log must go on after an attempt before its silence says something."""
PROMPT_WAIT: Final = 30.0
"""Seconds in which a prompt should be on its way."""
HANDOVER: Final = 30.0
"""Seconds after which a delegate interface that is still missing is no change of link any more."""
NEAR: Final = 60.0
"""Seconds around a request in which a crash of the app is suspicious."""
REPEATED: Final = 3
"""So many connections that are dropped after a replacement are no accident."""
MAX_KEPT: Final = 2000

_ID = r"([A-Za-z0-9][\w-]{0,100}(?:\.[\w-]{1,100}){1,20})"
_REQUEST = re.compile(rf"client (activation|deactivation|properties|uninstall) request for {_ID}", re.IGNORECASE)
_ATTEMPT = re.compile(rf"attempting to realize extension with identifier {_ID}", re.IGNORECASE)
_ADVANCE = re.compile(
    rf"(?:{_ID} ?(?:\(([^()\s/]{{1,60}})(?:/([^()\s]{{1,60}}))?\))?.{{0,40}}?)?advancing state from (\w+) to (\w+)",
    re.IGNORECASE,
)
_DECISION = re.compile(r"initial activation decision: (\w+)", re.IGNORECASE)
_REPLACE = re.compile(
    r"activateDecision found entry to replace|requestAppReplaceAction|actionForReplacing", re.IGNORECASE
)
_CONFLICT = re.compile(
    r"notifying client of activation conflict|found conflicting entry|asking (?:the )?(?:app|client)\b.{0,40}\breplac"
    r"|requestAppReplaceAction",
    re.IGNORECASE,
)
_GONE = re.compile(
    r"client connection \(pid \d+\) invalidated|invalidated because the client process \(pid \d+\)|client.{0,40}cancel",
    re.IGNORECASE,
)
_DROPPED = re.compile(
    r"(?:NSXPCConnection|connection to service)\b.{0,160}\b(?:was |is |been )?invalidated"
    r"|Code=409[79]\b.{0,80}\bconnection to service\b.{0,160}\binvalidated",
    re.IGNORECASE,
)
_ONE_SHOT = re.compile(
    r"no-senders|cancelled the connection|client process|pid 0 created|named com\.apple\.|failed at lookup",
    re.IGNORECASE,
)
_STAGING = re.compile(rf"staging extension with identifier {_ID}|staging bundle from", re.IGNORECASE)
_PROGRESS = re.compile(
    r"realizing target path|activateDecision|activation decision|staging |advancing state|failing to realize|no policy|package type not"
    r"|MacOS error|applyPolicy|failed to validate|code signature is not valid|does not appear to belong|invalid mach service|authorizationref",
    re.IGNORECASE,
)
_CODE_ELEVEN = re.compile(request_error(11), re.IGNORECASE)
_CODE_FOUR = re.compile(request_error(4), re.IGNORECASE)
_ANSWERED = re.compile(r"advancing state|actionForReplacing|didFinishWithResult|staging ", re.IGNORECASE)
_SYSEXTD = re.compile(r"\bsysextd\b")
_ASKED = re.compile(
    r"\b(?:present|show|display|open|post|order)\w*\b.{0,60}\b(?:prompt|alert|dialog|notification|approval|user)|System Extension Blocked"
    r"|needs? user approval|would like to (?:use|add|install)",
    re.IGNORECASE,
)
_ASKERS: Final = frozenset(
    {"UserNotificationCenter", "CoreServicesUIAgent", "SystemExtensionsUI", "universalAccessAuthWarn"}
)
_ROW = re.compile(
    r"\[((?:activated|activating|terminat\w+|realizing|staging|validating|uninstall\w+)(?: [a-z]+){0,8})\]",
    re.IGNORECASE,
)
_STATED = re.compile(
    r"(?:\bstate(?: (?:is|was|of))?\W{1,8}|<string>(?=\w+</)|\| (?=\w+ \|))"
    r"((?:activated|terminat\w+|realizing|staging|validating|uninstall\w+)(?:[_ ][a-z]+){0,8})\b",
    re.IGNORECASE,
)
_VERSION = re.compile(r"\(([\w.+-]{1,60})(?:/([\w.+-]{1,60}))?\)")
_IDENTIFIER = re.compile(rf"(?<![\w./]){_ID}(?![\w/])")
_KEYED = re.compile(rf"\b(?:identifier|bundleID|bundle_id)\b\W{{1,6}}{_ID}", re.IGNORECASE)
_WAKE = re.compile(r"(?<![\w])(?:didWake|systemDidWake|wake)(?:\(\))?(?![\w])", re.IGNORECASE)
_SLEEP = re.compile(r"(?<![\w])sleep(?:\(|With|ing\b|\b)", re.IGNORECASE)
_FLOW = re.compile(r"\bhandleNew\w*Flow\b|\bNew flow\b|\bnew flow\b", re.IGNORECASE)
_DELEGATE = re.compile(r"delegate interface\b.{0,60}?(\(null\)|[a-z]{2,8}\d{1,3})", re.IGNORECASE)
_SEND_FAILED = re.compile(
    r"\b(?:send|write|sendto|sendmsg|connect)\w*\b.{0,80}\b(?:error|fail\w*|no route|unreachable|can't assign|no buffer)",
    re.IGNORECASE,
)
_ON_DEMAND = re.compile(r"\b(?:on[- ]?demand)\b.{0,120}\bstart|\bstart\w*\b.{0,120}\bon[- ]?demand\b", re.IGNORECASE)
_DRIVERISH = re.compile(r"driver|dext|kext|\bhid\b|usb|pci|audio|serial", re.IGNORECASE)
_DRIVER_TEXT = re.compile(r"\.dext\b|DriverKit|driver extension|\bdext\b", re.IGNORECASE)
_LINK_UUID = re.compile(
    r"\bUUID:? ([0-9A-F]{8}(?:-[0-9A-F]{4}){3}-[0-9A-F]{12}) \((\w+)\)(?: (\S.{0,300}))?", re.IGNORECASE
)
_BUNDLE_VERSION = re.compile(
    r"\b(?:CFBundleVersion|CFBundleShortVersionString|version)\b(?: (?:\w{2,10} )?from)?\W{1,6}(\d[\w.+-]{0,40})(?: to (\d[\w.+-]{0,40}))?",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Fact:
    """Something that the input comes to, with the text that shows it best."""

    name: str
    unit: Unit
    subject: str = ""
    offset: int = 0


@dataclass(frozen=True)
class Row:
    """An extension's state as a listing or the database has it."""

    identifier: str
    version: str
    state: str
    unit: Unit


@dataclass
class _Life:
    """What is known of one extension."""

    state: str = ""
    state_unit: Unit | None = None
    waiting: list[Unit] = field(default_factory=list)
    enabled: bool = False
    approved: str = ""
    """The version that was enabled when it was replaced by another."""
    unapproved: Unit | None = None
    """The version that replaced it waits for the user."""
    answered: int | None = None
    """When it stopped waiting for the user (`Unit.order`): what is asked afterwards is another question."""


class History:
    """Replays what is fed to it.

    Attributes:
        timeline: What happened, in order.
        moments: Seconds (see `Unit.seconds`) of requests and decisions: the activation windows.
        requested: Identifiers of the extensions that somebody asked for.
        replaced: A version was replaced by another in this input.
    """

    def __init__(self, extension: str = "") -> None:
        self.extension = extension
        self.timeline: list[Happening] = []
        self.moments: list[float] = []
        self.replaced = False
        self.identifiers: set[str] = set()
        self.requested: set[str] = set()
        self.rows: list[Row] = []
        self.last_seconds: float | None = None
        self._now: float | None = None
        """Time of the last text that had one: stands in for those between that have none."""
        self.log_units = 0
        self._lives: dict[str, _Life] = {}
        self._current = ""
        self._keyed = ""
        self._open_attempts: dict[str, tuple[Unit, float | None]] = {}
        self._refused_silently: set[str] = set()
        self._conflicts: list[tuple[Unit, bool, bool]] = []
        self._cancelled: Unit | None = None
        self._dropped: list[Unit] = []
        self._coalesced: list[Unit] = []
        self._joined: set[str] = set()
        """Extensions of which the last request was joined to one that waits."""
        self._overtaken: dict[str, Unit] = {}
        """Where a request came after the joined ones that was decided by itself."""
        self._new_requests = 0
        self._asked: list[Unit] = []
        self._boots: list[tuple[int, str]] = []
        self._driver_text = False
        self._other_logs = 0
        self._wake: Unit | None = None
        self._flow_before = self._flow_after = False
        self._sleeping = False
        self._delegate_lost: Unit | None = None
        self._delegate_dead = False
        self._delegate_late: Unit | None = None
        self._bursts: dict[str, list[float]] = {}
        self._burst: Unit | None = None
        self._uuids: dict[tuple[str, str], dict[str, Unit]] = {}
        self._versions: set[str] = set()

    # -- what comes in ---------------------------------------------------------------------------------------------

    def feed(self, unit: Unit) -> None:
        """Take the next text."""
        if unit.repeats:
            return
        if (seconds := unit.seconds) is not None:
            self.last_seconds = seconds if self.last_seconds is None else max(self.last_seconds, seconds)
            self._now = seconds
        if unit.place == "log":
            self.log_units += 1
            if unit.process and unit.process != "sysextd":
                self._other_logs += 1
        if unit.boot not in self._boots and len(self._boots) < 100:
            self._boots.append(unit.boot)
        text = unit.text
        if not self._driver_text and _DRIVER_TEXT.search(text):
            self._driver_text = True
        if unit.place != "log":
            self._row(unit)
            self._uuid(unit)
        if unit.place in ("log", "text"):
            self._sysextd(unit)
            self._session(unit)

    def reboot(self, unit: Unit) -> None:
        """The log says that the system booted."""
        self._note("", "system boot", unit)

    def add_row(self, row: Row) -> None:
        """A row that somebody has parsed already."""
        if len(self.rows) < MAX_KEPT:
            self.rows.append(row)
            self.identifiers.add(row.identifier)

    def _row(self, unit: Unit) -> None:
        if keyed := _KEYED.search(unit.text):
            self._keyed = keyed.group(1)
        for found in (*_ROW.finditer(unit.text), *_STATED.finditer(unit.text)):
            state = "_".join(found.group(1).lower().replace("_", " ").split())
            before = unit.text[: found.start()]
            named = [
                name
                for name in _IDENTIFIER.findall(before)
                if not name[0].isdigit() and not name.endswith((".app", ".md"))
            ]
            version = _VERSION.findall(before)
            self.add_row(
                Row(
                    identifier=named[-1] if named else self._keyed,
                    version="/".join(part for part in version[-1] if part) if version else "",
                    state=state,
                    unit=unit,
                )
            )

    def _uuid(self, unit: Unit) -> None:
        for found in _LINK_UUID.finditer(unit.text):
            uuid, arch, path = found.groups()
            path = path or f"line {unit.numbers[0]}/"  # a copy without its name
            name = "" if path.startswith("line ") else path.rstrip("/").rsplit("/", 1)[-1]
            self._uuids.setdefault((uuid.upper(), f"{arch} {name}"), {})[path] = unit
        for found in _BUNDLE_VERSION.finditer(unit.text):
            self._versions.update(version for version in found.groups() if version)

    def _sysextd(self, unit: Unit) -> None:
        text = unit.text
        if self._open_attempts and "rror" in text and _CODE_FOUR.search(text):
            self._refused_silently.update(self._open_attempts)
        if self._conflicts and "rror" in text and self._conflicts[-1][2] and _CODE_ELEVEN.search(text):
            self._cancelled = unit  # the app lives, it was asked, and it has answered
        if (
            self.replaced
            and "invalidat" in unit.low
            and len(self._dropped) < MAX_KEPT
            and unit.process != "sysextd"
            and _DROPPED.search(text)
            and not _ONE_SHOT.search(text)
        ):
            self._dropped.append(unit)
        if unit.process and unit.process not in ("sysextd",) and unit.place == "log":
            if unit.process in _ASKERS or ("xtension" in text and _ASKED.search(text)):
                self._asked.append(unit)
                self._note(self._current, f"{unit.process}: {text[:120]}", unit)
            if "actionForReplacing" in text:
                self._answered(answered=True)
                self.replaced = True
            if "didFinishWithResult" in text or "didFailWithError" in text:
                self._note(self._current, f"the app: {text[:160]}", unit)
            return
        if found := _REQUEST.search(text):
            self._current = found.group(2)
            self._asked_for(self._current)
            self._moment(unit)
            self._note(self._current, f"{found.group(1).lower()} request", unit)
        if found := _ATTEMPT.search(text):
            self._current = found.group(1)
            self._asked_for(self._current)
            self._open_attempts[self._current] = (unit, self._now)
            self._moment(unit)
        elif _PROGRESS.search(text):
            self._open_attempts.pop(self._current, None)
            for identifier in [known for known in self._open_attempts if known in text]:
                self._open_attempts.pop(identifier)
            if not self._current:
                self._open_attempts.clear()
        if found := _DECISION.search(text):
            decision = found.group(1)
            self._moment(unit)
            self._note(self._current, f"decision: {decision}", unit)
            if decision.startswith("coalesce"):
                self._coalesced.append(unit)
                self._joined.add(self._current)
                self._overtaken.pop(self._current, None)
            elif self._current in self._joined:
                self._joined.remove(self._current)
                self._overtaken[self._current] = unit
            if decision == "activateNew":
                self._new_requests += 1
        if _REPLACE.search(text):
            self.replaced = True
        if _CONFLICT.search(text):
            self.replaced = True
            self._conflicts.append((unit, False, False))
            self._note(self._current, "the app is asked whether to replace the old version", unit)
        elif _ANSWERED.search(text):
            self._answered(answered=True)
        elif _GONE.search(text):
            self._gone(unit)
        if found := _STAGING.search(text):
            self._note(found.group(1) or self._current, "staging", unit)
        if "advancing state" in unit.low:  # the expression is dear on a long text of dots
            for advance in _ADVANCE.finditer(text[:2000]):
                self._advance(advance, unit)

    def _asked_for(self, identifier: str) -> None:
        if len(self.requested) < MAX_KEPT:
            self.requested.add(identifier)

    def _advance(self, found: re.Match[str], unit: Unit) -> None:
        identifier, short, build, before, state = found.groups()
        identifier = identifier or self._current
        if identifier and len(self.identifiers) < MAX_KEPT:
            self.identifiers.add(identifier)
        life = self._lives.setdefault(identifier, _Life())
        life.state, life.state_unit = state.lower(), unit
        if life.state == "activated_waiting_for_user" and len(life.waiting) < MAX_KEPT:
            life.waiting.append(unit)
        elif life.waiting and life.answered is None:
            life.answered = unit.order
        if life.state == "activated_enabled":
            life.enabled = True
            life.approved = ""  # inherited, or given anew: whatever is asked after this has another reason
        version = "/".join(part for part in (short, build) if part)
        if before.lower() == "activated_enabled" and life.state.startswith("terminating_for_upgrade"):
            life.approved = version
        elif life.state == "activated_waiting_for_user" and life.approved and version not in ("", life.approved):
            life.unapproved = unit
        self._note(identifier, f"{before} -> {state}", unit, version)

    def _session(self, unit: Unit) -> None:
        text = unit.text
        if not any(word in unit.low for word in ("flow", "wake", "sleep", "demand", "delegate interface")) and (
            self._delegate_lost is None
        ):
            return
        if _FLOW.search(text):
            if self._wake is None:
                self._flow_before = True
            elif _seconds_between(self._wake, unit) is not None:
                self._flow_after = True
        elif unit.place == "log" and _WAKE.search(text) and self._sleeping:
            self._wake, self._flow_after = unit, False
        elif unit.place == "log" and _SLEEP.search(text):
            self._sleeping = True
        if found := _DELEGATE.search(text):
            if found.group(1) == "(null)":
                self._delegate_lost = self._delegate_lost or unit
            else:
                self._delegate_back(unit)
        elif self._delegate_lost is not None and _SEND_FAILED.search(text):
            self._delegate_dead = True
        if unit.seconds is not None and _ON_DEMAND.search(text):
            times = self._bursts.setdefault(text[:200], [])
            times.append(unit.seconds)
            del times[:-5]
            if len(times) == 5 and times[-1] - times[0] <= 1.0:
                self._burst = unit

    def _delegate_back(self, unit: Unit) -> None:
        """The delegate interface is set again: soon, as in any change of link, or after sends had failed for long."""
        if self._delegate_lost is not None and self._delegate_dead:
            seconds = _seconds_between(self._delegate_lost, unit)
            if seconds is not None and seconds >= HANDOVER:
                self._delegate_late = self._delegate_lost
        self._delegate_lost, self._delegate_dead = None, False

    def _answered(self, *, answered: bool) -> None:
        self._conflicts = [(unit, gone, answered) for unit, gone, _ in self._conflicts]

    def _gone(self, unit: Unit) -> None:
        changed = []
        for conflict, gone, answered in self._conflicts:
            seconds = _seconds_between(conflict, unit)
            changed.append((conflict, gone or seconds is None or seconds <= 1.0, answered))
        self._conflicts = changed

    def _moment(self, unit: Unit) -> None:
        moment = unit.seconds if unit.seconds is not None else self._now
        if moment is not None and len(self.moments) < MAX_KEPT:
            self.moments.append(moment)

    def _note(self, extension: str, what: str, unit: Unit, version: str = "") -> None:
        if len(self.timeline) >= MAX_KEPT:
            return
        line = unit.numbers[0] if unit.numbers else 0
        self.timeline.append(Happening(extension or "", what, unit.when, version, unit.file, line, unit.moment))

    # -- what it comes to ------------------------------------------------------------------------------------------

    def facts(self, *, lost: bool = False, prompt_seen: bool | None = None) -> Iterator[Fact]:
        """Everything that follows.

        Args:
            lost: Messages are missing from the log, so silence proves nothing.
            prompt_seen: Whether somebody who watched the screen saw the prompt; None if nobody did.
        """
        yield from self._states()
        yield from self._requests(lost=lost)
        yield from self._prompts(lost=lost, prompt_seen=prompt_seen)
        if (
            self._wake is not None
            and self._flow_before
            and not self._flow_after
            and self._goes_on(self._wake.seconds, 60.0)
        ):
            yield Fact("no-flow-after-wake", self._wake)
        if self._delegate_late is not None:
            yield Fact("delegate-interface-lost", self._delegate_late)
        elif self._delegate_lost is not None and self._delegate_dead:
            yield Fact("delegate-interface-lost", self._delegate_lost)
        if self._burst is not None:
            yield Fact("on-demand-burst", self._burst)
        if len(self._versions) > 1:
            for paths in self._uuids.values():
                if len(paths) > 1:
                    yield Fact("same-uuid-new-version", next(iter(paths.values())))
                    break

    def _states(self) -> Iterator[Fact]:
        rows = [row for row in self.rows if not self.extension or row.identifier == self.extension]
        live: dict[str, list[Row]] = {}
        latest: dict[str, str] = {row.identifier: row.unit.file for row in rows}
        for row in rows:
            if latest[row.identifier] != row.unit.file:
                continue  # an earlier listing: what came of it is in the later one
            name = _state_fact(row.state)
            if name:
                yield Fact(name, row.unit, row.identifier)
            if not row.state.startswith(("terminated", "uninstall")):
                live.setdefault(row.identifier, []).append(row)
        for identifier, several in live.items():
            states = [row.state for row in {(row.version, row.state): row for row in several}.values()]
            stuck = [state for state in states if state.startswith(("validating", "realizing", "staging"))]
            enabled = states.count("activated_enabled")
            if identifier and ((stuck and enabled) or enabled > 1):
                yield Fact("two-live-entries", several[0].unit, identifier)
        for identifier, life in self._lives.items():
            if life.state_unit is None or identifier in latest or (self.extension and identifier != self.extension):
                continue
            if name := _state_fact(life.state):
                yield Fact(name, life.state_unit, identifier)

    def _requests(self, *, lost: bool) -> Iterator[Fact]:
        for identifier, (unit, moment) in self._open_attempts.items():
            driver = bool(_DRIVERISH.search(identifier)) or self._driver_text
            if driver and not lost and (identifier in self._refused_silently or self._silence_tells(moment)):
                yield Fact("silent-after-realize", unit, identifier)
        for unit, gone, answered in self._conflicts:
            if gone and not answered:
                yield Fact("conflict-unanswered", unit)
        if not self._joined:
            for identifier, unit in self._overtaken.items():
                yield Fact("joined-request-overtaken", unit, identifier)
        if len(self._dropped) >= REPEATED:
            yield Fact("invalidated-after-replacement", self._dropped[0])
        if self._cancelled is not None:
            yield Fact("conflict-cancelled", self._cancelled)
        for identifier, life in self._lives.items():
            if life.unapproved is not None:
                yield Fact("approval-lost-by-replacement", life.unapproved, identifier)

    def _prompts(self, *, lost: bool, prompt_seen: bool | None) -> Iterator[Fact]:
        """No prompt although the log covers the time in which it should have come; or one that nobody could see."""
        for identifier, life in self._lives.items():
            if not life.waiting or not self._new_requests or self._coalesced or prompt_seen:
                continue
            unit = life.waiting[0]
            after = [
                other
                for other in self._asked
                if 0 <= (_seconds_between(unit, other) or 0) <= PROMPT_WAIT
                and (life.answered is None or other.order < life.answered)
            ]
            if after and prompt_seen is False:
                yield Fact("prompt-invisible", after[-1], identifier)
            elif (
                not after
                and not lost
                and (prompt_seen is False or (not life.enabled and self._goes_on(unit.seconds, PROMPT_WAIT)))
            ):
                yield Fact("waiting-without-prompt", unit, identifier)
        if self._asked and self._coalesced and not prompt_seen:
            boot = self._coalesced[-1].boot
            shown = [unit for unit in self._asked if unit.boot == boot and unit.order < self._coalesced[-1].order]
            later = [unit for unit in self._asked if unit.boot > boot]
            if shown and (prompt_seen is False or later):
                yield Fact("prompt-invisible", self._coalesced[-1])

    def _silence_tells(self, moment: float | None) -> bool:
        """Whether nothing after `moment` means that nothing happened: the log goes on, or it is just those lines."""
        if self._goes_on(moment, SILENCE):
            return True
        return self.log_units <= 4 and self._other_logs == 0

    def _goes_on(self, moment: float | None, seconds: float) -> bool:
        return moment is not None and self.last_seconds is not None and self.last_seconds - moment >= seconds

    def near_request(self, seconds: float | None) -> bool:
        """Whether that moment is within a minute of a request or a decision."""
        return seconds is not None and any(abs(seconds - moment) <= NEAR for moment in self.moments)


def _seconds_between(first: Unit, second: Unit) -> float | None:
    if first.seconds is None or second.seconds is None:
        return None
    return second.seconds - first.seconds


def _state_fact(state: str) -> str:
    """The fact that a state of a listing's row stands for; "" for one that says nothing by itself."""
    for name in (
        "activated_waiting_for_user",
        "activated_disabled",
        "activated_enabled",
        "activated_waiting_to_upgrade",
        "terminating_for_upgrade_via_delegate",
        "terminating_for_disable",
        "terminating_for_uninstall",
    ):
        if state.startswith(name):
            return f"state-{name}"
    return ""
