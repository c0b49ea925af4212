"""Other products on the same Mac: brought there first, and seen unharmed afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness import events
from harness.apps.activation import ENABLED
from harness.config import AppFile, load_app
from harness.errors import EnvironmentFailure, ProductFailure, SysextError, Verdict
from harness.formats.listing import ListedExtension
from harness.session.approving import ApprovalSteps

if TYPE_CHECKING:
    from harness.session.mac import Mac


@dataclass(frozen=True)
class Other:
    """Another product's extension as `systemextensionsctl list` has it."""

    identifier: str
    version: str
    category: str
    state: str


class Company:
    """What else is on a Mac. Made by `keep_company`.

    Attributes:
        others: The other products' extensions as they were when ours came, in whatever state.
        brought: Names of the companions that were brought here, for they can be asked whether they work.
    """

    def __init__(self, mac: Mac, brought: list[Mac]) -> None:
        self._mac = mac
        self._brought = brought
        self.brought = tuple(companion.app.name for companion in brought)
        self.others = tuple(others_on(mac))

    def of_category(self, word: str) -> list[Other]:
        """Those that are enabled and whose category has that word in it ("network_extension")."""
        return [other for other in self.others if word in other.category and other.state == ENABLED]

    def expect_unharmed(self) -> None:
        """All are still there, in the state they were in; the companions that were brought here work.

        Raises:
            ProductFailure: Ours has changed something.
        """
        with events.step("others are unharmed", others=len(self.others)) as step:
            now = others_on(self._mac)
            changed = [
                f"{other.identifier} {other.version} was {other.state}, is {_state_of(other, now)}"
                for other in self.others
                if other not in now
            ]
            step.note(changed=changed)
            if changed:
                raise ProductFailure(
                    f"the other extensions on {self._mac.name} to be as they were before {self._mac.app.name} came",
                    seen="; ".join(changed)[:1500],
                    hint="`systemextensionsctl list` in the case file has them all",
                )
            for companion in self._brought:
                companion.expect_working()


def keep_company(mac: Mac) -> Company:
    """Install and approve the app file's companions, and look what else is there. None at all is for the scenario to judge.

    Raises:
        EnvironmentFailure: A companion cannot be brought to work: then nothing can be said of ours.
        UsageError: A companion's app file cannot be used.
    """
    files = mac.app.companion_files()
    apps = [load_app(file) for file in files]  # all of them before anything is installed
    brought: list[Mac] = []
    try:
        for file, app in zip(files, apps, strict=True):
            brought.append(_bring(mac, app, file))
    finally:
        mac.case.prompt_appeared = mac.case.approvable = None  # said of the companions so far, not of ours
    company = Company(mac, brought)
    events.event("company", others=[f"{other.identifier} [{other.state}]" for other in company.others][:50])
    return company


def _bring(mac: Mac, app: AppFile, file: Path) -> Mac:
    """Install and approve one companion, and see it work."""
    companion = mac.beside(app)
    with events.step("bring a companion", app=app.name):
        try:
            companion.install()
            ApprovalSteps(companion).activate_and_approve()
            companion.expect_working()
        except SysextError as error:
            if error.verdict is not Verdict.PRODUCT_FAILURE:
                raise
            raise EnvironmentFailure(
                f"{app.name} to work on {mac.name} before {mac.app.name} comes",
                seen=str(error)[:1500],
                hint=f"run the scenarios with --sysext-app {file} by itself, or take it out of `companions`",
            ) from error
    return companion


def others_on(mac: Mac) -> list[Other]:
    """Every extension that is not the app's own.

    Raises:
        EnvironmentFailure: `systemextensionsctl list` does not tell: nothing can be said of others then.
    """
    snapshot = mac.snapshot()
    if snapshot.listing is None:
        raise EnvironmentFailure(
            f"`systemextensionsctl list` on {mac.name} to tell which extensions there are",
            seen=snapshot.listing_text[-300:] or "it failed",
            hint="log in and run it there",
        )
    entries: tuple[ListedExtension, ...] = snapshot.listing.entries
    return [
        Other(entry.identifier, f"{entry.short}/{entry.build}", entry.category, entry.state)
        for entry in entries
        if entry.identifier != mac.app.extension.id
    ]


def _state_of(other: Other, now: list[Other]) -> str:
    return next(
        (one.state for one in now if (one.identifier, one.version) == (other.identifier, other.version)), "gone"
    )
