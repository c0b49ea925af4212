"""One attempt of one scenario: its case file, its event stream, its verdict."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from harness import events
from harness.config import Settings
from harness.errors import SysextError, Verdict, verdict_of
from harness.evidence import CaseFolder
from harness.evidence.film import film_failure, seal_recordings
from harness.reports.result import CaseResult, Why


@dataclass
class Case:
    """What is known of a scenario run while it goes on.

    Attributes:
        folder: The case file.
        log: The event stream (`run.jsonl` in the case file).
        image_digest: The content address of the Mac's image, once there is a Mac and where it has one.
        prompt_appeared: Did macOS ask? None until a scenario asked that question.
        approvable: Could it be approved by whatever route? None as above.
        why: What triage says of its failure (`harness.session.why`).
        known_issue: The known issue that the failure is, or one that has expired.
        notes: What else is worth telling.
        preflight: What the files of the releases showed (`harness.session.preflight`).
        collected: Reasons for which evidence was collected so far.
    """

    scenario: str
    nodeid: str
    macos: str
    attempt: int
    settings: Settings
    simulated: bool
    image: str
    release: str
    folder: CaseFolder
    log: events.EventLog
    artifacts: Path
    image_digest: str = ""
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    clock: float = field(default_factory=time.monotonic)
    prompt_appeared: bool | None = None
    approvable: bool | None = None
    collected: list[str] = field(default_factory=list)
    failure: BaseException | None = None
    failed_before: bool = False
    why: Why | None = None
    known_issue: str = ""
    notes: list[str] = field(default_factory=list)
    preflight: list[dict[str, str]] = field(default_factory=list)

    def fail(self, error: BaseException) -> Verdict:
        """Record an exception of any phase; the first one that is a failure decides. Returns its verdict."""
        verdict = verdict_of(error)
        if self.failure is None or (verdict_of(self.failure) is Verdict.SKIPPED and verdict is not Verdict.SKIPPED):
            self.failure = error
        return verdict

    @property
    def begun(self) -> datetime:
        """When it started, by this host's clock as it goes now: `started` is of another if it was set meanwhile."""
        return datetime.now(UTC) - timedelta(seconds=time.monotonic() - self.clock)

    def result(self) -> CaseResult:
        """What it came to, by `verdict_of` alone."""
        verdict = verdict_of(self.failure)
        simulated = self.settings.simulated
        delays = {
            name.removesuffix("_seconds"): float(value)
            for name, value in simulated.model_dump().items()
            if name.endswith("_seconds")
        }
        return CaseResult(
            scenario=self.scenario,
            nodeid=self.nodeid,
            macos=self.macos,
            image=self.image,
            image_digest=self.image_digest,
            lane=self.settings.lane,
            provider=self.settings.provider,
            simulated=self.simulated,
            release=self.release,
            verdict=verdict,
            error=_said(self.failure),
            prompt_appeared=self.prompt_appeared,
            approvable=self.approvable,
            seconds=round(time.monotonic() - self.clock, 3),
            started=self.started.isoformat(timespec="milliseconds"),
            attempt=self.attempt,
            flaky=self.failed_before and verdict is Verdict.PASSED,
            faults=tuple(simulated.faults) if self.simulated else (),
            delays=delays if self.simulated else {},
            case=_relative(self.folder.path, self.artifacts),
            why=self.why,
            known_issue=self.known_issue,
            notes=tuple(self.notes),
            preflight=tuple(self.preflight),
        )

    def close(self) -> CaseResult:
        """Write `result.json` and close the stream; a full host disk loses the file, not the result. Without
        `evidence.keep_passing` frames, recording and the streamed log of a pass are dropped, unless it is flaky or evidence was
        collected (whose manifest speaks of them).
        """
        result = self.result()
        if result.label == Verdict.PASSED and not self.settings.evidence.keep_passing and not self.collected:
            self._drop()
        self.log.event(
            "result", verdict=result.verdict.value, error=result.error, seconds=result.seconds, cause=result.cause
        )
        try:
            result.write(self.folder.path)
        except OSError as error:
            self.log.event("degraded", what="result.json could not be written", reason=str(error))
        self._film(failed=result.failed)
        self.log.close()
        return result

    def _film(self, *, failed: bool) -> None:
        """After the result is safe: a short film of a failure; the recording into the manifest."""
        with events.use(self.log):
            clips = film_failure(self.folder, most_mb=self.settings.evidence.clip_mb) if failed else []
            seal_recordings(self.folder, clips)

    def _drop(self) -> None:
        for folder in (self.folder.frames, *self.folder.recordings()):
            shutil.rmtree(folder, ignore_errors=True)
        for path in self.folder.path.glob("log-stream.*"):
            with contextlib.suppress(OSError):
                path.unlink()
        self.log.event(
            "dropped", what="frames, recording and log stream of a scenario that passed (evidence.keep_passing is off)"
        )


def slug(words: Sequence[str]) -> str:
    """A folder name from words: ASCII letters, digits, dots and dashes only, 1 to 120 characters, no dot at either end.

    Different words may give the same name: who makes the folder sees to that.
    """
    text = "".join(char if char.isascii() and (char.isalnum() or char in "-.") else "-" for char in "-".join(words))
    return text.strip("-.")[:120].rstrip("-.") or "unnamed"


def _said(error: BaseException | None) -> str:
    """What an exception says; those that are not ours also say what they are, for their text alone may be empty."""
    if error is None or isinstance(error, SysextError):
        return str(error or "")
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _relative(path: Path, base: Path) -> str:
    try:
        return str(path.resolve().relative_to(base.resolve()))
    except ValueError:
        return str(path)
