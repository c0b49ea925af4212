"""Names, folders and the manifest, without any Mac."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import HarnessError
from harness.events import SECRETS
from harness.evidence import CaseFolder, Collection, Item, Manifest, safe_name
from harness.evidence.logs import SUBSYSTEMS, predicate


@given(st.text(max_size=300))
def test_any_text_makes_a_harmless_file_name(text):
    name = safe_name(text)
    assert name
    assert len(name) <= 120
    assert "/" not in name
    assert not name.startswith(".")
    assert name.isascii()
    assert name.isprintable()


@given(st.text(max_size=60), st.text(max_size=60))
def test_different_texts_make_different_names(one, other):
    if one != other:
        assert safe_name(one) != safe_name(other)


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "..", ".", "", "a/../b", "x\0y", "con\nsole"])
def test_hostile_names_stay_in_their_folder(tmp_path, name):
    assert (tmp_path / safe_name(name)).resolve().parent == tmp_path.resolve()


def test_a_plain_name_stays_as_it_is():
    assert safe_name("sysextd-2026-07-26-181122.ips") == "sysextd-2026-07-26-181122.ips"


@given(st.text(max_size=40))
def test_a_name_cannot_end_its_string_in_the_predicate(name):
    if "\n" in name or "\r" in name:
        with pytest.raises(HarnessError):
            predicate([name], [])
        return
    text = predicate([name], [])
    if name not in SUBSYSTEMS:  # it comes after those
        before = f'{SUBSYSTEMS[-1]}" OR subsystem == "'
        at, read = text.index(before) + len(before), ""
        while text[at] != '"':
            at += text[at] == "\\"
            read += text[at]
            at += 1
        assert read == name
        assert text[at:].startswith('" OR process IN {')


def test_collections_and_frames_are_numbered_and_never_overwritten(tmp_path):
    case = CaseFolder(tmp_path / "case")
    assert case.new_collection("Prompt missing!").name == "01-prompt-missing"
    assert CaseFolder(tmp_path / "case").new_collection("../x").name == "02-x"
    first = case.frame_path("Alert / sheet")
    first.write_bytes(b"x")
    assert (first.name, case.frame_path("").name) == ("001-alert-sheet.png", "002-frame.png")
    assert case.latest_frames(5) == [first]


def manifest(tmp_path: Path) -> tuple[Manifest, Collection]:
    book = Manifest(tmp_path / "manifest.json")
    items = [Item("a", "ls"), Item("b", "cat")]
    return book, Collection("01-x", "x", "vm", "2026-01-01T00:00:00+00:00", "2026-01-01T00:00:00+00:00", items=items)


def test_what_was_not_reached_is_in_the_manifest_from_the_start(tmp_path):
    book, collection = manifest(tmp_path)
    book.begin(collection)
    (tmp_path / "a.txt").write_text("x")
    book.seal(collection.items[0], tmp_path / "a.txt")
    collection.items[0].status = "ok"
    book.save()
    again = Manifest(tmp_path / "manifest.json")
    assert [item.status for item in again.collections[0].items] == ["ok", "missing"]
    assert "not reached" in again.collections[0].items[1].why
    assert again.collections[0].finished is None
    assert not again.collections[0].complete
    assert "broken off" in again.describe()
    assert again.verify() == []
    (tmp_path / "a.txt").write_text("y")
    assert again.verify() == ["a.txt: another checksum"]
    (tmp_path / "a.txt").unlink()
    assert again.verify() == ["a.txt: gone"]


def test_secrets_do_not_reach_the_manifest(tmp_path):
    SECRETS.add("correct-horse-battery")
    book, collection = manifest(tmp_path)
    collection.items[0].why = "said correct-horse-battery"
    book.begin(collection)
    assert "correct-horse" not in (tmp_path / "manifest.json").read_text()


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"schema": 99, "collections": []}', '{"schema": 1, "collections": [3]}']
)
def test_what_is_no_manifest_is_refused(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(HarnessError, match="a manifest at"):
        Manifest(tmp_path / "manifest.json")


def test_a_full_host_disk_still_lets_the_manifest_be_written(tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", small], capture_output=True).returncode:
        pytest.skip("this user may not mount a small file system")
    try:
        book, collection = manifest(small)
        book.begin(collection)
        with pytest.raises(OSError, match="No space"), (small / "filler").open("wb", buffering=0) as filler:
            while True:
                filler.write(bytes(4096))
        collection.items[1].status, collection.items[1].why = "failed", "disk full on the host"
        book.finish(collection)
        assert Manifest(small / "manifest.json").collections[0].items[1].why == "disk full on the host"
        assert sorted(path.name for path in small.iterdir()) == ["filler", "manifest.json"]
    finally:
        subprocess.run(["umount", "-l", small], check=False)


def test_a_kill_leaves_a_whole_manifest(tmp_path):
    script = (
        "import sys, pathlib; from harness.evidence import *; p = pathlib.Path(sys.argv[1]);"
        "m = Manifest(p / 'manifest.json'); c = Collection('01-x', 'x', 'vm', 't', 't', items=[Item('a', 's')] * 200);"
        "m.begin(c); print('go', flush=True)\nwhile True: m.save()"
    )
    process = subprocess.Popen([sys.executable, "-c", script, tmp_path], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"go\n"
    process.kill()
    process.wait()
    process.stdout.close()
    assert len(json.loads((tmp_path / "manifest.json").read_text())["collections"][0]["items"]) == 200
