"""What every sink is: the small contract that one test suite holds all of them to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import msgspec

from schemas.codec import Case
from schemas.topics import Topic


class SinkRecord(NamedTuple):
    """A record on its way into a store.

    Attributes:
        topic, partition, offset: where it lies in the log.
        timestamp_ms: Kafka's time of the record (Unix ms).
        key: key bytes as in Kafka.
        value: the decoded record. None: a tombstone, or a dead letter that cannot be read.
        headers: as in Kafka.
        raw: value bytes as in Kafka, None for a null value.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: Case | msgspec.Struct | None
    headers: tuple[tuple[str, bytes | None], ...]
    raw: bytes | None


class StoreAway(Exception):
    """The store cannot be reached or is not able to answer now: the same write may succeed later."""


class Refused(Exception):
    """The store will never take what was written: some record of the batch does not fit. Nothing of the batch was written."""


class Sink(Protocol):
    """Brings records into a store.

    - `write` blocks until the batch is stored, or raises. It is all or nothing as far as the store allows, and always
      repeatable: the same records again, in the same or another cut, with records in between that are already there, leave the
      store as if each had been written once. Records of one partition come in offset order.
    - It raises `StoreAway` while the store is gone (the caller repeats, the sink reconnects by itself) and `Refused` when some
      record can never be stored (the caller finds out which by writing smaller batches). Anything else is a bug.
    - It skips tombstones and records of topics it does not know.
    - It belongs to one thread. `close` may be called at any time and any number of times from that thread; a sink keeps nothing back between
      writes, so closing loses nothing. A later `write` opens it again.
    """

    @property
    def name(self) -> str:
        """Name in metrics, logs and the consumer group `usher-sink-<name>`."""

    @property
    def topics(self) -> tuple[Topic, ...]:
        """Topics whose records it stores."""

    @property
    def takes_dead_letters(self) -> bool:
        """Whether it also stores what comes on the dead-letter topics."""

    def write(self, batch: Sequence[SinkRecord]) -> None:
        """Stores a batch; see the class's text.

        Raises:
            StoreAway: nothing is known to be stored; write the same again.
            Refused: nothing was stored; a record does not fit.
        """

    def ping(self) -> None:
        """Asks the store whether writes can be brought to it, cheaply.

        Raises:
            StoreAway: it is gone or cannot take writes now.
        """

    def close(self) -> None:
        """Gives connections back. Never raises."""
