"""Every rule of the preflight: silent on the real release, heard on that release altered.

What can be altered on disk is (names, Info.plist, files, permissions, bytes of code). What only Apple or the team's key
could sign anew (entitlements, certificates, profiles, tickets) is altered in the inspection's records instead.
"""

from __future__ import annotations

import dataclasses
import plistlib
import shutil
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from harness.bundles.facts import PROBLEMS, CmsFacts, CodeItem, Inspection, Problem, SliceFacts
from harness.bundles.inspection import inspect_app
from harness.bundles.preflight import Finding, Release, Terms, judge, load_rules
from harness.bundles.preflight.layout import odd_mode
from harness.bundles.preflight.rules import judged
from harness.bundles.preflight.signing import _PROBLEMS

EXTENSION = "org.mitmproxy.macos-redirector.network-extension"
BUNDLE = f"Contents/Library/SystemExtensions/{EXTENSION}.systemextension"
NETWORK = "com.apple.developer.networking.networkextension"
GROUPS = "com.apple.security.application-groups"
USERCLIENT = "com.apple.developer.driverkit.userclient-access"
TODAY = datetime(2025, 6, 1, tzinfo=UTC).timestamp()
Seen = Callable[[Inspection], Inspection]


@pytest.fixture(scope="module")
def real(app_0115: Path) -> Inspection:
    return inspect_app(app_0115)


@pytest.fixture(scope="module")
def older(app_0114: Path) -> Inspection:
    return inspect_app(app_0114)


def findings(
    seen: Inspection, path: Path | None = None, old: Inspection | None = None, **terms: Any
) -> tuple[Finding, ...]:
    previous = Release("old", old) if old is not None else None
    return judge(Release("new", seen, path), previous, terms=Terms(**{"today": TODAY, **terms})).findings


def heard(found: Iterable[Finding]) -> set[str]:
    return {finding.rule.id for finding in found}


# ------------------------------------------------------------------------------------------------ altering the records


def sliced(item: CodeItem, change: Callable[[SliceFacts], dict[str, Any]], only: str = "") -> CodeItem:
    return dataclasses.replace(
        item,
        slices=tuple(
            dataclasses.replace(part, **change(part)) if only in ("", part.arch) else part for part in item.slices
        ),
    )


def entitled(item: CodeItem, only: str = "", **changes: Any) -> CodeItem:
    """With other entitlements; None takes one away."""

    def change(part: SliceFacts) -> dict[str, Any]:
        new = {**part.entitlements, **changes}
        return {"entitlements": {key: value for key, value in new.items() if value is not None}}

    return sliced(item, change, only)


def informed(item: CodeItem, **changes: Any) -> CodeItem:
    info = {key: value for key, value in {**item.info, **changes}.items() if value is not None}
    return dataclasses.replace(item, info=info)


def app(change: Callable[[CodeItem], CodeItem]) -> Seen:
    return lambda seen: dataclasses.replace(seen, app=change(seen.app))


def extension(change: Callable[[CodeItem], CodeItem]) -> Seen:
    return lambda seen: dataclasses.replace(seen, extensions=tuple(change(item) for item in seen.extensions))


def replaced(**changes: Any) -> Callable[[CodeItem], CodeItem]:
    return lambda item: dataclasses.replace(item, **changes)


def profiled(**changes: Any) -> Callable[[CodeItem], CodeItem]:
    def change(item: CodeItem) -> CodeItem:
        assert item.profile is not None
        return dataclasses.replace(item, profile=dataclasses.replace(item.profile, **changes))

    return change


def granted(**changes: Any) -> Callable[[CodeItem], CodeItem]:
    def change(item: CodeItem) -> CodeItem:
        assert item.profile is not None
        new = {key: value for key, value in {**item.profile.entitlements, **changes}.items() if value is not None}
        return profiled(entitlements=new)(item)

    return change


