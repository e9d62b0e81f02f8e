"""Runs the real programs against real servers, for integration and fault tests."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from commands.up import FUSED, NETWORK, environment
from deploy.local.platform import LocalPlatform
from deploy.migrate import migrate
from schemas.codec import Codec
from schemas.records import ConsentRecord
from schemas.topics import ALL, CONSENTS, RAW
from simulator import SimulationConfig, records
from streams.admin import create_topics, read_all, wanted_topics
from streams.produce import produce_records
from streams.settings import Settings
from streams.topology import make_topology

CODEC = Codec()


def wait_for(what: str, reached: Callable[[], bool], timeout_s: float = 90.0, every_s: float = 0.25) -> None:
    """Returns when `reached` is true; fails with `what` after the timeout."""
    deadline = time.monotonic() + timeout_s
    while not reached():
        assert time.monotonic() < deadline, f"not reached within {timeout_s:.0f} s: {what}"
        time.sleep(every_s)


@dataclass
class Stage:
    """The stage on which a test plays: servers, settings, and programs that it starts, kills and restarts."""

    platform: LocalPlatform
    settings: Settings
    programs: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    commands: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def bootstrap(self) -> str:
        return self.platform.bootstrap_servers

    def start(self, name: str, *command: str) -> None:
        """Starts `usher <command>` under a name; the same name again takes the same tables."""
        command = command or self.commands[name]
        self.commands[name] = command
        env = {**os.environ, **environment(self.platform, self.settings), "USHER_WORKER_NAME": name, "USHER_PARTITIONS": str(self.settings.partitions),
               "USHER_SESSION_TIMEOUT_S": str(self.settings.session_timeout_s), "USHER_HEARTBEAT_S": str(self.settings.heartbeat_s)}  # fmt: skip
        log = open(Path(self.settings.data_dir, f"{name}.log"), "ab")  # noqa: SIM115
        self.programs[name] = subprocess.Popen([sys.executable, "-m", "usher", *command], env=env, stdout=log, stderr=subprocess.STDOUT)
        log.close()

    def start_pipeline(self, split: bool = False) -> None:
        """Workers and the Postgres sink."""
        for name in FUSED if split else ():
            self.start(name, "worker", name)
        if not split:
            self.start("main", "worker", *FUSED)
        self.start("network", "worker", *NETWORK)
        self.start("sink", "sink", "postgres")

    def wait_ready(self, name: str) -> None:
        """Until the program says that it is ready: it has joined, recovered, and handles signals."""
        where = Path(self.settings.data_dir, "run", f"{name}.url")

        def is_ready() -> bool:
            assert self.programs[name].poll() is None, self.log(name)[-2000:]
            try:
                return bool(json.load(urllib.request.urlopen(f"{where.read_text()}/health/ready", timeout=2))["status"] == "ok")
            except (OSError, ValueError):
                return False

        wait_for(f"{name} is ready", is_ready, 90)

    def kill(self, name: str) -> None:
        """kill -9."""
        self.programs[name].kill()
        self.programs[name].wait()

    def stop(self, name: str, timeout_s: float = 30.0) -> int:
        """SIGTERM; returns the exit status."""
        process = self.programs.pop(name)
        process.send_signal(signal.SIGTERM)
        return process.wait(timeout_s)

    def log(self, name: str) -> str:
        return Path(self.settings.data_dir, f"{name}.log").read_text(errors="replace")

    def stop_all(self) -> None:
        for process in self.programs.values():
            process.terminate()
        for process in self.programs.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            process.kill()
            process.wait()

    def produce(self, events: int, seed: int, **config: Any) -> Counter[str]:
        """Simulated events into Kafka; returns how often each event id was sent."""
        sent: Counter[str] = Counter()

        def stream() -> Iterator[Any]:
            for one in records(SimulationConfig(seed=seed, events=events, **config)):
                if isinstance(one.record, ConsentRecord):
                    yield CONSENTS, one.record.user_id, one.record
                else:
                    sent[one.record.event_id] += 1
                    yield RAW, one.record.user_id, one.record

        produce_records(self.bootstrap, CODEC, stream())
        return sent

    def query(self, statement: str) -> list[Any]:
        with psycopg.connect(self.platform.postgres_dsn, autocommit=True) as connection:
            return connection.execute(statement).fetchall()  # type: ignore[arg-type]

    def decided(self) -> Counter[str]:
        """Event ids in decisions, with how many rows each has."""
        return Counter(dict(self.query("SELECT event_id, count(*) FROM usher.decisions GROUP BY 1")))

    def buried(self) -> Counter[str]:
        """Event ids of dead letters of the raw topic, as far as they can be read, from Kafka itself."""
        found: Counter[str] = Counter()
        for message in read_all(self.bootstrap, RAW.dead):
            with contextlib.suppress(Exception):
                found[CODEC.decode(message.value(), RAW.record).event_id] += 1  # type: ignore[attr-defined, union-attr]
        return found

    def wait_decided(self, sent: Sequence[str] | Counter[str], timeout_s: float = 120.0) -> None:
        """Until every id is in decisions or dead letters."""
        ids = set(sent)

        def reached() -> bool:
            for name, process in self.programs.items():
                if process.poll() not in (None, 75):
                    raise AssertionError(f"{name} ended with {process.returncode}:\n{self.log(name)[-3000:]}")
            (rows,) = self.query("SELECT count(*) FROM usher.decisions")
            return rows[0] >= len(ids) - len(self.buried()) and ids <= set(self.decided()) | set(self.buried())

        wait_for("every event decided or buried", reached, timeout_s, 0.5)


@contextlib.contextmanager
def stage(folder: Path, partitions: int = 4, **settings: Any) -> Iterator[Stage]:
    """Fresh servers with topics and tables; everything ends with the block."""
    with LocalPlatform(folder) as platform:
        found = Settings(
            data_dir=folder, bootstrap_servers=platform.bootstrap_servers, postgres_dsn=platform.postgres_dsn, redis_url=platform.redis_url,
            partitions=partitions, **({"session_timeout_s": 6.0, "heartbeat_s": 1.5} | settings),
        )  # fmt: skip
        create_topics(platform.bootstrap_servers, wanted_topics(make_topology(found), ALL, partitions, 1))
        migrate(platform.postgres_dsn)
        running = Stage(platform, found)
        try:
            yield running
        finally:
            running.stop_all()
