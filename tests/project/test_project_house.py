"""House rules that a machine can check."""

from __future__ import annotations

import ast
import importlib.metadata
import re
from collections import Counter
from pathlib import Path

import pytest
from packaging.requirements import Requirement

# Put together from pieces, so that this file does not contain what it looks for.
REGISTRIES = [
    "py" + r"pi\.org",
    "python" + r"hosted\.org",
    "npm" + r"js\.(?:org|com)",
    "crates" + r"\.io",
    "proxy\\.go" + r"lang\.org",
    "deb\\.deb" + r"ian\.org",
    "mirror" + r"s?\.[a-z]+\.(?:org|com|cn)",
]
OURS_ALONE = [
    r"/wo" + r"rk/(?!\*)",
    "/tmp/br" + "ief",
    "foun" + r"der\b",
    r"\bissues sh" + "ow",
    r"\.\./sha" + r"red(?! is absent)",
]
"""Of the folder beside the checkout, only a skipped test may speak: it says that it is absent."""
TEXT = {".py", ".sh", ".md", ".toml", ".yml", ".yaml", ".hcl", ".txt", ".json", ".mjs", ".cfg", ".ini", ""}


def texts(files: tuple[Path, ...]) -> list[tuple[Path, str]]:
    found = []
    for path in files:
        if path.suffix in TEXT and path.stat().st_size < 1_000_000:
            try:
                found.append((path, path.read_text(encoding="utf-8")))
            except UnicodeDecodeError:
                continue
    assert len(found) > 50
    return found


def sightings(files: tuple[Path, ...], pattern: str) -> list[str]:
    return [
        f"{path}:{number}: {line.strip()[:120]}"
        for path, text in texts(files)
        for number, line in enumerate(text.splitlines(), 1)
        if re.search(pattern, line)
    ]


@pytest.mark.parametrize("pattern", REGISTRIES)
def test_no_registry_is_named(project_files: tuple[Path, ...], pattern: str) -> None:
    assert sightings(project_files, r"\b" + pattern) == []


@pytest.mark.parametrize("pattern", OURS_ALONE)
def test_nothing_of_the_place_it_was_written_at(project_files: tuple[Path, ...], pattern: str) -> None:
    assert sightings(project_files, pattern) == []


def test_the_patterns_find_what_they_look_for(tmp_path: Path) -> None:
    names = ["py" + "pi.org", "python" + "hosted.org", "npm" + "js.org", "crates" + ".io", "proxy.go" + "lang.org"]
    names += ["deb.deb" + "ian.org", "mirror" + "s.example.org"]
    for pattern, name in zip(REGISTRIES, names, strict=True):
        assert re.search(r"\b" + pattern, f"https://{name}/simple")
    for pattern, text in zip(
        OURS_ALONE, ["/wo" + "rk/main", "/tmp/br" + "ief/x", "the foun" + "der", "issues sh" + "ow 2", "../sha" + "red"],
        strict=True,
    ):  # fmt: skip
        assert re.search(pattern, text)


def test_files_are_short_enough_to_read(project_files: tuple[Path, ...]) -> None:
    long = {
        str(path): lines
        for path in project_files
        if path.suffix == ".py" and (lines := len(path.read_text(encoding="utf-8").splitlines())) > 600
    }
    assert long == {}


def test_sleep_is_in_one_place(project_files: tuple[Path, ...], root: Path) -> None:
    found = []
    for path in project_files:
        if path.suffix != ".py" or root / "harness" not in path.parents or path == root / "harness" / "waiting.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = (
                isinstance(node, ast.Attribute)
                and node.attr == "sleep"
                and isinstance(node.value, ast.Name)
                and node.value.id == "time"
            )
            imported = (
                isinstance(node, ast.ImportFrom) and node.module == "time" and "sleep" in {n.name for n in node.names}
            )
            if called or imported:
                found.append(f"{path}:{getattr(node, 'lineno', 0)}")
    assert found == []


def test_test_files_have_names_of_their_own(project_files: tuple[Path, ...], root: Path) -> None:
    names = Counter(
        path.name for path in project_files if root / "tests" in path.parents and path.name.startswith("test_")
    )
    assert [name for name, count in names.items() if count > 1] == []


def test_every_room_says_what_it_is_for(project_files: tuple[Path, ...], root: Path) -> None:
    silent = [
        str(path)
        for path in project_files
        if path.suffix == ".py"
        and root / "harness" in path.parents
        and path.stat().st_size > 0
        and ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) is None
    ]
    assert silent == []


def runtime_dependencies() -> set[str]:
    """Names of everything that installing this package without extras brings along."""
    waiting = ["sysext-harness"]
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        for text in importlib.metadata.requires(name) or ():
            requirement = Requirement(text)
            if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
                continue
            if requirement.name.lower() not in seen:
                seen.add(requirement.name.lower())
                waiting.append(requirement.name)
    return seen


def licence_of(name: str) -> str:
    metadata = importlib.metadata.metadata(name)
    parts = [metadata.get("License-Expression") or ""]
    parts += [line for line in metadata.get_all("Classifier") or () if line.startswith("License ::")]
    if not any(parts):
        parts = [(metadata.get("License") or "")[:200]]
    return "; ".join(part for part in parts if part)


def is_strong_copyleft(licence: str) -> bool:
    weaker = re.sub(r"lesser general public|library general public|\blgpl", "", licence, flags=re.IGNORECASE)
    return re.search(r"\ba?gpl|general public licen[sc]e", weaker, flags=re.IGNORECASE) is not None


def test_no_runtime_dependency_is_under_the_gpl() -> None:
    names = runtime_dependencies()
    assert {"pytest", "paramiko", "numpy", "cryptography"} <= names
    licences = {name: licence_of(name) for name in names}
    assert {name for name, licence in licences.items() if is_strong_copyleft(licence)} == set()
    assert {name for name, licence in licences.items() if not licence} == set()


@pytest.mark.parametrize(
    ("licence", "strong"),
    [
        ("GPL-3.0-or-later", True),
        ("License :: OSI Approved :: GNU General Public License v3 (GPLv3)", True),
        ("AGPLv3", True),
        ("GNU Affero General Public License v3", True),
        ("LGPL-2.1", False),
        ("License :: OSI Approved :: GNU Lesser General Public License v2 (LGPLv2)", False),
        ("Apache-2.0", False),
    ],
)
def test_copyleft_is_told_apart(licence: str, strong: bool) -> None:
    assert is_strong_copyleft(licence) is strong


def test_pyautogui_is_not_installed_unasked() -> None:
    assert "pyautogui" not in runtime_dependencies()
    assert "mouseinfo" not in runtime_dependencies()


def test_constraints_pin_everything_that_is_asked_for(root: Path) -> None:
    lines = (root / "constraints.txt").read_text().split()
    pinned = {re.sub(r"[-_.]+", "-", line.split("==")[0]).lower() for line in lines}
    assert all("==" in line for line in lines)
    wanted = runtime_dependencies()
    for text in importlib.metadata.requires("sysext-harness") or ():
        requirement = Requirement(text)
        if requirement.marker is not None and not any(
            requirement.marker.evaluate({"extra": extra}) for extra in ("dev", "simulator", "parallel")
        ):
            continue
        wanted.add(requirement.name.lower())
    assert {name for name in wanted if re.sub(r"[-_.]+", "-", name) not in pinned} == set()
