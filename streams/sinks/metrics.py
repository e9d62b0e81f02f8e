"""Prometheus metrics of the sinks: base units, no user, tenant or address in a label."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Sequence
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from streams.sinks.base import SinkRecord

WRITE_BUCKETS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 30.0)


class SinkMetrics:
    """The metrics of all sinks of a process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.rows = Counter("usher_sink_rows", "Records a sink has written, repeats included.", ["sink", "topic"], registry=registry)
        self.batches = Counter("usher_sink_batches", "Batches a sink has written.", ["sink"], registry=registry)
        self.seconds = Histogram(
            "usher_sink_write_seconds",
            "From handing a batch to the store to its answer.",
            ["sink"],
            buckets=WRITE_BUCKETS_S,
            registry=registry,
        )
        self.dead = Counter("usher_sink_dead_letters", "Records a sink could not decode or store.", ["sink"], registry=registry)
        self.retries = Counter("usher_sink_retries", "Writes that failed because the store was away.", ["sink"], registry=registry)
        self.away = Gauge("usher_sink_store_away", "1 while the store is away and a batch is held.", ["sink"], registry=registry)
        self.lag = Gauge(
            "usher_sink_lag_records", "Records not yet taken from a partition.", ["sink", "topic", "partition"], registry=registry
        )
        self.kafka_errors = Counter("usher_sink_kafka_errors", "Errors the Kafka client reported.", ["sink"], registry=registry)

    def batch_done(self, sink: str, batch: Sequence[SinkRecord], refused: Sequence[Any], undecoded: int, seconds: float) -> None:
        """Counts a batch that is done: `refused` of it could not be stored, `undecoded` records beside it could not be read."""
        self.batches.labels(sink).inc()
        self.seconds.labels(sink).observe(seconds)
        rows = Tally(record.topic for record in batch)
        rows.subtract(one.record.topic for one in refused)
        for topic, count in rows.items():
            self.rows.labels(sink, topic).inc(count)
        if refused or undecoded:
            self.dead.labels(sink).inc(len(refused) + undecoded)

    def forget_lag(self, sink: str, topic: str, partition: int) -> None:
        """Drops the lag of a partition that another process reads now."""
        try:
            self.lag.remove(sink, topic, partition)
        except KeyError:
            return  # it was revoked before it was measured
