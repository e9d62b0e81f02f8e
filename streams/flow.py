"""The parts a topology is made of: stages, tables and hops. They describe; nothing here runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from agents.step import Memory, Step
from schemas.topics import Topic


@dataclass(frozen=True, slots=True)
class Table:
    """Keyed state of a stage, kept in RocksDB and in a compacted changelog topic.

    Attributes:
        name: the table's name; the changelog is `usher.tables.<name>.v1`.
        kind: type of the values, stored as msgpack. None holds raw bytes (snapshots).
        max_message_bytes: largest value (None: the broker's default of 1 MiB).
    """

    name: str
    kind: type[msgspec.Struct] | None
    max_message_bytes: int | None = None

    @property
    def changelog(self) -> str:
        """Name of the changelog topic."""
        return f"usher.tables.{self.name}.v1"


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of the flow.

    Attributes:
        name: what it is called on the command line, in metrics and in its consumer group `usher-<name>`.
        does: one sentence for help texts and diagrams.
        reads: the topic it works through.
        step: its pure batch step.
        writes: topic of its main output, None if it only emits side records.
        emits: topics of side records.
        learns: further topics that only change its state, with the step for each.
        table: its keyed state.
        memory: makes what it keeps for a whole partition.
        snapshots: table for the memory's snapshots, None if the memory is rebuilt from `table`.
        rekeys: whether its main output is keyed otherwise than its input, so that the next stage cannot be fused to it.
    """

    name: str
    does: str
    reads: Topic
    step: Step
    writes: Topic | None = None
    emits: tuple[Topic, ...] = ()
    learns: tuple[tuple[Topic, Step], ...] = ()
    table: Table | None = None
    memory: Callable[[], Memory] | None = None
    snapshots: Table | None = None
    rekeys: bool = False

    @property
    def inputs(self) -> tuple[Topic, ...]:
        """Every topic it reads."""
        return (self.reads, *(topic for topic, _ in self.learns))

    @property
    def outputs(self) -> tuple[Topic, ...]:
        """Every topic it writes, dead letters apart."""
        return ((self.writes,) if self.writes else ()) + self.emits

    @property
    def tables(self) -> tuple[Table, ...]:
        """Its tables."""
        return tuple(table for table in (self.table, self.snapshots) if table is not None)


class TopologyError(Exception):
    """A flow that cannot run; the message says what to change."""


@dataclass(frozen=True, slots=True)
class Topology:
    """The whole flow, in the order in which an event meets the stages."""

    stages: tuple[Stage, ...]

    def stage(self, name: str) -> Stage:
        """The stage called `name`.

        Raises:
            TopologyError: there is none.
        """
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise TopologyError(f"there is no stage {name!r}; stages are: {', '.join(one.name for one in self.stages)}")

    def hops(self, names: Sequence[str]) -> tuple[tuple[Stage, ...], ...]:
        """Groups the named stages into hops: a hop is a run of stages that one consumer group can do in one go.

        Adjacent stages are fused where the first one's output is keyed like its input; a stage that re-keys ends its hop,
        because the next stage's state lives in another partition.

        Raises:
            TopologyError: a name is unknown or given twice.
        """
        if len(set(names)) != len(names):
            raise TopologyError("a stage is named twice")
        chosen = sorted((self.stage(name) for name in names), key=self.stages.index)
        hops: list[list[Stage]] = []
        for stage in chosen:
            last = hops[-1][-1] if hops else None
            if last is not None and last.writes is stage.reads and not last.rekeys:
                hops[-1].append(stage)
            else:
                hops.append([stage])
        return tuple(tuple(hop) for hop in hops)

    @property
    def topics(self) -> tuple[Topic, ...]:
        """Every topic the stages read or write."""
        found: dict[Topic, None] = {}
        for stage in self.stages:
            for topic in (*stage.inputs, *stage.outputs):
                found[topic] = None
        return tuple(found)

    @property
    def tables(self) -> tuple[tuple[Stage, Table], ...]:
        """Every table with the stage it belongs to."""
        return tuple((stage, table) for stage in self.stages for table in stage.tables)

    def writers(self, topic: Topic) -> tuple[str, ...]:
        """Names of the stages that write a topic."""
        return tuple(stage.name for stage in self.stages if topic in stage.outputs)

    def readers(self, topic: Topic) -> tuple[str, ...]:
        """Names of the stages that read a topic."""
        return tuple(stage.name for stage in self.stages if topic in stage.inputs)

    def problems(self) -> list[str]:
        """All that is wrong with the declaration; empty for a sound flow."""
        found = []
        names = [stage.name for stage in self.stages]
        found += [f"two stages are called {name}" for name in sorted({name for name in names if names.count(name) > 1})]
        tables = [table.name for _, table in self.tables]
        found += [f"two tables are called {name}" for name in sorted({name for name in tables if tables.count(name) > 1})]
        for stage in self.stages:
            spread = {topic.spread for topic in stage.inputs}
            if len(spread) > 1:
                found.append(f"{stage.name} reads topics that are not co-partitioned")
        return found

    def mermaid(self) -> str:
        """The flow as a Mermaid flowchart: topics as boxes, stages as rounded boxes."""
        lines = ["flowchart LR"]
        ids: dict[Any, str] = {}
        for topic in self.topics:
            ids[topic] = f"t{len(ids)}"
            lines.append(f'  {ids[topic]}["{topic.name}"]')
        for stage in self.stages:
            lines.append(f"  {stage.name}({stage.name})")
            lines += [f"  {ids[topic]} --> {stage.name}" for topic in stage.inputs]
            lines += [f"  {stage.name} --> {ids[topic]}" for topic in stage.outputs]
        return "\n".join(lines) + "\n"
