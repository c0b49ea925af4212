"""One file a step, the newest named by `harness.history.database.HEAD`."""
