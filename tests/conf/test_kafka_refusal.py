"""The hint under "no answer from Kafka": what the client's log says, and what to check."""

from __future__ import annotations

import pytest

from conf.kafka_refusal import Reasons

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
    assert Reasons().hint(None) == (
        " (asked with KAFKA_SECURITY_PROTOCOL=PLAINTEXT: is that what the brokers' listener speaks?)"
    )
