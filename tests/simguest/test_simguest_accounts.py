"""Accounts, automatic login and a standard user at the console, after the manual pages of sysadminctl, dscl and dseditgroup."""

from __future__ import annotations

import plistlib
from collections.abc import Callable
from typing import Any

import pytest

Run = Callable[[Any], None]
KEY = bytes.fromhex("7d895223d2bcddeaa3b91f")
LOGIN = "/Library/Preferences/com.apple.loginwindow.plist"


def kcpassword(password: str) -> bytes:
    plain = password.encode() + bytes(12 - len(password) % 12)
    return bytes(byte ^ KEY[index % len(KEY)] for index, byte in enumerate(plain))


async def add(mac: Any, name: str = "tester", password: bytes = b"pass word\n", more: str = "") -> Any:
    return await mac.run(f"sysadminctl -addUser {name} -fullName Tester -password - {more}", root=True, stdin=password)


def test_an_account_is_made_with_its_password_from_standard_input(new_mac: Any, run_async: Run) -> None:
    async def body() -> None:
        async with new_mac() as mac:
            assert (await mac.run("id tester")).code == 1
            assert "not permitted" in (await mac.run("sysadminctl -addUser tester -password x")).err
            assert (await mac.run("id tester")).code == 1
            assert "Assigning UID: 502 GID: 20" in (await add(mac)).err
            assert "already exists" in (await add(mac)).err
            assert (await mac.run("id -u tester")).out == "502\n"
            assert "admin" not in (await mac.run("id -Gn tester")).out.split()
            assert (
                await mac.run("dscl . -read /Users/tester UniqueID NFSHomeDirectory")
            ).out == "UniqueID: 502\nNFSHomeDirectory: /Users/tester\n"
            assert "tester" in (await mac.run("dscl . -list /Users")).out.split()
            assert mac.guest.disk.path("/Users/tester/Library/Preferences").is_dir()
            assert mac.guest.ssh_login("tester", "pass word")
            assert not mac.guest.ssh_login("tester", "password")
            assert (
                "pass word"
                not in mac.guest.disk.path("/private/var/db/dslocal/nodes/Default/simulated-users.json").read_text()
            )
            member = "dseditgroup -o checkmember -m tester admin"
            assert (await mac.run(member)).out == "no tester is NOT a member of admin\n"
            assert (await mac.run("dseditgroup -o edit -a tester -t user admin")).code == 77
            assert (await mac.run("dseditgroup -o edit -a tester -t user admin", root=True)).code == 0
            assert (await mac.run(member)).out == "yes tester is a member of admin\n"
            await mac.run("dscl . -delete /Groups/admin GroupMembership tester", root=True)
            assert (await mac.run(member)).code == 67
            await mac.reboot()
            assert mac.guest.ssh_login("tester", "pass word")
            await mac.run("sysadminctl -deleteUser tester", root=True)
            assert not mac.guest.ssh_login("tester", "pass word")
            assert not mac.guest.disk.path("/Users/tester").exists()

    run_async(body)


def test_dscl_makes_accounts_too(new_mac: Any, run_async: Run) -> None:
    async def body() -> None:
        async with new_mac() as mac:
            assert (await mac.run("dscl . -create /Users/other")).code == 40
            for words in (["-create", "/Users/other"], ["-create", "/Users/other", "UniqueID", "607"], ["-create", "/Users/other", "RealName", "Other One"], ["-passwd", "/Users/other", "secret"], ["-append", "/Groups/admin", "GroupMembership", "other"]):  # fmt: skip
                assert (await mac.run(["dscl", ".", *words], root=True)).code == 0
            assert (await mac.run("id -u other")).out == "607\n"
            assert (
                await mac.run("dscl . -read /Groups/admin GroupMembership")
            ).out == "GroupMembership: root admin other\n"
            assert (await mac.run("dscl . -authonly other secret")).code == 0
            assert (await mac.run("dscl . -authonly other wrong")).code != 0
            assert (await mac.run("dscl . -create /Users/third UniqueID 607", root=True)).code != 0
            assert (await mac.run("dscl . -read /Users/nobody-here")).code == 56

    run_async(body)


@pytest.mark.parametrize(("password", "console"), [("pass word", "tester"), ("wrong", "root")])
def test_whom_the_mac_logs_in_by_itself(new_mac: Any, run_async: Run, password: str, console: str) -> None:
    async def body() -> None:
        async with new_mac() as mac:
            await add(mac)
            mac.guest.disk.path("/etc/kcpassword").write_bytes(kcpassword(password))
            mac.guest.disk.path(LOGIN).parent.mkdir(parents=True, exist_ok=True)
            mac.guest.disk.path(LOGIN).write_bytes(plistlib.dumps({"autoLoginUser": "tester"}))
            assert mac.guest.console_user == "admin"
            await mac.reboot()
            assert (await mac.run("stat -f %Su /dev/console")).out == f"{console}\n"
            assert [line.split()[0] for line in (await mac.run("who")).out.splitlines()] == [console] * (
                console != "root"
            )
            code = (await mac.run("launchctl print gui/502")).code
            assert code == (0 if console == "tester" else 113)
            assert (await mac.run("launchctl print gui/501")).code == 113
            # Launch Services serves the user at the console only
            assert (await mac.run(["open", "/Applications/Example Guard.app"])).code == 1

    run_async(body)


def test_a_standard_user_needs_an_administrators_name_and_password(new_mac: Any, run_async: Run) -> None:
    async def body() -> None:
        async with new_mac() as mac:
            await add(mac)
            assert mac.guest.console() == ("admin", True)
            mac.guest.sessions.log_in("tester")
            assert mac.guest.console() == ("tester", False)
            assert sorted((await mac.run("users")).out.split()) == ["admin", "tester"]
            assert not mac.guest.authenticate("tester", "pass word")
            assert not mac.guest.authenticate("admin", "pass word")
            assert mac.guest.authenticate("admin", "admin")
            mac.guest.refused("Login Items")
            assert any("'system.preferences'" in text and "(-60006)" in text for text in mac.messages())
            started = await mac.run(
                ["launchctl", "asuser", "502", "sudo", "-u", "tester", "--", "id", "-un"], root=True
            )
            assert (started.code, started.out) == (0, "tester\n")

    run_async(body)
