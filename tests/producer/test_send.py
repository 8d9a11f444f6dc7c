"""How kafka-python is configured; sending itself is tested against a real broker in test_commands."""

from __future__ import annotations

import pytest
from kafka import KafkaProducer

from producer.send import DeliveryError, Sender, producer_options


@pytest.mark.parametrize("seconds", [0.5, 30, 600])
def test_nothing_is_lost_or_doubled_and_latency_is_short(seconds: float) -> None:
    options = producer_options("a:1,b:2", seconds, 2_000_000)
    assert options["bootstrap_servers"] == ["a:1", "b:2"]
    assert options["acks"] == "all"
    assert options["enable_idempotence"] is True
    assert options["compression_type"] == "lz4"
    assert options["linger_ms"] <= 5
    assert options["allow_auto_create_topics"] is False
    assert options["max_request_size"] > 2_000_000
    # kafka-python's own conditions
    assert set(options) <= set(KafkaProducer.DEFAULT_CONFIG)
    assert options["delivery_timeout_ms"] > options["linger_ms"] + options["request_timeout_ms"]
    assert options["delivery_timeout_ms"] <= seconds * 1000 + 5


def test_an_address_that_is_none() -> None:
    with pytest.raises(DeliveryError, match=r"KAFKA_BOOTSTRAP_SERVERS=127\.0\.0\.1:port: give host:port"):
        Sender("127.0.0.1:port", "t", 1)
