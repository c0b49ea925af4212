"""The contracts hold on a simulated Mac, and each check is red when its contract is broken."""

from __future__ import annotations

import plistlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.config import load_settings
from harness.errors import EnvironmentFailure
from harness.guest import Guest
from harness.machines import provider_for
from harness.session.contracts import CHECKS, HOSTILE, Finding, NotSo, Subject, examine
from harness.waiting import Deadline

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module", params=["13", "26"])
def subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    from harness.screen import VncScreen

    folder = tmp_path_factory.mktemp("mac")
    settings = load_settings(
        environ={},
        overrides={
            "provider": "simulated",
            "cache": folder / "cache",
            "simulated.home": folder / "tart",
            "simulated.boot_seconds": 0.1,
            "simulated.login_seconds": 0.1,
        },
    )
    deadline = Deadline.after(120)
    machine = provider_for(settings).create(
        image=settings.image_for(request.param),
        macos=request.param,
        purpose="contracts",
        folder=folder,
        deadline=deadline,
    )
    guest = Guest(machine.ssh_endpoint, settings.guest, name=machine.name, folder=folder)
    with machine, guest:
        vnc = machine.vnc_endpoint(deadline)
        guest.connect(deadline)
        guest.wait_ready(deadline)
        screen = VncScreen(vnc.host, vnc.port, vnc.password, name=machine.name)
        try:
            yield Subject(guest, screen, request.param, settings.guest.user, deadline)
        finally:
            screen.close()


def test_all_contracts_hold_on_a_simulated_mac(subject: Subject) -> None:
    findings = list(examine(subject))
    assert [finding.contract for finding in findings] == list(CHECKS)
    assert [finding for finding in findings if not finding.ok] == []
    assert all(finding.text for finding in findings)


