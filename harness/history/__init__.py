"""What happened over many runs: kept in a database, counted with intervals, decided by sequential tests."""
