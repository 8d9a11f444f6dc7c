"""The streaming job: Kafka → PostgreSQL, exactly once."""
