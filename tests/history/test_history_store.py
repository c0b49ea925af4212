"""The store, on SQLite and on a real PostgreSQL: nothing twice, nothing lost, nothing mixed."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from harness.config import Settings
from harness.errors import EnvironmentFailure, SysextError, UsageError, Verdict
from harness.events import SECRETS, EventLog, use
from harness.history import database
from harness.history.database import HEAD, Database, alembic_config, history_url
from harness.history.recording import record_session, told
from harness.history.rows import read_paths
from harness.history.schema import CASE_RUN, METADATA, TALLY
from harness.history.store import Added, History, Selection, open_history, record_run
from tests.history.conftest import a_row, case_file, many_rows


def recount(history: History) -> Counter[tuple[object, ...]]:
    """The tally, made anew from the runs."""
    statement = sa.select(CASE_RUN.c.series, CASE_RUN.c.started, CASE_RUN.c.verdict, CASE_RUN.c.cause)
    rows = history.database.read(lambda connection: connection.execute(statement).all())
    return Counter((series, started // 86_400_000, verdict, cause) for series, started, verdict, cause in rows)


def tally(history: History) -> Counter[tuple[object, ...]]:
    statement = sa.select(TALLY.c.series, TALLY.c.day, TALLY.c.verdict, TALLY.c.cause, TALLY.c.runs)
    rows = history.database.read(lambda connection: connection.execute(statement).all())
    return Counter({tuple(key): runs for *key, runs in rows})


def test_once_is_enough(any_url: str) -> None:
    rows = many_rows(300)
    history = History(any_url)
    try:
        assert history.add(rows[:200]) == Added(200, 0, 0)
        before = tally(history)
        assert history.add([*rows[:200], *rows[:50]]) == Added(0, 200, 0)
        assert tally(history) == before
        assert history.add(rows) == Added(100, 200, 0)
        assert history.size() == 300
        assert tally(history) == recount(history)
        altered = dataclasses.replace(rows[0], verdict=Verdict.HARNESS_ERROR)
        assert history.add([altered]) == Added(0, 1, 1)
        assert tally(history) == recount(history)
    finally:
        history.close()
    again = History(any_url)
    try:
        assert again.size() == 300
        real, simulated = again.counts(Selection()), again.counts(Selection(simulated=True))
        assert sum(one.runs for one in real) == sum(not row.simulated for row in rows)
        assert sum(one.runs for one in simulated) == sum(row.simulated for row in rows)
        assert not any(one.series.simulated for one in real)
        assert sorted({one.series.release for one in real}) == ["1.10", "1.2"]
        assert next(one.series.release for one in real if one.series.macos == "15") == "1.2"  # not "1.10"
        judged = [row for row in rows if row.verdict in (Verdict.PASSED, Verdict.PRODUCT_FAILURE, Verdict.KNOWN_ISSUE)]
        days = again.days(Selection())
        points = [point for one in days.values() for point in one]
        assert sum(runs for _, _, runs in points) == sum(not row.simulated for row in judged)
        assert sum(failures for _, failures, _ in points) == sum(
            not row.simulated and row.verdict is not Verdict.PASSED for row in judged
        )
    finally:
        again.close()


def test_who_opens_while_another_holds_the_file_waits_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite does not always wait itself where the journal's mode is changed: it may say at once that it is locked."""
    change, said = database._wal, ["database is locked", "database is locked"]

    def locked(connection: sa.Connection) -> None:
        if said:
            raise sqlite3.OperationalError(said.pop())
        change(connection)

    monkeypatch.setattr(database, "_wal", locked)
    with contextlib.closing(History(f"sqlite:///{tmp_path / 'one.sqlite'}")) as history:
        assert history.add([a_row()]).added == 1
    said.append("attempt to write a readonly database")
    with pytest.raises(EnvironmentFailure, match="readonly"):
        History(f"sqlite:///{tmp_path / 'two.sqlite'}")


def test_writers_at_once_lose_nothing(any_url: str) -> None:
    """Each with connections of its own, on a database that is not there yet; a third of the rows are everybody's."""
    everybody = many_rows(150, seed=1)
    own = [many_rows(150, seed=2, image=f"image-{number}") for number in range(4)]
    problems: list[BaseException] = []
    start = threading.Barrier(4)

    def work(number: int) -> None:
        try:
            start.wait(60)
            history = History(any_url)
            rows = [*everybody, *own[number]]
            for place in range(0, len(rows), 20):
                history.add(rows[place : place + 20] if number % 2 else rows[::-1][place : place + 20])
            history.close()
        except BaseException as error:  # noqa: BLE001 - told below
            problems.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert problems == []
    history = History(any_url)
    assert history.size() == 150 + 4 * 150
    assert tally(history) == recount(history)
    history.close()


