"""A folder for Apple's Feedback Assistant, made from a failing case file: the report, the exact lines, the redacted attachments.

    report.md             what happened, when, on what; expected and actual; steps; the cause and its lines; what is attached
    attachments/          the evidence, redacted (`harness.triage.redacting`)
    attachments/redaction.json    what was masked, and what was withheld

A simulated Mac's case is no report about macOS: it is refused, or, on demand, marked SIMULATED in every place.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from harness import events
from harness.errors import UsageError
from harness.formats.crash import CrashReport
from harness.triage.engine import triage
from harness.triage.inputs import open_input
from harness.triage.redacting import Input, Redaction, inputs_of, redact_folder
from harness.triage.redaction import Masker
from harness.triage.report import CauseFound, SignSeen, Triage, as_text, harmless

MARK: Final = "SIMULATED"
MAX_JSON: Final = 8 << 20
MAX_LINE: Final = 4000
MAX_STEPS: Final = 60
MAX_RECORDS: Final = 100_000
_LEFT_OUT: Final = re.compile(
    r"(?:frames|screen(?:-\d+)?|machine)/|screen\.webp|[^/]*\.partial|run\.jsonl|triage\.(?:json|txt)|result\.json"
)
"""Ours, not Apple's: the recording, the harness's own stream and results."""
_STEPS: Final[dict[str, str]] = {
    "boot": "Start a fresh Mac (macOS {product}, build {build}, SIP {sip}) and log in.",
    "install": "Install {app} (version {version}) into {into}.",
    "launch": "Start {app}, which requests the activation of its system extension.",
    "reboot": "Restart the Mac.",
    "expect prompt": "Wait for the approval prompt.",
    "approve": "Approve the extension through the prompt and System Settings.",
    "killed": "End the extension's process.",
}
"""Steps of the stream to what a person would do."""


@dataclass
class Package:
    """What was made.

    Attributes:
        folder: Where.
        files: Attachments with their sizes in bytes.
        simulated: It is of a simulated Mac.
    """

    folder: Path
    title: str
    simulated: bool
    redaction: Redaction
    files: list[tuple[str, int]] = field(default_factory=list)

    def lines(self) -> list[str]:
        """For people."""
        mark = [f"{MARK}: no real Mac took part. Never send this to Apple."] if self.simulated else []
        return [
            *mark,
            self.title,
            *(f"  {size:12,d}  {name}" for name, size in self.files),
            *self.redaction.lines(),
        ]


@dataclass
class _Case:
    folder: Path
    result: dict[str, Any]
    stream: list[events.Record]
    simulated: bool

    @property
    def header(self) -> dict[str, Any]:
        """The run's own words about itself."""
        first = next((record for record in self.stream if record.get("type") == "header"), {})
        attributes = first.get("attributes")
        return attributes if isinstance(attributes, dict) else {}

    def said(self, name: str) -> dict[str, Any]:
        """The attributes of the first step of that name that ended."""
        for record in self.stream:
            if record.get("type") == "end" and record.get("name") == name:
                attributes = record.get("attributes")
                return attributes if isinstance(attributes, dict) else {}
        return {}


def make_package(case: Path, target: Path, *, allow_simulated: bool = False, words: Sequence[str] = ()) -> Package:
    """Fill `target`, an empty folder.

    Args:
        case: The case file of a failed scenario.
        target: Where to.
        allow_simulated: Also for a simulated Mac, marked so everywhere.
        words: More texts to mask.

    Raises:
        UsageError: `case` is no case file, its scenario did not fail, or its Mac was simulated.
    """
    found = _read(case)
    if found.simulated and not allow_simulated:
        raise UsageError(
            f"a case file of a real Mac at {case}",
            seen=f"{MARK}: its Mac was simulated, so that it says nothing about macOS",
            hint="--allow-simulated makes the folder all the same, to look at, marked in every place",
        )
    verdict = found.result.get("verdict")
    if verdict in ("passed", "skipped"):
        raise UsageError(f"the case file of a failure at {case}", seen=f"the scenario {verdict}", hint="name another")
    with events.step("feedback package", case=case.name) as step:
        answer = triage([case], extension_id=_extension(case))
        masker = Masker(words)
        attachments = target / (f"attachments-{MARK}" if found.simulated else "attachments")
        attachments.mkdir(parents=True)
        chosen = [item for item in inputs_of(case) if not _LEFT_OUT.match(item.name)]
        report_text = "\n".join(_report(found, answer))
        masker.learn(report_text)
        masker.learn(f"/Users/{_user(found)}/")
        redaction = redact_folder([Input(item.path, _short(item.name)) for item in chosen], attachments, masker)
        (attachments / "triage.txt").write_text(
            _marked(masker.mask(as_text(answer)), found.simulated), encoding="utf-8"
        )
        files = sorted(
            (path.relative_to(target).as_posix(), path.stat().st_size) for path in target.rglob("*") if path.is_file()
        )
        text = "\n".join([masker.mask(report_text), *_attached(files, redaction, case)])
        text = _marked(text, found.simulated)
        (target / "report.md").write_text(text, encoding="utf-8", errors="replace")
        if found.simulated:
            (target / f"{MARK}.txt").write_text(_marked("", simulated=True), encoding="utf-8")
        step.note(cause=answer.causes[0].code if answer.causes else "", files=len(files))
    title = masker.mask(_title(found, answer))
    return Package(target, title, found.simulated, redaction, [*files, ("report.md", len(text.encode()))])


