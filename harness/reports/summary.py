"""The table at the end of a run: for a terminal, as plain text, and as the Markdown of a GitHub job summary."""

from __future__ import annotations

import html
import io
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.errors import Verdict
from harness.reports.result import CaseResult, final_attempts

SIMULATED_NOTE = "SIMULATED: no real Mac took part; this says nothing about a release and cannot sign one off."
_PREFLIGHT = ("error", "warning")
_PREFLIGHT_MOST = 12
_GITHUB_MOST = 1024 * 1024
"""Bytes of job summary that GitHub keeps per step (its documentation of GITHUB_STEP_SUMMARY); more fails the upload."""
_ORDER = (
    "passed",
    "flaky",
    Verdict.PRODUCT_FAILURE.value,
    Verdict.ENVIRONMENT_FAILURE.value,
    Verdict.HARNESS_ERROR.value,
    Verdict.KNOWN_ISSUE.value,
    Verdict.SKIPPED.value,
)
_STYLES = {
    "passed": "green",
    "flaky": "yellow",
    "product-failure": "bold red",
    "environment-failure": "magenta",
    "harness-error": "bold magenta",
    "known-issue": "yellow",
    "skipped": "dim",
}
_MARKS = {
    "passed": "✅",
    "flaky": "🟡",
    "product-failure": "❌",
    "environment-failure": "🟣",
    "harness-error": "🟣",
    "known-issue": "🟡",
    "skipped": "⚪",
}
_HEADINGS = ("scenario", "macOS", "verdict", "cause", "prompt appeared", "approvable", "seconds", "tries")


@dataclass(frozen=True)
class Row:
    """One line of the table: the last attempt of a scenario on a macOS, and how many there were."""

    result: CaseResult
    attempts: int

    @property
    def cells(self) -> tuple[str, ...]:
        """As text, one per heading."""
        result = self.result
        macos = f"{result.macos} SIMULATED" if result.simulated else result.macos
        if result.lane != "pristine":
            macos += f" ({result.lane})"
        return (
            result.scenario,
            macos,
            result.label,
            result.cause or "–",
            _answer(result.prompt_appeared),
            _answer(result.approvable),
            f"{result.seconds:.1f}",
            str(self.attempts),
        )


@dataclass(frozen=True)
class Summary:
    """What a run came to. Made by `summarise`.

    Attributes:
        rows: One per scenario and macOS, in reading order.
        environment_failures: Attempts that the environment broke, also those a rerun made good: counted apart.
    """

    rows: Sequence[Row]
    environment_failures: int

    @property
    def counts(self) -> dict[str, int]:
        """How many rows per label ("flaky" apart from "passed"), only those that occur."""
        seen = Counter(row.result.label for row in self.rows)
        return {label: seen[label] for label in _ORDER if seen[label]}

    @property
    def simulated(self) -> bool:
        """At least one row is not from a real Mac."""
        return any(row.result.simulated for row in self.rows)

    @property
    def green(self) -> bool:
        """Something ran and nothing failed. Flaky is not red, but it is not called passed either."""
        return any(row.result.label in ("passed", "flaky") for row in self.rows) and not any(
            row.result.failed for row in self.rows
        )

    @property
    def headline(self) -> str:
        """One line: counts, and what they must not be taken for."""
        if not self.rows:
            return "no scenario ran"
        parts = [f"{count} {label}" for label, count in self.counts.items()]
        if self.environment_failures:
            parts.append(f"{self.environment_failures} broken by the environment on the way")
        return ", ".join(parts)

    def preflight(self) -> list[str]:
        """What the files of the releases showed, errors first, each finding once; notes are left out."""
        found: dict[str, int] = {}
        for row in self.rows:
            for one in row.result.preflight:
                severity = one.get("severity", "")
                if severity not in _PREFLIGHT:
                    continue
                place = f" {one['where']}:" if one.get("where") else ""
                text = f"preflight {severity} {one.get('rule', '')} ({one.get('release', '')}):{place} {one.get('what', '')}"
                found[text] = _PREFLIGHT.index(severity)
        lines = sorted(found, key=lambda text: found[text])
        more = len(lines) - _PREFLIGHT_MOST
        return lines if more <= 0 else [*lines[:_PREFLIGHT_MOST], f"preflight: and {more} more (result.json has them)"]

    @property
    def columns(self) -> list[int]:
        """Which columns are shown: the cause only where there is one."""
        caused = any(row.result.cause for row in self.rows)
        return [place for place, heading in enumerate(_HEADINGS) if caused or heading != "cause"]

    def table(self) -> Table:
        """For a terminal."""
        table = Table(title="scenarios" + (" on SIMULATED Macs" if self.simulated else ""), title_justify="left")
        headings = [_HEADINGS[place] for place in self.columns]
        for heading in headings:
            justify: Literal["left", "right"] = "right" if heading in ("seconds", "tries") else "left"
            table.add_column(heading, justify=justify, overflow="fold", no_wrap=heading == "verdict")
        for row in self.rows:
            style = _STYLES[row.result.label]
            cells = (
                Text(_one_line(row.cells[place]), style=style if _HEADINGS[place] == "verdict" else "")
                for place in self.columns
            )
            table.add_row(*cells)
        return table

    def text(self, width: int = 120) -> str:
        """Plain text, with the reasons of what failed below the table."""
        sink = io.StringIO()
        console = Console(file=sink, width=width, color_system=None, force_terminal=False, legacy_windows=False)
        if self.rows:
            console.print(self.table())
        for row in self.rows:
            if row.result.failed:
                console.print(Text(_one_line(f"{row.result.scenario} on macOS {row.result.macos}: {row.result.label}")))
                for line in [*_lines(row.result.error)[:12], *_reasons(row.result)]:
                    console.print(Text("    " + line))
                if row.result.case:
                    console.print(Text(f"    case file: {_one_line(row.result.case)}"))
            elif row.result.known_issue or row.result.notes:
                console.print(Text(_one_line(f"{row.result.scenario} on macOS {row.result.macos}: {row.result.label}")))
                for line in _reasons(row.result):
                    console.print(Text("    " + line))
        for line in self.preflight():
            console.print(Text(_one_line(line)))
        console.print(Text(self.headline))
        if self.simulated:
            console.print(Text(SIMULATED_NOTE))
        return "\n".join(line.rstrip() for line in sink.getvalue().splitlines()) + "\n"

    def markdown(self) -> str:
        """GitHub's Markdown. Texts from a Mac are shown as they are, never as markup."""
        lines = ["## Scenarios" + (" on SIMULATED Macs" if self.simulated else ""), "", _escape(self.headline), ""]
        if self.simulated:
            lines += [f"> **{SIMULATED_NOTE}**", ""]
        if self.rows:
            lines.append("| " + " | ".join(_HEADINGS[place] for place in self.columns) + " |")
            lines.append("|" + "|".join(" --- " for _ in self.columns) + "|")
            for row in self.rows:
                cells = [_escape(row.cells[place]) for place in self.columns]
                cells[2] = f"{_MARKS[row.result.label]} {cells[2]}"
                lines.append("| " + " | ".join(cells) + " |")
        for row in self.rows:
            if row.result.failed:
                title = f"{row.result.scenario} on macOS {row.result.macos}: {row.result.label}"
                lines += [
                    "",
                    f"<details><summary>{_escape(title)}</summary>",
                    "",
                    f"<pre>{html.escape(chr(10).join([*_lines(row.result.error), *_reasons(row.result)]))}</pre>",
                ]
                if row.result.case:
                    lines.append(f"case file: <code>{html.escape(_one_line(row.result.case))}</code>")
                lines += ["", "</details>"]
            elif row.result.known_issue or row.result.notes:
                title = f"{row.result.scenario} on macOS {row.result.macos}: {row.result.label}, with notes"
                said = html.escape(chr(10).join(_reasons(row.result)))
                lines += [
                    "",
                    f"<details><summary>{_escape(title)}</summary>",
                    "",
                    f"<pre>{said}</pre>",
                    "",
                    "</details>",
                ]
        if told := self.preflight():
            body = html.escape("\n".join(_one_line(line) for line in told))
            lines += ["", "<details><summary>Preflight</summary>", "", f"<pre>{body}</pre>", "", "</details>"]
        return "\n".join(lines) + "\n"


