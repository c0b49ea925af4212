"""A disposable Mac as a scenario holds it: install, activate, approve, reboot, and prove that it works."""

from __future__ import annotations

import contextlib
import contextvars
import copy
import json
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import events
from harness.apps import delivery, health, installing, launching, staged
from harness.apps.activation import Activation, activate
from harness.apps.oracle import Oracle, Snapshot
from harness.bundles.app import AppBundle, SystemExtensionBundle
from harness.bundles.releases import fetch_release
from harness.config import AppFile, LaunchSpec, Settings
from harness.errors import EnvironmentFailure, HarnessError, ProductFailure, SysextError, UsageError, Verdict
from harness.evidence import Manifest, collect, collect_before_reboot
from harness.formats.launchctl import Job
from harness.guest import Guest, LogStream
from harness.machines import Machine
from harness.screen import Reader, Screen, VncScreen
from harness.screen.recording import ScreenRecorder
from harness.session import power, preflight
from harness.session.builds import tell_build
from harness.session.case import Case
from harness.waiting import Deadline, wait_until

LOG_PREDICATE = (
    'subsystem == "com.apple.sx" OR subsystem == "com.apple.networkextension" OR '
    'subsystem == "com.apple.EndpointSecurity" OR process IN '
    '{"sysextd", "nehelper", "nesessionmanager", "neagent", "UserNotificationCenter", "CoreServicesUIAgent", '
    '"SecurityAgent", "trustd", "amfid", "syspolicyd", "taskgated-helper", "kernelmanagerd", "launchd"}'
)
"""What is streamed to the host from boot on: the daemons that DTS reads in such cases (developer.apple.com/forums)."""


@dataclass(frozen=True)
class Installed:
    """A release that is on the Mac.

    Attributes:
        path: The guest path of its .app.
        bundle: The same bundle on the host.
    """

    path: str
    bundle: AppBundle
    release: str

    def version(self, identifier: str) -> tuple[str, str]:
        """(short, build) of the extension inside."""
        extension = self.bundle.require_extension(identifier)
        return extension.short, extension.build


def require_lane(lane: str, image: str, *, sip: bool | None) -> None:
    """Verdicts of lanes are never mixed, so a run that calls itself one of `pristine` must be one.

    Raises:
        EnvironmentFailure: System Integrity Protection is off.
    """
    if lane == "pristine" and sip is False:
        raise EnvironmentFailure(
            f"SIP on in {image}, for the lane pristine",
            seen="csrutil says that it is off",
            hint='use an image with SIP on, or call these runs what they are: lane = "sip-off"',
        )