def _read(case: Path) -> _Case:
    if not case.is_dir():
        raise UsageError(f"the folder of a case file at {case}", seen="no such folder", hint="give a case folder")
    result: dict[str, Any] = {}
    path = case / "result.json"
    try:
        if path.is_file() and path.stat().st_size <= MAX_JSON:
            value = json.loads(path.read_bytes())
            result = value if isinstance(value, dict) else {}
        stream_file = case / "run.jsonl"
        stream = list(itertools.islice(events.read(stream_file), MAX_RECORDS)) if stream_file.is_file() else []
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"a case file at {case}", seen=str(error), hint="give a case folder") from error
    if not result and not stream:
        raise UsageError(f"a case file at {case}", seen="neither result.json nor run.jsonl", hint="give a case folder")
    found = _Case(case, result, stream, simulated=False)
    for words in (result, found.header):
        if words.get("simulated") or words.get("provider") == "simulated":
            found.simulated = True
    if not found.simulated and "simulated" not in result and "simulated" not in found.header:
        raise UsageError(
            f"a case file at {case} that says whether its Mac was a real one",
            seen="neither result.json nor run.jsonl does",
            hint="only a case file that this program wrote can be packed",
        )
    return found


def _title(case: _Case, answer: Triage) -> str:
    mark = f"[{MARK}] " if case.simulated else ""
    version = case.said("boot").get("product") or case.result.get("macos") or case.header.get("macos") or "?"
    what = (
        answer.causes[0].title
        if answer.verdict == "failure" and answer.causes
        else "activation of a system extension fails"
    )
    return f"{mark}System extension on macOS {version}: {what}"


def _report(case: _Case, answer: Triage) -> Iterator[str]:
    result = case.result
    boot = case.said("boot")
    yield f"# {_title(case, answer)}"
    yield ""
    expected, actual = _expectation(str(result.get("error") or "") or _last_error(case))
    yield "## What happened"
    yield ""
    yield from _table(
        {
            "Scenario": result.get("scenario") or case.header.get("scenario"),
            "Started (UTC)": result.get("started"),
            "Failed (UTC)": _failed_at(case),
            "macOS": f"{boot.get('product', result.get('macos', '?'))} ({boot.get('build', 'build not known')})",
            "System Integrity Protection": {True: "on", False: "off"}.get(boot.get("sip"), "not known"),  # type: ignore[arg-type]
            "App": f"{case.header.get('app', '?')}, release {result.get('release') or case.header.get('release', '?')}",
            "Installed version": case.said("install").get("version"),
            "Did the prompt appear?": _answer(result.get("prompt_appeared")),
            "Could it be approved?": _answer(result.get("approvable")),
            "Boot session": boot.get("boot_session"),
        }
    )
    yield ""
    yield "**Expected:** " + harmless(expected, MAX_LINE)
    yield ""
    yield "**Actual:** " + harmless(actual or "not told", MAX_LINE)
    yield ""
    yield "## Steps to reproduce"
    yield ""
    for number, step in enumerate(_steps(case), 1):
        yield f"{number}. {harmless(step)}"
    yield ""
    yield "## Cause, as the evidence shows it"
    yield ""
    if answer.verdict == "failure":
        for cause in answer.causes:
            yield from _cause(case.folder, cause)
    else:
        yield harmless(answer.headline())
        yield ""
    if answer.timeline:
        yield "## History of the extension"
        yield ""
        yield "```"
        for happening in answer.timeline[:80]:
            yield harmless(f"{happening.time or '-'}  {happening.extension} {happening.version}  {happening.what}")
        yield "```"
        yield ""
    reports = _crashes(case.folder)
    if reports:
        yield "## Crash and panic reports"
        yield ""
        yield from ("- " + line for line in reports)
        yield ""


def _cause(folder: Path, cause: CauseFound) -> Iterator[str]:
    yield f"### {cause.title} (`{cause.code}`, {cause.confidence:.0%} sure)"
    yield ""
    yield "```"
    for sign in cause.signs:
        times = f", {sign.count} times" if sign.count > 1 else ""
        yield harmless(f"{sign.file}:{sign.line} ({sign.role}{times})", MAX_LINE)
        yield harmless(_exact(folder, sign), MAX_LINE)
    yield "```"
    yield ""


def _exact(folder: Path, sign: SignSeen) -> str:
    """The line as it stands in the file, or what triage quoted where the file cannot be reached so."""
    parts = Path(sign.file).parts
    path = folder.joinpath(*parts)
    if sign.line < 1 or ".." in parts or Path(sign.file).is_absolute() or not path.is_file() or path.is_symlink():
        return f"{sign.time} {sign.process}: {sign.text}"
    try:
        with path.open("rb") as file:
            line = next(itertools.islice(file, sign.line - 1, sign.line), b"")[:MAX_LINE]
    except OSError:
        line = b""
    text = line.decode("utf-8", "replace").strip()
    return _rendered(text) or text or sign.text


