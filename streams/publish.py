"""Produces batches through librdkafka and returns when Kafka has acked every record.

Faust's own `send` is an enqueue whose failure is only logged while the source is committed all the same; this producer is
why a batch can rely on its outputs. Idempotent, so that retries keep the order within a partition.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from confluent_kafka import KafkaError, Producer
from confluent_kafka import Message as Delivered

from streams.chain import Message


class ProduceError(Exception):
    """Kafka did not take records of a batch; nothing of the batch may be acked."""


def producer_config(bootstrap_servers: str, **more: Any) -> dict[str, Any]:
    """librdkafka's settings for every producer of Usher.

    murmur2_random places keys as Java and aiokafka clients do (librdkafka's default would not), so that a user's events
    meet in one partition whoever produced them.
    """
    return {
        "bootstrap.servers": bootstrap_servers,
        "acks": "all",
        "enable.idempotence": True,
        "compression.type": "lz4",
        "partitioner": "murmur2_random",
        "linger.ms": 0,
        "queue.buffering.max.messages": 500_000,
        "message.max.bytes": 100_000_000,
        **more,
    }


class _Pending:
    """Counts what of a batch is still unacked."""

    __slots__ = ("failed", "left", "offsets")

    def __init__(self) -> None:
        self.left = 0
        self.failed: list[KafkaError] = []
        self.offsets: dict[tuple[str, int], int] = {}

    def on_delivery(self, error: KafkaError | None, message: Delivered) -> None:
        self.left -= 1
        if error is not None:
            self.failed.append(error)
            return
        place = (message.topic(), message.partition())
        offset = message.offset()
        if offset is not None and offset > self.offsets.get(place, -1):
            self.offsets[place] = offset


class BatchPublisher:
    """One librdkafka producer for all hops of a process. Not thread-safe: use it from one event loop."""

    def __init__(self, bootstrap_servers: str, timeout_s: float, config: Mapping[str, Any] | None = None) -> None:
        self._timeout_s = timeout_s
        # No timeout of librdkafka's own: it would drop a record in the middle and go on with the next, and a later repeat of the
        # dropped one would look as if it had been counted. So what is stored of a batch is always its beginning, and when time is
        # up the process ends.
        self._producer = Producer(producer_config(bootstrap_servers, **{"message.timeout.ms": 0}, **(config or {})))

    async def publish(self, messages: Sequence[Message]) -> None:
        """Produces the messages by key and waits for every ack. Never blocks the event loop.

        Raises:
            ProduceError: Kafka refused or did not ack within the timeout; some of the records may have been stored.
        """
        pending = _Pending()
        produce, on_delivery = self._producer.produce, pending.on_delivery
        for topic, key, value, headers in messages:
            while True:
                try:
                    produce(topic, value, key, headers=headers, on_delivery=on_delivery)
                    break
                except BufferError:  # the local queue is full: let deliveries drain it
                    self._producer.poll(0)
                    await asyncio.sleep(0.005)
            pending.left += 1
        await self._wait(pending, len(messages))

    async def publish_to(self, topic: str, partition: int, values: Iterable[tuple[bytes, bytes | None]]) -> int:
        """Produces (key, value) pairs to one partition and waits; a value of None is a tombstone. Returns the highest offset.

        Raises:
            ProduceError: as `publish`.
        """
        pending = _Pending()
        count = 0
        for key, value in values:
            while True:
                try:
                    self._producer.produce(topic, value, key, partition, on_delivery=pending.on_delivery)
                    break
                except BufferError:
                    self._producer.poll(0)
                    await asyncio.sleep(0.005)
            pending.left += 1
            count += 1
        await self._wait(pending, count)
        return pending.offsets.get((topic, partition), -1)

    async def _wait(self, pending: _Pending, count: int) -> None:
        poll = self._producer.poll
        deadline = asyncio.get_running_loop().time() + self._timeout_s
        while pending.left:
            poll(0)
            if not pending.left:
                break
            if asyncio.get_running_loop().time() > deadline:
                raise ProduceError(f"{pending.left} of {count} records were not acked within {self._timeout_s:.0f} s")
            await asyncio.sleep(0.001)
        if pending.failed:
            raise ProduceError(f"{len(pending.failed)} of {count} records failed: {pending.failed[0].str()}")

    def close(self, timeout_s: float = 5.0) -> int:
        """Waits for what is queued; returns how many records were left behind (they are dropped)."""
        return int(self._producer.flush(timeout_s))