def test_each_check_has_its_row_in_the_document() -> None:
    text = (ROOT / "docs" / "contracts.md").read_text(encoding="utf-8")
    rows = {line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| ")}
    assert set(CHECKS) <= rows


# --- a Mac that answers wrongly ---------------------------------------------------------------------------------------


@dataclass
class Answer:
    stdout: bytes = b""
    exit_code: int = 0
    stderr: bytes = b""

    @property
    def text(self) -> str:
        return self.stdout.decode(errors="replace")


@dataclass
class WrongGuest:
    """Answers by the first words of a command; whatever is not named is fine and empty."""

    answers: dict[str, Answer] = field(default_factory=dict)
    user: str = "admin"
    session: str = "4F5DAC81-7ACD-42C8-95F5-0A4CDE8C4701"
    managername: str = "Aqua"
    name: str = "vm-a"
    settings: object = field(default_factory=lambda: SimpleNamespace(user="admin"))

    def run(self, argv: Sequence[str], **_: object) -> Answer:
        line = " ".join(argv)
        for prefix, answer in self.answers.items():
            if line.startswith(prefix):
                return answer
        return Answer()

    def start(self, argv: Sequence[str], **_: object) -> object:
        return SimpleNamespace(wait=lambda _: Answer(self.managername.encode()))

    def console_user(self, _: Deadline) -> str:
        return self.user

    def boot_session(self, _: Deadline) -> str:
        return self.session


class FlatScreen:
    def frame(self, _: Deadline) -> object:
        import numpy as np

        return SimpleNamespace(pixels=np.zeros((8, 8, 3), dtype=np.uint8))


def _check(contract: str, guest: WrongGuest, screen: object = None) -> Finding:
    subject = Subject(guest, screen, "15", "admin", Deadline(5))  # type: ignore[arg-type]
    return next(finding for finding in examine(subject) if finding.contract == contract)


LISTING = b"2 extension(s)\n"
PRINT = b"system/com.apple.sysextd = {\n\tstate = running\n"
BROKEN = [
    ("ssh-arguments", WrongGuest({"printf": Answer(b"something else")}), "printf to give back"),
    ("ssh-sudo", WrongGuest({"cat": Answer(b"")}), "stdin alone"),
    ("ssh-sudo", WrongGuest({"cat": Answer(b"stdin is the command's own"), "id": Answer(b"501\n")}), "uid 501"),
    ("console-user", WrongGuest(user=""), "nobody"),
    ("console-user", WrongGuest(user="root"), "root"),
    ("boot-session", WrongGuest(session="1"), "a UUID"),
    ("sw-vers", WrongGuest({"sw_vers": Answer(b"ProductVersion: 14.5\nBuildVersion: 23F79\n")}), "macOS 15: 14.5"),
    ("sw-vers", WrongGuest({"sw_vers": Answer(b"ProductVersion: 150.5\n")}), "macOS 15: 150.5"),
    ("sw-vers", WrongGuest({"sw_vers": Answer(b"Linux")}), "ProductVersion"),
    ("csrutil", WrongGuest({"csrutil": Answer(b"no idea")}), "csrutil"),
    ("systemextensionsctl-list", WrongGuest({"systemextensionsctl": Answer(LISTING)}), "count 2, 0 rows"),
    ("systemextensionsctl-list", WrongGuest({"systemextensionsctl": Answer(b"")}), ""),
    ("db-plist", WrongGuest({"cat": Answer(b"", 1, b"cat: Permission denied")}), "Permission denied"),
    ("db-plist", WrongGuest({"cat": Answer(b"not a plist")}), ""),
    ("launchctl-print", WrongGuest({"launchctl": Answer(PRINT)}), "launchctl print"),
    ("scutil-nc-list", WrongGuest({"scutil": Answer(b"No services\n")}), "heading"),
    ("log-show-ndjson", WrongGuest({"/usr/bin/log": Answer(b"Timestamp  Ty Process\n")}), "none of them a record"),
    (
        "log-show-ndjson",
        WrongGuest({"/usr/bin/log": Answer(b'{"timestamp":"2026-08-04 10:11:12.000000+0000","eventMessage":"x"}\n')}),
        "finished",
    ),
    ("guest-tools", WrongGuest({"/bin/sh -c command -v ditto": Answer(b"", 1)}), "missing: ditto"),
    ("user-session", WrongGuest(managername="Background"), "Background"),
    ("user-session", WrongGuest(managername=""), "nothing"),
]


@pytest.mark.parametrize(
    ("contract", "guest", "says"), BROKEN, ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_broken_contract_is_found(contract: str, guest: WrongGuest, says: str) -> None:
    finding = _check(contract, guest)
    assert not finding.ok
    assert says in finding.text


def test_a_black_framebuffer_is_found() -> None:
    assert "one flat colour" in _check("vnc-framebuffer", WrongGuest(), FlatScreen()).text


def test_every_check_can_be_red() -> None:
    assert {contract for contract, _, _ in BROKEN} | {"vnc-framebuffer"} == set(CHECKS)


def test_what_is_absent_or_custom_is_no_broken_contract() -> None:
    absent = WrongGuest({"cat": Answer(b"", 1, b"cat: db.plist: No such file or directory")})
    assert _check("db-plist", absent).ok
    custom = WrongGuest({"csrutil": Answer(b"System Integrity Protection status: unknown (Custom Configuration).\n")})
    assert _check("csrutil", custom) == Finding("csrutil", ok=True, text="custom")
    empty = WrongGuest({"cat": Answer(plistlib.dumps({"extensions": [], "version": 1}))})
    assert _check("db-plist", empty).text == "0 entries"


def test_one_check_that_breaks_never_stops_the_next() -> None:
    class Gone(WrongGuest):
        def run(self, argv: Sequence[str], **_: object) -> Answer:
            raise EnvironmentFailure("a Mac", seen="gone")

        def boot_session(self, _: Deadline) -> str:
            raise ZeroDivisionError("unforeseen")

    findings = list(examine(Subject(Gone(), FlatScreen(), "15", "admin", Deadline(5))))  # type: ignore[arg-type]
    assert len(findings) == len(CHECKS)
    by_name = {finding.contract: finding for finding in findings}
    assert by_name["ssh-arguments"].text == "a Mac: gone"
    assert by_name["boot-session"].text == "ZeroDivisionError: unforeseen"
    assert by_name["console-user"].ok


def test_hostile_words_are_hostile() -> None:
    assert any("\n" in word for word in HOSTILE)
    assert "" in HOSTILE
    assert issubclass(NotSo, Exception)
