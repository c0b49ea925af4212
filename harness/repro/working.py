"""A worker of `sysext repro`: one pytest session that runs the cycles it is told to, and says what each came to.

The scenarios are collected once; session fixtures, the text reader's models and (with `--sysext-same-mac`) a Mac stay from
cycle to cycle. Each cycle is an item of its own, made when it is asked for: `test_x[macos15-cycle7]`.

    python -m harness.repro.working FD FOLDER PYTEST-ARGUMENT…

Over the connection FD come ("run", item, cycle, attempt) and ("end",); back go ("ready", node ids, header lines),
("outcome", Outcome.as_dict()), ("kept", text with the VNC password: for a terminal only, the same text masked).
"""

from __future__ import annotations

import dataclasses
import signal
import sys
import time
from collections.abc import Generator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from harness import events
from harness.errors import Verdict
from harness.repro.outcomes import Outcome
from harness.session.stash import ATTEMPT, CASE, KEPT, PART, REACH, RESULT, TRIES

_SAID = 500


def cycle_of(item: pytest.Function, cycle: int) -> pytest.Function:
    """The same scenario once more, as an item of its own."""
    name = f"{item.name[:-1]}-cycle{cycle}]" if item.name.endswith("]") else f"{item.name}[cycle{cycle}]"
    callspec = getattr(item, "callspec", None)
    if callspec is not None:
        # Newer versions of pytest make the node id of these, not of the name. The same for each cycle, so would be its run key,
        # and all that is decided by that.
        kind = type(callspec._idlist)
        callspec = dataclasses.replace(callspec, _idlist=kind([*callspec._idlist, f"cycle{cycle}"]))
    new: pytest.Function = type(item).from_parent(
        item.parent,
        name=name,
        callspec=callspec,
        fixtureinfo=item._fixtureinfo,
        originalname=item.originalname,
    )
    new.own_markers = list(item.own_markers)
    return new


class Worker:
    """The plugin that draws cycles from the connection."""

    def __init__(self, connection: Connection, folder: Path) -> None:
        self.connection = connection
        self.folder = folder
        self._reports: list[pytest.TestReport] = []

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_cmdline_main(self, config: pytest.Config) -> Generator[None, Any, Any]:
        """Whatever the project's own options (`addopts`, PYTEST_ADDOPTS) say: workers, repetition and order are ours. With
        `--sysext-until-fail` from there, cycles after a failure would not be run and yet look clean.
        """
        given = config.invocation_params.args  # what the one who asked wrote, without those
        own: dict[str, Any] = {"numprocesses": 0, "dist": "no", "tx": [], "reruns": 0, "maxfail": 0}
        own |= {"sysext_repeat": None, "sysext_until_fail": False, "sysext_same_mac": "--sysext-same-mac" in given}
        for name, value in own.items():
            if hasattr(config.option, name):
                setattr(config.option, name, value)
        return (yield)

    @pytest.hookimpl(tryfirst=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        """This session is a part of a run: it writes there, and tells and records nothing itself."""
        config.stash[PART] = self.folder
        config.stash[TRIES] = 1  # a cycle that the environment broke is repeated by who counts
        # Both: only who passes it on knows whether that is a terminal, and only this process knows the password.
        config.stash[REACH] = lambda text: self.connection.send(("kept", text, events.SECRETS.mask(text)))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run what is asked for until there is nothing more."""
        if session.testsfailed:
            raise session.Interrupted(f"{session.testsfailed} errors during collection")
        items = [item for item in session.items if isinstance(item, pytest.Function)]
        if not items:
            return True
        # Sorted: a plugin that shuffles must not give one number to another scenario in each worker.
        items.sort(key=lambda item: item.nodeid)
        self.connection.send(("ready", [item.nodeid for item in items], self._header(session.config)))
        while True:
            try:
                message: tuple[Any, ...] = self.connection.recv()
            except (EOFError, OSError):  # whoever asked is gone: end in order, so that a Mac between cycles is put away
                return True
            if message[0] != "run":
                return True
            _, number, cycle, attempt = message
            self.connection.send(("outcome", self._run(items[number], number, cycle, attempt).as_dict()))

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        """What is put away now is put away: a Ctrl-C that was meant for the last cycle may arrive only here."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the reports of the cycle under way."""
        self._reports.append(report)

    def _run(self, template: pytest.Function, number: int, cycle: int, attempt: int) -> Outcome:
        item = cycle_of(template, cycle)
        item.stash[ATTEMPT] = attempt
        self._reports.clear()
        started = time.monotonic()
        # What comes after it is of the same module, whatever it is: fixtures of wider scope stay.
        template.config.hook.pytest_runtest_protocol(item=item, nextitem=cycle_of(template, cycle + 1))
        return _outcome(item, template, number, cycle, attempt, self._reports, time.monotonic() - started)

    def _header(self, config: pytest.Config) -> list[str]:
        from harness.session import terminal
        from harness.session.stash import RUN

        return terminal.header(config.stash[RUN]) if RUN in config.stash else []


def _outcome(
    item: pytest.Function,
    template: pytest.Function,
    number: int,
    cycle: int,
    attempt: int,
    reports: list[pytest.TestReport],
    seconds: float,
) -> Outcome:
    result = item.stash.get(RESULT, None)
    case = item.stash.get(CASE, None)
    # What another plugin has run once more until it passed has failed all the same.
    failed = next((report for report in reports if report.failed or str(report.outcome) == "rerun"), None)
    skipped = next((report for report in reports if report.skipped), None)
    said, cause = "", ""
    notes: tuple[str, ...] = ()
    if result is not None:
        verdict, said, cause, notes = result.verdict, result.error, result.cause, result.notes
        if result.verdict is Verdict.PASSED and failed is not None:  # a fixture of its own, after the Mac was gone
            verdict, said = Verdict.HARNESS_ERROR, _crash(failed)
    elif failed is not None:  # no case file: a plain test, or one whose fixtures do not get that far
        verdict = Verdict.PRODUCT_FAILURE if failed.when == "call" else Verdict.HARNESS_ERROR
        said = _crash(failed)
    elif skipped is not None:
        verdict, said = Verdict.SKIPPED, str(skipped.longrepr[2] if isinstance(skipped.longrepr, tuple) else "")
    elif any(report.when == "call" and report.passed for report in reports):
        verdict = Verdict.PASSED
    else:  # never clean for want of a word to the contrary
        verdict, said = Verdict.HARNESS_ERROR, "pytest did not run it: another plugin or option keeps it from that"
    return Outcome(
        cycle=cycle,
        attempt=attempt,
        item=number,
        nodeid=template.nodeid,
        verdict=verdict,
        cause=cause,
        error=events.SECRETS.mask(said)[:_SAID],
        case=str(case.folder.path) if case is not None else "",
        seconds=round(seconds, 3),
        kept=item.stash.get(KEPT, False),
        notes=tuple(notes),
    )


def _crash(report: pytest.TestReport) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    return str(crash.message if crash is not None else report.longrepr)


def main(arguments: list[str]) -> int:
    """The process's entry; pytest's exit code."""
    descriptor, folder, *given = arguments
    connection = Connection(int(descriptor))
    try:
        return int(pytest.main(given, plugins=[Worker(connection, Path(folder))]))
    except (EOFError, OSError):  # whoever asked is gone
        return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
