"""A Mac for one scenario: made, brought up, lent, and put away whatever happens; or kept; or handed on to the next cycle."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from harness import events
from harness.errors import HarnessError, SysextError, Verdict, verdict_of
from harness.session import terminal
from harness.session.markers import wishes_for
from harness.session.options import KEEP_FIRST, keeping
from harness.session.stash import KEPT, MAC, PART, STABLE

if TYPE_CHECKING:
    from harness.machines import Machine
    from harness.session.case import Case
    from harness.session.mac import Mac
    from harness.session.run import Run


class Interrupted(HarnessError):
    """A scenario was ended from outside (Ctrl-C, SIGTERM) before anything had failed."""


@dataclass
class Stable:
    """Macs that wait for their next cycle (`--sysext-same-mac`), at most one of a kind."""

    parked: dict[str, Machine] = field(default_factory=dict)
    seconds: float = 60.0

    def take(self, kind: str) -> Machine | None:
        """One of this kind, running and clean; it is the taker's now."""
        return self.parked.pop(kind, None)

    def park(self, kind: str, machine: Machine) -> bool:
        """Hand one on; False where there is one of its kind already."""
        return self.parked.setdefault(kind, machine) is machine

    def clear(self) -> None:
        """Put all of them away, also where one does not go: what is wrong with it is raised in the end."""
        with contextlib.ExitStack() as stack:
            while self.parked:
                _, machine = self.parked.popitem()
                stack.callback(_delete, machine, self.seconds)


@contextlib.contextmanager
def lend(request: pytest.FixtureRequest, run: Run, case: Case) -> Iterator[Mac]:
    """A Mac for this scenario, booted and logged in: a fresh one, or with `--sysext-same-mac` the one of the cycle before,
    from which the product was removed again. Deleted at the end, kept, or handed on.

    Raises:
        SysextError: None could be made or brought up.
    """
    from harness.machines import guard_signals
    from harness.session.cleaning import others
    from harness.session.mac import Mac

    item = request.node
    wishes = wishes_for(item, run.provider)
    same = bool(item.config.getoption("sysext_same_mac"))
    kind = f"{case.macos} {wishes}"
    with contextlib.ExitStack() as stack:
        stack.enter_context(guard_signals())
        machine = _parked(item, kind) if same else None
        handed_on = machine is not None
        if machine is None:
            if same:
                _stable(item, run).clear()  # of another kind: this host has room for few
            machine = _create(run, case, wishes)
        mac: Mac | None = None

        def put_away(_: object, error: BaseException | None, __: object) -> None:
            try:
                _put_away(item, machine, case, run)
            except Exception as trouble:
                if error is None:
                    raise
                # What went wrong first must be heard; the machine's lease stays, so that it is tried again.
                events.event("degraded", what=f"{machine.name} could not be put away", reason=str(trouble))

        ends = stack.enter_context(contextlib.ExitStack())
        ends.push(put_away)
        mac = Mac(machine, settings=run.settings, app=run.app, case=case, reader=run.reader, release=run.release)
        stack.callback(mac.close)
        item.stash[MAC] = mac
        stack.callback(item.stash.__delitem__, MAC)
        try:
            mac.bring_up()
        except Exception as error:
            case.fail(error)
            mac.collect(f"{verdict_of(error).value}: {type(error).__name__}")
            raise
        beside = others(mac) if same else frozenset()
        if handed_on:
            case.notes.append(
                f"on the Mac of the cycle before ({machine.name}), from which the product had been removed"
            )
            events.event("same-mac", machine=machine.name)
        yield mac
        if same and case.failure is None and _clean(mac, beside) and _stable(item, run).park(kind, machine):
            ends.pop_all()  # it is not put away: the next cycle has it


def _create(run: Run, case: Case, wishes: dict[str, Any]) -> Machine:
    from harness.session.mac import machine_folder
    from harness.waiting import Deadline

    timeouts = run.settings.timeouts
    return run.provider.create(
        image=run.settings.image_for(case.macos),
        macos=case.macos,
        purpose=case.scenario,
        folder=machine_folder(case),
        deadline=Deadline.after(timeouts.slot + timeouts.clone),
        environment={"SYSEXT_SIM_RUN_KEY": f"{case.nodeid}|{case.attempt}"},
        **wishes,
    )


def _stable(item: pytest.Item, run: Run) -> Stable:
    return item.config.stash.setdefault(STABLE, Stable(seconds=run.settings.timeouts.shutdown))


def _parked(item: pytest.Item, kind: str) -> Machine | None:
    stable = item.config.stash.get(STABLE, None)
    return stable.take(kind) if stable is not None else None


def _clean(mac: Mac, beside: frozenset[str]) -> bool:
    """Remove the product; whether the oracle says that nothing of it is left. If not, the next cycle gets a fresh Mac, and
    that is told.
    """
    from harness.session.cleaning import remove_product

    try:
        with events.step("clean for the next cycle", machine=mac.name):
            remove_product(mac, beside=beside)
    except Exception as error:  # noqa: BLE001 - the scenario has passed; this only costs a fresh Mac
        said = str(error) if isinstance(error, SysextError) else f"{type(error).__name__}: {error}"
        events.event("mac-replaced", machine=mac.name, reason=said)
        mac.case.notes.append(f"the next cycle gets a fresh Mac: {said.splitlines()[0][:300]}")
        return False
    return True


def _put_away(item: pytest.Item, machine: Machine, case: Case, run: Run) -> None:
    verdict = verdict_of(case.failure)
    if verdict is Verdict.ENVIRONMENT_FAILURE:
        machine.mark_bad(str(case.failure))
    keep = keeping(item.config, default=run.settings.keep_vm)
    with events.step("delete machine", machine=machine.name):
        if (
            keep
            and verdict not in (Verdict.PASSED, Verdict.SKIPPED)
            and not isinstance(case.failure, Interrupted)
            and (keep != KEEP_FIRST or _is_first(run, case, verdict, counted=PART in item.config.stash))
        ):
            terminal.say_how_to_reach(item, machine.keep())
            item.stash[KEPT] = True
            return
        _delete(machine, run.settings.timeouts.shutdown)


def _is_first(run: Run, case: Case, verdict: Verdict, *, counted: bool) -> bool:
    """Whether no other Mac of this run was kept: of all its processes, the first that asks is told so. What the environment
    broke is of no use to who looks for a failure of the product; nor, where cycles are counted (`sysext repro`), is what the
    harness broke: it counts no more than that.
    """
    if verdict is Verdict.ENVIRONMENT_FAILURE or (counted and verdict is Verdict.HARNESS_ERROR):
        return False
    try:
        with (run.folder / "kept").open("x", encoding="utf-8") as file:
            file.write(f"{case.folder.path.name}\n")
    except FileExistsError:
        return False
    return True


def _delete(machine: Machine, seconds: float) -> None:
    from harness.waiting import Deadline

    try:
        # A disposable Mac: nothing on it is wanted any more, so the power is cut.
        machine.stop(Deadline.after(seconds))
    finally:
        machine.delete()
