"""Rows to store, and a real PostgreSQL of our own."""

from __future__ import annotations

import os
import pwd
import random
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from harness.errors import Verdict
from harness.events import EventLog
from harness.history.rows import Row
from harness.reports.result import CaseResult, Cause, Why
from harness.waiting import Deadline, wait_until

STARTED = "2026-11-01T10:00:00.123+00:00"
OUTCOMES = [(Verdict.PASSED, ""), (Verdict.PASSED, ""), (Verdict.PRODUCT_FAILURE, "xpc"), (Verdict.KNOWN_ISSUE, "old")]
OUTCOMES += [(Verdict.ENVIRONMENT_FAILURE, ""), (Verdict.SKIPPED, "")]


def a_row(number: int = 0, **more: object) -> Row:
    """A row unlike those of other numbers."""
    values: dict[str, object] = {
        "scenario": "upgrade", "macos": "15", "release": "1.2", "image": "img", "lane": "pristine", "provider": "tart",
        "simulated": False, "verdict": Verdict.PASSED, "seconds": 10.0, "run": f"run-{number}", "case": "c",
        "started": datetime(2026, 11, 1, tzinfo=UTC) + timedelta(hours=number),
    }  # fmt: skip
    return Row(**{**values, **more})  # type: ignore[arg-type]


def many_rows(count: int, *, seed: int = 1, **more: object) -> list[Row]:
    """Rows of several series and outcomes."""
    dice = random.Random(seed)
    rows = []
    for number in range(count):
        verdict, cause = dice.choice(OUTCOMES)
        kind = {
            "macos": dice.choice(["15", "26"]),
            "release": dice.choice(["1.2", "1.10"]),
            "simulated": dice.random() < 0.3,
        }
        rows.append(a_row(number, verdict=verdict, cause=cause, **{**kind, **more}))
    return rows


def case_file(
    folder: Path, *, verdict: Verdict = Verdict.PRODUCT_FAILURE, cause: str = "xpc-x", **more: object
) -> Path:
    """A case file as the harness writes it."""
    folder.mkdir(parents=True)
    about = {
        "scenario": "upgrade", "nodeid": "t.py::test_upgrade[macos15]", "macos": "15", "image": "img", "lane": "pristine",
        "provider": "simulated", "simulated": True, "release": "1.2", "attempt": 1, **more,
    }  # fmt: skip
    case = f"{folder.parent.name}/{folder.name}"
    why = Why(verdict="failure", headline="it is", causes=(Cause(code=cause),))
    result = CaseResult(
        **about, verdict=verdict, error="no\nprompt", seconds=12.345, started=STARTED, case=case, faults=("b", "a"),
        why=why if cause else None,
    )  # type: ignore[arg-type]  # fmt: skip
    log = EventLog(
        folder / "run.jsonl", **about, started=STARTED, case=case, host="mini-7", settings={"simulated": {"faults": ["b", "a"]}},
    )  # fmt: skip
    with log.step("work"):
        log.event("app build", cdhash="AB" * 20, uuid="6F9619FF-8B86-D011-B42D-00CF4FC964FF")
    log.event("result", verdict=verdict.value, error=result.error, seconds=result.seconds, cause=result.cause)
    log.close()
    result.write(folder)
    return folder


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A file that is not there yet."""
    return f"sqlite:///{tmp_path / 'folder' / 'history.sqlite'}"


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """A server on a Unix socket in a folder of its own; the URL without a database. Ended afterwards."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda place: float(place.parent.name))
    found = shutil.which("initdb")
    home = places[-1] if places else Path(found).resolve().parent if found else None
    if home is None or not (home / "initdb").exists() or not (home / "postgres").exists():
        pytest.skip("PostgreSQL's server is not installed")
    pytest.importorskip("psycopg", reason="psycopg is not installed (extra postgres)")
    # The server refuses to run as root.
    user = None
    if os.getuid() == 0:
        names = {one.pw_name for one in pwd.getpwall()}
        user = next((name for name in ("postgres", "nobody") if name in names), None)
        if user is None:
            pytest.skip("PostgreSQL does not run as root, and there is no user postgres or nobody")
    folder = Path(tempfile.mkdtemp(prefix="sxpg-"))  # a socket's path must be short
    try:
        if user is not None:
            shutil.chown(folder, user)
        command = [
            str(home / "initdb"),
            "-D",
            str(folder / "data"),
            "-U",
            "sysext",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C",
        ]
        made = subprocess.run(
            [*command, "--no-sync"], user=user, cwd=folder, capture_output=True, text=True, timeout=120, check=False
        )
        if made.returncode != 0:
            pytest.fail(f"initdb: {made.stderr}")
        options = ["fsync=off", "listen_addresses=", "shared_buffers=8MB", f"unix_socket_directories={folder}"]
        options += ["max_connections=40", "autovacuum=off", "full_page_writes=off"]
        arguments = [part for option in options for part in ("-c", option)]
        log = folder / "log"
        with log.open("wb") as output:
            server = subprocess.Popen(
                [str(home / "postgres"), "-D", str(folder / "data"), *arguments],
                user=user, cwd=folder, stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip
        try:
            import psycopg

            def look() -> bool:
                assert server.poll() is None, log.read_text()
                psycopg.connect(host=str(folder), user="sysext", dbname="postgres").close()
                return True

            wait_until(
                look, what="PostgreSQL to answer", deadline=Deadline.after(90), transient=(psycopg.OperationalError,)
            )
            yield f"postgresql://sysext@/{{}}?host={folder}"
        finally:
            server.terminate()
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.send_signal(3)  # at once
                server.wait(20)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres_url(postgres: str, request: pytest.FixtureRequest) -> str:
    """An empty database of the test's own."""
    import psycopg

    folder = postgres.rpartition("=")[2]
    name = f"t{abs(hash(request.node.nodeid))}"
    with psycopg.connect(host=folder, user="sysext", dbname="postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return postgres.format(name)


@pytest.fixture(params=["sqlite", "postgresql"])
def any_url(request: pytest.FixtureRequest) -> str:
    """Each kind of database."""
    name = "sqlite_url" if request.param == "sqlite" else "postgres_url"
    url = request.getfixturevalue(name)
    assert isinstance(url, str)
    return url
