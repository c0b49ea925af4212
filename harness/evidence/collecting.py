"""What is collected when something fails, and before a reboot; in which order: cheap and perishable things first."""

from __future__ import annotations

import math
import posixpath
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from harness.config import EvidenceSettings
from harness.events import SECRETS
from harness.evidence.case import CaseFolder, safe_name
from harness.evidence.collector import (
    Collector,
    Missing,
    Partial,
    Plan,
    command,
    explain,
    write_text,
)
from harness.evidence.logs import log_archive, log_slice, predicate
from harness.evidence.manifest import Item, Manifest, now
from harness.evidence.sysdiagnose import sysdiagnose
from harness.formats.system import PS_COLUMNS
from harness.guest import Guest, NoSuchFile
from harness.waiting import Deadline

DATABASE = "/Library/SystemExtensions/db.plist"
REPORTS = "/Library/Logs/DiagnosticReports"
MAX_REPORTS = 60
MAX_REPORT = 32 << 20
INSTALL_LOG_BYTES = 512 << 10


class ScreenLike(Protocol):
    """What shows the machine's screen."""

    def frame(self, deadline: Deadline) -> Any:
        """What is on it now, with `pixels` as a height × width × 3 array."""


def collect(
    *,
    guest: Guest,
    case: CaseFolder,
    reason: str,
    deadline: Deadline,
    settings: EvidenceSettings,
    since: datetime,
    screen: ScreenLike | Callable[[Path], object] | None = None,
    labels: Sequence[str] = (),
    bundle_paths: Sequence[str] = (),
    log_subsystems: Sequence[str] = (),
    log_processes: Sequence[str] = (),
    extra: Mapping[str, Sequence[str]] | None = None,
    run_output: Callable[[], str] | str | None = None,
    sysdiagnose_seconds: float = 900.0,
) -> Manifest:
    """Collect all evidence of a Mac into a case file. Raises nothing for what cannot be had: the manifest says so.

    Args:
        guest: The Mac.
        case: Where to.
        reason: Why, in a few words; names the folder.
        deadline: For all of it.
        settings: What is wanted.
        since: When the test began: older crash reports are not of it.
        screen: What is on it now is kept; a callable is given the path to write a PNG to.
        labels: launchd labels of the extension.
        bundle_paths: Guest paths of the installed apps.
        log_subsystems: More subsystems for the log slice (the product's own).
        log_processes: More processes for it.
        extra: More commands, name to argv.
        run_output: What the hypervisor printed, secrets masked.
        sysdiagnose_seconds: How long the sysdiagnose may take.
    """
    collector = Collector(guest, case, reason=reason, since=_utc(since), deadline=deadline)
    plans = [
        *_host_items(case, settings, screen, run_output),
        *_state_items(guest, labels),
        *[command(guest, name, list(argv), file=f"extra-{name}.txt") for name, argv in (extra or {}).items()],
        *[plan for path in bundle_paths for plan in _bundle_items(guest, path)],
        *_system_items(guest),
        _reports(collector, since),
        log_slice(guest, settings.log_last, predicate(list(log_subsystems), list(log_processes))),
        log_archive(guest, settings.log_last),
    ]
    if settings.sysdiagnose:
        main = sysdiagnose(guest, seconds=sysdiagnose_seconds)
        main.fallback = _stand_in(collector, settings, main, plans[-1])
        plans.append(main)
    return collector.run(plans)


def collect_before_reboot(
    *,
    guest: Guest,
    case: CaseFolder,
    deadline: Deadline,
    settings: EvidenceSettings,
    since: datetime | None = None,
    labels: Sequence[str] = (),
    log_subsystems: Sequence[str] = (),
) -> Manifest:
    """Collect what a reboot destroys: the log (a reboot purges much of it) and the state before. Raises nothing for what
    cannot be had.
    """
    begun = since or datetime.now(UTC) - timedelta(hours=1)
    collector = Collector(guest, case, reason="before-reboot", since=_utc(begun), deadline=deadline)
    return collector.run(
        [
            *_state_items(guest, labels),
            _reports(collector, begun),
            log_slice(guest, settings.log_last, predicate(list(log_subsystems), [])),
            log_archive(guest, settings.log_last),
        ]
    )


