"""Allure: the event stream as live steps and attachments of the running test, and the files beside the results.

The steps are put into allure-pytest's own results (its listener is found where it registers itself), so names,
nesting, durations, failures and files are there however the test ends. Categories sort by the verdict that stands
in front of a failed test's message.
"""

from __future__ import annotations

import json
import mimetypes
import os
import platform
import sys
import threading
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import allure
import allure_commons
from allure_commons.model2 import ATTACHMENT_PATTERN, Attachment, Parameter, Status, StatusDetails, TestStepResult

from harness.errors import Verdict, verdict_of
from harness.events import SECRETS, Record
from harness.reports.result import CaseResult

MOST_ATTACHED = 64 * 1024 * 1024
"""Larger files (a sysdiagnose) stay in the case file; the report says where."""
MOST_EVENTS = 500
"""Instants shown per test; the stream has them all."""

_STATUS = {
    Verdict.PRODUCT_FAILURE: Status.FAILED,
    Verdict.KNOWN_ISSUE: Status.FAILED,
    Verdict.SKIPPED: Status.SKIPPED,
}
_TYPES = {".jsonl": "application/json", ".ndjson": "application/json", ".log": "text/plain", ".plist": "text/xml"}
_CATEGORIES = (
    ("Product failures", Verdict.PRODUCT_FAILURE),
    ("Environment failures", Verdict.ENVIRONMENT_FAILURE),
    ("Harness errors", Verdict.HARNESS_ERROR),
    ("Known issues", Verdict.KNOWN_ISSUE),
)


class AllureReader:
    """Turns records into Allure steps; subscribe it to the run's `EventLog` in the thread that runs the test.

    Without `--alluredir` it does nothing. Steps of other threads hang below the step that started them.
    Messages that pytest itself reports (a fixture that fails, a traceback) are masked too, before they are written.
    """

    def __init__(self) -> None:
        self._reporter = _reporter()
        if self._reporter is not None and not allure_commons.plugin_manager.has_plugin(_Masker.NAME):
            allure_commons.plugin_manager.register(_Masker(), _Masker.NAME)
        self._home = threading.get_ident()
        self._lock = threading.RLock()
        self._open: dict[str, tuple[str, TestStepResult, bool]] = {}
        self._newest: list[str] = []
        self._events = 0

    def __call__(self, record: Record) -> None:
        """Take one record."""
        if self._reporter is None:
            return
        with self._lock:
            kind = record.get("type")
            if kind == "start":
                self._start(record)
            elif kind == "end":
                self._end(record)
            elif kind == "event":
                self._instant(record)

    def _start(self, record: Record) -> None:
        step = TestStepResult(name=str(record["name"]), start=_millis(record), parameters=_parameters(record))
        uuid = str(uuid4())
        here = threading.get_ident() == self._home
        if here:
            self._reporter.start_step(None, uuid, step)
            self._newest.append(str(record["id"]))
        else:
            parent = self._parent_of(record)
            if parent is not None:
                parent.steps.append(step)
        self._open[str(record["id"])] = (uuid, step, here)

    def _end(self, record: Record) -> None:
        uuid, step, here = self._open.pop(str(record["id"]), ("", None, False))
        if step is None:
            return
        step.stop = (step.start or 0) + round(float(record.get("duration", 0.0)) * 1000)
        step.parameters = _parameters(record)
        step.status, step.statusDetails = _status(record)
        for attachment in record.get("attachments") or ():
            _attach(step, attachment)
        if here:
            self._newest.remove(str(record["id"]))
            self._reporter.stop_step(uuid)

    def _instant(self, record: Record) -> None:
        self._events += 1
        if self._events > MOST_EVENTS:
            return
        at = _millis(record)
        step = TestStepResult(
            name=f"· {record['name']}", start=at, stop=at, status=Status.PASSED, parameters=_parameters(record)
        )
        if record["name"] == "attachment":
            attributes = record.get("attributes") or {}
            _attach(step, {**attributes, "name": attributes.get("attachment_name", "")})
        parent = self._parent_of(record)
        if parent is not None:
            parent.steps.append(step)
        elif threading.get_ident() == self._home:
            uuid = str(uuid4())
            self._reporter.start_step(None, uuid, step)
            self._reporter.stop_step(uuid)

    def _parent_of(self, record: Record) -> TestStepResult | None:
        entry = self._open.get(str(record.get("parent")))
        if entry is None and self._newest:
            entry = self._open.get(self._newest[-1])
        return entry[1] if entry is not None else None


