"""The machinery of a collection: items one after another, each on its own, each with its share of the time."""

from __future__ import annotations

import contextlib
import errno
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from harness import events
from harness.errors import EnvironmentFailure, SysextError
from harness.events import SECRETS
from harness.evidence.case import CaseFolder, safe_name
from harness.evidence.manifest import Collection, Item, Manifest, Status, now
from harness.guest import CommandFailed, CommandTimeout, ConnectionLost, Guest, NoSpace, NoSuchFile
from harness.waiting import Deadline

RECONNECT_SECONDS = 30.0
"""A Mac that was there is waited for so long: it may be restarting."""
FIRST_SECONDS = 3.0
"""One that never let us in, though it was waited for as long as a boot may take, gets one more look and no second wait."""
MAX_TEXT = 64 << 20


class Missing(Exception):
    """Raised by an item whose thing is not there: no failure, but said."""


class Partial(Exception):
    """Raised by an item that left a file which is not all of it."""


@dataclass
class Plan:
    """What is to be collected.

    Attributes:
        name: For people.
        file: Name of its file inside the collection's folder; "" if it makes several or none.
        source: The command or place.
        seconds: Its share of the time at most.
        gather: Does it; writes the file; returns a remark. May raise anything.
        needs_guest: Whether it asks the guest.
        fallback: What is gathered instead if it does not come whole.
    """

    name: str
    file: str
    source: str
    seconds: float
    gather: Callable[[Path, Deadline], str | None]
    needs_guest: bool = True
    fallback: Plan | None = None
    item: Item = field(init=False)

    def __post_init__(self) -> None:
        self.item = Item(name=self.name, source=SECRETS.mask(self.source))


class Collector:
    """One collection under way.

    Attributes:
        folder: Where its files go.
        unreachable: Why the guest cannot be asked any more; "" if it can.
    """

    def __init__(self, guest: Guest, case: CaseFolder, *, reason: str, since: str, deadline: Deadline) -> None:
        self.guest = guest
        self.case = case
        self.deadline = deadline
        self.manifest = Manifest(case.manifest_path)
        self.folder = case.new_collection(reason)
        self.collection = Collection(id=self.folder.name, reason=reason, machine=guest.name, started=now(), since=since)
        self.unreachable = ""

    def run(self, plans: list[Plan]) -> Manifest:
        """Gather everything that was planned; never raises for an item."""
        with events.step("collect-evidence", machine=self.guest.name, reason=self.collection.reason) as step:
            self.collection.items = [plan.item for plan in plans]
            self.manifest.begin(self.collection)
            try:
                for plan in plans:
                    self._one(plan)
                    self.manifest.save()
                    if plan.fallback is not None and plan.item.status != "ok":
                        self.collection.items.append(plan.fallback.item)
                        self._one(plan.fallback)
                        self.manifest.save()
            except BaseException:
                self.manifest.break_off()
                raise
            self.manifest.finish(self.collection)
            gaps = [f"{item.name}: {item.why}" for item in self.collection.gaps]
            step.note(items=len(self.collection.items), gaps=gaps[:20])
            step.attach(self.manifest.path, "manifest", "application/json")
            for item in self.collection.items:
                if item.path is not None:  # partial ones too: half a log is better than none
                    step.attach(self.manifest.path.parent / item.path, item.name)
        return self.manifest

    def add(self, item: Item, file: Path | None) -> None:
        """Add an item that was only found on the way (a crash report)."""
        self.manifest.seal(item, file)
        self.collection.items.append(item)

    def _one(self, plan: Plan) -> None:
        item = plan.item
        if plan.needs_guest and not self.reach():
            item.why = self.unreachable
            return
        if self.deadline.expired:
            item.why = f"the time for evidence was used up ({self.deadline.seconds:.0f} s)"
            return
        item.started = now()
        started = time.monotonic()
        file = self.folder / safe_name(plan.file) if plan.file else self.folder
        status: Status = "ok"
        why = ""
        try:
            why = plan.gather(file, self.deadline.sub(plan.seconds)) or ""
        except Missing as error:
            status, why = "missing", str(error)
        except Partial as error:
            status, why = "partial", str(error)
        except Exception as error:  # noqa: BLE001 - one item's failure must not stop the others; its reason is kept
            status, why = "failed", explain(error)
        except BaseException as error:
            self._settle(plan, file, started, "failed", f"interrupted: {type(error).__name__}")
            raise
        self._settle(plan, file, started, status, why)

    def _settle(self, plan: Plan, file: Path, started: float, status: Status, why: str) -> None:
        """Note how it went; a file that is there is named, whatever happened."""
        item = plan.item
        item.seconds = round(time.monotonic() - started, 3)
        if plan.file:
            try:
                self.manifest.seal(item, file)
            except OSError as error:
                status, why = "failed", f"{why}; unreadable: {error}".lstrip("; ")
            if item.path is not None and item.bytes == 0 and status == "failed":
                file.unlink(missing_ok=True)
                item.path = item.sha256 = None
            elif item.path is not None and status == "failed":
                status = "partial"
            elif item.path is None and status in ("ok", "partial"):
                status, why = "failed", why or "nothing was written"
        item.status, item.why = status, SECRETS.mask(why)[:2000]
        if status != "ok":
            events.event("evidence-gap", item=plan.name, status=status, why=item.why)

    def reach(self) -> bool:
        """Whether the guest can be asked; tries once to get it back, and then no more."""
        if self.guest.connected:
            return True
        if self.unreachable:
            return False
        try:
            self.guest.connect(self.deadline.sub(RECONNECT_SECONDS if self.guest.reached else FIRST_SECONDS))
        except SysextError as error:
            self.unreachable = f"the guest cannot be reached: {error.seen or error}"
            return False
        return True


