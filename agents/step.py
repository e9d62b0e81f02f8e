"""The shape every stage's step has: a pure function over a micro-batch.

    step(batch, state, now_ms, …) -> Outputs

`batch` holds the decoded records in log order. `state` gives each key's state as a fresh copy that the step may change
(it reads a key at most once and keeps its own working copy); what must be remembered goes into `Outputs.changes`.
`now_ms` is processing time and only ever stamped on records: decisions rest on the records' own times, so that replaying
the same log decides the same. A step gives the same results however the log is cut into batches.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import msgspec

from schemas.codec import Case
from schemas.records import Origin

S = TypeVar("S")
T = TypeVar("T")


class Received(NamedTuple):
    """A raw record as Kafka gave it, decoded. `timestamp_ms` is the broker's time of storage (Unix ms)."""

    record: Any
    origin: Origin
    timestamp_ms: int
    key: bytes | None
    size_bytes: int


class Emit(NamedTuple):
    """A record for a side topic. `topic` is the topic's name, `key` its Kafka key."""

    topic: str
    key: str
    record: msgspec.Struct


class Fault(NamedTuple):
    """Why a record is refused: a documented code (kebab-case) and a sentence without personal data."""

    code: str
    detail: str


class Rejected(NamedTuple):
    """The record at `position` of the batch is refused; it becomes a dead letter with its original bytes."""

    position: int
    faults: tuple[Fault, ...]


@dataclass(slots=True)
class Outputs(Generic[S]):
    """What a step wants to happen. Nothing has happened yet."""

    cases: list[Case] = field(default_factory=list)
    """Events for the next stage, in input order."""
    emits: list[Emit] = field(default_factory=list)
    """Records for side topics, in order."""
    rejects: list[Rejected] = field(default_factory=list)
    changes: dict[str, S | None] = field(default_factory=dict)
    """State after the batch, by key; None forgets the key."""
    repeats: int = 0
    """Events left out because the state had already seen them (redelivery) or their id is known (gateway retry)."""


class Memory(Protocol):
    """What a stage keeps for a whole partition beside its keyed state: models, a graph. One object a partition."""

    def restore(self, snapshot: bytes | None, items: Iterable[tuple[str, Any]]) -> None:
        """Takes up the last snapshot and the partition's keyed state, after recovery and before the first batch."""

    def snapshot(self, leaving: bool = False) -> bytes | None:
        """The state to keep (at most 4 MB), or None while too little has changed to be worth writing.

        `leaving`: the partition goes to another worker, so that anything new is worth it.
        """


class Step(Protocol):
    """A pure batch step; see the module's text for its contract."""

    def __call__(self, batch: Sequence[Any], state: Mapping[str, Any], now_ms: int, *, memory: Any) -> Outputs[Any]:
        """Computes what should happen for `batch`. Raises only for bugs: bad records are `Outputs.rejects`."""


def user_key(tenant_id: str, user_id: str) -> str:
    """The state key of a user: tenants never share state, even where their user ids coincide."""
    return f"{tenant_id}\x1f{user_id}"
