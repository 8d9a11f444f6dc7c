"""Lag against a real broker, and against one that is not there."""

from __future__ import annotations

from contextlib import closing

import pytest
from kafka import KafkaProducer
from kafka.admin import KafkaAdminClient

from conf.kafka import Brokers
from stack import delete_topic
from streaming.lag import Lag
from tests.builders.records import send
from tests.builders.waiting import until
from topic.describe import Topic, describe_topic

pytestmark = pytest.mark.stack


@pytest.fixture
def servers_of(servers):
    return servers.kafka_bootstrap_servers


def test_lag_follows_the_topic_and_the_batches(servers_of, fresh_topic):
    topic = describe_topic(Brokers(servers_of, 10), fresh_topic)
    lag = Lag(Brokers(servers_of), topic, {0: 0, 1: 0})
    assert lag.by_partition() == {0: 0, 1: 0}
    send(servers_of, fresh_topic, [(f"{n}".encode(), b"x") for n in range(20)])
    found = lag.by_partition()
    assert found is not None
    assert sum(found.values()) == 20
    assert min(found.values()) > 0
    lag.advance({1: found[1]})
    assert lag.by_partition() == {0: found[0], 1: 0}
    lag.close()
    assert lag.by_partition() is None


def test_a_silent_broker_or_a_deleted_topic_fails_nothing(servers_of, fresh_topic, caplog):
    nowhere = Lag(Brokers("127.0.0.1:1"), Topic("t", "id", {}, {}), {0: 0})
    assert nowhere.by_partition() is None
    nowhere.close()
    lag = Lag(Brokers(servers_of), describe_topic(Brokers(servers_of, 10), fresh_topic), {0: 0})
    delete_topic(servers_of, fresh_topic)
    said = []
    until(lambda: said.append(lag.by_partition()) or said[-1] is None)
    assert [known for known in said[:-1] if known != {0: 0}] == []  # it may know the topic for a moment
    assert [lag.by_partition() for _ in range(3)] == [None] * 3
    lag.close()


def test_a_partition_that_was_added_counts_from_its_first_batch_on(servers_of, fresh_topic):
    lag = Lag(Brokers(servers_of), describe_topic(Brokers(servers_of, 10), fresh_topic), {0: 0, 1: 0})
    with closing(KafkaAdminClient(bootstrap_servers=servers_of)) as admin:
        admin.create_partitions({fresh_topic: 3})
    with closing(KafkaProducer(bootstrap_servers=servers_of)) as producer:
        for _ in range(3):
            producer.send(fresh_topic, b"x", partition=2).get(timeout=30)
    assert lag.by_partition() == {0: 0, 1: 0}
    lag.advance({2: 1})
    assert lag.by_partition() == {0: 0, 1: 0, 2: 2}
    lag.close()
