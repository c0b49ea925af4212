"""Sealed resources: `_CodeSignature/CodeResources` compared with the files of its bundle.

The seal lists every file with its hash, links with their targets, and code within with its cdhash; rules (regular
expressions with weights) say which files need not be listed. What is in the seal is untrusted: paths are only looked up
among those that were found on disk, expressions are refused when they could run away, and matching has a time limit.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from harness.bundles.facts import ResourceCheck
from harness.bundles.tree import Entry, Tree, same_name
from harness.formats.plists import table_of, text_of

MAX_SEALED = 200_000
MAX_RULES = 200
MAX_PATTERN = 500
MATCHING_TIME = 10.0
"""Seconds that matching may take for one bundle before its seal counts as hostile. Real ones take milliseconds."""
# What Security leaves out of every seal, whatever its rules say.
_NEVER = ("_CodeSignature", "CodeResources", "_MASReceipt")
_GROUP_REPEATED = re.compile(r"\)(?:[*+]|\{)")
_OPTIONAL = re.compile(r"(?<!\\)\?")
_ENDLESS = re.compile(r"(?<!\\)(?:\\\\)*[*+]|\{\d*,\d*\}")


class SealError(ValueError):
    """CodeResources cannot be used."""


@dataclass(frozen=True)
class _Rule:
    pattern: re.Pattern[str]
    weight: float
    omit: bool
    optional: bool
    nested: bool


@dataclass(frozen=True)
class Place:
    """A bundle whose seal is checked.

    Attributes:
        base: The folder that sealed paths are relative to ("Contents", "Versions/A" …), from the tree's root; "" is it.
        executable: The main executable, relative to the base; it is covered by its own pages. "" without one.
    """

    base: str
    executable: str


def check_resources(
    tree: Tree, place: Place, seal: Mapping[str, Any], hashes_of: Callable[[str], frozenset[str] | None]
) -> ResourceCheck:
    """Compare a seal with the files.

    Args:
        tree: The whole app.
        place: Which bundle in it.
        seal: CodeResources, read.
        hashes_of: The cdhashes of the code at a path (from the tree's root); None when there is none.

    Raises:
        SealError: The seal is not of a known form, or hostile.
    """
    second = isinstance(seal.get("files2"), dict)
    sealed = table_of(seal.get("files2" if second else "files"))
    if not second and not isinstance(seal.get("files"), dict):
        raise SealError("it lists no files")
    if len(sealed) > MAX_SEALED:
        raise SealError(f"it lists {len(sealed)} files")
    rules = _rules(table_of(seal.get("rules2" if second else "rules")))
    prefix = f"{place.base}/" if place.base else ""
    here = {same_name(name[len(prefix) :]): entry for name, entry in tree.entries.items() if name.startswith(prefix)}
    missing, altered = [], []
    known: dict[str, Any] = {}
    for name, value in sealed.items():
        key = same_name(name)
        known[key] = value
        entry = here.get(key)
        wanted = table_of(value) if isinstance(value, dict) else {"hash": value}
        if entry is None:
            if wanted.get("optional") is not True:
                missing.append(name)
        elif not _fits(tree, entry, wanted, hashes_of):
            altered.append(name)
    added = _added(here, known, rules, place.executable)
    return ResourceCheck(len(sealed), tuple(added), tuple(sorted(missing)), tuple(sorted(altered)))


def _rules(table: Mapping[str, Any]) -> list[_Rule]:
    if len(table) > MAX_RULES:
        raise SealError(f"{len(table)} rules")
    rules = []
    for text, value in table.items():
        flags = table_of(value)
        weight = flags.get("weight", 1) if isinstance(value, dict) else value
        if isinstance(weight, bool) or not isinstance(weight, int | float):
            weight = 1
        rules.append(
            _Rule(
                _pattern(text),
                float(weight),
                omit=flags.get("omit") is True,
                optional=flags.get("optional") is True,
                nested=flags.get("nested") is True,
            )
        )
    return rules


def _pattern(text: str) -> re.Pattern[str]:
    # With at most two endless repetitions, none of a group, and few optional parts, a match takes at most some
    # (length of a path)² steps. Seals are written in POSIX's syntax, which has no `(?`.
    endless, optional = len(_ENDLESS.findall(text)), len(_OPTIONAL.findall(text))
    if len(text) > MAX_PATTERN or _GROUP_REPEATED.search(text) or endless > 2 or optional > 4 or "(?" in text:
        raise SealError(f"a rule too complicated to be tried: {text[:80]!r}")
    try:
        return re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise SealError(f"a rule that is no expression: {text[:80]!r}") from error


def _added(here: Mapping[str, Entry], sealed: Mapping[str, Any], rules: list[_Rule], executable: str) -> list[str]:
    added: list[str] = []
    until = time.monotonic() + MATCHING_TIME
    skip = ""
    for name, entry in here.items():
        if skip and name.startswith(skip):
            continue
        if name in _NEVER:
            skip = f"{name}/"
            continue
        if name == executable:
            continue
        folder = entry.kind == "folder"
        if folder and "." not in name.rpartition("/")[2]:
            continue  # only what looks like a bundle can be code as a whole
        if name in sealed:
            if folder:
                skip = f"{name}/"
            continue
        rule = _best(rules, name, until)
        if rule is None or rule.omit:
            continue
        if not folder:
            added.append(name)
        elif rule.nested and not any(other.startswith(f"{name}/") for other in sealed):
            added.append(name)
            skip = f"{name}/"
    return added


def _best(rules: list[_Rule], name: str, until: float) -> _Rule | None:
    best: _Rule | None = None
    for rule in rules:
        if time.monotonic() > until:
            raise SealError(f"its rules take more than {MATCHING_TIME:.0f} s")
        if (best is None or rule.weight > best.weight) and rule.pattern.search(name):
            best = rule
    return best


def _fits(
    tree: Tree, entry: Entry, wanted: Mapping[str, Any], hashes_of: Callable[[str], frozenset[str] | None]
) -> bool:
    if "symlink" in wanted:
        return entry.kind == "link" and entry.target == text_of(wanted["symlink"])
    if "cdhash" in wanted or "requirement" in wanted:
        hashes = hashes_of(entry.name)
        cdhash = wanted.get("cdhash")
        if hashes is None:
            return False
        return not isinstance(cdhash, bytes) or cdhash[:20].hex() in hashes
    name = "sha256" if isinstance(wanted.get("hash2"), bytes) else "sha1"
    digest = wanted.get("hash2" if name == "sha256" else "hash")
    if entry.kind != "file" or not isinstance(digest, bytes):
        return False
    try:
        with tree.path(entry.name).open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.new(name, usedforsecurity=False)).digest() == digest
    except OSError:
        return False
