"""The words of upgrades: how a release is put over another one, in which state the Mac is then, and what the two are to each
other.

A path is a chain of steps walked on one Mac. A state that precedes the approval can only be had before the first approval,
so the states of a path never go back: never, waiting, dismissed, then the others in any order.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from dataclasses import dataclass

from harness.config import AppFile
from harness.errors import UsageError


class How(enum.StrEnum):
    """How the newer release gets onto the Mac."""

    PKG = "pkg"
    """Its package, or one built on the Mac, through `installer`, over whatever runs."""
    DMG = "dmg"
    """Copied from a mounted disk image over the app, while it runs."""
    UPDATER = "updater"
    """By the app's own updater: quit, aside, in place, relaunch."""
    DELETE_FIRST = "delete-first"
    """The old app is deleted, then the new one copied."""
    PREINSTALL = "pkg-preinstall"
    """A package whose preinstall script stops the tunnel first."""


class State(enum.StrEnum):
    """What the Mac and the older release's extension are doing when the newer one comes."""

    RUNNING = "running"
    """Approved, enabled, in use."""
    WAITING = "waiting"
    """The approval prompt is on the screen, unanswered."""
    DISABLED = "disabled"
    """Approved, then switched off in Settings."""
    DISMISSED = "dismissed"
    """The prompt was closed with OK; the request waits on."""
    NEVER = "never"
    """Installed and never started."""
    ASLEEP = "asleep"
    """In use, and the display sleeps."""
    SECOND_USER = "second-user"
    """In use, and another user is logged in as well."""


class Relation(enum.StrEnum):
    """What a step's two releases are to each other."""

    PREVIOUS = "previous"
    """The next release of the app file."""
    SKIP = "skip"
    """A later release, with others between."""
    REBUILD = "rebuild"
    """Other content under the same versions (`rebuild_of`)."""
    REINSTALL = "reinstall"
    """The very same release again."""
    DOWNGRADE = "downgrade"
    """An earlier release."""


_STAGE = {State.NEVER: 0, State.WAITING: 1, State.DISMISSED: 2}
UNAPPROVED = frozenset(_STAGE)
"""States before any approval."""
TUNNEL_UP = frozenset({State.RUNNING, State.ASLEEP, State.SECOND_USER})
"""States in which the extension runs."""
FIRST_SWITCHES = 15
"""The first macOS whose Settings can switch an extension off."""
_UNSAFE = re.compile(r"[^A-Za-z0-9._+-]")


@dataclass(frozen=True)
class Step:
    """One upgrade.

    Attributes:
        older: The release that is there, as the app file names it.
        newer: The release that comes.
    """

    older: str
    newer: str
    how: How = How.PKG
    state: State = State.RUNNING

    @property
    def id(self) -> str:
        """For names of tests and files."""
        return f"{_UNSAFE.sub('_', self.older)}->{_UNSAFE.sub('_', self.newer)}-{self.how}-{self.state}"

    def __str__(self) -> str:
        return f"{self.older}->{self.newer} via {self.how} while {self.state}"


@dataclass(frozen=True)
class UpgradePath:
    """Steps walked one after the other on one Mac; each begins where the last one ended.

    Raises:
        UsageError: The steps do not follow one another, or ask for a state that cannot come back.
    """

    steps: tuple[Step, ...]

    def __post_init__(self) -> None:
        if not self.steps:
            raise UsageError("an upgrade path of at least one step", seen="none", hint="such as 1.0->1.1")
        for one, next_one in zip(self.steps, self.steps[1:], strict=False):
            if one.newer != next_one.older:
                raise UsageError(
                    f"a step from {one.newer}, where the one before it ends",
                    seen=f"'{next_one}'",
                    hint="write a chain: a->b->c",
                )
            if _STAGE.get(next_one.state, 9) < _STAGE.get(one.state, 9):
                raise UsageError(
                    f"a state that can follow '{one.state}'",
                    seen=f"'{next_one.state}'",
                    hint="what was approved, dismissed or asked once cannot be undone on the same Mac: make it a path of its own",
                )

    @property
    def releases(self) -> tuple[str, ...]:
        """All releases, in the order of their installation."""
        return (self.steps[0].older, *(step.newer for step in self.steps))

    @property
    def target(self) -> str:
        """The release it ends with."""
        return self.steps[-1].newer

    @property
    def uniform(self) -> bool:
        """Whether all steps have the same way and state."""
        return len({(step.how, step.state) for step in self.steps}) == 1

    @property
    def id(self) -> str:
        """For names of tests and files: `0.11.4->0.11.5-pkg-running`."""
        if not self.uniform:
            return "+".join(step.id for step in self.steps)
        chain = "->".join(_UNSAFE.sub("_", release) for release in self.releases)
        return f"{chain}-{self.steps[0].how}-{self.steps[0].state}"

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps)

    def __len__(self) -> int:
        return len(self.steps)

    def __str__(self) -> str:
        """As an expression that means this path."""
        if not self.uniform:
            return " then ".join(str(step) for step in self.steps)
        return f"{'->'.join(self.releases)} via {self.steps[0].how} while {self.steps[0].state}"


def relation(app: AppFile, older: str, newer: str) -> Relation:
    """What two releases of an app file are to each other.

    Raises:
        UsageError: There is no such release.
    """
    app.release(older)
    app.release(newer)
    if older == newer:
        return Relation.REINSTALL
    if _build_group(app, older) == _build_group(app, newer):
        return Relation.REBUILD
    names = [release.version for release in app.releases]
    distance = names.index(newer) - names.index(older)
    if distance < 0:
        return Relation.DOWNGRADE
    return Relation.PREVIOUS if distance == 1 else Relation.SKIP


def impossible(app: AppFile, step: Step, macos: str | None = None) -> str | None:
    """Why a step cannot be walked with this app (on that version of macOS, if one is given); None if it can."""
    driver = app.extension.kind == "driver"
    if step.how is How.PREINSTALL and app.configuration is None:
        return "the app file names no `configuration`, so there is no tunnel for a preinstall script to stop"
    if step.how is How.PREINSTALL and step.state not in TUNNEL_UP:
        return f"no tunnel runs while {step.state}: there is nothing for a preinstall script to stop"
    if step.how in (How.PKG, How.PREINSTALL) and relation(app, step.older, step.newer) is Relation.DOWNGRADE:
        return "installer leaves a newer app where it is (BundleIsVersionChecked, pkgbuild(1))"
    if step.how is How.UPDATER and step.state is State.NEVER:
        return "the app's own updater only runs once the app was started, and starting it asks for the activation"
    if step.state is State.DISABLED and macos is not None and int(macos) < FIRST_SWITCHES:
        return f"Settings of macOS {macos} has no switch for each extension"
    if driver and step.state not in UNAPPROVED:
        return "macOS replaces a driver that was enabled only at a restart, or when its device is unplugged"
    return None


def _build_group(app: AppFile, version: str) -> str:
    """The release that a chain of `rebuild_of` ends with; the same for all builds of the same versions."""
    seen = {version}
    while (other := app.release(version).rebuild_of) is not None and other not in seen:
        seen.add(other)
        version = other
    return min(seen) if other is not None else version
