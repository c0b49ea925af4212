"""Installer packages: built here, judged by cpio and 7-Zip, read by the harness."""

from __future__ import annotations

import contextlib
import gzip
import io
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.bundles import BundleError, Kind, Sink, detect_kind, open_app, read_package, unpack
from harness.bundles.cpio import extract_cpio, list_cpio
from harness.bundles.xar import parse_xml
from tests.support import bundle_builders as builders

APP = "Mitmproxy Redirector.app"


@pytest.mark.parametrize(
    ("payload", "form", "inner"),
    [
        ("gzip", "odc", ""),
        ("pbzx", "odc", "Redirector.pkg"),
        ("xz", "newc", ""),
        ("bzip2", "odc", "a b.pkg"),
        ("none", "newc", ""),
    ],
)
def test_round_trip(payload: str, form: str, inner: str, small_app: Path, tmp_path: Path) -> None:
    path = tmp_path / "release"
    path.write_bytes(builders.package(small_app, payload=payload, form=form, inner=inner))
    assert detect_kind(path) is Kind.PACKAGE
    package = read_package(path)
    (component,) = package.components
    assert (component.name, component.identifier, component.version) == (inner, "org.example.pkg", "1.2")
    assert (package.install_location, component.scripts, component.restart) == ("/Applications", (), False)
    assert f"/Applications/{APP}/Contents/Info.plist" in package.files()
    root = tmp_path / "root"
    root.mkdir()
    package.extract(root)
    assert builders.snapshot(root / "Applications" / APP) == builders.snapshot(small_app)
    found = unpack(path, tmp_path / "out")
    assert builders.snapshot(found) == builders.snapshot(small_app)
    assert open_app(found).extensions


def test_7zip_reads_what_the_tests_write(small_app: Path, tmp_path: Path) -> None:
    """The judge of our package writer: an independent reader finds the same files in it."""
    seven = shutil.which("7z")
    if seven is None:
        pytest.skip("7z (p7zip-full) is not installed")
    path = tmp_path / "x.pkg"
    path.write_bytes(builders.package(small_app, inner="In.pkg"))
    subprocess.run([seven, "x", f"-o{tmp_path / 'seven'}", str(path)], check=True, capture_output=True)
    payload = tmp_path / "seven" / "In.pkg" / "Payload"
    ours = next(entry for entry in list_cpio(io.BytesIO(payload.read_bytes()), "x") if entry.name.endswith("/PkgInfo"))
    assert ours.size == 8


@pytest.mark.parametrize("form", ["odc", "newc"])
def test_cpio_itself(form: str, small_app: Path, tmp_path: Path) -> None:
    """A real cpio's archive is read; hard links and all."""
    if shutil.which("cpio") is None:
        pytest.skip("cpio is not installed")
    extra = small_app / "Contents" / "Resources" / "again"
    extra.hardlink_to(small_app / "Contents" / "Resources" / "AppIcon.icns")
    names = "\n".join(str(path.relative_to(small_app.parent)) for path in sorted(small_app.parent.rglob("*")))
    done = subprocess.run(
        ["cpio", "-o", "-H", form, "--quiet"],
        input=names.encode(),
        cwd=small_app.parent,
        capture_output=True,
        check=True,
    )
    root = tmp_path / "root"
    root.mkdir()
    sink = Sink(root, "x")
    extract_cpio(io.BytesIO(done.stdout), sink, "")
    sink.finish()
    assert builders.snapshot(root) == builders.snapshot(small_app.parent)
    assert builders.snapshot(small_app)["Contents/Resources/again"][0] == "file"


