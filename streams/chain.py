"""Runs the steps of one hop over one batch, without I/O: bytes in, a plan of what to write out.

The binding to Faust, the in-memory replay and the benchmark all run this same code.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import msgspec

from agents.step import Fault, Memory, Outputs, Received
from schemas.codec import Case, Codec, DecodeError
from schemas.records import Origin
from schemas.topics import RAW, Topic
from streams.dead_letters import Headers, dead_letter_headers, storable
from streams.flow import Stage, Table

ReadTable = Callable[[bytes], bytes | None]
"""Reads a value of one table in the batch's partition."""

_encode_state: Final = msgspec.msgpack.Encoder().encode


class Source(NamedTuple):
    """A record as it lies in the log."""

    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] = ()


class Message(NamedTuple):
    """A record to produce."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers | None = None


class Change(NamedTuple):
    """New values of one table: all of them are written to the partition that was read, None deletes the key."""

    table: Table
    values: dict[bytes, bytes | None]


@dataclass(slots=True)
class StageCount:
    """What a stage did with a batch."""

    stage: str
    events_in: int = 0
    events_out: int = 0
    dead: int = 0
    repeats: int = 0
    seconds: float = 0.0


@dataclass(slots=True)
class Plan:
    """What a batch comes to. Messages first; then changes, in order; then the batch counts as done."""

    messages: list[Message] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    counts: list[StageCount] = field(default_factory=list)
    cases: list[Case] = field(default_factory=list)
    """What the last stage passed on, for who runs the hop without Kafka."""


class StateView(Mapping[str, Any]):
    """A table's values as fresh records; decodes on each look-up, because steps may change what they get."""

    __slots__ = ("_decode", "_read")

    def __init__(self, table: Table, read: ReadTable) -> None:
        self._read = read
        self._decode = msgspec.msgpack.Decoder(table.kind).decode

    def __getitem__(self, key: str) -> Any:
        value = self._read(key.encode())
        if value is None:
            raise KeyError(key)
        return self._decode(value)

    def get(self, key: str, default: Any = None) -> Any:
        """The value of `key` as a fresh record, or `default`."""
        value = self._read(key.encode())
        return default if value is None else self._decode(value)

    def __contains__(self, key: object) -> bool:
        return self._read(str(key).encode()) is not None

    def __iter__(self) -> Iterator[str]:
        raise TypeError("a step looks keys up, it does not list them: that would cost more with every user")

    def __len__(self) -> int:
        raise TypeError("a step looks keys up, it does not count them")


NOTHING: Final[Mapping[str, Any]] = {}


