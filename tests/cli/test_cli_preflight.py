"""`sysext preflight`: exit codes, sources, formats, rules switched off, the matrix."""

from __future__ import annotations

import hashlib
import json
import os
import plistlib
import shutil
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from sarif_pydantic.sarif import Sarif

from harness.bundles.preflight import load_rules
from harness.bundles.preflight.sarif import uri_of
from harness.bundles.releases import fetch_release
from harness.cli import main
from harness.config import AppFile, load_app, load_settings
from harness.errors import SysextError

ROOT = Path(__file__).resolve().parents[2]
APP_FILE = ROOT / "scenarios" / "apps" / "mitmproxy.toml"
Sysext = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def product() -> AppFile:
    return load_app(APP_FILE)


@pytest.fixture(scope="module")
def apps(product: AppFile) -> dict[str, Path]:
    """The real releases, unpacked, by version."""
    cache = load_settings(environ={}).cache_dir
    try:
        return {
            release.version: fetch_release(release, product, cache).path
            for release in (product.release("0.11.4"), product.release("0.11.5"))
        }
    except SysextError as error:
        pytest.skip(f"the releases cannot be fetched: {error}")


@pytest.fixture(scope="module")
def broken(apps: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The newest release, its Info.plist edited after signing and a control character in a file's name."""
    copy = Path(shutil.copytree(apps["0.11.5"], tmp_path_factory.mktemp("broken") / "Broken.app", symlinks=True))
    path = copy / "Contents/Info.plist"
    path.write_bytes(plistlib.dumps({**plistlib.loads(path.read_bytes()), "CFBundleVersion": "7"}))
    (copy / "Contents/Resources/evil\x1b[31m name").write_text("x")
    return copy


@pytest.fixture
def sysext(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Sysext:
    """Run the command in this process: (exit code, what it printed, what it complained of)."""
    for name in list(os.environ):
        if name.startswith("SYSEXT_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["sysext", "preflight", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, out, err

    return run


def test_a_release_that_is_fine(sysext: Sysext, apps: dict[str, Path]) -> None:
    code, out, err = sysext(apps["0.11.5"], "--macos", "13", "--macos", "15,26")
    assert (code, err) == (0, "")
    assert "Mitmproxy Redirector.app 2.0 (1)" in out
    assert "1 note" in out
    assert "\x1b" not in out


def test_a_release_that_is_not(sysext: Sysext, broken: Path) -> None:
    code, out, _ = sysext(broken)
    assert code == 1
    for word in (
        "error signature-intact",
        "error resources-intact",
        "Why:",
        "Leads to: code-signature-invalid",
        "Fix:",
    ):
        assert word in out
    assert "\x1b" not in out
    assert "evil\\x1b[31m name" in out.replace("\n      ", "")


@pytest.mark.parametrize("which", ["release", "upgrade", "matrix"])
def test_text_fits_100_columns(sysext: Sysext, apps: dict[str, Path], broken: Path, which: str) -> None:
    arguments = {
        "release": [broken],
        "upgrade": [apps["0.11.5"], "--previous", apps["0.11.4"], "-v"],
        "matrix": ["--matrix", apps["0.11.4"], apps["0.11.5"], broken],
    }[which]
    _, out, _ = sysext(*arguments)
    assert out
    assert max(len(line) for line in out.splitlines()) <= 100


def test_colours_are_for_terminals(broken: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from click.testing import CliRunner

    from harness.cli.preflight import preflight

    assert "\x1b[31" in CliRunner().invoke(preflight, [str(broken)], color=True).output
    assert "\x1b" not in CliRunner().invoke(preflight, [str(broken)]).output


def test_an_upgrade(sysext: Sysext, apps: dict[str, Path]) -> None:
    code, out, _ = sysext(apps["0.11.5"], "--previous", apps["0.11.4"], "--format", "json")
    (report,) = json.loads(out)
    assert code == 0
    assert (report["version"], report["previous_version"], report["ok"]) == ("2.0 (1)", "1.0 (1)", True)
    assert {finding["rule"] for finding in report["findings"]} == {"both-versions-raised", "mach-service-name"}
    code, out, _ = sysext(apps["0.11.4"], "--previous", apps["0.11.5"], "--format", "json")
    assert (code, "downgrade" in out) == (0, True)


def test_releases_of_an_app_file(sysext: Sysext, apps: dict[str, Path]) -> None:
    code, out, _ = sysext("--app-file", APP_FILE, "--release", "0.11.5", "--previous", "0.11.4", "--format", "json")
    (report,) = json.loads(out)
    assert code == 0
    assert (report["name"], report["previous"], report["origin"]) == ("0.11.5", "0.11.4", str(APP_FILE))


def test_every_way_to_name_a_release(sysext: Sysext, apps: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "several"
    shutil.copytree(apps["0.11.4"], folder / "old" / apps["0.11.4"].name, symlinks=True)
    with tarfile.open(folder / "new.tar", "w") as tar:
        tar.add(apps["0.11.5"], apps["0.11.5"].name)
    for argument, names in (
        (folder, {"Mitmproxy Redirector.app", "new.tar"}),
        (folder / "*.tar", {"new.tar"}),
        (folder / "new.tar", {"new.tar"}),
    ):
        code, out, err = sysext(argument, "--format", "json")
        assert (code, err) == (0, "")
        assert {report["name"] for report in json.loads(out)} == names


def test_a_release_by_its_requirement(sysext: Sysext, apps: dict[str, Path]) -> None:
    code, out, err = sysext("pypi:mitmproxy_macos==0.11.5", "--format", "json")
    if code == 2 and "network" in err:
        pytest.skip(f"the package index cannot be reached: {err}")
    assert (code, json.loads(out)[0]["name"]) == (0, "pypi:mitmproxy_macos==0.11.5")


def test_odd_permissions_and_flags_of_an_archive(sysext: Sysext, apps: dict[str, Path], tmp_path: Path) -> None:
    """Unpacked they would be gone: the archive's own entries are told."""
    archive = tmp_path / "odd.tar"

    def alter(member: tarfile.TarInfo) -> tarfile.TarInfo:
        if member.name.endswith("Contents/Info.plist") and "SystemExtensions" not in member.name:
            member.pax_headers = {"SCHILY.fflags": "uchg,nodump"}
        if member.name.endswith("Assets.car"):
            member.mode = 0o666
        return member

    with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as tar:
        tar.add(apps["0.11.5"], f"inside/{apps['0.11.5'].name}", filter=alter)
    _, out, _ = sysext(archive, "--format", "json")
    told = {f["where"]: f["what"] for f in json.loads(out)[0]["findings"] if f["rule"] == "permissions"}
    assert set(told) == {"Contents/Info.plist", "Contents/Resources/Assets.car"}
    assert "uchg" in told["Contents/Info.plist"]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("nothing.app",), "nothing there"),
        ((), "no app"),
        (("--release", "1"), "app file"),
        (("--app-file", "none.toml"), "none.toml"),
        (("--app-file", APP_FILE, "--release", "9"), "0.11.5"),
        ((APP_FILE,), "mitmproxy.toml"),
        (("https://example.org/a.zip",), "sha256"),
        (("x.app", "--macos", "10"), "known: "),
        (("--matrix",), "--app-file"),
        (("*.dmg",), "none"),
    ],
)
def test_what_cannot_be_used(sysext: Sysext, arguments: tuple[object, ...], word: str) -> None:
    code, out, err = sysext(*arguments)
    assert (code, out) == (2, "")
    assert word.replace("no app", "an app to judge") in err


def test_one_unreadable_of_two(sysext: Sysext, apps: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "torn.zip").write_bytes(b"PK\x03\x04" + b"\0" * 40)
    code, out, err = sysext(apps["0.11.5"], tmp_path / "torn.zip")
    assert (code, out) == (2, "")
    assert "torn.zip" in err


def test_rules_are_switched_off_with_a_reason(sysext: Sysext, broken: Path, tmp_path: Path) -> None:
    settings = tmp_path / "sysext.toml"
    settings.write_text(
        '[preflight.off]\nsignature-intact = "altered on purpose"\nresources-intact = "so is this"\n'
        'path-characters = "and this"\nboth-versions-raised = "x"\n'
    )
    code, out, _ = sysext(broken)
    assert code == 0
    assert "switched off: signature-intact (altered on purpose)" in out
    (report,) = json.loads(sysext(broken, "--format", "json")[1])
    assert {item["reason"] for item in report["switched_off"]} == {"altered on purpose", "so is this", "and this"}
    settings.write_text('[preflight.off]\nsignature-intakt = "x"\n')
    code, _, err = sysext(broken)
    assert code == 2
    assert "did you mean 'signature-intact'?" in err
    settings.write_text('[preflight.off]\nsignature-intact = " "\n')
    code, _, err = sysext(broken)
    assert code == 2
    assert "reason" in err


def test_github_annotations(sysext: Sysext, broken: Path) -> None:
    code, out, _ = sysext(broken, "--format", "github")
    lines = out.splitlines()
    assert code == 1
    assert any(line.startswith("::error file=") and "title=signature-intact" in line for line in lines)
    assert all(line.startswith(("::error ", "::warning ", "::notice ")) for line in lines)
    assert "\x1b" not in out


def test_output_to_a_file(sysext: Sysext, apps: dict[str, Path], tmp_path: Path) -> None:
    code, out, _ = sysext(apps["0.11.5"], "--format", "sarif", "--output", tmp_path / "found.sarif")
    assert (code, out) == (0, "Mitmproxy Redirector.app: 1 note\n")
    assert json.loads((tmp_path / "found.sarif").read_text())["version"] == "2.1.0"
    code, _, err = sysext(apps["0.11.5"], "--output", tmp_path / "no" / "where")
    assert code == 2
    assert "to be written" in err


# ------------------------------------------------------------------------------------------------------------------ SARIF


def _unknown(value: Any, place: str = "") -> Iterator[str]:
    """Properties that the models do not know: they keep what they do not know aside."""
    for name in getattr(value, "model_extra", None) or {}:
        if not place.endswith("properties"):
            yield f"{place}.{name}"
    for name in type(value).model_fields if hasattr(type(value), "model_fields") else ():
        inner = getattr(value, name)
        for number, item in enumerate(inner if isinstance(inner, list) else [inner]):
            yield from _unknown(item, f"{place}.{name}[{number}]" if isinstance(inner, list) else f"{place}.{name}")


# The parts of the standard (SARIF 2.1.0, sections 3.13–3.52) that are used here, in words of our own.
_MESSAGE = {"type": "object", "required": ["text"], "properties": {"text": {"type": "string", "minLength": 1}}}
_LEVEL = {"enum": ["none", "note", "warning", "error"]}
_RESULT = {
    "type": "object",
    "required": ["message", "ruleId", "locations"],
    "properties": {
        "message": _MESSAGE,
        "level": _LEVEL,
        "ruleIndex": {"type": "integer", "minimum": -1},
        "partialFingerprints": {"type": "object", "additionalProperties": {"type": "string"}},
        "suppressions": {
            "type": "array",
            "items": {
                "required": ["kind"],
                "properties": {
                    "kind": {"enum": ["inSource", "external"]},
                    "status": {"enum": ["accepted", "underReview", "rejected"]},
                },
            },
        },
        "locations": {
            "type": "array",
            "minItems": 1,
            "items": {
                "required": ["physicalLocation"],
                "properties": {
                    "physicalLocation": {
                        "required": ["artifactLocation"],
                        "properties": {
                            "artifactLocation": {"properties": {"uri": {"type": "string", "format": "uri-reference"}}}
                        },
                    }
                },
            },
        },
    },
}
_DOCUMENT = {
    "type": "object",
    "required": ["version", "runs"],
    "properties": {
        "version": {"const": "2.1.0"},
        "$schema": {"type": "string", "format": "uri"},
        "runs": {
            "type": "array",
            "items": {
                "required": ["tool", "results"],
                "properties": {
                    "tool": {"required": ["driver"]},
                    "columnKind": {"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
                    "results": {"type": "array", "items": _RESULT},
                },
            },
        },
    },
}


def test_sarif_is_what_the_standard_says(sysext: Sysext, broken: Path, apps: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "sysext.toml").write_text('[preflight.off]\nresources-intact = "on purpose"\n')
    code, out, _ = sysext(broken, "--previous", apps["0.11.4"], "--format", "sarif")
    assert code == 1
    document = json.loads(out)
    parsed = Sarif.model_validate(document)  # another program's model of the standard: types, names, choices
    # Both are in the standard (3.14.17, 3.27.23); that model leaves them out.
    assert {name.rpartition(".")[2] for name in _unknown(parsed)} == {"columnKind", "suppressions"}
    jsonschema.validate(document, _DOCUMENT, format_checker=jsonschema.FormatChecker())
    (run,) = document["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == list(load_rules())
    assert all(rules[result["ruleIndex"]]["id"] == result["ruleId"] for result in run["results"])
    suppressed = {result["ruleId"] for result in run["results"] if result.get("suppressions")}
    assert suppressed == {"resources-intact"}
    prints = [result["partialFingerprints"]["finding/v1"] for result in run["results"]]
    assert all(len(value) == 32 for value in prints)
    assert "\x1b" not in out


def test_places_in_sarif_are_uris() -> None:
    assert uri_of("dist/My App.app") == "dist/My%20App.app"
    assert uri_of("/tmp/a#b.app") == "file:///tmp/a%23b.app"
    assert uri_of("pypi:x==1") == "pypi:x==1"
    assert uri_of("https://example.org/a b.zip#sha256=ab") == "https://example.org/a%20b.zip#sha256=ab"


# ----------------------------------------------------------------------------------------------------------------- matrix


def test_the_matrix(sysext: Sysext) -> None:
    code, out, _ = sysext("--matrix", "--app-file", APP_FILE)
    assert code == 1  # 0.11.4 calls itself what 0.11.1 called itself
    head, rebuilt, _, row = out.splitlines()[:4]
    assert head.split() == [
        *("from", "to", "version", "build", "app", "code", "tm", "id", "en", "gr", "ms", "os", "E", "W")
    ]
    assert row.split() == ["0.11.4", "0.11.5", "short", "only", *["new"] * 3, *["="] * 6, "-", "2"]
    assert rebuilt.split() == ["0.11.1", "0.11.4", "same", "new", "same", "new", *["="] * 6, "1", "1"]


def test_the_matrix_has_every_pair(sysext: Sysext, apps: dict[str, Path], broken: Path) -> None:
    code, out, _ = sysext("--matrix", apps["0.11.4"], apps["0.11.5"], broken, "--format", "json")
    rows = json.loads(out)
    assert code == 1
    assert len(rows) == 3
    assert rows[0]["build_uuids"] == {"arm64": "new", "x86_64": "new"}
    assert rows[2]["build_uuids"] == {"arm64": "same", "x86_64": "same"}
    assert rows[0]["same_team"] is True
    assert len(json.loads(sysext("--matrix", *apps.values(), broken, "--adjacent", "--format", "json")[1])) == 2


def test_the_list_of_rules(sysext: Sysext) -> None:
    code, out, _ = sysext("--list-rules")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == list(load_rules())


def test_hash_of_the_source_is_checked(sysext: Sysext) -> None:
    code, _, err = sysext(f"https://127.0.0.1:9/a.zip#sha256={hashlib.sha256(b'').hexdigest()}")
    assert code in (1, 2)
    assert "127.0.0.1:9" in err