def problem(code: str) -> Seen:
    found = Problem(code, "Contents/MacOS/X (arm64)", "what was seen")
    return lambda seen: dataclasses.replace(seen, problems=(*seen.problems, found))


def driver(seen: Inspection, **changes: Any) -> Inspection:
    """The extension, turned into a driver as far as its records go."""

    def change(item: CodeItem) -> CodeItem:
        info = {key: value for key, value in item.info.items() if key != "NetworkExtension"}
        info = {**info, "IOKitPersonalities": {"Device": {}}, "OSBundleUsageDescription": "It drives."}
        item = dataclasses.replace(
            item,
            kind="dext",
            package_type="DEXT",
            path=item.path.replace(".systemextension", ".dext"),
            info=info,
            build="1.2.3b4",
        )
        return dataclasses.replace(entitled(item, **{"com.apple.developer.driverkit": True, NETWORK: None}), **changes)

    return extension(change)(seen)


def ticket(seen: Inspection, **changes: Any) -> Inspection:
    assert seen.ticket is not None
    return dataclasses.replace(seen, ticket=dataclasses.replace(seen.ticket, **changes))


def leafed(sha1: str) -> Callable[[SliceFacts], dict[str, Any]]:
    def change(part: SliceFacts) -> dict[str, Any]:
        cms = part.cms
        assert isinstance(cms, CmsFacts)
        leaf = dataclasses.replace(cms.chain[0], sha1=sha1)
        return {"cms": dataclasses.replace(cms, chain=(leaf, *cms.chain[1:]))}

    return change


def group(name: str) -> Callable[[CodeItem], CodeItem]:
    return lambda item: entitled(item, **{GROUPS: [name]})


def service(name: str | None) -> Callable[[CodeItem], CodeItem]:
    return lambda item: informed(item, NetworkExtension={**item.info["NetworkExtension"], "NEMachServiceName": name})


def in_tree(*paths: str) -> Seen:
    return lambda seen: dataclasses.replace(seen, tree=(*seen.tree, *paths))