SESSION = """
import os, signal, sys
from pathlib import Path
from harness.config import Settings
from harness.history import store
from harness.history.recording import record_session

folder, killed, *urls = sys.argv[1:]
if killed == "killed":  # the runs are in, their tally is not: the worst moment to go
    def die(*_):
        os.kill(os.getpid(), signal.SIGKILL)
    store.History._upsert_tallies = die
for url in urls:
    settings = Settings.model_validate({"cache": "cache", "history": {"url": url}})
    print(record_session(Path(folder), settings), flush=True)
"""


def test_sessions_that_end_at_once_and_one_that_is_killed(
    tmp_path: Path, sqlite_url: str, request: pytest.FixtureRequest
) -> None:
    """Real processes. All sessions hold a copy of the same case file; the killed one holds some of its own."""
    try:
        urls = [sqlite_url, request.getfixturevalue("postgres_url")]
    except pytest.skip.Exception:
        urls = [sqlite_url]
    for session in ("one", "two", "three"):
        for number in range(3):
            case_file(tmp_path / session / "run" / f"{session}-{number}")
        case_file(tmp_path / session / "run" / "everybodys")
    work = [("one", "", urls), ("two", "", urls), *(("three", "killed", [url]) for url in urls)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SESSION, str(tmp_path / session / "run"), how, *given],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
            stdout=subprocess.PIPE,
            text=True,
        )
        for session, how, given in work
    ]
    said = [process.communicate(timeout=240)[0].splitlines() for process in processes]
    assert [process.returncode for process in processes] == [0, 0, *(-9 for _ in urls)]
    for one, two in zip(said[0], said[1], strict=True):
        assert sorted((one, two)) == ["history: 3 runs recorded, 1 already there", "history: 4 runs recorded"]
    assert said[2:] == [[] for _ in urls]
    for url in urls:
        history = History(url)
        assert history.size() == 7
        assert tally(history) == recount(history)
        assert history.add(read_paths([tmp_path / "three"]).rows) == Added(3, 1, 0)  # whoever was killed imports later
        assert tally(history) == recount(history)
        history.close()


def test_all_or_nothing(any_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    history = History(any_url)
    history.add(many_rows(5))

    def broken(*_: object) -> None:
        raise RuntimeError("in between")

    with monkeypatch.context() as patch:
        patch.setattr(History, "_upsert_tallies", broken)
        with pytest.raises(RuntimeError):
            history.add(many_rows(40))
    assert history.size() == 5
    assert sum(recount(history).values()) == 5
    assert history.add(many_rows(40)).added == 35
    history.close()


def test_what_is_selected(any_url: str) -> None:
    history = History(any_url)
    rows = [
        a_row(0, scenario="first 100%", image="ghcr.io/x:1"),
        a_row(30, scenario="first 100x", image="ghcr.io/y:1", lane="managed"),
        a_row(60, scenario="second", provider="this-mac", macos="26", release="2.0"),
    ]
    history.add(rows)

    def scenarios(**chosen: object) -> list[str]:
        return [one.series.scenario for one in history.counts(Selection(**chosen))]  # type: ignore[arg-type]

    assert scenarios() == ["first 100%", "first 100x", "second"]
    assert scenarios(scenario="first 100%") == ["first 100%"]
    assert scenarios(scenario="*100%") == ["first 100%"]
    assert scenarios(scenario="first*") == ["first 100%", "first 100x"]
    assert scenarios(scenario="First*") == []
    assert scenarios(image="*/y*") == ["first 100x"]
    assert scenarios(lane="managed") == ["first 100x"]
    assert scenarios(provider="this-mac") == scenarios(macos="26") == scenarios(release="2.0") == ["second"]
    assert scenarios(since=datetime(2026, 11, 2, tzinfo=UTC)) == ["first 100x", "second"]
    assert scenarios(until=datetime(2026, 11, 2, tzinfo=UTC)) == ["first 100%", "first 100x"]
    assert scenarios(simulated=True) == []
    (run,) = history.runs(Selection(since=datetime(2026, 11, 3, tzinfo=UTC)))
    assert (run["scenario"], run["case"], run["started"]) == ("second", "c", rows[2].started)
    assert run["verdict"] is Verdict.PASSED
    assert [run["id"] for run in history.runs(Selection(), most=2)] == [rows[2].id, rows[1].id]
    history.close()


def test_texts_that_databases_dislike(any_url: str) -> None:
    history = History(any_url)
    row = a_row(error="a\0b\udcff", scenario="q'; DROP TABLE tally --", cause="é" * 5000, image="i" * 5000)
    assert history.add([row]).added == 1
    assert history.counts(Selection(scenario="q'; DROP TABLE tally --"))[0].runs == 1
    history.close()


def test_the_schema_is_what_the_migrations_leave(any_url: str) -> None:
    assert ScriptDirectory.from_config(alembic_config()).get_current_head() == HEAD
    database = Database(any_url)

    def look(connection: sa.Connection) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(connection), METADATA))

    assert database.read(look) == []

    def down_and_up(connection: sa.Connection) -> None:
        config = alembic_config()
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
        assert not sa.inspect(connection).has_table("case_run")
        command.upgrade(config, "head")

    database.write(down_and_up)
    assert database.read(look) == []
    database.close()


