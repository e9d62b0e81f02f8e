"""How far groups are behind: from what they committed or the log's start, and whether anybody works in them."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from streams.admin import GroupLag, forget_group, lags
from streams.publish import producer_config
from tests.harness import wait_for

pytestmark = pytest.mark.integration

TOPIC = "tests.lags"


def consumer(platform: Any, group: str) -> Consumer:
    return Consumer({"bootstrap.servers": platform.bootstrap_servers, "group.id": group, "enable.auto.commit": False})


def commit(platform: Any, group: str, partition: int, offset: int) -> None:
    client = consumer(platform, group)
    client.commit(offsets=[TopicPartition(TOPIC, partition, offset)], asynchronous=False)
    client.close()


def test_lag_counts_from_the_commit_or_the_logs_start_and_tells_who_works(platform: Any) -> None:
    where = platform.bootstrap_servers
    admin = AdminClient({"bootstrap.servers": where})
    for future in admin.create_topics([NewTopic(TOPIC, 2, 1)]).values():
        future.result(30)
    producer = Producer(producer_config(where))
    for partition in (0, 1):
        for _ in range(10):
            producer.produce(TOPIC, b"x", partition=partition)
    assert producer.flush(30) == 0
    for future in admin.delete_records([TopicPartition(TOPIC, 0, 6)]).values():  # as retention does
        future.result(30)
    commit(platform, "tests-left", 1, 7)
    commit(platform, "tests-old", 0, 2)

    groups = dict.fromkeys(("tests-never", "tests-left", "tests-old"), (TOPIC, "tests.no-such-topic"))
    found = {(one.group, one.topic): one for one in lags(where, groups)}
    assert {group: found[group, TOPIC].lag for group in groups} == {"tests-never": 4 + 10, "tests-left": 4 + 3, "tests-old": 4 + 10}
    assert {group: found[group, TOPIC].committed for group in groups} == {"tests-never": False, "tests-left": True, "tests-old": True}
    assert found["tests-left", "tests.no-such-topic"] == GroupLag("tests-left", "tests.no-such-topic", 0, False, 0, frozenset())
    assert {one.members for one in found.values()} == {0}

    member = consumer(platform, "tests-left")
    try:
        member.subscribe([TOPIC])
        wait_for("the group to form", lambda: member.poll(0.2) is not None or bool(member.assignment()), 60)
        (joined,) = lags(where, {"tests-left": (TOPIC,)})
        assert (joined.members, joined.reads) == (1, frozenset({TOPIC}))
        assert not forget_group(where, "tests-left")
    finally:
        member.close()
    wait_for("the member to leave", lambda: lags(where, {"tests-left": (TOPIC,)})[0].members == 0, 60)
    assert forget_group(where, "tests-left")
    assert forget_group(where, "tests-left"), "a group that does not exist is forgotten"
    assert not lags(where, {"tests-left": (TOPIC,)})[0].committed
    assert lags(where, {}) == []
