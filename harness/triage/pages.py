"""The catalog for people: one cause as text (`--explain`), all of them as a page (docs/causes.md)."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from harness.triage.catalog import Catalog, Cause, Sign

_ROLES = {"decisive": "decisive", "complaint": "decisive in an excerpt", "supporting": "supporting"}


def cause_text(cause: Cause) -> str:
    """One cause, 100 columns wide."""
    lines = [f"{cause.id}: {cause.title}", ""]
    lines += textwrap.wrap(cause.meaning, 100)
    lines += [
        "",
        f"phase {cause.phase} · {cause.severity} · owner: {cause.owner} · known from: {cause.confidence}",
        "",
        "Signs",
    ]
    for sign in cause.signs:
        lines += textwrap.wrap(
            f"{_ROLES[sign.role]}: {_said(sign)}", 100, initial_indent="  ", subsequent_indent="    "
        )
    if cause.herrings:
        lines += ["", "Not to be mistaken for it"]
        for herring in cause.herrings:
            lines += textwrap.wrap(herring, 100, initial_indent="  ", subsequent_indent="    ")
    if cause.outranks:
        lines += ["", *textwrap.wrap(f"Comes before: {', '.join(cause.outranks)}", 100)]
    lines += ["", *textwrap.wrap(f"What to do: {cause.remedy}", 100)]
    if cause.references:
        lines += ["", *textwrap.wrap(f"See: {'; '.join(cause.references)}", 100)]
    return "\n".join(lines)


def causes_page(catalog: Catalog) -> str:
    """All causes as Markdown, by phase."""
    return "\n".join(_page(catalog)) + "\n"


def _page(catalog: Catalog) -> Iterator[str]:
    yield "| code | what it is | severity | owner |"
    yield "|---|---|---|---|"
    for cause in catalog.causes.values():
        yield f"| [`{cause.id}`](#{cause.id}) | {_cell(cause.title)} | {cause.severity} | {cause.owner} |"
    phase = ""
    for cause in catalog.causes.values():
        if cause.phase != phase:
            phase = cause.phase
            yield f"\n## {phase.replace('-', ' ').capitalize()}"
        yield f"\n### {cause.id}\n"
        yield f"**{_text(cause.title)}.** {_text(cause.meaning)}\n"
        yield f"{_text(cause.remedy)}\n"
        yield f"*{cause.severity}; owner: {cause.owner}; known from: {cause.confidence}; {len(cause.signs)} signs*"
        if cause.herrings:
            yield f"\nNot to be mistaken for it: {_text('; '.join(cause.herrings))}."
        if cause.outranks:
            yield f"\nComes before: {', '.join(f'`{code}`' for code in cause.outranks)}."
        if cause.references:
            yield f"\nSee: {_text('; '.join(cause.references))}."


def _said(sign: Sign) -> str:
    what = {"fact": "it follows that: ", "request-error": "OSSystemExtensionErrorDomain "}.get(sign.match, "")
    return ("the harness saw: " if "observed" in sign.only else "") + what + sign.text


def _cell(text: str) -> str:
    return _text(text).replace("|", "\\|")


def _text(text: str) -> str:
    return text.replace("<", "&lt;").replace("*", "\\*")
