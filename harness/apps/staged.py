"""The copy of the extension that macOS really runs: `/Library/SystemExtensions/<uuid>/`, compared with what was installed.

sysextd copies the extension there when it is activated, and that copy is what launchd starts. An app that was replaced
without a new version, or a removal that failed, leaves an old one: everything looks enabled, and old code runs.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness import events
from harness.apps.oracle import DATABASE
from harness.bundles.app import SystemExtensionBundle
from harness.bundles.facts import CodeItem
from harness.bundles.inspection import inspect_app
from harness.errors import ProductFailure, SysextError
from harness.formats.database import DatabaseExtension, parse_database
from harness.guest import Guest
from harness.waiting import Deadline

FOLDER = "/Library/SystemExtensions"
MOST_PROBLEMS = 50
MOST_BYTES = 512 * 1024 * 1024
_IMMOVABLE = frozenset({"uchg", "schg", "uappnd", "sappnd", "uimmutable", "simmutable"})
_ROW = re.compile(
    r"^[bcdlps-][rwxsStT-]{9}[+@.]?\s+\d+\s+\S+\s+\S+\s+(?P<flags>[a-z][a-z,]*|-)\s+\d[\d,]*\s+(?P<rest>.+)$"
)
# -rwxr-xr-x  1 root  wheel  uchg 3145728 Aug  4 10:11 org.example.app.extension
_STALE = frozenset({"staged-missing", "staged-stale", "staged-cdhash", "staged-version"})


class StagedCopyWrong(ProductFailure):
    """macOS runs another copy of the extension than the one that was installed."""


@dataclass(frozen=True)
class StagedProblem:
    """Something about the staged copy that is not as it should be.

    Attributes:
        code: `staged-missing`, `staged-stale` (another build), `staged-cdhash` (the same build, signed anew),
            `staged-version`, `staged-damaged` (its signature or files), `staged-immutable` (flags that keep it from being
            removed), `staged-unread` (it could not be looked at).
        where: The guest path.
        what: What was expected and seen.
    """

    code: str
    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.code}: {self.what} ({self.where})"


@dataclass(frozen=True)
class StagedCopy:
    """What was found.

    Attributes:
        path: The guest path; "" when db.plist names no copy of that version.
        how: `database` (its list of cdhashes) or `files` (the copy itself, fetched and read).
        installed: Architecture to (build UUID, cdhash) of what was installed.
        staged: Likewise of the copy; only cdhashes, without architecture, from the database.
        problems: What is wrong.
    """

    path: str
    how: str
    installed: dict[str, tuple[str, str]]
    staged: dict[str, tuple[str, str]]
    problems: tuple[StagedProblem, ...]

    @property
    def stale(self) -> bool:
        """Another copy runs than the one installed."""
        return any(problem.code in _STALE for problem in self.problems)

    def describe(self) -> str:
        """One line."""
        return "; ".join(str(problem) for problem in self.problems) or "the staged copy is what was installed"

    def as_dict(self) -> dict[str, Any]:
        """For the case file."""
        return asdict(self)


def check_staged(
    guest: Guest, extension: SystemExtensionBundle, *, deadline: Deadline, files: bool = False
) -> StagedCopy:
    """Compare the staged copy of an installed extension with the extension on this host.

    Args:
        guest: The Mac.
        extension: What was installed.
        deadline: For all of it.
        files: Fetch the copy and read it, also where db.plist already tells the right cdhashes.

    Raises:
        SysextError: The Mac does not answer.
    """
    installed = {part.arch: (part.uuid, part.cdhash) for part in extension.executable.slices}
    with events.step("staged copy", extension=extension.identifier, files=files) as step:
        entry = _entry(guest, extension, deadline)
        if entry is None or not re.fullmatch(r"[0-9A-Fa-f-]{36}", entry.unique_id):
            seen = f"db.plist has no copy of {extension.short}/{extension.build}"
            found = StagedCopy("", "database", installed, {}, (StagedProblem("staged-missing", DATABASE, seen),))
        else:
            found = _compared(guest, extension, entry, installed, deadline, files=files)
        step.note(how=found.how, found=found.describe())
    for problem in found.problems:
        events.event("staged-copy", code=problem.code, where=problem.where, what=problem.what)
    return found


def expect_staged(guest: Guest, extension: SystemExtensionBundle, *, deadline: Deadline) -> StagedCopy:
    """The staged copy is the installed one.

    Raises:
        StagedCopyWrong: It is another one. Flags and the like are events only.
    """
    found = check_staged(guest, extension, deadline=deadline)
    if found.stale:
        raise StagedCopyWrong(
            f"macOS on {guest.name} to run the {extension.identifier} that was installed",
            seen=found.describe(),
            hint="was its version raised? `sysext preflight NEW --previous OLD` judges the upgrade; a restart, or removing "
            "the app first, replaces the copy",
        )
    return found


def _entry(guest: Guest, extension: SystemExtensionBundle, deadline: Deadline) -> DatabaseExtension | None:
    result = guest.run(["cat", DATABASE], deadline=deadline, check=False)
    if result.exit_code != 0:
        return None
    entries = parse_database(result.stdout).of(extension.identifier)
    same = [entry for entry in entries if (entry.short, entry.build) == (extension.short, extension.build)]
    return next((entry for entry in same if entry.state.startswith("activated")), same[0] if same else None)


def _compared(
    guest: Guest,
    extension: SystemExtensionBundle,
    entry: DatabaseExtension,
    installed: dict[str, tuple[str, str]],
    deadline: Deadline,
    *,
    files: bool,
) -> StagedCopy:
    path = f"{FOLDER}/{entry.unique_id}/{extension.identifier}{extension.path.suffix}"
    told = {piece.cdhash.lower() for piece in entry.staged_cdhashes if piece.cdhash}
    problems = list(_flags(guest, path, deadline))
    if any(problem.code == "staged-missing" for problem in problems):
        return StagedCopy(path, "database", installed, {}, tuple(problems))
    ours = {cdhash.lower() for _, cdhash in installed.values()}
    if told and told <= ours and not files:
        staged = {f"slice {number}": ("", cdhash) for number, cdhash in enumerate(sorted(told), 1)}
        return StagedCopy(path, "database", installed, staged, tuple(problems))
    item, more = _fetched(guest, path, deadline)
    problems += more
    staged = {part.arch: (part.uuid, part.cdhash) for part in item.slices} if item is not None else {}
    if item is not None:
        problems += _differences(path, extension, item, installed, staged)
    return StagedCopy(path, "files", installed, staged, tuple(problems[:MOST_PROBLEMS]))


def _flags(guest: Guest, path: str, deadline: Deadline) -> Iterator[StagedProblem]:
    """Immutable flags anywhere in it (`ls -lO`), and whether it is there at all."""
    listed = guest.run(["ls", "-lOR", path], deadline=deadline, check=False, sudo=True)
    if listed.exit_code != 0 and b"No such file" in listed.stderr:
        yield StagedProblem("staged-missing", path, "db.plist names this copy, and it is not there")
        return
    found = list(parse_flags(listed.text, path))
    for place, flags in found[:10]:
        yield StagedProblem("staged-immutable", place, f"flags {flags}: sysextd cannot remove it later")


def parse_flags(text: str, top: str) -> Iterator[tuple[str, str]]:
    """The immutable and append-only entries of an `ls -lOR`: (path, flags). Lines that are none of its rows are left out."""
    folder = top
    for line in text.splitlines():
        if line.startswith("/") and line.endswith(":"):
            folder = line[:-1]
            continue
        row = _ROW.match(line)
        if row is None or not _IMMOVABLE & set(row["flags"].split(",")):
            continue
        # The date is three words, in every language of ls; a name may hold blanks.
        words = row["rest"].split(None, 3)
        name = words[3].split(" -> ")[0] if len(words) == 4 else words[-1]
        yield f"{folder}/{name}", row["flags"]


def _fetched(guest: Guest, path: str, deadline: Deadline) -> tuple[CodeItem | None, list[StagedProblem]]:
    with tempfile.TemporaryDirectory(prefix="sysext-staged-") as room:
        local = Path(room) / path.rpartition("/")[2]
        try:
            guest.get_tree(path, local, deadline=deadline, sudo=True, max_bytes=MOST_BYTES)
            seen = inspect_app(local)
        except SysextError as error:
            return None, [StagedProblem("staged-unread", path, str(error).replace("\n", " ")[:500])]
    broken = ("page-hash", "slot-", "resource-", "cms-signature", "cms-cdhash", "signature-", "unsigned", "executable-")
    damage = [
        StagedProblem("staged-damaged", f"{path}/{problem.where}", problem.what)
        for problem in seen.problems
        if problem.code.startswith(broken)
    ]
    return seen.app, damage[:10]


def _differences(
    path: str,
    extension: SystemExtensionBundle,
    item: CodeItem,
    installed: dict[str, tuple[str, str]],
    staged: dict[str, tuple[str, str]],
) -> Iterator[StagedProblem]:
    if (item.version, item.build) != (extension.short, extension.build):
        what = f"it is {item.version}/{item.build}, installed was {extension.short}/{extension.build}"
        yield StagedProblem("staged-version", path, what)
    for arch, (uuid, cdhash) in installed.items():
        if arch not in staged:
            yield StagedProblem("staged-stale", path, f"it has no {arch}, what was installed has")
        elif staged[arch][0] != uuid:
            yield StagedProblem("staged-stale", path, f"{arch}: build UUID {staged[arch][0]}, installed was {uuid}")
        elif staged[arch][1] != cdhash:
            what = f"{arch}: cdhash {staged[arch][1] or '(unsigned)'}, installed was {cdhash or '(unsigned)'}"
            yield StagedProblem("staged-cdhash", path, what)
