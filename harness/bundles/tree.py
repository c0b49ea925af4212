"""Every path of a bundle on disk, walked once: bounded, following no link, told what is odd."""

from __future__ import annotations

import os
import stat
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

from harness.bundles.failures import BundleError

MAX_ENTRIES = 100_000
MAX_DEPTH = 64


@dataclass(frozen=True)
class Entry:
    """One path. `name` is relative to the root, with slashes; `target` is a link's."""

    name: str
    kind: Literal["file", "folder", "link", "other"]
    size: int
    target: str = ""

    def __str__(self) -> str:
        if self.kind == "link":
            return f"{self.name} -> {self.target}"
        return self.name + ("/" if self.kind == "folder" else "")


@dataclass
class Tree:
    """A folder and everything below it.

    Attributes:
        root: The folder, resolved.
        entries: By name, folders before what is in them, sorted.
    """

    root: Path
    entries: dict[str, Entry] = field(default_factory=dict)

    def path(self, name: str) -> Path:
        """Where an entry lies on disk."""
        return self.root / name if name else self.root

    def file(self, name: str) -> Entry | None:
        """The plain file of that name, also through links within the tree; None if there is none."""
        for _ in range(16):
            entry = self.entries.get(name)
            if entry is not None and entry.kind == "file":
                return entry
            resolved = self._resolve(name)
            if resolved is None or resolved == name:
                return None
            name = resolved
        return None

    def _resolve(self, name: str) -> str | None:
        """The name with its first link replaced."""
        parts = PurePosixPath(name).parts
        for index in range(1, len(parts) + 1):
            entry = self.entries.get("/".join(parts[:index]))
            if entry is None:
                return None
            if entry.kind == "link":
                return lead("/".join(parts[: index - 1]), "/".join((entry.target, *parts[index:])))
        return name

    def leads_inside(self, entry: Entry) -> bool:
        """Whether a link ends at something in the tree."""
        name: str | None = entry.name
        for _ in range(40):
            if name == "":
                return True
            following = self._resolve(name) if name is not None else None
            if following is None or (following == name and self.entries[name].kind == "link"):
                return False
            if following == name:
                return True
            name = following
        return False

    def read(self, entry: Entry, limit: int) -> bytes:
        """A small file's content.

        Raises:
            BundleError: It is larger than `limit`, or cannot be read.
        """
        if entry.size > limit:
            raise BundleError(f"{entry.name} to have at most {limit} bytes", seen=f"{entry.size} bytes")
        try:
            with self.path(entry.name).open("rb") as file:
                return file.read(limit)
        except OSError as error:
            raise BundleError(f"{entry.name} to be readable", seen=str(error)) from error


def lead(folder: str, target: str) -> str | None:
    """Where a link in `folder` leads, relative to the root; None when that is outside."""
    if target.startswith("/"):
        return None
    parts = [part for part in folder.split("/") if part]
    for part in target.split("/"):
        if part == "..":
            if not parts:
                return None
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def walk(root: Path, tell: Callable[[str, str, str], None]) -> Tree:
    """Walk a bundle.

    Args:
        root: Its folder.
        tell: Is given a problem's code, place and words.

    Raises:
        BundleError: The folder cannot be read.
    """
    tree = Tree(root)
    try:
        _walk(tree, root, "", 0, tell)
    except OSError as error:
        raise BundleError(f"{root.name} to be readable", seen=str(error), hint="check its permissions") from error
    for entry in tree.entries.values():
        if entry.kind == "link" and not tree.leads_inside(entry):
            tell("link-outside", entry.name, f"a link to {entry.target}, which is not in the bundle")
        elif entry.kind == "other":
            tell("tree-special", entry.name, "neither file, folder nor link")
    return tree


def _walk(tree: Tree, folder: Path, prefix: str, depth: int, tell: Callable[[str, str, str], None]) -> None:
    if depth > MAX_DEPTH:
        tell("tree-too-large", prefix.rstrip("/"), f"folders more than {MAX_DEPTH} deep")
        return
    with os.scandir(folder) as found:
        inside = sorted(found, key=lambda item: item.name)
    for item in inside:
        if len(tree.entries) >= MAX_ENTRIES:
            tell("tree-too-large", prefix.rstrip("/"), f"more than {MAX_ENTRIES} files")
            return
        name = prefix + item.name
        status = item.stat(follow_symlinks=False)
        if stat.S_ISLNK(status.st_mode):
            tree.entries[name] = Entry(name, "link", 0, str(Path(item.path).readlink()))
        elif stat.S_ISDIR(status.st_mode):
            tree.entries[name] = Entry(name, "folder", 0)
            _walk(tree, Path(item.path), name + "/", depth + 1, tell)
        else:
            tree.entries[name] = Entry(name, "file" if stat.S_ISREG(status.st_mode) else "other", status.st_size)


def same_name(name: str) -> str:
    """A name as it is compared: file systems and archives write accents in two ways."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)
