"""sysadminctl, dscl, dseditgroup, createhomedir, who: accounts, and who is logged in.

After their manual pages. sysadminctl ends with 0 whatever happens and tells all on its error stream, with the time and its pid before
each line; how its lines read is from posted runs, all else is assumed.
"""

from __future__ import annotations

import contextlib
import re
import shutil

from harness.simulator.guest.accounts import Account
from harness.simulator.guest.commands.arguments import EX_USAGE, complain, say
from harness.simulator.guest.core import MacGuest
from harness.simulator.interfaces import CommandIO

_NOT_FOUND = 56
_DENIED = 40
_SYSTEM = ("_mbsetupuser", "daemon", "nobody", "root")
_VALUES = frozenset({"-addUser", "-deleteUser", "-fullName", "-UID", "-GID", "-shell", "-password", "-hint", "-home", "-picture", "-newPassword",
                     "-resetPasswordFor", "-oldPassword", "-adminUser", "-adminPassword", "-screenLock", "-userName"})  # fmt: skip


async def sysadminctl(guest: MacGuest, io: CommandIO, argv: list[str]) -> int:
    """`-addUser NAME [-fullName F] [-UID N] [-password P|-] [-admin]`, `-deleteUser NAME [-keepHome]`, `-resetPasswordFor NAME
    -newPassword P|-`, `-screenLock status|off|immediate|SECONDS -password P|-`. A password given as `-` is a line of standard input.
    """
    words = argv[1:]
    given: dict[str, str] = {}
    flags: set[str] = set()
    while words:
        word = words.pop(0)
        if word in _VALUES and words:
            given[word] = words.pop(0)
        else:
            flags.add(word)
    for name in ("-password", "-newPassword"):
        if given.get(name) == "-":
            given[name] = (await io.stdin.readline()).decode("utf-8", "surrogateescape").rstrip("\n")
    if "-screenLock" in given:
        return await _screen_lock(guest, io, given)
    if not {"-addUser", "-deleteUser", "-resetPasswordFor"} & set(given):
        await complain(io, "Usage: sysadminctl\n\t-deleteUser <user name> [-secure || -keepHome]\n\t-newPassword <new password> -oldPassword <old password>\n"
                           "\t-resetPasswordFor <local user name> -newPassword <new password>\n\t-addUser <user name> [-fullName <full name>] [-UID <user ID>] "
                           "[-password <user password>] [-home <full path to home>] [-admin]\n\t-screenLock <status || immediate || off || seconds> -password <password>")  # fmt: skip
        return 0 if not argv[1:] else EX_USAGE
    if not io.root and not guest.authenticate(given.get("-adminUser", ""), given.get("-adminPassword", "")):
        await _tell(guest, io, "Operation is not permitted without secure token unlock.")
        return 0
    if "-addUser" in given:
        await _add(guest, io, given, administrator="-admin" in flags)
    elif "-deleteUser" in given:
        await _delete(guest, io, given["-deleteUser"], keep="-keepHome" in flags)
    elif guest.accounts.get(given["-resetPasswordFor"]) is None or "-newPassword" not in given:
        await _tell(guest, io, "Can't reset password: no such user")
    else:
        guest.accounts.set_password(given["-resetPasswordFor"], given["-newPassword"])
        await _tell(guest, io, "resetting password for " + given["-resetPasswordFor"] + ".")
    return 0


async def _add(guest: MacGuest, io: CommandIO, given: dict[str, str], *, administrator: bool) -> None:
    name = given["-addUser"]
    if guest.accounts.get(name) is not None:
        await _tell(guest, io, f"User {name} already exists.")
        return
    uid = given.get("-UID", "")
    try:
        account = guest.accounts.add(name, uid=int(uid) if uid.isdecimal() else None, real_name=given.get("-fullName", ""), administrator=administrator)  # fmt: skip
    except ValueError:
        await _tell(guest, io, f"Error: creating user {name} failed")
        return
    await _tell(guest, io, "Creating user record…")
    await _tell(guest, io, f"Assigning UID: {account.uid} GID: 20")
    if "-password" in given:
        guest.accounts.set_password(name, given["-password"])
    else:
        await _tell(guest, io, "No clear text password or interactive option was specified (adduser, change/reset password will not allow user to use FDE) !")  # fmt: skip
    guest.accounts.make_home(name)
    await _tell(guest, io, f"Creating home directory at {account.home}")


