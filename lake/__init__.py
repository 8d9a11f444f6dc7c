"""The lake: data at rest in a Delta table."""
