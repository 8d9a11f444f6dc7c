"""How a client of Kafka is made, and what its failures are in our words; sending and asking: against a real broker."""

from __future__ import annotations

import pytest
from kafka import KafkaProducer
from kafka.errors import KafkaTimeoutError, TopicAuthorizationFailedError

from conf.errors import StreamingError, UnavailableError
from conf.kafka import Brokers, Reasons, producer_options
from conf.settings import SettingsError

SASL = {"security_protocol": "SASL_SSL"}
LOGIN = "And are KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD and KAFKA_SASL_MECHANISM right?"


@pytest.mark.parametrize(
    "message",
    [
        "KafkaConnectionError: socket disconnected",
        "RequestTimedOutError: Request timed out after 31 ms",
        "KafkaTimeoutError: Unable to bootstrap",
    ],
)
def test_a_refused_login_may_look_like_anything_so_it_is_to_be_checked(message):
    reasons = Reasons()
    reasons.messages.append(message)
    assert LOGIN in reasons.hint(SASL)


def test_the_login_is_not_named_before_it_was_tried():
    reasons = Reasons()
    reasons.messages += ["SSLError: CERTIFICATE_VERIFY_FAILED", "KafkaTimeoutError: Unable to bootstrap"]
    said = reasons.hint(SASL)
    assert LOGIN not in said
    assert said.startswith(" (SSLError: CERTIFICATE_VERIFY_FAILED; asked with KAFKA_SECURITY_PROTOCOL=SASL_SSL: ")


def test_without_a_login_the_listeners_protocol_is_to_be_checked():
    assert Reasons().hint({}) == (
        " (asked with KAFKA_SECURITY_PROTOCOL=PLAINTEXT: is that what the brokers' listener speaks?)"
    )


@pytest.mark.parametrize("seconds", [0.5, 30, 600])
def test_a_producer_waits_for_all_replicas_and_for_no_longer_than_it_is_told(seconds: float) -> None:
    options = producer_options(int(seconds * 1000), 2_000_000)
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


def test_an_address_that_is_none():
    brokers = Brokers("127.0.0.1:port")
    for make in (brokers.admin, brokers.consumer, lambda: brokers.producer(1_000)):
        with pytest.raises(SettingsError, match=r"KAFKA_BOOTSTRAP_SERVERS=127\.0\.0\.1:port: give host:port"):
            make()


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (KafkaTimeoutError("too late"), UnavailableError, "Kafka at a:1 is unavailable: KafkaTimeoutError"),
        (OSError("no route"), UnavailableError, "Kafka at a:1 is unavailable: OSError no route"),
        (TopicAuthorizationFailedError(), StreamingError, "Kafka at a:1 refuses it: TopicAuthorizationFailedError"),
    ],
    ids=["timeout", "network", "no right"],
)
def test_its_failures_are_ours(error, kind, says):
    with pytest.raises(kind, match=says), Brokers("a:1").answering():
        raise error
