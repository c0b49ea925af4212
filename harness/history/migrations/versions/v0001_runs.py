"""Series, runs and their tally."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "series",
        sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
        *(
            sa.Column(name, sa.Text, nullable=False)
            for name in ("scenario", "macos", "release", "image", "lane", "provider")
        ),
        sa.Column("simulated", sa.Boolean, nullable=False),
        sa.Column("faults", sa.Text, nullable=False),
    )
    op.create_table(
        "case_run",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("series", sa.BigInteger, sa.ForeignKey("series.id"), nullable=False),
        sa.Column("started", sa.BigInteger, nullable=False),
        sa.Column("seconds", sa.Float, nullable=False),
        sa.Column("verdict", sa.String(24), nullable=False),
        sa.Column("cause", sa.Text, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("flaky", sa.Boolean, nullable=False),
        *(
            sa.Column(name, sa.Text, nullable=False)
            for name in ("host", "run", "case_name", "nodeid", "cdhash", "uuid", "known_issue", "error")
        ),
        sa.Column("content", sa.String(32), nullable=False),
    )
    op.create_index("case_run_series_started", "case_run", ["series", "started"])
    op.create_table(
        "tally",
        sa.Column("series", sa.BigInteger, sa.ForeignKey("series.id"), primary_key=True),
        sa.Column("day", sa.Integer, primary_key=True),
        sa.Column("verdict", sa.String(24), primary_key=True),
        sa.Column("cause", sa.Text, primary_key=True),
        sa.Column("runs", sa.Integer, nullable=False),
        sa.Column("flaky", sa.Integer, nullable=False),
        sa.Column("seconds", sa.Float, nullable=False),
        sa.Column("first", sa.BigInteger, nullable=False),
        sa.Column("last", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    """Remove the tables, and with them every run."""
    for name in ("tally", "case_run", "series"):
        op.drop_table(name)
