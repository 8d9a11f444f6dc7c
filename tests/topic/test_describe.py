"""The topic as a real broker describes it; its records as Spark reads them: tests/integration/test_kafka.py."""

from __future__ import annotations

from contextlib import closing

import pytest
import structlog
from kafka.admin import ConfigResource, KafkaAdminClient

import stack
from conf.errors import StreamingError, UnavailableError
from conf.kafka import Brokers
from tests.builders.waiting import until
from topic.describe import TopicAdmin, describe_topic

pytestmark = pytest.mark.stack


@pytest.fixture
def bootstrap(servers) -> str:
    return servers.kafka_bootstrap_servers


@pytest.fixture
def admin(bootstrap):
    with closing(KafkaAdminClient(bootstrap_servers=bootstrap)) as admin:
        yield admin


def test_a_kept_connection_tells_that_a_topic_was_created_anew(bootstrap, fresh_topic, admin):
    with closing(TopicAdmin(Brokers(bootstrap, 10), fresh_topic)) as topic:
        before = topic.topic_id()
        assert before == topic.topic_id() == describe_topic(Brokers(bootstrap, 10), fresh_topic).topic_id
        stack.delete_topic(bootstrap, fresh_topic)
        until(lambda: fresh_topic not in admin.list_topics())
        with pytest.raises(StreamingError, match="does not exist"):
            topic.topic_id()
        stack.ensure_topic(bootstrap, fresh_topic, 2)
        assert topic.topic_id() == describe_topic(Brokers(bootstrap, 10), fresh_topic).topic_id != before


def test_a_broker_that_is_not_there_is_unavailable():
    with pytest.raises(UnavailableError, match=r"Kafka at 127\.0\.0\.1:1 is unavailable"):
        TopicAdmin(Brokers("127.0.0.1:1", 1), "t")


def cleanup_policy(admin: KafkaAdminClient, topic: str) -> str:
    asked = ConfigResource("topic", topic, ["cleanup.policy"])
    return admin.describe_configs([asked], config_filter="all")["topic"][topic]["cleanup.policy"]["value"]


@pytest.mark.parametrize("policy", ["compact", "compact,delete"])
def test_a_compacted_topic_is_refused_with_the_reason_and_the_fix(bootstrap, fresh_topic, admin, policy):
    with closing(TopicAdmin(Brokers(bootstrap, 10), fresh_topic)) as topic:
        topic.check_cleanup_policy()
        admin.alter_configs([ConfigResource("topic", fresh_topic, {"cleanup.policy": policy})])
        until(lambda: cleanup_policy(admin, fresh_topic) == policy)  # the broker takes it a moment after its answer
        with pytest.raises(StreamingError) as raised:
            topic.check_cleanup_policy()
    assert f"cleanup.policy={policy}" in str(raised.value)
    assert "compaction deletes all of a customer's invoices but the last" in str(raised.value)
    assert f"--alter --topic {fresh_topic} --add-config cleanup.policy=delete" in str(raised.value)


def test_a_login_that_may_not_see_the_policy_is_warned(bootstrap, fresh_topic, monkeypatch):
    """The broker answers such a login with an error of the resource, which kafka-python gives as no settings."""
    monkeypatch.setattr(KafkaAdminClient, "describe_configs", lambda *_, **__: {"topic": {fresh_topic: {}}})
    with closing(TopicAdmin(Brokers(bootstrap, 10), fresh_topic)) as topic, structlog.testing.capture_logs() as lines:
        topic.check_cleanup_policy()
    assert [(line["log_level"], line["event"]) for line in lines] == [("warning", "cleanup policy unknown")]
