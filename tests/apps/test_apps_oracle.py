"""The oracle and the health check, on what real machines print (forms as posted; a stub answers for the guest)."""

from __future__ import annotations

import plistlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import events
from harness.apps.health import XpcBroken, expect_working
from harness.apps.launching import find_error_code
from harness.apps.oracle import DATABASE, Oracle
from harness.config import AppFile, FunctionCheck, load_app
from harness.errors import ProductFailure, SysextError, UsageError, Verdict, WaitTimeout
from harness.guest import CommandTimeout
from harness.waiting import Deadline

APP_FILE = Path(__file__).resolve().parents[2] / "scenarios" / "apps" / "mitmproxy.toml"
ID = "org.mitmproxy.macos-redirector.network-extension"
TEAM = "S8XHQB96PW"
HEAD = "--- com.apple.system_extension.network_extension\nenabled\tactive\tteamID\tbundleID (version)\tname\t[state]\n"
UUID = "4F5DAC81-7ACD-42C8-95F5-0A4CDE8C4701"


@dataclass
class Answer:
    exit_code: int
    stdout: bytes
    stderr: bytes = b""

    @property
    def text(self) -> str:
        return self.stdout.decode()


@dataclass
class StubGuest:
    """Answers by the first words of a command; a list of answers is used up one by one, its last one stays."""

    answers: dict[str, list[Answer]]
    name: str = "vm-a"
    asked: list[str] = field(default_factory=list)

    def run(self, argv: Sequence[str], **_: object) -> Answer:
        line = " ".join(argv)
        self.asked.append(line)
        for prefix, answers in self.answers.items():
            if line.startswith(prefix):
                return answers.pop(0) if len(answers) > 1 else answers[0]
        return Answer(127, b"", b"zsh: command not found: " + argv[0].encode())


def database(*entries: tuple[str, str, str]) -> Answer:
    """db.plist with (short, build, state) entries."""
    return Answer(
        0,
        plistlib.dumps(
            {
                "version": 1,
                "bootUUID": UUID,
                "developerMode": False,
                "extensionPolicies": [],
                "extensions": [
                    {
                        "identifier": ID,
                        "teamID": TEAM,
                        "uniqueID": f"{UUID[:-1]}{number}",
                        "state": state,
                        "categories": ["com.apple.system_extension.network_extension"],
                        "bundleVersion": {"CFBundleShortVersionString": short, "CFBundleVersion": build},
                        "container": {"bundlePath": "/Applications/Mitmproxy Redirector.app"},
                    }
                    for number, (short, build, state) in enumerate(entries)
                ],
            },
            fmt=plistlib.FMT_BINARY,
        ),
    )


def listing(*entries: tuple[str, str, str]) -> Answer:
    rows = ""
    for short, build, state in entries:
        enabled = "*" if state == "activated enabled" else ""
        active = "*" if state.startswith("activated") else ""
        rows += f"{enabled}\t{active}\t{TEAM}\t{ID} ({short}/{build})\tnetwork-extension\t[{state}]\n"
    return Answer(0, f"{len(entries)} extension(s)\n{HEAD if entries else ''}{rows}".encode())


def oracle(guest: StubGuest) -> Oracle:
    return Oracle(guest, load_app(APP_FILE))  # type: ignore[arg-type]


def job_print(*, state: str = "running", endpoints: bool = True, build: str = "2") -> Answer:
    block = (
        '\tendpoints = {\n\t\t"'
        + ID
        + '" = {\n\t\t\tport = 0x6ed03\n\t\t\tactive = 1\n\t\t\tmanaged = 1\n\t\t}\n\t}\n\n'
        if endpoints
        else ""
    )
    label = f"NetworkExtension.{ID}.2.0.{build}"
    return Answer(
        0,
        (
            f"system/{label} = {{\n\tactive count = 2\n\tpath = (submitted by nesessionmanager[412])\n\ttype = Submitted\n"
            f"\tstate = {state}\n\n\tprogram = /Library/SystemExtensions/{UUID[:-1]}0/{ID}.systemextension/Contents/MacOS/{ID}\n"
            f"{block}\tdomain = system\n\truns = 1\n\tpid = 801\n\tlast exit code = (never exited)\n}}\n"
        ).encode(),
    )


