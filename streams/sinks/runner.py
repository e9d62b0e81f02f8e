"""Consumes topics into a sink: at least once from Kafka, exactly once in the store because sinks are idempotent.

The loop takes what there is (at most `BATCH_MAX` records or what comes within `LINGER_S`), writes it, and only then commits. While
the store is away it holds the batch, pauses the partitions and goes on polling, so that the consumer keeps its place in the
group; nothing upstream notices. The back-off is the loop's own because a retry library would sleep where this has to poll.
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import structlog
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from agents.step import Fault
from schemas.codec import Codec, DecodeError
from schemas.topics import DEAD_SUFFIX, Topic
from streams.registry import RegistryError
from streams.sinks.base import Refused, Sink, SinkRecord, StoreAway
from streams.sinks.bury import Bury, BuryFailed, Unwritable
from streams.sinks.consumer import Consumer
from streams.sinks.metrics import SinkMetrics
from streams.sinks.watch import KafkaWatch

log: Final = structlog.get_logger("usher.sink")

BATCH_MAX: Final = 1_000
LINGER_S: Final = 0.05
BACK_OFF_S: Final = (0.1, 5.0)
"""First and longest wait before a write is repeated; it doubles in between, and up to a quarter is left to chance."""
LAG_EVERY_S: Final = 1.0
PING_EVERY_S: Final = 10.0
"""How long a store that has nothing to write may go unasked whether it is there."""


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
        session_timeout_s: after how long without a sign of Kafka it is called away.
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
        session_timeout_s: float = 10.0,
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
        self._waiting: deque[SinkRecord] = deque()
        self._batch: list[SinkRecord] = []
        self._undecoded: list[Unwritable] = []
        self._written: dict[tuple[str, int], int] = {}
        self._lag_at = 0.0
        self._ping_at = float("-inf")
        self._kafka = KafkaWatch(sink.name, consumer, self.subscription[0], session_timeout_s, clock)
        self.away = ""
        """Why the store cannot be written now; empty while it can."""

    @property
    def kafka_away(self) -> str:
        """Why nothing can come from Kafka now; empty while it can."""
        return self._kafka.away

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
                if self._in_hand:
                    self._deliver()
                else:
                    self._ping()
                self._measure_lag()
                self._kafka.look()
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
            self._waiting.append(
                SinkRecord(
                    topic, message.partition(), message.offset(), timestamp_ms, message.key(), None, tuple(message.headers() or ()), raw
                )
            )

    @property
    def _in_hand(self) -> bool:
        return bool(self._waiting or self._batch or self._undecoded)

    def _decode_waiting(self) -> None:
        """Decodes what was taken, in order; where the registry fails, the rest waits."""
        while self._waiting:
            record = self._waiting[0]
            try:
                self._batch.append(record._replace(value=self._decode(record.topic, record.raw)))
            except DecodeError as fault:
                self._undecoded.append(Unwritable(record, f"sink-{self.sink.name}", Fault(fault.code, fault.detail)))
            self._waiting.popleft()

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
        while self._in_hand:
            try:
                self._store()
                break
            except (StoreAway, BuryFailed, RegistryError) as error:
                self._say_away(str(error))
                self._metrics.retries.labels(self.sink.name).inc()
            paused = True
            self._hold(wait_s * (1 - random.random() / 4))
            wait_s = min(wait_s * 2, longest_s)
            if self._stop():
                return
        if paused:
            self._consumer.resume(self._consumer.assignment())
        self._say_away("")
        self._ping_at = self._clock() + PING_EVERY_S

    def _ping(self) -> None:
        """With nothing to write, asks now and then whether the store is there, so that readiness does not wait for a record."""
        if self._clock() < self._ping_at:
            return
        try:
            self.sink.ping()
        except StoreAway as error:
            self._say_away(str(error))
        else:
            self._say_away("")
        self._ping_at = self._clock() + PING_EVERY_S

    def _say_away(self, why: str) -> None:
        if why and not self.away:
            log.warning(
                "the store is away", sink=self.sink.name, cause=why, holding=len(self._waiting) + len(self._batch) + len(self._undecoded)
            )
        elif self.away and not why:
            log.info("the store is back", sink=self.sink.name)
        self.away = why
        self._metrics.away.labels(self.sink.name).set(bool(why))

    def _store(self) -> None:
        self._decode_waiting()
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
            self._kafka.look()

    def _on_assign(self, consumer: Any, partitions: Sequence[TopicPartition]) -> None:
        self._kafka.joined()
        log.info("partitions assigned", sink=self.sink.name, partitions=len(partitions))

    def _on_revoke(self, consumer: Any, partitions: Sequence[TopicPartition]) -> None:
        gone = {(one.topic, one.partition) for one in partitions}
        self._commit({place: offset for place, offset in self._written.items() if place in gone}, asynchronous=False)
        self._let_go(gone)

    def _on_lost(self, consumer: Any, partitions: Sequence[TopicPartition]) -> None:
        self._kafka.lost()
        self._let_go({(one.topic, one.partition) for one in partitions})

    def _let_go(self, gone: set[tuple[str, int]]) -> None:
        """Drops what another member will read again from the last commit."""
        log.info("partitions revoked", sink=self.sink.name, partitions=len(gone))
        self._waiting = deque(record for record in self._waiting if (record.topic, record.partition) not in gone)
        self._batch = [record for record in self._batch if (record.topic, record.partition) not in gone]
        self._undecoded = [one for one in self._undecoded if (one.record.topic, one.record.partition) not in gone]
        for topic, partition in gone:
            self._written.pop((topic, partition), None)
            self._metrics.forget_lag(self.sink.name, topic, partition)

    def _note_error(self, about: str | None, error: KafkaError) -> None:
        if error.fatal():
            raise KafkaException(error)
        self._metrics.kafka_errors.labels(self.sink.name).inc()
        self._kafka.complain(about, error)

    def _measure_lag(self) -> None:
        now = self._clock()
        if now < self._lag_at:
            return
        self._lag_at = now + LAG_EVERY_S
        for place in self._consumer.position(self._consumer.assignment()):
            marks = self._consumer.get_watermark_offsets(place, cached=True)
            if marks is not None and place.offset >= 0 and marks[1] >= 0:
                self._metrics.lag.labels(self.sink.name, place.topic, place.partition).set(max(marks[1] - place.offset, 0))
