"""Known truths about published releases: what the preflight and its matrix must say of them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.bundles.preflight import Release, load_rules
from harness.bundles.preflight.matrix import Row, as_markdown, as_text, row
from harness.bundles.preflight.pages import pages
from harness.bundles.preflight.sources import inspected
from harness.bundles.releases import fetch_source
from harness.config import load_settings
from harness.errors import EnvironmentFailure

ROOT = Path(__file__).resolve().parents[2]
PAIRS = [("0.3.4", "0.3.6"), ("0.4.0", "0.4.1"), ("0.9.3", "0.10.0"), ("0.11.4", "0.11.5"), ("0.3.0", "0.3.6")]
ALL = {"x86_64": "new", "arm64": "new"}
NONE = {"x86_64": "same", "arm64": "same"}


@pytest.fixture(scope="module")
def release() -> Callable[[str], Release]:
    cache = load_settings(environ={}).cache_dir

    def fetch(version: str) -> Release:
        try:
            bundle = fetch_source(f"pypi:mitmproxy_macos=={version}", cache, app_name="Mitmproxy Redirector")
        except EnvironmentFailure as error:
            pytest.skip(f"the release cannot be fetched: {error}")
        return Release(version, inspected(bundle.path), bundle.path)

    return fetch


@pytest.fixture(scope="module")
def rows(release: Callable[[str], Release]) -> dict[tuple[str, str], Row]:
    return {(old, new): row(release(old), release(new)) for old, new in PAIRS}


def rules(one: Row, severity: str) -> set[str]:
    return {f.rule.id for f in one.report.findings if f.severity == severity and f.rule.about == "upgrade"}


def test_every_build_new_and_the_version_raised(rows: dict[tuple[str, str], Row]) -> None:
    one = rows["0.11.4", "0.11.5"]
    assert (one.old_version, one.new_version, one.version) == ("1.0 (1)", "2.0 (1)", "short only")
    assert (one.builds, one.app_builds, one.code, one.app_code) == (ALL, ALL, True, True)
    assert all(one.same.values())
    assert (rules(one, "error"), rules(one, "warning")) == (set(), {"both-versions-raised"})


def test_a_new_build_under_the_old_version(rows: dict[tuple[str, str], Row]) -> None:
    one = rows["0.3.4", "0.3.6"]
    assert (one.old_version, one.new_version, one.version) == ("1.0 (1)", "1.0 (1)", "same")
    assert one.builds == one.app_builds == ALL
    assert rules(one, "error") == {"version-raised"}
    assert one.same["minimum_os"] is False


def test_nothing_new_at_all(rows: dict[tuple[str, str], Row]) -> None:
    one = rows["0.9.3", "0.10.0"]
    assert one.builds == one.app_builds == NONE
    assert one.code is False
    assert rules(one, "error") == set()


def test_one_slice_new_the_other_old(rows: dict[tuple[str, str], Row]) -> None:
    one = rows["0.4.0", "0.4.1"]
    assert one.builds == one.app_builds == {"arm64": "new", "x86_64": "same"}
    assert rules(one, "error") == {"version-raised"}
    assert "slices-rebuilt-together" in rules(one, "warning")


def test_another_kind_of_extension(rows: dict[tuple[str, str], Row]) -> None:
    one = rows["0.3.0", "0.3.6"]
    assert {"same-kind", "groups-changed", "mach-service-stable"} <= rules(one, "warning")
    assert (one.same["groups"], one.same["mach_service"], one.same["team"]) == (False, False, True)


def test_each_of_them_alone_has_no_errors(rows: dict[tuple[str, str], Row]) -> None:
    for one in rows.values():
        assert [f for f in one.report.errors if f.rule.about == "release"] == []


def test_a_group_that_the_profile_does_not_list(release: Callable[[str], Release]) -> None:
    from harness.bundles.preflight import judge

    found = [f for f in judge(release("0.3.0")).findings if f.rule.id == "app-group-in-profile"]
    assert found
    assert all("S8XHQB96PW.org.mitmproxy.macos-redirector" in finding.what for finding in found)


def test_the_page_says_the_same(rows: dict[tuple[str, str], Row]) -> None:
    text = (ROOT / "docs" / "releases-mitmproxy.md").read_text(encoding="utf-8")
    made = [line for line in text.splitlines() if re.match(r"\| \d", line)]
    assert len(made) == 42
    assert len({line.split(" | ")[1] for line in made} | {made[0].split("| ")[1]}) == 43
    for pair in (("0.4.0", "0.4.1"), ("0.9.3", "0.10.0"), ("0.11.4", "0.11.5")):
        assert as_markdown([rows[pair]]).splitlines()[-1] in made


def test_the_table_in_a_terminal(rows: dict[tuple[str, str], Row]) -> None:
    text = as_text(list(rows.values()))
    assert max(len(line) for line in text.splitlines()) <= 100
    assert "arm64 new" in text


def test_every_rule_has_its_page() -> None:
    folder = ROOT / "docs" / "rules"
    here = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.md")}
    assert here == dict(pages()), "run .venv/bin/python scripts/rules_pages.py --write"
    assert set(here) == {f"{rule}.md" for rule in load_rules()} | {"README.md"}


def test_every_cause_that_a_rule_names_exists() -> None:
    known = set(
        re.findall(r"^### (\S+)$", (ROOT / "docs" / "causes.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    )
    assert known
    assert {cause for rule in load_rules().values() for cause in rule.causes} <= known