class Chain:
    """The steps of one hop.

    Args:
        stages: adjacent stages, in order; each one's output is the next one's input.
        codec: bytes to records and back.
        unwritten: names of main output topics that nobody will read, so that they need not be encoded (replay in memory).
    """

    def __init__(self, stages: Sequence[Stage], codec: Codec, unwritten: Collection[str] = ()) -> None:
        self._unwritten = frozenset(unwritten)
        self.stages = tuple(stages)
        self.codec = codec
        self.main = stages[0].reads
        self._learners = {topic.name: (stage, topic, step) for stage in stages for topic, step in stage.learns}

    @property
    def name(self) -> str:
        """The hop's name: that of its first stage, which is the one that commits."""
        return self.stages[0].name

    @property
    def topics(self) -> tuple[Topic, ...]:
        """Every topic the hop consumes."""
        return (self.main, *(topic for _, topic, _ in self._learners.values()))

    @property
    def tables(self) -> tuple[Table, ...]:
        """Every table of its stages."""
        return tuple(table for stage in self.stages for table in stage.tables)

    def items(self, stage: Stage, items: Iterable[tuple[bytes, bytes]]) -> Iterator[tuple[str, Any]]:
        """A table's raw items as keys and records, for `Memory.restore`."""
        if stage.table is not None:
            decode = msgspec.msgpack.Decoder(stage.table.kind).decode
            for key, value in items:
                yield key.decode(), decode(value)

    def run(
        self, topic: str, records: Sequence[Source], read: Callable[[Table], ReadTable], memories: Mapping[str, Memory], now_ms: int
    ) -> Plan:
        """Computes the plan for one batch of one partition.

        Args:
            topic: the topic the records are from, one of `topics`.
            records: in offset order.
            read: gives the reader of a table.
            memories: by stage name, for the stages that have one.
            now_ms: processing time, only stamped on records.

        Raises:
            KeyError: the hop does not read that topic.
            Exception: a bug in a step; nothing has happened then.
        """
        plan = Plan()
        if topic == self.main.name:
            self._run_chain(records, read, memories, now_ms, plan)
        else:
            stage, source_topic, step = self._learners[topic]
            count = StageCount(stage.name)
            started = time.perf_counter()
            kept, batch = self._decode(stage, source_topic, records, plan, count)
            if batch:
                outputs = step(batch, self._state(stage, read), now_ms, memory=memories.get(stage.name))
                self._absorb(stage, source_topic, outputs, kept, plan, count)
            count.seconds = time.perf_counter() - started
            plan.counts.append(count)
        return plan

    def _state(self, stage: Stage, read: Callable[[Table], ReadTable]) -> Mapping[str, Any]:
        return StateView(stage.table, read(stage.table)) if stage.table else NOTHING

    def _run_chain(
        self, records: Sequence[Source], read: Callable[[Table], ReadTable], memories: Mapping[str, Memory], now_ms: int, plan: Plan
    ) -> None:
        first = StageCount(self.stages[0].name)
        started = time.perf_counter()
        kept, decoded = self._decode(self.stages[0], self.main, records, plan, first)
        batch = decoded
        for index, stage in enumerate(self.stages):
            count = first if index == 0 else StageCount(stage.name, events_in=len(batch))
            if batch:
                outputs = stage.step(batch, self._state(stage, read), now_ms, memory=memories.get(stage.name))
                sources = kept if index == 0 or not outputs.rejects else _sources_of(batch, kept, decoded)
                self._absorb(stage, self.main, outputs, sources, plan, count)
                batch = outputs.cases
                if stage.writes is not None and stage.writes.name not in self._unwritten:
                    name, record, encode = stage.writes.name, stage.writes.record, self.codec.encode_case
                    plan.messages += [Message(name, case.event.user_id.encode(), encode(case, record)) for case in outputs.cases]
                count.events_out = len(outputs.cases)
            finished = time.perf_counter()
            count.seconds = finished - started
            started = finished
            plan.counts.append(count)
        plan.cases = batch
        # A later stage's state is written first: after a crash in between, the earlier stage lets the event through again
        # and the later one knows it. The other way round the earlier stage would drop it and the later never count it.
        plan.changes.reverse()

    def _decode(
        self, stage: Stage, topic: Topic, records: Sequence[Source], plan: Plan, count: StageCount
    ) -> tuple[list[Source], list[Any]]:
        kept: list[Source] = []
        batch: list[Any] = []
        decode, expected, raw = self.codec.decode, topic.record, topic is RAW
        count.events_in += len(records)
        for source in records:
            if topic.compacted and source.value is None:
                continue  # a tombstone: the key is gone, there is nothing to learn
            try:
                record: Any = decode(source.value, expected)
            except DecodeError as error:
                self._bury(stage, topic, source, (Fault(error.code, error.detail),), plan, count)
                continue
            kept.append(source)
            if raw:
                origin = Origin(partition=source.partition, offset=source.offset)
                record = Received(record, origin, source.timestamp_ms, source.key, len(source.value or b""))
            batch.append(record)
        return kept, batch

    def _absorb(self, stage: Stage, topic: Topic, outputs: Outputs[Any], sources: Sequence[Source], plan: Plan, count: StageCount) -> None:
        for position, faults in outputs.rejects:
            self._bury(stage, topic, sources[position], faults, plan, count)
        encode = self.codec.encode
        plan.messages += [Message(emit.topic, emit.key.encode(), encode(emit.record)) for emit in outputs.emits]
        count.repeats += outputs.repeats
        if outputs.changes and stage.table is not None:
            values = {key.encode(): None if value is None else _encode_state(value) for key, value in outputs.changes.items()}
            plan.changes.append(Change(stage.table, values))

    def _bury(self, stage: Stage, topic: Topic, source: Source, faults: Sequence[Fault], plan: Plan, count: StageCount) -> None:
        headers = dead_letter_headers(topic.name, source.partition, source.offset, stage.name, faults, source.headers)
        value, notes = storable(source.value)
        plan.messages.append(Message(topic.dead, source.key, value, headers + notes))
        count.dead += 1


def _sources_of(refused: Sequence[Case], kept: Sequence[Source], first: Sequence[Any]) -> list[Source]:
    """The log records that cases of a later stage came from. Raw origins pair them, as stages in between may drop cases."""
    origins = (one.origin if isinstance(one, Received) else one.event.origin for one in first)
    by_origin = {(origin.partition, origin.offset): source for origin, source in zip(origins, kept, strict=True)}
    return [by_origin[case.event.origin.partition, case.event.origin.offset] for case in refused]