SOON = datetime(2025, 6, 15, tzinfo=UTC)
ALTERED: list[tuple[str, Seen]] = [
    *((rule, problem(code)) for rule, codes in _PROBLEMS.items() for code in sorted(codes)),
    ("bundle-complete", problem("info-unreadable")),
    ("bundle-complete", problem("link-outside")),
    ("extension-present", lambda seen: dataclasses.replace(seen, extensions=())),
    ("extension-location", in_tree("Contents/PlugIns/", "Contents/PlugIns/a.b.systemextension/")),
    ("extension-location", in_tree("Contents/Library/SystemExtensions/x/", "Contents/Library/SystemExtensions/x/a.dext/")),
    ("extension-file-name", extension(replaced(bundle_id=f"{EXTENSION}2"))),
    ("extension-file-name", extension(replaced(bundle_id=EXTENSION.upper()))),
    ("extension-identifier-prefix", extension(replaced(bundle_id="org.example.other"))),
    ("extension-identifier-prefix", extension(replaced(bundle_id="org.mitmproxy.macos-redirectors"))),
    ("package-type", extension(replaced(package_type="XPC!"))),
    ("package-type", lambda seen: driver(seen, package_type="SYSX")),
    ("extension-category", extension(lambda item: informed(item, NetworkExtension=None))),
    ("extension-category", extension(lambda item: informed(item, NetworkExtension={"NEProviderClasses": {}}))),
    ("extension-category", extension(lambda item: informed(item, NetworkExtension={"NEProviderClasses": {"x.y": "Z"}}))),
    ("extension-category", lambda seen: extension(lambda item: informed(item, IOKitPersonalities=None))(driver(seen))),
    ("usage-description", extension(lambda item: informed(item, NSSystemExtensionUsageDescription=None))),
    ("usage-description", extension(lambda item: informed(item, NSSystemExtensionUsageDescription=" "))),
    ("every-slice", extension(lambda item: replaced(slices=item.slices[1:])(item))),
    ("every-slice", app(lambda item: replaced(slices=item.slices[:1])(item))),
    ("minimum-os", extension(lambda item: sliced(item, lambda _: {"min_os": "13.0"}))),
    ("minimum-os", app(lambda item: informed(item, LSMinimumSystemVersion="eleven"))),
    ("minimum-os", app(lambda item: informed(item, LSMinimumSystemVersion="11.0"))),
    ("versions-present", extension(replaced(build=""))),
    ("versions-present", app(replaced(version="1.0 beta"))),
    ("kext-version", lambda seen: driver(seen, build="20250612.1")),
    ("kext-version", lambda seen: driver(seen, build="1.2.3.4")),
    ("kext-version", lambda seen: driver(seen, build="1.2.3b256")),
    ("product-name-brackets", lambda seen: dataclasses.replace(seen, name="App [Beta].app")),
    ("product-name-brackets", in_tree("Contents/Resources/[x]/")),
    ("path-characters", in_tree("Contents/Resources/a\nb")),
    ("path-characters", in_tree("Contents/Resources/a:b")),
    ("path-characters", in_tree("Contents/Resources/b ")),
    ("hardened-runtime", extension(lambda item: sliced(item, lambda _: {"hardened": False}, "x86_64"))),
    ("no-get-task-allow", app(lambda item: entitled(item, "arm64", **{"com.apple.security.get-task-allow": True}))),
    ("ticket-stapled", lambda seen: dataclasses.replace(seen, ticket=None)),
    ("ticket-covers-code", extension(lambda item: sliced(item, lambda _: {"cdhash": "0" * 40, "cdhashes": {}}, "arm64"))),
    ("ticket-covers-code", lambda seen: ticket(seen, cdhashes=seen.ticket.cdhashes[:3] if seen.ticket else ())),
    ("team-consistent", problem("team-differs")),
    ("team-consistent", extension(lambda item: sliced(item, lambda _: {"team": "ZZZZZZZZZZ"}, "x86_64"))),
    ("team-consistent", app(profiled(team="ZZZZZZZZZZ"))),
    ("team-consistent", app(lambda item: entitled(item, **{"com.apple.developer.team-identifier": "ZZZZZZZZZZ"}))),
    ("team-consistent", app(lambda item: entitled(item, **{"com.apple.application-identifier": "S8XHQB96PW.a.b"}))),
    ("signing-identifier", extension(lambda item: sliced(item, lambda _: {"identifier": "main"}))),
    ("entitlements-agree", problem("entitlements-differ")),
    ("entitlement-lists", extension(lambda item: entitled(item, **{NETWORK: "app-proxy-provider-systemextension"}))),
    ("entitlement-lists", app(lambda item: entitled(item, **{GROUPS: ["S8XHQB96PW.a\nS8XHQB96PW.b"]}))),
    ("userclient-access", app(lambda item: entitled(item, **{USERCLIENT: "a.b.c\na.b.d"}))),
    ("userclient-access", app(lambda item: entitled(item, **{USERCLIENT: ["a.b.c\na.b.d"]}))),
    ("userclient-access", app(lambda item: entitled(item, **{USERCLIENT: [True]}))),
    ("install-entitlement", app(lambda item: entitled(item, **{"com.apple.developer.system-extension.install": None}))),
    ("install-entitlement", app(lambda i: entitled(i, "arm64", **{"com.apple.developer.system-extension.install": False}))),
    ("provider-entitlement", extension(lambda item: entitled(item, **{NETWORK: ["dns-proxy-systemextension"]}))),
    ("provider-entitlement", app(lambda item: entitled(item, **{NETWORK: None}))),
    ("provider-entitlement", lambda seen: extension(lambda i: entitled(i, **{"com.apple.developer.driverkit": 1}))(driver(seen))),
    ("developer-id-suffix", extension(lambda item: entitled(item, **{NETWORK: ["app-proxy-provider"]}))),
    ("profile-present", extension(replaced(profile=None))),
    ("profile-genuine", problem("profile-unreadable")),
    ("profile-genuine", app(profiled(platform=("iOS",)))),
    ("profile-current", extension(profiled(expires=datetime(2025, 5, 31, tzinfo=UTC)))),
    ("profile-ends-soon", extension(profiled(expires=SOON))),
    ("profile-certificate", app(lambda item: sliced(item, leafed("0" * 40)))),
    ("profile-certificate", extension(profiled(certificates=()))),
    ("profile-devices", app(profiled(all_devices=False, devices=("A", "B")))),
    ("entitlements-in-profile", app(granted(**{"com.apple.developer.system-extension.install": None}))),
    ("entitlements-in-profile", extension(granted(**{NETWORK: ["packet-tunnel-provider-systemextension"]}))),
    ("app-group-in-profile", extension(group("S8XHQB96PW.mitmproxy"))),
    ("app-group-in-profile", extension(group("group.org.mitmproxy"))),
    ("mach-service-prefix", extension(service("org.mitmproxy.service"))),
    ("mach-service-prefix", extension(lambda item: group("S8XHQB96PW.mitm")(service("S8XHQB96PW.other.x")(item)))),
    ("mach-service-name", extension(service(None))),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "alter"), ALTERED, ids=lambda value: value if isinstance(value, str) else "")
