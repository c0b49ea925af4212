"""The way into the database: SQLite or PostgreSQL by URL, the schema brought up to date, busy neighbours waited for."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

from harness.config import Settings
from harness.errors import EnvironmentFailure, UsageError, Verdict
from harness.events import SECRETS
from harness.waiting import Deadline, wait_until

HEAD: Final = "0003"
"""The newest migration."""
FILE_NAME: Final = "history.sqlite"
_LOCK: Final = 0x53595345  # of PostgreSQL's advisory locks, for who migrates
_BUSY_STATES: Final = frozenset({"40001", "40P01", "55P03", "57P03"})  # serialization, deadlock, lock, starting up
_BUSY_SECONDS: Final = 60.0
_ERRORS: Final = (DBAPIError, sqlite3.Error)
"""What SQLAlchemy says, and what SQLite says where it is spoken to directly."""
T = TypeVar("T")


class _Busy(Exception):
    """Somebody else is writing."""


def history_url(settings: Settings) -> str:
    """Where the history is: `history.url`, or a file below `cache`."""
    return settings.history.url.get_secret_value() or f"sqlite:///{(settings.cache_dir / FILE_NAME).absolute()}"


class Database:
    """An open database with the newest schema.

    Raises:
        UsageError: The URL cannot be used, its driver is not installed, or a newer version of this program made the schema.
        EnvironmentFailure: The server or file cannot be reached or written.
    """

    def __init__(self, url: str) -> None:
        self.url = _parsed(url)
        self.name = self.url.render_as_string(hide_password=True)
        """For people, without the password."""
        self.engine = self._engine()
        try:
            self._migrate()
        except BaseException:
            self.engine.dispose()
            raise

    @property
    def is_sqlite(self) -> bool:
        """SQLite, else PostgreSQL."""
        return self.url.get_backend_name() == "sqlite"

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    def read(self, work: Callable[[sa.Connection], T]) -> T:
        """`work` in a transaction that sees one state of the data."""
        return self._run(work, write=False)

    def write(self, work: Callable[[sa.Connection], T]) -> T:
        """`work` in a transaction: all of it or nothing. It is done anew if another writer was in the way."""
        return self._run(work, write=True)

    def _run(self, work: Callable[[sa.Connection], T], *, write: bool) -> T:
        def attempt() -> tuple[T]:
            try:
                with self._transaction(write=write) as connection:
                    return (work(connection),)
            except _ERRORS as error:
                if _is_busy(error):
                    raise _Busy(_reason(error)) from error
                raise

        try:
            (result,) = wait_until(
                attempt,
                what=f"a turn to {'write to' if write else 'read'} {self.name}",
                deadline=Deadline.after(_BUSY_SECONDS),
                transient=(_Busy,),
                interval=0.05,
                hint="another process holds it: wait for that one, or end it",
                blame=Verdict.ENVIRONMENT_FAILURE,
            )
        except (SQLAlchemyError, sqlite3.Error) as error:
            raise EnvironmentFailure(
                f"the history at {self.name} to answer",
                seen=SECRETS.mask(_reason(error)),
                hint="is `history.url` right, the server up, the disk writable and not full?",
            ) from error
        return result

    @contextlib.contextmanager
    def _transaction(self, *, write: bool) -> Iterator[sa.Connection]:
        with self.engine.connect() as plain:
            connection = plain.execution_options(sysext_write=write)
            with connection.begin():
                yield connection

    def _engine(self) -> sa.Engine:
        arguments: dict[str, Any] = {"timeout": 30} if self.is_sqlite else {"connect_timeout": 10}
        if self.is_sqlite and self.url.database:
            try:
                Path(self.url.database).absolute().parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise EnvironmentFailure(
                    f"a folder for the history at {self.url.database}",
                    seen=str(error),
                    hint="set `history.url` or `cache` to a place that can be written to",
                ) from error
        try:
            engine = sa.create_engine(self.url, connect_args=arguments)
        except ModuleNotFoundError as error:
            raise UsageError(
                f"a driver for {self.name}",
                seen=f"{error.name} is not installed",
                hint="pip install 'sysext-harness[postgres]'",
            ) from error
        except (NoSuchModuleError, ArgumentError) as error:
            raise UsageError("a usable history.url", seen=str(error), hint=_URL_HINT) from error
        if self.is_sqlite:
            event.listen(engine, "connect", _sqlite_connected)
            event.listen(engine, "begin", _sqlite_begins)
        return engine

    def _migrate(self) -> None:
        if self.is_sqlite:
            self._run(_wal, write=False)
        version = self.read(_version)
        if version == HEAD:
            return
        self.write(self._upgrade)

    def _upgrade(self, connection: sa.Connection) -> None:
        if not self.is_sqlite:
            connection.execute(sa.text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
        if _version(connection) == HEAD:  # somebody else was first
            return
        from alembic import command
        from alembic.util import CommandError

        config = alembic_config()
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise UsageError(
                f"a history of schema {HEAD} or older at {self.name}",
                seen=str(error),
                hint="a newer sysext-harness made it: use that one, or another `history.url`",
            ) from error


def alembic_config() -> Any:
    """Alembic's configuration for the migrations of this package."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    return config


_URL_HINT: Final = "sqlite:////path/history.sqlite or postgresql://user@host/name"


def _parsed(text: str) -> sa.URL:
    try:
        url = sa.make_url(text)
        backend = url.get_backend_name()
    except (ArgumentError, ValueError) as error:
        raise UsageError("a usable history.url", seen="not a URL of a database", hint=_URL_HINT) from error
    if url.password and len(url.password) >= 4:
        SECRETS.add(url.password)
    if backend == "postgres":  # as many services still write it
        url, backend = url.set(drivername="postgresql"), "postgresql"
    if backend not in ("sqlite", "postgresql"):
        raise UsageError("SQLite or PostgreSQL in history.url", seen=backend, hint=_URL_HINT)
    if backend == "postgresql" and url.drivername == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    if backend == "sqlite" and url.database in (None, "", ":memory:"):
        raise UsageError("a file in history.url", seen="a database in memory", hint=_URL_HINT)
    return url


def _sqlite_connected(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # transactions are begun below, not by the driver
    chosen = ("busy_timeout=30000", "synchronous=NORMAL", "foreign_keys=ON", "temp_store=MEMORY")
    for pragma in (*chosen, "case_sensitive_like=ON"):  # as PostgreSQL has it
        connection.execute(f"PRAGMA {pragma}")


def _sqlite_begins(connection: sa.Connection) -> None:
    # A transaction that reads first and then writes could not wait for its turn: who writes says so at once.
    write = connection.get_execution_options().get("sysext_write")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _wal(connection: sa.Connection) -> None:
    """Readers and one writer at a time, not one or the other. It stays so; cannot be set inside a transaction."""
    raw = connection.connection.dbapi_connection
    assert raw is not None
    raw.execute("COMMIT")
    try:
        if raw.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            raw.execute("PRAGMA journal_mode=WAL")
    finally:
        raw.execute("BEGIN")


def _version(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    version = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
    return None if version is None else str(version)


def _is_busy(error: DBAPIError | sqlite3.Error) -> bool:
    state = getattr(getattr(error, "orig", None), "sqlstate", None)
    if state is not None:
        return state in _BUSY_STATES
    text = _reason(error).lower()
    return "database is locked" in text or "database table is locked" in text or "database schema is locked" in text


def _reason(error: SQLAlchemyError | sqlite3.Error) -> str:
    orig = getattr(error, "orig", None)
    return str(orig if orig is not None else error).strip()[:600]
