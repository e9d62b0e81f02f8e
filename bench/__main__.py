"""`make bench`: JSON lines, one a measurement, with progress on standard error.

Every run has servers of its own on the same two cores, the same seeded events, and topics with the same partitions.
    pipeline_split    a worker a stage, each its own process
    pipeline          `usher worker validate check score link alert`, with rings, sinks and Postgres beside it
    idiomatic_faust   the same steps as plain one-by-one agents with `topic.send` and a table write (bench/idiomatic.py), the same sinks
    raw_loop          confluent consume, decode, encode, produce, no work (bench/raw_loop.py)
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil
from confluent_kafka import Consumer

from bench.measure import Mark, between, decisions_in, percentile, records_in, rss_mb, this_machine, watch
from bench.raw_loop import TARGET
from commands.up import FUSED, NETWORK, environment
from deploy.local.platform import LocalPlatform
from deploy.migrate import migrate
from schemas.codec import Codec
from schemas.records import ConsentRecord
from schemas.topics import ALL, CONSENTS, DECISIONS, RAW, Topic
from simulator import SimulationConfig, records
from streams.admin import create_topics, wanted_topics
from streams.produce import produce_records
from streams.settings import Settings
from streams.topology import make_topology

SEED: Final = 11
WARM_SHARE: Final = 0.15
"""Share of the events that are done before measuring begins: imports, recovery, caches."""


def say(text: str) -> None:
    """Progress, on standard error: standard output is for the figures."""
    print(text, file=sys.stderr, flush=True)


STREAM_EVENTS: Final = 400_000
"""Size of the one simulation that every run takes its events from, in order, so that all runs see the same ones."""


def traffic() -> Iterator[tuple[Topic, str, Any]]:
    """The one stream, from its beginning."""
    for one in records(SimulationConfig(seed=SEED, events=STREAM_EVENTS)):
        yield (CONSENTS if isinstance(one.record, ConsentRecord) else RAW), one.record.user_id, one.record


@dataclass(frozen=True, slots=True)
class Bed:
    """Servers of one run and the environment of its programs."""

    platform: LocalPlatform
    settings: Settings
    env: dict[str, str]

    @contextmanager
    def running(self, *commands: Sequence[str]) -> Iterator[list[int]]:
        """Programs, from start to stop; gives their process ids."""
        with ExitStack() as stack:
            pids = []
            for number, command in enumerate(commands):
                log = stack.enter_context(open(self.settings.data_dir / f"program-{number}.log", "wb"))
                env = {**os.environ, **self.env, "USHER_WORKER_NAME": f"p{number}"}
                process = subprocess.Popen([sys.executable, *command], env=env, stdout=log, stderr=subprocess.STDOUT)
                stack.callback(_end, process)
                pids.append(process.pid)
            yield pids


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def bed(partitions: int) -> Iterator[Bed]:
    """Fresh servers with every topic and table."""
    with tempfile.TemporaryDirectory(prefix="usher-bench-") as folder:
        data_dir = Path(folder)
        with LocalPlatform(data_dir) as platform:
            settings = Settings(
                data_dir=data_dir, bootstrap_servers=platform.bootstrap_servers, postgres_dsn=platform.postgres_dsn, redis_url=platform.redis_url, partitions=partitions,
            )  # fmt: skip
            create_topics(platform.bootstrap_servers, wanted_topics(make_topology(settings), ALL, partitions, 1))
            migrate(platform.postgres_dsn)
            yield Bed(platform, settings, {**environment(platform, settings), "USHER_PARTITIONS": str(partitions)})


def usher(*command: str) -> tuple[str, ...]:
    """A command of ours as arguments of the interpreter."""
    return ("-m", "usher", *command)


def fill(ground: Bed, events: int) -> int:
    """Produces the events; returns how many raw records there are."""
    say(f"  producing {events:,} events")
    produce_records(ground.platform.bootstrap_servers, Codec(), _take(traffic(), events))
    return records_in(ground.platform.bootstrap_servers, RAW.name)


def throughput(
    name: str, ground: Bed, workers: Sequence[Sequence[str]], sinks: Sequence[Sequence[str]], target: str, total: int, timeout_s: float
) -> list[Mark]:
    """Runs programs over what is in the raw topic and prints the result line."""
    bootstrap = ground.platform.bootstrap_servers
    say(f"{name}: {len(workers)} worker process(es) over {total:,} events")
    dead = f"{RAW.name}.dlq"
    stored: list[Mark] = []
    with ground.running(*workers, *sinks) as pids:
        own = pids[: len(workers)]

        def done() -> int:
            return records_in(bootstrap, target) + (records_in(bootstrap, dead) if target == DECISIONS.name else 0)

        watcher: threading.Thread | None = None
        if sinks:
            watcher = threading.Thread(
                target=lambda: stored.extend(watch(lambda: decisions_in(ground.platform.postgres_dsn), (), total - 1, timeout_s, 0.3))
            )
            watcher.start()
        marks = list(watch(done, own, total, timeout_s))
        memory = rss_mb(own)
        if watcher is not None:
            watcher.join()
    rate, cpu_us = between(marks, int(total * WARM_SHARE), total)
    line: dict[str, object] = {
        "name": name,
        "events": total,
        "events_per_s": round(rate),
        "cpu_us_per_event": round(cpu_us, 1),
        "processes": len(workers),
        "rss_mb": round(memory),
    }
    if stored:
        line["events_per_s"] = round(between(stored, int(total * WARM_SHARE), total)[0])
        line["events_per_s_into"] = "postgres"
        line["decisions_topic_events_per_s"] = round(rate)
    print(json.dumps(line), flush=True)
    return marks


SINKS: Final = (usher("sink", "postgres"), usher("sink", "redis"))


def run_pipeline(events: int, partitions: int, split: bool) -> None:
    """The pipeline over a full topic: fused (with the growth of its cost) or a worker a stage."""
    with bed(partitions) as ground:
        total = fill(ground, events)
        workers = [usher("worker", name) for name in FUSED] if split else [usher("worker", *FUSED)]
        workers.append(usher("worker", *NETWORK))
        grows = total >= 100_000
        name = "pipeline_split" if split else "pipeline_long" if grows else "pipeline"
        marks = throughput(name, ground, workers, SINKS, DECISIONS.name, total, 900)
        if grows and not split:
            early = between(marks, 10_000, 30_000)[1]
            late = between(marks, total - 20_000, total)[1]
            line = {
                "name": "pipeline_growth",
                "cpu_us_per_event_at_10k": round(early, 1),
                f"cpu_us_per_event_at_{total // 1000}k": round(late, 1),
                "ratio": round(late / early, 3),
            }
            print(json.dumps(line), flush=True)


def run_idiomatic(events: int, partitions: int) -> None:
    """The reference written as Faust's documentation would have it."""
    with bed(partitions) as ground:
        total = fill(ground, events)
        changelogs = [
            f"bench-idiomatic-idiomatic-{table.name}-changelog"
            for _, table in make_topology(ground.settings).tables
            if table.kind is not None
        ]
        single = [name for name in changelogs if name.endswith("-shared-changelog")]
        _create(ground, [name for name in changelogs if name not in single], partitions)
        _create(ground, single, 1)
        throughput("idiomatic_faust", ground, [("-m", "bench.idiomatic")], SINKS, DECISIONS.name, total, 900)