def _utc(when: datetime) -> str:
    return when.astimezone(UTC).isoformat(timespec="seconds")


def _host_items(
    case: CaseFolder,
    settings: EvidenceSettings,
    screen: ScreenLike | Callable[[Path], object] | None,
    run_output: Callable[[], str] | str | None,
) -> list[Plan]:
    def now_on_screen(target: Path, deadline: Deadline) -> str | None:
        if screen is None:
            raise Missing("no screen is connected")
        if callable(screen):
            screen(target)
            return None
        from PIL import Image

        Image.fromarray(screen.frame(deadline).pixels).save(target, format="PNG")
        return None

    def events_so_far(target: Path, _: Deadline) -> str | None:
        if not case.events_path.exists():
            raise Missing("there is no event stream")
        shutil.copyfile(case.events_path, target)
        return "as it was then; run.jsonl itself goes on"

    def machine_output(target: Path, _: Deadline) -> str | None:
        if run_output is None:
            raise Missing("this provider has none")
        write_text(target, (run_output() if callable(run_output) else run_output).encode())
        return None

    plans = [
        Plan("screen now", "screen.png", "the machine's screen", 15.0, now_on_screen, needs_guest=False),
        Plan("event stream", "run.jsonl", "run.jsonl", 10.0, events_so_far, needs_guest=False),
        Plan("hypervisor output", "machine-output.txt", "tart run", 10.0, machine_output, needs_guest=False),
    ]
    frames = case.latest_frames(settings.max_frames)

    def last_frames(target: Path, _: Deadline) -> str | None:
        if not frames:
            raise Missing("no frames were kept so far")
        lines = [f"{frame.relative_to(case.path).as_posix()}\t{frame.stat().st_size}" for frame in frames]
        target.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return f"{len(frames)} in frames/"

    return [*plans, Plan("last frames", "frames.txt", "frames/", 10.0, last_frames, needs_guest=False)]


def _state_items(guest: Guest, labels: Sequence[str]) -> list[Plan]:
    def database(target: Path, deadline: Deadline) -> str | None:
        try:
            target.write_bytes(guest.read_bytes(DATABASE, sudo=True, deadline=deadline))
        except NoSuchFile:
            raise Missing("no such file: no system extension was ever activated on this Mac") from None
        return None

    plans = [
        command(guest, "ps", ["ps", "-axww", "-o", PS_COLUMNS]),
        command(guest, "systemextensionsctl list", ["systemextensionsctl", "list"], file="systemextensionsctl.txt"),
        Plan("db.plist", "db.plist", DATABASE, 20.0, database),
    ]
    plans += [
        # 113: launchd knows no such job, which is a finding
        command(guest, f"launchctl {label}", ["launchctl", "print", f"system/{label}"], sudo=True, accept=(0, 113))
        for label in labels
    ]
    return [
        *plans,
        command(guest, "launchctl list", ["launchctl", "list"], sudo=True),
        command(guest, "launchctl system", ["launchctl", "print", "system"], sudo=True),
        _console_domain(guest),
        command(guest, "scutil --nc list", ["scutil", "--nc", "list"], file="scutil-nc.txt"),
    ]


def _console_domain(guest: Guest) -> Plan:
    script = 'u=$(stat -f %u /dev/console) && launchctl print "gui/$u"'

    def gather(target: Path, deadline: Deadline) -> str | None:
        result = guest.script(script, deadline=deadline, sudo=True, check=False, quiet=True)
        if not result.ok:
            raise Missing(f"exit code {result.exit_code}: {result.error_text.strip()[-300:]}")
        write_text(target, result.stdout)
        return None

    return Plan("launchctl console user", "launchctl-gui.txt", f"sudo sh -c '{script}'", 30.0, gather)


def _system_items(guest: Guest) -> list[Plan]:
    return [
        command(guest, "sw_vers", ["sw_vers"]),
        command(guest, "csrutil status", ["csrutil", "status"], file="csrutil.txt"),
        command(guest, "df", ["df", "-Pk"]),
        command(guest, "boot", ["sysctl", "kern.bootsessionuuid", "kern.boottime"], file="boot.txt"),
        command(guest, "date", ["date", "+%Y-%m-%d %H:%M:%S%z"]),
        command(
            guest,
            "install.log",
            ["tail", "-c", str(INSTALL_LOG_BYTES), "/var/log/install.log"],
            file="install.log",
            sudo=True,
        ),
    ]


