"""The tables. `migrations/` makes them; what is here must be what the newest migration leaves (a test compares).

series     one kind of run: scenario × macOS × release × image × lane × provider, simulated or real, faults injected
case_run   one run of a series; never changed once it is there
tally      the runs of a series on one (UTC) day with one verdict and cause, counted: what pages are made from
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    false,
)

METADATA = MetaData()

SERIES = Table(
    "series",
    METADATA,
    Column("id", BigInteger, primary_key=True, autoincrement=False),  # 63 bits of a digest: no host has to ask for one
    Column("scenario", Text, nullable=False),
    Column("macos", Text, nullable=False),
    Column("release", Text, nullable=False),
    Column("image", Text, nullable=False),
    Column("lane", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("simulated", Boolean, nullable=False),
    Column("faults", Text, nullable=False),
)

CASE_RUN = Table(
    "case_run",
    METADATA,
    Column("id", String(32), primary_key=True),
    Column("series", BigInteger, ForeignKey("series.id"), nullable=False),
    Column("started", BigInteger, nullable=False),  # milliseconds since 1970
    Column("seconds", Float, nullable=False),
    Column("verdict", String(24), nullable=False),
    Column("cause", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("flaky", Boolean, nullable=False),
    Column("host", Text, nullable=False),
    Column("run", Text, nullable=False),
    Column("case_name", Text, nullable=False),
    Column("nodeid", Text, nullable=False),
    Column("cdhash", Text, nullable=False),
    Column("uuid", Text, nullable=False),
    Column("known_issue", Text, nullable=False),
    Column("error", Text, nullable=False),
    Column("content", String(32), nullable=False),  # digest of the outcome
    Column("extension_cdhash", Text, nullable=False, server_default=""),
    Column("extension_uuid", Text, nullable=False, server_default=""),
    Column("same_mac", Boolean, nullable=False, server_default=false()),
    Index("case_run_series_started", "series", "started"),
)

TALLY = Table(
    "tally",
    METADATA,
    Column("series", BigInteger, ForeignKey("series.id"), primary_key=True),
    Column("day", Integer, primary_key=True),  # since 1970, UTC
    Column("verdict", String(24), primary_key=True),
    Column("cause", Text, primary_key=True),
    Column("runs", Integer, nullable=False),
    Column("flaky", Integer, nullable=False),
    Column("seconds", Float, nullable=False),  # their sum
    Column("first", BigInteger, nullable=False),  # the earliest start, milliseconds since 1970
    Column("last", BigInteger, nullable=False),
    sqlite_with_rowid=False,  # a series' days lie side by side
)