def summarise(results: Iterable[CaseResult]) -> Summary:
    """The rows of a run from all its results, reruns folded into one row each."""
    everything = list(results)
    rows = [Row(last, 1 + len(earlier)) for last, earlier in final_attempts(everything)]
    rows.sort(key=lambda row: (row.result.nodeid, _macos_order(row.result.macos), row.result.lane, row.result.release))
    broken = sum(
        1 for _, earlier in final_attempts(everything) for one in earlier if one.verdict is Verdict.ENVIRONMENT_FAILURE
    )
    return Summary(rows=tuple(rows), environment_failures=broken)


def write_github_summary(summary: Summary, environ: Mapping[str, str] | None = None) -> Path | None:
    """Add the summary to the job's page when GitHub Actions runs us; returns where to, None outside of it.

    A page that would pass GitHub's size limit is cut, and says so.
    """
    environ = os.environ if environ is None else environ
    target = environ.get("GITHUB_STEP_SUMMARY", "")
    if not target:
        return None
    path = Path(target)
    text = summary.markdown()
    room = _GITHUB_MOST - (path.stat().st_size if path.exists() else 0)
    encoded = text.encode()
    if len(encoded) > room:
        note = b"\n\n(cut: the page is full; see the artifacts)\n"
        kept = max(0, room - len(note))
        encoded = (encoded[:kept].decode(errors="ignore")).encode() + note if room > len(note) else b""
    with path.open("ab") as page:
        page.write(encoded)
    return path


def _answer(value: bool | None) -> str:  # noqa: FBT001 - the value itself is what is shown
    return "–" if value is None else "yes" if value else "NO"


def _one_line(text: str) -> str:
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def _lines(text: str) -> list[str]:
    """At most 4000 characters of it, line by line, without what would steer a terminal."""
    return ["".join(char if char.isprintable() else " " for char in line) for line in text[:4000].splitlines()]


def _escape(text: str) -> str:
    escaped = html.escape(_one_line(text), quote=False)
    for char in "\\`*_{}[]|~":
        escaped = escaped.replace(char, "\\" + char)
    return escaped


def _reasons(result: CaseResult) -> list[str]:
    """Why it ended so, and what else is worth telling; as `_lines`."""
    text = []
    if result.why is not None:
        text += ["why: " + result.why.headline, *result.why.lines()[1:]]
    return _lines("\n".join([*text, *([result.known_issue] if result.known_issue else []), *result.notes]))


def _macos_order(version: str) -> tuple[int, str]:
    return (int(version) if version.isdigit() else 0, version)
