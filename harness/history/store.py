"""The history: rows go in (once each, whoever writes at the same time), counts come out. Simulated and real never mix."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import json
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from harness import events
from harness.config import Settings
from harness.errors import SysextError, UsageError, Verdict
from harness.history.database import Database, history_url
from harness.history.rows import Row, read_run
from harness.history.schema import CASE_RUN, SERIES, TALLY

_BATCH = 2000
FAILURES = (Verdict.PRODUCT_FAILURE, Verdict.KNOWN_ISSUE)
"""What counts as a failure of the product; a known one is told apart."""
JUDGED = (Verdict.PASSED, *FAILURES)
"""What counts as a run at all: the Mac's or our own failures and skips say nothing about the product."""


@dataclass(frozen=True)
class Added:
    """What an import changed.

    Attributes:
        added: Rows that are new.
        known: Rows that were there already.
        differing: Of those, how many had another outcome (judged anew, or altered). The first one stays.
    """

    added: int = 0
    known: int = 0
    differing: int = 0


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which runs to look at: one side, real or simulated, always; None leaves a column open.

    Attributes:
        since: The first (UTC) day.
        until: The last (UTC) day.
        scenario: `*` stands for any text; so in `image`.
    """

    simulated: bool = False
    scenario: str | None = None
    macos: str | None = None
    release: str | None = None
    image: str | None = None
    lane: str | None = None
    provider: str | None = None
    faults: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def where(self) -> list[sa.ColumnElement[bool]]:
        """The conditions, on series and tally."""
        conditions: list[sa.ColumnElement[bool]] = [SERIES.c.simulated.is_(self.simulated)]
        for name in ("scenario", "macos", "release", "image", "lane", "provider", "faults"):
            wanted = getattr(self, name)
            if wanted is None:
                continue
            if "*" in wanted and name in ("scenario", "image"):
                escaped = wanted.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_").replace("*", "%")
                conditions.append(SERIES.c[name].like(escaped, escape="\\"))
            else:
                conditions.append(SERIES.c[name] == wanted)
        if self.since is not None:
            conditions.append(TALLY.c.day >= _day(self.since))
        if self.until is not None:
            conditions.append(TALLY.c.day <= _day(self.until))
        return conditions


@dataclass(frozen=True, kw_only=True)
class Series:
    """One kind of run."""

    scenario: str
    macos: str
    release: str
    image: str
    lane: str
    provider: str
    simulated: bool
    faults: str = ""


@dataclass(frozen=True)
class Count:
    """Runs of one series with one verdict and cause.

    Attributes:
        seconds: The sum of their wall times.
        first: The earliest start, UTC.
        last: The latest.
    """

    series: Series
    verdict: Verdict
    cause: str
    runs: int
    flaky: int
    seconds: float
    first: datetime
    last: datetime


Days = Mapping[Series, Sequence[tuple[int, int, int]]]
"""Per series: (UTC day since 1970, failures, judged runs), in order of time."""


class History:
    """The open history. Raises what `Database` raises."""

    def __init__(self, url: str) -> None:
        self.database = Database(url)

    def add(self, rows: Iterable[Row]) -> Added:
        """Add rows: all of them or none; those that are there already change nothing."""
        unique = list({row.id: row for row in rows}.items())
        if not unique:
            return Added()
        return self.database.write(lambda connection: self._add(connection, [row for _, row in sorted(unique)]))

    def _add(self, connection: sa.Connection, rows: Sequence[Row]) -> Added:
        insert: Any = sqlite.insert if self.database.is_sqlite else postgresql.insert
        series = {_id_of(key): dict(zip(_COLUMNS, key, strict=True)) for key in set(map(_key_of, rows))}
        known_series = sa.select(SERIES.c.id)
        missing = set(series)
        for part in _parts(sorted(series), 500):
            missing -= set(connection.execute(known_series.where(SERIES.c.id.in_(part))).scalars())
        if missing:
            connection.execute(
                insert(SERIES).on_conflict_do_nothing(), [{"id": key, **series[key]} for key in sorted(missing)]
            )
        added = differing = 0
        tallies: dict[tuple[int, int, str, str], list[float]] = {}
        for part in _parts(rows, _BATCH):
            fresh = self._insert_runs(connection, insert, part)
            added += len(fresh)
            for row in part:
                if row.id in fresh:
                    _count(tallies, row)
            old = {row.id: row.content for row in part if row.id not in fresh}
            for ids in _parts(sorted(old), 500):
                there = connection.execute(sa.select(CASE_RUN.c.id, CASE_RUN.c.content).where(CASE_RUN.c.id.in_(ids)))
                differing += sum(old[one] != content for one, content in there)
        self._upsert_tallies(connection, insert, tallies)
        return Added(added, len(rows) - added, differing)

    def _insert_runs(self, connection: sa.Connection, insert: Any, rows: Sequence[Row]) -> set[str]:
        """Insert those that are not there yet; returns their ids. Who comes second waits for the first to be done."""
        statement = insert(CASE_RUN).on_conflict_do_nothing().returning(CASE_RUN.c.id)
        return set(connection.execute(statement, [_run_of(row) for row in rows]).scalars())

    def _upsert_tallies(
        self, connection: sa.Connection, insert: Any, tallies: Mapping[tuple[int, int, str, str], list[float]]
    ) -> None:
        if not tallies:
            return
        statement = insert(TALLY)
        new = statement.excluded
        statement = statement.on_conflict_do_update(
            index_elements=["series", "day", "verdict", "cause"],
            set_={
                **{name: TALLY.c[name] + new[name] for name in ("runs", "flaky", "seconds")},
                "first": sa.case((new.first < TALLY.c.first, new.first), else_=TALLY.c.first),
                "last": sa.case((new.last > TALLY.c.last, new.last), else_=TALLY.c.last),
            },
        )
        connection.execute(  # in one order, so that two writers do not wait for each other
            statement,
            [
                dict(zip([column.name for column in TALLY.c], (*key, *values), strict=True))
                for key, values in sorted(tallies.items())
            ],
        )

    def counts(self, selection: Selection) -> list[Count]:
        """Runs by series, verdict and cause; ordered."""
        columns = [SERIES.c.id, TALLY.c.verdict, TALLY.c.cause]
        statement = (
            sa.select(
                *columns,
                *(sa.func.sum(TALLY.c[name]) for name in ("runs", "flaky", "seconds")),
                sa.func.min(TALLY.c.first),
                sa.func.max(TALLY.c.last),
            )
            .join_from(TALLY, SERIES)
            .where(*selection.where())
            .group_by(*columns)
        )
        series, rows = self._read(selection, statement)
        counts = [
            Count(
                series[key], Verdict(verdict), cause, int(runs), int(flaky), float(seconds), _time(first), _time(last)
            )
            for key, verdict, cause, runs, flaky, seconds, first, last in rows
        ]
        places = {key: place for place, key in enumerate(sorted({one.series for one in counts}, key=_order))}
        counts.sort(key=lambda one: (places[one.series], one.verdict, one.cause))
        return counts

    def days(self, selection: Selection) -> Days:
        """Judged runs by series and day."""
        failed = sa.case((TALLY.c.verdict.in_([one.value for one in FAILURES]), TALLY.c.runs), else_=0)
        statement = (
            sa.select(SERIES.c.id, TALLY.c.day, sa.func.sum(failed), sa.func.sum(TALLY.c.runs))
            .join_from(TALLY, SERIES)
            .where(*selection.where(), TALLY.c.verdict.in_([one.value for one in JUDGED]))
            .group_by(SERIES.c.id, TALLY.c.day)
            .order_by(SERIES.c.id, TALLY.c.day)
        )
        series, rows = self._read(selection, statement)
        days: dict[Series, list[tuple[int, int, int]]] = {}
        for key, group in itertools.groupby(rows, key=operator.itemgetter(0)):
            days[series[key]] = [(int(day), int(failures), int(runs)) for _, day, failures, runs in group]
        return days

    def runs(self, selection: Selection, *, most: int = 100_000) -> list[dict[str, Any]]:
        """The runs themselves, the newest first: the columns of `Row`, `id`, and `started` as a time; for a sign-off."""
        columns = [column for column in CASE_RUN.c if column.name not in ("series", "content", "case_name")]
        conditions = [one for one in selection.where() if TALLY not in _tables(one)]
        if selection.since is not None:
            conditions.append(CASE_RUN.c.started >= _day(selection.since) * 86_400_000)
        if selection.until is not None:
            conditions.append(CASE_RUN.c.started < (_day(selection.until) + 1) * 86_400_000)
        statement = (
            sa.select(*columns, CASE_RUN.c.case_name.label("case"), *(one for one in SERIES.c if one.name != "id"))
            .join_from(CASE_RUN, SERIES)
            .where(*conditions)
            .order_by(CASE_RUN.c.started.desc(), CASE_RUN.c.id)
            .limit(most)
        )
        rows = self.database.read(lambda connection: connection.execute(statement).mappings().all())
        return [{**row, "started": _time(row["started"]), "verdict": Verdict(row["verdict"])} for row in rows]

    def size(self) -> int:
        """How many runs there are, of both sides."""
        statement = sa.select(sa.func.coalesce(sa.func.sum(TALLY.c.runs), 0))
        return int(self.database.read(lambda connection: connection.execute(statement).scalar_one()))

    def close(self) -> None:
        """Close it."""
        self.database.close()

    def _read(self, selection: Selection, statement: sa.Select[Any]) -> tuple[dict[int, Series], Sequence[Any]]:
        def work(connection: sa.Connection) -> tuple[Sequence[Any], Sequence[Any]]:
            chosen = sa.select(SERIES).where(SERIES.c.simulated.is_(selection.simulated))
            result = connection.execute(statement)
            # As the driver has them: with tens of thousands, SQLAlchemy's rows cost more than the query.
            assert result.cursor is not None
            rows = result.cursor.fetchall()
            result.close()
            return connection.execute(chosen).mappings().all(), rows

        series, rows = self.database.read(work)
        return {one["id"]: Series(**{name: one[name] for name in one if name != "id"}) for one in series}, rows


@contextlib.contextmanager
def open_history(settings: Settings) -> Iterator[History]:
    """The history that the settings name; closed afterwards."""
    history = History(history_url(settings))
    try:
        yield history
    finally:
        history.close()


def require_history(settings: Settings) -> None:
    """Asking makes no database.

    Raises:
        UsageError: The settings name a file of SQLite that is not there.
    """
    try:
        url = sa.make_url(history_url(settings))
    except sa.exc.ArgumentError:
        return  # whoever opens it says so
    if url.get_backend_name() == "sqlite" and url.database and not Path(url.database).is_file():
        raise UsageError(
            f"a history at {url.database}",
            seen="none yet",
            hint="runs are recorded when they end; `sysext history import artifacts` adds old ones",
        )


@dataclass(frozen=True)
class Recorded:
    """What `record_run` did.

    Attributes:
        unfinished: Case files without an end.
        problem: Why nothing could be recorded; empty if it could.
        damaged: Case files that could not be read, each with the reason; the others were recorded.
    """

    added: Added = Added()
    unfinished: int = 0
    problem: str = ""
    damaged: tuple[str, ...] = ()


def record_run(folder: Path, settings: Settings) -> Recorded:
    """Add the case files below a run's folder to the history, when the run has ended. Never raises for what may go wrong
    there (a damaged file, a database out of reach): that is an event, for the run's verdict has nothing to do with it.
    """
    if not settings.history.record:
        return Recorded()
    with events.step("record the run", folder=str(folder)) as step:
        try:
            found, damaged = read_run(folder)
            with open_history(settings) as history:
                added = history.add(found.rows)
        except (SysextError, OSError) as error:
            events.event("degraded", what="the run is not in the history", reason=str(error))
            return Recorded(problem=str(error))
        for problem in damaged:
            events.event("degraded", what="a case file is not in the history", reason=problem)
        step.note(added=added.added, known=added.known, unfinished=len(found.unfinished), damaged=len(damaged))
        return Recorded(added, len(found.unfinished), damaged=damaged)


_COLUMNS = tuple(column.name for column in SERIES.c if column.name != "id")
_key_of = operator.attrgetter(*_COLUMNS)


def _series_id(row: Row) -> int:
    return _id_of(_key_of(row))


@functools.lru_cache(maxsize=10_000)
def _id_of(values: tuple[Any, ...]) -> int:
    text = json.dumps(dict(zip(_COLUMNS, values, strict=True)), sort_keys=True)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def _run_of(row: Row) -> dict[str, Any]:
    names = ("id", "seconds", "cause", "attempt", "flaky", "host", "run", "nodeid", "cdhash", "uuid", "known_issue")
    more = ("extension_cdhash", "extension_uuid", "same_mac", "error", "content")
    return {
        **{name: getattr(row, name) for name in (*names, *more)},
        "series": _series_id(row),
        "started": row.started_ms,
        "verdict": row.verdict.value,
        "case_name": row.case,
    }


def _count(tallies: dict[tuple[int, int, str, str], list[float]], row: Row) -> None:
    key = (_series_id(row), row.day, row.verdict.value, row.cause)
    started = row.started_ms
    if key not in tallies:
        tallies[key] = [0, 0, 0.0, started, started]
    values = tallies[key]
    values[0] += 1
    values[1] += row.flaky
    values[2] += row.seconds
    values[3] = min(values[3], started)
    values[4] = max(values[4], started)


def _parts(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _tables(condition: sa.ColumnElement[bool]) -> list[Any]:
    return [getattr(one, "table", None) for one in sa.sql.visitors.iterate(condition)]


def _order(series: Series) -> tuple[object, ...]:
    return (
        *(series.scenario, int(series.macos) if series.macos.isdigit() else 0, series.macos, series.lane),
        *(series.provider, series.image, natural(series.release), series.faults),
    )


def natural(text: str) -> tuple[tuple[int, int, str], ...]:
    """Sorts "0.11.10" after "0.11.9"."""
    parts = [part for part in text.replace("-", ".").split(".") if part]
    return tuple((0, int(part), "") if part.isascii() and part.isdigit() else (1, 0, part) for part in parts)


def _day(time: datetime) -> int:
    aware = time if time.tzinfo is not None else time.replace(tzinfo=UTC)
    return int(aware.timestamp() // 86_400)


def _time(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
