"""The pages: tables made from the program are up to date, links lead somewhere, contracts are whole."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from harness import config
from scripts import docs_tables

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("vm_images/*.md")])


@pytest.mark.parametrize(
    ("page", "table"),
    [("docs/settings.md", "settings"), ("docs/settings.md", "app-file"), ("docs/faults.md", "faults")],
)
def test_tables_are_up_to_date(page: str, table: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    made = docs_tables.page_with(text, table, docs_tables.MADE[(page, table)]())
    assert made == text, "run .venv/bin/python scripts/docs_tables.py --write"


@pytest.mark.parametrize("name", ["settings", "app-file"])
def test_every_setting_is_explained(name: str) -> None:
    assert [row.name for row in docs_tables.rows(docs_tables.TABLES[name]) if not row.meaning] == []


def test_meanings_are_of_settings_that_exist() -> None:
    known = {row.name for name in docs_tables.TABLES for row in docs_tables.rows(docs_tables.TABLES[name])}
    assert set(docs_tables.MEANINGS) - known == set()


def test_defaults_on_the_page_are_those_of_the_program() -> None:
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    fresh = config.load_settings(environ={}, overrides={})
    for key, value in (
        ("timeouts.prompt", fresh.timeouts.prompt),
        ("tart.slots", fresh.tart.slots),
        ("simulated.boot_seconds", fresh.simulated.boot_seconds),
    ):
        row = re.search(rf"^\| `{re.escape(key)}` \|[^|]*\| `([^`]*)`", page, flags=re.MULTILINE)
        assert row is not None, key
        assert float(row.group(1)) == value


def test_a_page_without_a_place_for_its_table_is_an_error() -> None:
    with pytest.raises(ValueError, match="no place for the table settings"):
        docs_tables.page_with("nothing here", "settings", "|")


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not target.startswith(("http", "#", "mailto:")):
            assert (page.parent / target.partition("#")[0]).exists(), target


# The contracts name paths of other projects too; those of ours in them have a test of their own.
OWN_PATHS = [page for page in PAGES if page.name != "contracts.md"]


@pytest.mark.parametrize("page", OWN_PATHS, ids=lambda path: str(path.relative_to(ROOT)))
def test_paths_in_pages_exist(page: Path) -> None:
    made_later = ("artifacts/", "build/", ".venv/")
    for target in re.findall(
        r"`((?:harness|docs|scripts|scenarios|tests|vm_images|benchmarks)/[\w./-]*)`", page.read_text(encoding="utf-8")
    ):
        if not target.startswith(made_later):
            assert (ROOT / target).exists() or (page.parent / target).exists(), target


def test_the_index_names_every_page() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"\]\(([\w-]+\.md)\)", index))
    assert named == {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"}


def test_contributing_is_at_most_two_pages() -> None:
    assert len((ROOT / "CONTRIBUTING.md").read_text().split()) <= 1000


def test_the_changelog_has_a_place_for_what_comes() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    assert "## [Unreleased]" in text
    assert re.search(r"^### (Added|Changed|Fixed)", text, flags=re.MULTILINE)


def contract_rows() -> list[list[str]]:
    rows = []
    for line in (ROOT / "docs" / "contracts.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("|") and not set(line) <= set("|- :"):
            rows.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
    return [row for row in rows if row[0] != "id"]


def test_contracts_are_whole() -> None:
    rows = contract_rows()
    assert len(rows) >= 40
    for row in rows:
        assert len(row) == 6, row
        assert all(row), row


def test_contracts_cover_what_the_harness_leans_on() -> None:
    surfaces = " ".join(row[1] for row in contract_rows())
    for what in (
        "tart clone", "tart run", "tart ip", "tart list", "tart stop", "RFB", "sshd", "SFTP", "sudo", "log stream",
        "sysdiagnose", "systemextensionsctl", "db.plist", "launchctl print", "scutil", "kern.bootsessionuuid", "hdiutil",
        "ditto", "prompt", "Settings", "wheel", "Allure", "GitHub", "csrutil",
    ):  # fmt: skip
        assert what in surfaces, what


def test_ids_are_distinct_and_doctor_knows_them() -> None:
    from harness.session.contracts import CHECKS  # heavy: the whole harness is behind it

    rows = contract_rows()
    ids = [row[0] for row in rows]
    assert len(set(ids)) == len(ids)
    named = {
        check
        for row in rows
        for part in re.findall(r"doctor ((?:`[\w-]+`(?:, )?)+)", row[5])
        for check in re.findall(r"`([\w-]+)`", part)
    }
    assert named == set(CHECKS)
    assert set(CHECKS) <= set(ids)


def test_what_a_contract_says_checks_it_is_there() -> None:
    for row in contract_rows():
        for target in re.findall(r"`(tests/[\w./-]+)`", row[4]):
            assert (ROOT / target).exists(), target


def test_options_and_verbs_that_pages_name_exist() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    helped = [sys.executable, "-m", "pytest", "--help"]
    known = set(
        re.findall(
            r"--sysext-[a-z-]+", subprocess.run(helped, capture_output=True, text=True, cwd=ROOT, check=True).stdout
        )
    )
    named = set(re.findall(r"--sysext-[a-z-]*[a-z]", text))
    assert {"--sysext-fault", "--sysext-provider"} <= named
    assert named - known == set()
    verbs = set(re.findall(r"`(?:\.venv/bin/)?sysext ([a-z]+)", text))
    code = "import sys; from harness.cli import main; sys.argv[0] = 'sysext'; main()"
    shown = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=True).stdout
    assert {"doctor", "gc"} <= verbs
    assert verbs - set(re.findall(r"^  ([a-z]+) ", shown, flags=re.MULTILINE)) == set()


def test_make_targets_that_pages_name_exist() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = set(re.findall(r"(?:`|^)make ([a-z-]+)", text, flags=re.MULTILINE))
    assert {"setup", "scenarios"} <= named
    assert named - targets == set()