def test_an_altered_release_is_heard(real: Inspection, rule: str, alter: Seen) -> None:
    found = findings(alter(real))
    mine = [finding for finding in found if finding.rule.id == rule]
    assert mine, heard(found)
    for finding in mine:
        assert finding.severity == load_rules()[rule].severity
        assert finding.what
        assert finding.release == "new"


def _old(item: CodeItem) -> CodeItem:
    """Built for 10.15, of which there is none for arm64."""
    return sliced(informed(item, LSMinimumSystemVersion="10.15"), lambda _: {"min_os": "10.15"})


# What looks like trouble and is none.
FINE: list[tuple[str, Seen]] = [
    ("extension-location", in_tree("Contents/Helper.app/Contents/Library/SystemExtensions/a.b.systemextension/")),
    ("kext-version", lambda seen: driver(seen, build="9999.99.99fc255")),
    ("kext-version", extension(replaced(build="202506121530"))),
    ("package-type", driver),
    ("extension-category", driver),
    ("usage-description", driver),
    ("extension-file-name", driver),
    ("every-slice", extension(lambda item: sliced(item, lambda _: {"arch": "arm64e"}, "arm64"))),
    ("minimum-os", app(lambda item: informed(item, LSMinimumSystemVersion="13.0"))),
    ("versions-present", extension(replaced(version="5.1.5-20"))),
    ("minimum-os", lambda seen: extension(lambda item: sliced(item, lambda _: {"min_os": "11.0"}, "arm64"))(both(_old)(seen))),
    ("userclient-access", app(lambda item: entitled(item, **{USERCLIENT: ["a.b.c", "a.b.d"]}))),
    ("entitlement-lists", app(lambda item: entitled(item, **{USERCLIENT: "a.b.c\na.b.d"}))),
    ("developer-id-suffix", extension(lambda item: entitled(item, **{NETWORK: ["dns-settings"]}))),
    ("app-group-in-profile", extension(lambda item: group("S8XHQB96PW.x")(granted(**{GROUPS: ["S8XHQB96PW.*"]})(item)))),
    ("mach-service-prefix", extension(lambda item: group("S8XHQB96PW.x")(service("S8XHQB96PW.x.service")(item)))),
    ("mach-service-name", extension(lambda item: group("S8XHQB96PW.x")(service("S8XHQB96PW.x.service")(item)))),
    ("profile-ends-soon", app(profiled(expires=None))),
    ("profile-current", app(profiled(expires=None))),
    ("entitlements-in-profile", app(granted(**{NETWORK: "*"}))),
    ("path-characters", in_tree("Contents/Resources/Grüße (1) – ok.txt")),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "alter"), FINE, ids=lambda value: value if isinstance(value, str) else "")
