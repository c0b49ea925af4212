"""pytest's front door: options, fixtures `mac`, `app`, `approval`, `case`, reruns of broken environments, the summary.

Inert until a test asks for one of these fixtures or a `--sysext-…` option is given; imports nothing heavy before that.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from _pytest.runner import runtestprotocol

from harness import events
from harness.errors import HarnessError, KnownIssue, ProductFailure, SysextError, Verdict
from harness.session import parameters, repeating, terminal
from harness.session.lending import Interrupted, lend
from harness.session.markers import add_markers
from harness.session.options import add_options, is_worker, overrides
from harness.session.stash import ATTEMPT, CASE, MAC, PART, RESULT, RUN, STABLE, TRIES

if TYPE_CHECKING:
    from harness.config import AppFile
    from harness.reports.result import CaseResult
    from harness.session.approving import ApprovalSteps
    from harness.session.case import Case
    from harness.session.mac import Mac
    from harness.session.run import Run

FOLDER = pytest.StashKey[Path]()
LIVE = pytest.StashKey[Any]()
FOLLOWER = pytest.StashKey[Any]()
HEADED = pytest.StashKey[bool]()
BROKEN_OFF = pytest.StashKey["Case"]()
RECORDED = pytest.StashKey[str]()

ENVIRONMENT_TRIES = 2
"""A scenario that the environment broke is run once more on a fresh Mac; both are counted."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the `--sysext-…` options."""
    add_options(parser)


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Register the marker; with `--sysext-app`, check everything before any test is collected.

    The process that leads xdist's workers never collects, so there an app that is named elsewhere counts as well.
    """
    add_markers(config)
    if is_worker(config) or config.option.help or config.option.version or config.option.collectonly:
        return
    with _usage_errors():
        if config.getoption("sysext_app") or (config.getoption("dist", "no") != "no" and _names_an_app(config)):
            _prepared(config)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell an xdist worker where this run's case files go."""
    if RUN in node.config.stash:
        node.workerinput["sysext_folder"] = str(node.config.stash[RUN].folder)


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Say where the Macs come from."""
    if RUN not in config.stash:
        return []
    config.stash[HEADED] = True
    return terminal.header(config.stash[RUN])


def pytest_report_collectionfinish(config: pytest.Config) -> list[str]:
    """The same, where it was not known before a scenario was collected."""
    return [] if HEADED in config.stash else pytest_report_header(config)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One scenario becomes one test per macOS version, and so on."""
    parameters.generate(metafunc, _run)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of repeated scenarios all first cycles come first."""
    repeating.in_turn(items, config)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Check before the first Mac boots that there is something to run it with."""
    if is_worker(session.config):
        return
    if parameters.UNUSABLE in session.config.stash:
        raise pytest.UsageError(str(session.config.stash[parameters.UNUSABLE]))
    if session.config.option.collectonly:
        return
    if any(parameters.uses(item, "mac") for item in session.items):
        with _usage_errors():
            _prepared(session.config)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Run a scenario; once more on a fresh Mac if the environment broke it. The first try is reported as *rerun*."""
    if not parameters.uses(item, "case"):
        return None
    if repeating.stopped(item.config):
        return True
    hook = item.ihook
    first = item.stash.get(ATTEMPT, 1)
    last = first + item.config.stash.get(TRIES, ENVIRONMENT_TRIES) - 1
    for attempt in range(first, last + 1):
        item.stash[ATTEMPT] = attempt
        if CASE in item.stash:
            del item.stash[CASE]
        hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        try:
            reports = runtestprotocol(item, nextitem=nextitem, log=False)
        except (
            BaseException
        ) as error:  # Ctrl-C, SIGTERM, pytest.exit: what is still up is torn down when the session ends
            _break_off(item, error)
            raise
        result = _finish(item, reports)
        again = result is not None and result.verdict is Verdict.ENVIRONMENT_FAILURE and attempt < last
        for report in reports:
            if again and report.when == "call" and report.passed:
                continue  # what broke came after it (the Mac could not be deleted): it counts once, with the rerun
            if again and report.failed:
                report.outcome = "rerun"  # type: ignore[assignment]
            if result is not None:
                report.user_properties.append(("sysext", result.label))
            hook.pytest_runtest_logreport(report=report)
        hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        if not again:
            break
        item._initrequest()  # type: ignore[attr-defined]
    return True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Collect the evidence of a failure while the Mac is still there; put the verdict in front of the message."""
    report = yield
    if CASE not in item.stash:
        return report
    error = _what_went_wrong(report, call)
    if error is None:
        return report
    case = item.stash[CASE]
    verdict = case.fail(error)
    # Whatever failed, the scenario or a fixture of its own: as long as there is a Mac, it is asked.
    if (
        verdict is not Verdict.SKIPPED
        and call.when != "teardown"
        and MAC in item.stash
        and not getattr(error, "collected", False)
    ):
        with events.use(case.log):
            item.stash[MAC].collect(f"{verdict.value}: {type(error).__name__}")
    if report.failed:
        text = events.SECRETS.mask(f"{error}\ncase file: {case.folder.path}")
        report.sections.append((f"sysext: {verdict.value}", text))
    return report


