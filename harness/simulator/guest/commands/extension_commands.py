"""systemextensionsctl, launchctl, scutil."""

from __future__ import annotations

import contextvars
import re

from harness.simulator.guest.commands.arguments import EX_USAGE, complain, say
from harness.simulator.guest.core import MacGuest
from harness.simulator.guest.extension_database import LEFTOVER, Entry
from harness.simulator.guest.installed import CATEGORIES
from harness.simulator.guest.launchd import Job
from harness.simulator.guest.network_extension import CONNECTED, CONNECTING, ConfigurationError
from harness.simulator.interfaces import CommandIO

_SIP = (
    "At this time, this tool cannot be used if System Integrity Protection is enabled.\n"
    "This limitation will be removed in the near future.\n"
    "Please remember to re-enable System Integrity Protection!"
)
SESSION: contextvars.ContextVar[str] = contextvars.ContextVar("session", default="Background")
"""The Mach bootstrap a command runs in; inherited by what it starts, through sudo as well."""
_PANES = {"network": "Network", "endpoint security": "Endpoint Security", "driver": "Driver", "camera": "Camera"}


async def systemextensionsctl(guest: MacGuest, io: CommandIO, argv: list[str]) -> int:
    """`list [category]`, `developer`, `reset`, `uninstall`, `gc`."""
    words = argv[1:]
    verb = words[0] if words else ""
    if verb == "list":
        return await _list(guest, io, words[1:])
    if verb == "gc":
        for entry in guest.sysextd.database:
            if entry.state == LEFTOVER:
                guest.sysextd.database.remove(entry)
        guest.sysextd.database.save()
        await say(io, "Successfully cleaned up")
        return 0
    if verb in ("developer", "reset", "uninstall"):
        if guest.sip:
            await say(io, _SIP)
            return 1
        return await _privileged(guest, io, words)
    await complain(io, "systemextensionsctl: usage:\n\tsystemextensionsctl developer [on|off]\n\tsystemextensionsctl list [category]\n"
                       "\tsystemextensionsctl reset  - reset all System Extensions state\n"
                       "\tsystemextensionsctl uninstall <teamId> <bundleId>; can also accept '-' for teamID\n\tsystemextensionsctl gc")  # fmt: skip
    return EX_USAGE


async def _privileged(guest: MacGuest, io: CommandIO, words: list[str]) -> int:
    database = guest.sysextd.database
    if words[0] == "developer":
        if len(words) > 1:
            database.developer_mode = words[1] == "on"
            database.save()
        await say(io, f"Developer mode is {'on' if database.developer_mode else 'off'}")
        return 0
    if words[0] == "reset":
        for entry in database:
            guest.extension_jobs.stop(entry)
            database.remove(entry)
        database.save()
        return 0
    if len(words) != 3:
        await complain(io, "systemextensionsctl uninstall <teamId> <bundleId>")
        return EX_USAGE
    found = [entry for entry in database.live(words[2]) if words[1] in (entry.team or "-", "-")]
    if not found:
        await complain(io, f"No extension found with identifier {words[2]}")
        return 1
    for entry in found:
        await guest.sysextd.uninstall(entry)
    return 0


async def _list(guest: MacGuest, io: CommandIO, words: list[str]) -> int:
    if words and words[0] not in CATEGORIES.values():
        await complain(io, f"systemextensionsctl: unknown category {words[0]}")
        return EX_USAGE
    entries = [entry for entry in guest.sysextd.database if not words or CATEGORIES[entry.kind] == words[0]]
    if words:
        await say(io, f"Category: {words[0]}")
    await say(io, f"{len(entries)} extension(s)")
    for kind, category in CATEGORIES.items():
        of_kind = [entry for entry in entries if entry.kind == kind]
        if not of_kind:
            continue
        await say(io, f"--- {category}{_hint(guest.macos.generation, kind)}")
        await say(io, "enabled\tactive\tteamID\tbundleID (version)\tname\t[state]")
        for entry in of_kind:
            await say(io, _row(entry))
    return 0


def _hint(generation: int, kind: str) -> str:
    if generation <= 13:
        return ""
    if generation == 14:
        return " (Go to 'System Settings > Privacy & Security' to modify these system extension(s))"
    return (
        f" (Go to 'System Settings > General > Login Items & Extensions > {_PANES[kind]} Extensions' "
        "to modify these system extension(s))"
    )


def _row(entry: Entry) -> str:
    enabled = entry.state.startswith("activated_ena")
    active = entry.state.startswith("activated")
    state = entry.state.replace("_", " ")
    return (
        f"{'*' if enabled else ''}\t{'*' if active else ''}\t{entry.team or '-'}\t{entry.identifier} ({entry.version})"
        f"\t{entry.name or '-'}\t[{state}]"
    )


