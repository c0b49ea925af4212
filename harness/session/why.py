"""Why a scenario ended as it did: its case file triaged, known issues looked up, a pass looked through.

    the scenario's exception  ──verdict_of──▶  verdict            triage only ever adds a reason to it
    the case file  ──triage──▶  cause, signs                      in result.json, triage.json, triage.txt
    product failure + cause or text of a known issue  ──▶  known-issue

A cause that points elsewhere than the verdict (a product failure whose cause is the image's) is told as such; it changes no
verdict, for a log's line is no observation of ours. Triage that goes wrong is told, too, and hides nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final

from harness import events
from harness.errors import KnownIssue, ProductFailure, SysextError, Verdict, verdict_of
from harness.reports.result import Cause, Sign, Why
from harness.session.case import Case
from harness.triage.bounded import Answer, triage_bounded
from harness.triage.known_issues import Failure, Issue, KnownIssues
from harness.triage.observed import OUTCOME
from harness.triage.passing import Unexpected, survived, suspected, unexpected_lines

MOST_SIGNS: Final = 3
"""Signs of a cause in `result.json`; all are in `triage.json`."""
ENVIRONMENT: Final = "environment"
ENVIRONMENT_OWNERS: Final = frozenset({"harness-image", "admin policy", "user action"})
_FAILURES = (Verdict.PRODUCT_FAILURE, Verdict.ENVIRONMENT_FAILURE, Verdict.HARNESS_ERROR)


def explain(case: Case, *, extension_id: str, known: KnownIssues, today: date | None = None) -> None:
    """Fill in `why`, `known_issue` and `notes` of a case that has ended, before it is closed. Never raises.

    A failure that is a known issue becomes one; a pass with lines that nobody expected fails if `triage.strict_passing` says so.
    """
    today = today or datetime.now(UTC).date()
    with events.use(case.log):
        try:
            verdict = verdict_of(case.failure)
            if verdict in _FAILURES:
                if case.settings.triage.automatic and case.why is None:  # the preflight says why itself
                    case.why = _triaged(case, verdict, extension_id)
                _look_up(case, verdict, known, today)
            elif verdict is Verdict.PASSED:
                _passed(case, extension_id, known, today)
        except Exception as error:  # noqa: BLE001 - what the scenario came to must be heard whatever happens here
            events.event("degraded", what="the reason of the result is not complete", reason=_text(error))


def _triaged(case: Case, verdict: Verdict, extension_id: str) -> Why:
    try:
        error = case.failure
        events.event(OUTCOME, verdict=verdict.value, error_type=type(error).__name__, error=_text(error))
        with events.step("say why") as step:
            answer = triage_bounded(case.folder.path, extension_id=extension_id, seconds=case.settings.triage.seconds)
            answer = _labelled(answer, simulated=case.simulated)
            why = why_of(answer, verdict)
            _tell(case, {cause.code for cause in why.causes}, _suspected(answer.found))
            step.note(headline=why.headline, causes=[cause.code for cause in why.causes])
            for path in _kept(case.folder.path, answer):
                step.attach(path)
        return why
    except Exception as error:  # noqa: BLE001 - as above
        events.event("degraded", what="the case file could not be triaged", reason=_text(error))
        return Why(verdict="failed", headline=f"triage itself failed: {_text(error)}")


def _labelled(answer: Answer, *, simulated: bool) -> Answer:
    """The answer with the label that this run has: the case file is not finished, so triage may not have seen it."""
    if not simulated or answer.found.get("simulated"):
        return answer
    return Answer({**answer.found, "simulated": True}, f"[SIMULATED] {answer.headline}", f"[SIMULATED]\n{answer.text}")


def why_of(answer: Answer, verdict: Verdict) -> Why:
    """The short form of an answer, and how it goes with the scenario's verdict."""
    found = answer.found
    causes = tuple(_cause(cause) for cause in found.get("causes", ())) if found.get("verdict") == "failure" else ()
    return Why(
        verdict=str(found.get("verdict", "inconclusive")),
        headline=answer.headline,
        causes=causes,
        standing=standing(verdict, causes[0] if causes else None),
    )


def standing(verdict: Verdict, cause: Cause | None) -> str:
    """How verdict and cause go together, in words; "" where they agree."""
    if cause is None:
        return ""
    if verdict is Verdict.PRODUCT_FAILURE and cause.owner in ENVIRONMENT_OWNERS:
        return (
            f"The cause lies outside the product (owner: {cause.owner}). The verdict stays {verdict.value}, for it says what "
            "was seen; mend the Mac or its image, then run it again."
        )
    if verdict is Verdict.ENVIRONMENT_FAILURE:
        if cause.owner == ENVIRONMENT:
            return ""
        return (
            f"The verdict stays {verdict.value}: the Mac or the way to it broke. What its log shows besides ({cause.code}) may "
            "be a consequence."
        )
    if verdict is Verdict.HARNESS_ERROR:
        return f"The verdict stays {verdict.value}: the harness could not judge; the log shows {cause.code}."
    return ""


