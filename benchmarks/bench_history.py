"""The history with a million runs: how long the rates page takes on SQLite, and what it costs to get them in.

    python -m benchmarks.bench_history [RUNS]

Measured beside it: the same figures counted from the runs themselves (what the page would cost without the tally), and the
import of case files. Exit 1 above a limit.
"""

from __future__ import annotations

import itertools
import random
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from benchmarks.common import judge, scratch_folder
from harness.errors import Verdict
from harness.history.pages import as_html
from harness.history.rates import compare_releases, rates
from harness.history.rows import Row, read_paths
from harness.history.schema import CASE_RUN, SERIES
from harness.history.store import History, Selection

PAGE_SECONDS = 1.0
"""For the rates of one side, all series, from opening the file to the text of the page."""
SCENARIOS = [f"scenario {number}" for number in range(12)]
LANES = ["pristine", "instrumented"]
DAYS = 730
RELEASE_DAYS = 30


def rows(count: int) -> Iterator[Row]:
    """Two years of nightly runs: 12 scenarios × 4 macOS × 2 lanes, a release a month; a tenth of them simulated."""
    dice = random.Random(1)
    start = datetime(2024, 11, 1, tzinfo=UTC)
    causes = [f"cause-{number}" for number in range(20)]
    for number in range(count):
        day = number * DAYS // count
        chance = dice.random()
        verdict = (
            Verdict.PRODUCT_FAILURE
            if chance < 0.03
            else Verdict.ENVIRONMENT_FAILURE
            if chance < 0.04
            else Verdict.PASSED
        )
        simulated = dice.random() < 0.1
        yield Row(
            scenario=dice.choice(SCENARIOS),
            nodeid="scenarios/test_x.py::test_x[macos15]",
            macos=dice.choice(["13", "14", "15", "26"]),
            release=f"1.{day // RELEASE_DAYS}",
            image="ghcr.io/example/macos:latest",
            lane=dice.choice(LANES),
            provider="simulated" if simulated else "tart",
            simulated=simulated,
            verdict=verdict,
            cause=dice.choice(causes) if verdict is Verdict.PRODUCT_FAILURE else "",
            seconds=dice.uniform(30, 90),
            started=start + timedelta(days=day, seconds=dice.randrange(86_400)),
            host=f"mini-{dice.randrange(20)}",
            run=f"run-{number // 100}",
            case=f"case-{number % 100}",
            error="it did not" if verdict is Verdict.PRODUCT_FAILURE else "",
        )


def timed(work: Callable[[], object]) -> float:
    """Seconds of processor time, the best of three: nothing here waits for anything, and what else the machine is busy with
    is not the history's.
    """
    best = float("inf")
    for _ in range(3):
        started = time.process_time()
        work()
        best = min(best, time.process_time() - started)
    return best


def page(url: str, selection: Selection) -> str:
    history = History(url)
    try:
        return as_html(rates(history, selection))
    finally:
        history.close()


def without_tally(history: History) -> int:
    """The counts of the page, from the runs themselves."""
    key = (SERIES.c.id, CASE_RUN.c.verdict, CASE_RUN.c.cause)
    statement = (
        sa.select(*key, sa.func.count(), sa.func.min(CASE_RUN.c.started))
        .join_from(CASE_RUN, SERIES)
        .where(SERIES.c.simulated.is_(False))
        .group_by(*key)
    )
    return len(history.database.read(lambda connection: connection.execute(statement).all()))


def main() -> int:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with scratch_folder() as scratch:
        url = f"sqlite:///{scratch / 'history.sqlite'}"
        history = History(url)
        batch: list[Row] = []
        made = written = 0.0
        source = rows(count)
        while True:
            started = time.process_time()
            batch = list(itertools.islice(source, 50_000))
            made += time.process_time() - started
            if not batch:
                break
            started = time.process_time()
            history.add(batch)
            written += time.process_time() - started
            last = batch
        size = (scratch / "history.sqlite").stat().st_size / 1e6
        stored = history.size()
        print(
            f"{stored} runs added in {written:.1f} s ({stored / written:.0f}/s; made up in {made:.1f} s), {size:.0f} MB"
        )
        before = history.size()
        again = timed(lambda: history.add(last[:10_000]))
        print(f"the last 10000 added once more: {again:.2f} s, {history.size() - before} new")

        wall = time.perf_counter()
        page(url, Selection())
        wall = time.perf_counter() - wall
        series = len(history.counts(Selection()))
        everything = timed(lambda: page(url, Selection()))
        one = timed(lambda: page(url, Selection(scenario=SCENARIOS[0], release="1.20")))
        compared = timed(lambda: compare_releases(history, Selection(), "1.19", "1.20"))
        slow = timed(lambda: without_tally(history))
        print(f"one scenario, one release: {one:.3f} s; two releases compared: {compared:.3f} s")
        print(f"the counts alone ({series}), from the runs instead of the tally: {slow:.3f} s")
        history.close()

        cases = many_cases(scratch / "artifacts", 300)
        found = timed(lambda: read_paths([cases]))
        print(f"300 case files read: {found:.2f} s")
        print(f"the rates page by the clock, once, whatever else runs here: {wall:.2f} s")
        good = judge("rates page, all real runs, HTML, seconds of processor time", everything, PAGE_SECONDS)
        good &= judge("runs lost", float(count - stored), 0.0)
    return 0 if good else 1


def many_cases(folder: Path, count: int) -> Path:
    from harness.events import EventLog
    from harness.reports.result import CaseResult

    about: dict[str, Any] = {
        "release": "1",
        "simulated": False,
        "scenario": "s",
        "nodeid": "n",
        "macos": "15",
        "image": "i",
        "lane": "pristine",
        "provider": "tart",
    }
    for number in range(count):
        case = folder / "run" / f"case-{number}"
        log = EventLog(case / "run.jsonl", **about)
        for step in range(300):
            log.event("look", text="x" * 200, number=step)
        log.close()
        started = f"2026-11-01T10:{number % 60:02}:00+00:00"
        CaseResult(**about, verdict=Verdict.PASSED, started=started, case=f"run/case-{number}").write(case)
    return folder


if __name__ == "__main__":
    sys.exit(main())