class Mac:
    """One Mac under test. Made by the `mac` fixture; `close` is called whatever happens."""

    def __init__(
        self,
        machine: Machine,
        *,
        settings: Settings,
        app: AppFile,
        case: Case,
        reader: Reader,
        release: str | None = None,
    ) -> None:
        self.machine = machine
        self.settings = settings
        self.app = app
        self.case = case
        self.reader = reader
        self.release = release
        self.name = machine.name
        self.macos = case.macos
        self.build = ""  # known once it is up: "24G90"
        self.guest = Guest(machine.ssh_endpoint, settings.guest, name=machine.name, folder=machine.folder)
        self.oracle = Oracle(self.guest, app)
        self.installed: Installed | None = None
        case.image_digest = machine.image_digest
        self._screen: Screen | None = None
        self._recorder: ScreenRecorder | None = None
        self._log: LogStream | None = None
        self._activations: list[Activation] = []
        self._worked: Installed | None = None
        """What worked last, as long as the app was not taken away since."""

    @property
    def generation(self) -> int:
        """13, 14, 15 or 26."""
        return int(self.macos)

    @property
    def screen(self) -> Screen:
        """The hypervisor's framebuffer, or the display of the host itself.

        Raises:
            HarnessError: Before `bring_up`.
        """
        if self._screen is None:
            raise HarnessError("the screen to be connected", seen=f"{self.name} was not brought up")
        return self._screen

    def bring_up(self) -> None:
        """From power-on to a logged-in desktop whose log is streamed to the case file.

        Raises:
            EnvironmentFailure: It does not come up.
        """
        deadline = Deadline.after(self.settings.timeouts.boot)
        with events.step("boot", machine=self.name, macos=self.macos, image=self.machine.image) as step:
            self._warm_up_reader()
            self._screen = self._open_screen(deadline)
            self._record(self._screen)
            self.guest.connect(deadline)
            self._log = LogStream(self.guest, self.case.folder.path / "log-stream.ndjson", LOG_PREDICATE)
            self._log.start()
            self.guest.wait_ready(deadline)
            system = self.guest.system(deadline)
            self.build = system.build
            step.note(
                product=system.product_version, build=system.build, sip=system.sip, boot_session=system.boot_session
            )
            if not system.product_version.startswith(f"{self.macos}."):
                raise EnvironmentFailure(
                    f"macOS {self.macos} in {self.machine.image}",
                    seen=f"macOS {system.product_version}",
                    hint="set tart.images, or give the right --sysext-macos",
                )
            require_lane(self.settings.lane, self.machine.image, sip=system.sip)

    def install(
        self, release: str | None = None, *, folder: str = installing.APPLICATIONS, how: delivery.Way | None = None
    ) -> Installed:
        """Put a release of the app (the one under test by default) on the Mac; replaces the one that is there, by a copy or in one
        of the ways of `harness.apps.delivery`.
        """
        release = release or self.release
        self._preflight(release)
        bundle = fetch_release(self.app.release(release), self.app, self.settings.cache_dir)
        bundle.require_extension(self.app.extension.id)
        tell_build(bundle, self.app, self.app.release(release).version)
        deadline = self._after(self.settings.timeouts.install)
        if how is None:
            path = installing.install_bundle(
                self.guest, bundle, deadline=deadline, folder=folder, quarantine=self.app.quarantine
            )
        else:
            path = delivery.deliver(
                self.guest, bundle, how, app=self.app, release=self.app.release(release), deadline=deadline
            )
        self.installed = Installed(path, bundle, self.app.release(release).version)
        if how == "delete-first":
            self._worked = None
        return self.installed

    def activate(self, *, launch: LaunchSpec | None = None) -> Activation:
        """Launch the installed app so that it asks for activation.

        Raises:
            HarnessError: Nothing is installed.
        """
        installed = self._installed()
        self.case.log.event("cursor", what="activation")
        self.screen.mark()
        activation = activate(
            self.guest,
            self.oracle,
            installed.bundle,
            installed.path,
            launch or self.app.launch,
            deadline=self._after(self.settings.timeouts.command),
        )
        self._activations.append(activation)
        return activation

    def state(self) -> str | None:
        """The extension's state as the oracle tells it."""
        return self.oracle.state(self._after(self.settings.timeouts.command))

    def snapshot(self) -> Snapshot:
        """All that the oracle sees."""
        return self.oracle.snapshot(self._after(self.settings.timeouts.command))

    def expect_state(self, *states: str | None) -> Snapshot:
        """Wait until the extension is in one of these states (None: gone)."""
        return self.oracle.wait_for_state(states, self._after(self.settings.timeouts.activation))

    def expect_working(self, release: Installed | None = None) -> health.Health:
        """The extension is enabled, runs, has its endpoints, is connected, and the app's own checks pass.

        XPC found broken is evidence at once, before anything can change it.
        """
        installed = release or self._installed()
        try:
            found = health.expect_working(
                self.guest,
                self.oracle,
                self.app,
                version=installed.version(self.app.extension.id),
                deadline=self._after(self.settings.timeouts.ready),
            )
            staged.expect_staged(
                self.guest, self._extension(installed), deadline=self._after(self.settings.timeouts.command)
            )
        except SysextError as error:
            if error.verdict is Verdict.PRODUCT_FAILURE:
                self._tell_staged(installed, error)
            if isinstance(error, health.XpcBroken):
                self.collect("XPC broken")
                error.collected = True
            raise
        self._worked = installed
        return found

    def staged_copy(self) -> staged.StagedCopy:
        """The copy of the extension that macOS keeps and runs, fetched and compared with what was installed; also in the case
        file as `staged-copy.json`.
        """
        found = staged.check_staged(
            self.guest,
            self._extension(self._installed()),
            deadline=self._after(self.settings.timeouts.install),
            files=True,
        )
        self.case.folder.path.joinpath("staged-copy.json").write_text(
            json.dumps(found.as_dict(), indent=1), encoding="utf-8"
        )
        return found

    def expect_relaunched(self, before: health.Health) -> health.Health:
        """Wait until launchd runs the extension again, as another process than `before`, and it works."""
        deadline = self._after(self.settings.timeouts.ready)
        wait_until(
            self._job,
            lambda job: job is not None and job.state == "running" and job.pid not in (None, before.pid),
            what=f"launchd on {self.name} to start the extension again (it was pid {before.pid})",
            deadline=deadline,
            hint="`launchctl print` in the case file shows its state and last exit",
            blame=Verdict.PRODUCT_FAILURE,
        )
        return self.expect_working()

    def expect_stopped(self) -> None:
        """Wait until launchd runs no process of the installed extension."""
        wait_until(
            self._job,
            lambda job: job is None or job.pid is None,
            what=f"the extension's process on {self.name} to be gone",
            deadline=self._after(self.settings.timeouts.ready),
            hint="`launchctl print` in the case file shows its job",
            blame=Verdict.PRODUCT_FAILURE,
        )

    def uninstall(self) -> None:
        """Delete the installed app."""
        installing.remove_app(self.guest, self._installed().path, deadline=self._after(self.settings.timeouts.command))
        self.installed = self._worked = None

    def kill_extension(self) -> int:
        """Kill the extension's process (SIGKILL); returns the pid it had."""
        job = self._job()
        if job is None or job.pid is None:
            raise HarnessError("a running extension to kill", seen="launchd has no process for it")
        self.guest.run(["kill", "-9", str(job.pid)], sudo=True, deadline=self._after(self.settings.timeouts.command))
        events.event("killed", what=job.label, pid=job.pid)
        return job.pid

    def crash_app(self) -> None:
        """End the app that asked as a crash of its own would (SIGABRT, which leaves a crash report).

        Raises:
            ProductFailure: It does not run any more.
        """
        installed = self._installed()
        executable = f"{installed.path}/Contents/MacOS/{installed.bundle.executable.path.name}"
        found = self.guest.run(
            ["pkill", "-ABRT", "-f", f"^{re.escape(executable)}( |$)"],
            sudo=True,
            check=False,
            deadline=self._after(self.settings.timeouts.command),
        )
        if not found.ok:
            raise ProductFailure(
                f"{self.app.name} on {self.name} to run as long as its request waits",
                seen=f"no process of {executable}: it has ended by itself",
                hint="a crash report is in the case file, if it crashed",
            )
        events.event("crashed", what=executable)

    def reboot(self) -> None:
        """Restart it; done when the boot session is a new one and the console user is back. The log is kept first.

        Raises:
            UsageError: It is the very host that we run on.
        """
        if self.machine.own_display:
            raise UsageError(
                "a Mac that can be restarted",
                seen=f"{self.name}: a restart would end this program too",
                hint="run the scenarios that restart with another provider",
            )
        with events.step("reboot", machine=self.name):
            self.stop_activations()
            # On a Mac the log alone takes up to minutes; each item has a limit of its own.
            collect_before_reboot(
                guest=self.guest,
                case=self.case.folder,
                deadline=self._after(self.settings.timeouts.evidence),
                settings=self.settings.evidence,
                log_subsystems=self.app.log_subsystems,
            )
            self.guest.reboot(self._after(self.settings.timeouts.reboot))

    def sleep_and_wake(self, *, seconds: float = power.AWAY) -> power.Absence:
        """Put it to sleep for a moment, and wake it by its keyboard; see `power.sleep_and_wake`."""
        return power.sleep_and_wake(self, seconds=seconds)

    def sleep_display(self) -> power.Absence:
        """Put its display to sleep; `wake_display` ends it."""
        return power.sleep_display(self)

    def wake_display(self) -> bool:
        """Wake its display by its keyboard; whether it had slept until now."""
        return power.wake_display(self)

    def suspend_and_resume(self, *, seconds: float = power.AWAY) -> power.Absence:
        """Suspend its VM for a moment, and go on; see `power.suspend_and_resume`."""
        return power.suspend_and_resume(self, seconds=seconds)

    def beside(self, app: AppFile) -> Mac:
        """The same Mac, with another app as the one that is installed, activated and judged."""
        other = copy.copy(self)
        other.app = app
        other.oracle = Oracle(self.guest, app)
        other.release = None
        other.installed = None
        return other

    def open_url(self, url: str) -> None:
        """`open` a URL in the guest."""
        launching.open_url(self.guest, url, deadline=self._after(self.settings.timeouts.command))

    def quit_settings(self) -> None:
        """End System Settings."""
        launching.quit_settings(self.guest, deadline=self._after(self.settings.timeouts.command))

    def collect(self, reason: str) -> Manifest | None:
        """Collect all evidence into the case file. Never raises: what could not be had is in the manifest."""
        if reason in self.case.collected:
            return None
        self.case.collected.append(reason)
        if reason.startswith(Verdict.PRODUCT_FAILURE.value):
            self._tell_replacement()
        try:
            return collect(
                guest=self.guest,
                case=self.case.folder,
                reason=reason,
                deadline=self._after(self.settings.timeouts.evidence),
                settings=self.settings.evidence,
                since=self.case.begun,
                screen=self._screen,
                labels=self._labels(),
                log_subsystems=self.app.log_subsystems,
                log_processes=self._processes(),
                bundle_paths=[self.installed.path] if self.installed is not None else [],
                run_output=self.machine.masked_output,
                sysdiagnose_seconds=self.settings.timeouts.sysdiagnose,
            )
        except Exception as error:  # noqa: BLE001 - evidence is best effort, the failure that asked for it must be heard
            events.event("degraded", what="evidence could not be collected", reason=f"{type(error).__name__}: {error}")
            return None

    def close(self) -> None:
        """Let go of the guest and the screen; the machine itself is its fixture's to delete."""
        cleanups: list[Callable[[], object]] = [self.stop_activations]
        if self._log is not None:
            cleanups.append(self._log.stop)
        if self._recorder is not None:
            cleanups.append(self._recorder.close)
        if self._screen is not None:
            cleanups.append(self._screen.close)
        cleanups.append(self.guest.close)
        for cleanup in cleanups:
            with contextlib.suppress(Exception):
                cleanup()

    def shut_down(self, deadline: Deadline) -> None:
        """Ask the guest to power off, as `Machine.stop` wants it."""
        self.guest.shutdown(deadline)

    def _preflight(self, release: str | None) -> None:
        """Before a release is put in the place of another one: can this upgrade go wrong?"""
        version = self.app.release(release).version
        if self.installed is not None and self.installed.release != version:
            preflight.check(self.case, self.app, version, previous=self.installed.release)

    def _extension(self, installed: Installed) -> SystemExtensionBundle:
        return installed.bundle.require_extension(self.app.extension.id)

    def _tell_replacement(self) -> None:
        """What else a replacement has broken is told where something ended the scenario before it was looked at: the staged copy and
        the saved configuration. For triage only; never raises.
        """
        worked, installed = self._worked, self.installed
        if worked is None or installed is None or worked.release == installed.release:
            return
        try:
            if self.app.configuration is not None and (
                self.oracle.configuration(self._after(self.settings.timeouts.command)) is None
            ):
                events.event("configuration-gone", configuration=self.app.configuration, before=worked.release)
            self.staged_copy()
        except Exception as trouble:  # noqa: BLE001 - the failure itself must be heard
            events.event("degraded", what="what the replacement left could not be looked at", reason=str(trouble))

    def _tell_staged(self, installed: Installed, error: SysextError) -> None:
        """A stale or damaged staged copy is named in the failure it may explain; never in that failure's way."""
        if self.installed is None or self.installed is not installed:
            return
        try:
            found = self.staged_copy()
        except Exception as trouble:  # noqa: BLE001 - the failure itself must be heard
            events.event("degraded", what="the staged copy could not be compared", reason=str(trouble))
            return
        if found.problems and not isinstance(error, staged.StagedCopyWrong):
            error.seen += f"; the staged copy: {found.describe()}"

    def _installed(self) -> Installed:
        if self.installed is None:
            raise HarnessError(
                "an installed app", seen="this scenario has not installed one", hint="call mac.install() first"
            )
        return self.installed

    def _job(self) -> Job | None:
        short, build = self._installed().version(self.app.extension.id)
        return self.oracle.job(short, build, self._after(self.settings.timeouts.command))

    def _labels(self) -> Sequence[str]:
        if self.installed is None:
            return []
        with contextlib.suppress(SysextError):
            label = self.oracle.label(*self.installed.version(self.app.extension.id))
            return [label] if label is not None else []
        return []

    def _processes(self) -> list[str]:
        """What the processes of the product are called: what they log themselves is evidence, too."""
        if self.installed is None:
            return []
        bundle = self.installed.bundle
        return [bundle.executable.path.name, *(one.executable.path.name for one in bundle.extensions)]

    def stop_activations(self) -> None:
        """End every launch of the app that is still there."""
        for activation in self._activations:
            with contextlib.suppress(Exception):
                activation.stop(Deadline(5))
        self._activations.clear()

    def _after(self, seconds: float) -> Deadline:
        return Deadline.after(seconds)

    def _open_screen(self, deadline: Deadline) -> Screen:
        if self.machine.own_display:
            from harness.screen.desktop import DesktopScreen  # its pyautogui comes with an extra

            return DesktopScreen(name=self.name)
        vnc = self.machine.vnc_endpoint(deadline)
        return VncScreen(vnc.host, vnc.port, vnc.password, user=vnc.user or None, name=self.name)

    def _record(self, screen: Screen) -> None:
        """Record the screen into the case file, unless it is not wanted; a full disk does not stop the scenario."""
        wanted = self.settings.evidence
        if not wanted.recording:
            return
        case = self.case
        try:
            self._recorder = ScreenRecorder(
                case.folder.new_recording(),
                most_bytes=wanted.recording_mb << 20,
                machine=self.name,
                simulated=case.simulated,
                labels={
                    "scenario": case.scenario,
                    "macos": case.macos,
                    "image": case.image,
                    "lane": self.settings.lane,
                    "release": case.release,
                    "attempt": str(case.attempt),
                },
            )
        except OSError as error:
            events.event("degraded", what="the screen is not recorded", reason=str(error))
            return
        self._recorder.follow(screen, case.log)

    def _warm_up_reader(self) -> None:
        context = contextvars.copy_context()
        threading.Thread(target=lambda: context.run(self.reader.warm_up), name="warm-up", daemon=True).start()


def machine_folder(case: Case) -> Path:
    """Where the machine's own files (run output, known host) go: beside the evidence."""
    return case.folder.path / "machine"
