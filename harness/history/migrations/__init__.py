"""Steps of the database's schema, run by alembic from `harness.history.database`."""
