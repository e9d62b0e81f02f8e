"""Creates topics and reads offsets: the one place that talks to Kafka's admin interface."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

from schemas.topics import DAY_MS, Topic
from streams.flow import Table, Topology

DEAD_RETENTION_MS = 30 * DAY_MS
DEAD_MAX_BYTES = 10_000_000


@dataclass(frozen=True, slots=True)
class GroupLag:
    """How far a consumer group is behind on one topic.

    Attributes:
        group, topic: whose lag, on what.
        lag: records the log holds that are not committed, over all partitions.
        committed: whether the group ever committed an offset of the topic.
        members: consumers in the group now. Without any, nobody works on the lag; the group may be that of a former set-up.
        reads: topics its members were given partitions of.
    """

    group: str
    topic: str
    lag: int
    committed: bool
    members: int
    reads: frozenset[str]


def _config(bootstrap_servers: str) -> dict[str, str | int]:
    """librdkafka tells at level 6 how it shuts a short-lived client down; warnings and worse are enough."""
    return {"bootstrap.servers": bootstrap_servers, "log_level": 4}


def _event_topic(topic: Topic, partitions: int, replicas: int) -> NewTopic:
    config: dict[str, str] = {"cleanup.policy": "compact" if topic.compacted else "delete"}
    if topic.retention_ms is not None and not topic.compacted:
        config["retention.ms"] = str(topic.retention_ms)
    if topic.max_message_bytes is not None:
        config["max.message.bytes"] = str(topic.max_message_bytes)
    if topic.log_append_time:
        config["message.timestamp.type"] = "LogAppendTime"
    return NewTopic(topic.name, partitions if topic.spread else 1, replicas, config=config)


def _changelog(table: Table, partitions: int, replicas: int) -> NewTopic:
    config = {"cleanup.policy": "compact", "segment.ms": str(DAY_MS), "min.cleanable.dirty.ratio": "0.3", "segment.bytes": str(64 << 20)}
    if table.max_message_bytes is not None:
        config["max.message.bytes"] = str(table.max_message_bytes)
    return NewTopic(table.changelog, partitions, replicas, config=config)


def wanted_topics(topology: Topology, extra: Iterable[Topic], partitions: int, replicas: int) -> list[NewTopic]:
    """Every topic the flow needs: its own, `extra` ones, dead letters and changelogs."""
    topics = list(dict.fromkeys((*topology.topics, *extra)))
    wanted = [_event_topic(topic, partitions, replicas) for topic in topics]
    dead = {"retention.ms": str(DEAD_RETENTION_MS), "max.message.bytes": str(DEAD_MAX_BYTES)}
    wanted += [NewTopic(topic.dead, partitions if topic.spread else 1, replicas, config=dead) for topic in topics]
    wanted += [_changelog(table, partitions if stage.reads.spread else 1, replicas) for stage, table in topology.tables]
    return wanted


def create_topics(bootstrap_servers: str, wanted: Iterable[NewTopic], timeout_s: float = 60.0) -> list[str]:
    """Creates the topics that are missing and returns their names; waits until every one has leaders.

    Raises:
        KafkaException: Kafka is away or refuses.
        TimeoutError: the topics were not usable in time.
    """
    admin = AdminClient(_config(bootstrap_servers))
    wanted = list(wanted)
    known = set(admin.list_topics(timeout=timeout_s).topics)
    missing = [topic for topic in wanted if topic.topic not in known]
    created: list[str] = []
    if missing:
        for name, future in admin.create_topics(missing, operation_timeout=timeout_s).items():
            try:
                future.result(timeout_s)
                created.append(name)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise
    deadline = time.monotonic() + timeout_s
    names = {topic.topic for topic in wanted}
    while True:
        found = admin.list_topics(timeout=timeout_s).topics
        waiting = [name for name in names if name not in found or any(part.leader < 0 for part in found[name].partitions.values())]
        if not waiting:
            return created
        if time.monotonic() > deadline:
            raise TimeoutError(f"topics without leaders after {timeout_s:.0f} s: {', '.join(sorted(waiting)[:5])}")
        time.sleep(0.1)


def end_offsets(bootstrap_servers: str, topics: Iterable[str], timeout_s: float = 10.0) -> dict[TopicPartition, int]:
    """The offset after the last record of each partition of the topics that exist.

    Raises:
        KafkaException: Kafka is away.
    """
    admin = AdminClient(_config(bootstrap_servers))
    found = admin.list_topics(timeout=timeout_s).topics
    asked = {TopicPartition(name, part): OffsetSpec.latest() for name in topics if name in found for part in found[name].partitions}
    if not asked:
        return {}
    answers = admin.list_offsets(asked, request_timeout=timeout_s)
    return {place: future.result(timeout_s).offset for place, future in answers.items()}


def committed_offsets(bootstrap_servers: str, group: str, timeout_s: float = 10.0) -> dict[tuple[str, int], int]:
    """What a consumer group has committed, by topic and partition; empty for a group that does not exist.

    Raises:
        KafkaException: Kafka is away.
    """
    admin = AdminClient(_config(bootstrap_servers))
    future = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)], request_timeout=timeout_s)[group]
    try:
        partitions = future.result(timeout_s).topic_partitions
    except KafkaException as error:
        if error.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND:
            return {}
        raise
    return {(one.topic, one.partition): one.offset for one in partitions if one.offset >= 0}


def lags(bootstrap_servers: str, groups: dict[str, tuple[str, ...]], timeout_s: float = 10.0) -> list[GroupLag]:
    """Lag of each group on each of its topics. What retention has deleted is no lag: counted is from the commit or the log's start.

    Raises:
        KafkaException: Kafka is away.
        TimeoutError: it does not answer in time.
    """
    if not groups:
        return []
    topics = {topic for wanted in groups.values() for topic in wanted}
    ends = end_offsets(bootstrap_servers, topics, timeout_s)
    admin = AdminClient(_config(bootstrap_servers))
    asked = {place: OffsetSpec.earliest() for place in ends}
    starts = {place: future.result(timeout_s).offset for place, future in admin.list_offsets(asked).items()} if asked else {}
    members = {group: _members(future, timeout_s) for group, future in admin.describe_consumer_groups(list(groups)).items()}
    found = []
    for group, wanted in groups.items():
        committed = committed_offsets(bootstrap_servers, group, timeout_s)
        reads = frozenset(place.topic for member in members[group] for place in member.assignment.topic_partitions)
        for topic in wanted:
            behind = sum(
                max(0, end - max(committed.get((place.topic, place.partition), 0), starts[place]))
                for place, end in ends.items()
                if place.topic == topic
            )
            known = any(name == topic for name, _ in committed)
            found.append(GroupLag(group, topic, behind, known, len(members[group]), reads))
    return found


def _members(described: Any, timeout_s: float) -> list[Any]:
    """The members of a group; none for a group that does not exist."""
    try:
        return list(described.result(timeout_s).members)
    except KafkaException as error:
        if error.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND:
            return []
        raise


def forget_group(bootstrap_servers: str, group: str, timeout_s: float = 10.0) -> bool:
    """Deletes a consumer group with its offsets; False where it has members, and so stays. A group that does not exist is forgotten.

    Raises:
        KafkaException: Kafka is away or refuses.
    """
    admin = AdminClient(_config(bootstrap_servers))
    try:
        admin.delete_consumer_groups([group], request_timeout=timeout_s)[group].result(timeout_s)
    except KafkaException as error:
        if error.args[0].code() == KafkaError.NON_EMPTY_GROUP:
            return False
        if error.args[0].code() != KafkaError.GROUP_ID_NOT_FOUND:
            raise
    return True


def read_all(bootstrap_servers: str, topic: str, timeout_s: float = 30.0) -> list[object]:
    """Every record a topic holds now, in partition order. For tests and small topics: all of it is kept in memory."""
    ends = {place: end for place, end in end_offsets(bootstrap_servers, [topic]).items() if end > 0}
    if not ends:
        return []
    consumer = Consumer({"bootstrap.servers": bootstrap_servers, "group.id": "usher-read-all", "enable.auto.commit": False, "auto.offset.reset": "earliest",
                         "enable.partition.eof": True, "fetch.message.max.bytes": 10_000_000})  # fmt: skip
    try:
        consumer.assign([TopicPartition(place.topic, place.partition, 0) for place in ends])
        left = {place.partition for place in ends}
        found: list[object] = []
        deadline = time.monotonic() + timeout_s
        while left and time.monotonic() < deadline:
            for message in consumer.consume(1_000, 0.5):
                error = message.error()
                if error is None:
                    found.append(message)
                elif error.code() == KafkaError._PARTITION_EOF:
                    left.discard(message.partition())
                else:
                    raise KafkaException(error)
        return found
    finally:
        consumer.close()
