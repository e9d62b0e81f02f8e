"""Dead letters: key and value bytes untouched, the reasons in headers as Kafka Connect writes them (KIP-298) and our own.

One exception: a value that is so large uncompressed that no topic could take it again (a gateway can get it past the broker, which looks
at compressed bytes only) is cut, with its length and SHA-256 beside it; the original lies where the headers say.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Final

from agents.step import Fault

ATTEMPT: Final = "usher.attempt"
REASONS: Final = "usher.reasons"
PREFIX: Final = "__connect.errors."

Headers = list[tuple[str, bytes]]

STORABLE_BYTES: Final = 8 << 20
"""Largest value that a dead-letter topic takes whatever its compression does."""
CUT_TO_BYTES: Final = 1 << 20


def storable(value: bytes | None) -> tuple[bytes | None, Headers]:
    """The value, or its beginning with headers that say what is missing."""
    if value is None or len(value) <= STORABLE_BYTES:
        return value, []
    digest = hashlib.sha256(value).hexdigest()
    return value[:CUT_TO_BYTES], [
        ("usher.value.cut", b"true"),
        ("usher.value.bytes", str(len(value)).encode()),
        ("usher.value.sha256", digest.encode()),
    ]


def attempt_of(headers: Iterable[tuple[str, bytes | None]]) -> int:
    """How often a record has been tried so far: 0 for one that never was a dead letter."""
    for name, value in headers:
        if name == ATTEMPT and value and value.isdigit():
            return int(value)
    return 0


def dead_letter_headers(
    topic: str, partition: int, offset: int, stage: str, faults: Sequence[Fault], headers: Iterable[tuple[str, bytes | None]]
) -> Headers:
    """Headers of a dead letter.

    The record's own headers stay in front, but for those of an earlier dead letter, which are replaced.

    Args:
        topic, partition, offset: where the record was read.
        stage: which stage refused it.
        faults: all reasons, at least one.
        headers: the record's own headers.
    """
    headers = list(headers)
    kept = [
        (name, value) for name, value in headers if value is not None and not name.startswith(PREFIX) and name not in (ATTEMPT, REASONS)
    ]
    message = "; ".join(f"{fault.code}: {fault.detail}" for fault in faults)
    ours = {
        "__connect.errors.topic": topic,
        "__connect.errors.partition": str(partition),
        "__connect.errors.offset": str(offset),
        "__connect.errors.connector.name": "usher",
        "__connect.errors.task.id": str(partition),
        "__connect.errors.stage": stage,
        "__connect.errors.class.name": f"agents.{stage}",
        "__connect.errors.exception.class.name": faults[0].code,
        "__connect.errors.exception.message": message[:1_000],
        REASONS: ",".join(dict.fromkeys(fault.code for fault in faults)),
        ATTEMPT: str(attempt_of(headers) + 1),
    }
    return kept + [(name, value.encode()) for name, value in ours.items()]
