"""Accounts in a guest: what goes into kcpassword, and that no password goes into an argument or an event."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import events
from harness.errors import EnvironmentFailure, UsageError
from harness.guest import Guest, Result, users
from harness.waiting import Deadline

KEY = bytes.fromhex("7d895223d2bcddeaa3b91f")


def test_kcpassword_of_a_known_password() -> None:
    """By hand: each byte of "password" and its end, XORed with the key that public templates use."""
    assert users.obfuscated("password") == bytes.fromhex("0de82150a5d3af8ea3b91f7d")


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=60).filter(lambda text: "\0" not in text))
def test_kcpassword_is_whole_blocks_that_end_with_zeros(password: str) -> None:
    hidden = users.obfuscated(password)
    plain = bytes(byte ^ KEY[index % len(KEY)] for index, byte in enumerate(hidden))
    assert len(hidden) % 12 == 0
    assert plain.rstrip(b"\0") == password.encode()
    assert plain.endswith(b"\0")


@dataclass
class Commands:
    """A guest that has only what is said here; remembers what it was asked."""

    groups: str = "staff"
    made: bool = True
    there: bool = False
    asked: list[tuple[list[str], bytes]] = field(default_factory=list)

    def run(self, argv, *, input=None, check=True, **_):  # noqa: A002
        self.asked.append((list(argv), input or b""))
        code, out, err = 0, "", ""
        if argv[:2] == ["id", "-u"]:
            code = 0 if self.there else 1
        elif argv[:2] == ["id", "-Gn"]:
            out = self.groups
        elif argv[0] == "sysadminctl":
            self.there = self.made
            err = "" if self.made else "2026-01-01 sysadminctl[9:8] Failed to add user"
        result = Result(tuple(argv), code, out.encode(), err.encode(), 0.0)
        return result.check("vm") if check else result

    def script(self, text, *arguments, input=None, **_):  # noqa: A002
        self.asked.append(([text, *arguments], input or b""))
        return Result(("sh",), 0, b"", b"", 0.0)


def guest(**how) -> Guest:
    """The functions under test want only these two methods of it."""
    made = Guest.__new__(Guest)
    commands = Commands(**how)
    made.name = "vm"
    made.run, made.script, made.asked = commands.run, commands.script, commands.asked  # type: ignore[method-assign,attr-defined]
    return made


def test_passwords_go_by_standard_input_only() -> None:
    told: list[events.Record] = []
    log = events.EventLog()
    log.subscribe(told.append)
    mac = guest(groups="staff everyone")
    with events.use(log):
        users.add_user(mac, "tester", "horse-staple-9", Deadline(5))
        users.log_in_at_start(mac, "tester", "horse-staple-9", Deadline(5))
    words = [word for argv, _ in mac.asked for word in argv]
    assert not any("horse-staple-9" in word for word in words)
    assert any(given == b"horse-staple-9\n" for argv, given in mac.asked if argv[0] == "sysadminctl")
    assert any(given == users.obfuscated("horse-staple-9") for _, given in mac.asked)
    assert "horse-staple-9" not in str(told)
    assert "autoLoginUser" in words


def test_an_account_that_was_not_made_is_told_with_what_sysadminctl_said() -> None:
    with pytest.raises(EnvironmentFailure, match="Failed to add user"):
        users.add_user(guest(made=False), "tester", "x1y2z3w4", Deadline(5))


@pytest.mark.parametrize(("groups", "administrator"), [("staff admin", False), ("staff", True)])
def test_an_account_of_the_wrong_kind_is_no_use(groups: str, administrator: bool) -> None:
    with pytest.raises(EnvironmentFailure, match="group admin"):
        users.add_user(guest(groups=groups), "tester", "x1y2z3w4", Deadline(5), administrator=administrator)


def test_one_that_is_there_is_not_made_again() -> None:
    mac = guest(there=True)
    users.add_user(mac, "tester", "x1y2z3w4", Deadline(5))
    assert not any(argv[0] == "sysadminctl" for argv, _ in mac.asked)


@pytest.mark.parametrize("name", ["", "Root", "a b", "-x", "a" * 40, "ä", "a\n"])
def test_names_that_macos_would_not_take(name: str) -> None:
    with pytest.raises(UsageError):
        users.add_user(guest(), name, "x1y2z3w4", Deadline(5))
