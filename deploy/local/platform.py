"""Real Kafka, Postgres and Valkey (and, where asked for, a schema registry) on this machine, without Docker."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from deploy.local.artifacts import cache_root
from deploy.local.broker import KafkaServer
from deploy.local.cache import ValkeyServer
from deploy.local.database import PostgresServer
from deploy.local.errors import PlatformError
from deploy.local.lock import owner_of
from deploy.local.logs import last_lines
from deploy.local.ports import PortBook, is_free
from deploy.local.processes import ManagedProcess, ProcessManager, wait_until
from deploy.local.progress import Phase, Progress, Report, silent
from deploy.local.schema_registry import RegistryServer
from deploy.local.server import Server, Site

DEFAULT_SERVICES = ("kafka", "postgres", "valkey")
ALL_SERVICES = (*DEFAULT_SERVICES, "registry")
PORT_ATTEMPTS = 3
SERVERS: Mapping[str, Callable[[Site], Server]] = {
    "kafka": KafkaServer, "postgres": PostgresServer, "valkey": ValkeyServer, "registry": RegistryServer,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the services of a running platform are; None for one that was not asked for. `postgres_dsn` holds the password."""

    bootstrap_servers: str | None
    postgres_dsn: str | None
    redis_url: str | None
    registry_url: str | None


