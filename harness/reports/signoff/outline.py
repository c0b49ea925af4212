"""What a sign-off says, as blocks; Markdown, HTML and PDF only write them down."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from harness.reports.signoff.deciding import TERMS, Decided, Part, bound, exact
from harness.reports.signoff.document import SignOff
from harness.reports.signoff.evidence import Build, Run, moment

MOST_RUNS = 500
"""Counted runs that a report lists; all are in the JSON."""
Tone = Literal["plain", "good", "bad", "unsure", "waived", "warning", "quiet"]
TONES: dict[str, Tone] = {"met": "good", "not met": "bad", "not enough data": "unsure", "waived": "waived"}


@dataclass(frozen=True)
class Cell:
    """Text in a table or a paragraph.

    Attributes:
        link: Where it leads; "" for nowhere.
    """

    text: str
    link: str = ""
    tone: Tone = "plain"


@dataclass(frozen=True)
class Heading:
    """Level 1 is the title."""

    level: int
    text: str


@dataclass(frozen=True)
class Paragraph:
    """One paragraph."""

    cells: tuple[Cell, ...]
    tone: Tone = "plain"


@dataclass(frozen=True)
class Bullets:
    """A list."""

    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Table:
    """Rows under a head.

    Attributes:
        widths: How wide the columns are to each other.
    """

    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    widths: tuple[float, ...]


Block = Heading | Paragraph | Bullets | Table


def outline(signed: SignOff) -> Iterator[Block]:
    """The report, from top to bottom."""
    evidence, decision = signed.evidence, signed.decision
    what = "Rehearsal of a sign-off" if evidence.rehearsal else "Sign-off"
    yield Heading(1, f"{what}: {evidence.app} {evidence.release}")
    if evidence.config.name:
        yield _paragraph(evidence.config.name)
    yield _paragraph(decision.headline, "good" if decision.signed_off else "bad")
    if evidence.rehearsal:
        yield _paragraph(
            "Runs on simulated Macs were looked at as if they were real, to see what this page would say. It signs nothing off.",
            "warning",
        )
    yield _paragraph(f"As of {_time(evidence.as_of)}. Made by sysext-harness {signed.program}.")
    yield Table(
        ("item", "", "status", "what was found"),
        tuple(
            (Cell(item.id), Cell(item.title), Cell(item.status, tone=TONES[item.status]), Cell(item.says))
            for item in decision.items
        ),
        (2.2, 2.4, 1.4, 4),
    )
    for item in decision.items:
        yield from _item(item, evidence.config.case_link)
    yield Heading(2, "The build")
    yield Table(
        ("part", "identifier and version", "architecture", "cdhash and UUID"),
        tuple(row for build in evidence.builds for row in _build(build)),
        (1, 3.2, 1.1, 4.7),
    )
    yield Heading(2, "How runs count")
    yield Bullets(tuple(Cell(text) for text in (*TERMS, decision.statistics)))
    yield from _runs(decision.counted, evidence.config.case_link)
    yield Heading(2, "Digest")
    yield _paragraph(
        f"SHA-256 over the evidence (runs, builds, findings and signoff.toml; sysext signoff --verify recomputes it from the "
        f"JSON): {signed.digest}"
    )


def _item(item: Decided, link: str) -> Iterator[Block]:
    yield Heading(2, f"{item.id}: {item.title}" if item.title else item.id)
    yield Paragraph((Cell(item.status, tone=TONES[item.status]), Cell(f": {item.says}")))
    yield _paragraph(f"Demanded: {item.demands}.")
    if item.waiver:
        held = f"Waived (otherwise: {item.instead}). " if item.status == "waived" else "Waiver "
        yield _paragraph(f"{held}{item.waiver}", "waived" if item.status == "waived" else "warning")
    for warning in item.warnings:
        yield _paragraph(f"Look at this: {warning}", "warning")
    if item.link:
        yield Paragraph((Cell("Evidence: "), Cell(item.link, item.link)))
    if item.details:
        yield Bullets(tuple(Cell(text) for text in item.details))
    if item.parts:
        yield Table(
            ("what", "failed", "rate is below", "status", "runs missing"),
            tuple(_part(part) for part in item.parts),
            (4.5, 1.2, 1.8, 1.6, 1.2),
        )
    if item.excluded:
        yield _paragraph("Left out:")
        lines = [f"{runs} run{'' if runs == 1 else 's'} {reason}" for reason, runs in item.excluded[:40]]
        if len(item.excluded) > 40:
            lines.append(f"{sum(runs for _, runs in item.excluded[40:])} runs for other reasons; all are in the JSON")
        yield Bullets(tuple(Cell(line) for line in lines))
    if item.failing:
        yield _paragraph("Failures:")
        yield Bullets(
            tuple(
                Cell(
                    f"{_time(one.started)} {one.scenario} on macOS {one.macos}: {one.cause or 'no cause named'}"
                    + (f" ({one.known_issue})" if one.known_issue else ""),
                    case_link(link, one.run, one.case),
                )
                for one in item.failing
            )
        )


def _part(part: Part) -> tuple[Cell, ...]:
    upper = f"{bound(part.upper)} at {exact(part.confidence)}" if part.upper is not None else ""
    known = f", {part.known} known" if part.known else ""
    return (
        Cell(part.name),
        Cell(f"{part.failures}/{part.runs}{known}"),
        Cell(upper),
        Cell(part.status, tone=TONES[part.status]),
        Cell(str(part.runs_missing) if part.runs_missing else ""),
    )


def _build(build: Build) -> Iterator[tuple[Cell, ...]]:
    for arch in sorted({*build.cdhashes, *build.uuids}):
        yield (
            Cell(build.part),
            Cell(f"{build.identifier} {build.version}"),
            Cell(arch),
            Cell(f"{build.cdhashes.get(arch, 'not signed')} {build.uuids.get(arch, 'no UUID')}"),
        )


def _runs(runs: tuple[Run, ...], link: str) -> Iterator[Block]:
    yield Heading(2, "Runs that count")
    if not runs:
        yield _paragraph("None.")
        return
    if len(runs) > MOST_RUNS:
        yield _paragraph(f"The last {MOST_RUNS} of {len(runs)}; all are in the JSON.")
    yield Table(
        ("started (UTC)", "scenario", "macOS", "outcome", "host", "case file"),
        tuple(
            (
                Cell(_time(run.started)),
                Cell(run.scenario),
                Cell(run.macos),
                Cell(run.verdict, tone="bad" if run.failed else "plain"),
                Cell(run.host),
                Cell(f"{run.run}/{run.case}", case_link(link, run.run, run.case)),
            )
            for run in runs[-MOST_RUNS:]
        ),
        (1.8, 2.6, 0.8, 1.5, 1.2, 3.1),
    )


def case_link(template: str, run: str, case: str) -> str:
    """Where a case file is; names of runs and cases are letters, digits, dots and dashes, anything else is taken out."""
    if not template:
        return ""
    return template.replace("{run}", _safe(run)).replace("{case}", _safe(case))


def _safe(name: str) -> str:
    kept = "".join(char if (char.isascii() and char.isalnum()) or char in "-._" else "-" for char in name)
    return kept if kept.strip(".") else "-"


def _paragraph(text: str, tone: Tone = "plain") -> Paragraph:
    return Paragraph((Cell(text),), tone)


def _time(text: str) -> str:
    """An ISO time as people read it, in UTC."""
    return moment(text).isoformat()[:16].replace("T", " ")
