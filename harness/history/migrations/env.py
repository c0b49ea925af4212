"""What alembic runs: the steps, on the connection and in the transaction that `harness.history.database` opened."""

from __future__ import annotations

from alembic import context

from harness.history.schema import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA, transactional_ddl=False)
context.run_migrations()
