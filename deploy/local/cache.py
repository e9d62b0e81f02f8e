"""Valkey (or Redis): profiles and recent decisions, which can be lost and rebuilt."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from deploy.local.ports import HOST
from deploy.local.processes import Launch
from deploy.local.runtimes import find_valkey
from deploy.local.server import Server, Site

USUAL_PORT = 6379
PROBE_TIMEOUT_S = 1.0
MAX_MEMORY = "256mb"


class ValkeyServer(Server):
    """Valkey or Redis on the loopback address, saving to `valkey/dump.rdb` at its end and every five minutes."""

    name = "valkey"
    ready_timeout_s = 30.0

    def __init__(self, site: Site, program: Path | None = None) -> None:
        super().__init__(site)
        self._program = program
        self._port = 0

    @property
    def address(self) -> str:
        """The URL of database 0."""
        return f"redis://{HOST}:{self._port}/0"

    def prepare(self, say: Callable[[str], None]) -> None:
        self._program = self._program or find_valkey()
        self.home.mkdir(parents=True, exist_ok=True)

    def assign_ports(self) -> tuple[int, ...]:
        self._port = self.site.ports.assign("valkey", USUAL_PORT)
        return (self._port,)

    def launch(self) -> Launch:
        options = {
            "bind": HOST, "port": str(self._port), "dir": str(self.home), "daemonize": "no", "save": "300 1", "appendonly": "no",
            "maxmemory": MAX_MEMORY, "maxmemory-policy": "allkeys-lru",
        }  # fmt: skip
        arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
        return Launch(self.name, (str(self._program), *arguments), stop_signal=signal.SIGTERM, stop_timeout_s=10.0)

    def probe(self, pid: int) -> bool:
        client = redis.Redis(
            host=HOST, port=self._port, socket_timeout=PROBE_TIMEOUT_S, socket_connect_timeout=PROBE_TIMEOUT_S, retry=Retry(NoBackoff(), 0)
        )
        try:
            server = client.info("server")
        except redis.RedisError:
            # Also while it still loads its file.
            return False
        finally:
            client.close()
        return server.get("process_id") == pid
