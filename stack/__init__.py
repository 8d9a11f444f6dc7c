"""Real Kafka and real PostgreSQL as plain processes, for the demo and the tests."""
