"""`usher status`: what runs, how much it has done, and how far each stage is behind."""

from __future__ import annotations

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
    """What could be found out; a part that is away is a problem and leaves its figures empty."""

    urls: dict[str, str] = field(default_factory=dict)
    raw_records: int = 0
    store: StoreStatus | None = None
    lag: list[GroupLag] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

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
            "urls": self.urls,
            "problems": self.problems,
        }


def stage_groups(topology: Topology) -> dict[str, tuple[str, ...]]:
    """Consumer group of each stage with the topic it works through."""
    return {f"usher-{stage.name}": (stage.reads.name,) for stage in topology.stages}


def read_everything(settings: Settings, topology: Topology) -> Found:
    """Asks Kafka and Postgres; never raises for a part that is away."""
    found = Found(
        urls={"kafka": settings.bootstrap_servers, "postgres": _without_password(settings.postgres_dsn), "redis": settings.redis_url}
    )
    for file in sorted(Path(settings.data_dir, "run").glob("*.url")):
        found.urls[f"worker {file.stem}"] = file.read_text()
    try:
        found.raw_records = sum(end_offsets(settings.bootstrap_servers, [RAW.name], 5.0).values())
        # A stage that is fused into another's hop has no group of its own: its input never waits.
        found.lag = [one for one in lags(settings.bootstrap_servers, stage_groups(topology), 5.0) if one.committed]
    except KafkaException as error:
        found.problems.append(f"Kafka at {settings.bootstrap_servers}: {error.args[0].str()}")
    try:
        found.store = read_status(settings.postgres_dsn)
    except psycopg.Error as error:
        found.problems.append(f"Postgres: {error}")
    return found


def _without_password(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"


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
    table = Table("part", "where")
    for name, url in found.urls.items():
        table.add_row(name, url)
    console.print(table)
    for problem in found.problems:
        console.print(f"[red]{problem}[/red]")
