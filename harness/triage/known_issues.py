"""Known issues: failures that somebody has seen, reported and dated, one TOML file each.

    scenario = "first activation*"     # wildcards (* ? [abc]); what is left out matches everything
    macos = "26"
    release = "0.11.*"
    lane = "pristine"
    cause = "approval-coalesced-*"     # the code that triage puts first
    text = "*OSSystemExtensionErrorDomain*4*"    # the failure's text, or a sign of that cause
    reason = "Reported to the vendor; the prompt is lost when the installer asks first."
    link = "https://example.com/issues/1"
    expires = 2026-12-31               # from the day after, the failure counts again
    expects = "sometimes"              # or "always": a pass is told

`cause` or `text` must be there: a scenario that fails for another reason is no known issue. Only product failures match; a broken
Mac or a mistake of the harness is never one.
"""

from __future__ import annotations

import difflib
import fnmatch
import re
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any, Final, Literal

from harness.errors import UsageError

MAX_BYTES: Final = 64 * 1024
MAX_FILES: Final = 2000
_PATTERNS: Final = ("scenario", "macos", "release", "lane", "cause", "text")
_KEYS: Final = (*_PATTERNS, "reason", "link", "expires", "expects")
_REQUIRED: Final = ("reason", "link", "expires")
Expects = Literal["always", "sometimes"]


@dataclass(frozen=True, kw_only=True)
class Failure:
    """What of a scenario run is compared with the files. All texts as they are in `result.json`.

    Attributes:
        cause: The code that triage puts first; "" if it names none.
        texts: The failure's text and the signs of that cause.
    """

    scenario: str
    macos: str
    release: str = ""
    lane: str = ""
    cause: str = ""
    texts: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Issue:
    """One file.

    Attributes:
        id: The file's name without `.toml`.
        patterns: Wildcards by key; a key that is not there matches everything.
        expires: The last day on which it counts.
        expects: `always`: a pass of such a scenario is worth telling.
    """

    id: str
    reason: str
    link: str
    expires: date
    expects: Expects = "sometimes"
    patterns: dict[str, str] = field(default_factory=dict)
    path: Path = Path()

    def expired(self, today: date) -> bool:
        """Whether its last day is over."""
        return today > self.expires

    def concerns(self, failure: Failure) -> bool:
        """Whether scenario, macOS, release and lane are those of the file (says nothing about how it ended)."""
        return all(self._fits(key, getattr(failure, key)) for key in ("scenario", "macos", "release", "lane"))

    def matches(self, failure: Failure) -> bool:
        """Whether the failure is this one."""
        if not self.concerns(failure) or not self._fits("cause", failure.cause):
            return False
        return "text" not in self.patterns or any(self._fits("text", text) for text in failure.texts)

    def _fits(self, key: str, value: str) -> bool:
        pattern = self.patterns.get(key)
        return pattern is None or _fits(pattern, value)

    def said(self) -> str:
        """For a report: why it is known, where, until when."""
        return f"known issue {self.id}: {self.reason} ({self.link}; until {self.expires})"


class KnownIssues:
    """All files of a run."""

    def __init__(self, issues: Iterable[Issue] = ()) -> None:
        self.issues = tuple(issues)

    def __len__(self) -> int:
        return len(self.issues)

    def match(self, failure: Failure, today: date) -> tuple[Issue | None, Issue | None]:
        """(the known issue that this failure is, one that would match but has expired); the former wins."""
        found = [issue for issue in self.issues if issue.matches(failure)]
        current = next((issue for issue in found if not issue.expired(today)), None)
        late = next((issue for issue in found if issue.expired(today)), None)
        return current, late if current is None else None

    def missed(self, passed: Failure, today: date) -> list[Issue]:
        """Issues that expect this scenario to fail always, while it passed."""
        return [
            issue
            for issue in self.issues
            if issue.expects == "always" and not issue.expired(today) and issue.concerns(passed)
        ]

    def expired(self, today: date) -> list[Issue]:
        """Those whose last day is over."""
        return [issue for issue in self.issues if issue.expired(today)]


def load_known_issues(paths: Iterable[Path], *, optional: Iterable[Path] = ()) -> KnownIssues:
    """Read files, and the `*.toml` of folders.

    Args:
        paths: Must be there.
        optional: May be absent.

    Raises:
        UsageError: A path is missing, or a file is not as described here; names the file and the key.
    """
    wanted = [path for path in optional if path.exists()]
    issues: dict[str, Issue] = {}
    for path in (*paths, *wanted):
        for file in _files(path):
            issue = read_issue(file)
            if issue.id in issues:
                raise UsageError(
                    "known issues with different file names",
                    seen=f"{file} and {issues[issue.id].path}",
                    hint="rename one",
                )
            issues[issue.id] = issue
    return KnownIssues(issues.values())


