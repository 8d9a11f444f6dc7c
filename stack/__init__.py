"""Real Kafka and real PostgreSQL as plain processes of this machine, for the demo and the tests."""

from stack.lifecycle import (
    ServerStatus,
    Started,
    down,
    kill_broker,
    kill_database,
    reset,
    started,
    status,
    stop_broker,
    stop_database,
    up,
    up_as_configured,
)
from stack.state import StackError, State, read_state
from stack.topic import delete_topic, ensure_topic

__all__ = [
    "ServerStatus",
    "StackError",
    "Started",
    "State",
    "delete_topic",
    "down",
    "ensure_topic",
    "kill_broker",
    "kill_database",
    "read_state",
    "reset",
    "started",
    "status",
    "stop_broker",
    "stop_database",
    "up",
    "up_as_configured",
]