def _rendered(line: str) -> str:
    """A line of ndjson as `log show` would print it; "" if it is none."""
    try:
        data = json.loads(line)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(data, dict) or "eventMessage" not in data:
        return ""
    process = str(data.get("processImagePath", "")).rpartition("/")[2]
    place = f" [{data['subsystem']}:{data.get('category', '')}]" if data.get("subsystem") else ""
    head = f"{data.get('timestamp', '')} {data.get('messageType', '')} {process}[{data.get('processID', '?')}]{place}"
    return f"{head} {data['eventMessage']}"


def _crashes(folder: Path) -> list[str]:
    source = open_input(folder)
    for _ in source.records:
        pass
    told = []
    for document in source.documents:
        report = document.value
        if isinstance(report, CrashReport):
            what = report.panic[:200] or report.exception or report.termination or report.bug_type
            when = report.time.isoformat() if report.time else "time not known"
            told.append(
                harmless(
                    f"{report.process or 'kernel'} {report.version}, {when}: {what}; UUID {report.slice_uuid or '?'}; {document.file}",
                    MAX_LINE,
                )
            )
    return list(dict.fromkeys(told))[:40]


def _steps(case: _Case) -> Iterator[str]:
    count = 0
    for record in case.stream:
        pattern = _STEPS.get(str(record.get("name")))
        attributes = record.get("attributes")
        if pattern is None or record.get("type") == "start" or not isinstance(attributes, dict) or count >= MAX_STEPS:
            continue
        count += 1
        values = {key: str(value) for key, value in attributes.items()} | {
            "sip": {True: "on", False: "off"}.get(attributes.get("sip"), "not known")  # type: ignore[arg-type]
        }
        failed = "" if record.get("outcome") != "failed" else " This failed."
        yield pattern.format_map(_Known(values)) + failed
    if not count:
        yield "Not recorded."


class _Known(dict[str, str]):
    def __missing__(self, key: str) -> str:
        return "?"


def _expectation(error: str) -> tuple[str, str]:
    """Our errors read "what was expected: what was seen"; the hint is for us."""
    text = error.split("\nHint:")[0].split("\nEvidence:")[0]
    expected, separator, seen = text.partition(": ")
    return (expected, seen) if separator else ("the scenario passes", text)


def _last_error(case: _Case) -> str:
    for record in reversed(case.stream):
        error = record.get("error")
        if isinstance(error, dict) and error.get("text"):
            return str(error["text"])
    return ""


def _failed_at(case: _Case) -> str:
    return next((str(record.get("time")) for record in case.stream if record.get("outcome") == "failed"), "")


def _table(rows: dict[str, Any]) -> Iterator[str]:
    yield "| | |"
    yield "|---|---|"
    for name, value in rows.items():
        if value not in (None, ""):
            yield f"| {name} | {harmless(str(value)).replace('|', chr(92) + '|')} |"


def _answer(value: object) -> str:
    return {True: "yes", False: "no"}.get(value, "") if isinstance(value, bool) else ""


def _attached(files: Sequence[tuple[str, int]], redaction: Redaction, case: Path) -> Iterator[str]:
    yield "## Attachments"
    yield ""
    yield "Names of people, accounts, hosts and networks, addresses, serial numbers and tokens were replaced by pseudonyms."
    yield ""
    for name, size in files:
        yield f"- `{name}` ({size:,} bytes)"
    yield ""
    yield "Masked: " + (", ".join(f"{kind} {count} times" for kind, count in redaction.masked.items()) or "nothing")
    yield ""
    if redaction.withheld:
        yield (
            f"Withheld, because it cannot be redacted: {len(redaction.withheld)} files (`redaction.json` lists them). The whole "
            f"sysdiagnose and the screenshots are in the case file {case.name}, and can be given on request."
        )
        yield ""


def _marked(text: str, simulated: bool) -> str:  # noqa: FBT001 - the fact itself
    if not simulated:
        return text + "\n"
    mark = f"**{MARK}: no real Mac took part. This says nothing about macOS; never send it to Apple.**"
    return f"{mark}\n\n{text}\n\n{mark}\n"


def _short(name: str) -> str:
    """`evidence/01-reason/x` without the first word: the folder is called attachments."""
    return name.removeprefix("evidence/")


def _extension(case: Path) -> str | None:
    """The extension under test, where the case's stream names its app file's extension."""
    for record in itertools.islice(events.read(case / "run.jsonl"), 2000) if (case / "run.jsonl").is_file() else ():
        attributes = record.get("attributes")
        if isinstance(attributes, dict) and isinstance(attributes.get("extension"), str):
            return str(attributes["extension"])
    return None


def _user(case: _Case) -> str:
    settings = case.header.get("settings")
    guest = settings.get("guest") if isinstance(settings, dict) else None
    return str(guest.get("user", "")) if isinstance(guest, dict) else ""