def test_both_sources_agree() -> None:
    guest = StubGuest(
        {
            f"cat {DATABASE}": [database(("1.0", "1", "activated_waiting_for_user"))],
            "systemextensionsctl list": [listing(("1.0", "1", "activated waiting for user"))],
        }
    )
    snapshot = oracle(guest).snapshot(Deadline(5))
    assert snapshot.state == "activated_waiting_for_user"
    assert snapshot.disagreements == ()
    assert snapshot.main is not None
    assert (snapshot.main.in_database, snapshot.main.in_listing) == (True, True)


def test_a_leftover_never_counts_as_the_state() -> None:
    guest = StubGuest(
        {
            f"cat {DATABASE}": [
                database(("1.0", "1", "terminated_waiting_to_uninstall_on_reboot"), ("2.0", "2", "activated_enabled"))
            ],
            "systemextensionsctl list": [
                listing(("1.0", "1", "terminated waiting to uninstall on reboot"), ("2.0", "2", "activated enabled"))
            ],
        }
    )
    snapshot = oracle(guest).snapshot(Deadline(5))
    assert snapshot.main is not None
    assert snapshot.main.version == "2.0/2"
    assert oracle(guest).state(Deadline(5)) == "activated_enabled"
    gone = StubGuest({f"cat {DATABASE}": [database(("1.0", "1", "terminated_waiting_to_uninstall_on_reboot"))]})
    assert oracle(gone).state(Deadline(5)) is None


def test_a_change_between_the_two_reads_is_read_again_and_a_lasting_one_is_told() -> None:
    moving = StubGuest(
        {
            f"cat {DATABASE}": [
                database(("1.0", "1", "activated_enabling")),
                database(("1.0", "1", "activated_enabled")),
            ],
            "systemextensionsctl list": [listing(("1.0", "1", "activated enabled"))],
        }
    )
    assert oracle(moving).snapshot(Deadline(5)).disagreements == ()
    lasting = StubGuest(
        {f"cat {DATABASE}": [database(("1.0", "1", "activated_enabled"))], "systemextensionsctl list": [listing()]}
    )
    assert "the listing has no such row" in oracle(lasting).snapshot(Deadline(5)).disagreements[0]
    reverse = StubGuest(
        {f"cat {DATABASE}": [database()], "systemextensionsctl list": [listing(("1.0", "1", "activated enabled"))]}
    )
    snapshot = oracle(reverse).snapshot(Deadline(5))
    assert snapshot.state == "activated_enabled"
    assert "db.plist has no such entry" in snapshot.disagreements[0]


def test_without_db_plist_the_listing_serves_and_without_both_it_says_so() -> None:
    absent = Answer(1, b"", b"cat: /Library/SystemExtensions/db.plist: No such file or directory\n")
    guest = StubGuest(
        {f"cat {DATABASE}": [absent], "systemextensionsctl list": [listing(("1.0", "1", "activated enabled"))]}
    )
    assert oracle(guest).state(Deadline(5)) == "activated_enabled"
    with pytest.raises(SysextError, match="systemextensionsctl"):
        oracle(StubGuest({f"cat {DATABASE}": [absent]})).snapshot(Deadline(5))


def test_waiting_for_a_state_ends_with_what_was_seen() -> None:
    guest = StubGuest(
        {
            f"cat {DATABASE}": [database(("1.0", "1", "activated_disabled"))],
            "systemextensionsctl list": [listing(("1.0", "1", "activated disabled"))],
        }
    )
    with pytest.raises(WaitTimeout, match="activated_disabled"):
        oracle(guest).wait_for_state(["activated_enabled"], Deadline(0.2), interval=0.05)
    with pytest.raises(WaitTimeout, match="gave up"):
        oracle(guest).wait_for_state(["activated_enabled"], Deadline(60), hopeless=["activated_disabled"])


def _working(app: AppFile, guest: StubGuest, seconds: float = 2) -> object:
    return expect_working(guest, Oracle(guest, app), app, version=("2.0", "2"), deadline=Deadline(seconds))  # type: ignore[arg-type]


def _healthy() -> StubGuest:
    return StubGuest(
        {
            f"cat {DATABASE}": [database(("2.0", "2", "activated_enabled"))],
            "systemextensionsctl list": [listing(("2.0", "2", "activated enabled"))],
            f"launchctl print system/NetworkExtension.{ID}.2.0.2": [job_print()],
            "launchctl print": [Answer(113, b"", b'Could not find service "x" in domain for system\n')],
            "launchctl list": [Answer(0, f"PID\tStatus\tLabel\n801\t0\tNetworkExtension.{ID}.2.0.2\n".encode())],
            "scutil --nc list": [
                Answer(
                    0,
                    b'Available network connection services in the current set (*=enabled):\n* (Connected)      8C7A9D5F-1E7A-4A0A-9F0E-0C7B1D6B3A11 VPN (org.mitmproxy.macos-redirector) "mitmproxy"                        [VPN:org.mitmproxy.macos-redirector]\n',
                )
            ],
        }
    )