async def launchctl(guest: MacGuest, io: CommandIO, argv: list[str]) -> int:
    """`print`, `list`, `kickstart`, `kill`, `asuser`, `managername`, `bootout`, `bootstrap`, `enable`, `disable`."""
    words = argv[1:]
    verb = words[0] if words else "help"
    if verb == "print":
        return await _print(guest, io, words[1:])
    if verb == "list":
        return await _list_jobs(guest, io, words[1:])
    if verb == "kickstart":
        return await _kickstart(guest, io, words[1:])
    if verb == "kill":
        return await _kill(guest, io, words[1:])
    if verb == "asuser":
        return await _as_user(guest, io, words[1:])
    if verb == "managername":
        # An SSH login is a background session; only what was started at the console is in Aqua.
        await say(io, SESSION.get())
        return 0
    if verb == "manageruid":
        await say(io, str(guest.accounts.uid(io.user)))
        return 0
    if verb == "bootout":
        return await _bootout(guest, io, words[1:])
    if verb in ("bootstrap", "enable", "disable", "load", "unload", "setenv", "limit"):
        if not io.root and words[1:2] == ["system"]:
            await complain(
                io, "Bootstrap failed: 5: Input/output error\nTry re-running the command as root for richer errors."
            )
            return 5
        return 0
    await complain(io, f"Unrecognized subcommand: {verb}\nUsage: launchctl <subcommand> ... | help [subcommand]")
    return EX_USAGE


def _target(word: str) -> tuple[str, str]:
    """`system/LABEL`, `gui/501/LABEL`, `system`, `gui/501` → (domain, label)."""
    match = re.fullmatch(r"(system|(?:gui|user|login|pid)/\d+)(?:/(.+))?", word.rstrip("/"))
    return (match[1], match[2] or "") if match else ("", word)


def _domain_words(domain: str) -> str:
    kind, _, number = domain.partition("/")
    return {"system": "system", "gui": f"user gui: {number}", "user": f"uid: {number}"}.get(kind, domain)


async def _missing(io: CommandIO, domain: str, label: str) -> int:
    await complain(io, f'Bad request.\nCould not find service "{label}" in domain for {_domain_words(domain)}')
    return 113


async def _print(guest: MacGuest, io: CommandIO, words: list[str]) -> int:
    if len(words) != 1:
        await complain(io, "Usage: launchctl print <domain-target> | <service-target>")
        return EX_USAGE
    domain, label = _target(words[0])
    if not domain:
        await complain(
            io, f"Unrecognized target specifier: {words[0]}\nUsage: launchctl print <domain-target> | <service-target>"
        )
        return EX_USAGE
    here = {f"{kind}/{guest.accounts.uid(user)}" for user in guest.sessions.users for kind in ("gui", "user")}
    if domain != "system" and domain not in here and domain != f"user/{guest.accounts.uid(io.user)}":
        await complain(io, f"Bad request.\nCould not find domain for {_domain_words(domain)}")
        return 113
    if not label:
        await io.stdout(guest.launchd.print_domain(domain).encode())
        return 0
    job = guest.launchd.get(domain, label)
    if job is None:
        return await _missing(io, domain, label)
    await io.stdout(guest.launchd.print_job(job).encode())
    return 0


async def _list_jobs(guest: MacGuest, io: CommandIO, words: list[str]) -> int:
    domain = "system" if io.root else f"gui/{guest.accounts.uid(io.user)}"
    if not words:
        await io.stdout(guest.launchd.list_text(domain).encode())
        return 0
    job = guest.launchd.get(domain, words[0])
    if job is None:
        await complain(io, f'Could not find service "{words[0]}" in domain for {"system" if io.root else "port"}')
        return 113
    lines = [
        f'\t"LimitLoadToSessionType" = "{"System" if io.root else "Aqua"}";',
        f'\t"Label" = "{job.label}";',
        f'\t"OnDemand" = {"false" if job.keep_alive else "true"};',
    ]
    lines.append(f'\t"LastExitStatus" = {job.last_signal or 0};')
    if job.process is not None:
        lines.append(f'\t"PID" = {job.process.pid};')
    lines.append(f'\t"Program" = "{job.program}";')
    await say(io, "{\n" + "\n".join(lines) + "\n};")
    return 0


async def _found(guest: MacGuest, io: CommandIO, word: str) -> Job | None:
    domain, label = _target(word)
    job = guest.launchd.get(domain, label) if domain and label else None
    if job is None:
        await _missing(io, domain or "system", label)
    return job


async def _kickstart(guest: MacGuest, io: CommandIO, words: list[str]) -> int:
    kill = any(word.startswith("-") and "k" in word for word in words)
    targets = [word for word in words if not word.startswith("-")]
    job = await _found(guest, io, targets[0]) if targets else None
    if job is None:
        return 113 if targets else EX_USAGE
    if job.domain == "system" and not io.root:
        await complain(io, "Could not kickstart service: 1: Operation not permitted")
        return 1
    if kill and job.process is not None:
        guest.processes.kill(job.process.pid, 9)
    for task in list(job.tasks):
        task.cancel()
    guest.launchd.start(job)
    if job.process is not None and any("p" in word for word in words if word.startswith("-")):
        await say(io, str(job.process.pid))
    return 0


