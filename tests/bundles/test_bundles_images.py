"""Disk images: HFS+ volumes written here (7-Zip is their judge), ISO 9660 by genisoimage, in every compression of UDIF."""

from __future__ import annotations

import contextlib
import functools
import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.bundles import BundleError, DiskImage, Kind, detect_kind, open_app, unpack
from harness.bundles.udif import decompress_adc
from tests.support import bundle_builders as builders

APP = "Mitmproxy Redirector.app"
C = f"{APP}/Contents"


@functools.cache
def _used(image: bytes) -> list[int]:
    """Where an image is not zero: damage elsewhere is no damage."""
    return [match.start() for match in re.finditer(rb"[^\0]", image)]


def _extract(image: Path, into: Path) -> Path:
    into.mkdir()
    DiskImage(image).extract(into)
    return into


@pytest.fixture(scope="session")
def volume(app_0115: Path) -> bytes:
    return bytes(builders.HfsWriter(app_0115.parent, "Redirector 2").image())


@pytest.mark.parametrize("kind", ["raw", "zlib", "bzip2", "lzma", "adc"])
def test_udif_round_trip(kind: str, volume: bytes, app_0115: Path, tmp_path: Path) -> None:
    path = tmp_path / "release"
    path.write_bytes(builders.udif(volume, kind=kind, start=40))
    assert detect_kind(path) is Kind.DISK_IMAGE
    image = DiskImage(path)
    assert (image.filesystem, image.volume_name) == ("hfs+", "Redirector 2")
    found = unpack(path, tmp_path / "out")
    assert builders.snapshot(found) == builders.snapshot(app_0115)
    assert open_app(found).require_extension().short == "2.0"


def test_hfs_in_full(small_app: Path, tmp_path: Path) -> None:
    """Fragmented files, links of both sorts, files the file system compressed, and the usual link to /Applications."""
    (small_app / "Contents" / "Resources" / "colon:name é").write_text("x")
    writer = builders.HfsWriter(
        small_app.parent,
        "R",
        fragment=True,
        compress=(f"{C}/Info.plist",),
        compress_in_fork=(f"{C}/Resources/Assets.car",),
        hard_links={f"{C}/Resources/again": f"{C}/Resources/AppIcon.icns"},
        links_out={"Applications": "/Applications"},
    )
    assert writer.overflow
    assert len(writer.attributes) == 2
    path = tmp_path / "x.img"
    path.write_bytes(writer.image())
    found = _extract(path, tmp_path / "out")
    expected = builders.snapshot(small_app.parent)
    expected[f"{C}/Resources/again"] = expected[f"{C}/Resources/AppIcon.icns"]
    assert builders.snapshot(found) == expected
    assert (found / C / "MacOS" / APP.removesuffix(".app")).stat().st_mode & 0o111 == 0o111

    seven = shutil.which("7z")
    if seven is None:
        pytest.skip("7z (p7zip-full) is not installed: the volume writer went without its judge")
    judged = subprocess.run([seven, "t", str(path)], capture_output=True, text=True, check=False)
    assert judged.returncode == 0, judged.stdout
    assert "Everything is Ok" in judged.stdout


def test_7zip_reads_our_udif(volume: bytes, tmp_path: Path) -> None:
    seven = shutil.which("7z")
    if seven is None:
        pytest.skip("7z (p7zip-full) is not installed")
    for kind in ("zlib", "adc", "bzip2"):
        path = tmp_path / f"{kind}.dmg"
        path.write_bytes(builders.udif(volume, kind=kind))
        judged = subprocess.run([seven, "t", str(path)], capture_output=True, text=True, check=False)
        assert "Everything is Ok" in judged.stdout, (kind, judged.stdout)


def test_iso_with_rock_ridge(small_app: Path, tmp_path: Path) -> None:
    if shutil.which("genisoimage") is None:
        pytest.skip("genisoimage is not installed")
    (small_app / "Contents" / ("long" * 40)).write_text("a name that needs a continuation")
    (small_app / "Contents" / "deep").symlink_to("Frameworks/../Frameworks/./A/data")
    path = tmp_path / "x.iso"
    subprocess.run(
        ["genisoimage", "-quiet", "-R", "-V", "REDIR", "-o", str(path), str(small_app.parent)],
        check=True,
        capture_output=True,
    )
    image = DiskImage(path)
    assert (image.filesystem, image.volume_name) == ("iso9660", "REDIR")
    assert builders.snapshot(_extract(path, tmp_path / "out")) == builders.snapshot(small_app.parent)
    packed = tmp_path / "x.dmg"
    packed.write_bytes(builders.udif(path.read_bytes()))
    assert builders.snapshot(_extract(packed, tmp_path / "out2")) == builders.snapshot(small_app.parent)


