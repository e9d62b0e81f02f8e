"""Acks of many requests through one producer, on a producer that does as it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from api.bodies import EventRecord
from api.kafka import AckedProducer, KafkaAway


class Broker:
    """As much of a confluent-kafka producer as is used; acks what it is told to at the next poll."""

    def __init__(self) -> None:
        self.queued: list[Callable[[Any, Any], None]] = []
        self.sent: list[tuple[Any, ...]] = []
        self.acks = True
        self.error: Any = None
        self.refuse: dict[int, Exception] = {}

    def produce(self, topic: str, value: bytes, key: bytes, headers: Any, on_delivery: Any) -> None:
        refusal = self.refuse.get(len(self.sent))
        if refusal is not None:
            raise refusal
        self.sent.append((topic, key, value, headers))
        self.queued.append(on_delivery)

    def poll(self, timeout_s: float) -> int:
        if self.acks:
            queued, self.queued = self.queued, []
            for on_delivery in queued:
                on_delivery(self.error, None)
        return 0

    def flush(self, timeout_s: float) -> int:
        return len(self.queued)

    def list_topics(self, topic: str, timeout_s: float) -> Any:
        if self.error is not None:
            raise KafkaException(self.error)
        return type("Known", (), {"topics": {topic: type("Topic", (), {"error": None})}})


def records(count: int) -> list[EventRecord]:
    return [EventRecord(f"e-{number}", "default", b"user", b"value") for number in range(count)]


async def test_it_returns_when_all_are_acked() -> None:
    broker = Broker()
    broker.acks = False
    producer = AckedProducer(broker, "raw", 5.0)
    one = asyncio.create_task(producer.publish(records(3), [("h", b"1")]))
    two = asyncio.create_task(producer.publish(records(2), []))
    await asyncio.sleep(0.01)
    assert not one.done()
    assert producer.pending == 5
    broker.acks = True
    await asyncio.gather(one, two)
    assert producer.pending == 0
    assert broker.sent[0] == ("raw", b"user", b"value", [("h", b"1")])
    await producer.publish(records(1), [])  # the poller starts anew
    assert await producer.check() == "ok"
    assert await producer.close() == 0


async def test_a_refused_record_fails_its_request_only() -> None:
    broker = Broker()
    producer = AckedProducer(broker, "raw", 5.0)
    broker.error = KafkaError(KafkaError._MSG_TIMED_OUT)
    with pytest.raises(KafkaAway, match="timed out"):
        await producer.publish(records(2), [])
    assert (await producer.check()).startswith("away")
    broker.error = None
    await producer.publish(records(2), [])
    assert producer.fatal is None


async def test_the_wait_is_bounded_and_late_acks_are_counted() -> None:
    broker = Broker()
    broker.acks = False
    producer = AckedProducer(broker, "raw", 0.02)
    with pytest.raises(KafkaAway, match="3 of 3"):
        await producer.publish(records(3), [])
    assert producer.pending == 3
    broker.acks = True
    while producer.pending:
        await asyncio.sleep(0.001)
    assert await producer.close() == 0


@pytest.mark.parametrize("refusal", [BufferError(), KafkaException(KafkaError(KafkaError.MSG_SIZE_TOO_LARGE))])
async def test_a_queue_that_refuses_fails_the_request_and_forgets_nothing(refusal: Exception) -> None:
    broker = Broker()
    broker.refuse[2] = refusal
    producer = AckedProducer(broker, "raw", 5.0)
    with pytest.raises(KafkaAway):
        await producer.publish(records(3), [])
    while producer.pending:
        await asyncio.sleep(0.001)
    assert len(broker.sent) == 2


async def test_too_many_waiting_are_refused_before_anything_is_sent() -> None:
    broker = Broker()
    producer = AckedProducer(broker, "raw", 5.0, max_pending=4)
    with pytest.raises(KafkaAway, match="0 events wait"):
        await producer.publish(records(5), [])
    assert broker.sent == []


async def test_a_producer_that_ended_for_good_says_so() -> None:
    broker = Broker()
    broker.error = KafkaError(KafkaError._FENCED, "fenced", True)
    producer = AckedProducer(broker, "raw", 5.0)
    with pytest.raises(KafkaAway):
        await producer.publish(records(1), [])
    assert producer.fatal == "fenced"
    assert await producer.check() == "ended for good: fenced"
    assert await producer.close() == 0


async def test_a_request_that_is_cancelled_harms_nobody() -> None:
    broker = Broker()
    broker.acks = False
    producer = AckedProducer(broker, "raw", 5.0)
    task = asyncio.create_task(producer.publish(records(1), []))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    broker.acks = True
    await producer.publish(records(1), [])
    assert producer.pending == 0