class LocalPlatform:
    """The servers, from `start` to `stop` (or as a context manager).

    Args:
        data_dir: everything is kept in here, from one start to the next: data, ports, the database's password, logs. Only one
            platform can have it at a time.
        services: of "kafka", "postgres", "valkey", "registry".
        progress: told each step, from several threads.
        cache_dir: where downloads go (None: `artifacts.cache_root()`).

    Whatever ends this process, kill -9 included, ends the servers. `start` blocks until all of them serve (seconds; minutes at the
    very first start, when Kafka is fetched) and stops what it has started when it raises.
    """

    def __init__(
        self, data_dir: Path, services: Sequence[str] = DEFAULT_SERVICES, progress: Report = silent, *, cache_dir: Path | None = None
    ) -> None:
        unknown = set(services) - set(ALL_SERVICES)
        if unknown:
            raise ValueError(f"unknown services {sorted(unknown)}; there are {', '.join(ALL_SERVICES)}")
        self.data_dir = data_dir.absolute()
        self.processes = ProcessManager(self.data_dir)
        self._progress = progress
        self._site = Site(self.data_dir, cache_dir or cache_root(), self.processes, PortBook(self.data_dir / "ports.json"))
        self._servers = {name: SERVERS[name](self._site) for name in services}
        self._running: dict[str, ManagedProcess] = {}
        self._began_s = 0.0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    @property
    def services(self) -> tuple[str, ...]:
        """The names of the services asked for."""
        return tuple(self._servers)

    @property
    def bootstrap_servers(self) -> str:
        """Kafka's address as clients take it, `host:port`."""
        return self._serving("kafka").address

    @property
    def postgres_dsn(self) -> str:
        """The URL of the database `usher`, with user and password, for psycopg."""
        return self._serving("postgres").address

    @property
    def redis_url(self) -> str:
        """The URL of Valkey's database 0."""
        return self._serving("valkey").address

    @property
    def registry_url(self) -> str:
        """The base URL of the schema registry's Confluent API."""
        return self._serving("registry").address

    @property
    def addresses(self) -> Addresses:
        """All of the above in one record."""
        given = {name: self._servers[name].address for name in self._running}
        return Addresses(given.get("kafka"), given.get("postgres"), given.get("valkey"), given.get("registry"))

    def log_path(self, service: str) -> Path:
        """The service's log file."""
        return self.processes.log_path(service)

    def start(self) -> None:
        """Starts all services at once and waits until each serves.

        Raises:
            PlatformError: one of them cannot be had or does not come up, or the data folder is in use. Nothing is left running.
        """
        self._began_s = time.monotonic()
        try:
            for name in self.processes.open():
                self._report(name, Phase.STOPPED, "left over from an earlier run")
            self._start_all()
            self._write_addresses()
        except BaseException:
            # Also Ctrl-C: closing makes the threads that are still starting something give up.
            self.stop()
            raise

    def stop(self, hurry: Callable[[], bool] = lambda: False) -> None:
        """Stops every service in order, or kills it as soon as `hurry` says. Safe to call twice."""
        (self.data_dir / "platform.json").unlink(missing_ok=True)
        for name in self._running:
            self._report(name, Phase.STOPPING)
        self.processes.close(hurry)
        for name in self._running:
            self._report(name, Phase.STOPPED)
        self._running.clear()

    def dead(self) -> list[str]:
        """The services that have ended by themselves. `restart` brings one back."""
        return [name for name, process in self._running.items() if not process.alive]

    def kill(self, service: str) -> None:
        """SIGKILL, as a crash would. Its data stay as they are."""
        self._process(service).kill()

    def pause(self, service: str) -> None:
        """SIGSTOP: connections stay open and nothing is answered, as when a machine hangs."""
        self._process(service).pause()

    def resume(self, service: str) -> None:
        """SIGCONT after `pause`."""
        self._process(service).resume()

    def restart(self, service: str) -> None:
        """Stops the service if it runs, starts it on the same address and waits until it serves.

        Raises:
            PlatformError: it does not come up.
        """
        process = self._process(service)
        process.stop()
        server = self._servers[service]
        self._report(service, Phase.STARTING)
        self._running[service] = self._bring_up(server)
        self._report(service, Phase.READY, server.shown_address)

    def _start_all(self) -> None:
        if not self._servers:
            return
        with ThreadPoolExecutor(len(self._servers), thread_name_prefix="start") as pool:
            futures: dict[Future[ManagedProcess], str] = {
                pool.submit(self._start_one, server): name for name, server in self._servers.items()
            }
            try:
                wait(futures, return_when=FIRST_EXCEPTION)
                failed = [future for future in futures if future.done() and future.exception() is not None]
            except BaseException:
                self.processes.close()
                raise
            if failed:
                # The others would go on for minutes: close makes them end, and the pool can be left.
                self.processes.close()
                failed[0].result()

    def _start_one(self, server: Server) -> ManagedProcess:
        try:
            self._report(server.name, Phase.PREPARING)
            server.prepare(lambda what: self._report(server.name, Phase.PREPARING, what))
            process = self._start_on_free_port(server)
        except PlatformError as error:
            # What is interrupted because another failed, or by Ctrl-C, has not failed itself.
            if self.processes.is_open:
                self._report(server.name, Phase.FAILED, error.message)
            raise
        self._running[server.name] = process
        self._report(server.name, Phase.READY, server.shown_address)
        return process

    def _start_on_free_port(self, server: Server) -> ManagedProcess:
        """Starts it on ports that are free; on others when somebody takes one before the server does."""
        for attempt in range(1, PORT_ATTEMPTS + 1):
            ports = server.assign_ports()
            self._report(server.name, Phase.STARTING, "port " + ", ".join(map(str, ports)))
            try:
                return self._bring_up(server)
            except PlatformError:
                taken = self.processes.is_open and not all(is_free(port) for port in ports)
                if attempt == PORT_ATTEMPTS or not taken:
                    raise
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _bring_up(self, server: Server) -> ManagedProcess:
        process = self.processes.spawn(server.launch())
        if not wait_until(lambda: server.probe(process.pid), process, server.ready_timeout_s):
            ended = process.exit_code
            process.stop()
            log = self.log_path(server.name)
            what = f"did not serve within {server.ready_timeout_s:.0f} s" if ended is None else f"ended with exit code {ended}"
            raise PlatformError(f"{server.name} {what}. The end of its log:\n{last_lines(log)}", f"see {log}")
        server.settle()
        return process

    def _serving(self, service: str) -> Server:
        if service not in self._servers:
            raise RuntimeError(f"{service} is not among the services of this platform")
        if service not in self._running:
            raise RuntimeError(f"{service} has not been started")
        return self._servers[service]

    def _process(self, service: str) -> ManagedProcess:
        if service not in self._running:
            raise RuntimeError(f"{service} has not been started")
        return self._running[service]

    def _report(self, service: str, phase: Phase, detail: str = "") -> None:
        self._progress(Progress(service, phase, detail, time.monotonic() - self._began_s))

    def _write_addresses(self) -> None:
        path = self.data_dir / "platform.json"
        # It holds the database's password.
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(asdict(self.addresses), file, indent=2)


def read_addresses(data_dir: Path) -> Addresses | None:
    """Where the platform is that runs in this data folder, for commands in another terminal; None when none runs."""
    if owner_of(data_dir) is None:
        return None
    try:
        return Addresses(**json.loads((data_dir / "platform.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None


def clean(data_dir: Path) -> bool:
    """Removes everything a platform keeps, also what had to be put elsewhere. False: one is running, nothing was removed."""
    if owner_of(data_dir) is not None:
        return False
    note = data_dir / "postgres" / "location"
    if note.exists():
        shutil.rmtree(note.read_text(), ignore_errors=True)
    shutil.rmtree(data_dir, ignore_errors=True)
    return True
