"""Sealed resources: added, missing, altered; rules and weights as codesign writes them; hostile seals."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.bundles.facts import ResourceCheck
from harness.bundles.inspection import inspect_app
from harness.bundles.resources import Place, SealError, check_resources
from harness.bundles.tree import lead, walk

RULES = {
    "^.*": True,
    r"^(.*/)?\.DS_Store$": {"omit": True, "weight": 2000.0},
    r"^Info\.plist$": {"omit": True, "weight": 20.0},
    r"^PkgInfo$": {"omit": True, "weight": 20.0},
    r"^Resources/.*\.lproj/": {"optional": True, "weight": 1000.0},
    "^(Frameworks|MacOS|PlugIns)/": {"nested": True, "weight": 10.0},
}


def _sealed(data: str) -> dict[str, bytes]:
    return {"hash2": hashlib.sha256(data.encode()).digest()}


def _check(
    root: Path, files2: dict[str, Any], rules: dict[str, Any] | None = None, **hashes: set[str]
) -> ResourceCheck:
    tree = walk(root, lambda *_: None)
    codes = {name.replace("__", "/").replace("_", "."): frozenset(value) for name, value in hashes.items()}
    seal = {"files2": files2, "rules2": RULES if rules is None else rules}
    return check_resources(tree, Place("", "MacOS/main"), seal, codes.get)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    for name in (
        "Info.plist",
        "PkgInfo",
        "Resources/a",
        "Resources/.DS_Store",
        "MacOS/main",
        "_CodeSignature/CodeResources",
    ):
        path = tmp_path / "bundle" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path / "bundle"


def test_what_is_sealed_and_what_need_not_be(bundle: Path) -> None:
    good = {"Resources/a": _sealed("Resources/a")}
    assert _check(bundle, good) == ResourceCheck(1)
    assert _check(bundle, {}).added == ("Resources/a",)
    assert _check(bundle, {"Resources/a": _sealed("other")}).altered == ("Resources/a",)
    assert _check(bundle, {**good, "Resources/b": _sealed("b")}).missing == ("Resources/b",)
    assert _check(bundle, {**good, "Resources/b": {**_sealed("b"), "optional": True}}).ok
    assert _check(bundle, good, {}).ok, "a file that no rule speaks of need not be sealed"
    old = {"hash": hashlib.sha1(b"Resources/a").digest()}
    assert _check(bundle, {"Resources/a": old}).ok
    assert _check(bundle, {"Resources/a": old["hash"]}).ok
    assert _check(bundle, {"Resources/a": {}}).altered == ("Resources/a",)


def test_the_first_version_of_seals(bundle: Path) -> None:
    tree = walk(bundle, lambda *_: None)
    seal = {"files": {"Resources/a": hashlib.sha1(b"Resources/a").digest()}, "rules": {"^Resources/": True}}
    assert not check_resources(tree, Place("", "MacOS/main"), seal, lambda _: None).altered
    with pytest.raises(SealError, match="lists no files"):
        check_resources(tree, Place("", ""), {"rules": {}}, lambda _: None)


def test_links_and_code_within(bundle: Path) -> None:
    (bundle / "Resources/link").symlink_to("a")
    (bundle / "Frameworks/F.framework/Versions/A").mkdir(parents=True)
    (bundle / "Frameworks/F.framework/Versions/A/F").write_text("code")
    files = {
        "Resources/a": _sealed("Resources/a"),
        "Resources/link": {"symlink": "a"},
        "Frameworks/F.framework": {"cdhash": bytes(20), "requirement": "anchor apple"},
    }
    code = {"Frameworks__F_framework": {"00" * 20}}
    assert _check(bundle, files, **code).ok
    assert _check(bundle, files, Frameworks__F_framework={"11" * 20}).altered == ("Frameworks/F.framework",)
    assert _check(bundle, files).altered == ("Frameworks/F.framework",)
    without = {name: value for name, value in files.items() if name != "Frameworks/F.framework"}
    assert _check(bundle, without, **code).added == ("Frameworks/F.framework",)
    assert _check(bundle, {**files, "Resources/link": {"symlink": "b"}}, **code).altered == ("Resources/link",)
    assert _check(bundle, {**files, "Resources/a": {"symlink": "b"}}, **code).altered == ("Resources/a",)
    # A link in the place of a file never stands for it, whatever is at its end.
    (bundle / "Resources/a").rename(bundle / "Resources/b")
    (bundle / "Resources/a").symlink_to("b")
    assert _check(bundle, files, **code).altered == ("Resources/a",)


def test_accents_in_either_form(bundle: Path) -> None:
    (bundle / "Resources/e\u0301").write_text("x")
    assert _check(bundle, {"Resources/a": _sealed("Resources/a"), "Resources/\u00e9": _sealed("x")}).ok


@pytest.mark.parametrize(
    "rule",
    ["^(a+)+$", "(.*a){20}", "a?" * 200 + "b", ".*.*.*.*x", "(?:a|b)", "(", "a" * 1000, "[z-a]", "x{1,99999999999}"],
)
def test_rules_that_run_away_are_refused(bundle: Path, rule: str) -> None:
    with pytest.raises(SealError):
        _check(bundle, {}, {rule: True})


@settings(max_examples=100, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.binary(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
        max_leaves=12,
    )
)
def test_no_seal_is_a_crash(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    tree = walk(tmp_path_factory.getbasetemp() / "nothing-much", lambda *_: None) if _made(tmp_path_factory) else None
    assert tree is not None
    for seal in (
        {"files2": value, "rules2": value},
        {"files": value},
        {"files2": {"a": value}, "rules2": {"^.*": value}},
    ):
        try:
            check_resources(tree, Place("", ""), seal, lambda _: None)
        except SealError:
            continue


def _made(factory: pytest.TempPathFactory) -> bool:
    folder = factory.getbasetemp() / "nothing-much"
    folder.mkdir(exist_ok=True)
    (folder / "a").write_text("a")
    return True


def test_where_links_lead() -> None:
    assert lead("a/b", "../c") == "a/c"
    assert lead("a", "../..") is None
    assert lead("a", "/etc/passwd") is None
    assert lead("", "./x//y") == "x/y"


def test_links_out_of_the_app_and_special_files_are_told(tmp_path: Path, app_0115: Path) -> None:
    copy = tmp_path / app_0115.name
    shutil.copytree(app_0115, copy, symlinks=True)
    (copy / "Contents/Resources/out").symlink_to("../../../../../etc/passwd")
    (copy / "Contents/Resources/loop").symlink_to("loop")
    (copy / "Contents/Resources/fine").symlink_to("../Info.plist")
    os.mkfifo(copy / "Contents/Resources/pipe")
    problems = {(problem.code, problem.where) for problem in inspect_app(copy).problems}
    added = {("resource-added", f"Contents/Resources/{name}") for name in ("out", "loop", "fine", "pipe")}
    assert problems == added | {
        ("link-outside", "Contents/Resources/out"),
        ("link-outside", "Contents/Resources/loop"),
        ("tree-special", "Contents/Resources/pipe"),
    }