def _look_up(case: Case, verdict: Verdict, known: KnownIssues, today: date) -> None:
    if verdict is not Verdict.PRODUCT_FAILURE or not len(known):
        return
    current, late = known.match(_failure(case), today)
    if current is not None:
        case.known_issue = current.said()
        case.failure = KnownIssue(current.said(), seen=_text(case.failure))
        events.event("known-issue", id=current.id, link=current.link, expires=str(current.expires))
    elif late is not None:
        case.known_issue = f"EXPIRED {late.said()}"
        case.notes.append(_expired(late))
        events.event("known-issue-expired", id=late.id, link=late.link, expires=str(late.expires))


def _expired(issue: Issue) -> str:
    return (
        f"This is known issue {issue.id} ({issue.link}), which expired on {issue.expires} and counts again: "
        f"mend it, or give {issue.path.name} a later day"
    )


def _passed(case: Case, extension_id: str, known: KnownIssues, today: date) -> None:
    for issue in known.missed(_failure(case), today):
        case.notes.append(
            f"passed, though {issue.said()} expects it to fail always: is it mended? Then remove the file"
        )
        events.event("known-issue-did-not-show", id=issue.id, link=issue.link)
    if not (case.settings.triage.automatic and case.settings.triage.passing):
        return
    try:
        found = unexpected_lines(case.folder.path, scenario=case.scenario, extension_id=extension_id)
    except Exception as error:  # noqa: BLE001 - a pass stays a pass
        events.event("degraded", what="the log of a passing scenario could not be looked through", reason=_text(error))
        return
    for item in found:
        case.notes.append(_noted(item))
        events.event("unexpected-line", **item.as_dict())
    _tell(case, {item.what for item in found})
    found = [item for item in found if item.alarm]
    if found and case.settings.triage.strict_passing:
        case.fail(
            ProductFailure(
                "no fatal line that nobody expected while the scenario passed",
                seen="; ".join(_noted(item) for item in found[:3]),
                hint="triage.strict_passing makes this a failure; what is expected stands in harness/triage/expected.toml",
            )
        )


def _suspected(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(str(one["code"]), str(one["lacks"])) for one in found.get("suspected", ())]


def _tell(case: Case, named: set[str], lesser: Sequence[tuple[str, str]] = ()) -> None:
    """What the run survived, by its code: an address that was stale, a process that had to be killed; and what only troubles the
    product. No alarm, never raises.
    """
    try:
        for told in (*survived(case.folder.path), *suspected(lesser)):
            if told.what not in named:
                case.notes.append(f"{told.what}: {told.title}: {told.text}")
                events.event("survived", code=told.what, text=told.text)
    except Exception as error:  # noqa: BLE001 - a result stays what it is
        events.event("degraded", what="what the run survived could not be told", reason=_text(error))


def _noted(item: Unexpected) -> str:
    times = f" ({item.count} times)" if item.count > 1 else ""
    where = " ".join(part for part in (item.time, item.process) if part)
    harmless = "" if item.alarm else ", and nothing came of it"
    return f"logged while it passed{harmless}: {item.what}{times}: {where}: {item.text}"


def _failure(case: Case) -> Failure:
    signs = case.why.causes[0].signs if case.why is not None and case.why.cause else ()
    return Failure(
        scenario=case.scenario,
        macos=case.macos,
        release=case.release,
        lane=case.settings.lane,
        cause=case.why.cause if case.why is not None else "",
        texts=[_text(case.failure) if case.failure is not None else "", *(sign.text for sign in signs)],
    )


def _cause(data: Mapping[str, Any]) -> Cause:
    signs: Sequence[Mapping[str, Any]] = data.get("signs", ())
    return Cause(
        code=str(data["code"]),
        title=str(data["title"]),
        confidence=float(data["confidence"]),
        owner=str(data["owner"]),
        severity=str(data["severity"]),
        remedy=str(data["remedy"]),
        signs=tuple(
            Sign(
                file=str(sign["file"]),
                line=int(sign["line"]),
                time=str(sign["time"]),
                process=str(sign["process"]),
                text=str(sign["text"]),
            )
            for sign in signs[:MOST_SIGNS]
        ),
    )


def _kept(folder: Path, answer: Answer) -> list[Path]:
    """Write the whole answer into the case file, secrets masked."""
    whole, text = folder / "triage.json", folder / "triage.txt"
    masked = events.SECRETS.mask_all(answer.found)
    whole.write_text(json.dumps(masked, ensure_ascii=False, indent=1) + "\n", encoding="utf-8", errors="replace")
    text.write_text(events.SECRETS.mask(answer.text), encoding="utf-8", errors="replace")
    return [text, whole]


def _text(error: BaseException | None) -> str:
    if error is None:
        return ""
    return str(error) if isinstance(error, SysextError) else f"{type(error).__name__}: {error}"
