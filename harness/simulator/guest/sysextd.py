"""sysextd: activation requests, decisions, the walk of an extension through its states, approval, removal.

Driven by what the installed bundle itself says. Log messages and states are those that posted logs show; where the logs are
silent (what a reboot does with a deleted app, which decision a waiting entry gets after a reboot) the choice made here is
marked "assumed".
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import shutil
import uuid
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Literal

from harness.simulator.guest import replacing
from harness.simulator.guest.extension_database import (
    DISABLED,
    ENABLED,
    ENABLING,
    FOLDER,
    LEFTOVER,
    WAITING,
    Entry,
    ExtensionDatabase,
)
from harness.simulator.guest.installed import INSTALL_ENTITLEMENT, InstalledApp, InstalledExtension
from harness.simulator.guest.processes import GuestProcess
from harness.simulator.guest.prompts import Prompts, removal_allowed
from harness.simulator.guest.refusals import REFUSALS
from harness.simulator.guest.replacing import WAITING_TO_UPGRADE, Replacement
from harness.simulator.guest.requests import AppLeft, Delegate, Request, Silent, SystemExtensionError, address
from harness.simulator.interfaces import PendingExtension

if TYPE_CHECKING:
    from harness.simulator.guest.core import MacGuest

PATH = "/System/Library/Frameworks/SystemExtensions.framework/Versions/A/Helpers/sysextd"
COMPLETED = 0
COMPLETES_AFTER_REBOOT = 1
_XPC = "/usr/lib/system/libxpc.dylib"


class Sysextd:
    """The daemon and its record."""

    def __init__(self, guest: MacGuest) -> None:
        self._guest = guest
        self.database = ExtensionDatabase(guest.disk)
        self._tasks: set[asyncio.Task[None]] = set()
        self._requests: list[Request] = []
        self.prompts = Prompts(guest, self._run)
        self._booted_in = ""

    # --- life

    def started(self, _process: GuestProcess) -> None:
        """The daemon was started by launchd: it reads its record."""
        self.database.load()
        self.database.boot_uuid = self._guest.clock.boot_uuid
        if self._booted_in == self._guest.clock.boot_uuid:  # a restart of the daemon: what was being enabled goes on
            for entry in self.database:
                if entry.state == ENABLING:
                    self._run(self._enable(entry))
        self._save()

    def boot(self) -> None:
        """Once per boot, after the daemon's start: leftovers go, extensions of deleted apps go (assumed), enabled ones run."""
        self.prompts.clear()
        self._booted_in = self._guest.clock.boot_uuid
        for entry in self.database:
            app_gone = entry.app_path and not self._guest.disk.path(entry.app_path).is_dir()
            if not entry.live or app_gone:
                if app_gone and entry.live:
                    self._advance(entry, "uninstalling")
                    self._guest.network.forget(entry.identifier)
                self.database.remove(entry)
            elif entry.state == WAITING_TO_UPGRADE:
                for older in self.database.live(entry.identifier):
                    if older is not entry:
                        self._advance(older, "uninstalling")
                        self.database.remove(older)
                self._advance(entry, ENABLED)
            elif entry.state == ENABLING:
                self._advance(entry, ENABLED)
            elif entry.state.startswith("terminating_for_disable"):
                self._advance(entry, DISABLED)
            elif not entry.state.startswith("activated"):  # the request that was staging it ended with the last boot
                self.database.remove(entry)
        self._save()
        for entry in self.database:
            if entry.state == ENABLED:
                entry.launchd_entries = True  # a restart mends what an upgrade broke
                self._launch(entry)
        self._save()

    def resume(self, boot_uuid: str) -> None:
        """The machine goes on from a saved state: the daemon is where it was. What was being staged is given up (assumed: a real
        one would go on).
        """
        self._booted_in = boot_uuid
        for entry in self.database:
            if entry.state == ENABLING:
                self._run(self._enable(entry))
            elif entry.state in ("realizing", "staging", "validating", "validating_by_category"):
                self.database.remove(entry)

    async def rejoin(self, client: GuestProcess, app: InstalledApp, identifier: str, delegate: Delegate) -> int:
        """An app goes on waiting for the request it made before the machine was suspended.

        Raises:
            SystemExtensionError: It failed.
        """
        entry = next((entry for entry in self.database.live(identifier) if entry.state != ENABLED), None)
        if entry is None:
            return await self.activate(client, app, identifier, delegate)
        request = Request(client, app, identifier, delegate, asyncio.get_running_loop().create_future())
        self._requests.append(request)
        entry.waiters.append(request)
        try:
            return await request.answer
        finally:
            with contextlib.suppress(ValueError):
                self._requests.remove(request)

    def went_down(self) -> None:
        """The machine is going down: nobody is answered any more."""
        for task in list(self._tasks):
            task.cancel()
        for request in self._requests:
            request.answer.cancel()
        self._requests.clear()
        for entry in self.database.entries:
            entry.waiters.clear()
        self.prompts.clear()

    def died(self) -> None:
        """The daemon's process is gone: whatever it was doing is lost, and its clients hear of it."""
        for task in list(self._tasks):
            if task is not asyncio.current_task():
                task.cancel()
        for request in list(self._requests):
            self._app_log(
                request, "The connection to service on pid 0 created from an endpoint was invalidated.", "Error"
            )
            self._fail(
                request,
                SystemExtensionError(1, "The operation couldn’t be completed. (OSSystemExtensionErrorDomain error 1.)"),
            )
        for entry in self.database.entries:
            entry.waiters.clear()
        self.prompts.clear()

    # --- the app's requests

    async def activate(self, client: GuestProcess, app: InstalledApp, identifier: str, delegate: Delegate) -> int:
        """An activation request, to its result (0: completed).

        Raises:
            SystemExtensionError: It failed.
        """
        request = Request(client, app, identifier, delegate, asyncio.get_running_loop().create_future())
        self._requests.append(request)
        connection = f"0x{0x152800000 + (client.pid << 4):x}"
        self._app_log(
            request,
            f"[{connection}] activating connection: mach=true listener=false peer=false name=com.apple.sysextd",
            "Default",
        )
        await self._first_lost_request(request)
        self._log(f"client activation request for {identifier}", "XPC")
        self._log(f"attempting to realize extension with identifier {identifier}")
        self._run(self._activation(request))
        try:
            return await request.answer
        finally:
            with contextlib.suppress(ValueError):
                self._requests.remove(request)
            self._log(f"[{connection}] invalidated because the client process (pid {client.pid}) either cancelled the connection or exited",
                      "connection", subsystem="com.apple.xpc", sender=_XPC)  # fmt: skip
            self._log(f"client connection (pid {client.pid}) invalidated", "XPC")

    async def deactivate(self, client: GuestProcess, app: InstalledApp, identifier: str) -> int:
        """A deactivation request; an administrator has to allow it.

        Raises:
            SystemExtensionError: There is no such extension, or nobody allows it.
        """
        entries = self.database.live(identifier)
        allowed = not entries or await removal_allowed(self._guest, app)
        self._log(f"client deactivation request for {identifier}", "XPC")
        if not entries:
            raise SystemExtensionError(4)
        if not allowed:
            self._log("request contains no authorizationref", "XPC", level="Error")
            raise SystemExtensionError(13, "authorization required")
        for entry in entries:
            await self.uninstall(entry)
        self._log(f"client connection (pid {client.pid}) invalidated", "XPC")
        return COMPLETED

    async def uninstall(self, entry: Entry) -> None:
        """Stop an extension; its staged copy goes at the next boot."""
        self._advance(entry, "terminating_for_uninstall")
        self._unlaunch(entry)
        self.prompts.take(entry)
        await self._guest.delay("settle", self._guest.settings.settle_seconds)
        self._advance(entry, LEFTOVER)
        self._save()

    # --- what the user does

    def pending(self) -> list[PendingExtension]:
        """What Settings lists."""
        return [
            PendingExtension(
                entry.identifier, entry.app_name, entry.kind, entry.state == WAITING, entry.state in (ENABLED, ENABLING)
            )
            for entry in self.database
            if entry.live and entry.state in (WAITING, ENABLED, ENABLING, DISABLED)
        ]

    def allow(self, identifier: str) -> None:
        """The user approved it or switched it on, authenticated."""
        for entry in self.database.live(identifier):
            if entry.state in (WAITING, DISABLED):
                self._advance(entry, ENABLING)
                self._save()
                self._run(self._enable(entry))

    def disallow(self, identifier: str) -> None:
        """The user switched it off."""
        for entry in self.database.live(identifier):
            if entry.state in (ENABLED, ENABLING):
                self._advance(entry, "terminating_for_disable")
                self._save()
                self._run(self._disable(entry))

    def remove(self, identifier: str) -> None:
        """The user removed it; assumed: as if its app had asked for its deactivation."""
        for entry in self.database.live(identifier):
            self._run(self.uninstall(entry))

    # --- inside

    async def _activation(self, request: Request) -> None:
        try:
            extension = await self._realize(request)
            await self._decide(request, extension)
        except SystemExtensionError as error:
            self._fail(request, error)
        except OSError as error:
            reason = "No space left on device" if error.errno == errno.ENOSPC else str(error)
            self._log(f"failed to stage extension {request.identifier}: {reason}", "Staging", level="Error")
            self._fail(request, SystemExtensionError(1, "The operation couldn’t be completed."))

    async def _realize(self, request: Request) -> InstalledExtension:
        """Location, presence, entitlement, category, in sysextd's order."""
        guest, app, identifier = self._guest, request.app, request.identifier
        extension = app.extension(identifier)
        guest.faults.asked_for(extension.short if extension is not None else "")
        await self._activation_delay(0.25)
        if guest.fault("sysextd-crash"):
            guest.crash_daemon("com.apple.sysextd", queue="sysextd.extension_manager")
            raise SystemExtensionError(1)
        outside = not app.path.startswith("/Applications/") and not self.database.developer_mode
        if outside and guest.macos.generation < 14:
            self._log(
                f"Failing to realize {identifier} as the app requesting activation isn't in the /Applications folder and "
                "developer/groundhog mode isn't on", level="Error",
            )  # fmt: skip
            raise SystemExtensionError(
                3, "App containing System Extension to be activated must be in /Applications folder"
            )
        if outside or guest.fault("no-policy-outside-applications"):
            self._log("no policy, cannot allow apps outside /Applications", level="Error")
            raise SystemExtensionError(4)
        if extension is None or guest.fault("extension-not-found"):
            raise SystemExtensionError(
                4,
                f"Extension not found in App bundle. Unable to find any matched extension with identifier: {identifier}",
            )
        if not app.readable_signature or not app.team:
            self._log("bundle code signature is not valid - does not satisfy requirement: -67050", level="Error")
            raise SystemExtensionError(8, "Invalid code signature or missing entitlements")
        if not app.entitlements.get(INSTALL_ENTITLEMENT):
            raise SystemExtensionError(2, f"Missing entitlement {INSTALL_ENTITLEMENT}")
        self._log(f"realizing target path: {extension.url}")
        for refusal in (refusal for code, refusal in REFUSALS.items() if guest.fault(code)):
            for process, category, line in refusal.lines:
                text = line.format(id=identifier, team=app.team)
                guest.log.emit(guest.daemon(process), text, subsystem="com.apple.sx", category=category, level="Error")
            raise SystemExtensionError(refusal.code, refusal.text)
        if extension.kind != "driver":
            self._log(f"{identifier}: package type not `DEXT`", level="Info")
        if extension.kind not in ("endpoint security", "driver"):
            self._log(
                f"{identifier}: entitlement `com.apple.developer.endpoint-security.client` not present or not true",
                level="Info",
            )
        if not extension.kind:
            self._log(f"{identifier}: package type not `SYSX`", level="Error")
            self._log("system extension does not appear to belong to any extension categories", level="Error")
            raise SystemExtensionError(7, "Unknown extension category")
        return extension

    async def _decide(self, request: Request, extension: InstalledExtension) -> None:
        live = [entry for entry in self.database.live(request.identifier) if entry.team == request.app.team]
        self._log(
            f'Making activation decision for extension with teamID teamID("{request.app.team}"), identifier {request.identifier}'
        )
        if len(live) > 1 and any(entry.state.startswith("validating") for entry in live):
            self._log(f"activateDecision found two entries for {request.identifier}", level="Error")
            raise SystemExtensionError(4)
        same = next((entry for entry in live if (entry.short, entry.build) == (extension.short, extension.build)), None)
        if same is not None:
            self._log(f"activateDecision found existing entry of same version: state {same.state}, ID {same.unique_id}")
            await self._same_version(request, same)
            return
        if live:
            old = live[0]
            self._log(
                f"activateDecision found entry to replace: {old.unique_id}, "
                f'BundleVersion(CFBundleShortVersionString: "{old.short}", CFBundleVersion: "{old.build}")'
            )
            self._log(f"initial activation decision: requestAppReplaceAction(<sysextd.Extension: {address(old)}>)")
            self._log("notifying client of activation conflict", "XPC")
            replacement = replacing.begin(self._guest)
            if replacement.has("replacement-answer-lost"):
                raise AppLeft
            answer = request.delegate.replace(old.version, f"{extension.short}/{extension.build}")
            if not answer or replacement.has("replacement-cancelled"):
                raise SystemExtensionError(11, "Request canceled")
            await self._install(request, extension, replaced=old, replacement=replacement)
            return
        self._log("initial activation decision: activateNew")
        await self._install(request, extension)

    async def _same_version(self, request: Request, same: Entry) -> None:
        if same.state in (ENABLED, WAITING_TO_UPGRADE):
            self._succeed(request, COMPLETED if same.state == ENABLED else COMPLETES_AFTER_REBOOT)
            return
        same.waiters.append(request)
        if same.state in (WAITING, DISABLED):
            request.delegate.needs_approval()
        if same.state == WAITING and same.prompted_in != self._guest.clock.boot_uuid:
            # Assumed: nothing is in progress after a reboot, so the request counts as new and is shown to the user again.
            self._log("initial activation decision: activateNew")
            self._ask_user(same)
            return
        self._log(
            f"initial activation decision: coalesceWithActivationInProgress(<sysextd.Extension: {address(same)}>)"
        )

    async def _install(
        self,
        request: Request,
        extension: InstalledExtension,
        *,
        replaced: Entry | None = None,
        replacement: Replacement | None = None,
    ) -> None:
        """Stage, validate, and either ask the user or take over the approval of what it replaces."""
        entry = Entry(
            identifier=extension.identifier,
            team=request.app.team,
            unique_id=str(uuid.uuid4()).upper(),
            state="realizing",
            short=extension.short,
            build=extension.build,
            kind=extension.kind,
            name=extension.name,
            app_path=request.app.path,
            app_identifier=request.app.identifier,
            app_name=request.app.name,
            origin=extension.path,
            executable=extension.executable.rsplit("/", 1)[-1],
            slices=extension.slices,
            mach_service=extension.mach_service,
            points=extension.provider_points,
        )
        self.database.entries.append(entry)
        self._log(f"staging extension with identifier {entry.identifier}")
        self._advance(entry, "staging")
        self._log(f"staging bundle from {extension.path} to: {entry.staged}", "Staging")
        if self._guest.fault("staging-removal-immutable"):
            self._immutable_leftover(entry)
            return
        try:
            await asyncio.to_thread(self._stage, extension, entry)
        except OSError:
            self.database.remove(entry)
            raise
        await self._activation_delay(0.25)
        self._advance(entry, "validating")
        await self._activation_delay(0.25)
        self._advance(entry, "validating_by_category")
        self._save()
        await self._activation_delay(0.25)
        if self._guest.fault("category-validation-failed"):
            self._log(f"{entry.identifier}: extension failed to validate! uninstalling...", level="Error")
            self._advance(entry, "uninstalling")
            self.database.remove(entry)
            self._save()
            raise SystemExtensionError(9, "extension category returned error")
        if replacement is not None and replacement.has("duplicate-entries-jam"):
            self._log(f"activateDecision found two entries for {entry.identifier}", level="Error")
            raise SystemExtensionError(4)
        entry.waiters.append(request)
        if replaced is not None and replacement is not None and replaced.state in (ENABLED, ENABLING):
            if replacement.has("upgrade-waiting-for-reboot"):
                self._advance(entry, WAITING_TO_UPGRADE)
                self._save()
                self._answer_all(entry, COMPLETES_AFTER_REBOOT)
                return
            await self._retire(replaced, stop=not replacement.has("old-process-lingers"))
            self._spoil(replacement, replaced, entry)
            if not replacement.has("approval-not-inherited"):
                self._advance(entry, ENABLING)
                await self._enable(entry)
                return
        elif replaced is not None:
            self.prompts.take(replaced)
            for waiter in replaced.waiters:
                self._fail(waiter, SystemExtensionError(12, "Request superseded"))
            off = replaced.state == DISABLED or replaced.state.startswith("terminating_for_disable")
            self._unlaunch(replaced)
            self._advance(replaced, "uninstalling")
            self.database.remove(replaced)
            if off:  # assumed: no upgrade switches on what its user switched off
                self._advance(entry, DISABLED)
                self._save()
                request.delegate.needs_approval()
                return
        self._advance(entry, WAITING)
        self._save()
        request.delegate.needs_approval()
        self._ask_user(entry)

    def _stage(self, extension: InstalledExtension, entry: Entry) -> None:
        if self._guest.disk.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        source = self._guest.disk.path(extension.path)
        target = self._guest.disk.path(entry.staged)
        target.parent.mkdir(parents=True)
        shutil.copytree(source, target, symlinks=True)

    def _immutable_leftover(self, entry: Entry) -> None:
        leftover = f"{FOLDER}/{str(uuid.uuid4()).upper()}"
        self._guest.disk.path(leftover).mkdir(parents=True, exist_ok=True)
        for _try in range(2):
            self._log(
                f"Removing tree at path: {leftover} failed with error Error Domain=NSCocoaErrorDomain Code=513 "
                f'"“{entry.identifier}.systemextension” couldn’t be removed because you don’t have permission to access it." '
                "UserInfo={NSUnderlyingError=0x600003a5c0f0 {Error Domain=NSPOSIXErrorDomain Code=1 "
                '"Operation not permitted"}} Resetting flags and trying again!',
                "Staging", level="Error",
            )  # fmt: skip
        self._save()

    def _spoil(self, replacement: Replacement, old: Entry, new: Entry) -> None:
        """What a replacement may leave behind."""
        if replacement.has("xpc-endpoints-missing-after-upgrade"):
            new.launchd_entries = False
        if replacement.has("xpc-invalidated-after-upgrade"):
            replacement.break_connections(new)
        if replacement.has("build-uuid-unchanged"):
            replacement.keep_old_code(old, new)
        if replacement.has("ne-configuration-lost"):
            self._guest.network.forget(new.identifier)

    async def _retire(self, old: Entry, *, stop: bool = True) -> None:
        """The old version ends; its leftover waits for a reboot."""
        for waiter in old.waiters:
            self._fail(waiter, SystemExtensionError(12, "Request superseded"))
        self._advance(old, "terminating_for_upgrade")
        if stop:
            self._unlaunch(old)
        self._save()
        await self._guest.delay("settle", self._guest.settings.settle_seconds)
        self._advance(old, LEFTOVER)
        self._save()

    async def _enable(self, entry: Entry) -> None:
        self.prompts.take(entry)
        self._save()
        await self._guest.delay("settle", self._guest.settings.settle_seconds)
        if entry.state != ENABLING:
            return
        self._launch(entry)
        self._advance(entry, ENABLED)
        self._save()
        self._answer_all(entry, COMPLETED)

    async def _disable(self, entry: Entry) -> None:
        await self._guest.delay("settle", self._guest.settings.settle_seconds)
        if self._guest.fault("disable-stuck-still-running"):
            self._advance(entry, "terminating_for_disable_but_still_running")
        else:
            self._unlaunch(entry)
            self._advance(entry, DISABLED)
        self._save()

    async def _first_lost_request(self, request: Request) -> None:
        """Fault approval-coalesced-no-prompt: the app asked once before (its installer did), and that dialog was lost."""
        guest = self._guest
        if guest.faults.active("approval-coalesced-no-prompt") is None or guest.state.get("lost-first-request"):
            return
        extension = request.app.extension(request.identifier)
        if (
            extension is None
            or not request.app.path.startswith("/Applications/")
            or self.database.live(request.identifier)
        ):
            return
        guest.remember("lost-first-request", guest.clock.boot_uuid)
        client = guest.processes.spawn(request.client.name, request.client.path, request.client.user)
        early = Request(client, request.app, request.identifier, Silent(), asyncio.get_running_loop().create_future())
        self._log(f"client activation request for {request.identifier}", "XPC")
        self._log(f"attempting to realize extension with identifier {request.identifier}")
        try:
            extension = await self._realize(early)  # what refuses the one refuses the other
            self._log("initial activation decision: activateNew")
            await self._install(early, extension)
        except SystemExtensionError:
            return
        finally:
            guest.processes.remove(client.pid)
            self._log(f"client connection (pid {client.pid}) invalidated", "XPC")

    def _ask_user(self, entry: Entry) -> None:
        self.prompts.ask(entry)
        self._save()

    def _launch(self, entry: Entry) -> None:
        self._guest.extension_jobs.launch(entry)

    def _unlaunch(self, entry: Entry) -> None:
        self._guest.extension_jobs.stop(entry)

    def _advance(self, entry: Entry, state: str) -> None:
        category = "StateChange" if self._guest.macos.generation >= 15 else "StateChanges"
        self._log(
            f"extension {entry.team or '-'} {entry.identifier} ({entry.version}) advancing state from {entry.state} to {state}",
            category,
        )
        entry.state = state

    def _save(self) -> None:
        with contextlib.suppress(OSError):  # a full disk: the state lives on in memory until the next start
            self.database.save()

    async def _activation_delay(self, share: float) -> None:
        await self._guest.delay("activation", self._guest.settings.activation_seconds * share)

    def _answer_all(self, entry: Entry, result: int) -> None:
        for request in entry.waiters:
            self._succeed(request, result)
        entry.waiters.clear()

    def _succeed(self, request: Request, result: int = COMPLETED) -> None:
        if not request.answer.done():
            request.answer.set_result(result)

    @staticmethod
    def _fail(request: Request, error: SystemExtensionError) -> None:
        if not request.answer.done():
            request.answer.set_exception(error)
            with contextlib.suppress(SystemExtensionError):
                request.answer.exception()

    def _run(self, work: Awaitable[None]) -> None:
        async def guarded() -> None:
            await work

        task = self._guest.spawn(guarded())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _log(
        self,
        message: str,
        category: str = "",
        *,
        level: Literal["Debug", "Info", "Default", "Error", "Fault"] = "Default",
        subsystem: str = "com.apple.sx",
        sender: str = "",
    ) -> None:
        daemon = self._guest.daemon("sysextd")
        self._guest.log.emit(
            daemon, message, subsystem=subsystem if category else "", category=category, level=level, sender=sender
        )

    def _app_log(self, request: Request, message: str, level: str) -> None:
        self._guest.log.emit(
            request.client, message, subsystem="com.apple.xpc", category="connection", level=level, sender=_XPC
        )
