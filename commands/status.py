"""`usher status`: what runs, how much it has done, and how far each stage is behind."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from confluent_kafka import KafkaException
from rich.console import Console
from rich.table import Table

from schemas.topics import RAW
from streams.admin import GroupLag, end_offsets, lags
from streams.flow import Topology
from streams.settings import Settings
from streams.store import StoreStatus, read_status


@dataclass(slots=True)
class Found:
    """What could be found out; a part that is away is a problem and leaves its figures empty.

    Attributes:
        urls: where the parts are, without passwords.
        raw_records: records that gateways ever sent.
        store: counts; None while Postgres is away.
        lag: of the groups that somebody works in.
        stages: the group that each stage works in, by the stage's name; empty text where nobody runs it.
        problems: what is away, in words.
    """

    urls: dict[str, str] = field(default_factory=dict)
    raw_records: int = 0
    store: StoreStatus | None = None
    lag: list[GroupLag] = field(default_factory=list)
    stages: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def idle_stages(self) -> list[str]:
        """Stages that nobody runs, in the order of the flow."""
        return [name for name, group in self.stages.items() if not group]

    def as_json(self) -> dict[str, Any]:
        """The figures for programs; counts are rows in Postgres, `raw_records` what the gateways ever sent."""
        store = self.store
        return {
            "events": store.events if store else None,
            "decisions": store.decisions if store else None,
            "alerts": store.alerts if store else None,
            "violations": store.violations if store else None,
            "rings": store.rings if store else None,
            "dead_letters": store.dead_letters if store else None,
            "rate_per_s": round(store.rate_per_s, 1) if store else None,
            "raw_records": self.raw_records,
            "lag": {f"{one.group}:{one.topic}": one.lag for one in self.lag},
            "idle_stages": self.idle_stages,
            "urls": self.urls,
            "problems": self.problems,
        }


def group_of(stage: str) -> str:
    """The consumer group of a hop that begins with the stage."""
    return f"usher-{stage}"


def stage_groups(topology: Topology) -> dict[str, tuple[str, ...]]:
    """Consumer group that each stage has where it runs by itself, with the topic it works through."""
    return {group_of(stage.name): (stage.reads.name,) for stage in topology.stages}


def working_groups(topology: Topology, found: Sequence[GroupLag]) -> dict[str, str]:
    """The group that each stage works in, by the stage's name: its own, or that of the hop it is fused into; empty text: nobody runs it.

    A stage can be fused into an earlier one's hop. Then that group has members, the stage's own has none, and the members read the
    stage's side topics too (consents, feedback, news of rings). A stage without side topics, or whose group shares them out right now,
    is taken to be fused where the stage before it works: Kafka does not tell.
    """
    groups = {one.group: one for one in found}
    working: dict[str, str] = {}
    for hop in topology.hops([stage.name for stage in topology.stages]):
        leader: GroupLag | None = None
        for stage in hop:
            own = groups.get(group_of(stage.name))
            if own is not None and own.members:
                leader = own
            elif leader is not None and leader.reads and not {topic.name for topic, _ in stage.learns} <= leader.reads:
                leader = None
            working[stage.name] = leader.group if leader is not None else ""
    return working


def read_everything(settings: Settings, topology: Topology) -> Found:
    """Asks Kafka and Postgres; never raises for a part that is away."""
    places = {"kafka": settings.bootstrap_servers, "postgres": settings.postgres_dsn, "redis": settings.redis_url}
    found = Found(urls={name: _without_password(place) for name, place in places.items()})
    for file in sorted(Path(settings.data_dir, "run").glob("*.url")):
        with contextlib.suppress(FileNotFoundError):  # the worker stopped just now
            found.urls[f"worker {file.stem}"] = file.read_text()
    try:
        found.raw_records = sum(end_offsets(settings.bootstrap_servers, [RAW.name], 5.0).values())
        everyone = lags(settings.bootstrap_servers, stage_groups(topology), 5.0)
        found.stages = working_groups(topology, everyone)
        # A group that nobody works in may be left over from another set-up (split, then fused): its lag grows for ever and means nothing.
        found.lag = [one for one in everyone if one.members]
    except KafkaException as error:
        found.problems.append(f"Kafka at {settings.bootstrap_servers}: {error.args[0].str()}")
    except TimeoutError:
        found.problems.append(f"Kafka at {settings.bootstrap_servers}: no answer within 5 s")
    try:
        found.store = read_status(settings.postgres_dsn)
    except psycopg.Error as error:
        found.problems.append(f"Postgres: {error}")
    return found


def _without_password(url: str) -> str:
    scheme, mark, rest = url.rpartition("://")
    return f"{scheme}{mark}{rest.rpartition('@')[2]}"


def print_status(found: Found, console: Console) -> None:
    """The figures for people."""
    store = found.store
    if store is not None:
        table = Table("events", "decisions", "alerts", "violations", "rings", "dead letters", "decisions/s")
        counts = (store.events, store.decisions, store.alerts, store.violations, store.rings, store.dead_letters)
        table.add_row(*(f"{count:,}" for count in counts), f"{store.rate_per_s:,.1f}")
        console.print(table)
    table = Table("stage's group", "topic", "behind by")
    for one in found.lag:
        table.add_row(one.group, one.topic, f"{one.lag:,}", style="yellow" if one.lag > 10_000 else None)
    console.print(table)
    if found.idle_stages:
        console.print(f"nobody runs: {', '.join(found.idle_stages)}", style="yellow", markup=False)
    table = Table("part", "where")
    for name, url in found.urls.items():
        table.add_row(name, url)
    console.print(table)
    for problem in found.problems:
        console.print(problem, style="red", markup=False)
