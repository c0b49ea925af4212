"""Does the extension really work? *activated enabled* is no proof: launchd, endpoints, process, configuration, the app's own checks."""

from __future__ import annotations

import re
from dataclasses import dataclass

from harness import events
from harness.apps.activation import ENABLED
from harness.apps.oracle import Entry, Oracle, for_a_look
from harness.config import AppFile, FunctionCheck
from harness.errors import ProductFailure, SysextError, UsageError, Verdict, WaitTimeout
from harness.formats.launchctl import Job
from harness.guest import CommandTimeout, Guest
from harness.waiting import Deadline, wait_until

_STAGED = re.compile(r"(?:/private)?/Library/SystemExtensions/([0-9A-Fa-f-]{36})/")
"""Where sysextd keeps its copies: a folder each, named as in db.plist."""


class XpcBroken(ProductFailure):
    """The extension is enabled and runs, but nobody can talk to it: launchd has no endpoints for its job."""


@dataclass(frozen=True)
class Health:
    """What a working extension looked like."""

    entry: Entry
    job: Job | None
    pid: int | None


def expect_working(
    guest: Guest, oracle: Oracle, app: AppFile, *, version: tuple[str, str], deadline: Deadline
) -> Health:
    """Check all that the oracle can: one enabled entry of that version, its launchd job running (a network extension's with
    endpoints), no process of another version, the configuration connected, the app file's own checks. A driver has no
    job that is known: what it does is for the app file's checks.

    Args:
        guest: The Mac.
        oracle: Its oracle.
        app: The app file.
        version: (CFBundleShortVersionString, CFBundleVersion) of the extension that should run.
        deadline: For all of it.

    Raises:
        XpcBroken: Running without endpoints.
        ProductFailure: Anything else is not as it should be.
    """
    short, build = version
    with events.step("extension works", version=f"{short}/{build}") as step:
        snapshot = oracle.wait_for_state([ENABLED], deadline)
        enabled = [entry for entry in snapshot.entries if entry.state == ENABLED]
        if len(enabled) != 1 or (enabled[0].short, enabled[0].build) != (short, build):
            raise ProductFailure(
                f"exactly one enabled copy of {app.extension.id}, version {short}/{build}",
                seen=snapshot.describe(),
                hint="two enabled copies, or the old one still active: see db.plist in the case file",
            )
        job = _expect_job(guest, oracle, app, short, build, deadline)
        if job is not None:
            _expect_copy(guest, job, enabled[0])
        if app.configuration is not None:
            wait_until(
                lambda: oracle.configuration(for_a_look(deadline)),
                lambda found: found is not None and found.status == "Connected",
                what=f"the configuration '{app.configuration}' on {guest.name} to be connected",
                deadline=deadline,
                hint="run `scutil --nc list` there; was the second consent given?",
                blame=Verdict.PRODUCT_FAILURE,
            )
        for check in app.checks:
            _run_check(guest, check, deadline)
        step.note(job=job.label if job else None, pid=job.pid if job else None)
    return Health(enabled[0], job, job.pid if job else None)


def _expect_job(guest: Guest, oracle: Oracle, app: AppFile, short: str, build: str, deadline: Deadline) -> Job | None:
    label = oracle.label(short, build)
    if label is None:
        return None
    # An endpoint-security extension need not offer anything to anybody: posted prints of some have no such block.
    reachable = app.extension.kind != "endpoint-security"

    def running(job: Job | None) -> bool:
        return job is not None and job.state == "running" and (bool(job.endpoints) or not reachable)

    try:
        job = wait_until(
            lambda: oracle.job(short, build, for_a_look(deadline)),
            running,
            what=f"launchd's job {label} on {guest.name} to run with its endpoints",
            deadline=deadline.sub(min(20.0, deadline.remaining)),
            blame=Verdict.PRODUCT_FAILURE,
        )
    except WaitTimeout as timeout:
        raise _why(guest, label, timeout) from timeout
    assert job is not None
    listed = guest.run(["launchctl", "list"], deadline=for_a_look(deadline), sudo=True, check=False)
    rows = {row.rpartition("\t")[2].strip(): row for row in listed.text.splitlines()}
    if label not in rows:  # this job runs: a list without it is no list to find others in
        events.event(
            "degraded",
            what=f"processes of older versions of {app.extension.id} were not looked for",
            reason=f"`launchctl list` ended with {listed.exit_code}, and has no {label}, which runs",
        )
    others = [
        row
        for found, row in rows.items()
        if found.startswith(f"NetworkExtension.{app.extension.id}.") and found != label and not row.startswith("-")
    ]
    if others:
        raise ProductFailure(
            f"no process of an older version of {app.extension.id}",
            seen="; ".join(others),
            hint="reboot cures it; keep the case file",
        )
    return job


def _expect_copy(guest: Guest, job: Job, entry: Entry) -> None:
    """The process is of the copy that db.plist calls enabled, where launchd tells the path of one."""
    found = _STAGED.match(job.program)
    if found is None or entry.unique_id is None or found[1].upper() == entry.unique_id.upper():
        return
    raise ProductFailure(
        f"launchd's job {job.label} on {guest.name} to run the enabled copy, {entry.unique_id}",
        seen=f"it runs {job.program}",
        hint="old code runs under the new version's name; a restart cures it",
    )


def _why(guest: Guest, label: str, timeout: WaitTimeout) -> SysextError:
    last = timeout.last
    if not isinstance(last, Job):
        return ProductFailure(
            f"launchd on {guest.name} to have a job {label}",
            seen="Could not find service",
            hint="the extension is listed, but was never started",
        )
    if last.state == "running" and not last.endpoints:
        return XpcBroken(
            f"launchd's job {label} on {guest.name} to have endpoints",
            seen=f"state = running, pid {last.pid}, and no endpoints after {timeout.elapsed:.0f} s: XPC broken",
            hint="deactivate and activate again, or restart, cures it; the case file holds both launchctl prints",
        )
    return ProductFailure(
        f"launchd's job {label} on {guest.name} to run",
        seen=f"state = {last.state}, runs = {last.runs}, last exit: {last.last_exit_reason or last.last_exit_code}",
        hint="a crash report or an AMFI refusal is in the case file",
    )


def _run_check(guest: Guest, check: FunctionCheck, deadline: Deadline) -> None:
    with events.step(f"check: {check.name}", command=check.command):
        try:
            result = guest.run(check.command, deadline=for_a_look(deadline), check=False, sudo=check.sudo)
        except CommandTimeout as timeout:  # the Mac answered all along: it is the product that this waits for
            raise ProductFailure(
                f"'{check.name}' to end",
                seen=timeout.seen,
                hint="the app file's check hangs: the product does not function",
            ) from timeout
        if result.exit_code != check.expect_exit:
            raise ProductFailure(
                f"'{check.name}' to exit {check.expect_exit}",
                seen=f"exit {result.exit_code}: {(result.text + result.stderr.decode(errors='replace'))[-300:]}",
                hint="the app file's check failed: the product does not function",
            )
        if check.expect_output is not None and not _matches(check, result.text):
            raise ProductFailure(
                f"'{check.name}' to print {check.expect_output!r}",
                seen=result.text[-300:] or "nothing",
                hint="the app file's check failed: the product does not function",
            )


def _matches(check: FunctionCheck, text: str) -> bool:
    try:
        return re.search(check.expect_output or "", text) is not None
    except re.error as error:
        raise UsageError(
            f"a regular expression as expect_output of '{check.name}'", seen=str(error), hint="mend the app file"
        ) from error