def test_what_is_fine_is_not_heard(real: Inspection, rule: str, alter: Seen) -> None:
    assert rule not in heard(findings(alter(real)))


def test_the_real_release_has_no_findings_but_a_note(real: Inspection, app_0115: Path) -> None:
    found = findings(real, app_0115, macos=("12", "13", "14", "15", "26"))
    assert [(finding.rule.id, finding.severity) for finding in found] == [("mach-service-name", "note")]


# ------------------------------------------------------------------------------------------------------- altering files


@pytest.fixture
def copy(app_0115: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(app_0115, tmp_path / app_0115.name, symlinks=True))


def on_disk(path: Path) -> set[str]:
    return heard(findings(inspect_app(path), path))


def edit(path: Path, **changes: Any) -> None:
    info = plistlib.loads(path.read_bytes())
    path.write_bytes(plistlib.dumps({key: value for key, value in {**info, **changes}.items() if value is not None}))


@pytest.mark.parametrize(
    ("rule", "changes"),
    [
        ("package-type", {"CFBundlePackageType": "BNDL"}),
        ("usage-description", {"NSSystemExtensionUsageDescription": None}),
        ("extension-file-name", {"CFBundleIdentifier": "org.example.else"}),
        ("extension-category", {"NetworkExtension": None}),
        ("versions-present", {"CFBundleVersion": None}),
    ],
)
def test_an_edited_info_plist(copy: Path, rule: str, changes: dict[str, Any]) -> None:
    edit(copy / BUNDLE / "Contents/Info.plist", **changes)
    found = on_disk(copy)
    assert rule in found
    assert "signature-intact" in found, "the plist is sealed"


def test_a_renamed_extension(copy: Path) -> None:
    (copy / BUNDLE).rename((copy / BUNDLE).with_name("Extension.systemextension"))
    assert {"extension-file-name", "resources-intact"} <= on_disk(copy)


def test_an_extension_in_the_wrong_place(copy: Path) -> None:
    (copy / "Contents/PlugIns").mkdir()
    (copy / BUNDLE).rename(copy / "Contents/PlugIns" / f"{EXTENSION}.systemextension")
    assert {"extension-location", "extension-present"} <= on_disk(copy)


def test_one_flipped_byte_of_code(copy: Path) -> None:
    path = copy / BUNDLE / "Contents/MacOS" / EXTENSION
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)
    assert "signature-intact" in on_disk(copy)


def test_files_added_and_removed(copy: Path) -> None:
    (copy / "Contents/Resources/.hidden").write_text("x")
    assert "resources-intact" in on_disk(copy)
    (copy / "Contents/Resources/.hidden").unlink()
    assert "resources-intact" not in on_disk(copy)
    (copy / "Contents/Resources/Assets.car").unlink()
    assert "resources-intact" in on_disk(copy)


def test_no_ticket_and_no_profile(copy: Path) -> None:
    (copy / "Contents/CodeResources").unlink()
    (copy / BUNDLE / "Contents/embedded.provisionprofile").unlink()
    found = on_disk(copy)
    assert {"ticket-stapled", "profile-present"} <= found
    assert "ticket-covers-code" not in found


def test_brackets_in_the_name(copy: Path) -> None:
    named = copy.rename(copy.with_name("Redirector [Beta].app"))
    assert "product-name-brackets" in on_disk(named)


def test_an_entry_point_of_app_extensions(copy: Path, real: Inspection) -> None:
    path = copy / BUNDLE / "Contents/MacOS" / EXTENSION
    data = path.read_bytes()
    path.write_bytes(data + b"\0_NSExtensionMain\0")
    assert "entry-point" in heard(findings(real, copy))


