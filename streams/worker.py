"""A worker process: one or several hops, health and metrics, until it is told to stop."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import structlog

from schemas.codec import Codec
from streams.bind import Hop
from streams.chain import Chain
from streams.flow import Topology
from streams.health import HealthServer
from streams.metrics import Metrics
from streams.publish import BatchPublisher
from streams.settings import Settings

log: Final = structlog.get_logger("usher.worker")


def usher_version() -> str:
    """The installed version, `dev` in a checkout that is not installed."""
    try:
        return version("usher")
    except PackageNotFoundError:
        return "dev"


def url_file(settings: Settings) -> Path:
    """Where a worker writes the URL of its health server, for `usher status`."""
    return Path(settings.data_dir, "run", f"{settings.worker_name}.url")


async def run_worker(topology: Topology, names: Sequence[str], codec: Codec, settings: Settings) -> None:
    """Runs the named stages until SIGTERM or SIGINT, then finishes the batches in flight, commits and leaves the groups.

    Raises:
        TopologyError: a name is unknown.
        OSError: the health port is taken.
    """
    metrics = Metrics()
    publisher = BatchPublisher(settings.bootstrap_servers, settings.produce_timeout_s)
    hops = [Hop(Chain(stages, codec), settings, publisher, metrics) for stages in topology.hops(names)]
    metrics.build.labels(usher_version(), ",".join(names)).set(1)

    async def checks() -> dict[str, str]:
        for hop in hops:
            metrics.ready.labels(hop.chain.name).set(hop.ready)
        return {hop.chain.name: "ok" if hop.ready else "recovering or rebalancing" for hop in hops}

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    health = HealthServer(settings.http_host, settings.http_port, checks, metrics.registry)
    url = await health.start()
    where = url_file(settings)
    where.parent.mkdir(parents=True, exist_ok=True)
    where.write_text(url)
    log.info("worker starts", name=settings.worker_name, stages=",".join(names), url=url)
    try:
        for hop in hops:
            await hop.start()
        await stop.wait()
        log.info("worker stops: finishing what is in flight", name=settings.worker_name)
        # Upstream first, so that nothing new reaches the later hops while they finish.
        for hop in hops:
            await hop.stop()
    finally:
        where.unlink(missing_ok=True)
        await health.stop()
        left = publisher.close()
        log.info("worker stopped", name=settings.worker_name, unsent=left)