def test_a_working_extension() -> None:
    health = _working(load_app(APP_FILE), _healthy())
    assert health.pid == 801  # type: ignore[attr-defined]


def _checked(**check: object) -> AppFile:
    spec = FunctionCheck.model_validate({"name": "a check", "command": ["probe", "it"], **check})
    return load_app(APP_FILE).model_copy(update={"checks": [spec]})


def test_the_app_files_own_checks() -> None:
    guest = _healthy()
    guest.answers["probe it"] = [Answer(0, b"status: fine\n")]
    _working(_checked(expect_output="^status: f"), guest)
    with pytest.raises(ProductFailure, match=r"to print 'status: bad'.*status: fine") as caught:
        _working(_checked(expect_output="status: bad"), guest)
    assert caught.value.hint
    with pytest.raises(ProductFailure, match=r"'a check' to exit 3.*exit 0"):
        _working(_checked(expect_exit=3), guest)
    with pytest.raises(UsageError, match="a regular expression"):
        _working(_checked(expect_output="("), guest)


def test_a_check_that_hangs_is_the_products_failure() -> None:
    class Hanging(StubGuest):
        def run(self, argv: Sequence[str], **options: object) -> Answer:
            if argv[0] == "probe":
                raise CommandTimeout("`probe` to end", seen="still running", hint="", blame=Verdict.ENVIRONMENT_FAILURE)
            return super().run(argv, **options)

    with pytest.raises(ProductFailure, match="'a check' to end"):
        _working(_checked(), Hanging(_healthy().answers))


def test_a_longer_version_number_is_another_version() -> None:
    guest = _healthy()
    rows = f"801\t0\tNetworkExtension.{ID}.2.0.2\n700\t0\tNetworkExtension.{ID}.2.0.21\n"
    guest.answers["launchctl list"] = [Answer(0, rows.encode())]
    with pytest.raises(ProductFailure, match="older version"):
        _working(load_app(APP_FILE), guest)
    guest.answers["launchctl list"] = [Answer(0, rows.replace("700", "-").encode())]
    _working(load_app(APP_FILE), guest)


def test_a_process_of_another_copy_is_old_code_under_the_new_name() -> None:
    guest = _healthy()
    wrong = job_print().stdout.replace(f"{UUID[:-1]}0/".encode(), f"{UUID[:-1]}7/".encode())
    guest.answers[f"launchctl print system/NetworkExtension.{ID}.2.0.2"] = [Answer(0, wrong)]
    with pytest.raises(ProductFailure, match="to run the enabled copy") as caught:
        _working(load_app(APP_FILE), guest)
    assert f"{UUID[:-1]}7" in caught.value.seen
    untold = job_print().stdout.replace(b"/Library/SystemExtensions", b"/elsewhere")
    guest.answers[f"launchctl print system/NetworkExtension.{ID}.2.0.2"] = [Answer(0, untold)]
    _working(load_app(APP_FILE), guest)  # a print without the path of a copy says nothing of it


@pytest.mark.parametrize("answer", [Answer(1, b"", b"Not privileged\n"), Answer(0, b"PID\tStatus\tLabel\n")])
def test_a_list_that_cannot_show_an_old_process_is_told(answer: Answer, seen: list[events.Record]) -> None:
    guest = _healthy()
    guest.answers["launchctl list"] = [answer]
    _working(load_app(APP_FILE), guest)
    told = [record["attributes"]["what"] for record in seen if record.get("name") == "degraded"]
    assert told == [f"processes of older versions of {ID} were not looked for"]


def test_running_without_endpoints_is_xpc_broken() -> None:
    guest = _healthy()
    guest.answers[f"launchctl print system/NetworkExtension.{ID}.2.0.2"] = [job_print(endpoints=False)]
    with pytest.raises(XpcBroken, match="no endpoints"):
        _working(load_app(APP_FILE), guest, 0.5)


