"""Whether the Mac was a fresh one.

There were copies of this program whose step before made this column too: there it is left as it is.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None
_NAME = "same_mac"


def upgrade() -> None:
    """Runs that are there already were on fresh ones: nothing else was possible then."""
    there = {column["name"] for column in sa.inspect(op.get_bind()).get_columns("case_run")}
    if _NAME not in there:
        op.add_column("case_run", sa.Column(_NAME, sa.Boolean, nullable=False, server_default=sa.false()))


def downgrade() -> None:
    """Forget it."""
    op.drop_column("case_run", _NAME)
