"""Records that a sink cannot decode or store, and how they reach their dead-letter topics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from confluent_kafka import KafkaException, Producer

from agents.step import Fault
from schemas.topics import DEAD_SUFFIX
from streams.dead_letters import dead_letter_headers
from streams.sinks.base import SinkRecord


class Unwritable(NamedTuple):
    """A record that cannot be stored, the stage that says so, and why."""

    record: SinkRecord
    stage: str
    fault: Fault


class BuryFailed(Exception):
    """A dead letter could not be handed to Kafka; the batch is written and buried again."""


Bury = Callable[[Sequence[Unwritable]], None]
"""Puts records on their dead-letter topics and returns when Kafka has acked them all. Raises `BuryFailed`."""


def bury_with(producer: Producer, timeout_s: float) -> Bury:
    """Buries through a producer: key and value bytes untouched, headers as every dead letter has them. Belongs to one thread."""

    def bury(records: Sequence[Unwritable]) -> None:
        errors: list[Any] = []
        delivered: list[Any] = []

        def note(error: Any, message: Any) -> None:
            (errors if error is not None else delivered).append(error or message)

        for record, stage, fault in records:
            headers = dead_letter_headers(record.topic, record.partition, record.offset, stage, (fault,), record.headers)
            try:
                producer.produce(record.topic + DEAD_SUFFIX, record.raw, record.key, headers=headers, on_delivery=note)
            except (BufferError, KafkaException) as error:
                raise BuryFailed(f"{type(error).__name__}: {error}") from error
        producer.flush(timeout_s)
        if errors:
            raise BuryFailed(errors[0].str())
        if len(delivered) < len(records):
            raise BuryFailed(f"{len(records) - len(delivered)} of {len(records)} dead letters were not acked within {timeout_s:.0f} s")

    return bury
