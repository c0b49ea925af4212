"""The extension's build beside the app's."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None
_COLUMNS = ("extension_cdhash", "extension_uuid")


def upgrade() -> None:
    """Runs that are there already do not say which extension they had."""
    for name in _COLUMNS:
        op.add_column("case_run", sa.Column(name, sa.Text, nullable=False, server_default=""))


def downgrade() -> None:
    """Forget them."""
    for name in _COLUMNS:
        op.drop_column("case_run", name)
