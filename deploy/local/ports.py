"""Which port each server listens on: the same as last time where it can be had, the usual one otherwise, else one near it."""

from __future__ import annotations

import errno
import json
import socket
import threading
from collections.abc import Callable, Collection
from pathlib import Path

from deploy.local.errors import PlatformError

HOST = "127.0.0.1"
TRIED_PORTS = 500
HIGHEST_PORT = 65535


def is_free(port: int, host: str = HOST) -> bool:
    """Whether a server could listen on this port now: nobody listens, and it can be bound."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        # As servers do: connections that are still closing do not make a port taken.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen(1)
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
    return True


def choose(preferred: int, taken: Collection[int], free: Callable[[int], bool] = is_free) -> int:
    """The preferred port if it can be had, else the next higher one that can.

    Args:
        preferred: 1 to 65535.
        taken: ports already given to others of this platform.
        free: whether nothing else on this machine uses a port.

    Raises:
        PlatformError: none of the next 500 ports is free.
    """
    for port in range(preferred, min(preferred + TRIED_PORTS, HIGHEST_PORT + 1)):
        if port not in taken and free(port):
            return port
    raise PlatformError(f"no port from {preferred} on is free", "see what listens: ss -ltnp")


class PortBook:
    """The ports chosen so far, by name, kept in a JSON file from one start to the next. Thread-safe."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ports = _read(path)
        self._given: dict[str, int] = {}
        self._guard = threading.Lock()

    def assign(self, name: str, usual: int, free: Callable[[int], bool] = is_free) -> int:
        """Chooses the port of `name` for this run and writes it down. Called again, it chooses again.

        Raises:
            PlatformError: none is free.
        """
        with self._guard:
            others = {port for other, port in self._given.items() if other != name}
            port = choose(self._ports.get(name, usual), others, free)
            self._given[name] = port
            if self._ports.get(name) != port:
                self._ports[name] = port
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._path.write_text(json.dumps(self._ports, indent=2) + "\n")
        return port


def _read(path: Path) -> dict[str, int]:
    """The file's ports; a file that a crash left half written counts as none."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    if not isinstance(content, dict):
        return {}
    return {str(name): port for name, port in content.items() if isinstance(port, int) and 0 < port <= HIGHEST_PORT}