def run_raw_loop(events: int, partitions: int) -> None:
    """The reference that does nothing."""
    with bed(partitions) as ground:
        total = fill(ground, events)
        _create(ground, [TARGET], partitions)
        throughput("raw_loop", ground, [("-m", "bench.raw_loop")], (), TARGET, total, 300)


def _create(ground: Bed, names: Sequence[str], partitions: int) -> None:
    from confluent_kafka.admin import NewTopic

    create_topics(ground.platform.bootstrap_servers, [NewTopic(name, partitions, 1) for name in names])


def run_latency(rates: Sequence[int], seconds: int, partitions: int) -> None:
    """End-to-end latency of the fused pipeline: from the broker's stamp on the raw event to a consumer that holds the decision."""
    with bed(partitions) as ground, ground.running(usher("worker", *FUSED), usher("worker", *NETWORK), *SINKS) as pids:
        bootstrap = ground.platform.bootstrap_servers
        stream = traffic()
        produce_records(bootstrap, Codec(), _take(stream, 2_000))
        list(watch(lambda: records_in(bootstrap, DECISIONS.name), pids[:1], 1_800, 120))
        for rate in rates:
            say(f"latency at {rate} events/s for {seconds} s")
            latencies: list[float] = []
            stop = threading.Event()
            listener = threading.Thread(target=_listen, args=(bootstrap, latencies, stop))
            listener.start()
            time.sleep(3)
            produce_records(bootstrap, Codec(), _take(stream, rate * 3), rate)
            latencies.clear()
            produce_records(bootstrap, Codec(), _take(stream, rate * seconds), rate)
            time.sleep(2)
            stop.set()
            listener.join()
            shares = {"p50_ms": 0.5, "p95_ms": 0.95, "p99_ms": 0.99}
            line = {
                "name": "pipeline",
                "rate_per_s": rate,
                "events": len(latencies),
                **{key: round(percentile(latencies, share), 1) for key, share in shares.items()},
            }
            print(json.dumps(line), flush=True)