def test_scripts_are_listed_and_extracted(small_app: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.pkg"
    path.write_bytes(builders.package(small_app, scripts={"postinstall": "#!/bin/sh\nexit 0\n", "helper": "x"}))
    package = read_package(path)
    assert package.components[0].scripts == ("postinstall",)
    into = tmp_path / "scripts"
    into.mkdir()
    (script,) = package.extract_scripts(package.components[0], into)
    assert script.read_text().startswith("#!/bin/sh")
    assert script.stat().st_mode & stat.S_IXUSR
    assert (into / "helper").read_text() == "x"


def _cpio(*entries: tuple[str, int, bytes]) -> bytes:
    parts = [builders.cpio_entry(*entry, inode=n) for n, entry in enumerate(entries, 1)]
    return b"".join(parts) + bytes(builders.cpio_entry("TRAILER!!!", 0, b""))


@pytest.mark.parametrize(
    "entry",
    [
        ("./../../evil", 0o100644, b"x"),
        ("/etc/evil", 0o100644, b"x"),
        ("link", 0o120755, b"../../../etc"),
        ("device", 0o020644, b""),
    ],
)
def test_a_hostile_payload(entry: tuple[str, int, bytes], tmp_path: Path) -> None:
    info = b'<pkg-info identifier="x" version="1" install-location="/"/>'
    path = tmp_path / "x.pkg"
    path.write_bytes(builders.xar({"PackageInfo": info, "Payload": gzip.compress(_cpio(entry))}))
    root = tmp_path / "in" / "root"
    root.mkdir(parents=True)
    with pytest.raises(BundleError, match=r"leads out|neither"):
        read_package(path).extract(root)
    assert sorted(found.name for found in (tmp_path / "in").iterdir()) == ["root"]


def test_hostile_tables_of_contents(tmp_path: Path) -> None:
    path = tmp_path / "x.pkg"
    info = b'<pkg-info identifier="x" version="1" install-location="/../../tmp"/>'
    path.write_bytes(builders.xar({"PackageInfo": info}))
    with pytest.raises(BundleError, match="install-location"):
        read_package(path)
    path.write_bytes(builders.xar({"Distribution": b"<x/>"}))
    with pytest.raises(BundleError, match="PackageInfo"):
        read_package(path)
    path.write_bytes(builders.xar({"..": b"<x/>"}))
    with pytest.raises(BundleError, match="a file named"):
        read_package(path)
    with pytest.raises(BundleError, match="plain XML"):
        parse_xml(b'<!DOCTYPE x [<!ENTITY a "aaaa">]><x>&a;</x>', "it")


def test_a_wrong_checksum_is_found(tmp_path: Path) -> None:
    path = tmp_path / "x.pkg"
    path.write_bytes(builders.xar({"PackageInfo": b"<pkg-info/>"}, break_checksum=True))
    with pytest.raises(BundleError, match="checksum of PackageInfo"):
        read_package(path)


@pytest.mark.parametrize("encoding", ["application/octet-stream", "application/x-bzip2", "application/x-gzip"])
def test_encodings(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "x.pkg"
    info = b'<pkg-info identifier="who" version="3"/>' + b" " * 5000
    path.write_bytes(builders.xar({"PackageInfo": info}, encoding=encoding))
    assert read_package(path).identifier == "who"
    assert read_package(path).install_location == "/"


@pytest.mark.parametrize("keep", [0.001, 0.3, 0.8, 0.999])
def test_truncated(keep: float, small_app: Path, tmp_path: Path) -> None:
    whole = builders.package(small_app)
    path = tmp_path / "x.pkg"
    path.write_bytes(whole[: int(len(whole) * keep)])
    with pytest.raises(BundleError):
        unpack(path, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_is_refused_or_harmless(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    entries = [(".", 0o40755, b""), ("a", 0o100755, b"hello" * 40), ("l", 0o120755, b"a")]
    form = data.draw(st.sampled_from(["odc", "newc"]))
    raw = b"".join(builders.cpio_entry(*entry, form=form) for entry in entries)
    raw += builders.cpio_entry("TRAILER!!!", 0, b"", form=form)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw = raw[:at] + bytes([data.draw(st.integers(0, 255))]) + raw[at + 1 :]
    outside = tmp_path_factory.mktemp("cpio")
    root = outside / "root"
    root.mkdir()
    with contextlib.suppress(BundleError):
        extract_cpio(io.BytesIO(raw), Sink(root, "x"), "")
    assert [path.name for path in outside.iterdir()] == ["root"]
