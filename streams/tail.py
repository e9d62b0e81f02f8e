"""Follows a topic from now on, for people who watch."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException

from schemas.codec import Codec, DecodeError
from schemas.topics import Topic
from streams.registry import RegistryError

ASK_AGAIN_S = 1.0
"""Between two questions to a schema registry that does not answer."""


def follow(bootstrap_servers: str, codec: Codec, topic: Topic, stop: Callable[[], bool], from_start: bool = False) -> Iterator[Any]:
    """Yields decoded records as they arrive, or None about ten times a second while nothing does.

    Reads without committing, in a group of its own, so that it disturbs nobody.

    Raises:
        KafkaException: Kafka refuses (a broker or schema registry that is away for a while is waited for).
    """
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": f"usher-tail-{uuid.uuid4().hex[:8]}",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest" if from_start else "latest",
            "fetch.wait.max.ms": 50,
        }
    )
    try:
        consumer.subscribe([topic.name])
        while not stop():
            messages = consumer.consume(200, 0.1)
            if not messages:
                yield None
            for message in messages:
                error = message.error()
                if error is not None:
                    if error.code() in (KafkaError._PARTITION_EOF, KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT):
                        continue
                    raise KafkaException(error)
                yield from _read(codec, message.value(), topic, stop)
    finally:
        consumer.close()


def _read(codec: Codec, value: bytes | None, topic: Topic, stop: Callable[[], bool]) -> Iterator[Any]:
    """The record, after as many None as it takes; nothing where the bytes are no record: sinks count those, a spectator skips them."""
    with contextlib.suppress(DecodeError):
        while not stop():
            try:
                record = codec.decode(value, topic.record)
            except RegistryError:
                yield None
                time.sleep(ASK_AGAIN_S)
                continue
            yield record
            return