def test_permissions_on_disk(copy: Path) -> None:
    program = copy / BUNDLE / "Contents/MacOS" / EXTENSION
    program.chmod(0o644)
    (copy / "Contents/Info.plist").chmod(0o640)
    found = [finding for finding in findings(inspect_app(copy), copy) if finding.rule.id == "permissions"]
    assert {finding.where for finding in found} >= {f"{BUNDLE}/Contents/MacOS/{EXTENSION}", "Contents/Info.plist"}


@pytest.mark.parametrize(
    ("mode", "program", "odd"),
    [(0o100755, True, 0), (0o100644, False, 0), (0o100644, True, 1), (0o104755, True, 1), (0o100666, False, 1), (0o40700, False, 1)],
)  # fmt: skip
def test_odd_modes(mode: int, program: bool, odd: int) -> None:
    assert len(list(odd_mode("x", mode, program=program))) == odd


def test_minimum_os_against_the_matrix(real: Inspection) -> None:
    newer = both(lambda item: sliced(informed(item, LSMinimumSystemVersion="14.2"), lambda _: {"min_os": "14.2"}))(real)
    assert "minimum-os" not in heard(findings(newer, macos=("14", "15")))
    said = [finding.what for finding in findings(newer, macos=("13", "15")) if finding.rule.id == "minimum-os"]
    assert said
    assert all("macOS 13" in text for text in said)


def test_minimum_os_of_drivers_is_counted_as_darwin_does(real: Inspection) -> None:
    old = extension(lambda item: sliced(item, lambda _: {"platform": "driverkit", "min_os": "21.0"}))(driver(real))
    assert "minimum-os" not in heard(findings(old, macos=("12",)))
    new = extension(lambda item: sliced(item, lambda _: {"platform": "driverkit", "min_os": "24.0"}))(driver(real))
    assert "minimum-os" in heard(findings(new, macos=("14",)))


def test_without_sip_who_signed_is_only_told(real: Inspection) -> None:
    unsigned = problem("adhoc")(dataclasses.replace(real, ticket=None))
    assert {f.severity for f in findings(unsigned, sip=False) if f.rule.trust} == {"note"}
    assert "error" in {f.severity for f in findings(unsigned) if f.rule.trust}
    altered = problem("page-hash")(real)
    assert "error" in {f.severity for f in findings(altered, sip=False)}, "what is broken is broken everywhere"


# ------------------------------------------------------------------------------------------------------------- upgrades


def bumped(item: CodeItem) -> CodeItem:
    return dataclasses.replace(item, version="3.0", build="3")


def fresh(item: CodeItem) -> CodeItem:
    return sliced(item, lambda part: {"uuid": f"NEW-{part.arch}", "cdhash": f"{part.arch:f<40}"})


def resigned(item: CodeItem) -> CodeItem:
    return sliced(item, lambda part: {"cdhash": f"{part.arch:e<40}"})


def both(change: Callable[[CodeItem], CodeItem]) -> Seen:
    return lambda seen: extension(change)(app(change)(seen))


