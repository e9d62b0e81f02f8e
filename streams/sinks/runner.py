"""Consumes topics into a sink: at least once from Kafka, exactly once in the store because sinks are idempotent.

The loop takes what there is (at most `BATCH_MAX` records or what comes within `LINGER_S`), writes it, and only then commits. While
the store is away it holds the batch, pauses the partitions and goes on polling, so that the consumer keeps its place in the
group; nothing upstream notices. The back-off is the loop's own because a retry library would sleep where this has to poll.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

import structlog
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from agents.step import Fault
from schemas.codec import Codec, DecodeError
from schemas.topics import DEAD_SUFFIX, Topic
from streams.sinks.base import Refused, Sink, SinkRecord, StoreAway
from streams.sinks.bury import Bury, BuryFailed, Unwritable
from streams.sinks.metrics import SinkMetrics

log: Final = structlog.get_logger("usher.sink")

BATCH_MAX: Final = 1_000
LINGER_S: Final = 0.05
BACK_OFF_S: Final = (0.1, 5.0)
"""First and longest wait before a write is repeated; it doubles in between, and up to a quarter is left to chance."""
LAG_EVERY_S: Final = 1.0


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


class SinkRunner:
    """Runs one sink in one thread.

    Args:
        sink: where records go.
        consumer: not yet subscribed.
        codec: bytes to records.
        all_topics: every topic that may have dead letters; for sinks that take them.
        bury: for records that cannot be decoded or stored.
        metrics: counts.
        stop: asked between batches and while the store is away; True ends the loop.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        sink: Sink,
        consumer: Consumer,
        codec: Codec,
        all_topics: Sequence[Topic],
        bury: Bury,
        metrics: SinkMetrics,
        stop: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.sink = sink
        self._consumer = consumer
        self._codec = codec
        self._bury = bury
        self._metrics = metrics
        self._stop = stop
        self._clock = clock
        self._topics = {topic.name: topic for topic in sink.topics}
        self._dead_topics = [topic.dead for topic in all_topics] if sink.takes_dead_letters else []
        self._batch: list[SinkRecord] = []
        self._undecoded: list[Unwritable] = []
        self._written: dict[tuple[str, int], int] = {}
        self._lag_at = 0.0
        self._quiet: set[str] = set()
        self.away = ""
        """Why the store cannot be written now; empty while it can."""

    @property
    def subscription(self) -> list[str]:
        """Names of the topics it reads."""
        return [*self._topics, *self._dead_topics]

    def run(self) -> None:
        """Works until `stop` says so; then the batch in hand is finished unless the store is away, and the group is left.

        Raises:
            KafkaException: the client is broken for good; the process should end and be restarted.
        """
        self._consumer.subscribe(self.subscription, on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost)
        try:
            while not self._stop():
                self._take(self._consumer.consume(BATCH_MAX, LINGER_S))
                if self._batch or self._undecoded:
                    self._deliver()
                self._measure_lag()
            self._commit(self._written, asynchronous=False)
        finally:
            self._consumer.close()
            self.sink.close()

    def _take(self, messages: Sequence[Any]) -> None:
        for message in messages:
            error = message.error()
            if error is not None:
                self._note_error(message.topic(), error)
                continue
            topic, raw = message.topic(), message.value()
            _, timestamp_ms = message.timestamp()
            record = SinkRecord(
                topic, message.partition(), message.offset(), timestamp_ms, message.key(), None, tuple(message.headers() or ()), raw
            )
            try:
                self._batch.append(record._replace(value=self._decode(topic, raw)))
            except DecodeError as fault:
                self._undecoded.append(Unwritable(record, f"sink-{self.sink.name}", Fault(fault.code, fault.detail)))

    def _decode(self, name: str, raw: bytes | None) -> Any:
        topic = self._topics.get(name)
        if topic is None:
            try:
                return self._codec.decode(raw)
            except DecodeError:
                return None  # a dead letter need not be readable
        if raw is None and topic.compacted:
            return None
        return self._codec.decode(raw, topic.record)

    def _deliver(self) -> None:
        """Writes the batch in hand, however long that takes, and commits it. Gives it up only when told to stop."""
        wait_s, longest_s = BACK_OFF_S
        paused = False
        while self._batch or self._undecoded:
            try:
                self._store()
                break
            except (StoreAway, BuryFailed) as error:
                if not self.away:
                    log.warning("the store is away, holding the batch", sink=self.sink.name, cause=str(error))
                self.away = str(error)
                self._metrics.retries.labels(self.sink.name).inc()
            self._metrics.away.labels(self.sink.name).set(1)
            paused = True
            self._hold(wait_s * (1 - random.random() / 4))
            wait_s = min(wait_s * 2, longest_s)
            if self._stop():
                return
        if paused:
            log.info("the store is back", sink=self.sink.name)
            self._consumer.resume(self._consumer.assignment())
        self.away = ""
        self._metrics.away.labels(self.sink.name).set(0)

    def _store(self) -> None:
        started = self._clock()
        refused = self._write(self._batch) if self._batch else []
        # A dead letter that cannot be indexed stays where it is, in its topic: burying it again would never end.
        lost = [one for one in refused if one.record.topic.endswith(DEAD_SUFFIX)]
        unwritable = self._undecoded + [one for one in refused if not one.record.topic.endswith(DEAD_SUFFIX)]
        if unwritable:
            self._bury(unwritable)
        for one in lost:
            log.error("a dead letter cannot be indexed", sink=self.sink.name, topic=one.record.topic, offset=one.record.offset)
        self._metrics.batch_done(self.sink.name, self._batch, refused, len(self._undecoded), self._clock() - started)
        following: dict[tuple[str, int], int] = {}
        for record in (*self._batch, *(one.record for one in self._undecoded)):
            place = (record.topic, record.partition)
            following[place] = max(following.get(place, 0), record.offset + 1)
        self._batch, self._undecoded = [], []
        self._written |= following
        # Not awaited: a commit that is lost is made good by the next one, or by a repeat that changes nothing.
        self._commit(following, asynchronous=True)

    def _write(self, records: Sequence[SinkRecord]) -> list[Unwritable]:
        """Writes all that can be written; halves a refused batch until the culprits stand alone."""
        try:
            self.sink.write(records)
            return []
        except Refused as refused:
            if len(records) == 1:
                return [Unwritable(records[0], f"sink-{self.sink.name}", Fault("sink-refused", str(refused)))]
        half = len(records) // 2
        return self._write(records[:half]) + self._write(records[half:])

    def _commit(self, following: Mapping[tuple[str, int], int], *, asynchronous: bool) -> None:
        offsets = [TopicPartition(topic, partition, offset) for (topic, partition), offset in following.items()]
        if not offsets:
            return
        try:
            self._consumer.commit(offsets=offsets, asynchronous=asynchronous)
        except KafkaException as error:
            self._note_error("commit", error.args[0])

    def _hold(self, seconds: float) -> None:
        """Waits with paused partitions, still polling: the group sees a live member, and rebalances are answered."""
        until = self._clock() + seconds
        self._consumer.pause(self._consumer.assignment())
        while (left := until - self._clock()) > 0 and not self._stop():
            message = self._consumer.poll(min(left, 0.25))
            if message is not None:  # of a partition that was given to us just now
                self._take([message])
                self._consumer.pause(self._consumer.assignment())

    def _on_assign(self, consumer: Any, partitions: Sequence[TopicPartition]) -> None:
        log.info("partitions assigned", sink=self.sink.name, partitions=len(partitions))

    def _on_revoke(self, consumer: Any, partitions: Sequence[TopicPartition]) -> None:
        gone = {(one.topic, one.partition) for one in partitions}
        self._commit({place: offset for place, offset in self._written.items() if place in gone}, asynchronous=False)
        self._let_go(gone)

    def _on_lost(self, consumer: Any, partitions: Sequence[TopicPartition]) -> None:
        self._let_go({(one.topic, one.partition) for one in partitions})

    def _let_go(self, gone: set[tuple[str, int]]) -> None:
        """Drops what another member will read again from the last commit."""
        log.info("partitions revoked", sink=self.sink.name, partitions=len(gone))
        self._batch = [record for record in self._batch if (record.topic, record.partition) not in gone]
        self._undecoded = [one for one in self._undecoded if (one.record.topic, one.record.partition) not in gone]
        for topic, partition in gone:
            self._written.pop((topic, partition), None)
            self._metrics.forget_lag(self.sink.name, topic, partition)

    def _note_error(self, about: str | None, error: KafkaError) -> None:
        if error.fatal():
            raise KafkaException(error)
        self._metrics.kafka_errors.labels(self.sink.name).inc()
        what = f"{about}: {error.str()}"
        if what not in self._quiet:
            self._quiet.add(what)
            log.warning("kafka", sink=self.sink.name, cause=what)

    def _measure_lag(self) -> None:
        now = self._clock()
        if now < self._lag_at:
            return
        self._lag_at = now + LAG_EVERY_S
        for place in self._consumer.position(self._consumer.assignment()):
            marks = self._consumer.get_watermark_offsets(place, cached=True)
            if marks is not None and place.offset >= 0 and marks[1] >= 0:
                self._metrics.lag.labels(self.sink.name, place.topic, place.partition).set(max(marks[1] - place.offset, 0))