def _of_kind(kind: str, team: str | None = TEAM) -> AppFile:
    app = load_app(APP_FILE)
    extension = app.extension.model_copy(update={"kind": kind})
    return app.model_copy(update={"extension": extension, "team": team, "configuration": None})


def test_an_endpoint_security_extension_is_labelled_by_team_and_need_not_have_endpoints() -> None:
    guest = _healthy()
    answer = job_print(endpoints=False)
    answer.stdout = answer.stdout.replace(f"NetworkExtension.{ID}.2.0.2".encode(), f"{TEAM}.{ID}".encode())
    guest.answers = {f"launchctl print system/{TEAM}.{ID}": [answer], **guest.answers}
    guest.answers["launchctl list"] = [Answer(0, f"PID\tStatus\tLabel\n801\t0\t{TEAM}.{ID}\n".encode())]
    assert _working(_of_kind("endpoint-security"), guest).pid == 801  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match="team"):
        _working(_of_kind("endpoint-security", None), guest, 0.5)


def test_of_a_driver_no_job_is_asked_for() -> None:
    guest = _healthy()
    app = _of_kind("driver")
    assert _working(app, guest).pid is None  # type: ignore[attr-defined]
    assert Oracle(guest, app).job("2.0", "2", Deadline(1)) is None  # type: ignore[arg-type]
    assert [line for line in guest.asked if line.startswith("launchctl")] == []


@pytest.mark.parametrize(
    ("key", "answer", "says"),
    [
        (f"launchctl print system/NetworkExtension.{ID}.2.0.2", job_print(state="not running"), "state = not running"),
        (
            f"launchctl print system/NetworkExtension.{ID}.2.0.2",
            Answer(113, b"", b"Could not find service"),
            "never started",
        ),
        (
            "launchctl list",
            Answer(0, f"801\t0\tNetworkExtension.{ID}.2.0.2\n700\t0\tNetworkExtension.{ID}.1.0.1\n".encode()),
            "older version",
        ),
        (
            "scutil --nc list",
            Answer(0, b"Available network connection services in the current set (*=enabled):\n"),
            "to be connected",
        ),
        (
            f"cat {DATABASE}",
            database(("2.0", "2", "activated_enabled"), ("1.0", "1", "activated_enabled")),
            "exactly one enabled",
        ),
    ],
)
def test_what_is_not_working_is_a_product_failure_that_says_what(key: str, answer: Answer, says: str) -> None:
    guest = _healthy()
    guest.answers[key] = [answer]
    with pytest.raises((ProductFailure, WaitTimeout), match=says):
        _working(load_app(APP_FILE), guest, 0.5)


def test_a_look_is_never_cut_short_by_the_end_of_the_wait() -> None:
    """Or a product that is too slow would be called a Mac that does not answer, and be tried again."""
    left: list[float] = []

    class Slow(StubGuest):
        def run(self, argv: Sequence[str], **options: object) -> Answer:
            deadline = options["deadline"]
            assert isinstance(deadline, Deadline)
            left.append(deadline.remaining)
            return super().run(argv, **options)

    guest = Slow(
        {
            f"cat {DATABASE}": [database(("1.0", "1", "activated_disabled"))],
            "systemextensionsctl list": [listing(("1.0", "1", "activated disabled"))],
        }
    )
    with pytest.raises(WaitTimeout, match="activated_disabled") as caught:
        oracle(guest).wait_for_state(["activated_enabled"], Deadline(0.1), interval=0.05)
    assert caught.value.verdict is Verdict.PRODUCT_FAILURE
    oracle(guest).wait_for_state(["activated_disabled"], Deadline(0))
    assert min(left) > 5


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('Error Domain=OSSystemExtensionErrorDomain Code=4 "(null)"', 4),
        ("The operation couldn’t be completed. (OSSystemExtensionErrorDomain error 9.)", 9),
        ("(OSSystemExtensionErrorDomain:12)", 12),
        ("domain=OSSystemExtensionErrorDomain code=4", 4),
        ("OSSystemExtensionErrorDomain error 1", 1),
        ("NEVPNErrorDomain Code=5", None),
        ("", None),
    ],
)
def test_error_codes_in_the_forms_that_apps_print(text: str, code: int | None) -> None:
    assert find_error_code(text) == code


@given(st.text(max_size=200))
def test_error_code_search_takes_any_text(text: str) -> None:
    code = find_error_code(text)
    assert code is None or 0 <= code < 1000
