"""A process of sinks: one thread and one consumer group a sink, health and metrics, until it is told to stop."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import structlog
from confluent_kafka import Consumer, Producer
from prometheus_client import CollectorRegistry

from schemas.codec import Codec
from schemas.topics import ALL
from streams.health import HealthServer
from streams.publish import producer_config
from streams.settings import Settings
from streams.sinks.base import Sink
from streams.sinks.bury import bury_with
from streams.sinks.consumer import consumer_config
from streams.sinks.metrics import SinkMetrics
from streams.sinks.postgres import PostgresSink
from streams.sinks.redis import RedisSink
from streams.sinks.runner import SinkRunner

log: Final = structlog.get_logger("usher.sink")

SINKS: Final[Mapping[str, Callable[[Settings], Sink]]] = {
    "postgres": lambda settings: PostgresSink(settings.postgres_dsn),
    "redis": lambda settings: RedisSink(settings.redis_url),
}
"""Every sink by name. A new one is one file and one line here."""

BURY_TIMEOUT_S: Final = 30.0


def make_runner(sink: Sink, codec: Codec, settings: Settings, metrics: SinkMetrics, stop: Callable[[], bool]) -> SinkRunner:
    """A sink with its consumer and its producer for dead letters."""
    config = consumer_config(
        settings.bootstrap_servers, sink.name, session_timeout_s=settings.session_timeout_s, heartbeat_s=settings.heartbeat_s
    )
    if settings.static_membership:
        config["group.instance.id"] = f"{settings.worker_name}-{sink.name}"
    producer = Producer(producer_config(settings.bootstrap_servers, **{"message.timeout.ms": int(BURY_TIMEOUT_S * 1000)}))
    bury = bury_with(producer, BURY_TIMEOUT_S + 1)
    return SinkRunner(sink, Consumer(config), codec, ALL, bury, metrics, stop, session_timeout_s=settings.session_timeout_s)


def states(runners: Mapping[str, SinkRunner]) -> dict[str, str]:
    """The state of each sink's store, under the sink's name, and of its Kafka, under the name and `-kafka`: `ok`, or what is wrong."""
    found = {name: runner.away or "ok" for name, runner in runners.items()}
    return found | {f"{name}-kafka": runner.kafka_away or "ok" for name, runner in runners.items()}


async def run_sinks(names: Sequence[str], make_codec: Callable[[], Codec], settings: Settings) -> None:
    """Runs the named sinks until SIGTERM or SIGINT; a sink that breaks ends the process, so that its supervisor restarts it.

    Args:
        names: of `SINKS`.
        make_codec: called once a sink, because a codec belongs to one thread.
        settings: the process's settings.

    Raises:
        KeyError: a name is unknown.
        OSError: the health port is taken.
        RegistryError: the schema registry refuses or stays away.
        KafkaException: a Kafka client is broken for good.
    """
    registry = CollectorRegistry()
    metrics = SinkMetrics(registry)
    stop = threading.Event()
    runners = {name: make_runner(SINKS[name](settings), make_codec(), settings, metrics, stop.is_set) for name in names}

    async def checks() -> dict[str, str]:
        return states(runners)

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    health = HealthServer(settings.http_host, settings.http_port, checks, registry)
    url = await health.start()
    where = Path(settings.data_dir, "run", f"{settings.worker_name}.url")
    where.parent.mkdir(parents=True, exist_ok=True)
    where.write_text(url)
    log.info("sinks start", name=settings.worker_name, sinks=",".join(names), url=url)

    def run(runner: SinkRunner) -> None:
        try:
            runner.run()
        finally:
            stop.set()

    try:
        await asyncio.gather(*(asyncio.to_thread(run, runner) for runner in runners.values()))
    finally:
        stop.set()
        where.unlink(missing_ok=True)
        await health.stop()
        log.info("sinks stopped", name=settings.worker_name)
