"""Reference: the least a hop can cost. confluent-kafka consume, decode, encode, produce; no work, no state."""

from __future__ import annotations

import signal
import sys

from confluent_kafka import Consumer, Producer

from schemas.codec import Codec
from schemas.topics import RAW
from streams.publish import producer_config
from streams.settings import Settings

TARGET = "bench.raw.copy"


def main() -> None:
    """Copies the raw topic until SIGTERM."""
    settings, codec = Settings(), Codec()
    stopping: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: stopping.append(number))
    consumer = Consumer(
        {
            "bootstrap.servers": settings.bootstrap_servers,
            "group.id": "bench-raw",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    producer = Producer(producer_config(settings.bootstrap_servers))
    consumer.subscribe([RAW.name])
    while not stopping:
        messages = consumer.consume(1_000, 0.1)
        for message in messages:
            if message.error() is None:
                record = codec.decode(message.value(), RAW.record)
                producer.produce(TARGET, codec.encode(record), message.key())  # type: ignore[arg-type]
        if messages:
            producer.flush()
            consumer.commit(asynchronous=False)
    consumer.close()


if __name__ == "__main__":
    sys.exit(main())
