"""What is judged of other products and of a Mac's management, from what commands print."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from harness.config import load_settings
from harness.errors import EnvironmentFailure, ProductFailure, UsageError
from harness.formats.listing import parse_listing
from harness.guest import Result
from harness.session import soak as soaking
from harness.session.accounts import refusals
from harness.session.beside import Company
from harness.session.cleaning import remove_product

OURS = "com.example.app.extension"
JOB = "system/{label} = {{\n\tactive count = 0\n\tpath = /x.plist\n\tstate = {state}\n\n\truns = 5\n\tlast exit code = 0\n}}\n"
ENROLLED = "Enrolled via DEP: No\nMDM enrollment: Yes (User Approved)\nMDM server: https://mdm.example.com\n"


class Guest:
    """Answers commands by their first words; the longest that fits."""

    log_command = "/usr/bin/log"
    name = "vm"

    def __init__(self, answers: dict[str, tuple[int, str]]) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def run(self, argv, *, check=True, **_):
        words = " ".join(argv)
        self.asked.append(words)
        fits = [key for key in self.answers if words.startswith(key)]
        code, text = self.answers[max(fits, key=len)] if fits else (0, "")
        result = Result(tuple(argv), code, text.encode(), b"", 0.0)
        return result.check("vm") if check else result


def make_mac(tmp_path, answers=None, *, kind="dns-proxy", listing=""):
    overrides = {"soak.cycles": 2, "soak.pause_seconds": 0, "cache": str(tmp_path)}
    state = SimpleNamespace(listing=listing)
    return SimpleNamespace(
        name="vm",
        guest=Guest(answers or {}),
        settings=load_settings(overrides=overrides, environ={}),
        app=SimpleNamespace(name="App", resolves=["a.example"], extension=SimpleNamespace(kind=kind, id=OURS)),
        case=SimpleNamespace(folder=SimpleNamespace(path=tmp_path), notes=[]),
        state=state,
        snapshot=lambda: SimpleNamespace(listing=parse_listing(state.listing)),
    )


def answers(**changes):
    usual = {
        "dscacheutil -q": (0, "name: a.example\nip_address: 192.0.2.7\n"),
        "profiles status": (0, ENROLLED),
        "launchctl print system/com.apple.apsd": (0, JOB.format(label="com.apple.apsd", state="running")),
        "launchctl print system/com.apple.mdmclient": (0, JOB.format(label=soaking.CLIENT, state="not running")),
        soaking.MDMCLIENT: (0, "=== CPF_GetInstalledProfiles ===\nQueryResponses = {}\n"),
    }
    return {**usual, **changes}


def test_a_daemon_that_is_idle_proves_nothing(tmp_path) -> None:
    mac = make_mac(tmp_path, answers())
    last = soaking.soak(mac)
    assert last.enrolled
    assert last.answered
    assert last.client is not None
    assert last.client.state == "not running"
    assert sum(words.startswith("dscacheutil -q") for words in mac.guest.asked) == 2
    assert "MDM enrollment: Yes" in (tmp_path / "management.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("answer", [(1, ""), (0, "  \n"), (75, "timed out")])
def test_one_that_does_not_answer_is_the_finding(tmp_path, answer) -> None:
    mac = make_mac(tmp_path, answers(**{soaking.MDMCLIENT: answer}))
    with pytest.raises(ProductFailure, match="does not answer") as caught:
        soaking.soak(mac)
    assert "last exit code 0" in caught.value.seen
    assert "cycle 1 of 2" in caught.value.seen
    assert (tmp_path / "management.txt").is_file()


def test_a_full_disk_of_the_host_does_not_take_the_findings_place(tmp_path) -> None:
    mac = make_mac(tmp_path, answers(**{soaking.MDMCLIENT: (1, "")}))
    mac.case.folder.path = tmp_path / "nowhere"
    with pytest.raises(ProductFailure, match="does not answer"):
        soaking.soak(mac)


def test_a_mac_that_nobody_manages_is_not_asked(tmp_path) -> None:
    mac = make_mac(tmp_path, answers(**{"profiles status": (0, "Enrolled via DEP: No\nMDM enrollment: No\n")}))
    assert soaking.soak(mac).answered is None
    assert not any(words.startswith(soaking.MDMCLIENT) for words in mac.guest.asked)


def test_push_that_is_down_on_a_managed_mac(tmp_path) -> None:
    down = (0, JOB.format(label="com.apple.apsd", state="not running"))
    with pytest.raises(ProductFailure, match="hear its management"):
        soaking.soak(make_mac(tmp_path, answers(**{"launchctl print system/com.apple.apsd": down})))


def test_names(tmp_path) -> None:
    silent = answers(**{"dscacheutil -q": (0, "")})
    assert soaking.expect_names(make_mac(tmp_path, answers())) == {"a.example": ["192.0.2.7"]}
    with pytest.raises(EnvironmentFailure, match="before anything is activated"):
        soaking.expect_names(make_mac(tmp_path, silent))
    with pytest.raises(ProductFailure, match=r"a\.example to resolve"):
        soaking.soak(make_mac(tmp_path, silent))


def test_only_a_dns_proxy_is_soaked(tmp_path) -> None:
    with pytest.raises(UsageError, match="content-filter"):
        soaking.soak(make_mac(tmp_path, answers(), kind="content-filter"))


def row(identifier: str, state: str) -> str:
    return f"*\t*\tTEAM123456\t{identifier} (1.0/1)\tName\t[{state}]\n"


def listed(*rows: str) -> str:
    head = "enabled\tactive\tteamID\tbundleID (version)\tname\t[state]\n"
    return f"{len(rows)} extension(s)\n--- com.apple.system_extension.network_extension\n{head}{''.join(rows)}"


@pytest.mark.parametrize(
    ("after", "says"),
    [
        ([row("com.other.one", "activated enabled"), row("com.other.two", "activated disabled")], None),
        ([row("com.other.one", "activated disabled"), row("com.other.two", "activated disabled")], "com.other.one"),
        ([row("com.other.one", "activated enabled")], "com.other.two 1.0/1 was activated_disabled, is gone"),
    ],
    ids=["unharmed", "switched-off", "gone"],
)
def test_the_others_are_as_they_were(tmp_path, after, says) -> None:
    before = [row("com.other.one", "activated enabled"), row("com.other.two", "activated disabled")]
    mac = make_mac(tmp_path, listing=listed(*before))
    company = Company(mac, [])
    assert [other.identifier for other in company.others] == ["com.other.one", "com.other.two"]
    assert [other.identifier for other in company.of_category("network_extension")] == ["com.other.one"]
    assert company.of_category("endpoint_security") == []
    mac.state.listing = listed(*after, row(OURS, "activated enabled"))
    if says is None:
        company.expect_unharmed()
        return
    with pytest.raises(ProductFailure) as caught:
        company.expect_unharmed()
    assert says in caught.value.seen


def test_a_mac_that_cannot_list_is_not_one_without_others(tmp_path) -> None:
    mac = make_mac(tmp_path)
    mac.snapshot = lambda: SimpleNamespace(listing=None, listing_text="")
    with pytest.raises(EnvironmentFailure, match="to tell which extensions"):
        Company(mac, [])


def test_management_that_was_deaf_before_is_not_the_proxys_doing(tmp_path) -> None:
    soaking.expect_management(make_mac(tmp_path, answers()))
    deaf = answers(**{soaking.MDMCLIENT: (1, "")})
    with pytest.raises(EnvironmentFailure, match="before anything is activated"):
        soaking.expect_management(make_mac(tmp_path, deaf))
    assert (tmp_path / "management.txt").is_file()
    alone = make_mac(tmp_path, answers(**{"profiles status": (0, "MDM enrollment: No\n")}))
    soaking.expect_management(alone)
    assert "not tested" in alone.case.notes[0]


def test_refusals_of_authd(tmp_path) -> None:
    line = (
        "2026-01-01 10:00:00.000 E  authd[150:9a] [com.apple.Authorization:authd] Failed to authorize 'system.preferences' "
        "by client '/x/VPN.appex' for authorization created by '/x/VPN.appex' (-60006) (engine 881)\n"
    )
    mac = make_mac(tmp_path, {"/usr/bin/log show": (0, f"Timestamp Ty Process\n{line}Succeeded authorizing right\n")})
    (found,) = refusals(mac)
    assert found.endswith("(-60006)")
    assert refusals(make_mac(tmp_path, {"/usr/bin/log show": (64, "")})) == []


def test_a_mac_with_another_person_at_its_console_is_not_handed_on(tmp_path) -> None:
    mac = make_mac(tmp_path)
    mac.guest.desktop_user, mac.guest.settings = "tester", mac.settings.guest
    with pytest.raises(EnvironmentFailure, match="admin at the console"):
        remove_product(mac)
    assert mac.guest.asked == []
