"""The whole topology in memory: the same steps over the same bytes, no broker. The same input gives the same output.

Every topic has one partition here, the clock is the events' own, and batches are cut by count, so nothing depends on the
machine or the hour. Side topics are worked off after each batch of events before the next one is taken.
"""

from __future__ import annotations

import base64
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from agents.step import Memory
from schemas.codec import Case, Codec, DecodeError
from schemas.records import Decision
from schemas.topics import ACTIONS, ALERTS, DEAD_SUFFIX, DECISIONS, VIOLATIONS, Topic
from streams.chain import Chain, Message, ReadTable, Source
from streams.dead_letters import REASONS
from streams.flow import Table, Topology

BATCH_EVENTS: Final = 256


@dataclass(frozen=True, slots=True)
class Input:
    """A record to replay: the topic it belongs to, its bytes, and when it is taken to have arrived (Unix ms)."""

    topic: Topic
    key: bytes | None
    value: bytes
    at_ms: int


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A refused record as `dead.jsonl` shows it.

    Fields:
        topic, offset: where it was read; the offset is its position in the replayed input.
        stage: who refused it.
        reasons: documented codes.
        message: the reasons in words.
        key, value: the bytes as they came, base64.
    """

    topic: str
    offset: int
    stage: str
    reasons: tuple[str, ...]
    message: str
    key: str | None
    value: str | None


@dataclass(slots=True)
class Results:
    """What came out of one batch, with all that its side records caused."""

    decisions: list[Case] = field(default_factory=list)
    alerts: list[msgspec.Struct] = field(default_factory=list)
    actions: list[msgspec.Struct] = field(default_factory=list)
    violations: list[msgspec.Struct] = field(default_factory=list)
    dead: list[DeadLetter] = field(default_factory=list)


class Replay:
    """Runs a topology over inputs. Tables and memories live as long as the object."""

    def __init__(self, topology: Topology, codec: Codec | None = None) -> None:
        self.codec = codec or Codec()
        names = [stage.name for stage in topology.stages]
        hops = topology.hops(names)
        read = {topic.name for stage in topology.stages for topic in stage.inputs}
        first_inputs = {hop[0].reads.name for hop in hops}
        unwritten = {stage.writes.name for stage in topology.stages if stage.writes is not None} - first_inputs
        self.chains = [Chain(hop, self.codec, unwritten) for hop in hops]
        self.tables: dict[str, dict[bytes, bytes]] = defaultdict(dict)
        self._memories: list[dict[str, Memory]] = [self._make_memories(chain) for chain in self.chains]
        self._read = read
        self._records = {topic.name: topic.record for topic in topology.topics}
        self._queues: dict[str, deque[Source]] = defaultdict(deque)
        self._offsets: dict[str, int] = defaultdict(int)
        self.results = Results()
        self._clock_ms = 0
        self._collectors: dict[str, Callable[[Any], None]] = {
            ALERTS.name: lambda one: self.results.alerts.append(one),
            ACTIONS.name: lambda one: self.results.actions.append(one),
            VIOLATIONS.name: lambda one: self.results.violations.append(one),
        }

    def _make_memories(self, chain: Chain) -> dict[str, Memory]:
        memories = {stage.name: stage.memory() for stage in chain.stages if stage.memory is not None}
        for memory in memories.values():
            memory.restore(None, ())
        return memories

    def feed(self, inputs: Iterable[Input]) -> Iterator[Results]:
        """Replays the inputs and yields what came out of each batch, a fresh object each time; the last one may be empty."""
        waiting = 0
        for one in inputs:
            self._clock_ms = max(self._clock_ms, one.at_ms)
            self._store(one.topic.name, one.key, one.value, one.at_ms)
            waiting += 1
            if waiting >= BATCH_EVENTS:
                waiting = 0
                yield self._work_off()
        yield self._work_off()

    def _store(self, topic: str, key: bytes | None, value: bytes | None, at_ms: int) -> None:
        self._queues[topic].append(Source(0, self._offsets[topic], at_ms, key, value))
        self._offsets[topic] += 1

    def _work_off(self) -> Results:
        self.results = Results()
        moved = True
        while moved:
            moved = False
            for chain, memories in zip(self.chains, self._memories, strict=True):
                # Side topics first: what is known before an event is known to the event.
                for topic in (*chain.topics[1:], chain.main):
                    queue = self._queues[topic.name]
                    if queue:
                        moved = True
                        batch = list(queue)
                        queue.clear()
                        self._run(chain, topic, batch, memories)
        return self.results

    def _reader(self, table: Table) -> ReadTable:
        return self.tables[table.name].get

    def _run(self, chain: Chain, topic: Topic, batch: list[Source], memories: dict[str, Memory]) -> None:
        plan = chain.run(topic.name, batch, self._reader, memories, self._clock_ms)
        for message in plan.messages:
            self._deliver(message)
        if topic is chain.main and chain.stages[-1].writes is DECISIONS:
            self.results.decisions += plan.cases
        for change in plan.changes:
            table = self.tables[change.table.name]
            for key, value in change.values.items():
                if value is None:
                    table.pop(key, None)
                else:
                    table[key] = value

    def _deliver(self, message: Message) -> None:
        if message.topic in self._read:
            self._store(message.topic, message.key, message.value, self._clock_ms)
        if message.topic in self._collectors:
            self._collectors[message.topic](self.codec.decode(message.value, self._records[message.topic]))
        elif message.topic.endswith(DEAD_SUFFIX):
            self.results.dead.append(_dead_letter(message))


def _dead_letter(message: Message) -> DeadLetter:
    headers = {name: value.decode(errors="replace") for name, value in message.headers or ()}
    return DeadLetter(
        topic=headers["__connect.errors.topic"],
        offset=int(headers["__connect.errors.offset"]),
        stage=headers["__connect.errors.stage"],
        reasons=tuple(headers[REASONS].split(",")),
        message=headers["__connect.errors.exception.message"],
        key=None if message.key is None else base64.b64encode(message.key).decode(),
        value=None if message.value is None else base64.b64encode(message.value).decode(),
    )


def decision_of(case: Case) -> Decision:
    """The decision record of a case that has been through all stages.

    Raises:
        ValueError: a stage is missing.
    """
    if case.compliance is None or case.score is None or case.network is None or case.verdict is None:
        raise ValueError("the case has not been through all stages")
    return Decision(event=case.event, compliance=case.compliance, score=case.score, network=case.network, verdict=case.verdict)


@dataclass(slots=True)
class Totals:
    """How many of each came out of a replay."""

    events: int = 0
    decisions: int = 0
    alerts: int = 0
    violations: int = 0
    dead_letters: int = 0


def replay_to_files(
    topology: Topology, inputs: Iterable[Input], out: Path, on_progress: Callable[[Totals], None] = lambda totals: None
) -> Totals:
    """Replays the inputs and writes `decisions.jsonl`, `alerts.jsonl`, `violations.jsonl` and `dead.jsonl` into `out`.

    Raises:
        OSError: a file cannot be written.
        DecodeError: a side record of our own does not decode (a bug).
    """
    out.mkdir(parents=True, exist_ok=True)
    replay, totals, encode = Replay(topology), Totals(), msgspec.json.encode

    def counted() -> Iterator[Input]:
        for one in inputs:
            totals.events += 1
            yield one

    with (
        open(out / "decisions.jsonl", "wb") as decisions,
        open(out / "alerts.jsonl", "wb") as alerts,
        open(out / "violations.jsonl", "wb") as violations,
        open(out / "dead.jsonl", "wb") as dead,
    ):
        for results in replay.feed(counted()):
            decisions.writelines(encode(decision_of(case)) + b"\n" for case in results.decisions)
            alerts.writelines(encode(one) + b"\n" for one in results.alerts)
            violations.writelines(encode(one) + b"\n" for one in results.violations)
            dead.writelines(encode(one) + b"\n" for one in results.dead)
            totals.decisions += len(results.decisions)
            totals.alerts += len(results.alerts)
            totals.violations += len(results.violations)
            totals.dead_letters += len(results.dead)
            on_progress(totals)
    return totals


__all__ = ["BATCH_EVENTS", "DeadLetter", "DecodeError", "Input", "Replay", "Results", "Totals", "decision_of", "replay_to_files"]
