"""`sysext doctor`: is this host fit, and (with --guest) does a Mac keep what the harness relies on?"""

from __future__ import annotations

import platform
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click

from harness.cli.options import settings_from, settings_options
from harness.config import Settings
from harness.errors import SysextError, UsageError

Line = tuple[bool, str, str]


@click.command()
@settings_options
@click.option("--guest", is_flag=True, help="boot a Mac of each macOS version and check every contract in it")
@click.option("--macos", default=None, help="macOS versions, comma separated (default: the settings')")
def doctor(config: Path | None, provider: str | None, guest: bool, macos: str | None) -> None:  # noqa: FBT001 - click's way
    """Check prerequisites, each with what to do. Exit 1 when something is missing."""
    versions = [part.strip() for part in macos.split(",")] if macos else None
    settings = settings_from(config, provider=provider, macos=versions)
    bad = 0
    for ok, name, text in _host(settings):
        bad += not ok
        _show(ok, name, text)
    if guest:
        for version in settings.macos:
            try:
                for ok, name, text in _guest(settings, version):
                    bad += not ok
                    _show(ok, f"macOS {version} {name}", text)
            except UsageError:
                raise
            except SysextError as error:  # this Mac did not come up; the next one may
                bad += 1
                _show(False, f"macOS {version}", str(error))  # noqa: FBT003
    click.echo("all well" if not bad else f"{bad} not as needed")
    if settings.provider == "simulated" and guest:
        click.echo("SIMULATED: these checks ran on simulated Macs and prove nothing about real ones")
    if bad:
        raise click.exceptions.Exit(1)


def _show(ok: bool, name: str, text: str) -> None:  # noqa: FBT001 - the value itself is what is shown
    first, *rest = text.splitlines() or [""]
    click.echo(f"{'ok ' if ok else 'BAD'}  {name}: {first}")
    for line in rest:
        click.echo(f"     {line}")


def _host(settings: Settings) -> Iterator[Line]:
    import shutil

    from harness.machines import provider_for

    yield sys.version_info >= (3, 11), "python", platform.python_version()
    yield True, "host", f"{platform.system()} {platform.machine()}"
    provider = provider_for(settings)
    yield True, "provider", ", ".join(f"{key} {value}" for key, value in provider.describe().items())
    for version in settings.macos:
        try:
            provider.check(settings.image_for(version))
            yield True, f"image for macOS {version}", settings.image_for(version)
        except SysextError as error:
            yield False, f"image for macOS {version}", str(error)
    free = shutil.disk_usage(_existing(settings.cache_dir)).free / 1e9
    yield free > 5, "disk", f"{free:.0f} GB free at {settings.cache_dir}" + ("" if free > 5 else "; 5 GB are needed")
    for module, why in (("rapidocr", "reads the screen"), ("paramiko", "SSH"), ("allure_pytest", "reports")):
        yield _there(module), module, why if _there(module) else f"not installed ({why}): run `make setup`"


def _guest(settings: Settings, macos: str) -> Iterator[Line]:
    from harness.guest import Guest
    from harness.machines import guard_signals, provider_for
    from harness.screen import VncScreen
    from harness.session.contracts import Subject, examine
    from harness.waiting import Deadline

    provider = provider_for(settings)
    with tempfile.TemporaryDirectory(prefix="sysext-doctor-") as scratch, guard_signals():
        folder = Path(scratch)
        deadline = Deadline.after(settings.timeouts.slot + settings.timeouts.clone + settings.timeouts.boot)
        machine = provider.create(
            image=settings.image_for(macos), macos=macos, purpose="doctor", folder=folder, deadline=deadline
        )
        guest = Guest(machine.ssh_endpoint, settings.guest, name=machine.name, folder=folder)
        with machine, guest:
            vnc = machine.vnc_endpoint(deadline)
            guest.connect(deadline)
            guest.wait_ready(deadline)
            screen = VncScreen(vnc.host, vnc.port, vnc.password, user=vnc.user or None, name=machine.name)
            try:
                subject = Subject(guest, screen, macos, settings.guest.user, Deadline.after(300))
                for finding in examine(subject):
                    yield finding.ok, finding.contract, finding.text
            finally:
                screen.close()


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path


def _there(module: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(module) is not None