async def _delete(guest: MacGuest, io: CommandIO, name: str, *, keep: bool) -> None:
    account = guest.accounts.get(name)
    if account is None or name in guest.sessions.users:
        await _tell(guest, io, f"Failed to delete user {name}" if account else f"No such user {name}")
        return
    guest.accounts.delete(name)
    if not keep:
        await _tell(guest, io, f"Removing {name}'s home at {account.home}")
        with contextlib.suppress(OSError):
            shutil.rmtree(guest.disk.path(account.home))
    await _tell(guest, io, f"Deleting record for {name}")


async def _screen_lock(guest: MacGuest, io: CommandIO, given: dict[str, str]) -> int:
    wanted = given["-screenLock"]
    if wanted == "status":
        lock = guest.sleep.lock_after
        words = "off" if lock is None else f"delay is {'immediate' if not lock else f'{lock} seconds'}"
        await _tell(guest, io, f"screenLock {'is ' if lock is None else ''}{words}")
        return 0
    user = io.environment.get("SUDO_USER", io.user)
    if not guest.accounts.check(user, given.get("-password", "")):
        await _tell(guest, io, "Error: authentication failed")
        return 0
    if wanted == "off":
        guest.sleep.set_lock(None)
    elif wanted == "immediate" or wanted.isdecimal():
        guest.sleep.set_lock(int(wanted[:6]) if wanted.isdecimal() else 0)
    return 0


async def _tell(guest: MacGuest, io: CommandIO, text: str) -> None:
    process = guest.processes.named("sysadminctl")
    pid = process[-1].pid if process else 0
    await complain(
        io,
        f"{guest.clock.now():%Y-%m-%d %H:%M:%S}.{guest.clock.now().microsecond // 1000:03d} sysadminctl[{pid}:{pid * 7 + 1000}] {text}",
    )


async def dscl(guest: MacGuest, io: CommandIO, argv: list[str]) -> int:
    """`dscl . -list /Users|/Groups`, `-read PATH [KEY…]`, `-create PATH [KEY VALUE…]`, `-append /Groups/admin GroupMembership NAME`,
    `-delete`, `-passwd PATH [PASSWORD]`, `-authonly NAME [PASSWORD]`.
    """
    words = [word for word in argv[1:] if word not in ("-q", "-raw")]
    if len(words) < 3:
        await complain(io, "dscl (v20.4)\nusage: dscl [options] [<datasource> [<command>]]")
        return EX_USAGE
    verb, path, rest = words[1].lstrip("-"), words[2].rstrip("/"), words[3:]
    kind, _, name = path.strip("/").partition("/")
    if verb == "authonly":
        right = guest.accounts.check(path, rest[0] if rest else (await io.stdin.readline()).decode().rstrip("\n"))
        if not right:
            await complain(io, "Authentication for node /Local/Default failed. (-14090, eDSAuthFailed)\n<dscl_cmd> DS Error: -14090 (eDSAuthFailed)")  # fmt: skip
        return 0 if right else 90 - 12
    if verb in ("list", "ls") and path in ("/Users", "/Groups"):
        names = (
            sorted([*_SYSTEM, *guest.accounts.names()]) if path == "/Users" else ["admin", "daemon", "staff", "wheel"]
        )
        for item in names:
            value = f"{' ' * max(1, 24 - len(item))}{guest.accounts.uid(item)}" if rest[:1] == ["UniqueID"] else ""
            await say(io, item + value)
        return 0
    if verb in ("read", "cat"):
        return await _read(guest, io, kind, name, rest)
    if not io.root:
        await complain(
            io, "<main> attribute status: eDSPermissionError\n<dscl_cmd> DS Error: -14120 (eDSPermissionError)"
        )
        return _DENIED
    return await _write(guest, io, verb, kind, name, rest)


async def _read(guest: MacGuest, io: CommandIO, kind: str, name: str, keys: list[str]) -> int:
    account = guest.accounts.get(name) if kind == "Users" else None
    if kind == "Groups" and name == "admin":
        values = {"GroupMembership": " ".join(["root", *guest.accounts.administrators()]), "PrimaryGroupID": "80"}
    elif account is not None:
        values = {
            "NFSHomeDirectory": account.home,
            "PrimaryGroupID": "20",
            "RealName": f"\n {account.real_name}",
            "RecordName": account.name,
            "UniqueID": str(account.uid),
            "UserShell": account.shell,
        }
    else:
        await complain(io, "<dscl_cmd> DS Error: -14136 (eDSRecordNotFound)")
        return _NOT_FOUND
    for key in keys or list(values):
        await say(io, f"{key}: {values[key]}" if key in values else f"No such key: {key}")
    return 0