def explain(error: BaseException) -> str:
    """Why an item failed, in one line."""
    if isinstance(error, NoSpace):
        return f"disk full: {error.expected}: {error.seen}"
    if isinstance(error, CommandTimeout):
        return f"timed out: {error.seen}"
    if isinstance(error, ConnectionLost):
        return f"connection lost: {error.seen}"
    if isinstance(error, CommandFailed) and "No space left" in error.seen:
        return f"disk full in the guest: {error.seen}"
    if isinstance(error, SysextError):
        return f"{error.expected}: {error.seen}".replace("\n", " ")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"disk full on the host: {error.strerror}"
    return f"{type(error).__name__}: {error}".replace("\n", " ")


def write_text(file: Path, data: bytes) -> None:
    """Write text that came from the guest, with the secrets masked."""
    file.write_bytes(
        SECRETS.mask(data.decode("utf-8", errors="surrogateescape")).encode("utf-8", errors="surrogateescape")
    )


def command(
    guest: Guest,
    name: str,
    argv: list[str],
    *,
    file: str = "",
    sudo: bool = False,
    seconds: float = 30.0,
    accept: tuple[int, ...] = (0,),
) -> Plan:
    """The plan to run a command and keep what it printed: standard output, and what went to standard error below it.

    A command that ends otherwise than in `accept` leaves its output too, as *partial*.
    """

    def gather(target: Path, deadline: Deadline) -> str | None:
        try:
            result = guest.run(argv, deadline=deadline, sudo=sudo, check=False, quiet=True, max_output=MAX_TEXT)
        except CommandFailed as error:  # too long, or too much: what it said until then is worth keeping
            if error.result is not None and error.result.stdout:
                write_text(target, error.result.stdout)
            raise
        text = result.stdout
        if result.stderr.strip():
            text += (b"" if not text or text.endswith(b"\n") else b"\n") + b"--- standard error ---\n" + result.stderr
        write_text(target, text or b"(no output)\n")
        if result.exit_code not in accept:
            raise Partial(f"exit code {result.exit_code}: {result.error_text.strip()[-300:]}")
        return None

    return Plan(name, file or f"{name}.txt", ("sudo " if sudo else "") + " ".join(argv), seconds, gather)


def forget(guest: Guest, path: str, deadline: Deadline) -> None:
    """Remove a file of ours from the guest; never raises."""
    with contextlib.suppress(EnvironmentFailure, CommandFailed, NoSuchFile):
        guest.run(["rm", "-rf", path], sudo=True, deadline=deadline.sub(30), check=False, quiet=True)