def _bundle_items(guest: Guest, path: str) -> list[Plan]:
    name = posixpath.basename(path.rstrip("/"))
    return [
        command(guest, f"codesign {name}", ["codesign", "-d", "-vvv", path], file=f"codesign-{name}.txt"),
        command(guest, f"Info.plist {name}", ["cat", f"{path}/Contents/Info.plist"], file=f"{name}-Info.plist"),
        command(guest, f"files {name}", ["ls", "-laR", path], file=f"files-{name}.txt"),
        command(guest, f"attributes {name}", ["xattr", path], file=f"attributes-{name}.txt"),
    ]


def _reports(collector: Collector, since: datetime) -> Plan:
    """Crash, panic and hang reports, by age on the guest's own clock: the two clocks need not agree."""
    guest = collector.guest
    minutes = max(1, math.ceil((datetime.now(UTC) - since.astimezone(UTC)).total_seconds() / 60) + 1)
    script = (
        'for d in "$1" "$HOME/Library/Logs/DiagnosticReports" "/Users/$3/Library/Logs/DiagnosticReports"; do '
        '[ -d "$d" ] && find "$d" -type f -mmin "-$2" -print0; done; exit 0'
    )

    def gather(target: Path, deadline: Deadline) -> str | None:
        user = guest.settings.user
        arguments = (REPORTS, str(minutes), user)
        found = guest.script(script, *arguments, sudo=True, deadline=deadline.sub(30), check=False, quiet=True).check(
            guest.name
        )
        paths = sorted({raw.decode("utf-8", errors="surrogateescape") for raw in found.stdout.split(b"\0") if raw})
        reports = [path for path in paths if path.startswith("/")]
        failed = 0
        for path in reports[:MAX_REPORTS]:
            failed += not _report(collector, target, path, deadline)
        if len(reports) > MAX_REPORTS:
            raise Partial(f"{len(reports)} reports, only the first {MAX_REPORTS} were taken")
        if failed:
            raise Partial(f"{failed} of {len(reports)} reports could not be had; see their own items")
        return f"{len(reports)} since {_utc(since)}"

    return Plan("crash reports", "", f"{REPORTS} and the user's, newer than {minutes} min", 180.0, gather)


def _report(collector: Collector, folder: Path, path: str, deadline: Deadline) -> bool:
    name = posixpath.basename(path)
    item = Item(name=f"report {SECRETS.mask(name)}", source=SECRETS.mask(path), started=now(), why="")
    target = folder / "reports" / safe_name(name)
    started = time.monotonic()
    try:
        target.parent.mkdir(exist_ok=True)
        if target.exists():
            target = target.with_name(safe_name(path))
        data = collector.guest.read_bytes(path, sudo=True, limit=MAX_REPORT, deadline=deadline)
        write_text(target, data)
        item.status = "ok"
    except Exception as error:  # noqa: BLE001 - the other reports are still wanted
        item.status, item.why = "failed", explain(error)
        target.unlink(missing_ok=True)
    item.seconds = round(time.monotonic() - started, 3)
    collector.add(item, target if item.status == "ok" else None)
    return item.status == "ok"


def _stand_in(collector: Collector, settings: EvidenceSettings, main: Plan, archive: Plan) -> Plan:
    """What stands in for a sysdiagnose that did not come: the log archive, made now if it is not there yet."""
    again = log_archive(collector.guest, settings.log_last)

    def gather(target: Path, deadline: Deadline) -> str | None:
        name = archive.item.path
        if archive.item.status != "ok":
            if not collector.reach():
                raise Missing(collector.unreachable)
            tar = target.with_name("stand-in.logarchive.tar")
            item = Item(name="stand-in log archive", source=again.source, started=now(), why="")
            again.gather(tar, deadline)
            item.status = "ok"
            collector.add(item, tar)
            name = item.path
        write_text(target, f"{name} stands in for the sysdiagnose, which did not come: {main.item.why}\n".encode())
        return f"{name} stands in"

    return Plan(
        "sysdiagnose stand-in", "sysdiagnose-stand-in.txt", "log collect", again.seconds, gather, needs_guest=False
    )