RELEASED = both(lambda item: fresh(bumped(item)))
"""As a release should be."""
UPGRADES: list[tuple[str, Seen]] = [
    ("version-raised", extension(fresh)),
    ("version-raised", extension(resigned)),
    ("version-raised", extension(lambda item: sliced(item, lambda _: {"uuid": "N", "cdhash": "1" * 40}, "arm64"))),
    ("both-versions-raised", extension(lambda item: fresh(dataclasses.replace(item, version="3.0")))),
    ("both-versions-raised", extension(lambda item: fresh(dataclasses.replace(item, build="3")))),
    ("app-version-raised", app(fresh)),
    ("build-uuid-changed", both(lambda item: resigned(bumped(item)))),
    ("build-uuid-changed", extension(lambda i: sliced(fresh(bumped(i)), lambda _: {"uuid": i.slices[0].uuid}, i.archs[0]))),
    ("slices-rebuilt-together", extension(lambda item: sliced(item, lambda _: {"uuid": "N", "cdhash": "1" * 40}, "arm64"))),
    ("downgrade", both(lambda item: fresh(dataclasses.replace(item, version="1.9")))),
    ("downgrade", both(lambda item: fresh(dataclasses.replace(item, build="0.9")))),
    ("same-team", both(lambda item: sliced(fresh(bumped(item)), lambda _: {"team": "ZZZZZZZZZZ"}))),
    ("same-identifiers", app(replaced(bundle_id="org.example"))),
    ("same-identifiers", extension(replaced(bundle_id="org.mitmproxy.macos-redirector.other"))),
    ("same-kind", extension(lambda i: informed(i, NetworkExtension={"NEProviderClasses": {"com.apple.networkextension.dns-proxy": "X"}}))),
    ("mach-service-stable", extension(service("S8XHQB96PW.x"))),
    ("groups-changed", extension(group("S8XHQB96PW.x"))),
    ("entitlements-changed", app(lambda item: entitled(item, **{"com.apple.security.cs.allow-jit": True}))),
    ("entitlements-changed", app(lambda item: entitled(item, **{NETWORK: None}))),
    ("slices-kept", app(lambda item: replaced(slices=item.slices[1:])(item))),
    ("minimum-os-raised", extension(lambda item: sliced(item, lambda _: {"min_os": "13.0"}))),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "alter"), UPGRADES, ids=lambda value: value if isinstance(value, str) else "")
def test_an_upgrade_gone_wrong_is_heard(real: Inspection, rule: str, alter: Seen) -> None:
    found = findings(alter(real), old=real)
    assert rule in heard(found)
    assert {f.severity for f in found if f.rule.id == rule} == {load_rules()[rule].severity}


def test_a_good_upgrade_is_silent(real: Inspection) -> None:
    found = [finding for finding in findings(RELEASED(real), old=real) if finding.rule.about == "upgrade"]
    assert found == []


def test_the_same_release_again_is_silent(real: Inspection) -> None:
    assert [finding for finding in findings(real, old=real) if finding.rule.about == "upgrade"] == []


def test_a_real_upgrade(real: Inspection, older: Inspection) -> None:
    """0.11.4 → 0.11.5: 1.0 → 2.0, every build new; CFBundleVersion was left at 1."""
    found = [finding for finding in findings(real, old=older) if finding.rule.about == "upgrade"]
    assert [(f.rule.id, f.severity) for f in found] == [("both-versions-raised", "warning")] * 2


# ----------------------------------------------------------------------------------------------------------- the catalog


def test_every_rule_is_heard_somewhere() -> None:
    elsewhere = {"entry-point", "permissions"}
    assert {rule for rule, _ in [*ALTERED, *UPGRADES]} | elsewhere == set(load_rules())


def test_every_rule_has_one_judge() -> None:
    assert judged() == set(load_rules())


def test_every_problem_of_an_inspection_is_some_rules(real: Inspection) -> None:
    unheard = [code for code in PROBLEMS if not heard(findings(problem(code)(real))) - {"mach-service-name"}]
    assert unheard == []


def test_profile_dates_are_judged_by_the_day_given(real: Inspection) -> None:
    expires = real.app.profile.expires if real.app.profile else None
    assert expires is not None
    late = (expires + timedelta(days=1)).timestamp()
    assert "profile-current" in heard(findings(real, today=late))
    assert "profile-ends-soon" in heard(findings(real, today=(expires - timedelta(days=2)).timestamp()))


def test_many_findings_of_one_rule_are_cut_short(real: Inspection) -> None:
    many = in_tree(*(f"Contents/Resources/a:{number}" for number in range(80)))(real)
    told = [finding for finding in findings(many) if finding.rule.id == "path-characters"]
    assert len(told) == 26
    assert told[-1].what == "and 55 more"


def test_umask_of_this_process_is_no_finding(copy: Path) -> None:
    assert (copy / "Contents/MacOS/Mitmproxy Redirector").stat().st_mode & 0o111
    assert "permissions" not in on_disk(copy)