async def _write(guest: MacGuest, io: CommandIO, verb: str, kind: str, name: str, rest: list[str]) -> int:
    accounts = guest.accounts
    if (
        kind == "Groups"
        and name == "admin"
        and rest[:1] == ["GroupMembership"]
        and verb in ("append", "merge", "delete")
    ):
        for member in rest[1:]:
            if accounts.get(member) is not None:
                accounts.change(member, administrator=verb != "delete")
        return 0
    if kind != "Users" or not name:
        await complain(io, "<dscl_cmd> DS Error: -14009 (eDSUnknownNodeName)")
        return _NOT_FOUND
    if verb == "create":
        try:
            account = accounts.get(name) or accounts.add(name)
        except ValueError:
            account = None
        fields = {"RealName": "real_name", "NFSHomeDirectory": "home", "UserShell": "shell"}
        if account is None or (rest[:1] == ["UniqueID"] and not _number(guest, account, rest)):
            await complain(io, "<main> attribute status: eDSRecordAlreadyExists\n<dscl_cmd> DS Error: -14135 (eDSRecordAlreadyExists)")  # fmt: skip
            return _NOT_FOUND
        if len(rest) >= 2 and rest[0] in fields:
            accounts.change(name, **{fields[rest[0]]: rest[1]})
        return 0
    if accounts.get(name) is None:
        await complain(io, "<dscl_cmd> DS Error: -14136 (eDSRecordNotFound)")
        return _NOT_FOUND
    if verb == "passwd":
        accounts.set_password(name, rest[-1] if rest else (await io.stdin.readline()).decode().rstrip("\n"))
    elif verb == "delete" and not rest:
        accounts.delete(name)
    return 0


def _number(guest: MacGuest, account: Account, rest: list[str]) -> bool:
    """Give it the number that was asked for, if that is free."""
    if len(rest) < 2 or not re.fullmatch(r"\d{1,9}", rest[1]):
        return False
    other = guest.accounts.of_uid(int(rest[1]))
    if other is not None and other.name != account.name:
        return False
    guest.accounts.change(account.name, uid=int(rest[1]))
    return True


async def dseditgroup(guest: MacGuest, io: CommandIO, argv: list[str]) -> int:
    """`-o checkmember -m NAME admin`, `-o edit -a|-d NAME [-t user] admin` (root)."""
    words, given = argv[1:], {}
    while len(words) > 1:
        word = words.pop(0)
        if word.startswith("-"):
            given[word] = words.pop(0)
    member = given.get("-m") or given.get("-a") or given.get("-d") or io.user
    account = guest.accounts.get(member)
    if given.get("-o") == "checkmember":
        inside = account is not None and words == ["admin"] and account.administrator
        await say(
            io,
            f"{'yes' if inside else 'no'} {member} {'is a' if inside else 'is NOT a'} member of {words[0] if words else ''}",
        )
        return 0 if inside else 67
    if given.get("-o") != "edit" or words != ["admin"] or account is None:
        await complain(io, "Group not found." if account is not None else "Record was not found.")
        return EX_USAGE
    if not io.root:
        await complain(io, "Username and password must be provided.")
        return 77
    guest.accounts.change(member, administrator="-a" in given)
    return 0


async def createhomedir(guest: MacGuest, io: CommandIO, argv: list[str]) -> int:
    """`createhomedir -c [-u NAME]` (root for others)."""
    words = argv[1:]
    name = words[words.index("-u") + 1] if "-u" in words[:-1] else io.user
    if guest.accounts.get(name) is None:
        await complain(io, f"createhomedir: user {name} not found")
        return 1
    await say(io, "creating home directories for (" + guest.machine_name + ".local)")
    guest.accounts.make_home(name)
    return 0


async def who(guest: MacGuest, io: CommandIO, argv: list[str]) -> int:
    """`who`, `users`: the sessions at the screen. The one in front is at the console, the others too, as macOS lists them."""
    if argv[0].rsplit("/", 1)[-1] == "users":
        await say(io, " ".join(sorted(guest.sessions.users)))
        return 0
    for user in guest.sessions.users:
        await say(io, f"{user:<16} console      {guest.sessions.since[user]} ")
    return 0
