"""Writes component packages as pkgbuild does: a xar archive of PackageInfo, Payload and Scripts (cpio, gzip).

The layouts are those that `harness.bundles` reads, libarchive's xar and POSIX's cpio; the elements of PackageInfo are the ones that
pkgbuild's own packages hold (pkgbuild(1) tells what they mean: component property list).
"""

from __future__ import annotations

import gzip
import hashlib
import os
import stat
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree
from xml.sax.saxutils import quoteattr

from harness.bundles.xar import XarArchive, parse_xml

MAX_INFO = 4 * 1024 * 1024
_XAR_HEADER = 28


@dataclass(frozen=True)
class PackagedBundle:
    """A bundle in a package, and how Installer is to treat it.

    Attributes:
        path: Below the install location ("Example.app").
        identifier: Its CFBundleIdentifier.
        short: CFBundleShortVersionString.
        build: CFBundleVersion.
        replaces: What lies there is replaced as a whole ("upgrade"), not merged into.
        version_checked: It is not installed over a newer one.
        relocatable: It goes where its user has moved it.
    """

    path: str
    identifier: str
    short: str = ""
    build: str = ""
    replaces: bool = True
    version_checked: bool = True
    relocatable: bool = True


def write_package(
    target: Path,
    trees: Iterable[tuple[str, Path]],
    bundles: Iterable[PackagedBundle],
    *,
    identifier: str,
    version: str,
    location: str,
    scripts: Path | None = None,
) -> None:
    """Write a component package.

    Args:
        target: The file to write.
        trees: (name below the install location, folder or file) of what is installed; "" for the content of a folder.
        bundles: Which of it are bundles.
        identifier: Package identifier.
        version: Package version.
        location: Install location.
        scripts: Folder of install scripts and what they need.

    Raises:
        OSError: Something cannot be read, or the target not written.
    """
    bundles = tuple(bundles)
    entries = [entry for name, path in trees for entry in _walk(name, path)]
    size = sum(path.lstat().st_size for _name, path in entries if path.is_file() and not path.is_symlink())
    info = _info(identifier, version, location, bundles, len(entries) + 1, size // 1024, scripts)
    files = {"PackageInfo": info, "Payload": gzip.compress(_cpio(entries), 1)}
    if scripts is not None:
        files["Scripts"] = gzip.compress(_cpio(list(_walk("", scripts))), 1)
    target.write_bytes(_xar(files))


def bundles_of(package: Path, folder: str = "") -> tuple[PackagedBundle, ...]:
    """The bundles that a component's PackageInfo names; `folder` is the component's in a product archive.

    Raises:
        SysextError: The package cannot be read.
    """
    with XarArchive(package) as archive:
        info = archive.find(f"{folder}/PackageInfo" if folder else "PackageInfo")
        if info is None:
            return ()
        root = parse_xml(archive.read(info, MAX_INFO), "PackageInfo")

    def named(tag: str) -> set[str]:
        return {bundle.get("id") or "" for section in root.findall(tag) for bundle in section.findall("bundle")}

    replaced, checked, moved = named("upgrade-bundle"), named("bundle-version"), named("relocate")
    return tuple(
        PackagedBundle(
            (item.get("path") or "").removeprefix("./").strip("/"),
            item.get("id") or "",
            item.get("CFBundleShortVersionString") or "",
            item.get("CFBundleVersion") or "",
            replaces=item.get("id") in replaced,
            version_checked=item.get("id") in checked,
            relocatable=item.get("id") in moved,
        )
        for item in root.findall("bundle")
        if ".." not in (item.get("path") or "").split("/") and item.get("path")
    )


def _walk(name: str, path: Path) -> Iterator[tuple[str, Path]]:
    """(name in the archive, path), parents first; `name` "" leaves the folder itself away."""
    if name:
        yield name, path
    if path.is_symlink() or not path.is_dir():
        return
    for parent, folders, files in os.walk(path):
        folders.sort()
        for item in sorted(folders + files):
            inner = Path(parent) / item
            relative = inner.relative_to(path).as_posix()
            yield (f"{name}/{relative}" if name else relative), inner


def _info(
    identifier: str,
    version: str,
    location: str,
    bundles: tuple[PackagedBundle, ...],
    count: int,
    kilobytes: int,
    scripts: Path | None,
) -> bytes:
    """PackageInfo. What has no bundles in it has none of the bundles' sections."""
    root = ElementTree.Element(
        "pkg-info",
        {
            "overwrite-permissions": "true",
            "relocatable": "false",
            "identifier": identifier,
            "postinstall-action": "none",
            "version": version,
            "format-version": "2",
            "install-location": location,
            "auth": "root",
        },
    )
    ElementTree.SubElement(root, "payload", {"numberOfFiles": str(count), "installKBytes": str(kilobytes)})
    for bundle in bundles:
        ElementTree.SubElement(
            root,
            "bundle",
            {
                "path": f"./{bundle.path}",
                "id": bundle.identifier,
                "CFBundleShortVersionString": bundle.short,
                "CFBundleVersion": bundle.build,
            },
        )
    sections = (
        ("bundle-version", [bundle for bundle in bundles if bundle.version_checked]),
        ("upgrade-bundle", [bundle for bundle in bundles if bundle.replaces]),
        ("strict-identifier", list(bundles)),
        ("relocate", [bundle for bundle in bundles if bundle.relocatable]),
    )
    for tag, members in sections:
        section = ElementTree.SubElement(root, tag)
        for bundle in members:
            ElementTree.SubElement(section, "bundle", {"id": bundle.identifier})
    if scripts is not None:
        section = ElementTree.SubElement(root, "scripts")
        for name in ("preinstall", "postinstall"):
            if (scripts / name).is_file():
                ElementTree.SubElement(section, name, {"file": f"./{name}"})
    text: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return text


def _cpio(entries: list[tuple[str, Path]]) -> bytes:
    """The old portable format, everything root's (pkgbuild's `--ownership recommended`)."""
    out = bytearray(_cpio_entry(".", 0o40755, b"", 1))
    for inode, (name, path) in enumerate(entries, 2):
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            data = os.readlink(path).encode()  # noqa: PTH115 - the link's text, unresolved
        elif stat.S_ISREG(mode):
            data = path.read_bytes()
        elif stat.S_ISDIR(mode):
            data = b""
        else:
            continue
        out += _cpio_entry(f"./{name}", mode, data, inode)
    out += _cpio_entry("TRAILER!!!", 0, b"", 0)
    return bytes(out)


def _cpio_entry(name: str, mode: int, data: bytes, inode: int) -> bytes:
    title = name.encode() + b"\0"
    numbers = (1, inode & 0o777777, mode, 0, 0, 1, 0)
    head = "070707" + "".join(f"{number:06o}" for number in numbers) + f"{0:011o}{len(title):06o}{len(data):011o}"
    return head.encode() + title + data


def _xar(files: dict[str, bytes]) -> bytes:
    """A flat archive; the table's SHA-1 comes first in the heap."""
    heap = bytearray(20)
    rows = []
    for number, (name, content) in enumerate(files.items(), 1):
        packed = zlib.compress(content, 1) if name == "PackageInfo" else content
        style = "application/x-gzip" if name == "PackageInfo" else "application/octet-stream"
        rows.append(
            f'<file id="{number}"><name>{name}</name><type>file</type><mode>0644</mode><data>'
            f"<length>{len(packed)}</length><offset>{len(heap)}</offset><size>{len(content)}</size>"
            f"<encoding style={quoteattr(style)}/>"
            f'<archived-checksum style="sha1">{_sha1(packed)}</archived-checksum>'
            f'<extracted-checksum style="sha1">{_sha1(content)}</extracted-checksum></data></file>'
        )
        heap += packed
    table = (
        '<?xml version="1.0" encoding="UTF-8"?><xar><toc><checksum style="sha1"><offset>0</offset><size>20</size>'
        f"</checksum>{''.join(rows)}</toc></xar>"
    ).encode()
    packed_table = zlib.compress(table)
    heap[:20] = bytes.fromhex(_sha1(packed_table))
    return (
        struct.pack(">4sHHQQI", b"xar!", _XAR_HEADER, 1, len(packed_table), len(table), 1) + packed_table + bytes(heap)
    )


def _sha1(data: bytes) -> str:
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()