def pytest_report_teststatus(report: Any) -> tuple[str, str, tuple[str, dict[str, bool]]] | None:
    """Show a first try that the environment broke as R."""
    return ("rerun", "R", ("RERUN", {"yellow": True})) if report.outcome == "rerun" else None


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """The table, and GitHub's job summary."""
    if RUN in config.stash and not is_worker(config) and PART not in config.stash:
        if said := repeating.stopped(config):
            terminalreporter.write_line(f"stopped at the first failure, nothing was begun after it: {said}")
        terminal.write_summary(terminalreporter, config.stash[RUN])
        if config.stash.get(RECORDED, ""):
            terminalreporter.write_line(config.stash[RECORDED])


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Allure's extra files; the history; stop following, once what Ctrl-C left to tear down is gone as well."""
    config = session.config
    if BROKEN_OFF in config.stash:  # not before: its Mac was deleted just now, and that is in its stream
        config.stash[BROKEN_OFF].close()
        del config.stash[BROKEN_OFF]
    if RUN in config.stash and not is_worker(config):
        folder = config.getoption("allure_report_dir", None)
        if folder:
            from harness.reports.allure import write_extras

            run = config.stash[RUN]
            write_extras(
                Path(folder),
                environment={**run.provider.describe(), "app": run.app.name},
                simulated=run.provider.simulated,
            )
        if PART not in config.stash:
            from harness.history.recording import record_session

            config.stash[RECORDED] = record_session(config.stash[RUN].folder, config.stash[RUN].settings)
    if LIVE in config.stash:
        config.stash[LIVE].close()
        del config.stash[LIVE]
    if FOLLOWER in config.stash:
        config.stash[FOLLOWER].stop()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Let go of the terminal."""
    if FOLLOWER in config.stash:
        config.stash[FOLLOWER].stop()
    terminal.let_go(config)


@pytest.fixture(scope="session")
def sysext_run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """Settings, app, provider of this run."""
    yield _run(request.config)
    if STABLE in request.config.stash:
        request.config.stash[STABLE].clear()


@pytest.fixture(scope="session")
def app(sysext_run: Run) -> AppFile:
    """The product under test."""
    return sysext_run.app


@pytest.fixture(scope="session")
def releases(sysext_run: Run) -> tuple[str, str]:
    """The release under test, and the one before it: (older, newer)."""
    versions = [release.version for release in sysext_run.app.releases]
    newer = sysext_run.app.release(sysext_run.release).version
    place = versions.index(newer)
    if place == 0:
        pytest.skip(f"the app file lists no release before {newer}: nothing to upgrade from")
    return versions[place - 1], newer


@pytest.fixture
def case(request: pytest.FixtureRequest, sysext_run: Run, macos: str) -> Iterator[Case]:
    """The case file and event stream of this scenario."""
    item = request.node
    attempt = item.stash.get(ATTEMPT, 1)
    scenario = parameters.scenario_of(request)
    case = sysext_run.open_case(
        scenario=scenario,
        nodeid=item.nodeid,
        macos=macos,
        attempt=attempt,
        failed_before=attempt > 1,
        release=parameters.releases_of(request, sysext_run.app.release(sysext_run.release).version)[-1],
    )
    item.stash[CASE] = case
    _subscribe(request.config, case)
    with events.use(case.log):
        yield case


@pytest.fixture
def mac(request: pytest.FixtureRequest, sysext_run: Run, case: Case) -> Iterator[Mac]:
    """A Mac, booted and logged in, without the product; put away whatever happens."""
    from harness.session.preflight import before_scenario

    newest = sysext_run.app.release(sysext_run.release).version
    before_scenario(case, sysext_run.app, parameters.releases_of(request, newest))
    with lend(request, sysext_run, case) as mac:
        yield mac


@pytest.fixture
def approval(mac: Mac) -> ApprovalSteps:
    """Eyes and hands for the prompts of `mac`."""
    from harness.session.approving import ApprovalSteps

    return ApprovalSteps(mac)


def _what_went_wrong(report: pytest.TestReport, call: pytest.CallInfo[None]) -> BaseException | None:
    """The exception of a phase, as the verdict should see it."""
    error = call.excinfo.value if call.excinfo is not None else None
    if hasattr(report, "wasxfail"):
        if error is None:
            return None
        return KnownIssue(f"a known issue: {report.wasxfail or 'xfail'}", seen=str(error) or type(error).__name__)
    if type(error) is pytest.fail.Exception and "from pytest-timeout" in str(error):
        return HarnessError(
            "the scenario to end within the time that pytest-timeout gives it",
            seen=str(error),
            hint="the step it was in is the last of run.jsonl; give --timeout more than the settings' timeouts add up to",
        )
    if error is None and report.failed:
        return ProductFailure("what is marked as a known issue to fail", seen=str(report.longrepr), hint="remove xfail")
    return error


def _finish(item: pytest.Item, reports: list[pytest.TestReport]) -> CaseResult | None:
    """Say why, close the case file of the attempt that has just ended, and have its reports tell both."""
    if CASE not in item.stash:
        return None
    from harness.reports.allure import finish_test
    from harness.reports.failing import tell
    from harness.session.why import explain

    case = item.stash[CASE]
    run = item.config.stash[RUN]
    explain(case, extension_id=run.app.extension.id, known=run.known_issues)
    result = item.stash[RESULT] = case.close()
    repeating.note_result(item.config, result)
    tell(reports, result)
    finish_test(result)
    return result


def _break_off(item: pytest.Item, error: BaseException) -> None:
    """Note that a scenario was interrupted: it gets a result that says so, unless it had failed by then."""
    if CASE not in item.stash:
        return
    case = item.stash[CASE]
    why = str(error) or ("Ctrl-C" if isinstance(error, KeyboardInterrupt) else type(error).__name__)
    case.log.event("interrupted", by=why)
    case.fail(
        Interrupted(
            "the scenario to run to its end",
            seen=f"interrupted: {why}",
            hint="this says nothing about the product: run it again",
        )
    )
    item.config.stash[BROKEN_OFF] = case


def _subscribe(config: pytest.Config, case: Case) -> None:
    from harness.reports.allure import AllureReader
    from harness.reports.console import ConsoleReader, LiveFile

    if config.getoption("allure_report_dir", None):
        case.log.subscribe(AllureReader())
    if not config.getoption("sysext_quiet"):
        if LIVE not in config.stash:
            config.stash[LIVE] = LiveFile(config.stash[RUN].folder / "live.log")
        case.log.subscribe(ConsoleReader(config.stash[LIVE], prefix=f"macOS {case.macos} {case.scenario}:"))


def _run(config: pytest.Config) -> Run:
    """This process's run; made at first use."""
    if RUN not in config.stash:
        from harness.session.run import open_run

        workerinput = getattr(config, "workerinput", {})
        folder = workerinput.get("sysext_folder") or config.stash.get(PART, None)
        given = config.getoption("sysext_config")
        config.stash[RUN] = open_run(
            overrides(config),
            config=Path(given) if given else None,
            release=config.getoption("sysext_release"),
            folder=Path(folder) if folder else None,
        )
    return config.stash[RUN]


def _prepared(config: pytest.Config) -> Run:
    """The run, checked once, with its live lines on the terminal."""
    if FOLDER in config.stash:
        return config.stash[RUN]
    from harness.session.run import prepare

    run = _run(config)
    prepare(run)
    config.stash[FOLDER] = run.folder
    terminal.writer(config)  # now, while it is not captured
    if not config.getoption("sysext_quiet"):
        from harness.reports.console import Follower

        show = terminal.writer(config)
        if show is not None:
            config.stash[FOLLOWER] = Follower(run.folder / "live.log", show)
            config.stash[FOLLOWER].start()
    return run


def _names_an_app(config: pytest.Config) -> bool:
    """Whether the settings name an app file, without `--sysext-app`."""
    if os.environ.get("SYSEXT_APP"):
        return True
    given = config.getoption("sysext_config") or os.environ.get("SYSEXT_CONFIG")
    if not given and not Path("sysext.toml").is_file():
        return False
    from harness.config import load_settings

    return load_settings(Path(given) if given else None).app is not None


@contextlib.contextmanager
def _usage_errors() -> Iterator[None]:
    try:
        yield
    except SysextError as error:
        raise pytest.UsageError(events.SECRETS.mask(str(error))) from error