class _Masker:
    """Takes secrets out of the messages of tests and fixtures on their way to the file."""

    NAME = "sysext-masker"

    @allure_commons.hookimpl(tryfirst=True)
    def report_result(self, result: Any) -> None:
        _mask(result)

    @allure_commons.hookimpl(tryfirst=True)
    def report_container(self, container: Any) -> None:
        for fixture in (*container.befores, *container.afters):
            _mask(fixture)


def _mask(item: Any) -> None:
    if item.statusDetails is not None:
        item.statusDetails.message = SECRETS.mask(item.statusDetails.message or "")
        item.statusDetails.trace = SECRETS.mask(item.statusDetails.trace or "")
    for step in item.steps:
        _mask(step)


def finish_test(result: CaseResult) -> None:
    """Label the test that is about to end with its verdict, macOS, provider and SIMULATED, and put the verdict in front
    of its message. Call it once all phases have been reported, before allure-pytest writes the test
    (`pytest_runtest_logfinish` is such a moment). Without `--alluredir` it does nothing.
    """
    reporter = _reporter()
    test = reporter.get_test(None) if reporter is not None else None
    if test is None:
        return
    dynamic: Any = allure.dynamic
    for name, value in (
        ("verdict", result.label),
        ("macos", result.macos),
        ("provider", result.provider),
        ("lane", result.lane),
        ("cause", result.cause),
        ("owner of the cause", result.why.causes[0].owner if result.why is not None and result.cause else ""),
    ):
        if value:
            dynamic.label(name, value)
    dynamic.tag(f"macOS {result.macos}", *(["SIMULATED"] if result.simulated else []))
    if result.flaky:
        dynamic.tag("flaky")
    if result.notes:
        dynamic.tag("notes")
        allure.attach("\n".join(SECRETS.mask(note) for note in result.notes), "notes", allure.attachment_type.TEXT)
    for name, value in (("provider", result.provider), ("image", result.image), ("release", result.release)):
        dynamic.parameter(name, value, excluded=True)
    if result.verdict is not Verdict.PASSED:
        details = test.statusDetails or StatusDetails(message="", trace="")
        details.message = f"[{result.verdict.value}] {details.message or result.error}"
        if result.why is not None:
            details.message += "\n\nWhy: " + "\n".join(result.why.lines())
        if result.known_issue:
            details.message += f"\n\n{result.known_issue}"
        details.flaky = result.flaky
        test.statusDetails = details
        if test.status in (Status.FAILED, Status.BROKEN):
            test.status = _STATUS.get(result.verdict, Status.BROKEN)
    elif result.flaky:
        test.statusDetails = StatusDetails(message="[flaky] failed before, passed now", trace="", flaky=True)


