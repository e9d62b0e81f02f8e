"""Produces recorded or simulated records to Kafka, at a steady rate and with progress."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import msgspec
from confluent_kafka import KafkaError, Message, Producer

from schemas.codec import Codec
from schemas.topics import RAW, Topic
from streams.publish import ProduceError, producer_config


@dataclass(slots=True)
class Produced:
    """How far a production has come."""

    sent: int = 0
    acked: int = 0
    failed: int = 0
    first_error: str = ""


class Pacer:
    """Keeps a steady rate by sleeping in small steps; catches up after a stall, by at most one second's worth."""

    def __init__(
        self, rate_per_s: float | None, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._interval_s = None if not rate_per_s else 1.0 / rate_per_s
        self._clock, self._sleep = clock, sleep
        self._due = clock()

    def wait(self) -> None:
        """Returns when the next record is due."""
        if self._interval_s is None:
            return
        now = self._clock()
        if self._due > now + 0.002:
            self._sleep(self._due - now)
        self._due = max(self._due, now - 1.0) + self._interval_s


def produce_records(
    bootstrap_servers: str,
    codec: Codec,
    records: Iterable[tuple[Topic, str, msgspec.Struct]],
    rate_per_s: float | None = None,
    on_progress: Callable[[Produced], None] = lambda done: None,
    stop: Callable[[], bool] = lambda: False,
) -> Produced:
    """Produces (topic, key, record) until they end or `stop` says so, and waits for every ack.

    Args:
        rate_per_s: raw events a second; None sends as fast as Kafka takes them.
        on_progress: called about twice a second and at the end.

    Raises:
        ProduceError: Kafka did not take all of them; says how many and why.
    """
    done = Produced()

    def on_delivery(error: KafkaError | None, message: Message) -> None:
        if error is None:
            done.acked += 1
        else:
            done.failed += 1
            done.first_error = done.first_error or error.str()

    producer = Producer(producer_config(bootstrap_servers, **{"linger.ms": 5}))
    pacer = Pacer(rate_per_s)
    told = time.monotonic()
    for topic, key, record in records:
        if stop():
            break
        if topic is RAW:  # consent records and the like come on top: the rate is that of events
            pacer.wait()
        value = codec.encode(record)
        while True:
            try:
                producer.produce(topic.name, value, key.encode(), on_delivery=on_delivery)
                break
            except BufferError:
                producer.poll(0.1)
        done.sent += 1
        producer.poll(0)
        if time.monotonic() - told > 0.5:
            told = time.monotonic()
            on_progress(done)
    left = producer.flush(60.0)
    on_progress(done)
    if left or done.failed:
        raise ProduceError(
            f"{left + done.failed} of {done.sent} records were not taken by Kafka: {done.first_error or 'no ack within 60 s'}"
        )
    return done
