"""The sign-off as a file that a program reads, and that anybody can check: `verify`.

    {"schema": 1, "kind": "sysext-signoff", "program", "release", "signed_off", "headline", "statistics", "terms", "items": […],
     "evidence": {…}, "digest": {"algorithm": "sha256", "over": "evidence", "value"}}

The digest is over the evidence as canonical JSON; items and headline follow from the evidence, and are decided anew when it is
verified. A digest shows that a file is whole, not who made it: whoever must know that signs the digest.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from harness import __version__
from harness.errors import UsageError
from harness.reports.signoff.config import from_dict
from harness.reports.signoff.deciding import TERMS, Decided, Decision, decide
from harness.reports.signoff.evidence import Build, Checked, Evidence, Run, digest, listed

SCHEMA: Final = 1
KIND: Final = "sysext-signoff"
MOST_BYTES: Final = 256 * 1024 * 1024
_T = TypeVar("_T")


@dataclass(frozen=True)
class SignOff:
    """Evidence, decision and digest."""

    evidence: Evidence
    decision: Decision
    digest: str
    program: str = __version__

    def as_dict(self) -> dict[str, Any]:
        """The document."""
        decision = self.decision
        return {
            "schema": SCHEMA,
            "kind": KIND,
            "program": self.program,
            "app": self.evidence.app,
            "release": self.evidence.release,
            "as_of": self.evidence.as_of,
            "rehearsal": self.evidence.rehearsal,
            "signed_off": decision.signed_off,
            "headline": decision.headline,
            "statistics": decision.statistics,
            "terms": list(TERMS),
            "items": [item_dict(item) for item in decision.items],
            "evidence": self.evidence.as_dict(),
            "digest": {"algorithm": "sha256", "over": "evidence", "value": self.digest},
        }


def sign_off(evidence: Evidence) -> SignOff:
    """Decide, and seal."""
    return SignOff(evidence, decide(evidence), digest(evidence.as_dict()))


def as_json(signed: SignOff) -> str:
    """The document as text."""
    return json.dumps(signed.as_dict(), indent=1, ensure_ascii=False) + "\n"


def item_dict(item: Decided) -> dict[str, Any]:
    """For JSON; the keys are stable."""
    data = asdict(item)
    data["excluded"] = [{"reason": reason, "runs": runs} for reason, runs in item.excluded]
    return {key: listed(value) for key, value in data.items()}


def read_document(path: Path) -> dict[str, Any]:
    """The document of a file.

    Raises:
        UsageError: It cannot be read, or is none.
    """
    try:
        with path.open("rb") as file:
            text = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise UsageError(f"a sign-off at {path}", seen=str(error), hint="check the path") from error
    if len(text) > MOST_BYTES:
        raise UsageError(f"a sign-off at {path}", seen="more than 256 MiB", hint="not one of ours")
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"JSON at {path}", seen=str(error)[:300], hint="give the .json of `sysext signoff --format json`"
        ) from error
    if not isinstance(data, dict) or data.get("kind") != KIND:
        raise UsageError(
            f"a sign-off at {path}",
            seen="another kind of file",
            hint="give the .json of `sysext signoff --format json`",
        )
    schema = data.get("schema")
    if schema != SCHEMA:
        raise UsageError(
            f"a sign-off of schema {SCHEMA} at {path}",
            seen=f"schema {str(schema)[:20]}",
            hint="verify it with the sysext-harness that wrote it (`program` says which)",
        )
    return data


@dataclass(frozen=True)
class Verified:
    """What `verify` found.

    Attributes:
        signed: The sign-off as it follows from the evidence in the file.
        problems: What is not as it must be; empty if the file is whole.
        checked: What was looked at, in words.
    """

    signed: SignOff
    problems: tuple[str, ...]
    checked: tuple[str, ...]


def verify(path: Path) -> Verified:
    """Check a document: its digest is that of its evidence, and its items are what that evidence shows.

    Raises:
        UsageError: It is no such document.
    """
    data = read_document(path)
    evidence = evidence_of(data.get("evidence"), origin=str(path))
    problems: list[str] = []
    stated = data.get("digest")
    value = stated.get("value") if isinstance(stated, dict) else None
    try:
        # Over the file's own words: what is unknown to this program and would be lost on the way is part of it, too.
        found = digest(data["evidence"])
        fresh = decide(evidence)
    except (ValueError, OverflowError, TypeError) as error:
        raise _damaged(str(path), str(error)) from error
    if found != value:
        problems.append(f"the digest is {str(value)[:80]}, the evidence has {found}: one of them was altered")
    if digest(evidence.as_dict()) != found:
        problems.append("the evidence says more than this program knows: not all of it was judged")
    signed = SignOff(evidence, fresh, found, program=str(data.get("program", "")))
    wanted = signed.as_dict()
    keys = ("app", "release", "as_of", "rehearsal", "signed_off", "headline", "statistics", "terms")
    problems += [
        f"'{key}' is {str(data.get(key))[:100]!r}, by the evidence it is {str(wanted[key])[:100]!r}"
        for key in keys
        if data.get(key) != wanted[key]
    ]
    problems += _items(data.get("items"), json.loads(json.dumps(wanted["items"])))
    if problems and signed.program != __version__:
        problems.append(
            f"it was written by sysext-harness {signed.program[:40]}, this is {__version__}: compare with that one"
        )
    checked = ("digest recomputed over the evidence", "every item decided anew from the evidence")
    return Verified(signed, tuple(problems), checked)


def against(
    signed: SignOff, *, rows: Iterable[dict[str, Any]] | None = None, builds: tuple[Build, ...] | None = None
) -> list[str]:
    """What differs between a document's evidence and the history, or the release's files, as they are now.

    Args:
        signed: What was verified.
        rows: The rows of its release as `History.runs` gives them; None leaves them out.
        builds: Of the release's files; None leaves them out.
    """
    from harness.reports.signoff.evidence import runs_of

    problems: list[str] = []
    if rows is not None:
        there = {run.id: run for run in runs_of(rows)}
        for run in signed.evidence.runs:
            now = there.get(run.id)
            if now is None:
                problems.append(f"the run {run.run}/{run.case} of {run.started} is not in the history")
            elif now != run:
                differing = [name for name in Run.__dataclass_fields__ if getattr(now, name) != getattr(run, name)]
                problems.append(f"the run {run.run}/{run.case} differs from the history in {', '.join(differing)}")
    if builds is not None and builds != signed.evidence.builds:
        problems.append("the release's files are of another build than the evidence")
    return problems


def evidence_of(data: object, *, origin: str) -> Evidence:
    """Evidence from a document.

    Raises:
        UsageError: It is not whole.
    """
    if not isinstance(data, dict):
        raise _damaged(origin, "there is no evidence in it")
    try:
        builds = _typed(data["builds"], tuple[Build, ...])
        if [build.part for build in builds] != ["app", "extension"]:
            raise _damaged(origin, "the builds are not those of an app and its extension")
        return Evidence(
            **{key: _typed(data[key], str) for key in ("app", "bundle_id", "release", "as_of")},
            rehearsal=_typed(data["rehearsal"], bool),
            config=from_dict(data["config"], origin=origin),
            builds=builds,
            runs=_typed(data["runs"], tuple[Run, ...]),
            simulated=_typed(data["simulated"], tuple[tuple[str, str, int], ...]),
            checked=_typed(data["checked"], tuple[Checked, ...]),
        )
    except (KeyError, msgspec.ValidationError, RecursionError) as error:
        raise _damaged(origin, f"{type(error).__name__}: {error}") from error


def _typed(value: object, wanted: type[_T]) -> _T:
    convert: Callable[..., _T] = msgspec.convert
    return convert(value, wanted, strict=True)


def _items(stated: object, wanted: list[dict[str, Any]]) -> list[str]:
    if stated == wanted:
        return []
    if not isinstance(stated, list) or len(stated) != len(wanted):
        return ["the items are not those of the evidence"]
    problems = []
    for seen, right in zip(stated, wanted, strict=True):
        if seen != right:
            keys = [key for key in right if not isinstance(seen, dict) or seen.get(key) != right[key]]
            problems.append(
                f"item {right['id']} says something else than the evidence shows: {', '.join(keys) or 'more'}"
            )
    return problems


def _damaged(origin: str, seen: str) -> UsageError:
    return UsageError(f"a whole sign-off in {origin}", seen=seen[:300], hint="the file was altered, or is damaged")