def write_extras(
    results: Path, *, environment: Mapping[str, str], simulated: bool, environ: Mapping[str, str] | None = None
) -> None:
    """Write what Allure shows beside the tests: environment, categories by verdict, and who ran it.

    Args:
        results: The `--alluredir` folder.
        environment: Names and values for the environment table.
        simulated: Put the label there too.
        environ: Where GitHub's variables are looked up (the process's by default).
    """
    environ = os.environ if environ is None else environ
    results.mkdir(parents=True, exist_ok=True)
    table = {"Python": platform.python_version(), **environment}
    if simulated:
        table = {"SIMULATED": "yes: no real Mac took part", **table}
    lines = [f"{_property_key(key)}={_property(SECRETS.mask(value))}" for key, value in table.items()]
    (results / "environment.properties").write_text("\n".join(lines) + "\n", encoding="utf-8")
    categories: list[dict[str, Any]] = [
        {"name": name, "messageRegex": rf"(?s)\[{verdict.value}\].*", "matchedStatuses": ["failed", "broken"]}
        for name, verdict in _CATEGORIES
    ]
    categories.append({"name": "Skipped", "matchedStatuses": ["skipped"]})
    (results / "categories.json").write_text(json.dumps(categories, indent=2) + "\n", encoding="utf-8")
    (results / "executor.json").write_text(json.dumps(_executor(environ), indent=2) + "\n", encoding="utf-8")


def _executor(environ: Mapping[str, str]) -> dict[str, Any]:
    run = environ.get("GITHUB_RUN_ID")
    if not run:
        return {"name": "local", "type": "local", "reportName": "sysext-harness"}
    server = environ.get("GITHUB_SERVER_URL", "").rstrip("/")
    url = f"{server}/{environ.get('GITHUB_REPOSITORY', '')}/actions/runs/{run}"
    number = environ.get("GITHUB_RUN_NUMBER", "0")
    return {
        "name": "GitHub Actions",
        "type": "github",
        "url": server,
        "buildOrder": int(number) if number.isdigit() else 0,
        "buildName": f"{environ.get('GITHUB_WORKFLOW', 'workflow')} #{number}",
        "buildUrl": url,
        "reportName": "sysext-harness",
    }


def _reporter() -> Any:
    for plugin in allure_commons.plugin_manager.get_plugins():
        reporter = getattr(plugin, "allure_logger", None)
        if reporter is not None:
            return reporter
    return None


def _millis(record: Record) -> int:
    return round(datetime.fromisoformat(str(record["time"])).timestamp() * 1000)


def _parameters(record: Record) -> list[Any]:
    attributes = record.get("attributes") or {}
    return [Parameter(name=str(name), value=_shown(value)) for name, value in attributes.items()]


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 1000 else text[:999] + "…"


def _status(record: Record) -> tuple[str, Any]:
    if record.get("outcome") == "ok":
        return Status.PASSED, None
    error = record.get("error") or {}
    # The record has the (masked) text; the exception itself, still on its way through the step, has the verdict.
    raised = sys.exception()
    same = raised is not None and type(raised).__name__ == error.get("type")
    verdict = verdict_of(raised) if same else Verdict.HARNESS_ERROR
    message = f"[{verdict.value}] {error.get('type', '?')}: {error.get('text', '')}" if same else str(error.get("text"))
    return _STATUS.get(verdict, Status.BROKEN), StatusDetails(message=message, trace="")


def _attach(step: TestStepResult, attachment: Mapping[str, Any]) -> None:
    source = Path(str(attachment.get("path", "")))
    name = str(attachment.get("name") or source.name)
    mime = str(attachment.get("mime") or _TYPES.get(source.suffix) or mimetypes.guess_type(source.name)[0] or "")
    try:
        size = source.stat().st_size
        if not source.is_file():
            raise OSError("not a file")
    except OSError as error:
        step.parameters.append(Parameter(name=name, value=f"not attached, {error}: {source}"))
        return
    if size > MOST_ATTACHED:
        step.parameters.append(Parameter(name=name, value=f"{size / 1e6:.0f} MB, left in the case file: {source}"))
        return
    target = ATTACHMENT_PATTERN.format(prefix=uuid4(), ext=source.suffix.lstrip(".") or "attach")
    allure_commons.plugin_manager.hook.report_attached_file(source=str(source), file_name=target)
    step.attachments.append(Attachment(source=target, name=name, type=mime or "application/octet-stream"))


def _property_key(text: str) -> str:
    return "".join("_" if char.isspace() or char in "=:#!\\" else char for char in text)


def _property(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\r", "").replace("\n", "\\n")
