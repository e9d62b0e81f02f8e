"""The Kafka consumer of a sink: what is needed of it and how it is set."""

from __future__ import annotations

from typing import Any, Protocol

from confluent_kafka import TopicPartition


class Consumer(Protocol):
    """What the runner needs of `confluent_kafka.Consumer`."""

    def subscribe(self, topics: list[str], *, on_assign: Any, on_revoke: Any, on_lost: Any) -> None:
        """Joins the group."""

    def consume(self, num_messages: int, timeout: float) -> list[Any]:
        """Up to `num_messages` messages that come within `timeout` seconds."""

    def poll(self, timeout: float) -> Any:
        """One message, or None."""

    def commit(self, *, offsets: list[TopicPartition], asynchronous: bool) -> Any:
        """Commits offsets."""

    def committed(self, partitions: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        """Committed offsets, from the group's coordinator."""

    def assignment(self) -> list[TopicPartition]:
        """Partitions it has."""

    def pause(self, partitions: list[TopicPartition]) -> None:
        """Fetches nothing from them."""

    def resume(self, partitions: list[TopicPartition]) -> None:
        """Fetches again."""

    def position(self, partitions: list[TopicPartition]) -> list[TopicPartition]:
        """Where it is."""

    def get_watermark_offsets(self, partition: TopicPartition, *, cached: bool) -> tuple[int, int] | None:
        """First and next offset of a partition."""

    def close(self) -> None:
        """Leaves the group."""


def consumer_config(bootstrap_servers: str, sink: str, *, session_timeout_s: float = 10.0, heartbeat_s: float = 3.0) -> dict[str, Any]:
    """librdkafka's settings for the consumer of a sink."""
    return {
        "bootstrap.servers": bootstrap_servers,
        "group.id": f"usher-sink-{sink}",
        "client.id": f"usher-sink-{sink}",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "earliest",
        "partition.assignment.strategy": "cooperative-sticky",
        "session.timeout.ms": int(session_timeout_s * 1000),
        "heartbeat.interval.ms": int(heartbeat_s * 1000),
        "topic.metadata.refresh.interval.ms": 30_000,
        "fetch.wait.max.ms": 100,
        "reconnect.backoff.ms": 250,
        "queued.max.messages.kbytes": 32_768,
    }
