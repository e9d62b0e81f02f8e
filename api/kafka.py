"""Produces the events of many requests through one librdkafka producer and tells each request when all of its own are acked."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final, Protocol

import structlog
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from api.bodies import EventRecord

log: Final = structlog.get_logger("usher.api")

POLL_EVERY_S: Final = 0.001
CHECK_TIMEOUT_S: Final = 2.0

Headers = Sequence[tuple[str, bytes]]


class KafkaAway(Exception):
    """Kafka has not acked all events in time; some may be in the log or get there yet. The message holds no event."""


class EventProducer(Protocol):
    """Puts events into the log."""

    async def publish(self, records: Sequence[EventRecord], headers: Headers) -> None:
        """Returns when every record is acked by all in-sync replicas.

        Raises:
            KafkaAway: not within the bounded time of the producer.
        """
        ...


class _Batch:
    """The unacked records of one request."""

    __slots__ = ("done", "error", "left")

    def __init__(self, count: int, done: asyncio.Future[None]) -> None:
        self.left = count
        self.error: KafkaError | None = None
        self.done = done


class AckedProducer:
    """One producer for all requests of a process, used from one event loop.

    Args:
        producer: a confluent-kafka producer with `acks=all`, whose `message.timeout.ms` is below `timeout_s`.
        topic: where the events go.
        timeout_s: how long `publish` waits.
        max_pending: records that may be unacked at a time; beyond that `publish` refuses at once.
    """

    def __init__(self, producer: Producer, topic: str, timeout_s: float, max_pending: int = 100_000) -> None:
        self._producer, self._topic, self._timeout_s, self._max_pending = producer, topic, timeout_s, max_pending
        self._poller: asyncio.Task[None] | None = None
        self.pending = 0
        self.fatal: str | None = None
        """What ended the producer for good; the process has to be started anew then."""

    async def publish(self, records: Sequence[EventRecord], headers: Headers) -> None:
        """As `EventProducer.publish`. Never blocks the event loop.

        A record that is refused by the local queue leaves those before it on their way: the request fails, and is safe to repeat.
        """
        if self.pending + len(records) > self._max_pending:
            raise KafkaAway(f"{self.pending} events wait for Kafka already")
        batch = _Batch(len(records), asyncio.get_running_loop().create_future())

        def on_delivery(error: KafkaError | None, message: Message) -> None:
            self._delivered(batch, error)

        produce, topic, given = self._producer.produce, self._topic, list(headers)
        try:
            for record in records:
                produce(topic, record.value, record.key, headers=given, on_delivery=on_delivery)
                self.pending += 1
        except BufferError:
            raise KafkaAway("the producer's queue is full") from None
        except KafkaException as error:
            self._note(error.args[0])
            raise KafkaAway(error.args[0].str()) from error
        finally:
            self._poll()
        try:
            async with asyncio.timeout(self._timeout_s):
                await batch.done
        except TimeoutError:
            raise KafkaAway(f"{batch.left} of {len(records)} events were not acked within {self._timeout_s:g} s") from None
        if batch.error is not None:
            raise KafkaAway(batch.error.str())

    def _delivered(self, batch: _Batch, error: KafkaError | None) -> None:
        self.pending -= 1
        batch.left -= 1
        if error is not None:
            batch.error = error
            self._note(error)
        if batch.left == 0 and not batch.done.done():
            batch.done.set_result(None)

    def _note(self, error: KafkaError) -> None:
        if error.fatal() and self.fatal is None:
            self.fatal = str(error.str())
            log.error("the producer has ended for good", error=self.fatal)

    def _poll(self) -> None:
        if self._poller is None or self._poller.done():
            self._poller = asyncio.get_running_loop().create_task(self._poll_while_pending())

    async def _poll_while_pending(self) -> None:
        # One task polls for all requests, so that a thousand waiting requests cost no more than one.
        while self.pending:
            self._producer.poll(0)
            await asyncio.sleep(POLL_EVERY_S)

    async def check(self) -> str:
        """`ok`, or why events cannot be produced now."""
        if self.fatal is not None:
            return f"ended for good: {self.fatal}"
        try:
            known: Any = await asyncio.to_thread(self._producer.list_topics, self._topic, CHECK_TIMEOUT_S)
        except KafkaException as error:
            return f"away: {error.args[0].str()}"
        problem = known.topics[self._topic].error
        return "ok" if problem is None else f"{self._topic}: {problem.str()}"

    async def close(self, timeout_s: float = 10.0) -> int:
        """Waits for what is on its way; returns how many events were left behind."""
        left = await asyncio.to_thread(self._producer.flush, timeout_s)
        if self._poller is not None:
            self._poller.cancel()
        return int(left)