def test_a_schema_of_the_future(any_url: str) -> None:
    database = Database(any_url)
    database.write(lambda connection: connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'")))
    database.close()
    with pytest.raises(UsageError, match="newer"):
        Database(any_url)


@pytest.mark.parametrize(
    "url", ["nonsense", "mysql://h/d", "sqlite://", "sqlite:///:memory:", "oracle+x://h", "postgresql+nonsense://h/d"]
)
def test_unusable_urls(url: str) -> None:
    with pytest.raises(UsageError, match=r"history\.url"):
        Database(url)


def test_a_server_that_is_not_there_and_its_password(tmp_path: Path) -> None:
    pytest.importorskip("psycopg", reason="psycopg is not installed (extra postgres)")
    with pytest.raises(EnvironmentFailure) as caught:
        Database(f"postgresql://me:hunter2secret@/db?host={tmp_path}")
    assert "hunter2secret" not in str(caught.value)
    assert SECRETS.mask("hunter2secret") == SECRETS.MASK


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    path.write_text("nothing of the kind, and long enough to be looked at" * 20)
    with pytest.raises(SysextError, match="not a database"):
        Database(f"sqlite:///{path}")


def test_a_writer_is_waited_for(sqlite_url: str) -> None:
    history = History(sqlite_url)
    holder = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None, check_same_thread=False)
    holder.execute("BEGIN IMMEDIATE")
    writing = threading.Thread(target=history.add, args=([a_row()],))
    writing.start()
    assert history.size() == 0  # readers are not held up
    holder.execute("COMMIT")
    writing.join(60)
    assert history.size() == 1
    holder.close()
    history.close()


def settings_with(tmp_path: Path, **history: object) -> Settings:
    return Settings.model_validate({"cache": tmp_path / "cache", "history": history})


def test_a_run_is_recorded(tmp_path: Path) -> None:
    settings = settings_with(tmp_path)
    case_file(tmp_path / "run" / "case")
    assert record_run(tmp_path / "run", settings).added == Added(1, 0, 0)
    assert record_run(tmp_path / "run", settings).added == Added(0, 1, 0)
    assert history_url(settings) == f"sqlite:///{tmp_path}/cache/history.sqlite"
    with open_history(settings) as history:
        assert history.size() == 1
    assert record_run(tmp_path / "run", settings_with(tmp_path / "other", record=False)).added == Added()
    assert not (tmp_path / "other").exists()


def test_recording_hurts_no_run(tmp_path: Path) -> None:
    seen: list[dict[str, object]] = []
    log = EventLog()
    log.subscribe(seen.append)
    case = case_file(tmp_path / "run" / "case")
    with use(log):
        assert "history.url" in record_run(case, settings_with(tmp_path, url="nonsense")).problem
        case_file(tmp_path / "run" / "other")
        (case / "result.json").write_text("{")
        recorded = record_run(tmp_path / "run", settings_with(tmp_path))
    assert recorded.added == Added(1, 0, 0)  # the damaged one does not cost the other
    assert recorded.problem == ""
    assert "result.json" in recorded.damaged[0]
    assert "1 run recorded\nhistory: a case file is NOT recorded" in told(recorded)
    assert [one["attributes"]["what"] for one in seen if one.get("name") == "degraded"] == [  # type: ignore[index]
        "the run is not in the history",
        "a case file is not in the history",
    ]


def test_what_a_session_says_of_it(tmp_path: Path) -> None:
    assert record_session(tmp_path / "run", settings_with(tmp_path)) == ""  # nothing was run
    case_file(tmp_path / "run" / "case")
    assert record_session(tmp_path / "run", settings_with(tmp_path, record=False)) == ""
    assert record_session(tmp_path / "run", settings_with(tmp_path)) == "history: 1 run recorded"
    assert record_session(tmp_path / "run", settings_with(tmp_path)) == "history: 0 runs recorded, 1 already there"
    (tmp_path / "cache" / "history.sqlite").write_text("no database " * 100)
    assert record_session(tmp_path / "run", settings_with(tmp_path)).startswith("history: NOT recorded: the history at")
