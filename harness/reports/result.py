"""`result.json`: what one scenario run came to, as the case file keeps it and every report reads it."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from harness.errors import UsageError, Verdict
from harness.events import SECRETS

SCHEMA = 1
RESULT_NAME = "result.json"
_MOST_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Sign:
    """A line that speaks for a cause: where it is, and its text (harmless on a terminal)."""

    file: str = ""
    line: int = 0
    time: str = ""
    process: str = ""
    text: str = ""


@dataclass(frozen=True, kw_only=True)
class Cause:
    """A cause that triage proved (docs/causes.md)."""

    code: str
    title: str = ""
    confidence: float = 0.0
    owner: str = ""
    severity: str = ""
    signs: tuple[Sign, ...] = ()
    remedy: str = ""


@dataclass(frozen=True, kw_only=True)
class Why:
    """What triage of the case file says.

    Attributes:
        verdict: `failure`, `healthy`, `inconclusive`, or `failed`: triage itself went wrong.
        headline: The answer on one line, or what went wrong.
        causes: Best first, with their first signs; all are in `triage.json`.
        standing: How the cause and the scenario's verdict go together, where they do not simply agree. The verdict is never
            changed by it.
    """

    verdict: str
    headline: str
    causes: tuple[Cause, ...] = ()
    standing: str = ""

    @property
    def cause(self) -> str:
        """The code of the first cause of failure, or ""."""
        return self.causes[0].code if self.verdict == "failure" and self.causes else ""

    def lines(self) -> list[str]:
        """For people, in short: the answer, its lines, what to do, what else there is."""
        lines = [self.headline]
        if self.cause:
            best = self.causes[0]
            for sign in best.signs:
                place = f"{sign.file}:{sign.line}" if sign.line else sign.file
                lines.append("  | " + " ".join(part for part in (place, sign.time, sign.process) if part))
                lines.append(f"  |   {sign.text}")
            lines.append(f"What to do: {best.remedy}")
            if len(self.causes) > 1:
                lines.append("Also proven: " + ", ".join(cause.code for cause in self.causes[1:]))
        if self.standing:
            lines.append(self.standing)
        return lines


@dataclass(frozen=True, kw_only=True)
class CaseResult:
    """One run (one attempt) of one scenario on one macOS.

    Attributes:
        scenario: Its name as people read it.
        nodeid: pytest's.
        macos: "13", "14", "15", "26".
        image: What the machine was cloned from.
        image_digest: Its content address (`HOST/NAME@sha256:…`), where the provider knows one.
        lane: How that image was prepared; verdicts of different lanes are never mixed.
        provider: Where the Mac came from.
        simulated: True unless a real Mac did it. Such a result signs nothing off.
        release: The version of the app under test.
        verdict: Decided by `harness.errors.verdict_of`.
        error: What the failure says; empty when it passed.
        prompt_appeared: Did macOS ask? None: the scenario did not get there, or does not ask that question.
        approvable: Could it be approved, by whatever route? None as above.
        seconds: Wall time of the run, set-up and evidence included.
        started: UTC, ISO 8601.
        attempt: 1 for the first; a rerun on a fresh machine is 2.
        flaky: It failed before and passed now.
        faults: Those injected, as `--sysext-fault` takes them.
        delays: Seconds that the machine itself took on purpose (`boot`, `prompt`, …), so that the harness's own time
            can be told from them.
        case: The case file's folder, relative to the artifacts folder where it lies in it.
        why: What triage says of a failure; None if it was not asked.
        known_issue: The known issue that this failure is (with reason, link and date), or one that has expired.
        notes: What else is worth telling: lines that nobody expected during a pass, a known issue that did not show.
        preflight: What the files of its releases showed, notes included: `rule`, `severity`, `release`, `where`, `what`.
    """

    scenario: str
    nodeid: str
    macos: str
    image: str
    lane: str
    provider: str
    simulated: bool
    release: str
    verdict: Verdict
    image_digest: str = ""
    error: str = ""
    prompt_appeared: bool | None = None
    approvable: bool | None = None
    seconds: float = 0.0
    started: str = ""
    attempt: int = 1
    flaky: bool = False
    faults: tuple[str, ...] = ()
    delays: dict[str, float] = field(default_factory=dict)
    case: str = ""
    why: Why | None = None
    known_issue: str = ""
    notes: tuple[str, ...] = ()
    preflight: tuple[dict[str, str], ...] = ()
    schema: int = SCHEMA

    @property
    def failed(self) -> bool:
        """It ended in one of the three failures."""
        return self.verdict in (Verdict.PRODUCT_FAILURE, Verdict.ENVIRONMENT_FAILURE, Verdict.HARNESS_ERROR)

    @property
    def label(self) -> str:
        """The verdict as reports show it: a pass after a failure is *flaky*, not *passed*."""
        return "flaky" if self.flaky and self.verdict is Verdict.PASSED else self.verdict.value

    @property
    def cause(self) -> str:
        """The code of the cause that triage puts first, or ""."""
        return self.why.cause if self.why is not None else ""

    def to_json(self) -> str:
        """One JSON document, secrets masked."""
        data = SECRETS.mask_all(dataclasses.asdict(self))
        return json.dumps(data, ensure_ascii=False, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, *, origin: str = RESULT_NAME) -> CaseResult:
        """Read one back.

        Raises:
            UsageError: It is no such document, or from a later version of this program.
        """
        try:
            result = msgspec.json.decode(text, type=cls)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise UsageError(
                f"a scenario result in {origin}", seen=str(error), hint="run the scenario again"
            ) from error
        if result.schema > SCHEMA:
            raise UsageError(
                f"a scenario result of schema {SCHEMA} or older in {origin}",
                seen=f"schema {result.schema}",
                hint="read it with the newer sysext-harness that wrote it",
            )
        return result

    def write(self, folder: Path) -> Path:
        """Write `result.json` into the case file, all of it or nothing; returns its path."""
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / RESULT_NAME
        partial = folder / f".{RESULT_NAME}.{os.getpid()}"
        partial.write_text(self.to_json(), encoding="utf-8", errors="replace")
        partial.replace(target)
        return target

    @classmethod
    def read(cls, path: Path) -> CaseResult:
        """Read a `result.json`, or the one in a case file's folder.

        Raises:
            UsageError: It is missing, too large or not a result.
        """
        path = path / RESULT_NAME if path.is_dir() else path
        try:
            if path.stat().st_size > _MOST_BYTES:
                raise UsageError(
                    f"a scenario result at {path}", seen="more than 4 MiB", hint="not one of ours: remove it"
                )
            return cls.from_json(path.read_bytes(), origin=str(path))
        except OSError as error:
            raise UsageError(f"a scenario result at {path}", seen=str(error), hint="check the path") from error


def read_results(artifacts: Path) -> tuple[list[CaseResult], list[UsageError]]:
    """All results below a folder, oldest first, and what could not be read (a killed run leaves such things)."""
    results: list[CaseResult] = []
    problems: list[UsageError] = []
    for path in sorted(artifacts.rglob(RESULT_NAME)):
        try:
            results.append(CaseResult.read(path))
        except UsageError as problem:
            problems.append(problem)
    results.sort(key=lambda result: (result.started, result.nodeid, result.macos, result.attempt))
    return results, problems


def final_attempts(results: Iterable[CaseResult]) -> list[tuple[CaseResult, Sequence[CaseResult]]]:
    """Per scenario and machine kind: the last attempt, and those before it.

    A last attempt that passed after one that did not is marked *flaky* here, whatever was written.
    Runs that differ in scenario, macOS, lane, provider, image, release or injected faults are different runs.
    """
    groups: dict[tuple[object, ...], list[CaseResult]] = {}
    for result in results:
        key = (
            result.nodeid,
            result.macos,
            result.lane,
            result.provider,
            result.image,
            result.release,
            result.faults,
        )
        groups.setdefault(key, []).append(result)
    settled: list[tuple[CaseResult, Sequence[CaseResult]]] = []
    for attempts in groups.values():
        attempts.sort(key=lambda result: (result.attempt, result.started))
        *earlier, last = attempts
        if last.verdict is Verdict.PASSED and any(one.verdict is not Verdict.PASSED for one in earlier):
            last = dataclasses.replace(last, flaky=True)
        settled.append((last, tuple(earlier)))
    return settled
