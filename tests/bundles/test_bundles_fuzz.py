"""Inspection of hostile bundles: our own errors or problems told, nothing else, in bounded time and memory."""

from __future__ import annotations

import shutil
import struct
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.bundles import tree as tree_module
from harness.bundles.codedirectory import Sealed, check_slice
from harness.bundles.failures import BundleError
from harness.bundles.inspection import inspect_app, inspect_file
from harness.bundles.inspection_text import as_text
from harness.bundles.layout import check_layout
from harness.bundles.macho import read_slices

EXTREMES = (0, 1, 0x7F, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFF0, 0xFFFFFFFF)


@pytest.fixture(scope="module")
def thin(app_0115: Path) -> bytes:
    """The app's arm64 slice."""
    data = (app_0115 / "Contents/MacOS/Mitmproxy Redirector").read_bytes()
    part = next(part for part in read_slices(data) if part.arch == "arm64")
    return data[part.offset : part.offset + part.size]


@settings(max_examples=120, deadline=None)
@given(
    place=st.sampled_from(("header", "superblob", "directory", "cms")),
    changes=st.lists(st.tuples(st.integers(0, 2000), st.sampled_from(EXTREMES), st.booleans()), min_size=1, max_size=4),
)
def test_extreme_numbers_where_structure_is(thin: bytes, place: str, changes: list[tuple[int, int, bool]]) -> None:
    (part,) = read_slices(thin)
    assert part.signature is not None
    start, width = {
        "header": (0, 2000),
        "superblob": (part.signature[0], 52),
        "directory": (part.signature[0] + 52, 88),
        "cms": (part.signature[0] + 12640, 600),
    }[place]
    data = bytearray(thin)
    for at, number, big in changes:
        where = start + at % width
        data[where : where + 4] = struct.pack(">I" if big else "<I", number)
    told: list[str] = []
    try:
        parts = read_slices(data)
        check_layout(data, parts, lambda code, _: told.append(code))
        for one in parts:
            check_slice(data, one, Sealed(), lambda code, _: told.append(code))
    except BundleError:
        told.append("unreadable")
    assert len(data) == len(thin)
    assert told or bytes(data) == thin


def test_a_claim_of_much_costs_little(thin: bytes, tmp_path: Path) -> None:
    """Numbers in a file are no reason to reserve memory."""
    (part,) = read_slices(thin)
    assert part.signature is not None
    at = part.signature[0] + 52
    for offset, number in ((28, 0xFFFFFFF0), (24, 0xFFFFFFF0), (32, 0xFFFFFFFF), (16, 0xFFFFFFF0)):
        data = bytearray(thin)
        data[at + offset : at + offset + 4] = struct.pack(">I", number)
        (tmp_path / "tool").write_bytes(data)
        tracemalloc.start()
        try:
            item, problems = inspect_file(tmp_path / "tool")
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert problems
        assert item.slices
        assert peak < 32 * 1024 * 1024


def test_folders_without_end_and_files_without_number(small_app: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = small_app / "Contents/Resources" / "/".join("d" * 70)
    deep.mkdir(parents=True)
    assert "tree-too-large" in {problem.code for problem in inspect_app(small_app).problems}
    monkeypatch.setattr(tree_module, "MAX_ENTRIES", 8)
    assert "tree-too-large" in {problem.code for problem in inspect_app(small_app).problems}


def test_a_link_to_the_executable_of_the_host_is_not_followed(small_app: Path) -> None:
    executable = small_app / "Contents/MacOS/Mitmproxy Redirector"
    executable.unlink()
    executable.symlink_to("/bin/sh")
    seen = inspect_app(small_app)
    assert {"executable-missing", "link-outside"} <= {problem.code for problem in seen.problems}
    assert seen.app.slices == ()
    info = small_app / "Contents/Info.plist"
    shutil.move(info, small_app.parent / "Info.plist")
    info.symlink_to(small_app.parent / "Info.plist")
    with pytest.raises(BundleError):
        inspect_app(small_app)


def test_bundles_in_bundles(small_app: Path) -> None:
    """An app in an app in an app: each is one piece of code, and the text stays readable."""
    inner = small_app
    for level in range(5):
        target = inner / "Contents/Helpers" / f"H{level}.app"
        (target / "Contents").mkdir(parents=True)
        shutil.copyfile(small_app / "Contents/Info.plist", target / "Contents/Info.plist")
        inner = target
    seen = inspect_app(small_app)
    assert [item.path.count(".app") for item in seen.others if item.kind == "helper"] == [1, 2, 3, 4, 5]
    assert max(map(len, as_text(seen).splitlines())) <= 100
