"""What a pytest run says on the terminal: where the Macs come from, how to reach a kept one, the table at the end."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from harness import events
from harness.session.options import is_worker
from harness.session.stash import REACH

if TYPE_CHECKING:
    from harness.session.run import Run

TERMINAL = pytest.StashKey[int]()


def writer(config: pytest.Config) -> Callable[[str], None] | None:
    """A way to write a line where pytest's own lines go; None in a process that has no terminal (xdist's workers).

    While a test runs, pytest takes standard output away to capture it, also from its own reporter. What is said then
    goes through a descriptor that was copied before: the first call must come while nothing is captured.
    """
    reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or is_worker(config):
        return None
    if TERMINAL not in config.stash:
        try:
            config.stash[TERMINAL] = os.dup(reporter._tw._file.fileno())
        except (AttributeError, OSError, ValueError):  # not a real file: somebody runs pytest inside their program
            return _reporting(reporter)
    descriptor = config.stash[TERMINAL]

    def write(line: str) -> None:
        reporter.flush()
        start = "\n" if reporter._tw.width_of_current_line else ""
        # We write behind its back: it now is at the start of a line, and names the file again before its next dot.
        reporter._tw._current_line = ""
        reporter.currentfspath = None
        os.write(descriptor, f"{start}{line}\n".encode(errors="replace"))

    return write


def let_go(config: pytest.Config) -> None:
    """Close what `writer` copied."""
    if TERMINAL in config.stash:
        os.close(config.stash[TERMINAL])
        del config.stash[TERMINAL]


def header(run: Run) -> list[str]:
    """Where the Macs come from, and what is tested."""
    label = " — SIMULATED Macs: no result here says anything about a real one" if run.provider.simulated else ""
    lines = [f"sysext: provider {run.settings.provider}{label}"]
    lines.append(
        f"sysext: macOS {', '.join(run.settings.macos)}; lane {run.settings.lane}; app {run.app.name} ({run.app.path})"
    )
    if len(run.known_issues):
        late = [issue.id for issue in run.known_issues.expired(datetime.now(UTC).date())]
        told = f"; expired, so that they count again: {', '.join(late)}" if late else ""
        lines.append(f"sysext: known issues: {len(run.known_issues)}{told}")
    if run.settings.simulated.faults:
        lines.append(f"sysext: injected faults: {', '.join(run.settings.simulated.faults)}")
    lines.append(f"sysext: case files in {run.folder}")
    return lines


def write_summary(terminalreporter: Any, run: Run) -> None:
    """The table, and GitHub's job summary; nothing where no case file was written."""
    from harness.reports.result import read_results
    from harness.reports.summary import summarise, write_github_summary

    if not run.folder.is_dir():
        return
    results, problems = read_results(run.folder)
    if not results and not problems:
        return
    summary = summarise(results)
    terminalreporter.ensure_newline()
    terminalreporter.write_line(summary.text(width=max(160, terminalreporter._tw.fullwidth)))
    for rerun in terminalreporter.stats.get("rerun", ()):
        said = next((text for title, text in rerun.sections if title.startswith("sysext: ")), "").split("\n", 1)[0]
        terminalreporter.write_line(f"RERUN {rerun.nodeid}, broken by the environment at first: {said[:300]}")
    for problem in problems:
        terminalreporter.write_line(str(problem))
    terminalreporter.write_line(f"case files: {run.folder}")
    try:
        write_github_summary(summary)
        (run.folder / "summary.md").write_text(summary.markdown(), encoding="utf-8")
    except OSError as error:  # a full disk: the table above was shown all the same
        terminalreporter.write_line(f"the summary could not be written to a file: {error}")


def say_how_to_reach(item: pytest.Item, text: str) -> None:
    """Show how to reach a kept Mac. The VNC password in it goes to the terminal and nowhere else: xdist's workers have
    none, and what they report is kept in files, so there it is masked.
    """
    if REACH in item.config.stash:
        item.config.stash[REACH](text)
        return
    masked = events.SECRETS.mask(text)
    write = writer(item.config)
    if write is not None:
        for line in text.splitlines():
            write(line)
        return
    if masked != text:
        masked += "\n  (the VNC password is only shown without -n; `sysext machines` lists what was kept)"
    item.add_report_section("teardown", "sysext: kept", masked)


def _reporting(reporter: Any) -> Callable[[str], None]:
    def write(line: str) -> None:
        reporter.ensure_newline()
        reporter.write_line(line)

    return write
