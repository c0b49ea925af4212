"""Every upgrade between the releases of an app file, as a table: what was raised, what changed, what stayed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from harness.bundles.facts import CodeItem
from harness.bundles.preflight.common import (
    entitlements_of,
    groups_of,
    mach_service_of,
    macos_of,
    team_of,
    version_parts,
)
from harness.bundles.preflight.engine import Release, Report, Terms, judge
from harness.bundles.preflight.output import WIDTH, Paint, plain, tame
from harness.bundles.preflight.pairs import code_changed, uuids
from harness.bundles.preflight.rules import Upgrade

_LEGEND = """\
version: of the extension. build: its build UUIDs, per slice where they differ; app: the app's.
code: the extension's cdhashes. tm team, id identifiers, en entitlements, gr app groups,
ms mach service, os minimum macOS: = the same, x another. E errors, W warnings about the upgrade."""


@dataclass(frozen=True)
class Row:
    """One upgrade.

    Attributes:
        old: The release it starts from.
        new: The release it leads to.
        old_version: Of the extension: `1.0 (1)`.
        new_version: Likewise.
        version: `raised`, `short only`, `build only`, `same`, `lower`; "" where there is no common extension.
        builds: Build UUIDs of the extension's slices: architecture to `new`, `same`, `added` or `gone`.
        app_builds: Those of the app.
        code: The extension's cdhashes differ.
        app_code: The app's do.
        same: Whether team, identifiers, entitlements, groups, mach service and minimum OS are the same.
        report: What the rules found.
    """

    old: str
    new: str
    old_version: str
    new_version: str
    version: str
    builds: dict[str, str]
    app_builds: dict[str, str]
    code: bool
    app_code: bool
    same: dict[str, bool]
    report: Report

    def own(self, severity: str) -> int:
        """Findings of upgrade rules of that severity; those of the release alone are not counted."""
        return sum(f.severity == severity and f.rule.about == "upgrade" for f in self.report.findings)

    def as_dict(self) -> dict[str, Any]:
        """For JSON; the keys are stable."""
        return {
            "from": self.old,
            "to": self.new,
            "from_version": self.old_version,
            "to_version": self.new_version,
            "version": self.version,
            "build_uuids": self.builds,
            "app_build_uuids": self.app_builds,
            "cdhash_changed": self.code,
            "app_cdhash_changed": self.app_code,
            **{f"same_{key}": value for key, value in self.same.items()},
            "errors": self.own("error"),
            "warnings": self.own("warning"),
            "findings": [finding.as_dict() for finding in self.report.findings if finding.rule.about == "upgrade"],
        }


SAME = ("team", "identifiers", "entitlements", "groups", "mach_service", "minimum_os")
_SHORT = ("tm", "id", "en", "gr", "ms", "os")


def matrix(releases: Sequence[Release], *, adjacent: bool = False, terms: Terms | None = None) -> list[Row]:
    """Judge each upgrade from an earlier release to a later one, as they are listed; `adjacent`: only to the next."""
    return [
        row(releases[first], releases[second], terms=terms)
        for first in range(len(releases))
        for second in range(first + 1, first + 2 if adjacent else len(releases))
        if second < len(releases)
    ]


def row(old: Release, new: Release, *, terms: Terms | None = None) -> Row:
    """Judge one upgrade."""
    upgrade = Upgrade(old.seen, new.seen)
    extensions = list(upgrade.extensions())
    pairs = list(upgrade.pairs())
    before, after = extensions[0] if extensions else (None, None)
    same = {
        "team": all(team_of(one) == team_of(two) for one, two in pairs),
        "identifiers": old.seen.app.bundle_id == new.seen.app.bundle_id
        and {item.bundle_id for item in old.seen.extensions} == {item.bundle_id for item in new.seen.extensions},
        "entitlements": all(entitlements_of(one) == entitlements_of(two) for one, two in pairs),
        "groups": all(set(groups_of(one)) == set(groups_of(two)) for one, two in pairs),
        "mach_service": all(mach_service_of(one) == mach_service_of(two) for one, two in pairs),
        "minimum_os": all(_minimum(one) == _minimum(two) for one, two in pairs),
    }
    return Row(
        old=old.name,
        new=new.name,
        old_version=f"{before.version} ({before.build})" if before is not None else "",
        new_version=f"{after.version} ({after.build})" if after is not None else "",
        version=_raised(before, after) if before is not None and after is not None else "",
        builds=_builds(before, after) if before is not None and after is not None else {},
        app_builds=_builds(old.seen.app, new.seen.app),
        code=before is not None and after is not None and code_changed(before, after),
        app_code=code_changed(old.seen.app, new.seen.app),
        same=same,
        report=judge(new, old, terms=terms),
    )


def _minimum(item: CodeItem) -> list[tuple[str, tuple[int, ...]]]:
    return sorted((part.arch, macos_of(part)) for part in item.slices)


def _raised(old: CodeItem, new: CodeItem) -> str:
    if (old.version, old.build) == (new.version, new.build):
        return "same"
    before = (version_parts(old.version), version_parts(old.build))
    after = (version_parts(new.version), version_parts(new.build))
    if after < before:
        return "lower"
    if old.version == new.version:
        return "build only"
    return "short only" if old.build == new.build else "raised"


def _builds(old: CodeItem, new: CodeItem) -> dict[str, str]:
    same, other = uuids(old, new)
    told = dict.fromkeys(same, "same") | dict.fromkeys(other, "new")
    told |= {arch: "added" for arch in new.archs if arch not in old.archs}
    told |= {arch: "gone" for arch in old.archs if arch not in new.archs}
    return dict(sorted(told.items()))


def _told(builds: dict[str, str]) -> str:
    """`new` or `same` where all are; else those that are not the same."""
    kinds = set(builds.values())
    if len(kinds) == 1:
        return kinds.pop()
    return ", ".join(f"{arch} {kind}" for arch, kind in builds.items() if kind != "same") or "-"


def _cells(one: Row) -> tuple[str, ...]:
    return (
        tame(one.old),
        tame(one.new),
        one.version or "-",
        _told(one.builds),
        _told(one.app_builds),
        "new" if one.code else "same",
        *("=" if one.same[key] else "x" for key in SAME),
        str(one.own("error") or "-"),
        str(one.own("warning") or "-"),
    )


_HEADINGS = ("from", "to", "version", "build", "app", "code", *_SHORT, "E", "W")


def as_text(rows: Sequence[Row], paint: Paint = plain) -> str:
    """The table, at most 100 columns."""
    return "\n".join(_table(rows, paint)) + "\n"


def _table(rows: Sequence[Row], paint: Paint) -> Iterator[str]:
    if not rows:
        yield "no upgrade to judge: the app file lists one release"
        return
    cells = [tuple(_cut(cell, 18) for cell in _cells(one)) for one in rows]
    widths = [max(len(line[column]) for line in [_HEADINGS, *cells]) for column in range(len(_HEADINGS))]
    yield paint(_line(_HEADINGS, widths), "strong")
    for one, line in zip(rows, cells, strict=True):
        style = "error" if one.own("error") else "warning" if one.own("warning") else "good"
        yield paint(_line(line, widths), style)
    yield ""
    yield from _LEGEND.splitlines()


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()[:WIDTH]


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


def as_markdown(rows: Sequence[Row]) -> str:
    """The table for a page."""
    headings = ("from", "to", "version", "extension's build", "app's build", "code", *SAME, "errors", "warnings")
    lines = [f"| {' | '.join(headings)} |", f"|{'---|' * len(headings)}"]
    for one in rows:
        cells = list(_cells(one))
        cells[2] = (
            f"{cells[2]}: {tame(one.old_version)} → {tame(one.new_version)}"
            if one.version not in ("", "same")
            else cells[2]
        )
        cells[6:12] = ["same" if one.same[key] else "**other**" for key in SAME]
        cells[12] = ", ".join(sorted({f"`{f.rule.id}`" for f in one.report.errors if f.rule.about == "upgrade"})) or "–"
        cells[13] = str(one.own("warning") or "–")
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines)
