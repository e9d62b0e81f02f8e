"""Puts a sink together and runs it with health and metrics on a port of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
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
from streams.sinks.metrics import SinkMetrics
from streams.sinks.postgres import PostgresSink
from streams.sinks.redis import RedisSink
from streams.sinks.runner import SinkRunner, consumer_config

log: Final = structlog.get_logger("usher.sink")

SINKS: Final[dict[str, Callable[[Settings], Sink]]] = {
    "postgres": lambda settings: PostgresSink(settings.postgres_dsn),
    "redis": lambda settings: RedisSink(settings.redis_url),
}
"""Every sink by its name on the command line."""


def run_sink(name: str, settings: Settings, codec: Codec, stop: Callable[[], bool]) -> None:
    """Runs a sink until `stop`; blocks.

    Raises:
        KafkaException: the client is broken for good.
        OSError: the health port is taken.
    """
    registry = CollectorRegistry()
    producer = Producer(producer_config(settings.bootstrap_servers))
    consumer = Consumer(
        consumer_config(settings.bootstrap_servers, name, session_timeout_s=settings.session_timeout_s, heartbeat_s=settings.heartbeat_s)
    )
    runner = SinkRunner(
        SINKS[name](settings), consumer, codec, ALL, bury_with(producer, settings.produce_timeout_s), SinkMetrics(registry), stop
    )

    async def checks() -> dict[str, str]:
        return {name: runner.away or "ok"}

    loop = asyncio.new_event_loop()
    server = HealthServer(settings.http_host, settings.http_port, checks, registry)
    url = loop.run_until_complete(server.start())
    thread = threading.Thread(target=loop.run_forever, name="health", daemon=True)
    thread.start()
    where = Path(settings.data_dir, "run", f"sink-{name}.url")
    where.parent.mkdir(parents=True, exist_ok=True)
    where.write_text(url)
    log.info("sink starts", sink=name, url=url)
    try:
        runner.run()
    finally:
        where.unlink(missing_ok=True)
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result(5.0)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5.0)
        producer.flush(5.0)
        log.info("sink stopped", sink=name)
