"""The builds in a case file: what was installed, the copy that macOS runs, and the slice that crashed are joined by their UUIDs."""

import json
from pathlib import Path

import pytest

from harness.triage import triage

INSTALLED = "4B208B43-31A6-36C3-984F-D466737B7E01"
OLD = "11111111-2222-3333-4444-555555555555"


def case_file(folder: Path, staged: dict[str, list[str]], crashed: str = "") -> Path:
    (folder / "evidence" / "01-failure").mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps({"collections": []}))
    (folder / "staged-copy.json").write_text(
        json.dumps({"installed": {"arm64": [INSTALLED, "aa" * 20]}, "staged": staged, "problems": []})
    )
    if crashed:
        head = {"app_name": "org.weir.filter", "slice_uuid": crashed.lower(), "bug_type": "309", "name": "weird"}
        body = {
            "pid": 400,
            "procName": "weird",
            "procPath": "/private/var/weird",
            "captureTime": "2026-03-01 10:00:00.0000 +0000",
            "exception": {"type": "EXC_BREAKPOINT", "signal": "SIGTRAP"},
        }
        report = folder / "evidence" / "01-failure" / "weird-2026-03-01-100000.ips"
        report.write_text(json.dumps(head) + "\n" + json.dumps(body))
    return folder


def test_other_code_with_the_same_build_uuid_is_named(tmp_path: Path) -> None:
    found = triage([case_file(tmp_path, {"arm64": [INSTALLED.lower(), "bb" * 20]})])
    assert [cause.code for cause in found.causes] == ["build-uuid-unchanged"]
    sign = found.causes[0].signs[0]
    assert sign.file.endswith("staged-copy.json")
    assert INSTALLED in sign.text
    assert "bb" * 20 in sign.text


@pytest.mark.parametrize(
    "staged",
    [
        {"arm64": [INSTALLED, "aa" * 20]},  # the very copy
        {"arm64": [OLD, "bb" * 20]},  # another build: its UUID says so
        {"arm64": [INSTALLED, ""]},  # nothing known of its code
        {"": ["", "bb" * 20]},  # from the database: cdhashes alone
        {"arm64": "nonsense"},
    ],
)
def test_nothing_is_said_where_builds_differ_or_are_the_same(tmp_path: Path, staged: dict[str, list[str]]) -> None:
    assert triage([case_file(tmp_path, staged)]).causes == []


@pytest.mark.parametrize(
    ("uuid", "says"), [(INSTALLED, "what was installed"), (OLD, "the copy that macOS runs, not of what was installed")]
)
def test_a_crash_is_the_extensions_by_its_build(tmp_path: Path, uuid: str, says: str) -> None:
    """Whatever the process is called, and wherever its path points."""
    found = triage([case_file(tmp_path, {"arm64": [OLD, "bb" * 20]}, crashed=uuid)])
    assert found.causes[0].code == "extension-crash"
    assert any(uuid in sign.text and says in sign.text for sign in found.causes[0].signs)


def test_a_crash_of_another_build_is_not(tmp_path: Path) -> None:
    found = triage([case_file(tmp_path, {}, crashed="99999999-2222-3333-4444-555555555555")])
    assert found.causes == []
