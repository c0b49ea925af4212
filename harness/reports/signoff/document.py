"""The sign-off as a file that a program reads, and that anybody can check: `verify`.

    {"schema": 1, "kind": "sysext-signoff", "program", "release", "signed_off", "headline", "statistics", "terms", "items": […],
     "evidence": {…}, "digest": {"algorithm": "sha256", "over": "evidence", "value"}}

The digest is over the evidence as canonical JSON; items and headline follow from the evidence, and are decided anew when it is
verified. A digest shows that a file is whole, not who made it: whoever must know that signs the digest.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from harness import __version__
from harness.errors import UsageError
from harness.reports.signoff.config import SignOffFile, fits, from_dict
from harness.reports.signoff.deciding import TERMS, Decided, Decision, decide
from harness.reports.signoff.evidence import (
    CLOCK_SKEW,
    Build,
    Checked,
    Evidence,
    Run,
    digest,
    listed,
    runs_of,
)

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
            "digest": _sealed(self.digest),
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
        data = json.loads(text, object_pairs_hook=_once)
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


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys are there once: of two, another reader might take the other.

    Raises:
        ValueError: One is there twice.
    """
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError(f"a key is there twice among {', '.join(sorted(found))[:200]}")
    return found


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


def verify(path: Path, *, now: datetime | None = None) -> Verified:
    """Check a document: its digest is that of its evidence, its items are what that evidence shows, and it is not of a day to come
    (on which waivers would have been judged).

    Args:
        path: The JSON.
        now: Another time, for tests.

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
    if evidence.now > (now or datetime.now(UTC)) + CLOCK_SKEW:
        problems.append(f"it is of {evidence.as_of}, which is yet to come")
    if not _same({**stated, "value": found} if isinstance(stated, dict) else stated, _sealed(found)):
        problems.append("'digest' says something else than algorithm, over and value")
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
        if not _same(data.get(key), wanted[key])
    ]
    if more := sorted(set(data) - set(wanted)):
        problems.append(f"it says more than a sign-off does: {', '.join(more)[:200]}")
    problems += _items(data.get("items"), json.loads(json.dumps(wanted["items"])))
    if problems and signed.program != __version__:
        problems.append(
            f"it was written by sysext-harness {signed.program[:40]}, this is {__version__}: compare with that one"
        )
    checked = ("digest recomputed over the evidence", "every item decided anew from the evidence")
    return Verified(signed, tuple(problems), checked)


def against(
    signed: SignOff,
    *,
    rows: Iterable[dict[str, Any]] | None = None,
    builds: tuple[Build, ...] | None = None,
    checked: tuple[Checked, ...] | None = None,
    config: SignOffFile | None = None,
) -> list[str]:
    """What differs between a document's evidence and what it was taken from, as that is now.

    Args:
        signed: What was verified.
        rows: The rows of its release as `History.runs` gives them; None leaves them out, as with the others.
        builds: Of the release's files.
        checked: What the preflight says of them.
        config: What is demanded.
    """
    evidence = signed.evidence
    problems: list[str] = []
    if rows is not None:
        problems += _against_rows(evidence, {run.id: run for run in runs_of(rows)})
    if builds is not None and builds != evidence.builds:
        problems.append("the release's files are of another build than the evidence")
    if checked is not None and checked != evidence.checked:
        problems.append(
            "the preflight finds something else in the release's files (or was made by other settings, or by another version)"
        )
    if config is not None and config != evidence.config:
        keys = [key for key in type(config).model_fields if getattr(config, key) != getattr(evidence.config, key)]
        problems.append(f"what is demanded is something else than the file's: {', '.join(keys)}")
    return problems


def _against_rows(evidence: Evidence, there: dict[str, Run]) -> list[str]:
    """Runs that are not as they are in the history, and runs from before the sign-off that it should have had."""
    problems: list[str] = []
    for run in evidence.runs:
        now = there.pop(run.id, None)
        if now is None:
            problems.append(f"the run {run.run}/{run.case} of {run.started} is not in the history")
        elif now != run:
            differing = [name for name in Run.__dataclass_fields__ if getattr(now, name) != getattr(run, name)]
            problems.append(f"the run {run.run}/{run.case} differs from the history in {', '.join(differing)}")
    missing = [
        run
        for run in there.values()
        if run.time <= evidence.now
        and any(fits(name, run.scenario) for item in evidence.config.item for name in item.scenarios)
    ]
    if missing:
        missing.sort(key=lambda run: (not run.failed, run.started, run.id))
        failed = sum(run.failed for run in missing)
        problems.append(
            f"{len(missing)} run{'' if len(missing) == 1 else 's'} of before {evidence.as_of}, {failed} of them failed, "
            f"are in the history and not in the file (imported since, or taken out): {missing[0].run}/{missing[0].case}"
        )
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
        if [build.part for build in builds] != ["app", "extension"] or not all(build.cdhashes for build in builds):
            raise _damaged(origin, "the builds are not those of a signed app and its extension")
        found = Evidence(
            **{key: _typed(data[key], str) for key in ("app", "bundle_id", "release", "as_of")},
            rehearsal=_typed(data["rehearsal"], bool),
            config=from_dict(data["config"], origin=origin),
            builds=builds,
            runs=_typed(data["runs"], tuple[Run, ...]),
            simulated=_typed(data["simulated"], tuple[tuple[str, str, int], ...]),
            checked=_typed(data["checked"], tuple[Checked, ...]),
        )
        ids = Counter(run.id for run in found.runs)
        twice = [one for one, number in ids.items() if number > 1]
        if twice:
            raise _damaged(origin, f"the run {twice[0]} is in it {ids[twice[0]]} times")
        if found.now.isoformat() != found.as_of:
            raise _damaged(origin, f"as_of is {found.as_of}, not a time in UTC")
        return found
    except (KeyError, ValueError, OverflowError, RecursionError) as error:  # ValueError: of msgspec, and of times
        raise _damaged(origin, f"{type(error).__name__}: {error}") from error


def _typed(value: object, wanted: type[_T]) -> _T:
    convert: Callable[..., _T] = msgspec.convert
    return convert(value, wanted, strict=True)


def _items(stated: object, wanted: list[dict[str, Any]]) -> list[str]:
    if _same(stated, wanted):
        return []
    if not isinstance(stated, list) or len(stated) != len(wanted):
        return ["the items are not those of the evidence"]
    problems = []
    for seen, right in zip(stated, wanted, strict=True):
        if not _same(seen, right):
            keys = [key for key in right if not isinstance(seen, dict) or not _same(seen.get(key), right[key])]
            problems.append(
                f"item {right['id']} says something else than the evidence shows: {', '.join(keys) or 'more'}"
            )
    return problems


def _same(one: object, other: object) -> bool:
    """As JSON: for Python 0, 0.0 and false are the same."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _sealed(value: str) -> dict[str, str]:
    return {"algorithm": "sha256", "over": "evidence", "value": value}


def _damaged(origin: str, seen: str) -> UsageError:
    return UsageError(f"a whole sign-off in {origin}", seen=seen[:300], hint="the file was altered, or is damaged")
