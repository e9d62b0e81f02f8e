"""Log files that processes append to: kept small, and read at their end."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

MAX_LOG_BYTES = 20 * 1024 * 1024


def rotate(path: Path, max_bytes: int = MAX_LOG_BYTES) -> bool:
    """Moves the content of a log file of more than `max_bytes` to `<name>.1`, replacing what was there.

    The file itself stays, because the process that appends to it keeps it open.
    """
    if not path.exists() or path.stat().st_size <= max_bytes:
        return False
    shutil.copyfile(path, path.with_name(path.name + ".1"))
    os.truncate(path, 0)
    return True


def last_lines(path: Path, count: int = 5, window_bytes: int = 8192) -> str:
    """The last non-empty lines of a log file, "" if there is none."""
    if not path.exists():
        return ""
    with open(path, "rb") as log:
        log.seek(max(0, path.stat().st_size - window_bytes))
        lines = [line for line in log.read().decode(errors="replace").splitlines() if line.strip()]
    return "\n".join(lines[-count:])
