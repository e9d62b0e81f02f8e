"""One owner for a data folder at a time."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO

from deploy.local.errors import PlatformError


def _path(data_dir: Path) -> Path:
    return data_dir / "run" / "lock"


def take(data_dir: Path) -> IO[str]:
    """Takes the data folder until the returned file is closed, or this process ends.

    Raises:
        PlatformError: another process has it.
    """
    path = _path(data_dir)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Opened for appending: who does not get the lock must not wipe the process id of who has it.
    lock_file = open(path, "a+")  # noqa: SIM115 - held by the caller
    try:
        fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock_file.seek(0)
        owner = lock_file.read().strip() or "unknown"
        lock_file.close()
        raise PlatformError(f"{data_dir} is in use by process {owner}", f"stop it (kill {owner}) or choose another data folder") from None
    lock_file.truncate(0)
    lock_file.write(str(os.getpid()))
    lock_file.flush()
    return lock_file


def owner_of(data_dir: Path) -> int | None:
    """The process id of the owner that has this data folder now, or None if nobody has."""
    try:
        with open(_path(data_dir), "r+") as lock_file:
            try:
                fcntl.flock(lock_file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                text = lock_file.read().strip()
                return int(text) if text.isdigit() else None
    except OSError:
        return None
    return None
