"""The mart: data at rest in PostgreSQL."""