def _take(stream: Iterator[Any], events: int) -> Iterator[Any]:
    """The next raw events, with the consent records between them."""
    while events:
        one = next(stream)
        events -= one[0] is RAW
        yield one


def _listen(bootstrap: str, latencies: list[float], stop: threading.Event) -> None:
    """Notes for each decision how long ago Kafka stored its raw event. Both clocks are this machine's."""
    codec = Codec()
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": f"bench-{time.time_ns()}", "auto.offset.reset": "latest", "fetch.wait.max.ms": 5}
    )
    consumer.subscribe([DECISIONS.name])
    while not stop.is_set():
        for message in consumer.consume(200, 0.02):
            if message.error() is None:
                now_ms = time.time_ns() / 1e6
                latencies.append(now_ms - codec.decode(message.value(), DECISIONS.record).event.received_at)  # type: ignore[union-attr]
    consumer.close()


def main() -> int:
    """Runs what was asked for."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=20_000, help="events of the comparisons")
    parser.add_argument(
        "--growth-events", type=int, default=210_000, help="events of the run that shows how the cost of an event grows with what is stored"
    )
    parser.add_argument("--seconds", type=int, default=20, help="length of a latency measurement")
    parser.add_argument("--rates", type=int, nargs="*", default=[200, 1_000], help="events a second of the latency measurements")
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--only", nargs="*", default=["raw_loop", "idiomatic_faust", "pipeline_split", "pipeline", "growth", "latency"])
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))  # so that what was started is stopped
    print(
        json.dumps(
            {
                "name": "machine",
                **this_machine(),
                "load_average": os.getloadavg()[0],
                "beside": "Kafka, Postgres and Valkey on the same cores",
            }
        ),
        flush=True,
    )
    if asked.only and psutil.cpu_percent(1.0) > 30:
        say("warning: this machine is busy; figures will be low")
    runs = {
        "raw_loop": lambda: run_raw_loop(asked.events, asked.partitions),
        "idiomatic_faust": lambda: run_idiomatic(asked.events, asked.partitions),
        "pipeline_split": lambda: run_pipeline(asked.events, asked.partitions, split=True),
        "pipeline": lambda: run_pipeline(asked.events, asked.partitions, split=False),
        "growth": lambda: run_pipeline(asked.growth_events, asked.partitions, split=False),
        "latency": lambda: run_latency(asked.rates, asked.seconds, asked.partitions),
    }
    for name in asked.only:
        runs[name]()
    return 0


if __name__ == "__main__":
    sys.exit(main())
