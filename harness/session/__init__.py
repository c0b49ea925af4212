"""One scenario on one Mac: the façade that scenarios hold, and what a run came to."""