async def _kill(guest: MacGuest, io: CommandIO, words: list[str]) -> int:
    if len(words) != 2:
        return EX_USAGE
    job = await _found(guest, io, words[1])
    if job is None:
        return 113
    if job.domain == "system" and not io.root:
        await complain(io, "Could not signal service: 1: Operation not permitted")
        return 1
    signals = {"KILL": 9, "TERM": 15, "HUP": 1, "INT": 2, "9": 9, "15": 15}
    if job.process is not None:
        guest.processes.kill(job.process.pid, signals.get(words[0].removeprefix("SIG"), 15))
    return 0


async def _as_user(guest: MacGuest, io: CommandIO, words: list[str]) -> int:
    """Runs the command in the user's bootstrap, with the caller's credentials (hence the second sudo that people write)."""
    if len(words) < 2:
        await complain(io, "Usage: launchctl asuser <UID> <program> [...]")
        return EX_USAGE
    if not io.root:
        await complain(io, "Could not switch to audit session 0x186a7: 1: Operation not permitted")
        return 1
    if words[0] not in [str(guest.accounts.uid(user)) for user in guest.sessions.users]:
        await complain(io, f"Could not switch to audit session: no session of user {words[0]}")
        return 1
    token = SESSION.set("Aqua")
    try:
        return await guest.execute(words[1:], io)
    finally:
        SESSION.reset(token)


async def _bootout(guest: MacGuest, io: CommandIO, words: list[str]) -> int:
    if not words:
        return EX_USAGE
    domain, label = _target(words[0])
    job = guest.launchd.get(domain, label) if label else None
    if job is None:
        await complain(io, "Boot-out failed: 3: No such process")
        return 3
    if domain == "system" and not io.root:
        await complain(io, "Boot-out failed: 1: Operation not permitted")
        return 1
    if guest.sip and label.startswith(("com.apple.", "NetworkExtension.")):
        await complain(io, "Boot-out failed: 150: Operation not permitted while System Integrity Protection is engaged")
        return 150
    guest.launchd.remove(label)
    return 0


async def scutil(guest: MacGuest, io: CommandIO, argv: list[str]) -> int:
    """`--nc list|status|start|stop|show`, `--get ComputerName|LocalHostName|HostName`, `--dns`, `--proxy`."""
    words = argv[1:]
    if words[:1] == ["--nc"]:
        return await _nc(guest, io, words[1:])
    if words[:1] == ["--get"] and len(words) == 2:
        if words[1] in ("ComputerName", "LocalHostName"):
            await say(io, guest.machine_name)
            return 0
        await complain(io, f"{words[1]}: not set")
        return 1
    if words[:1] == ["--dns"]:
        await say(
            io, "DNS configuration\n\nresolver #1\n  nameserver[0] : 192.168.64.1\n  flags    : Request A records"
        )
        return 0
    if words[:1] == ["--proxy"]:
        await say(io, "<dictionary> {\n  ExceptionsList : <array> {\n    0 : *.local\n  }\n}")
        return 0
    await complain(io, "usage: scutil\n\tinteractive access to the dynamic store.")
    return EX_USAGE


async def _nc(guest: MacGuest, io: CommandIO, words: list[str]) -> int:
    verb = words[0] if words else "help"
    if verb == "list":
        await say(io, "Available network connection services in the current set (*=enabled):")
        for item in guest.network.configurations:
            kind = f"VPN ({item.app_identifier})"
            status, name = f"({item.status})", f'"{item.name}"'
            await say(
                io,
                f"{'*' if item.enabled else ' '} {status:<16} {item.service_id} {kind} {name:<32} [VPN:{item.app_identifier}]",
            )
        return 0
    if verb in ("status", "start", "stop", "show"):
        found = guest.network.find(words[1]) if len(words) > 1 else None
        if found is None:
            await say(io, "No service")
            return 1
        if verb == "status":
            number = {CONNECTED: 2, CONNECTING: 1}.get(found.status, 0)
            await say(
                io,
                f"{found.status}\nExtended Status <dictionary> {{\n  LastStatusChangeTime : {guest.clock.now().strftime('%m/%d/%Y %H:%M:%S')}\n  Status : {number}\n}}",
            )
        elif verb == "show":
            kind = f"VPN ({found.app_identifier})"
            await say(io, f'* ({found.status})   {found.service_id} {kind} "{found.name}" [VPN:{found.app_identifier}]')
        elif verb == "start":
            process = guest.processes.named("scutil")[-1]
            try:
                await guest.network.start(found.name, process)
            except ConfigurationError as error:
                await complain(io, str(error))
                return 1
        else:
            guest.network.stop(found)
        return 0
    await complain(io, "Valid commands for scutil --nc (VPN connections)\nUsage: scutil --nc [command]")
    return EX_USAGE
