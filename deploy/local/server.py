"""What the platform needs to know of a server to start it, and where it may put things."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from deploy.local.ports import PortBook
from deploy.local.processes import Launch, ProcessManager


@dataclass(frozen=True, slots=True)
class Site:
    """Where a platform lives: its data folder, the cache of downloads, its processes and its ports."""

    data_dir: Path
    cache: Path
    processes: ProcessManager
    ports: PortBook


class Server(ABC):
    """One real server: one class each for Kafka, Postgres, Valkey and the schema registry.

    The platform calls `prepare` once, then `assign_ports`, `launch`, `probe` until it is true and `settle`. When a port was taken
    by somebody else between its choice and its use, the last four are repeated. A restart repeats `launch`, `probe` and `settle`,
    so that addresses given out stay right.
    """

    name: str
    ready_timeout_s: float = 60.0

    def __init__(self, site: Site) -> None:
        self.site = site

    @property
    def home(self) -> Path:
        """The server's own folder in the data folder."""
        return self.site.data_dir / self.name

    @property
    @abstractmethod
    def address(self) -> str:
        """Where clients find it, in the form they take; with the password where there is one. Known once the ports are."""

    @property
    def shown_address(self) -> str:
        """The address as it may be shown: without a password."""
        return self.address

    @abstractmethod
    def prepare(self, say: Callable[[str], None]) -> None:
        """Finds or fetches the program and makes the data folder. Blocks; raises PlatformError."""

    @abstractmethod
    def assign_ports(self) -> tuple[int, ...]:
        """Chooses the ports and returns them."""

    @abstractmethod
    def launch(self) -> Launch:
        """How to start it on those ports."""

    @abstractmethod
    def probe(self, pid: int) -> bool:
        """Whether it serves, asked in its own protocol, and is *this* server and not another on the same port. Blocks up to 2 s."""

    def settle(self) -> None:  # noqa: B027 - most servers need nothing
        """What has to be set once it serves. Blocks; raises PlatformError."""
