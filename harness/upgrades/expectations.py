"""What macOS should make of an upgrade, by what the two releases are to each other, the state before, and the way.

This is a table on purpose: a scenario compares what it sees with a row of it, and the row says where that comes from.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass

from harness.upgrades.paths import How, Relation, State

ENABLED = "activated_enabled"
WAITING = "activated_waiting_for_user"
DISABLED = "activated_disabled"


class Answer(enum.StrEnum):
    """What a person has to do until the newer release works."""

    NOTHING = "nothing"
    """The approval is inherited; a question would be a failure."""
    APPROVE = "approve"
    """Approve it once, in Settings."""
    SWITCH_ON = "switch on"
    """Switch it on again in Settings."""


@dataclass(frozen=True)
class Expectation:
    """One row.

    Attributes:
        replaced: Whether sysextd stages the newer copy; if not, the older one goes on running.
        pending: The states the extension may be in after the request and before the answer; empty where none is needed.
        likely: The one of them that is expected; another one of them is told.
        answer: What a person then has to do.
        source: Where this comes from.
    """

    replaced: bool
    pending: tuple[str, ...]
    answer: Answer
    source: str

    @property
    def likely(self) -> str | None:
        """The state that is expected before the answer."""
        return self.pending[0] if self.pending else None


SAME_VERSION = frozenset({Relation.REBUILD, Relation.REINSTALL})
REPLACED = "posted logs: *activateDecision found entry to replace*, then the app's delegate answers *replace*"
KEPT = "posted logs: *activateDecision found existing entry of same version*: the request is answered with the copy that is there"
STATES: dict[State, tuple[tuple[str, ...], Answer, str]] = {
    State.RUNNING: ((), Answer.NOTHING, "a replacement inherits the approval (coder-desktop-macos issue 158)"),
    State.ASLEEP: ((), Answer.NOTHING, "as while running; that a sleeping display changes nothing is *unconfirmed*"),
    State.SECOND_USER: (
        (),
        Answer.NOTHING,
        "as while running: approvals are the Mac's, not a user's (`/Library/SystemExtensions`)",
    ),
    State.WAITING: (
        (WAITING,),
        Answer.APPROVE,
        "one entry remains, of the newer version, and waits; the older request ends with code 12 (*unconfirmed*)",
    ),
    State.DISMISSED: (
        (WAITING,),
        Answer.APPROVE,
        "as while waiting; whether macOS asks anew is told, not judged (a request that waits raises none: tapflow pull request 808)",
    ),
    State.DISABLED: (
        (DISABLED, WAITING),
        Answer.SWITCH_ON,
        "no upgrade switches on what a person switched off; that it stays *disabled* is *unconfirmed*",
    ),
    State.NEVER: ((WAITING,), Answer.APPROVE, "no entry yet: the first request there is (Apple's documentation)"),
}
"""State → pending states, answer, source."""
HOWS: dict[How, str] = {
    How.PKG: "installer(8) replaces the bundle while it runs; nothing changes until the app asks again",
    How.DMG: "a copy over a running app changes nothing until the app asks again",
    How.UPDATER: "Sparkle and its like quit the app, move the new one in place, and start it",
    How.DELETE_FIRST: "removing the app with `rm` takes its extension along at the next boot only (*unconfirmed*)",
    How.PREINSTALL: "`scutil --nc stop` ends the session, not the extension; the app's next start brings it back",
}
"""How → what is particular about it."""


def expect(relation: Relation, state: State, how: How) -> Expectation:
    """The row for an upgrade."""
    pending, answer, why = STATES[state]
    replaced = relation not in SAME_VERSION or state is State.NEVER
    decision = REPLACED if relation not in SAME_VERSION else KEPT
    if state is State.NEVER:
        decision = "nothing is there to be replaced"
    if relation is Relation.DOWNGRADE and state is not State.NEVER:
        decision = f"{decision}; the delegate is asked for an older version, too"
    return Expectation(replaced, pending, answer, f"{why}; {decision}; {HOWS[how]}")


def rows() -> Iterator[tuple[str, ...]]:
    """The table for people: state, sysextd's state before the answer, what a person does, source."""
    for state, (pending, answer, why) in STATES.items():
        shown = " or ".join(f"*{one.replace('_', ' ')}*" for one in pending) or "–"
        yield f"`{state}`", shown, answer.value, why