def test_a_link_out_of_the_app_is_refused(small_app: Path, tmp_path: Path) -> None:
    (small_app / "Contents" / "out").symlink_to("/etc")
    path = tmp_path / "x.img"
    path.write_bytes(builders.HfsWriter(small_app.parent, "R").image())
    with pytest.raises(BundleError, match="leads out"):
        unpack(path, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_partition_maps(volume: bytes, tmp_path: Path) -> None:
    """A plain image (no UDIF) with a GUID or an Apple partition map."""
    guid = bytearray(64 * 512)
    guid[512 : 512 + 96] = (b"EFI PART" + bytes(64) + struct.pack("<QII", 2, 4, 128)).ljust(96, b"\0")
    guid[1024 : 1024 + 48] = b"\1" * 16 + bytes(16) + struct.pack("<QQ", 64, 64 + len(volume) // 512)
    apple = bytearray(64 * 512)
    apple[:2] = b"ER"
    apple[512:528] = struct.pack(">2sHIII", b"PM", 0, 2, 1, 2)
    apple[1024:1040] = struct.pack(">2sHIII", b"PM", 0, 2, 64, len(volume) // 512)
    for table in (guid, apple):
        path = tmp_path / "x.img"
        path.write_bytes(bytes(table) + volume)
        assert detect_kind(path) is Kind.DISK_IMAGE
        assert DiskImage(path).volume_name == "Redirector 2"


def test_what_cannot_be_read_says_why(tmp_path: Path) -> None:
    apfs = bytearray(100 * 512)
    apfs[32:36] = b"NXSB"
    path = tmp_path / "x.dmg"
    path.write_bytes(builders.udif(bytes(apfs)))
    assert DiskImage(path).filesystem == "apfs"
    with pytest.raises(BundleError, match="APFS, which can be read on a Mac only"):
        unpack(path, tmp_path / "out")
    path.write_bytes(builders.udif(b"\1" * 51200, kind="lzfse"))
    with pytest.raises(BundleError, match="LZFSE") as error:
        DiskImage(path)
    assert "hdiutil convert" in error.value.hint
    path.write_bytes(builders.udif(b"\1" * 51200))
    with pytest.raises(BundleError, match="no file system"):
        DiskImage(path)
    path.write_bytes(b"encrcdsa" + bytes(5000))
    with pytest.raises(BundleError, match="encrypted"):
        DiskImage(path)


@pytest.mark.parametrize("keep", [0.0001, 0.4, 0.95])
def test_truncated(keep: float, volume: bytes, tmp_path: Path) -> None:
    for number, whole in enumerate((volume, builders.udif(volume))):
        path = tmp_path / str(number)
        path.write_bytes(whole[: int(len(whole) * keep)])
        with pytest.raises(BundleError):
            unpack(path, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    root = tmp_path_factory.mktemp("tiny")
    (root / "folder").mkdir()
    (root / "folder" / "file").write_bytes(b"content" * 3000)
    (root / "link").symlink_to("folder/file")
    writer = builders.HfsWriter(root, "T", fragment=True, compress=("folder/file",), hard_links={})
    return bytes(writer.image())


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_volume_is_refused_or_harmless(
    data: st.DataObject, tiny: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    image = bytearray(tiny)
    places = st.sampled_from(_used(tiny))
    for place in data.draw(st.lists(places, min_size=1, max_size=8)):
        image[place] = data.draw(st.integers(0, 255))
    outside = tmp_path_factory.mktemp("hfs")
    path = outside / "x.img"
    raw = bytes(image)
    path.write_bytes(builders.udif(raw) if data.draw(st.booleans()) else raw)
    (outside / "root").mkdir()
    with contextlib.suppress(BundleError):
        DiskImage(path).extract(outside / "root")
    assert sorted(found.name for found in outside.iterdir()) == ["root", "x.img"]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_block_table_is_refused_or_harmless(
    data: st.DataObject, tiny: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    image = bytearray(builders.udif(tiny, start=8))
    for _ in range(data.draw(st.integers(1, 6))):
        image[-data.draw(st.integers(1, 2500))] = data.draw(st.integers(0, 255))
    folder = tmp_path_factory.mktemp("udif")
    path = folder / "x.dmg"
    path.write_bytes(bytes(image))
    (folder / "root").mkdir()
    with contextlib.suppress(BundleError):
        DiskImage(path).extract(folder / "root")


@pytest.fixture(scope="session")
def tiny_iso(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    if shutil.which("genisoimage") is None:
        pytest.skip("genisoimage is not installed")
    root = tmp_path_factory.mktemp("tiny-iso") / "root"
    (root / "folder").mkdir(parents=True)
    (root / "folder" / "file").write_bytes(b"content" * 300)
    (root / ("long" * 40)).symlink_to("folder/file")
    path = root.parent / "x.iso"
    subprocess.run(["genisoimage", "-quiet", "-R", "-o", str(path), str(root)], check=True, capture_output=True)
    return path.read_bytes()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_iso_is_refused_or_harmless(
    data: st.DataObject, tiny_iso: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    image = bytearray(tiny_iso)
    places = st.sampled_from(_used(tiny_iso))
    for place in data.draw(st.lists(places, min_size=1, max_size=8)):
        image[place] = data.draw(st.integers(0, 255))
    outside = tmp_path_factory.mktemp("iso")
    (outside / "x.iso").write_bytes(bytes(image))
    (outside / "root").mkdir()
    with contextlib.suppress(BundleError):
        DiskImage(outside / "x.iso").extract(outside / "root")
    assert sorted(found.name for found in outside.iterdir()) == ["root", "x.iso"]


@given(st.binary(max_size=400))
def test_adc_takes_anything(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        assert len(decompress_adc(data, 1000)) <= 1000


def test_adc_both_copies() -> None:
    plain = bytes([0x80 | 3]) + b"abcd"
    assert decompress_adc(plain + bytes([(5 - 3) << 2, 3]), 100) == b"abcd" + b"abcda"
    assert decompress_adc(plain + bytes([0x40 | 6 - 4, 0, 1]), 100) == b"abcd" + b"cdcdcd"
