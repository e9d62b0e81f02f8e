"""Prometheus metrics of a worker: base units, no user or address in a label."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from streams.chain import StageCount

BATCH_BUCKETS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Metrics:
    """The metrics of one process, in a registry of their own so that tests can make many."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.events_in = Counter("usher_stage_events_in", "Events a stage took in.", ["stage"], registry=registry)
        self.events_out = Counter("usher_stage_events_out", "Events a stage passed on.", ["stage"], registry=registry)
        self.dead = Counter("usher_stage_dead_letters", "Records a stage refused.", ["stage"], registry=registry)
        self.repeats = Counter("usher_stage_repeats", "Events left out because they had been counted before.", ["stage"], registry=registry)
        self.cpu = Counter("usher_stage_step_seconds", "Time spent in a stage's step.", ["stage"], registry=registry)
        self.batch = Histogram(
            "usher_batch_seconds", "From taking a batch to acking it.", ["hop"], buckets=BATCH_BUCKETS_S, registry=registry
        )
        self.records = Counter("usher_hop_records", "Records a hop took from its topics.", ["hop", "topic"], registry=registry)
        self.offset = Gauge(
            "usher_hop_offset", "Offset of the last record that was processed.", ["hop", "topic", "partition"], registry=registry
        )
        self.ready = Gauge(
            "usher_hop_ready", "1 when the hop's partitions are assigned and its tables recovered.", ["hop"], registry=registry
        )
        self.build = Gauge("usher_build_info", "Version of this worker; always 1.", ["version", "stages"], registry=registry)

    def forget(self, hop: str, topic: str, partition: int) -> None:
        """Drops the offset of a partition that another worker has now: it would stand still here and look stuck."""
        with contextlib.suppress(KeyError):
            self.offset.remove(hop, topic, str(partition))

    def batch_done(
        self, hop: str, topic: str, partition: int, offset: int, records: int, counts: Sequence[StageCount], seconds: float
    ) -> None:
        """Counts one batch that was processed, written and is about to be acked."""
        self.batch.labels(hop).observe(seconds)
        self.records.labels(hop, topic).inc(records)
        self.offset.labels(hop, topic, partition).set(offset)
        for count in counts:
            self.events_in.labels(count.stage).inc(count.events_in)
            self.events_out.labels(count.stage).inc(count.events_out)
            self.cpu.labels(count.stage).inc(count.seconds)
            if count.dead:
                self.dead.labels(count.stage).inc(count.dead)
            if count.repeats:
                self.repeats.labels(count.stage).inc(count.repeats)
