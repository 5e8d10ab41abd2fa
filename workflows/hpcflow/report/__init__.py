"""What became of a run: its tasks while they run, and its results as a table."""
