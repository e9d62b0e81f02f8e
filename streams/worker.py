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
from streams.admin import committed_offsets, forget_group, lags
from streams.bind import Hop, group_of
from streams.chain import Chain
from streams.fence import EXIT_BUG, Fence, end_process
from streams.flow import Stage, Topology, TopologyError
from streams.health import HealthServer
from streams.metrics import Metrics
from streams.publish import BatchPublisher
from streams.settings import Settings

log: Final = structlog.get_logger("usher.worker")

STOP_WITHIN_S: Final = 25.0
"""How long finishing what is in flight may take; below the grace period of supervisors (30 s)."""
LOOK_EVERY_S: Final = 0.5


def usher_version() -> str:
    """The installed version, `dev` in a checkout that is not installed."""
    try:
        return version("usher")
    except PackageNotFoundError:
        return "dev"


def url_file(settings: Settings) -> Path:
    """Where a worker writes the URL of its health server, for `usher status`."""
    return Path(settings.data_dir, "run", f"{settings.worker_name}.url")


def take_over_fused(hops: Sequence[Sequence[Stage]], bootstrap_servers: str) -> None:
    """Makes sure that nothing lies between the stages of a fused hop that only a separate stage's group would read.

    A fused stage does not read its input topic. What a separate group of that stage has not read yet would stay there for ever, so it
    has to be worked off first; the group is then forgotten, because from now on it falls behind without meaning anything.

    Raises:
        TopologyError: a group of an inner stage is behind or has members; says what to do.
        KafkaException: Kafka is away.
    """
    inner: dict[str, tuple[str, ...]] = {group_of(stage.name): (stage.reads.name,) for hop in hops for stage in hop[1:]}
    for one in lags(bootstrap_servers, inner) if inner else ():
        stage = one.group.removeprefix(group_of(""))
        if not committed_offsets(bootstrap_servers, one.group):
            continue
        if one.members:
            raise TopologyError(f"`usher worker {stage}` runs for itself: stop it before its stage is fused into another worker")
        if one.lag:
            raise TopologyError(
                f"{one.lag:,} records of {one.topic} wait for the separate stage {stage}: run `usher worker {stage}` until it has worked them off, "
                "with every earlier stage stopped, then fuse"
            )
        if not forget_group(bootstrap_servers, one.group):
            raise TopologyError(f"`usher worker {stage}` has just been started: stop it before its stage is fused into another worker")


async def run_worker(topology: Topology, names: Sequence[str], codec: Codec, settings: Settings) -> None:
    """Runs the named stages until SIGTERM or SIGINT, then finishes the batches in flight, commits and leaves the groups.

    A hop that breaks ends the process (exit status 70), so that its supervisor starts it again; so does a second signal.

    Raises:
        TopologyError: a name is unknown, or fused stages would leave records unread.
        KafkaException: Kafka is away at the start.
        OSError: the health port is taken.
    """
    chosen = topology.hops(names)
    take_over_fused(chosen, settings.bootstrap_servers)
    metrics = Metrics()
    publisher = BatchPublisher(settings.bootstrap_servers, settings.produce_timeout_s)
    fence = Fence(settings.session_timeout_s / 2)
    hops = [Hop(Chain(stages, codec), settings, publisher, metrics, fence) for stages in chosen]
    metrics.build.labels(usher_version(), ",".join(names)).set(1)

    async def checks() -> dict[str, str]:
        return {hop.chain.name: "ok" if hop.ready else hop.failure or "joining, recovering or without Kafka" for hop in hops}

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if stop.is_set():
            end_process(EXIT_BUG, "a second signal came while stopping")
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    health = HealthServer(settings.http_host, settings.http_port, checks, metrics.registry)
    url = await health.start()
    where = url_file(settings)
    where.parent.mkdir(parents=True, exist_ok=True)
    where.write_text(url)
    log.info("worker starts", name=settings.worker_name, stages=",".join(names), url=url)
    watching = [asyncio.create_task(fence.watch()), asyncio.create_task(_watch_hops(hops))]
    try:
        for hop in hops:
            await hop.start()
        await stop.wait()
        log.info("worker stops: finishing what is in flight", name=settings.worker_name)
        async with asyncio.timeout(STOP_WITHIN_S):
            # Upstream first, so that nothing new reaches the later hops while they finish.
            for hop in hops:
                await hop.stop()
    except Exception as error:
        # Faust's threads would keep a half-started or half-stopped process standing for ever.
        where.unlink(missing_ok=True)
        log.exception("worker cannot go on", name=settings.worker_name)
        end_process(EXIT_BUG, f"{type(error).__name__}: {error}", name=settings.worker_name)
    for task in watching:
        task.cancel()
    where.unlink(missing_ok=True)
    await health.stop()
    left = publisher.close()
    log.info("worker stopped", name=settings.worker_name, unsent=left)


async def _watch_hops(hops: Sequence[Hop]) -> None:
    """Ends the process when a hop has failed: Faust notes a crash, stops working and leaves the process standing."""
    while True:
        for hop in hops:
            failure = hop.failure
            if failure is not None:
                end_process(EXIT_BUG, failure, hop=hop.chain.name)
        await asyncio.sleep(LOOK_EVERY_S)