def read_issue(path: Path) -> Issue:
    """Read one file.

    Raises:
        UsageError: It is not as described here; names the key.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UsageError(f"a known issue in {path}", seen="more than 64 KiB", hint="one issue a file")
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"a known issue in {path}", seen=str(error), hint="see docs/known-issues.md") from error
    for key in data:
        if key not in _KEYS:
            near = difflib.get_close_matches(key, _KEYS, n=1, cutoff=0.5)
            hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(_KEYS)}"
            raise UsageError(f"a known key in {path}", seen=f"'{key}'", hint=hint)
    for key in _REQUIRED:
        if key not in data:
            raise _wrong(path, key, "missing", "an issue says why, where it is reported, and until when it counts")
    for key in (*_PATTERNS, "reason", "link"):
        if key in data and (not isinstance(data[key], str) or not data[key].strip()):
            raise _wrong(path, key, repr(data[key]), "a text that is not empty")
    if "cause" not in data and "text" not in data:
        raise _wrong(path, "cause", "neither 'cause' nor 'text'", "name how it fails, else it would excuse everything")
    for key in ("cause", "text"):
        if key in data and not data[key].strip("*? "):
            raise _wrong(path, key, repr(data[key]), "more than wildcards, else it would excuse everything")
    if not data["link"].startswith(("https://", "http://")):
        raise _wrong(path, "link", repr(data["link"]), "an address that begins with https://")
    if data.get("expects", "sometimes") not in ("always", "sometimes"):
        raise _wrong(path, "expects", repr(data["expects"]), '"always" or "sometimes"')
    return Issue(
        id=path.stem,
        reason=" ".join(data["reason"].split()),
        link=data["link"].strip(),
        expires=_day(path, data["expires"]),
        expects=data.get("expects", "sometimes"),
        patterns={key: data[key] for key in _PATTERNS if key in data},
        path=path,
    )


def _files(path: Path) -> list[Path]:
    try:
        if path.is_dir():
            files = sorted(file for file in path.glob("*.toml") if file.is_file())
            if len(files) > MAX_FILES:
                raise UsageError(
                    f"at most {MAX_FILES} known issues in {path}", seen=f"{len(files)}", hint="remove old ones"
                )
            return files
        if path.is_file():
            return [path]
    except OSError as error:
        raise UsageError(f"known issues at {path}", seen=str(error), hint="check the setting `known_issues`") from error
    raise UsageError(f"known issues at {path}", seen="no such file or folder", hint="check the setting `known_issues`")


def _day(path: Path, value: Any) -> date:
    if isinstance(value, datetime):
        return value.date()
    if isinstance(value, date):
        return value
    if isinstance(value, str):
        try:
            return date.fromisoformat(value.strip())
        except ValueError:
            pass
    raise _wrong(path, "expires", repr(value), "a day, as expires = 2026-12-31")


def _fits(pattern: str, value: str) -> bool:
    flat = " ".join(value.split()).casefold()
    # At each `*` the first place that fits is taken for good: as much as one needs, and no text can make it slow.
    parts = " ".join(pattern.split()).casefold().split("*")
    if len(parts) == 1:
        return _piece(parts[0]).fullmatch(flat) is not None
    first, *middle, last = parts
    place = 0
    if first:
        start = _piece(first).match(flat)
        if start is None:
            return False
        place = start.end()
    for part in middle:
        if part:
            found = _piece(part).search(flat, place)
            if found is None:
                return False
            place = found.end()
    if not last:
        return True
    width = _width(last)
    return len(flat) - width >= place and _piece(last).fullmatch(flat, len(flat) - width) is not None


def _piece(text: str) -> re.Pattern[str]:
    """A pattern without `*` as an expression of fixed width."""
    translated = fnmatch.translate(text)
    return re.compile(re.sub(r"\\[Zz]$", "", translated))


def _width(text: str) -> int:
    """How many characters a pattern without `*` takes: a set in brackets is one."""
    return len(re.sub(r"\[!?\]?[^\]]*\]", "?", text))


def _wrong(path: Path, key: str, seen: str, rule: str) -> UsageError:
    return UsageError(f"'{key}' in {path} to be right", seen=seen, hint=rule)
