"""`usher up`: the whole of Usher on this machine, from servers to live traffic, in one foreground process."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path
from typing import Final

import psycopg
from confluent_kafka import KafkaException
from rich.console import Console

from commands.screen import decision_line
from deploy.local.errors import PlatformError
from deploy.local.platform import LocalPlatform
from deploy.local.progress import shown
from deploy.local.supervisor import Program, Supervisor
from deploy.migrate import migrate
from schemas.codec import Codec
from schemas.topics import ALL, DECISIONS
from streams.admin import create_topics, wanted_topics
from streams.flow import Topology
from streams.registry import make_codec
from streams.settings import Settings
from streams.store import read_status
from streams.tail import follow

FUSED: Final = ("validate", "check", "score", "link", "alert")
NETWORK: Final = ("rings", "communities")
SUMMARY_EVERY_S: Final = 15.0


def environment(platform: LocalPlatform, settings: Settings) -> dict[str, str]:
    """The settings that point a program at the local servers."""
    return {
        "USHER_BOOTSTRAP_SERVERS": platform.bootstrap_servers,
        "USHER_POSTGRES_DSN": platform.postgres_dsn,
        "USHER_REDIS_URL": platform.redis_url,
        "USHER_DATA_DIR": str(Path(settings.data_dir).absolute()),
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": "1",  # batches are small: threads of numeric libraries would only get in each other's way
        "OPENBLAS_NUM_THREADS": "1",
    }


def programs(platform: LocalPlatform, settings: Settings, rate_per_s: float, split: bool) -> list[Program]:
    """What runs beside the servers, in starting order."""
    usher = (sys.executable, "-m", "usher")
    env = environment(platform, settings)

    def program(name: str, *command: str, **more: str) -> Program:
        return Program(name, (*usher, *command), {**env, "USHER_WORKER_NAME": name, **more}, stop_timeout_s=30.0)

    workers = [(name, (name,)) for name in (*FUSED, *NETWORK)] if split else [("main", FUSED), ("network", NETWORK)]
    found = [program("sinks", "sink", "postgres", "redis")]
    found += [program(f"worker-{name}", "worker", *stages) for name, stages in workers]
    if rate_per_s > 0:
        found.append(program("traffic", "simulate", "--live", "--rate", str(rate_per_s)))
    return found


class Spectator(threading.Thread):
    """Shows decisions that are not ALLOW as they are made, and the counts every now and then."""

    def __init__(self, console: Console, platform: LocalPlatform, codec: Codec, began_s: float, quiet: bool) -> None:
        super().__init__(name="spectator", daemon=True)
        self._console, self._platform, self._codec, self._began_s, self._quiet = console, platform, codec, began_s, quiet
        self.done = threading.Event()

    def run(self) -> None:
        """Follows the decisions topic until `done`; tells when the first decision came."""
        first, told_s = True, time.monotonic()
        try:
            for case in follow(self._platform.bootstrap_servers, self._codec, DECISIONS, self.done.is_set):
                if case is not None and first:
                    first = False
                    self._console.print(f"[green]first decision after {time.monotonic() - self._began_s:.0f} s[/green]")
                if case is not None and not self._quiet and case.verdict.outcome != "ALLOW":
                    self._console.print(decision_line(case))
                if time.monotonic() - told_s > SUMMARY_EVERY_S:
                    told_s = time.monotonic()
                    self._summarise()
        except KafkaException as error:
            self._console.print(f"[red]cannot follow decisions: {error.args[0].str()}[/red]")

    def _summarise(self) -> None:
        try:
            store = read_status(self._platform.postgres_dsn)
        except psycopg.Error as error:
            self._console.print(f"[yellow]Postgres does not answer: {error}[/yellow]")
            return
        self._console.print(
            f"[dim]in Postgres: {store.decisions:,} decisions, {store.alerts:,} alerts, {store.violations:,} violations, "
            f"{store.rings:,} rings, {store.dead_letters:,} dead letters; {store.rate_per_s:.0f}/s[/dim]"
        )


def run_everything(settings: Settings, topology: Topology, rate_per_s: float, split: bool, quiet: bool) -> int:
    """Starts the servers, prepares topics and tables, keeps the programs running until a signal, stops all. Returns the exit status."""
    console = Console(stderr=True)
    began_s = time.monotonic()
    data_dir = Path(settings.data_dir)
    try:
        with shown(console) as report:
            platform = LocalPlatform(data_dir, progress=report)
            platform.start()
    except PlatformError as error:
        console.print(f"[red]{error}[/red]")
        return 1
    spectator = Spectator(console, platform, make_codec(settings.registry_url, ALL), began_s, quiet)
    try:
        made = create_topics(platform.bootstrap_servers, wanted_topics(topology, ALL, settings.partitions, settings.replication_factor))
        migrate(platform.postgres_dsn)
        console.print(f"{len(made)} topics created, database up to date; starting {'one worker a stage' if split else 'fused workers'}")
        env_file = data_dir / "env"
        _write_env(env_file, environment(platform, settings))
        console.print(
            f"in another terminal: [bold]set -a; . {env_file}; set +a; {Path(sys.executable).parent}/usher status[/bold] (or tail); Ctrl-C stops all"
        )
        spectator.start()
        supervisor = Supervisor(
            programs(platform, settings, rate_per_s, split), platform.processes, platform=platform, notify=console.print
        )
        return supervisor.run()
    finally:
        spectator.done.set()
        platform.stop()
        console.print("everything has stopped")


def _write_env(path: Path, values: dict[str, str]) -> None:
    """For other terminals; it holds the database's generated password, so only the owner may read it."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.writelines(f"{name}='{value}'\n" for name, value in values.items() if name.startswith("USHER_"))
